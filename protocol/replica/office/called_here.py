"""Whom lists ever called by a name, of those who teach, and who came to it first (docs/protocol.md, "Coursework").

Rules (docs/adr/0391):
- a name is one in a school: on its own list, on those of its classes, and on the territory's, which all read. Whoever
  has the server's key puts anybody on any of these; of two schools nobody takes one teacher for another;
- who came to it first is whom a list had called so that came here first: dates are those of who writes lists. What is
  held back counts as well, but for what the root's own word holds back: no server takes a name from anybody by that
  (docs/adr/0470);
- what a list said that was destroyed, as a class's is in summer, counts as long as another list says the same of them:
  that one is noted, and no name (`said_elsewhere`). So it is from the day on which the kit closes the class, for who is
  on no other list is let in nowhere from then on (docs/adr/0404);
- two ids are one person's where a list says so and, of one with a computer, words of devices lead from that to the
  other, in each class that had called them so;
- who signs nothing takes nobody's name: a teacher may be called as a pupil is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.look_alikes import READINGS
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.roles import HAS_READING_KEYS, PersonRole

SAID_ELSEWHERE_MARKS: Final = "said-elsewhere/"
"""+ a destroyed entry of a list in hex → the entry of another list that calls the same person the same."""
SIGN: Final = frozenset({PersonRole.TEACHER, PersonRole.ADMIN})
"""As whom somebody signs what they say."""
_Word: TypeAlias = "tuple[bytes, frozenset[str]]"
"""Whom a list calls what, as names are compared."""
_At: TypeAlias = tuple[int, bytes, bytes, bytes]
"""In which place of all that came a list called whom by a name: on which list, and by which entry."""
_NOTHING: Final[_Word] = b"", frozenset()
_NUMBER: Final = re.compile(r"[(\[][0-9]+[)\]]")


@dataclass(slots=True)
class _Read:
    """By each reading of a name whom lists called so, in order of arrival."""

    rewritten: int
    after: int = 0
    called: defaultdict[str, list[_At]] = field(default_factory=lambda: defaultdict(list))


_READ: Final[WeakKeyDictionary[Replica, _Read]] = WeakKeyDictionary()


async def namesakes_before(replica: Replica, roster: Roster, names: Mapping[bytes, str]) -> dict[bytes, list[bytes]]:
    """Which others a list had called so before each of these people, who are called so in a space."""
    called = await _called(replica) if names else {}
    said = {
        person: sorted({word for heard in _heard(name) for word in called.get(heard, ())})
        for person, name in names.items()
    }
    others = {space for person, words in said.items() for _, other, space, _ in words if other != person}
    beside = {space for space in others if _is_beside(replica.door, roster.space, space)}
    undone = await _undone_by_root(replica, beside)
    over = await closed_by_kit(replica) if beside else ()
    found = {}
    for person, words in said.items():
        counting = [word for word in words if word[1] == person or word[3] not in undone]
        listed = {other for _, other, space, _ in counting if space not in over}
        before = defaultdict[bytes, set[bytes]](set)
        for _, other, space, _ in counting:
            if other == person and _is_beside(replica.door, roster.space, space):
                break
            if other in listed and space in beside:
                before[other].add(space)
        found[person] = [
            other for other, spaces in before.items() if not await _are_one(replica, roster, person, other, spaces)
        ]
    return found


async def _undone_by_root(replica: Replica, lists: Iterable[bytes]) -> set[bytes]:
    """What the root's own word holds back on these lists."""
    return {entry for space in lists for entry in (await replica.view(space)).roster.held_by_root}


async def said_elsewhere(store: EntryStore, gone: Iterable[Entry]) -> dict[str, bytes | None]:
    """The marks to set where these entries are destroyed: which others say of somebody what lists among them did."""
    going = {entry.id: entry for entry in gone if entry.header.kind == Kind.PERSON}
    before = await store.marks(SAID_ELSEWHERE_MARKS) if going else {}
    said = {SAID_ELSEWHERE_MARKS + name.hex(): _said(entry) for name, entry in going.items()}
    said |= {mark: _said(going[name]) for mark, name in before.items() if name in going}
    staying: dict[_Word | None, bytes] = {}
    for entry in await store.scan_kinds([Kind.PERSON]) if any(said.values()) else ():
        if entry.id not in going:
            staying.setdefault(_said(entry), entry.id)
    return {mark: None if word is None else staying.get(word) for mark, word in said.items()}


async def _called(replica: Replica) -> Mapping[str, Sequence[_At]]:
    """Read what has come since; all, where entries that were here hold something else by now."""
    read = _READ.get(replica)
    if read is None or read.rewritten != replica.rewritten:
        read = _READ[replica] = _Read(replica.rewritten)
    latest, after = await replica.store.latest(), read.after
    if latest is None or latest[0] <= after:
        return read.called
    entries = await replica.store.scan_kinds([Kind.PERSON], after)
    same = await _same_elsewhere(replica.store, entries)
    for place, entry in enumerate(entries, after):
        person, names = _said(same.get(entry.id, entry)) or _NOTHING
        for heard in names:
            read.called[heard].append((place, person, entry.header.space, entry.id))
    read.after = max(read.after, latest[0])
    return read.called


async def _same_elsewhere(store: EntryStore, entries: Iterable[Entry]) -> dict[bytes, Entry]:
    """Of those of these entries that were destroyed others that say the same, as far as there are some."""
    if all(entry.payload is not None for entry in entries):
        return {}
    marks = await store.marks(SAID_ELSEWHERE_MARKS)
    found = await store.get(list(marks.values()))
    noted = {bytes.fromhex(mark.removeprefix(SAID_ELSEWHERE_MARKS)): name for mark, name in marks.items()}
    return {name: found[other] for name, other in noted.items() if other in found}


def _said(entry: Entry) -> _Word | None:
    """Whom an entry of a list calls what; None of who signs nothing, or where it says nothing any more."""
    record, person = parsed(entry, PersonRecord.parse), entry.header.subject
    return None if record is None or person is None or record.role not in SIGN else (person, _heard(record.name))


def _heard(name: str) -> frozenset[str]:
    """What is left of a name that is told, and of one that is seen: no order, no accents, and no number of ours."""
    return frozenset(as_(_NUMBER.sub(" ", name)) for as_ in READINGS)


def _is_beside(door: Door, space: bytes, other: bytes) -> bool:
    """Whether what two lists call somebody may be read side by side."""
    shared = {*door.lineage(space)}.intersection(door.lineage(other))
    return door.territory in (space, other) or not shared <= {door.territory}


async def _are_one(replica: Replica, roster: Roster, person: bytes, other: bytes, spaces: Iterable[bytes]) -> bool:
    """Whether two ids are one person's: who was called so in these `spaces` is the one who is in a space by now.

    Whoever has the server's key says so on any list: who has, or had, a device is somebody else (docs/adr/0461).
    """
    if any(each.person == other and each.role in HAS_READING_KEYS for each in replica.door.authorities()):
        return False
    rosters = [(await replica.view(space)).roster for space in spaces]
    return any(each.who(other) == person for each in (roster, *rosters))
