"""What people type where an agent's commands ask for an id: its beginning, or the name of a class, person or device.

Rules (docs/adr/0141):
- a whole id is never looked up;
- who is to read pupils' work (`key confirm`), what is let in (`grant`), who is forgotten and whose work is handed out
  is named by no name: a device gives that to itself, or the server does;
- all else is looked for among all that ever had that name, or id, here, whatever is shown (docs/adr/0392);
- of a row that is confirmed first digits are none: its id changes with what it shows (docs/adr/0532);
- what a device is called by others, the server too, is shown and not taken: only its own signed word is;
- what is only shown, with the words by which a human tells it (`key readers`), may be asked for by any of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.by_name import Named, by_name, compared, is_whole
from protocol.replica.console.operation import JSON, Incoming, Operation, Outgoing, Params
from protocol.replica.console.parameters import shown
from protocol.rights.vouching import device_id
from sync_agent.app import Agent
from sync_agent.keys.confirming import list_readers, rows
from sync_agent.school.device_names import device_names, key_words, signed_names

_SPACE: Final = (ID_BYTES, Code.UNKNOWN_SPACE, "space")
_PERSON: Final = (PERSON_BYTES, Code.UNKNOWN_PERSON, "person")
_ITEM: Final = (ID_BYTES, Code.UNKNOWN_ITEM, "item")
_DEVICE: Final = (ID_BYTES, Code.UNKNOWN_DEVICE, "device")
_ASKED: Final[Mapping[str, tuple[int, Code, str]]] = {
    "space": _SPACE,
    "from": _SPACE,
    "to": _SPACE,
    "item": _ITEM,
    "also": _ITEM,
    "id": (ID_BYTES, Code.UNKNOWN_HAND_IN, "hand-in"),
    "revision": (ID_BYTES, Code.UNKNOWN_REVISION, "revision"),
    "keep": (ID_BYTES, Code.UNKNOWN_REVISION, "revision"),
    "person": _PERSON,
    "into": _PERSON,
    "reader": _DEVICE,
    "device": _DEVICE,
}
"""In this order: where somebody is looked for follows from the class, or the item, that is named beside them."""
_NAMED: Final = frozenset({"space", "from", "to", "person", "into", "device"})
_BY_ID_ALONE: Final[Mapping[str, frozenset[str]]] = {
    "grant": frozenset({"device", "person"}),
    "space add": frozenset({"person"}),
    "erase": frozenset({"person"}),
    "export-person": frozenset({"person"}),
    "portfolio": frozenset({"person"}),
}
"""What is named by no name: what would be let in gives it to itself, and of who is to be forgotten, or whose work a
family gets, nothing may have come here, or be left, where somebody else has that name.

Nor is anybody with `--renamed-too`, or `--called`, who has by now a name that was another's (docs/adr/0289)."""


_SHOWN_ALONE: Final = ("key-readers", "reader")
_WHOLE_ALONE: Final = ("key-confirm", "reader")


def with_whole_ids(agent: Agent, name: str, operation: Operation) -> Operation:
    """The operation of this name, given whole ids.

    Raises `BadInput` for what several things here begin with, or are called, and for names that do not count.
    """

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        found = dict(params)
        for key in _ASKED:
            match params.get(key):
                case str(text):
                    found[key] = await _meant(agent, name, key, text, found, outgoing)
                case list(texts):
                    named = [each for each in texts if isinstance(each, str)]
                    meant = [await _meant(agent, name, key, each, {}, outgoing) for each in named]
                    found[key] = meant if len(meant) == len(texts) else texts
                case _:
                    pass
        return await operation(found, incoming, outgoing)

    return operate


async def _meant(agent: Agent, name: str, key: str, text: str, beside: Params, outgoing: Outgoing) -> str:
    size, code, what = _ASKED[key]
    if is_whole(text, size):
        return text
    if what == "space" and agent.replica.door.knows_space(school := school_id(agent.replica.door.territory, text)):
        from protocol.replica.office.ever_called import check_code_alone  # noqa: PLC0415 — only for who types a code

        await check_code_alone(agent.replica, text, school)
        return school.hex()
    if (name, key) == _WHOLE_ALONE and is_beginning(text, size):
        raise BadInput(
            code,
            f"“{text}” is the beginning of an id, and may be another one's by now: look again, and give the whole id "
            f"of the row whose six words the other computer shows; `key readers --device {text}` says the whole line",
        )
    if is_beginning(text, size) and is_whole(found := whole(text, await _known(agent, key), code, what), size):
        return found
    if key not in _NAMED and (name, key) != _SHOWN_ALONE:
        return text
    one = await _called(agent, name, key, text, beside)
    await outgoing.progress(f"“{text}” is {one}")
    return one.id.hex()


async def _known(agent: Agent, key: str) -> Iterable[bytes]:
    """All that ever had such an id here, whatever is shown (docs/adr/0392)."""
    from protocol.replica.office import ever_called  # noqa: PLC0415 — only for who types the beginning of an id

    match key:
        case "reader":
            from sync_agent.keys.former_returns import list_former_returns  # noqa: PLC0415 — likewise
            from sync_agent.keys.past_readers import list_past_readers  # noqa: PLC0415 — likewise

            readers = await list_readers(agent)
            former = [each.id for each in await list_former_returns(agent)]
            past = [each.id for each in await list_past_readers(agent, readers)]
            pairs = {device_id(given.pair) for given in agent.replica.door.authorities()}
            return {*rows(readers), *pairs, *ever_called.devices_ever(agent.replica), *former, *past}
        case "device":
            return ever_called.devices_ever(agent.replica)
        case "space" | "from" | "to":
            return await ever_called.spaces_ever(agent.replica)
        case "person" | "into":
            return await ever_called.persons_ever(agent.replica)
        case _:
            return await ever_called.entries_ever(agent.replica)


# --- by name ----------------------------------------------------------------------------------------------------------


async def _called(agent: Agent, name: str, key: str, text: str, beside: Params) -> Named:
    from protocol.replica.office.ever_called import persons_called  # noqa: PLC0415 — only for who types a name

    _, code, what = _ASKED[key]
    by_id_alone = key in _BY_ID_ALONE.get(name, ())
    match what:
        case "space":
            return by_name(text, await _spaces(agent, text, also_over=key == "from"), code, what)
        case "device" if key == "reader":
            readers = await list_readers(agent)
            door = agent.replica.door
            shown_here = {each.device: Named(each.device, each.name, key_words(each.device, door)) for each in readers}
            return by_name(text, list(shown_here.values()), code, what)
        case "device":
            one = by_name(text, await _devices(agent, text), code, what)
            if not by_id_alone and (await signed_names(agent)).get(one.id) == one.name:
                return one
            raise BadInput(
                code,
                f"{one} is called so by others alone, as the server: no report of its own that says so has come "
                "here. That is no proof of which device it is, and not enough here: compare the words with those on "
                "its own screen, and give its id",
                device=one.id.hex(),
            )
        case _:
            if by_id_alone or beside.get("renamed_too") is True or beside.get("called"):
                raise BadInput(
                    code,
                    f"“{shown(text)}” may be somebody else's name too; give the id, from `people` or `person list`",
                )
            return by_name(text, await persons_called(agent.replica, text, await _beside(agent, beside)), code, what)


async def _spaces(agent: Agent, text: str, *, also_over: bool) -> list[Named]:
    """What this device was ever let into; with `also_over` one that is over is meant as well as another of its name."""
    from protocol.replica.at_work.readers import ever_opened_to  # noqa: PLC0415 — only for who types a name
    from protocol.replica.office.ever_called import spaces_called  # noqa: PLC0415 — only for who types a name

    ever = {*await agent.spaces(), *ever_opened_to(agent.replica.door, agent.device)}
    known = await spaces_called(agent.replica, text, ever)
    return [replace(each, is_over=False) for each in known] if also_over else known


async def _devices(agent: Agent, text: str) -> list[Named]:
    names, door, found = await device_names(agent), agent.replica.door, []
    for key in dict.fromkeys(authority.key for authority in door.authorities()):
        name, about = names.get(key), key_words(key, door)
        if compared(name or "") == compared(text) and not await agent.replica.authorities(key):
            about = f"{about}, cut off"
        found.append(Named(key, name, about))
    return found


async def _beside(agent: Agent, beside: Params) -> list[bytes] | None:
    """The class in which somebody is looked for: the one that is named, or that of the item; None if neither is."""
    space, item = beside.get("space"), beside.get("item")
    spaces = await agent.spaces()
    if isinstance(space, str) and is_whole(space, ID_BYTES):
        return [bytes.fromhex(space)] if bytes.fromhex(space) in spaces else None
    if isinstance(item, str) and is_whole(item, ID_BYTES):
        wanted = bytes.fromhex(item)
        return [each for each in spaces if wanted in (await agent.replica.view(each)).coursework.items] or None
    return None
