"""What people type where a server's commands ask for an id: its beginning, or the name of a class, person or device.

A whole id is never looked up. A device gives its name to itself; people and classes have those which the server, an
administrator or a head teacher ever wrote: what a command must not mistake is named by no name (docs/adr/0141), and all
else is looked for among all that ever had it here, whatever is shown (docs/adr/0392).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from protocol.errors import Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.by_name import Named, by_name, is_whole
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office.ever_called import (
    devices_ever,
    persons_called,
    persons_ever,
    spaces_called,
    spaces_ever,
)
from protocol.replica.office.mentioned import day_of
from sync_server.handlers.overview.devices import Device
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server

_ASKED: Final[Mapping[str, tuple[int, Code]]] = {
    "space": (ID_BYTES, Code.UNKNOWN_SPACE),
    "device": (ID_BYTES, Code.UNKNOWN_DEVICE),
    "person": (PERSON_BYTES, Code.UNKNOWN_PERSON),
}


async def with_whole_ids(server: Server, params: Params, outgoing: Outgoing, *, named: Collection[str]) -> Params:
    """The parameters with whole ids. Raises `BadInput` for what several things here begin with, or were ever called.

    Of parameters that are not `named` only beginnings count. A school's code (UAI) is a name of its own and stays as it
    is.
    """
    # who has by now a name that was another's is meant by the id alone (docs/adr/0289)
    by_id = {"person"} if params.get("renamed_too") is True else set()
    by_name_too = set(named) - by_id
    found = dict(params)
    for key in _ASKED:
        match params.get(key):
            case str(text):
                found[key] = await _meant(server, key, text, outgoing, by_name_too)
            case list(texts):
                found[key] = [
                    await _meant(server, key, text, outgoing, by_name_too) if isinstance(text, str) else text
                    for text in texts
                ]
            case _:
                pass
    return found


async def _meant(server: Server, key: str, text: str, outgoing: Outgoing, named: Collection[str]) -> JSON:
    """The whole id of what was typed for a space, a device or a person; the text itself if that is neither."""
    size, code = _ASKED[key]
    door = server.replica.door
    if is_whole(text, size) or (key == "space" and door.knows_space(school_id(door.territory, text))):
        return text
    if is_beginning(text, size) and is_whole(found := whole(text, await _ever(server, key), code, key), size):
        return found
    if key not in named:
        return text
    one = by_name(text, await _called(server, key, text), code, key)
    await outgoing.progress(f"“{text}” is {one}")
    return one.id.hex()


async def _ever(server: Server, key: str) -> Iterable[bytes]:
    match key:
        case "space":
            return await spaces_ever(server.replica)
        case "person":
            return await persons_ever(server.replica)
        case _:
            return devices_ever(server.replica)


async def _called(server: Server, key: str, text: str) -> list[Named]:
    match key:
        case "space":
            return await spaces_called(server.replica, text)
        case "person":
            return await persons_called(server.replica, text)
        case _:
            devices = await list_devices(server)
            return [Named(one.id, one.name, _about(one)) for one in devices]


def _about(device: Device) -> str:
    """What tells a device from others of its name: two PCs of one name may be one that was installed anew."""
    seen_ms = device.heard.seen_ms
    seen = "" if seen_ms is None else f", last seen {day_of(seen_ms)}"
    return f"{device.role.value}, {device.state.value}{seen}"
