"""The folders that stand for spaces, in DIR/publish and in DIR/coursework: one name per space, for ever.

A name is the space's, with what not every system keeps replaced; a second space of that name gets " (2)". It is
remembered, because a lesson must never land in another class for a space that arrived earlier or later.

What lies there already under a name is somebody's own, and no space that comes later is called that: whoever has a copy
of the server's key calls classes as they like, and what is in a class's folder is published, or cleared away
(docs/adr/0456). Where nothing at all is remembered the database may have been made anew, and what lies there be ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.portable_names import check_portable, portable_form, portable_name
from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.machine.marks import SPACE_FOLDER_MARKS
from sync_agent.space_names import space_names, unnamed_schools

PUBLISH_FOLDER: Final = "publish"
COURSEWORK_FOLDER: Final = "coursework"
OUR_FOLDER: Final = ".relais"
"""In DIR/coursework: what is being built or taken away. No space has this name."""
WHOLE_SCHOOL: Final = "Toute l'école"
"""What the folder of a school is called that has no name but its UAI, which stands behind."""
_MAX_EXTENSION_CHARS: Final = 16


def free_name(wished: str, taken: Iterable[str], *, is_file: bool = False) -> str:
    """`wished`, or with the first number that makes it differ from all of `taken`, as every file system compares."""
    occupied = {compared(name) for name in taken}
    if compared(wished) not in occupied:
        return wished
    for number in range(2, len(occupied) + 3):
        candidate = with_suffix(wished, f" ({number})", is_file=is_file)
        if compared(candidate) not in occupied:
            return candidate
    raise AssertionError("more names than numbers")


def with_suffix(name: str, suffix: str, *, is_file: bool) -> str:
    """`name` with `suffix`, before a file's extension; shortened where the whole would be too long."""
    stem, dot, extension = name.rpartition(".")
    if not (is_file and stem.strip() and extension.isalnum() and len(extension) <= _MAX_EXTENSION_CHARS):
        stem, dot, extension = name, "", ""
    tail = f"{suffix}{dot}{extension}".encode()
    return stem.encode()[: MAX_PATH_COMPONENT_BYTES - len(tail)].decode(errors="ignore").rstrip(" ") + tail.decode()


def compared(name: str) -> str:
    """Equal for two names that a file system may take for one another."""
    return portable_form(portable_form(name).casefold())


async def remembered_folders(store: EntryStore) -> dict[bytes, str]:
    """The folder of each space that ever had one here, also of those that are not here any more."""
    marks = await store.marks(SPACE_FOLDER_MARKS)
    named = {bytes.fromhex(key.removeprefix(SPACE_FOLDER_MARKS)): folder_in(mark) for key, mark in marks.items()}
    return {space: name for space, name in named.items() if name is not None}


def folder_in(mark: bytes) -> str | None:
    """The folder that a mark names: one name, whichever characters Python knew by then.

    None for what leads out of the folder of folders, which nobody here has given.
    """
    name = mark.decode()
    return None if "/" in name or check_portable([name], known_characters_only=False) else name


async def space_folders(agent: Agent) -> dict[bytes, str]:
    """The folder of each space of this device; names that are new are remembered from now on."""
    store = agent.replica.store
    known = await remembered_folders(store)
    spaces = list(await agent.spaces())
    fresh = {}
    if any(space not in known for space in spaces):
        names = await space_names(agent)
        names |= {space: f"{WHOLE_SCHOOL} ({uai})" for space, uai in (await unnamed_schools(agent, names)).items()}
        others = await asyncio.to_thread(_lying_in, agent.folder) if known else set()
        for space in spaces:
            if space not in known:
                known[space] = fresh[space] = free_name(
                    portable_name(names.get(space, space.hex())), [OUR_FOLDER, *known.values(), *others]
                )
        await store.set_marks({f"{SPACE_FOLDER_MARKS}{space.hex()}": name.encode() for space, name in fresh.items()})
    return {space: known[space] for space in spaces}


def _lying_in(folder: Path) -> set[str]:
    """The names of all that lies in both folders of a data folder, as far as these can be read."""
    found = set()
    for place in (folder / PUBLISH_FOLDER, folder / COURSEWORK_FOLDER):
        with contextlib.suppress(OSError):
            found |= {path.name for path in place.iterdir()}
    return found
