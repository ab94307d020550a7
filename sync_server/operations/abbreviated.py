"""What people type where a server's commands ask for an id: its beginning, or the name of a class, person or device.

A whole id is never looked up. A device gives its name to itself; people and classes have those which the server, an
administrator or a head teacher ever wrote: what a command must not mistake is named by no name (docs/adr/0141), and all
else is looked for among all that ever had it here, whatever is shown (docs/adr/0392), what is accepted, refused or
shown again too (docs/adr/0519).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, TypeAlias

from protocol.errors import Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.by_name import Named, by_name, is_whole
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.office.erasures import ever_said
from protocol.replica.office.ever_called import (
    check_code_alone,
    devices_ever,
    entries_ever,
    persons_called,
    persons_ever,
    spaces_called,
    spaces_ever,
)
from protocol.replica.office.mentioned import day_of
from sync_server.handlers.overview.devices import Device
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server

_Asked: TypeAlias = tuple[tuple[int, ...], Code, str]
"""Of how many bytes the ids may be, what is wrong with one that is not here, and what they are the ids of."""
_ASKED: Final[Mapping[str, _Asked]] = {
    "space": ((ID_BYTES,), Code.UNKNOWN_SPACE, "space"),
    "device": ((ID_BYTES,), Code.UNKNOWN_DEVICE, "device"),
    "person": ((PERSON_BYTES,), Code.UNKNOWN_PERSON, "person"),
}
_RULED: Final[Mapping[str, _Asked]] = {"named": ((ID_BYTES,), Code.UNKNOWN_HAND_IN, "id")}
_ASKED_OF: Final[Mapping[str, Mapping[str, _Asked]]] = {
    "accept": _RULED,
    "refuse": _RULED,
    "unerase": {"covers": ((PERSON_BYTES, ID_BYTES), Code.UNKNOWN_PERSON, "id")},
}
"""What these alone ask for besides: to other commands `named` is what somebody is called."""


async def with_whole_ids(
    server: Server, command: str, params: Params, outgoing: Outgoing, *, named: Collection[str]
) -> Params:
    """The parameters of a command with whole ids.

    Raises `BadInput` for what several things here begin with, or were ever called.
    Of parameters that are not `named` only beginnings count. A school's code (UAI) is a name of its own and stays as it
    is.
    """
    # who has by now a name that was another's is meant by the id alone (docs/adr/0289)
    by_id = {"person"} if params.get("renamed_too") is True or params.get("called") else set()
    by_name_too = set(named) - by_id
    found = dict(params)
    for key, asked in {**_ASKED, **_ASKED_OF.get(command, {})}.items():
        match params.get(key):
            case str(text):
                found[key] = await _meant(server, key, asked, text, outgoing, by_name_too)
            case list(texts):
                found[key] = [
                    await _meant(server, key, asked, text, outgoing, by_name_too) if isinstance(text, str) else text
                    for text in texts
                ]
            case _:
                pass
    return found


async def _meant(
    server: Server, key: str, asked: _Asked, text: str, outgoing: Outgoing, named: Collection[str]
) -> JSON:
    """The whole id of what was typed; the text itself where that is one, or is nothing that is looked for."""
    (sizes, code, what), door = asked, server.replica.door
    if _is_id(text, sizes):
        return text
    if key == "space" and door.knows_space(school := school_id(door.territory, text)):
        await check_code_alone(server.replica, text, school)
        return text
    if is_beginning(text, max(sizes)) and _is_id(found := whole(text, await _ever(server, key), code, what), sizes):
        return found
    if key not in named:
        return text
    one = by_name(text, await _called(server, key, text), code, what)
    await outgoing.progress(f"“{text}” is {one}")
    return one.id.hex()


def _is_id(text: str, sizes: Iterable[int]) -> bool:
    return any(is_whole(text, size) for size in sizes)


async def _ever(server: Server, key: str) -> Iterable[bytes]:
    """All that ever had such an id here, whatever is shown, waits, or is erased by now."""
    replica = server.replica
    match key:
        case "space":
            return await spaces_ever(replica)
        case "person":
            return await persons_ever(replica)
        case "named":
            return {*await entries_ever(replica), *devices_ever(replica), *replica.door.roots}
        case "covers":
            erased = {covers for _, covers in await ever_said(replica)}
            return {*erased, *await persons_ever(replica), *await spaces_ever(replica), *await entries_ever(replica)}
        case _:
            return devices_ever(replica)


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
