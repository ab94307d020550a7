"""What people type where an agent's commands ask for an id: its beginning, or the name of a class, person or device.

Rules (docs/adr/0141):
- a whole id is never looked up;
- who is to read pupils' work (`key confirm`), and what is let in (`grant --device`), is named by no name: a device
  gives that to itself, or the server does;
- what a device is called by others, the server too, is shown and not taken: only its own signed word is;
- what is only shown, with the words by which a human tells it (`key readers`), may be asked for by any of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import school_id
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.by_name import Named, by_name, is_whole
from protocol.replica.console.operation import JSON, Incoming, Operation, Outgoing, Params
from protocol.replica.console.parameters import shown
from sync_agent.app import Agent
from sync_agent.keys.confirming import list_readers
from sync_agent.school.device_names import device_names, key_words, signed_names

_SPACE: Final = (ID_BYTES, Code.UNKNOWN_SPACE, "space")
_PERSON: Final = (PERSON_BYTES, Code.UNKNOWN_PERSON, "person")
_DEVICE: Final = (ID_BYTES, Code.UNKNOWN_DEVICE, "device")
_ASKED: Final[Mapping[str, tuple[int, Code, str]]] = {
    "space": _SPACE,
    "from": _SPACE,
    "to": _SPACE,
    "item": (ID_BYTES, Code.UNKNOWN_ITEM, "item"),
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
_BY_ID_ALONE: Final[Mapping[str, str]] = {"grant": "device", "erase": "person"}
"""What is named by no name: what would be let in gives it to itself, and who is to be forgotten has left the lists.

Nor is anybody with `--renamed-too`, who has by now a name that was another's (docs/adr/0289)."""


_SHOWN_ALONE: Final = ("key-readers", "reader")


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
                case list(texts) if key in {"space", "person"}:
                    named = [each for each in texts if isinstance(each, str)]
                    meant = [await _meant(agent, name, key, each, {}, outgoing) for each in named]
                    found[key] = meant if len(meant) == len(texts) else texts
                case _:
                    pass
        return await operation(found, incoming, outgoing)

    return operate


async def _meant(agent: Agent, name: str, key: str, text: str, beside: Params, outgoing: Outgoing) -> str:
    size, code, what = _ASKED[key]
    if is_whole(text, size) or (what == "space" and _is_school(agent, text)):
        return text
    if is_beginning(text, size) and is_whole(found := whole(text, await _known(agent, key), code, what), size):
        return found
    if key not in _NAMED and (name, key) != _SHOWN_ALONE:
        return text
    one = await _called(agent, name, key, text, beside)
    if what != "space":
        await outgoing.progress(f"“{text}” is {one}")
    return one.id.hex()


def _is_school(agent: Agent, text: str) -> bool:
    door = agent.replica.door
    return door.knows_space(school_id(door.territory, text))


async def _known(agent: Agent, key: str) -> Iterable[bytes]:
    if key == "reader":
        from sync_agent.keys.former_returns import list_former_returns  # noqa: PLC0415 — only for who types an id
        from sync_agent.keys.past_readers import list_past_readers  # noqa: PLC0415 — only for who types an id

        former = [each.id for each in await list_former_returns(agent)]
        readers = await list_readers(agent)
        past = [each.id for each in await list_past_readers(agent, readers)]
        return dict.fromkeys([*(name for reader in readers for name in (reader.id, reader.device)), *former, *past])
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
            case "person" | "into":
                found += view.roster.persons
            case "id":
                found += coursework.hand_ins
            case "item":  # a hand-in's id gives the files of its feedback
                found += [*coursework.items, *coursework.hand_ins]
            case _:
                found += [version for item in coursework.items.values() for version in item.versions]
                found += [note.id for work in coursework.hand_ins.values() for note in work.said_with_files]
    return found


# --- by name ----------------------------------------------------------------------------------------------------------


async def _called(agent: Agent, name: str, key: str, text: str, beside: Params) -> Named:
    _, code, what = _ASKED[key]
    match what:
        case "space":
            return by_name(text, await _spaces(agent, also_over=key == "from"), code, what)
        case "device" if key == "reader":
            readers = await list_readers(agent)
            door = agent.replica.door
            shown_here = {each.device: Named(each.device, each.name, key_words(each.device, door)) for each in readers}
            return by_name(text, list(shown_here.values()), code, what)
        case "device":
            one = by_name(text, await _devices(agent), code, what)
            if _BY_ID_ALONE.get(name) != key and (await signed_names(agent)).get(one.id) == one.name:
                return one
            raise BadInput(
                code,
                f"a name is no proof of which device that is, and is not enough here: {one} is called so; compare the "
                "words with those on its own screen, and give the first eight digits of its id",
                device=one.id.hex(),
            )
        case _:
            if _BY_ID_ALONE.get(name) == key or beside.get("renamed_too") is True:
                raise BadInput(
                    code, f"“{shown(text)}” may be somebody else's name too; give the id, from `person list`"
                )
            near = await _spaces_beside(agent, beside)
            return by_name(text, await _persons(agent, near or await agent.spaces()), code, what)


async def _spaces(agent: Agent, *, also_over: bool) -> list[Named]:
    """The classes here; with `also_over` one that is over is meant as well as another of its name."""
    from protocol.replica.office.spaces import is_closed  # noqa: PLC0415 — only for who types a name
    from sync_agent.coursework.past_years import past_spaces  # noqa: PLC0415 — only for who types a name
    from sync_agent.space_names import space_names  # noqa: PLC0415 — only for who types a name

    names, door = await space_names(agent), agent.replica.door
    past = frozenset() if also_over else await past_spaces(agent)
    found = []
    for space in await agent.spaces():
        school = names.get(door.parent(space) or b"", "")
        closed = await is_closed(agent.replica, space)
        about = ", ".join(part for part in (school, "closed" if closed else "") if part)
        found.append(Named(space, names.get(space), about, (closed and not also_over) or space in past))
    return found


async def _devices(agent: Agent) -> list[Named]:
    names = await device_names(agent)
    keys = dict.fromkeys(authority.key for authority in agent.replica.door.authorities())
    return [Named(key, names.get(key), key_words(key, agent.replica.door)) for key in keys]


async def _persons(agent: Agent, spaces: Iterable[bytes]) -> list[Named]:
    from sync_agent.space_names import space_names  # noqa: PLC0415 — only for who types a name

    names = await space_names(agent)
    found: dict[bytes, Named] = {}
    for space in spaces:
        roster = (await agent.replica.view(space)).roster
        for person in roster.persons.values():
            about = ", ".join(part for part in (person.role.value, names.get(space)) if part)
            found.setdefault(roster.who(person.id), Named(roster.who(person.id), person.name, about))
    return list(found.values())


async def _spaces_beside(agent: Agent, beside: Params) -> list[bytes]:
    """The class in which somebody is looked for first: the one that is named, or that of the item."""
    space, item = beside.get("space"), beside.get("item")
    spaces = await agent.spaces()
    if isinstance(space, str) and is_whole(space, ID_BYTES):
        return [bytes.fromhex(space)] if bytes.fromhex(space) in spaces else []
    if isinstance(item, str) and is_whole(item, ID_BYTES):
        wanted = bytes.fromhex(item)
        return [each for each in spaces if wanted in (await agent.replica.view(each)).coursework.items]
    return []
