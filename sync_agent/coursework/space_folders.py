"""The folders that stand for spaces, in DIR/publish and in DIR/coursework: one name per space, as a rule in both.

A name is the space's, with what not every system keeps replaced; a second space of that name gets " (2)". It is
remembered, because a lesson must never land in another class for a space that arrived earlier or later.

What lies there already under a name is somebody's own, and no space that comes later is called that: whoever has a copy
of the server's key calls classes as they like, and what is in a class's folder is published, or cleared away
(docs/adr/0456). So a name is remembered when its folder is made, and until that folder is gone: who makes one of that
name before or after makes their own (docs/adr/0466). Where it was never noted what lies there, the database may have
been made anew, and what is called like a class be its folder.

Against other classes a name that a class has had is its own until its school year is over, whether its folder lies
there or not: who ends a right for a moment would else have the next lesson of hers in a class of theirs
(docs/adr/0557). So is one that people read as that name (docs/adr/0597).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.portable_names import check_portable, compared, portable_name
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.disk import make_folder
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.space_namesakes import readings
from sync_agent.app import Agent
from sync_agent.machine.eviction import is_past
from sync_agent.machine.marks import FOLDERS_NOTED_MARK, PUBLISH_FOLDER_MARKS, SPACE_FOLDER_MARKS
from sync_agent.space_names import space_names, unnamed_schools

PUBLISH_FOLDER: Final = "publish"
COURSEWORK_FOLDER: Final = "coursework"
OUR_FOLDER: Final = ".relais"
"""In DIR/coursework: what is being built or taken away. No space has this name."""
WHOLE_SCHOOL: Final = "Toute l'école"
"""What the folder of a school is called that has no name but its UAI, which stands behind."""
_MARKS: Final = {COURSEWORK_FOLDER: SPACE_FOLDER_MARKS, PUBLISH_FOLDER: PUBLISH_FOLDER_MARKS}
_WAS: Final = b"/"
"""Before a name in a mark: so was the folder called that a class had here."""
_MAX_EXTENSION_CHARS: Final = 16
_SHORTENED_BY_WINDOWS: Final = re.compile("~(?=[0-9])")

_Lying: TypeAlias = Mapping[str, str] | None
"""What lies in one of the two places: names, each by how it is compared; None where that cannot be read."""

_log = logging.getLogger(__name__)


def free_name(wished: str, taken: Iterable[str], *, classes: Iterable[str] = (), is_file: bool = False) -> str:
    """`wished`, or with the first number that makes it differ from all of `taken`, as every file system compares.

    Also, as people read them, from the names of `classes`.
    """
    occupied = {compared(name) for name in taken}
    read = {each for name in classes for each in readings(name)}
    for number in range(1, len(occupied) + len(read) + 3):
        name = wished if number == 1 else with_suffix(wished, f" ({number})", is_file=is_file)
        if compared(name) not in occupied and read.isdisjoint(readings(name) if read else ()):
            return name
    raise AssertionError("more names than numbers")


def with_suffix(name: str, suffix: str, *, is_file: bool) -> str:
    """`name` with `suffix`, before a file's extension; shortened where the whole would be too long."""
    stem, dot, extension = name.rpartition(".")
    if not (is_file and stem.strip() and extension.isalnum() and len(extension) <= _MAX_EXTENSION_CHARS):
        stem, dot, extension = name, "", ""
    tail = f"{suffix}{dot}{extension}".encode()
    return stem.encode()[: MAX_PATH_COMPONENT_BYTES - len(tail)].decode(errors="ignore").rstrip(" ") + tail.decode()


def folder_name(name: str) -> str:
    """What the folder is called that stands for a space or a title of this name, if nothing else is.

    Windows finds “Corrections 2026” as CORREC~1 too, and lists it under its long name alone: none is called like that.
    """
    return _SHORTENED_BY_WINDOWS.sub("-", portable_name(name))


async def remembered_folders(store: EntryStore, place: str = COURSEWORK_FOLDER) -> dict[bytes, str]:
    """The folder of each space that has one in `place`, also of those that are not here any more."""
    return _by_space(_MARKS[place], await store.marks(_MARKS[place]))


def _by_space(begin: str, marks: Mapping[str, bytes]) -> dict[bytes, str]:
    named = {bytes.fromhex(key.removeprefix(begin)): folder_in(mark) for key, mark in marks.items()}
    return {space: name for space, name in named.items() if name is not None}


async def remembered_folder(store: EntryStore, space: bytes) -> str | None:
    """The folder of one space in DIR/coursework, if it has one."""
    mark = await store.mark(SPACE_FOLDER_MARKS + space.hex())
    return None if mark is None else folder_in(mark)


def folder_in(mark: bytes) -> str | None:
    """The folder that a mark names: one name, whichever characters Python knew by then.

    None for what leads out of the folder of folders, which nobody here has given.
    """
    name = mark.decode()
    return None if "/" in name or check_portable([name], known_characters_only=False) else name


async def coursework_folders(agent: Agent, spaces: Collection[bytes]) -> dict[bytes, str]:
    """The folder in DIR/coursework of each of these, of which there is something to be shown there at once."""
    async with agent.writing:
        return await _folders(agent, COURSEWORK_FOLDER, spaces)


async def publish_folders(agent: Agent, spaces: Collection[bytes]) -> dict[bytes, str]:
    """The folder in DIR/publish of each of these, in which this device may publish; made where it is not there.

    Of another space, an empty folder there is taken away.
    """
    async with agent.writing:
        former = await remembered_folders(agent.replica.store, PUBLISH_FOLDER)
        empty = [agent.folder / PUBLISH_FOLDER / name for space, name in former.items() if space not in spaces]
        await asyncio.to_thread(_remove_empty, empty)
        return await _folders(agent, PUBLISH_FOLDER, spaces)


async def _folders(agent: Agent, place: str, spaces: Collection[bytes]) -> dict[bytes, str]:
    """The folder of each of these in `place`; of the others, one that is gone is remembered as one that was."""
    lying = await asyncio.to_thread(_lying_in, agent.folder)
    known = await _known(agent, lying)
    names = {space: name for space, name in known[place].items() if space in spaces}
    marks: dict[str, bytes | None] = {
        _MARKS[place] + space.hex(): _WAS + name.encode()
        for space, name in known[place].items()
        if space not in spaces and not _lies(name, lying[place])
    }
    fresh = [space for space in spaces if space not in names]
    wishes, former = (await _wishes(agent), await _former(agent)) if fresh else ({}, {})
    for space in fresh:
        name = names[space] = _new_name(space, wishes.get(space) or space.hex(), place, known, former, lying)
        known[place][space] = name
        if place != PUBLISH_FOLDER or await asyncio.to_thread(_make, agent.folder / place / name):
            marks[_MARKS[place] + space.hex()] = name.encode()
    if marks:
        await agent.replica.store.set_marks(marks)
    return names


async def _known(agent: Agent, lying: Mapping[str, _Lying]) -> dict[str, dict[bytes, str]]:
    """What is remembered, in either place; at the first look what lies there is noted, as spaces' or nobody's."""
    store = agent.replica.store
    known = {place: await remembered_folders(store, place) for place in _MARKS}
    spaces = await agent.spaces()
    if spaces and await store.mark(FOLDERS_NOTED_MARK) is None:
        names = known[COURSEWORK_FOLDER] or dict[bytes, str]()  # an earlier version's, for both places
        for space, wish in (await _wishes(agent)).items() if not names else ():
            if space in spaces:
                names[space] = free_name(wish, [OUR_FOLDER, *names.values()])
        known = {place: {one: name for one, name in names.items() if _lies(name, lying[place])} for place in _MARKS}
        marks = {
            begin + one.hex(): name.encode() if one in known[place] else None
            for place, begin in _MARKS.items()
            for one, name in names.items()
        }
        await store.set_marks({**marks, FOLDERS_NOTED_MARK: b""})
    return known


async def _former(agent: Agent) -> dict[str, dict[bytes, str]]:
    """What the folder was called that a class had in either place, while that class's school year is not over."""
    today = dt.datetime.fromtimestamp(agent.now_ms() / 1000, dt.UTC).date()
    over = {space for space, made in (await made_spaces(agent.replica)).items() if is_past(made.year, today)}
    found: dict[str, dict[bytes, str]] = {}
    for place, begin in _MARKS.items():
        marks = (await agent.replica.store.marks(begin)).items()
        were = _by_space(begin, {key: mark.removeprefix(_WAS) for key, mark in marks if mark.startswith(_WAS)})
        found[place] = {space: name for space, name in were.items() if space not in over}
    return found


async def _wishes(agent: Agent) -> dict[bytes, str]:
    """What the folder of each space is called that has a name, if nothing else is."""
    names = await space_names(agent)
    names |= {space: f"{WHOLE_SCHOOL} ({uai})" for space, uai in (await unnamed_schools(agent, names)).items()}
    return {space: folder_name(name) for space, name in names.items()}


def _new_name(
    space: bytes,
    wish: str,
    place: str,
    known: Mapping[str, Mapping[bytes, str]],
    former: Mapping[str, Mapping[bytes, str]],
    lying: Mapping[str, _Lying],
) -> str:
    """A name that nothing has in either place but the space itself in the other one, by which it is called here too.

    Before that one it has the name that it had here, if nothing lies there that has it by now.
    """
    (other,) = known.keys() - {place}
    own, was = known[other].get(space), former[place].get(space)
    theirs = [*known.values(), *former.values()]
    others = [name for names in theirs for one, name in names.items() if one != space]
    here = (lying[place] or {}).values()
    beside = [name for key, name in (lying[other] or {}).items() if own is None or key != compared(own)]
    # what it has had already is its own, whatever an earlier version let another have
    return free_name(was or own or wish, [OUR_FOLDER, *others, *here, *beside], classes=() if was or own else others)


def _lies(name: str, lying: _Lying) -> bool:
    return lying is None or compared(name) in lying


def _lying_in(folder: Path) -> dict[str, _Lying]:
    """What lies in both places of a data folder."""
    return {place: _names_in(folder / place) for place in _MARKS}


def _names_in(place: Path) -> _Lying:
    try:
        return {compared(path.name): path.name for path in place.iterdir()}
    except FileNotFoundError:
        return {}
    except OSError:
        return None


def _make(place: Path) -> bool:
    """Make the folder of a space; whether it is there."""
    try:
        make_folder(place)
    except OSError as reason:
        _log.warning("a folder in DIR/publish cannot be made: %s", reason.strerror)
        return False
    return True


def _remove_empty(places: Iterable[Path]) -> None:
    for place in places:
        with contextlib.suppress(OSError):
            place.rmdir()
