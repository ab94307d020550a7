"""Commands about lists that the server and a head teacher's device have in common: parameters in, the contract's JSON.

What is said beside an id is what tells one child from another of the same name: the number, and, since ids are of the
territory and lists of one class, in which other classes of the year the same id is (docs/adr/0524).
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.further_words import ask_whether_renamed, doubted_to_rename, rename_person
from protocol.replica.office.leaving import tell_of_hidden_lists
from protocol.replica.office.names import person_id
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.people import list_persons
from protocol.replica.office.several_classes import also_in
from protocol.replica.office.spaces import ListedSpace, space_named


async def person_rename(office: Office, params: Params, outgoing: Outgoing) -> JSON:
    """`person rename`."""
    person, name = person_id(given.text(params, "person")), given.text(params, "name")
    others = await doubted_to_rename(office, person, name)
    await ask_whether_renamed(person, others, outgoing, is_meant=params.get("renamed_too") is True)
    await rename_person(office, person, name)
    return await tell_of_hidden_lists(office, [person], outgoing)


async def person_list(office: Office, params: Params, _outgoing: Outgoing) -> JSON:
    """`person list`."""
    space = space_named(office, given.text(params, "space"))
    called = await called_in(office.replica, (await office.replica.view(space)).roster)
    persons = await list_persons(office, space)
    also = await also_in(office.replica, space, [person.id for person in persons])
    return [
        {
            "person": person.id.hex(),
            "name": person.name,
            "role": person.role.value,
            "called": called[person.id],
            "also_in": ", ".join(also.get(person.id, ())),
        }
        for person in persons
    ]


async def space_rows(office: Office, spaces: Iterable[ListedSpace]) -> list[JSON]:
    """The rows of `space list`: what the kit has closed stays there, and is said to be."""
    closed = await closed_by_kit(office.replica)
    return [
        {
            "space": space.id.hex(),
            "name": space.name,
            "school": space.school,
            "year": space.year,
            "entries": space.entries,
            "fingerprint": space.fingerprint.hex(),
            "closed": space.id in closed,
        }
        for space in spaces
    ]
