"""People: who is on the list of a class. One entry per person and space; a name comes from nowhere else (R11)."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.entry import PERSON_BYTES, Kind
from protocol.errors import BadInput, Code
from protocol.replica.replica import Draft
from protocol.roles import PersonRole
from protocol.roster import Person
from protocol.structure import PersonRecord
from sync_server.app import Server
from sync_server.handlers.names import name_of


async def add_person(server: Server, name: str, role: PersonRole, spaces: Sequence[bytes]) -> bytes:
    """Put somebody new on the lists of `spaces`; their id. Raises `BadInput(BAD_NAME)`."""
    record = PersonRecord(name_of(name, "a person"), role)
    person = server.entropy(PERSON_BYTES)
    await server.write([list_draft(server, person, record, space) for space in spaces])
    return person


async def list_persons(server: Server, space: bytes) -> list[Person]:
    """The list of a space, by role and name."""
    roster = (await server.replica.view(space)).roster
    return sorted(
        roster.persons.values(), key=lambda person: (person.role.value, person.name.casefold(), person.id)
    )


async def spaces_listing(server: Server, person: bytes) -> dict[bytes, Person]:
    """The spaces on whose list somebody is. Raises `BadInput(UNKNOWN_PERSON)` if there is none."""
    mentions = await server.store.scan_kinds([Kind.PERSON])
    found = {}
    for space in dict.fromkeys(entry.header.space for entry in mentions if entry.header.subject == person):
        listed = (await server.replica.view(space)).roster.persons.get(person)
        if listed is not None:
            found[space] = listed
    if not found:
        raise BadInput(
            Code.UNKNOWN_PERSON, f"there is no person {person.hex()}; `person list` shows those of a space"
        )
    return found


def list_draft(
    server: Server, person: bytes, record: PersonRecord, space: bytes, replaced: Sequence[bytes] = ()
) -> Draft:
    """The entry that puts somebody on the list of a space, or says anew what the list holds of them."""
    return Draft(space, Kind.PERSON, server.grant, record.encode(), subject=person, parents=tuple(replaced))
