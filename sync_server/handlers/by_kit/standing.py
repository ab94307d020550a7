"""Where a device stands as a teacher's, and by whose word: what is asked before the kit opens any work to it.

Rules (docs/adr/0512, docs/adr/0520):
- for whom is said by six words that a human has read on the teacher's own screen: whoever had the server may have named
  a device as hers and dated its key before hers, and what a server believes is no reason to open earlier work;
- of which classes a human says too: one word of a copied key puts her own laptop into any class, or into all of a
  school. So each is told with who let it in there: a key, and no name, and in which space, that of all classes perhaps;
- those are told first that were here first: whoever makes classes up makes them later;
- whoever was given its latest reading key reads along: once one of these is gone, the device makes another at its next
  call. An earlier key is no way out: whether that is spent hangs on words about other laptops.

docs/protocol.md, "Who comes after it was opened", W21.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import beside_words
from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import BadInput, Code, PeerFault
from protocol.identity import three_words
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey, SpaceRecord
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time, many_of
from protocol.replica.office.spaces import space_records
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_words
from protocol.roles import HAS_READING_KEYS, Role
from sync_server.kit.errands import is_shown
from sync_server.opened.app import Server

MAX_CLASSES_TOLD: Final = 100
_MAX_WORDS_TOLD: Final = 4
"""By so many words a device is told to stand in one class: those that came here first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A device as somebody's in a space: the grants that let it in, by arrival, and its latest reading key there.

    `is_spent` where a device that is away as that person's has that key as well.
    """

    space: bytes
    device: Device
    grants: tuple[Authority, ...]
    said: Entry
    is_spent: bool

    @property
    def reading_key(self) -> bytes:
        """The X25519 key that it says."""
        return PersonKey.parse(self.said.payload or b"").agreement


@dataclass(frozen=True, slots=True)
class ClassStood:
    """A class in which it stands, for whoever is to say whether the teacher has that class."""

    space: bytes
    made: SpaceRecord | None
    school: str | None
    hand_ins: int
    grants: tuple[Authority, ...]
    by: tuple[Role, ...]
    """As what the author of each grant was let in."""

    @property
    def row(self) -> Mapping[str, JSON]:
        """The same, for a program."""
        return {
            "space": self.space.hex(),
            "name": self._name,
            "year": None if self.made is None else self.made.year,
            "school": self.school,
            "hand_ins": self.hand_ins,
            "let_in": [
                {"by": str(role), "key": each.author.hex(), "space": each.space.hex(), "at": _at(each)}
                for each, role in zip(self.grants, self.by, strict=True)
            ],
        }

    def sentence(self, own: bytes, territory: bytes) -> str:
        """The same, for people at the server with this key."""
        known = (f"“{self._name}”", None if self.made is None else self.made.year, self.school)
        let_in = "; ".join(
            f"{self._where(each.space, territory)} by {_whose(role, each.author, own)}, on {local_time(_at(each))}"
            for each, role in zip(self.grants, self.by, strict=True)
        )
        return (
            f"{', '.join(filter(None, known))}: {many_of(self.hand_ins, 'hand-in')}. It was let in: {let_in}. If the "
            f"teacher has this class, the same command with: --space {self.space.hex()}"
        )

    @property
    def _name(self) -> str:
        return "?" if self.made is None else beside_words(self.made.name)

    def _where(self, space: bytes, territory: bytes) -> str:
        if space == self.space:
            return "in this class"
        return "in every school" if space == territory else "in all classes of its school"


async def standings(
    server: Server, person: bytes, words: str | None, spaces: Collection[bytes] | None = None
) -> list[Standing]:
    """Where the person's device with these six words stands, in `spaces` or anywhere, in order of the spaces' arrival.

    Raises `BadInput`: UNKNOWN_PERSON for somebody without a reading key there; USAGE, which lists the person's devices,
    for no words or for those of none.
    """
    said = await _said_by_space(server, person)
    found = [
        each
        for space in server.replica.door.spaces()
        if space in said and (spaces is None or space in spaces)
        for each in await _in_space(server, space, person, said[space])
    ]
    if not found:
        raise BadInput(
            Code.UNKNOWN_PERSON, "this person has no reading key there: enrol their new device, let it sync, try again"
        )
    # words take a hundredth of a second, and a device may stand in a hundred classes
    shown = {device for device in {each.device for each in found} if is_shown(words, device)}
    if not shown:
        raise BadInput(Code.USAGE, _which(words, found))
    return [each for each in found if each.device in shown]


async def classes_of(server: Server, stood: Iterable[Standing]) -> list[ClassStood]:
    """The classes in which a device stands; of other spaces those in which work was handed in."""
    door, records = server.replica.door, await space_records(server)
    found = []
    for each in stood:
        above = door.parent(each.space)
        hand_ins = len((await server.replica.view(each.space)).coursework.hand_ins)
        if not hand_ins and above in {None, door.territory}:
            continue
        once: dict[tuple[bytes, bytes], Authority] = {}
        for grant in each.grants:
            once.setdefault((grant.author, grant.space), grant)
        grants = tuple(once.values())[:_MAX_WORDS_TOLD]
        made, school = records.get(each.space), records.get(above or b"")
        by = tuple(_role_of(server, grant) for grant in grants)
        found.append(ClassStood(each.space, made, None if school is None else school.uai, hand_ins, grants, by))
    return found


async def _said_by_space(server: Server, person: bytes) -> Mapping[bytes, Sequence[Entry]]:
    """The reading keys that were said as a person's, by space, the latest last."""
    said = defaultdict[bytes, list[Entry]](list)
    entries = await server.store.scan_kinds([Kind.PERSON_KEY])
    for entry in sorted(entries, key=lambda entry: (entry.header.at, entry.id)):
        if entry.header.subject == person:
            said[entry.header.space].append(entry)
    return said


async def _in_space(server: Server, space: bytes, person: bytes, said: Iterable[Entry]) -> list[Standing]:
    """The devices that were let in as a person's in a space, and have made a reading key there."""
    roster = (await server.replica.view(space)).roster
    theirs = {
        grant.grant: grant
        for grant in roster.authorities
        if grant.role in HAS_READING_KEYS and grant.person == person and grant.key not in roster.cut
    }
    latest: dict[bytes, tuple[Device, Entry]] = {}
    for entry in said:
        if (grant := theirs.get(entry.header.grant or b"")) is not None:
            with suppress(PeerFault):
                PersonKey.parse(entry.payload or b"")
                latest[grant.key] = grant.pair, entry
    arrived = server.replica.door.authorities_of
    return [
        Standing(
            space,
            pair,
            tuple(each for each in arrived(pair[0]) if each.grant in theirs and each.pair == pair),
            entry,
            _is_spent(entry, person, roster),
        )
        for pair, entry in latest.values()
    ]


def _is_spent(said: Entry, person: bytes, roster: Roster) -> bool:
    return (person, PersonKey.parse(said.payload or b"").agreement) in roster.spent


def _which(words: str | None, found: Iterable[Standing]) -> str:
    """The devices between which a human decides, by the words that stand on their screens; none shows `words`."""
    since: dict[Device, int] = {}
    for grant in (grant for each in found for grant in each.grants):
        at_ms = milliseconds_of(grant.at)
        since[grant.pair] = min(at_ms, since.get(grant.pair, at_ms))
    devices = "; ".join(
        f"{device_words(pair)} (let in {local_time(rfc3339(at_ms) or '')})" for pair, at_ms in since.items()
    )
    wrong = "" if words is None else f"no device that is named as this person's shows “{words}”: "
    return (
        f"{wrong}say for which device, by the six words that the teacher reads to you from its own screen (sync-agent "
        f"key readers): --words. Named as this person's, rightly or not, are: {devices}"
    )


def _role_of(server: Server, grant: Authority) -> Role:
    given = server.replica.door.authority(grant.under)
    return Role.ROOT if given is None else given.role


def _whose(role: Role, key: bytes, own: bytes) -> str:
    """Whose word that is: by a key's words, never by whose it is said to be (docs/adr/0501)."""
    match role:
        case Role.ROOT:
            return "the kit"
        case Role.SERVER if key == own:
            return f"this server's key (“{three_words(key)}”: by a command here, or by a copy of it)"
        case Role.SERVER:
            return f"another key of the server, {key.hex()} (“{three_words(key)}”)"
        case _:
            return f"a computer let in as a {role}'s, {key.hex()} (“{three_words(key)}”)"


def _at(grant: Authority) -> str:
    return rfc3339(milliseconds_of(grant.at)) or ""
