"""At which readers of a class's work its teacher has looked, and what of that a mark of this device notes.

Rules (docs/adr/0272; docs/protocol.md, "Confirmed devices"):
- looked at is a device in a class, as whose, and whether it spoke: in another, or as somebody else, it is news;
- that ends once this device sees that it reads there no more, whatever brought that about (docs/adr/0600);
- who was cut off and is back before this device has looked is news once more, be it that a grant lets them in again,
  that another right was given after the end of one, or that the cut itself is held back: what did so is noted;
- what did so is noted by its whole id: both are of one author, who has the server (docs/adr/0601).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from protocol.model.entry import PERSON_BYTES, Kind
from protocol.replica.office.held_in_space import not_held_back
from protocol.rights.door import Authority
from protocol.rights.vouching import Device
from sync_agent.app import Agent
from sync_agent.keys.reports_known import Report, reports_here
from sync_agent.machine.beginnings import noting_whole, whole_ids
from sync_agent.machine.marks import KNOWN_READER_MARKS, KNOWN_RETURN_MARKS, WAS_GONE, WAS_THERE

_AS_BYTES: Final = 1 + PERSON_BYTES
_NOT_SEEN: Final = frozenset({None, WAS_THERE, WAS_GONE})


async def looked_at(agent: Agent, shown: Iterable[tuple[bytes, bytes, bytes, bool]]) -> dict[str, bytes]:
    """The marks by which devices in classes, each as whose and whether it spoke, are no news any more."""
    known, marks = await agent.replica.store.marks(KNOWN_READER_MARKS), dict[str, bytes]()
    for space, device, person, speaks in shown:
        name = space_mark(KNOWN_READER_MARKS, space, device)
        before = marks.get(name, known.get(name))
        if not is_looked_at(before, person, speaks=speaks):
            marks[name] = (b"" if before in _NOT_SEEN else before or b"") + bytes([speaks]) + person
    return marks


def is_looked_at(mark: bytes | None, person: bytes, *, speaks: bool) -> bool:
    """Whether the teacher has seen a device as this person's; or, of one that waits, as one that waits.

    A server in wrong hands shows it as another's first, or as one to which nothing is given.
    """
    if mark is None or mark in _NOT_SEEN:
        return False
    # an earlier version noted nothing but the device
    return not mark or any((kind, person) in _seen_as(mark) for kind in {1, int(speaks)})


def _seen_as(mark: bytes) -> list[tuple[int, bytes]]:
    return [(mark[at], mark[at + 1 : at + _AS_BYTES]) for at in range(0, len(mark), _AS_BYTES)]


def left_of(mark: bytes, here: Mapping[bytes, bool]) -> bytes:
    """What holds of such a mark while the device stands in its class as these people's, and `here` speaks as each.

    Of one that spoke, and waits, that it was seen to wait.
    """
    if mark in {b"", *_NOT_SEEN}:
        return mark if here else WAS_GONE
    left = dict.fromkeys((min(kind, here[person]), person) for kind, person in _seen_as(mark) if person in here)
    return b"".join(bytes([kind]) + person for kind, person in left) or WAS_GONE


class _Back(NamedTuple):
    """The entry by which somebody is back, and the space in which it lies."""

    name: bytes
    space: bytes


Returns: TypeAlias = Mapping[bytes, Collection[_Back]]
"""Of keys that by which they are back."""


async def returns_of(agent: Agent, devices: Iterable[Device]) -> Returns:
    """The grants of these devices that name what cut somebody off, or came after one of theirs had been ended.

    Whatever is held back of any of it by now; and what cut one of them off, and is held back.
    """
    keys = {key for key, _ in devices}
    if not keys:
        return {}
    door, store = agent.replica.door, agent.replica.store
    given = {one.grant: one for key in keys for one in door.authorities_of(key)}
    named = {name: entry.header.parents for name, entry in (await store.get(list(given))).items()}
    parents = await store.get(list({parent for some in named.values() for parent in some}))
    cuts = {name for name, entry in parents.items() if entry.header.kind == Kind.REVOKE}
    found: defaultdict[bytes, list[_Back]] = defaultdict(list)
    after_an_end = await _after_an_end(agent, given)
    for name, some in named.items():
        if name in after_an_end or not cuts.isdisjoint(some):
            found[given[name].key].append(_Back(name, given[name].space))
    for cut, key in await _cuts_held_back(agent, keys):
        found[key].append(_Back(cut.id, cut.header.space))
    return found


async def _cuts_held_back(agent: Agent, keys: Container[bytes]) -> list[Report]:
    """What cut one of these keys off and is held back where it lies."""
    said = [one for some in (await reports_here(agent)).values() for one in some if one.key in keys]
    counting = {one.id for one in await not_held_back(agent.replica, [each.entry for each in said])}
    return [one for one in said if one.entry.id not in counting]


async def _after_an_end(agent: Agent, given: Mapping[bytes, Authority]) -> set[bytes]:
    """Of these grants those that came here after the end of another one of the same device, above them or below.

    Before that end nobody was gone: what goes on for longer is given first, and what there was is ended then.
    """
    store, door = agent.replica.store, agent.replica.door
    if not any(one.header.target in given for one in await store.scan_kinds([Kind.REVOKE])):
        return set()
    ended, found = defaultdict[bytes, list[Authority]](list), set[bytes]()
    for one in await store.scan_kinds([Kind.GRANT, Kind.REVOKE]):
        right, over = given.get(one.id), given.get(one.header.target or b"")
        if over is not None and one.header.kind == Kind.REVOKE:
            ended[over.key].append(over)
        elif right is not None and any(
            door.covers(each, right.space) or door.covers(right, each.space) for each in ended[right.key]
        ):
            found.add(right.grant)
    return found


def back_in(agent: Agent, returns: Returns, space: bytes, device: Device) -> frozenset[bytes]:
    """By what a device is back in this space."""
    line = agent.replica.door.lineage(space)
    return frozenset(one.name for one in returns.get(device[0], ()) if one.space in line)


async def returns_looked_at(agent: Agent, shown: Iterable[tuple[bytes, bytes, Collection[bytes]]]) -> dict[str, bytes]:
    """The marks by which what let devices in again, each in its class, is no news any more."""
    known, marks = await agent.replica.store.marks(KNOWN_RETURN_MARKS), dict[str, bytes]()
    for space, device, back in shown:
        name = space_mark(KNOWN_RETURN_MARKS, space, device)
        before = marks.get(name, known.get(name))
        if has_another(back, before):
            marks[name] = noting_whole(whole_ids(before).union(back))
    return marks


def has_another(some: Iterable[bytes], mark: bytes | None) -> bool:
    """Whether there is one among these returns at which the teacher has not looked."""
    return not whole_ids(mark).issuperset(some)


def space_mark(prefix: str, space: bytes, name: bytes) -> str:
    """The mark of something in a space."""
    return f"{prefix}{space.hex()}/{name.hex()}"
