"""What is accepted by being said again in the server's own name: what of it is shown, and what is said (docs/adr/0333).

Rules:
- a thief's word stands beside the honest one, and looks like it: nothing is said again that `waiting` has not shown.
  The payload is made anew from that, and whatever else an entry held stays in it;
- of a right no row shows the TLS certificate: it is said again with the one of the device's first right that counts,
  or that others' words alone hold back (docs/adr/0504); where there is none with the one that all name, and where they
  name several not at all (docs/adr/0351);
- nor is what is about somebody whom people know by a name, or a device by what it calls itself: a thief says the same
  of another of that name. Who is to be forgotten, which device is out, and which PC is let in, is said anew by the
  command that takes the id, and asks, and tells, as it always does (docs/adr/0384); so is a right of a device that is
  out there, since it was reported (docs/adr/0569);
- a code is not said again: nothing tells a thief's from the honest one, and a new one is free;
- nor is a ruling, of which it is shown whom it shows again: what it took back `unerase` takes back, and what it let
  count `accept` does, each with its questions;
- that two people are one `person merge` says, which asks (docs/adr/0289).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from protocol.model.entry import PERSON_BYTES, Entry, Kind, parsed
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation, Ruling, SpaceChange
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.space_names import changes_shown
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import in_force
from protocol.replica.office.grants import overcoming_all
from protocol.replica.office.held_by_others import grants_not_held_back_by_this_office
from protocol.replica.office.held_in_space import not_held_back
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.people import listings_of
from protocol.roles import SHARED, PersonRole


class _Record(Protocol):
    def encode(self) -> bytes: ...


def _right(payload: bytes) -> _Record:
    return replace(Grant.parse(payload), invite=None)  # by whose code it came no row shows


def _person(payload: bytes) -> _Record:
    record = PersonRecord.parse(payload)
    return PersonRecord(record.name, record.role, left=record.left, frozen=record.frozen)


_READ_AS: Final[Mapping[int, Callable[[bytes], _Record]]] = {
    Kind.GRANT: _right,
    Kind.PERSON: _person,
    Kind.SPACE_CHANGE: SpaceChange.parse,
}
SAID_AGAIN: Final = frozenset(_READ_AS)
BY_ITSELF: Final = SAID_AGAIN | {Kind.REVOKE, Kind.ERASE, Kind.RULING}
"""What waits each for a word of its own, and goes with no other of its device's."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a word says besides whom it is about.

    Of a right when it is to end (`until_ms`); of a name on a list as what (`role`), whether it `leaves` it, as whom
    else it is to count (`same_as`), and whether it `freezes` what there is about them; of a device that is cut off,
    that nothing of what it said stays (`with_all`).
    """

    until_ms: int | None = None
    role: PersonRole | None = None
    leaves: bool = False
    same_as: bytes | None = None
    freezes: bool = False
    with_all: bool = False


_NONE: Final = Facts()


def facts_of(entry: Entry) -> Facts:
    """What `waiting` shows of an entry."""
    kind = entry.header.kind
    if kind == Kind.GRANT and (grant := parsed(entry, Grant.parse)) is not None:
        return Facts(until_ms=grant.until_ms)
    if kind == Kind.PERSON and (record := parsed(entry, PersonRecord.parse)) is not None:
        return Facts(role=record.role, leaves=record.left, same_as=record.same_as, freezes=record.frozen)
    if kind == Kind.REVOKE and (cut := parsed(entry, Revocation.parse)) is not None:
        return Facts(with_all=entry.header.target is None and not cut.heads)
    return _NONE


def payload_again(entry: Entry) -> bytes | None:
    """What the server says where it says an entry again; None for one that cannot be read."""
    read = _READ_AS.get(entry.header.kind)
    record = None if read is None else parsed(entry, read)
    return None if record is None else record.encode()


async def with_its_certificate(office: Office, given: Grant) -> Grant | None:
    """A right as it is said again; None where nothing tells which TLS certificate is the device's."""
    pair = given.signing, given.agreement
    named = [each for each in office.replica.door.authorities_of(given.signing) if each.pair == pair]
    counting = await grants_not_held_back_by_this_office(office, named)
    certificates = {each.tls_sha256 for each in counting[:1] or named}
    return replace(given, tls_sha256=certificates.pop()) if len(certificates) == 1 else None


async def drafts_again(office: Office, entries: Sequence[Entry], grant: bytes | None) -> list[Draft]:
    """The same as these say in the office's own name; of a list, or a class, in the place of what stands there."""
    if not entries:
        return []
    persons = {one.header.subject for one in entries if one.header.kind == Kind.PERSON}
    listed = await listings_of(office.replica, {one for one in persons if one is not None})
    names = await changes_shown(office.replica)
    drafts = []
    for entry in entries:
        header, parents = entry.header, tuple[bytes, ...]()
        there = listed.get(header.subject or b"", {}).get(header.space)
        if header.kind == Kind.SPACE_CHANGE and header.space in names:
            parents = (names[header.space][1],)
        elif header.kind == Kind.PERSON and there is not None:
            parents = there.line
        draft = Draft(header.space, Kind(header.kind), grant, await _whole_payload(office, entry))
        draft = replace(draft, subject=header.subject, target=header.target, parents=parents)
        given = parsed(entry, Grant.parse) if header.kind == Kind.GRANT else None
        drafts.append(draft if given is None else await overcoming_all(office, draft, given.signing))
    return drafts


async def _whole_payload(office: Office, entry: Entry) -> bytes:
    """What is said again of an entry; of a right with the certificate that is the device's."""
    payload = payload_again(entry) or b""
    if entry.header.kind != Kind.GRANT:
        return payload
    given = await with_its_certificate(office, Grant.parse(payload))
    return payload if given is None else given.encode()


async def whom_they_show(replica: Replica, entries: Iterable[Entry]) -> Mapping[bytes, str]:
    """Whom each of these rulings, by its id, shows again: by their ids, with all that lists ever called them.

    All of them, as many as a ruling may name: after new keys each is hidden again, and nothing else says who
    (docs/adr/0526).
    """
    whom = await _whom(replica, entries)
    called = await mentioned(replica, frozenset().union(*whom.values())) if whom else {}

    def named_as(person: bytes) -> str:
        names = ", ".join(called[person].names[:MAX_NAMES_SHOWN])
        return f"{person.hex()} ({names})" if names else person.hex()

    return {ruling: "; ".join(map(named_as, sorted(shown))) for ruling, shown in whom.items() if shown}


async def hidden_again(replica: Replica, waiting: Iterable[Entry]) -> int:
    """How many people are to be forgotten by words that rulings had taken back which wait now (docs/adr/0526)."""
    taken_back = await _whom(replica, [each for each in waiting if each.header.kind == Kind.RULING])
    if not taken_back:
        return 0
    counting = await not_held_back(replica, await replica.store.scan_kinds([Kind.RULING]))
    still = frozenset[bytes]().union(*(await _whom(replica, counting)).values())
    covered = {covers for _, covers in await in_force(replica)}
    return len(frozenset[bytes]().union(*taken_back.values()).intersection(covered) - still)


async def _whom(replica: Replica, entries: Iterable[Entry]) -> dict[bytes, set[bytes]]:
    """Whose erasures each of these rulings takes back."""
    rulings = {one.id: said for one in entries if (said := parsed(one, Ruling.parse)) is not None}
    named = {name for said in rulings.values() for name in said.refused}
    orders = await replica.store.get(sorted(named))
    covers = {name: order.covers for name, one in orders.items() if (order := _order_in(one)) is not None}
    return {
        ruling: {covers[name] for name in said.refused if name in covers} | ({said.covers} if said.covers else set())
        for ruling, said in rulings.items()
    }


def _order_in(entry: Entry) -> Erasure | None:
    return parsed(entry, Erasure.parse) if entry.header.kind == Kind.ERASE else None


def saying(entry: Entry) -> Hashable:
    """What a word of `BY_ITSELF` says, to compare it with others."""
    payload = payload_again(entry) if entry.header.kind in SAID_AGAIN else entry.payload
    if entry.header.kind == Kind.GRANT and (given := parsed(entry, Grant.parse)) is not None:
        payload = replace(given, invite=None, tls_sha256=None).encode()
    return entry.header.space, entry.header.kind, entry.header.subject, entry.header.target, payload, facts_of(entry)


def commands_anew(entry: Entry, *, is_reported: bool = False) -> tuple[str, ...]:
    """What says an entry anew that names somebody, or a device, by an id; any of these, by what is meant.

    `is_reported` says of a right that its device is out, since it was reported, where it lets that in.
    """
    kind, space = entry.header.kind, entry.header.space.hex()
    if kind == Kind.ERASE and (erasure := parsed(entry, Erasure.parse)) is not None:
        covers = erasure.covers
        return (f"erase --person {covers.hex()}" if len(covers) == PERSON_BYTES else f"space close {covers.hex()}",)
    if kind == Kind.REVOKE and (cut := parsed(entry, Revocation.parse)) is not None:
        here = f"ungrant --device {cut.key.hex()} --space {space}"
        return (here,) if entry.header.target is not None else (f"lost {cut.key.hex()}", here)
    grant = parsed(entry, Grant.parse) if kind == Kind.GRANT else None
    if grant is not None and grant.role in SHARED:  # with an id that somebody has read on that machine, and no other
        return (f"grant --device … --space {space}",)
    if grant is not None and is_reported:
        return (f"grant --device {grant.signing.hex()} --space {space}",)
    return ()


_BY_WHAT: Final[Mapping[int, str]] = {
    Kind.ERASE: "has somebody forgotten, or something: {} says that, and asks who that is",
    Kind.REVOKE: "cuts a device off: {} says that. Look whether it is the one that is meant: others have its "
    "name. With --since, if what it said last is to wait as well",
    Kind.GRANT: "lets a shared machine in: {} says that, with the id that it shows itself (`sync-agent status --json` "
    "there: `device`); others have its name",
}


def why_not_again(entry: Entry, *, is_reported: bool = False) -> str | None:
    """What to say to whoever would have an entry said again that is said in another way."""
    name = entry.id.hex()
    if entry.header.kind == Kind.INVITE:
        return f"{name} is a code, and nothing tells whose: make a new one (`invite`)"
    if entry.header.kind == Kind.RULING:
        return (
            f"{name} is a decision on what others said. Say it anew, with its own questions: `unerase` for whom it "
            "shows again, `accept` or `refuse` for what it lets count or not"
        )
    if anew := commands_anew(entry, is_reported=is_reported):
        told = " or ".join(f"`sync-server {command}`" for command in anew)
        if not commands_anew(entry):
            return f"{name} lets a device in that was reported, and is out there: {told} takes that back, and asks"
        return f"{name} {_BY_WHAT[entry.header.kind].format(told)}"
    same_as = facts_of(entry).same_as
    if same_as is not None:
        person = (entry.header.subject or b"").hex()
        return f"{name} says that two people are one: `person merge {person} {same_as.hex()}` asks whether they are"
    if entry.header.kind in BY_ITSELF and payload_again(entry) is None:
        return f"{name} cannot be read"
    return None
