"""What people saved in DIR/coursework: listed, and cleared away where the class is over (docs/adr/0432).

Rules:
- what a file holds decides whose it is, as everywhere in that folder (`folder`): ours is what was written there of what
  is published, all else is a person's, and nothing takes it away by itself;
- a class is over here once the kit has closed it, once this device may read it no more, and where its year is past and
  it is not shown: what people saved in its folder outlives the class, and is about its pupils, or theirs;
- cleared away is what lies in the folders of classes that somebody names, and that are over. No link is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.portable_names import displayable
from protocol.replica.console.operation import JSON
from protocol.replica.office.erasures import closed_by_kit
from sync_agent.app import Agent
from sync_agent.coursework.file_notes import decode_notes
from sync_agent.coursework.folder import Lying, Notes, look_through, remove_empty
from sync_agent.coursework.past_years import past_spaces
from sync_agent.coursework.space_folders import COURSEWORK_FOLDER, OUR_FOLDER, remembered_folders
from sync_agent.coursework.titles import Shown
from sync_agent.machine.marks import TREE_FILES_MARKS, TREE_MARKS
from sync_agent.machine.plain_files import is_real_folder

_ITSELF: Final = frozenset[str]()
"""Of a folder, what lies in none below it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder in DIR/coursework, with what people saved there: "" is that folder itself.

    `space` is None where no class has that name here.
    """

    name: str
    space: bytes | None
    is_over: bool
    files: Sequence[Lying]

    def rows(self) -> list[JSON]:
        """Each file, as `saved list` has it."""
        return [
            {
                "space": None if self.space is None else self.space.hex(),
                "class": displayable(self.name),
                "over": self.is_over,
                "path": self.shown(file),
                "bytes": file.size,
                "changed": rfc3339(file.changed_ns // 10**6),
            }
            for file in self.files
        ]

    def told(self) -> JSON:
        """How much there is, as `status` has it."""
        return {
            "space": None if self.space is None else self.space.hex(),
            "class": displayable(self.name),
            "files": len(self.files),
            "bytes": sum(file.size for file in self.files),
        }

    def shown(self, file: Lying) -> str:
        """Where one lies in DIR, fit to be shown."""
        return displayable("/".join(part for part in (COURSEWORK_FOLDER, self.name, file.path) if part))


async def saved_files(agent: Agent, *, over_alone: bool = False) -> list[Folder]:
    """The folders in which people saved something, by name. Raises `OSError`."""
    root = agent.folder.absolute() / COURSEWORK_FOLDER
    spaces = await _spaces_of_folders(agent)
    over = await _over(agent, spaces)
    names = sorted(over) if over_alone else await asyncio.to_thread(_folders_in, root)
    notes = await _notes(agent, {spaces[name]: name for name in names if name in spaces})
    return [
        Folder(name, spaces.get(name), name in over, files)
        for name in names
        if (files := await asyncio.to_thread(_saved_in, root / name, notes.get(name, ()), None if name else _ITSELF))
    ]


async def clear_saved(agent: Agent, wanted: Collection[bytes]) -> tuple[int, list[str]]:
    """Delete what people saved in the folders of these classes: how many files, and those that could not be deleted.

    Raises `BadInput(NOT_YET)` for a class that is not over here, `OSError` where a folder cannot be looked through.
    """
    spaces = await _spaces_of_folders(agent)
    over = await _over(agent, spaces)
    for name in sorted(name for name, space in spaces.items() if space in wanted and name not in over):
        raise BadInput(
            Code.NOT_YET,
            f"the class of “{COURSEWORK_FOLDER}/{displayable(name)}” is not over here: it was not closed, or this "
            "device has not heard of that yet (`sync`); whose files these are deletes them",
            space=spaces[name].hex(),
        )
    kept: list[str] = []
    files = 0
    for folder in await saved_files(agent, over_alone=True):
        if folder.space in wanted:
            place = agent.folder.absolute() / COURSEWORK_FOLDER / folder.name
            kept += map(folder.shown, await asyncio.to_thread(_delete, place, folder.files))
            files += len(folder.files)
    return files - len(kept), kept


async def left_of_past(agent: Agent) -> list[Folder]:
    """What people saved in folders of classes that are over, to be told; nothing where it cannot be looked through."""
    try:
        return await saved_files(agent, over_alone=True)
    except OSError:
        return []


async def _spaces_of_folders(agent: Agent) -> dict[str, bytes]:
    """Which class each folder is of, also of classes that are not here any more."""
    return {name: space for space, name in (await remembered_folders(agent.replica.store)).items()}


async def _over(agent: Agent, spaces: Mapping[str, bytes]) -> set[str]:
    """The folders of classes that are over here."""
    if not spaces:
        return set()
    over = {*await past_spaces(agent), *await closed_by_kit(agent.replica)}
    mine = await agent.spaces()
    return {name for name, space in spaces.items() if space not in mine or space in over}


async def _notes(agent: Agent, names: Mapping[bytes, str]) -> dict[str, list[Notes]]:
    """What is noted of the files that were written into the folders of these classes, by their paths there."""
    store, found = agent.replica.store, dict[str, list[Notes]]()
    for key, mark in (await store.marks(TREE_MARKS) if names else {}).items():
        title = Shown.read(mark)
        if title is not None and title.space in names:
            of_item = TREE_FILES_MARKS + key.removeprefix(TREE_MARKS)
            for noted in (await store.marks(of_item)).values():
                notes = {f"{title.folder}/{path}": note for path, note in decode_notes(noted).items()}
                found.setdefault(names[title.space], []).append(notes)
    return found


def _folders_in(root: Path) -> list[str]:
    if not is_real_folder(root):
        return []
    return ["", *sorted(place.name for place in root.iterdir() if place.name != OUR_FOLDER and is_real_folder(place))]


def _saved_in(place: Path, known: Sequence[Notes], within: frozenset[str] | None) -> list[Lying]:
    if not is_real_folder(place):
        return []
    lying = look_through(place, known, {}, within).values()
    return sorted((file for file in lying if file.stream is None), key=lambda file: file.path)


def _delete(place: Path, files: Iterable[Lying]) -> list[Lying]:
    """Delete these files, and the folders below `place` that are empty then; those that could not be deleted."""
    kept = []
    for file in files:
        try:
            Path(file.place).unlink(missing_ok=True)
        except OSError:
            kept.append(file)
    with contextlib.suppress(OSError):
        remove_empty(place)
    return kept
