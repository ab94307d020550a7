"""The watched folders of a teacher's device: what is put there is published, as `watching.rules` has it.

`run` makes DIR/publish/<space>/ for every space in which this device may publish, and watches them and the folders that
`watch add` names. Each entry of such a folder is a title.

Rules (docs/adr/0013):
- events of the system say where to look, a clock says when to look again; what a look finds decides. Everything is
  looked at when `run` starts and every few minutes after, whatever the events said;
- one title is published after another, whole; what cannot be published is remembered with the reason, for `status`;
- nothing is published while the brake is pulled (`brake`), and nothing is ever withdrawn from here;
- what a person lets through is what the brake had told by then, as it was found; else they are asked (docs/adr/0583);
- at rest nothing runs but a timer.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from protocol.errors import BadInput, Code, LocalFailure, RelaisError
from protocol.replica.disk import make_folder
from sync_agent.app import Agent
from sync_agent.coursework.file_notes import FileNote
from sync_agent.machine.marks import BRAKE_MARK
from sync_agent.scheduler import wait
from sync_agent.watching.brake import WINDOW_S, Change, is_burst, is_disguise, looks_harmed
from sync_agent.watching.files import Look, Obstacle, is_being_written, look_at, name_obstacle
from sync_agent.watching.folders import WatchedFolder, added_folders, entries_of, publishing_folders
from sync_agent.watching.publishing import (
    changes_of,
    notes_of,
    publish_title,
    renamed_from,
    same_item,
    truly_changed,
)
from sync_agent.watching.rules import (
    QUIET_S,
    Changing,
    Glimpse,
    disturbed,
    is_settled,
    looked,
    may_be_a_title,
    settled_at_s,
)
from sync_agent.watching.titles import MAX_FOUND, Brake, Title, titles

if TYPE_CHECKING:
    from sync_agent.watching.events import FolderEvents

RESCAN_S: Final = 600.0
RESCAN_WITHOUT_EVENTS_S: Final = 60.0
RETRY_S: Final = 60.0
_LOOKS_APART_S: Final = 0.3
# a look may take this part of the time, a rescan that one
_LOOK_SHARE: Final = 10
_RESCAN_SHARE: Final = 200

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Open:
    """A title that is not as it was published, or was touched: when to look again, and what the looks found."""

    folder: WatchedFolder
    name: str
    next_s: float
    state: Changing | None = None
    looked_s: float = -1e9
    cost_s: float = 0.0
    changes: dict[str, Change] = field(default_factory=dict)
    likeness: bytes = b""


class Watcher:
    """See the module. `run` is its task; `wake` may be called from anywhere in the loop."""

    def __init__(self, agent: Agent, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._store = agent.replica.store
        self._now = monotonic
        self._wanted = asyncio.Event()
        self._stale = self._all_stale = True
        self._events: FolderEvents | None = None
        self._folders: dict[str, WatchedFolder] = {}
        self._rescan_s: dict[str, float] = {}
        self._without_events: set[Path] = set()
        self._titles: dict[str, Title] = {}
        self._open: dict[str, _Open] = {}
        self._blocked: dict[str, bytes] = {}
        self._brake: Brake | None = None
        self._meant: dict[str, bytes] = {}
        self._let_through_s = 0.0
        self._published: list[tuple[float, str, str, Change]] = []

    def wake(self, *, everything: bool = False) -> None:
        """Rights and spaces may have changed; with `everything` what is watched, ticked or paused as well."""
        self._stale = True
        self._all_stale |= everything
        self._wanted.set()

    async def run(self) -> None:
        """Watch and publish until cancelled. Raises `LocalFailure` when the store must be opened again."""
        try:
            while True:
                self._wanted.clear()
                try:
                    pause_s = await self._turn()
                except LocalFailure as failure:
                    if failure.code is Code.STORAGE_FAILED:
                        raise
                    _log.warning("the watched folders could not be looked at: %s", failure.code)
                    pause_s = RETRY_S
                await wait(self._wanted, pause_s)
        finally:
            if self._events is not None:
                await asyncio.to_thread(self._events.close)

    # --- the course of things -----------------------------------------------------------------------------------------

    async def _turn(self) -> float:
        """Do what is due; seconds until something is."""
        if self._stale:
            self._stale = False
            await self._refresh()
        self._take_events()
        for folder in list(self._folders.values()):
            if self._rescan_s.get(folder.id, 0.0) <= self._now():
                await self._rescan(folder)
        for key, title in list(self._open.items()):
            if title.next_s <= self._now():
                await self._look(key, title)
        await self._release_brake()
        times = [*self._rescan_s.values(), *(title.next_s for title in self._open.values())]
        return max(0.0, min(times) - self._now()) if times else RESCAN_S

    async def _refresh(self) -> None:
        """Read again which folders there are; and, after a command, what is remembered and how the brake stands."""
        if self._all_stale:
            self._all_stale = False
            await self._read_marks()
        folders = {folder.id: folder for folder in await self._watched_folders()}
        if folders == self._folders:
            return
        self._rescan_s = {folder: self._rescan_s.get(folder, 0.0) for folder in folders}
        self._open = {key: title for key, title in self._open.items() if title.folder.id in folders}
        self._folders = folders
        await self._listen()

    async def _read_marks(self) -> None:
        brake = await Brake.read(self._store)
        if brake is not None and brake.let_through:
            self._let_through_s = self._now()
            self._published.clear()
            self._meant |= brake.found
        self._brake = brake
        self._titles = await titles(self._store)
        self._blocked.clear()
        self._rescan_s = dict.fromkeys(self._rescan_s, 0.0)
        for opened in self._open.values():
            opened.next_s = self._now()

    async def _watched_folders(self) -> list[WatchedFolder]:
        publishing = await publishing_folders(self._agent)
        return [*publishing, *await added_folders(self._store)] if publishing else []

    async def _listen(self) -> None:
        """See to it that events come of all folders that there are."""
        tops = {self._top(folder): (1 if folder.own else 2) for folder in self._folders.values()}
        if tops and self._events is None:
            from sync_agent.watching.events import FolderEvents  # noqa: PLC0415 — a pupils' PC does not need it

            self._events = FolderEvents(self._wanted.set)
        if self._events is None:
            return
        for folder in self._folders.values():
            if not folder.own:
                await asyncio.to_thread(_make, folder.place)
        self._without_events = set()
        for top, steps in tops.items():
            if not await asyncio.to_thread(self._events.watch, top, steps):
                self._without_events.add(top)

    def _top(self, folder: WatchedFolder) -> Path:
        """Whose events are asked for: the folder's, or for those in DIR/publish that one's for all of them."""
        return folder.place if folder.own else folder.place.parent

    def _take_events(self) -> None:
        for top, steps in set() if self._events is None else self._events.take():
            for folder in self._folders.values():
                if self._top(folder) != top:
                    continue
                below = steps if folder.own else steps[1:]
                if not folder.own and steps and steps[0] != folder.place.name:
                    continue
                if below:
                    self._touch(folder, below[0])
                else:
                    self._rescan_s[folder.id] = min(self._rescan_s.get(folder.id, 0.0), self._now() + _LOOKS_APART_S)

    def _touch(self, folder: WatchedFolder, name: str) -> None:
        """Something below a title was touched: look soon, but not all the time while it goes on."""
        if not may_be_a_title(name):
            return
        key = Title(folder.id, name).key
        title = self._open.get(key)
        if title is None:
            self._open[key] = _Open(folder, name, self._now())
        else:
            apart_s = max(_LOOKS_APART_S, _LOOK_SHARE * title.cost_s)
            title.next_s = min(title.next_s, title.looked_s + apart_s)

    async def _rescan(self, folder: WatchedFolder) -> None:
        """Look at every title of a folder, whatever the events said."""
        began_s = self._now()
        if not folder.own:
            await asyncio.to_thread(_make, folder.place)
        names = await asyncio.to_thread(entries_of, folder.place)
        for name in names:
            key = Title(folder.id, name).key
            if key not in self._open:
                opened = self._open[key] = _Open(folder, name, began_s)
                await self._look(key, opened)
        there = {Title(folder.id, name).key for name in names}
        for key, title in list(self._titles.items()):
            if title.folder == folder.id and key not in there and (title.obstacle or not (title.item or title.ticked)):
                await self._vanished(title)
        every_s = RESCAN_WITHOUT_EVENTS_S if self._top(folder) in self._without_events else RESCAN_S
        if self._events is not None and every_s == RESCAN_S:
            await asyncio.to_thread(self._events.watch, self._top(folder), 1 if folder.own else 2)
        now_s = self._now()
        self._rescan_s[folder.id] = now_s + max(every_s, _RESCAN_SHARE * (now_s - began_s))

    # --- one title ----------------------------------------------------------------------------------------------------

    async def _look(self, key: str, opened: _Open) -> None:
        """Look at a title: close it if it is as it was published, publish it if it is settled, or look again later."""
        known = self._titles.get(key)
        began_s = self._now()
        look = await asyncio.to_thread(look_at, opened.folder.place / opened.name)
        opened.looked_s = self._now()
        opened.cost_s = opened.looked_s - began_s
        if look is None or not (look.files or look.obstacle):
            del self._open[key]
            if look is None and known is not None and known.obstacle is not None:
                await self._vanished(known)
            return
        if not await self._may_publish(opened, look) or self._is_seen(key, look):
            del self._open[key]
            return
        notes = await notes_of(self._agent, known)
        if known and look.is_as_noted(notes) and not look.obstacle:
            await self._remember(replace(known, likeness=look.likeness, obstacle=None))
            del self._open[key]
            return
        opened.state = looked(opened.state, look.glimpse(notes), opened.looked_s)
        if is_settled(opened.state, opened.looked_s):
            await self._settled(key, opened, look)
        else:
            opened.next_s = settled_at_s(opened.state)

    def _is_seen(self, key: str, look: Look) -> bool:
        """Whether this very state was published, or was found unfit to be."""
        known = self._titles.get(key)
        if self._blocked.get(key) == look.likeness:
            return True
        return known is not None and known.obstacle is None and known.likeness == look.likeness

    async def _may_publish(self, opened: _Open, look: Look) -> bool:
        """Whether the title lies in DIR/publish, or was ticked, if under another name."""
        folder, name = opened.folder, opened.name
        known = self._titles.get(Title(folder.id, name).key)
        if not folder.own or (known is not None and known.ticked):
            return True
        ticked = [title for title in self._titles.values() if title.folder == folder.id and title.ticked]
        return await renamed_from(self._agent, folder, name, look, ticked) is not None

    async def _settled(self, key: str, opened: _Open, look: Look) -> None:
        """Publish a title that has come to rest, unless something speaks against it."""
        folder, before = opened.folder, self._titles.get(key)
        if before is None or before.item is None:
            others = self._titles.values()
            before = await renamed_from(self._agent, folder, opened.name, look, others) or before
        notes = await notes_of(self._agent, before)
        changed = [file for file in look.files if not file.is_like(notes.get(file.path))]
        if await asyncio.to_thread(is_being_written, changed) and self._waits(opened, busy=True):
            return
        if await self._is_held(key, opened, look, before, notes):
            return
        title = Title(folder.id, opened.name, is_file=look.is_file, ticked=True)
        if before is not None:
            title = replace(before, name=opened.name)
        obstacle = look.obstacle or await asyncio.to_thread(name_obstacle, look.files)
        if obstacle is not None:
            await self._block(key, title, look, obstacle)
            return
        if title.item is None:
            taken = {other.item for other in self._titles.values() if other.item is not None}
            title = replace(title, item=await same_item(self._agent, folder, opened.name, look, taken))
        former = before if before is not None and before.key != key else None
        try:
            fresh = await publish_title(self._agent, folder, title, look, before=former, notes=notes)
        except RelaisError as error:
            await self._failed(key, opened, look, title, error)
            return
        if former is not None:
            self._titles.pop(former.key, None)
        self._titles[key] = fresh
        now_s = self._now()
        self._published += [(now_s, key, path, change) for path, change in opened.changes.items()]
        self._blocked.pop(key, None)
        del self._open[key]
        _log.info("published from a watched folder: %d file(s), as %s", len(look.files), (fresh.item or b"").hex()[:16])

    async def _failed(self, key: str, opened: _Open, look: Look, title: Title, error: RelaisError) -> None:
        """What becomes of a title that could not be published."""
        if isinstance(error, LocalFailure) and error.code is Code.STORAGE_FAILED:
            raise error
        if error.code is Code.CHANGING_FILE and opened.state is not None:
            opened.state = disturbed(opened.state, self._now())
            opened.next_s = settled_at_s(opened.state)
            return
        _log.warning("a title of a watched folder is not published: %s", error.code)
        obstacle = Obstacle(error.code, "", error.message)
        if isinstance(error, BadInput):
            await self._block(key, title, look, obstacle)
            return
        await self._remember(replace(title, obstacle=obstacle))
        opened.next_s = self._now() + RETRY_S

    async def _block(self, key: str, title: Title, look: Look, obstacle: Obstacle) -> None:
        """Publish nothing of a title until it changes, and say why."""
        self._blocked[key] = look.likeness
        await self._remember(replace(title, obstacle=obstacle))
        del self._open[key]

    async def _vanished(self, title: Title) -> None:
        """A title is not there any more: its item stays, its obstacle is none."""
        self._blocked.pop(title.key, None)
        if title.item is None and not (title.ticked and self._folders[title.folder].own):
            self._titles.pop(title.key, None)
            await self._store.set_marks(title.no_mark())
        else:
            await self._remember(replace(title, obstacle=None))

    async def _remember(self, title: Title) -> None:
        if self._titles.get(title.key) != title:
            self._titles[title.key] = title
            await self._store.set_marks(title.mark())

    def _waits(self, opened: _Open, *, busy: bool = False, harmed: bool = False) -> bool:
        """Let what was found out late count; whether the title must wait for it."""
        state = opened.state
        if state is None:
            return False
        glimpse: Glimpse = replace(state.glimpse, busy=busy, harmed=harmed)
        opened.state = replace(state, glimpse=glimpse)
        if is_settled(opened.state, opened.looked_s):
            return False
        opened.next_s = settled_at_s(opened.state)
        return True

    # --- the brake ----------------------------------------------------------------------------------------------------

    async def _is_held(
        self, key: str, opened: _Open, look: Look, before: Title | None, notes: Mapping[str, FileNote]
    ) -> bool:
        """Whether the brake keeps a settled title from being published; pulls it if this is the moment."""
        if self._meant.get(key) == look.likeness:
            opened.changes = {}
            return False
        opened.changes = await self._taken(opened) if before is None else await changes_of(self._agent, look, notes)
        opened.likeness = look.likeness
        if self._brake is not None and self._brake.holds:
            await self._tell_too(key, opened, look, notes)
            opened.next_s = math.inf  # until the next `wake`
            return True
        if looks_harmed(opened.changes, len(notes)):
            if self._waits(opened, harmed=True):
                return True
        elif any(other.state is not None and other.state.glimpse.harmed for other in self._open.values()):
            opened.next_s = self._now() + QUIET_S  # nothing else either, a demand for ransom least of all
            return True
        if opened.changes and self._pulls(opened, notes):
            opened.changes = await truly_changed(look, notes, opened.changes)
            if self._pulls(opened, notes):
                await self._pull()
                opened.next_s = math.inf
                return True
        return False

    def _pulls(self, opened: _Open, notes: Mapping[str, FileNote]) -> bool:
        """Whether it is too much; of what nobody was told while something was let through, any harm is."""
        return self._burst() or (self._brake is not None and looks_harmed(opened.changes, len(notes)))

    async def _tell_too(self, key: str, opened: _Open, look: Look, notes: Mapping[str, FileNote]) -> None:
        """Have the brake that holds say what was found in one more title: who lets it through knows of it."""
        brake = self._brake
        if brake is None or not opened.changes or brake.found.get(key) == look.likeness:
            return
        if key not in brake.found and len(brake.found) >= MAX_FOUND:
            return
        opened.changes = await truly_changed(look, notes, opened.changes)
        stored = await Brake.read(self._store)
        # who has let it through while this was looked at was not told of it, and what they were told is let through
        if opened.changes and stored is not None and stored.holds:
            known = self._titles.get(key) or Title(opened.folder.id, opened.name, is_file=look.is_file)
            self._brake = brake.with_more(key, look.likeness, known.shown, len(opened.changes))
            await self._store.set_marks(self._brake.mark())

    async def _taken(self, opened: _Open) -> dict[str, Change]:
        """The files of a title that has just gone, if this new one has its name and one more extension."""
        folder = opened.folder
        published = [title for title in self._titles.values() if title.folder == folder.id and title.item is not None]
        for title in published:
            if is_disguise(opened.name, title.name) and not await asyncio.to_thread(_is_there, folder, title):
                return dict.fromkeys(await notes_of(self._agent, title), Change.SCRAMBLED)
        return {}

    def _burst(self) -> bool:
        """Whether what was found in all titles, and was published lately, pulls the brake."""
        return is_burst(dict(self._found()).values(), sum(title.files for title in self._titles.values()))

    def _found(self) -> Iterator[tuple[tuple[str, str], Change]]:
        since_s = self._now() - WINDOW_S
        self._published = [one for one in self._published if one[0] >= since_s]
        for _, key, path, change in self._published:
            yield (key, path), change
        for key, opened in self._open.items():
            for path, change in opened.changes.items():
                yield (key, path), change

    async def _pull(self) -> None:
        found = dict(self._found())
        keys = {key for key, _ in found}
        names = sorted({title.shown for key, title in self._titles.items() if key in keys})
        as_found = {key: opened.likeness for key, opened in self._open.items() if opened.changes}
        self._brake = Brake(self._agent.now_ms(), len(found), tuple(names), found=as_found)
        await self._store.set_marks(self._brake.mark())
        _log.warning("publishing from watched folders is paused: %d published files were rewritten or lost", len(found))

    async def _release_brake(self) -> None:
        """Once all that a person has let through is published, the brake watches again."""
        if self._brake is None or not self._brake.let_through:
            return
        if not self._open or self._now() - self._let_through_s > WINDOW_S:
            self._brake = None
            self._meant.clear()
            self._published.clear()
            await self._store.set_marks({BRAKE_MARK: None})


def _make(place: Path) -> None:
    """Make a space's folder; what stands in the way is found out by whoever looks for the folder."""
    try:
        make_folder(place)
    except OSError as reason:
        _log.warning("a folder in DIR/publish cannot be made: %s", reason.strerror)


def _is_there(folder: WatchedFolder, title: Title) -> bool:
    return (folder.place / title.name).exists()
