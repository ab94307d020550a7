"""The commands `watch …`: a teacher's own folders, what of them is published, and the brake.

Rules:
- a folder that is added publishes nothing: each of its entries, folders and files, is a title to be ticked;
- a tick taken away stops watching the title; what is published stays (`withdraw` takes it out of sight);
- DIR itself is never watched: what lies in DIR/coursework would come back as new lessons.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.portable_names import displayable, portable_form
from protocol.replica.console.operation import JSON, Outgoing
from sync_agent.app import Agent
from sync_agent.machine.marks import WATCHED_FOLDER_MARKS
from sync_agent.watching.folders import WatchedFolder, added_folders, entries_of, publishing_folders
from sync_agent.watching.rules import title_of
from sync_agent.watching.titles import Brake, Title, titles


async def add(agent: Agent, folder: str, space: bytes) -> JSON:
    """Watch a folder of the teacher's for a space; what it holds is listed, and nothing is published yet.

    Raises `BadInput` (UNKNOWN_SPACE, MISSING_FILE, UNREADABLE_FILE, USAGE), `Refused(NO_RIGHT)`.
    """
    await agent.right(space, Kind.REVISION)
    place = Path(folder)
    await asyncio.to_thread(_check_folder, place, agent.folder.absolute())
    watched = WatchedFolder.added(place, space)
    for other in await added_folders(agent.replica.store):
        if other.id == watched.id and other.space == space:
            break
        if place == other.place or place in other.place.parents or other.place in place.parents:
            raise BadInput(Code.USAGE, f"{displayable(str(other.place))} is watched already")
    await agent.replica.store.set_marks(watched.mark())
    agent.on_watch()
    return {"folder": displayable(str(place)), "titles": [row["title"] for row in await _rows(agent, watched)]}


async def remove(agent: Agent, folder: str) -> JSON:
    """Watch a folder no more; what was published of it stays. Raises `BadInput(MISSING_FILE)` for an unknown one."""
    store = agent.replica.store
    watched = next((one for one in await added_folders(store) if one.place == Path(folder)), None)
    if watched is None:
        raise BadInput(Code.MISSING_FILE, f"{displayable(folder)} is not watched")
    marks: dict[str, bytes | None] = {WATCHED_FOLDER_MARKS + watched.id: None}
    for title in (await titles(store, watched.id)).values():
        # its item stays known: a folder that is added again goes on where it was
        marks |= title.no_mark() if title.item is None else replace(title, ticked=False, obstacle=None).mark()
    await store.set_marks(marks)
    agent.on_watch()
    return {}


async def listing(agent: Agent) -> list[JSON]:
    """Every title of every watched folder, those in DIR/publish first."""
    folders = [*await publishing_folders(agent), *await added_folders(agent.replica.store)]
    return [row for folder in folders for row in await _rows(agent, folder)]


async def tick(agent: Agent, wanted: Sequence[tuple[str, str]], *, ticked: bool) -> JSON:
    """Let titles of added folders be published, or no longer. Each is given by its name or title, and as a path.

    Raises `BadInput`: UNKNOWN_PATH, or USAGE for one that lies in several folders.
    """
    store = agent.replica.store
    entries = [
        (folder, name)
        for folder in await added_folders(store)
        for name in await asyncio.to_thread(entries_of, folder.place)
    ]
    known = await titles(store)
    marks: dict[str, bytes | None] = {}
    for given, path in wanted:
        folder, name = _chosen(given, path, entries)
        title = known.get(Title(folder.id, name).key) or Title(folder.id, name)
        is_file = not await asyncio.to_thread((folder.place / name).is_dir)
        marks |= replace(title, ticked=ticked, is_file=is_file, obstacle=title.obstacle if ticked else None).mark()
    await store.set_marks(marks)
    agent.on_watch()
    return {}


async def resume(agent: Agent, outgoing: Outgoing, told: str | None = None) -> JSON:
    """Say that what pulled the brake is meant: it is published, and the brake watches again.

    With what a page has `told` (`Brake.told`) nothing is let through but that.
    """
    brake = await Brake.read(agent.replica.store)
    if brake is None or not brake.holds:
        await outgoing.progress("publishing from watched folders is not paused")
        return {}
    if told not in (None, brake.told):
        await outgoing.progress("more was found since")
        return {}
    await outgoing.progress(
        f"let through: {brake.files} files that were rewritten or lost, of {', '.join(brake.names)}"
    )
    await agent.replica.store.set_marks(replace(brake, let_through=True).mark())
    agent.on_watch()
    return {"files": brake.files, "titles": list(brake.names)}


def _check_folder(place: Path, data: Path) -> None:
    shown = displayable(str(place))
    try:
        if not place.is_dir():
            raise BadInput(Code.MISSING_FILE, f"{shown} is no folder on this machine")
        next(place.iterdir(), None)
    except OSError as reason:
        raise BadInput(
            Code.UNREADABLE_FILE, f"{shown} cannot be read by the agent: {reason.strerror}", path=shown
        ) from reason
    real, own = place.resolve(), data.resolve()
    if real == own or real in own.parents or own in real.parents:
        raise BadInput(Code.USAGE, f"{shown} holds the agent's own data; choose a folder outside it")


async def _rows(agent: Agent, folder: WatchedFolder) -> list[dict[str, JSON]]:
    known = await titles(agent.replica.store, folder.id)
    rows = []
    for name in await asyncio.to_thread(entries_of, folder.place):
        title = known.get(Title(folder.id, name).key)
        is_file = not await asyncio.to_thread((folder.place / name).is_dir)
        rows.append(_row(folder, title or Title(folder.id, name, is_file=is_file)))
    return rows


def _row(folder: WatchedFolder, title: Title) -> dict[str, JSON]:
    return {
        "folder": displayable(str(folder.place)),
        "space": folder.space.hex(),
        "name": displayable(title.name),
        "title": title.shown,
        "ticked": title.ticked or not folder.own,
        "item": None if title.item is None else title.item.hex(),
        "problem": None if title.obstacle is None else title.obstacle.sentence,
    }


def _chosen(given: str, path: str, entries: Sequence[tuple[WatchedFolder, str]]) -> tuple[WatchedFolder, str]:
    wished = portable_form(given)
    by_path = [(folder, name) for folder, name in entries if os.fspath(folder.place / name) == path]
    exact = [(folder, name) for folder, name in entries if portable_form(name) == wished]
    titled = [(folder, name) for folder, name in entries if title_of(portable_form(name), is_file=True) == wished]
    for found in (by_path, exact, titled):
        if len(found) == 1:
            return found[0]
        if found:
            raise BadInput(
                Code.USAGE, f"“{displayable(wished)}” lies in several watched folders, or twice in one; give its path"
            )
    raise BadInput(Code.UNKNOWN_PATH, f"no watched folder holds “{displayable(wished)}”; `sync-agent watch list`")
