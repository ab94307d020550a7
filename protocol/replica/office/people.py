"""People: who is on the list of a class. One entry per person and space; a name comes from nowhere else (R11)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from protocol.errors import BadInput, Code
from protocol.model.ancestry import heads, to_replace
from protocol.model.entry import PERSON_BYTES, Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.by_name import plain
from protocol.replica.office.bureau import Office
from protocol.replica.office.heard import heard_first
from protocol.replica.office.known_here import listed_marks
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.names import name_of
from protocol.replica.office.spaces import records_in
from protocol.rights.roster import Person
from protocol.roles import ARE_TAUGHT, PersonRole


@dataclass(frozen=True, slots=True)
class Listing:
    """What a space's list last said of somebody, the entry that says it, and the line that a further one replaces.

    It `lasts` if it would be shown as well were nothing held back (docs/adr/0572).
    """

    name: str
    role: PersonRole
    left: bool
    entry: bytes
    line: tuple[bytes, ...]
    frozen: bool = False
    same_as: bytes | None = None
    lasts: bool = True

    @property
    def leaves(self) -> bool:
        """Whether they are off the list; who is the same as another is there under that one's id."""
        return self.left and self.same_as is None


_NONE: Final[Mapping[bytes, int]] = MappingProxyType({})


async def add_person(office: Office, name: str, role: PersonRole, spaces: Sequence[bytes]) -> bytes:
    """Put somebody new on the lists of `spaces`; their id. Raises `BadInput(BAD_NAME)`."""
    record = PersonRecord(name_of(name, "a person"), role)
    person = office.entropy(PERSON_BYTES)
    # of the second list nobody with a copied key says the like (docs/adr/0524)
    notes = listed_marks if len(spaces) > 1 else None
    await office.say([list_draft(person, record, space) for space in spaces], notes)
    return person


async def duplicates_in(replica: Replica, space: bytes) -> list[list[Person]]:
    """`probable_duplicates` of a space's list, the one to keep first."""
    view, heard = await replica.view(space), await heard_first(replica)
    with_devices = {grant.person for grant in replica.door.authorities() if grant.person is not None}
    places = {one: place for place, one in enumerate(heard)}
    return probable_duplicates(view.roster.persons.values(), with_devices, places)


def probable_duplicates(
    persons: Iterable[Person], with_devices: Container[bytes] = (), heard: Mapping[bytes, int] = _NONE
) -> list[list[Person]]:
    """Persons of one list who may be one: the same role, and names that differ in nothing that a person would say.

    Of those who may be one the first is the one to keep: who was heard first here; of those who teach, whoever has a
    device first, which goes by the id it was let in under (docs/adr/0296). Work goes along whichever is kept, and who
    made up a pupil has them hand in (docs/adr/0531).
    """
    alike: defaultdict[tuple[str, str], list[Person]] = defaultdict(list)
    for person in persons:
        alike[person.role.value, spoken(person.name)].append(person)
    groups = [
        sorted(group, key=lambda one: (_has_none(one, with_devices), heard.get(one.id, 0), one.id))
        for group in alike.values()
        if len(group) > 1
    ]
    return sorted(groups, key=lambda group: (group[0].name.casefold(), group[0].id))


def _has_none(person: Person, with_devices: Container[bytes]) -> bool:
    return person.role not in ARE_TAUGHT and person.id not in with_devices


def spoken(name: str) -> str:
    """A name without case, accents, ligatures, punctuation and order of its parts: Léa Martin, MARTIN Lea."""
    kept = "".join(char if char.isalnum() else " " for char in plain(name))
    return " ".join(sorted(kept.split()))


async def list_persons(office: Office, space: bytes) -> list[Person]:
    """The list of a space, by role and name."""
    roster = (await office.replica.view(space)).roster
    return sorted(roster.persons.values(), key=lambda person: (person.role.value, person.name.casefold(), person.id))


async def listings(replica: Replica, person: bytes) -> dict[bytes, Listing]:
    """What each space's list says of somebody, those included that they have left.

    Raises `BadInput(UNKNOWN_PERSON)` if no list names them.
    """
    found = (await listings_of(replica, [person]))[person]
    if not found:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space")
    return found


async def listings_of(replica: Replica, persons: Collection[bytes]) -> dict[bytes, dict[bytes, Listing]]:
    """The same for each of these, nothing of whom no list names: all lists are looked through once."""
    found: dict[bytes, dict[bytes, Listing]] = {person: {} for person in persons}
    for person, lists in (await mentions(replica, persons)).items():
        for space, entries in lists.items():
            roster = (await replica.view(space)).roster
            listed = listing(entries, roster.hides)
            if listed is not None:
                is_sure = roster.held_back.isdisjoint(each.id for each in entries)
                lasts = is_sure or _is_same(listed, listing(entries, roster.is_erased))
                found[person][space] = replace(listed, lasts=lasts)
    return found


def _is_same(listed: Listing, once_back: Listing | None) -> bool:
    return once_back is not None and once_back.entry == listed.entry


async def mentions(replica: Replica, persons: Collection[bytes]) -> dict[bytes, dict[bytes, list[Entry]]]:
    """For each of these people the entries that list them, hidden or not, by space: all lists are looked through once.

    Of lists of which nothing that lists them can be read here, nothing.
    """
    found: dict[bytes, dict[bytes, list[Entry]]] = {person: {} for person in persons}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        lists = found.get(entry.header.subject or b"")
        if lists is not None:
            lists.setdefault(entry.header.space, []).append(entry)
    return {
        person: {space: about for space, about in lists.items() if any(one.payload is not None for one in about)}
        for person, lists in found.items()
    }


async def first_names(replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """What each of these people was called here first: whoever has the server calls them what it likes since.

    Of whom the root holds that back, or it is erased, what was said next; by other words whoever has a copy of the
    server's key has what it says be the first (docs/adr/0505).
    """
    found: dict[bytes, str] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]) if persons else ():
        person = entry.header.subject or b""
        if person in persons and person not in found:
            record = parsed(entry, PersonRecord.parse)
            roster = (await replica.view(entry.header.space)).roster
            if record is not None and entry.id not in roster.held_by_root and not roster.is_erased(entry):
                found[person] = record.name
    return found


async def only_names(replica: Replica, persons: Collection[bytes]) -> dict[bytes, str]:
    """What each of these people was ever called here, as `spoken`, of whom all lists have had one name alone.

    Of whom something is hidden, nothing: whoever hides it has said what is left (docs/adr/0551).
    """
    names: dict[bytes, set[str | None]] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]) if persons else ():
        person = entry.header.subject or b""
        if person in persons and (record := parsed(entry, PersonRecord.parse)) is not None:
            is_hidden = (await replica.view(entry.header.space)).roster.hides(entry)
            names.setdefault(person, set()).add(None if is_hidden else spoken(record.name))
    only = {person: next(iter(called)) for person, called in names.items() if len(called) == 1}
    return {person: name for person, name in only.items() if name is not None}


async def described(office: Office, person: bytes) -> str:
    """Somebody as people know them: “Léa”, pupil, CM1-CM2, and the id.

    With every name that lists ever had for them, and since when: whoever writes one exchanges two (docs/adr/0289).
    """
    return await described_in(office.replica, person)


async def described_in(replica: Replica, person: bytes) -> str:
    """The same by a replica that is no office's."""
    found = (await listings_of(replica, [person]))[person]
    if not found:
        return f"{person.hex()}, whose name is on no list here"
    records = await records_in(replica)
    listed = next((each for each in found.values() if not each.left), next(iter(found.values())))
    places = [records[space].name for space in found if space in records]
    called = (await mentioned(replica, [person]))[person].called(listed.name)
    return ", ".join([called, listed.role.value, *sorted(places), person.hex()])


def list_draft(person: bytes, record: PersonRecord, space: bytes, replaced: Sequence[bytes] = ()) -> Draft:
    """The entry that puts somebody on the list of a space, or says anew what the list holds of them."""
    return Draft(space, Kind.PERSON, None, record.encode(), subject=person, parents=tuple(replaced))


def listing(entries: Iterable[Entry], hides: Callable[[Entry], bool]) -> Listing | None:
    """What these make of one person on one list."""
    counting, passed = list[Entry](), list[Entry]()
    for entry in entries:
        counts = not hides(entry) and parsed(entry, PersonRecord.parse) is not None
        (counting if counts else passed).append(entry)
    if not counting:
        return None
    shown = heads(counting, passed)[0]
    said = PersonRecord.parse(shown.payload or b"")
    return Listing(said.name, said.role, said.left, shown.id, to_replace(counting, passed), said.freezes, said.same_as)
