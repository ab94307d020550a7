"""Since when, and by whose word, somebody is known here: of two who may be one, which of them to keep.

Rules (docs/adr/0296):
- whoever writes a list, or has the server's key, puts anybody on it, with a computer, under any name and date; not in
  front of what had come here. Who came here first, on whatever list, is the one whom people know;
- how much is said of an id says nothing: whoever makes it up says as much as they like. That nothing hangs on one, no
  computer and no work, says which of two nobody has used yet;
- what is said of who put somebody on a list is said of that list: who is on another is perhaps another (docs/adr/0516);
- dates are those of who wrote them, and the order is that in which it came here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from protocol.clock import milliseconds_of
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import DEVICES, HAS_READING_KEYS, Role


@dataclass(frozen=True, slots=True)
class Word:
    """Something that `by` said, under a `grant`, at a time of its own; without a grant it is the root's."""

    by: bytes
    grant: bytes | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class Known:
    """By which word somebody came first onto the list that is looked at, and their devices by the first of each.

    Of two, who came here first, on whatever list, has the lower `place`.
    """

    place: int
    listed: Word | None
    devices: Mapping[bytes, Word]


async def heard_first(replica: Replica) -> Mapping[bytes, Entry]:
    """Of everybody the word that listed them which came here first, in that order."""
    found: dict[bytes, Entry] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        found.setdefault(entry.header.subject or b"", entry)
    return found


def let_in_first(replica: Replica) -> Mapping[bytes | None, int]:
    """In which place each grant came here."""
    return {given.grant: place for place, given in enumerate(replica.door.authorities())}


async def known_of(replica: Replica, persons: Collection[bytes], space: bytes) -> Mapping[bytes, Known]:
    """Since when, and by whose word, each of these people is on the list of a space, and has computers."""
    places = {person: place for place, person in enumerate(await heard_first(replica))}
    listed: dict[bytes, Entry] = {}
    for stored in await replica.store.of_kinds(space, [Kind.PERSON]):
        listed.setdefault(stored.entry.header.subject or b"", stored.entry)
    devices: defaultdict[bytes, dict[bytes, Word]] = defaultdict(dict)
    for each in replica.door.authorities():
        if each.person is not None and each.person in persons and each.role in DEVICES:
            devices[each.person].setdefault(each.key, Word(each.author, each.under, milliseconds_of(each.at)))
    return {
        person: Known(
            places.get(person, len(places)), _word(listed[person]) if person in listed else None, devices[person]
        )
        for person in persons
    }


def said_by(replica: Replica, word: Word, own: bytes) -> str:
    """Whose word that is, for a line of a command on the device `own`."""
    given = replica.door.authority(word.grant)
    if word.by == own:
        return "this device"
    if given is None:
        return "the kit"
    return "the server" if given.role is Role.SERVER else f"the device {word.by.hex()}"


def _word(entry: Entry) -> Word:
    return Word(entry.header.author, entry.header.grant, entry.timestamp_ms)


async def devices_of_the_same(replica: Replica, person: bytes, spaces: Collection[bytes]) -> list[tuple[Device, bytes]]:
    """The teachers' devices that were let in as somebody whom a list calls the same as this person, with that id.

    None that is this person's by a grant as well, is in all these spaces, or has no right that counts. Those first that
    came here first.
    """
    rosters = {space: (await replica.view(space)).roster for space in replica.door.spaces()}
    same = _called_the_same(rosters.values(), person)
    named = [each for each in replica.door.authorities() if each.role in HAS_READING_KEYS] if same else []
    own = {each.key for each in named if each.person == person}
    found: dict[Device, bytes] = {}
    for each in named:
        if (
            each.person is not None
            and each.person in same
            and each.key not in own
            and _counts(rosters[each.space], each)
        ):
            found.setdefault(each.pair, each.person)
    return [(device, other) for device, other in found.items() if not _is_in(rosters, device, spaces)]


def _called_the_same(rosters: Collection[Roster], person: bytes) -> set[bytes]:
    same = {other for roster in rosters for other, one in roster.aliases.items() if one == person}
    return same | {roster.aliases[person] for roster in rosters if person in roster.aliases}


def _counts(roster: Roster, given: Authority) -> bool:
    return given in roster.authorities and given.key not in roster.cut


def _is_in(rosters: Mapping[bytes, Roster], device: Device, spaces: Collection[bytes]) -> bool:
    return all(rosters[space].may_read(device[0]) for space in spaces)
