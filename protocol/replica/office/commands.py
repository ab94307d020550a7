"""Commands that the server and a head teacher's device have in common: parameters in, the contract's JSON out.

What one of them does besides (whom it may let in, what it warns of) is said beside its own table.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.replica import parameters as given
from protocol.replica.office import grants
from protocol.replica.office.bureau import Office
from protocol.replica.office.invitations import Wanted, invite
from protocol.replica.office.names import device_id, lifetime_ms, person_id
from protocol.replica.office.people import list_persons
from protocol.replica.office.spaces import ListedSpace, add_space, rename_space, space_named, spaces_named
from protocol.replica.operation import JSON, Outgoing, Params
from protocol.roles import Role


async def new_space(office: Office, params: Params, school: str, outgoing: Outgoing) -> JSON:
    """`space add` in the school of this UAI; what looks like a mistake is told."""
    added = await add_space(office, given.text(params, "name"), school, given.text_or_none(params, "year"))
    for warning in added.warnings:
        await outgoing.progress(f"warning: {warning}")
    return {"space": added.id.hex()}


def space_rows(spaces: Iterable[ListedSpace]) -> list[JSON]:
    """The rows of `space list`."""
    return [
        {
            "space": space.id.hex(),
            "name": space.name,
            "school": space.school,
            "entries": space.entries,
            "fingerprint": space.fingerprint.hex(),
        }
        for space in spaces
    ]


async def space_rename(office: Office, params: Params, _outgoing: Outgoing) -> JSON:
    """`space rename`."""
    await rename_space(office, space_named(office, given.text(params, "space")), given.text(params, "name"))
    return {}


async def person_list(office: Office, params: Params, _outgoing: Outgoing) -> JSON:
    """`person list`."""
    space = space_named(office, given.text(params, "space"))
    return [
        {"person": person.id.hex(), "name": person.name, "role": person.role.value}
        for person in await list_persons(office, space)
    ]


async def new_code(office: Office, params: Params, role: Role) -> JSON:
    """`invite` for a role that the office may let in."""
    person, stay = given.text_or_none(params, "person"), given.text_or_none(params, "for")
    wanted = Wanted(
        role=role,
        spaces=spaces_named(office, given.texts(params, "space")),
        person=None if person is None else person_id(person),
        uses=given.count_or_none(params, "uses") or 0,
        lifetime_ms=lifetime_ms(given.text(params, "ttl")),
        stay_ms=None if stay is None else lifetime_ms(stay),
    )
    made = await invite(office, wanted)
    return {"code": made.code, "expires": rfc3339(made.expires_ms), "fingerprint": made.fingerprint}


async def ungrant(office: Office, params: Params, _outgoing: Outgoing) -> JSON:
    """`ungrant`."""
    spaces = spaces_named(office, given.texts(params, "space"))
    device, person = device_or_person(params)
    if device is not None:
        await grants.ungrant_device(office, device, spaces)
    if person is not None:
        await grants.ungrant_person(office, person, spaces)
    return {}


def device_or_person(params: Params) -> tuple[bytes | None, bytes | None]:
    """Which of both is named. Raises `BadInput(USAGE)` for both or none."""
    device, person = given.text_or_none(params, "device"), given.text_or_none(params, "person")
    if (device is None) == (person is None):
        raise BadInput(Code.USAGE, "one of --device and --person is needed, and not both")
    return (
        None if device is None else device_id(device),
        None if person is None else person_id(person),
    )
