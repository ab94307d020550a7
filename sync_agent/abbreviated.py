"""Ids in the parameters of an agent's commands: a beginning that only one thing here has becomes its whole id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.entry import ID_BYTES, PERSON_BYTES
from protocol.errors import Code
from protocol.replica.abbreviations import is_beginning, whole
from protocol.replica.operation import JSON, Incoming, Operation, Outgoing, Params
from sync_agent.app import Agent
from sync_agent.confirming import list_readers

_ABBREVIATED: Final[Mapping[str, tuple[int, Code, str]]] = {
    "space": (ID_BYTES, Code.UNKNOWN_SPACE, "space"),
    "from": (ID_BYTES, Code.UNKNOWN_SPACE, "space"),
    "to": (ID_BYTES, Code.UNKNOWN_SPACE, "space"),
    "item": (ID_BYTES, Code.UNKNOWN_ITEM, "item"),
    "id": (ID_BYTES, Code.UNKNOWN_HAND_IN, "hand-in"),
    "revision": (ID_BYTES, Code.UNKNOWN_REVISION, "revision"),
    "keep": (ID_BYTES, Code.UNKNOWN_REVISION, "revision"),
    "person": (PERSON_BYTES, Code.UNKNOWN_PERSON, "person"),
    "reader": (ID_BYTES, Code.UNKNOWN_DEVICE, "device"),
    "device": (ID_BYTES, Code.UNKNOWN_DEVICE, "device"),
}


def with_whole_ids(agent: Agent, operation: Operation) -> Operation:
    """The operation, given whole ids. Raises `BadInput` for a beginning that several things here have."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        short = {
            key: value
            for key, value in params.items()
            if key in _ABBREVIATED and isinstance(value, str) and is_beginning(value, _ABBREVIATED[key][0])
        }
        if short:
            found = {
                key: whole(value, await _known(agent, key), *_ABBREVIATED[key][1:]) for key, value in short.items()
            }
            params = {**params, **found}
        spaces = params.get("space")
        if isinstance(spaces, list):
            known = await agent.spaces()
            params = {**params, "space": [_whole_space(each, known) for each in spaces]}
        return await operation(params, incoming, outgoing)

    return operate


def _whole_space(given: JSON, known: Iterable[bytes]) -> JSON:
    if isinstance(given, str) and is_beginning(given, ID_BYTES):
        return whole(given, known, Code.UNKNOWN_SPACE, "space")
    return given


async def _known(agent: Agent, key: str) -> Iterable[bytes]:
    if key == "reader":
        return dict.fromkeys(reader.id for reader in await list_readers(agent))
    if key == "device":
        return dict.fromkeys(authority.key for authority in agent.replica.door.authorities())
    spaces = await agent.spaces()
    if key in {"space", "from", "to"}:
        return spaces
    found: list[bytes] = []
    for space in spaces:
        view = await agent.replica.view(space)
        coursework = view.coursework
        match key:
            case "person":
                found += view.roster.persons
            case "id":
                found += coursework.hand_ins
            case "item":  # a hand-in's id gives the files of its feedback
                found += [*coursework.items, *coursework.hand_ins]
            case _:
                found += [version for item in coursework.items.values() for version in item.versions]
    return found
