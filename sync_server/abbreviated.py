"""Ids in the parameters of a server's commands: a beginning that only one thing here has becomes its whole id."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.entry import ID_BYTES, PERSON_BYTES
from protocol.errors import Code
from protocol.identity import school_id
from protocol.replica.abbreviations import is_beginning, whole
from protocol.replica.operation import Params
from sync_server.app import Server
from sync_server.handlers.members import list_devices


async def with_whole_ids(server: Server, params: Params) -> Params:
    """The parameters with whole ids. Raises `BadInput` for a beginning that several things here have.

    A school's code (UAI) is a name of its own and stays as it is.
    """
    found = dict(params)
    spaces = params.get("space")
    if isinstance(spaces, str):
        found["space"] = await _space(server, spaces)
    elif isinstance(spaces, list):
        found["space"] = [await _space(server, space) if isinstance(space, str) else space for space in spaces]
    device, person = params.get("device"), params.get("person")
    if isinstance(device, str) and is_beginning(device, ID_BYTES):
        known = [one.id for one in await list_devices(server)]
        found["device"] = whole(device, known, Code.UNKNOWN_DEVICE, "device")
    if isinstance(person, str) and is_beginning(person, PERSON_BYTES):
        found["person"] = whole(person, await _persons(server), Code.UNKNOWN_PERSON, "person")
    elif isinstance(person, list):
        known_persons = await _persons(server)
        found["person"] = [
            whole(each, known_persons, Code.UNKNOWN_PERSON, "person")
            if isinstance(each, str) and is_beginning(each, PERSON_BYTES)
            else each
            for each in person
        ]
    return found


async def _space(server: Server, text: str) -> str:
    door = server.replica.door
    if not is_beginning(text, ID_BYTES) or door.knows_space(school_id(door.territory, text)):
        return text
    return whole(text, await server.store.spaces(), Code.UNKNOWN_SPACE, "space")


async def _persons(server: Server) -> Iterable[bytes]:
    found: set[bytes] = set()
    for space in await server.store.spaces():
        found |= (await server.replica.view(space)).roster.persons.keys()
    return found
