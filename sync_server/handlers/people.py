"""People: who is on the list of a class. One entry per person and space; a name comes from nowhere else (R11)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.ancestry import heads
from protocol.entry import PERSON_BYTES, Entry, Kind
from protocol.errors import BadInput, Code, PeerFault
from protocol.replica.replica import Draft
from protocol.roles import PersonRole
from protocol.roster import Person
from protocol.structure import PersonRecord
from sync_server.app import Server
from sync_server.handlers.names import name_of


@dataclass(frozen=True, slots=True)
class Listing:
    """What the list of a space last said of somebody, and the entry that says it."""

    name: str
    role: PersonRole
    left: bool
    entry: bytes


async def add_person(server: Server, name: str, role: PersonRole, spaces: Sequence[bytes]) -> bytes:
    """Put somebody new on the lists of `spaces`; their id. Raises `BadInput(BAD_NAME)`."""
    record = PersonRecord(name_of(name, "a person"), role)
    person = server.entropy(PERSON_BYTES)
    await server.write([list_draft(server, person, record, space) for space in spaces])
    return person


async def list_persons(server: Server, space: bytes) -> list[Person]:
    """The list of a space, by role and name."""
    roster = (await server.replica.view(space)).roster
    return sorted(roster.persons.values(), key=lambda person: (person.role.value, person.name.casefold(), person.id))


async def listings(server: Server, person: bytes) -> dict[bytes, Listing]:
    """What each space's list says of somebody, those included that they have left.

    Raises `BadInput(UNKNOWN_PERSON)` if no list names them.
    """
    mentions: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in await server.store.scan_kinds([Kind.PERSON]):
        if entry.header.subject == person and entry.payload is not None:
            mentions[entry.header.space].append(entry)
    found = {}
    for space, entries in mentions.items():
        roster = (await server.replica.view(space)).roster
        kept = heads([entry for entry in entries if not roster.hides(entry)])
        listing = _listing(kept[0]) if kept else None
        if listing is not None:
            found[space] = listing
    if not found:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space")
    return found


def list_draft(
    server: Server, person: bytes, record: PersonRecord, space: bytes, replaced: Sequence[bytes] = ()
) -> Draft:
    """The entry that puts somebody on the list of a space, or says anew what the list holds of them."""
    return Draft(space, Kind.PERSON, server.grant, record.encode(), subject=person, parents=tuple(replaced))


def _listing(entry: Entry) -> Listing | None:
    try:
        record = PersonRecord.parse(entry.payload or b"")
    except PeerFault:
        return None
    return Listing(record.name, record.role, record.left, entry.id)
