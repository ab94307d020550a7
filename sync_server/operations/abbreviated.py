"""What people type where a server's commands ask for an id: its beginning, or the name of a class, person or device.

A whole id is never looked up. A device gives its name to itself; people and classes have that which the server, an
administrator or a head teacher wrote last: what a command must not mistake is named by no name (docs/adr/0141).
"""

from __future__ import annotations

from collections.abc import Collection

from protocol.errors import Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.by_name import Named, by_name, compared, is_whole
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office.spaces import is_closed, space_records
from sync_server.handlers.overview.devices import DeviceState
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server


async def with_whole_ids(server: Server, params: Params, outgoing: Outgoing, *, named: Collection[str]) -> Params:
    """The parameters with whole ids. Raises `BadInput` for what several things here begin with, or are called.

    Of parameters that are not `named` only beginnings count. A school's code (UAI) is a name of its own and stays as it
    is.
    """
    # who has by now a name that was another's is meant by the id alone (docs/adr/0289)
    by_id = {"person"} if params.get("renamed_too") is True else set()
    typed = _Typed(server, outgoing, set(named) - by_id)
    found = dict(params)
    for key, read in (("space", typed.space), ("device", typed.device), ("person", typed.person)):
        match params.get(key):
            case str(text):
                found[key] = await read(text)
            case list(texts):
                found[key] = [await read(text) if isinstance(text, str) else text for text in texts]
            case _:
                pass
    return found


class _Typed:
    """What was typed, read one by one."""

    def __init__(self, server: Server, outgoing: Outgoing, named: Collection[str]) -> None:
        self._server = server
        self._outgoing = outgoing
        self._named = named

    async def space(self, text: str) -> JSON:
        door = self._server.replica.door
        if is_whole(text, ID_BYTES) or door.knows_space(school_id(door.territory, text)):
            return text
        if is_beginning(text, ID_BYTES):
            found = whole(text, await self._server.store.spaces(), Code.UNKNOWN_SPACE, "space")
            if is_whole(found, ID_BYTES):
                return found
        if "space" not in self._named:
            return text
        records = await space_records(self._server)
        schools = {space: record.uai for space, record in records.items() if record.uai is not None}
        known = []
        for space, record in records.items():
            school = record.uai or schools.get(door.parent(space) or b"") or ""
            # only of those that may be meant: there are thousands
            is_over = compared(record.name) == compared(text) and await is_closed(self._server.replica, space)
            known.append(Named(space, record.name, f"{school}, closed" if is_over else school, is_over))
        return by_name(text, known, Code.UNKNOWN_SPACE, "space").id.hex()

    async def device(self, text: str) -> JSON:
        if is_whole(text, ID_BYTES):
            return text
        devices = await list_devices(self._server)
        if is_beginning(text, ID_BYTES):
            found = whole(text, [one.id for one in devices], Code.UNKNOWN_DEVICE, "device")
            if is_whole(found, ID_BYTES):
                return found
        if "device" not in self._named:
            return text
        in_use = [one for one in devices if one.state is not DeviceState.RETIRED]
        known = [Named(one.id, one.name, f"{one.role.value}, {one.state.value}") for one in in_use]
        return await self._told(text, by_name(text, known, Code.UNKNOWN_DEVICE, "device"))

    async def person(self, text: str) -> JSON:
        if is_whole(text, PERSON_BYTES):
            return text
        known = await self._persons()
        if is_beginning(text, PERSON_BYTES):
            found = whole(text, [one.id for one in known], Code.UNKNOWN_PERSON, "person")
            if is_whole(found, PERSON_BYTES):
                return found
        if "person" not in self._named:
            return text
        return await self._told(text, by_name(text, known, Code.UNKNOWN_PERSON, "person"))

    async def _told(self, text: str, one: Named) -> str:
        await self._outgoing.progress(f"“{text}” is {one}")
        return one.id.hex()

    async def _persons(self) -> list[Named]:
        found: dict[bytes, Named] = {}
        called = {space: record.name for space, record in (await space_records(self._server)).items()}
        for space in await self._server.store.spaces():
            roster = (await self._server.replica.view(space)).roster
            for person in roster.persons.values():
                about = ", ".join(part for part in (person.role.value, called.get(space)) if part)
                found.setdefault(person.id, Named(roster.who(person.id), person.name, about))
        return list(found.values())
