"""DIR/coursework/<space>/<title>/: the coursework of this device as ordinary files, for any application.

Rules (docs/adr/0014):
- a title shows the newest revision that is here as a whole, of a conflict the head that is shown everywhere; withdrawn
  items are not there;
- news are looked for in the store alone; the disk is looked through when `run` starts, now and then after, and by a
  one-shot `sync`, while it waits for the server. What lies there and a note of what was written decide together, so
  that a crash at any moment, or a copied DIR, leads to the same tree;
- files that two revisions share are not written again;
- what a person wrote there stays, under a dated name where it stands in the way of what is published, and is never
  published from there. A fresh edit is left in peace until a new revision comes;
- a full disk ends the work before it is full, and is told by `status` and `doctor`: what a copy takes is reckoned from
  the list of files itself, in whole blocks, and looked at again while it is written and after. Where less is free than
  this tree leaves, copies make way by themselves (docs/adr/0259); a title that does not fit is passed over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from protocol.clock import DAY_MS
from protocol.errors import NO_ROOM, Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.limits import MiB
from sync_agent.app import Agent
from sync_agent.coursework.copies_room import MIN_BLOCK_BYTES, Taken, making_way, taken
from sync_agent.coursework.file_notes import FileNote, decode_notes, encode_notes
from sync_agent.coursework.folder import (
    Lying,
    NewFile,
    Notes,
    TitleFolder,
    clear_ours,
    folders_above,
    look_through,
    make_durable,
    put_away,
    remove_drafts,
    remove_ours,
    tag_of,
    write_files,
)
from sync_agent.coursework.reading import need_of, readable_version
from sync_agent.coursework.rules import Wanted, wanted_files
from sync_agent.coursework.space_folders import (
    COURSEWORK_FOLDER,
    coursework_folders,
    remembered_folder,
    remembered_folders,
)
from sync_agent.coursework.titles import Shown, Title, named, noted
from sync_agent.coursework.tree_room import NoRoom, TreeRoom
from sync_agent.machine.marks import TREE_FILES_MARKS, TREE_MARKS, TREE_TROUBLE_MARK
from sync_agent.machine.plain_files import is_real_folder
from sync_agent.machine.write_behind import Behind
from sync_agent.pacing.resting import Rest
from sync_agent.scheduler import wait

THOROUGH_S: Final = 600.0
RETRY_S: Final = 60.0
EDIT_QUIET_MS: Final = 300_000
RESERVE_BYTES: Final = 256 * MiB
"""What this tree leaves free of the disk: the store and people's work come first."""
_AT_ONCE_BYTES: Final = MiB
_AT_ONCE_FILES: Final = 128
_MARKED_FILES: Final = 256
_SEEN_FILES: Final = 20_000
_NEXT: Final = "/next"

_log = logging.getLogger(__name__)


async def _write_batch(title: Title, batch: Sequence[tuple[Wanted, NewFile]]) -> None:
    """Write files of a title in a thread, and note what they are like. Raises `OSError`."""
    states = await asyncio.to_thread(write_files, [new for _, new in batch], title.changed_ns)
    for (file, _), (size, changed_ns) in zip(batch, states, strict=True):
        title.notes[file.path] = FileNote(file.path, size, changed_ns, 0, file.stream)


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a title was found: all as it was noted."""

    shown: Shown
    known: list[Notes]
    lying: Mapping[str, Lying]


class Materializer:
    """See the module. `run` is its task; `wake` may be called from anywhere in the loop.

    For one command (`once`) no title is looked through twice unless it has changed, and where one file of it changes
    its folder only.
    """

    def __init__(self, agent: Agent, *, reserve_bytes: int = RESERVE_BYTES, once: bool = False) -> None:
        self._agent = agent
        self._store = agent.replica.store
        self._root = agent.folder.absolute() / COURSEWORK_FOLDER
        self._room = TreeRoom(agent, reserve_bytes, self._known)
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()
        self._trouble: tuple[Code, str] | None = None
        self._marks: dict[str, bytes | None] = {}
        self._places: list[Path] = []
        self._in_step: dict[bytes, Shown] | None = {} if once else None
        self._seen: dict[bytes, _Seen] = {}

    def wake(self) -> None:
        """Something may have arrived."""
        self._wanted.set()

    async def run(self) -> None:
        """Keep the tree in step until cancelled. Raises `LocalFailure` when the store must be opened again."""
        loop = asyncio.get_running_loop()
        thorough_s = loop.time()
        rest = Rest()
        while True:
            self._wanted.clear()
            began_s = loop.time()
            thorough = began_s >= thorough_s
            await self.refresh(thorough=thorough)
            # while much arrives, one piece after another, most of the time is left to what brings it
            rest, pause_s = rest.after(began_s, loop.time())
            await asyncio.sleep(pause_s)
            if thorough or self._trouble is not None:
                thorough_s = loop.time() + (THOROUGH_S if self._trouble is None else RETRY_S)
            await wait(self._wanted, max(0.0, thorough_s - loop.time()))

    async def refresh(self, *, thorough: bool, set_aside: bool = False) -> None:
        """Bring the tree in step once; `set_aside` gives even fresh edits their dated names.

        Raises `LocalFailure(STORAGE_FAILED)`; all other trouble is remembered for `status`.
        """
        async with self._turn:
            self._trouble = None
            try:
                await self._refresh(thorough=thorough, set_aside=set_aside)
            except LocalFailure as failure:
                if failure.code is Code.STORAGE_FAILED:
                    raise
                self._trouble = (failure.code, failure.message)
            finally:
                await self._as_far_as_there_is_room(self._settle())
            await asyncio.to_thread(remove_ours, self._root)
            await self._as_far_as_there_is_room(self._tell())

    async def _as_far_as_there_is_room(self, noting: Awaitable[None]) -> None:
        """Note something in the store; one that is full does so when there is room again."""
        try:
            await noting
        except LocalFailure as failure:
            if failure.code is not Code.DISK_FULL:
                raise
            self._trouble = (failure.code, _FULL_SENTENCE)

    async def ahead(self) -> None:
        """Look through what is known before a sync brings more, edits set aside; `refresh` then does the rest.

        Not before each space of which there is something has its folder: the names of others may be on their way.
        """
        items = await self._items(await self._agent.spaces())
        if {item.space for item in items.values()} <= (await remembered_folders(self._store)).keys():
            await self.refresh(thorough=True, set_aside=True)

    # --- all titles ---------------------------------------------------------------------------------------------------

    async def _refresh(self, *, thorough: bool, set_aside: bool) -> None:
        if thorough:
            await self._guarded(asyncio.to_thread(clear_ours, self._root))
        shown = await self._shown()
        here = await self._agent.spaces()
        items = await self._items(here)
        for gone in shown.keys() - items.keys() if here else ():
            await self._guarded(self._remove(gone, shown.pop(gone)))
        await self._make_way(shown)
        if thorough:
            await self._guarded(self._bring_home(shown))
        if not here:
            return  # no rights yet, or none any more: what is there stays readable
        complete = await self._complete(items.values())
        fits = await self._room.fitting(complete)
        for left_out in complete.keys() - fits:
            if left_out in shown:
                await self._guarded(self._remove(left_out, shown.pop(left_out)))
        self._agent.without_copies = len(complete) - len(fits)
        with_some = {items[one].space for one in fits}
        spaces = await coursework_folders(self._agent, [space for space in here if space in with_some])
        for item in items.values():
            version = complete.get(item.id)
            if version is None or item.id not in fits:
                continue
            before, now = shown.get(item.id), named(item, version, shown)
            was_seen = self._in_step is not None and self._in_step.get(item.id) == now
            if before != now or (thorough and not was_seen):
                if await self._room.is_known_to_lack_for(item.id, now):
                    self._trouble = (Code.DISK_FULL, _FULL_SENTENCE)
                    continue
                shown[item.id] = now
                place = self._root / spaces[item.space] / now.folder
                bringing = self._bring(item, version, before, now, place, set_aside=set_aside)
                await self._guarded(self._if_it_fits(item.id, now, bringing))
                await self._make_way(shown)

    async def _bring_home(self, shown: Mapping[bytes, Shown]) -> None:
        """What a crash left in .relais comes back, also of a title of which nothing can be brought in step now."""
        left = await asyncio.to_thread(put_away, self._root)
        for item, title in shown.items():
            if tag_of(item) in left:
                folder = TitleFolder(self._root, await self._place(title), tag_of(item))
                await self._guarded(asyncio.to_thread(folder.tidy, await self._known(item), {}, back=True))

    async def _shown(self) -> dict[bytes, Shown]:
        unwritten = {key: mark for key, mark in self._marks.items() if key.startswith(TREE_MARKS)}
        noted = await self._store.marks(TREE_MARKS) | unwritten
        marks = {key: mark for key, mark in noted.items() if mark is not None}
        read = {bytes.fromhex(key.removeprefix(TREE_MARKS)): Shown.read(data) for key, data in marks.items()}
        return {item: shown for item, shown in read.items() if shown is not None}

    async def _items(self, spaces: Iterable[bytes]) -> dict[bytes, Item]:
        """All items that are to be seen, those made first before others."""
        found = [
            item
            for space in spaces
            for item in (await self._agent.replica.view(space)).coursework.items.values()
            if not item.withdrawn
        ]
        oldest_first = sorted(found, key=lambda item: (min(one.at_ms for one in item.versions.values()), item.id))
        return {item.id: item for item in oldest_first}

    async def _complete(self, items: Iterable[Item]) -> dict[bytes, Version]:
        """The newest version of each item that is here as a whole; items that have none are not in it."""
        items = list(items)
        here = await self._agent.holdings.complete([need_of(item, item.shown) for item in items])
        found: dict[bytes, Version] = {}
        for item in items:
            if need_of(item, item.shown) in here:
                found[item.id] = item.shown
                continue
            version = await readable_version(self._agent, item) if len(item.versions) > 1 else None
            if version is not None:
                found[item.id] = version
        return found

    # --- room on the disk ---------------------------------------------------------------------------------------------

    async def _make_way(self, shown: dict[bytes, Shown]) -> None:
        """Where less is free than this tree leaves, let copies go: they are made again once there is room."""
        lacking = (await self._room.left()).lacking
        if lacking.is_nothing or not shown:
            return
        takes, used_ms = {}, {}
        for item, title in shown.items():
            notes = {path: note for known in await self._known(item) for path, note in known.items()}
            if not notes:
                continue  # it has no copy: it waits for room itself
            takes[item] = taken((note.size for note in notes.values()), folders_above(notes), MIN_BLOCK_BYTES)
            at_ms = max(note.changed_ns for note in notes.values()) // 10**6
            used_ms[item] = max(at_ms, await self._agent.opened_ms(title.stream))
        going = making_way(takes, used_ms, lacking)
        if going:
            _log.info("%d readable copies make way: the disk is nearly full", len(going))
        for item in going:
            await self._guarded(self._remove(item, shown.pop(item)))
        await self._settle()
        self._trouble = (Code.DISK_FULL, _FULL_SENTENCE)

    async def _if_it_fits(self, item: bytes, now: Shown, bringing: Awaitable[None]) -> None:
        """Bring one title; one for which there is no room is remembered, and passed over."""
        try:
            await self._room.brought(item, now, bringing)
        except NoRoom:
            self._trouble = (Code.DISK_FULL, _FULL_SENTENCE)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do one title's work; what the disk does not let happen now is tried again later, a full disk ends all."""
        try:
            await work
        except LocalFailure as failure:
            if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                raise
            self._trouble = (failure.code, failure.message)
        except OSError as reason:
            if reason.errno in NO_ROOM:
                raise LocalFailure(Code.DISK_FULL, _FULL_SENTENCE) from reason
            _log.warning("a title of DIR/coursework could not be written: %s", reason.strerror)
            self._trouble = (Code.STORAGE_FAILED, f"a title could not be written: {reason.strerror}")

    # --- one title ----------------------------------------------------------------------------------------------------

    async def _bring(
        self, item: Item, version: Version, before: Shown | None, now: Shown, place: Path, *, set_aside: bool
    ) -> None:
        """Bring one title in step with a version."""
        now_ms = self._agent.now_ms()
        at_ms = version.at_ms if version.at_ms < now_ms + DAY_MS else now_ms
        seen = self._seen.pop(item.id, None)
        if seen is not None and (
            seen.shown != before or (seen.shown.space, seen.shown.folder) != (now.space, now.folder)
        ):
            seen = None
        known = await self._known(item.id) if seen is None else seen.known
        title = Title(item.id, TitleFolder(self._root, place, tag_of(item.id)), known, at_ms * 10**6)
        if before is not None and (before.space, before.folder) != (now.space, now.folder):
            await self._move(title, before, now)
        await asyncio.to_thread(title.folder.tidy, title.known, {}, back=True)
        if before == now:
            await self._look(title)
            if title.is_as_noted():
                self._note_in_step(item.id, now)
                self._note_seen(item.id, _Seen(now, title.known, title.lying))
                return
        title.wanted = wanted_files(await self._agent.holdings.manifest(now.stream))
        if seen is None or not await self._look_at_one(title, seen.lying):
            await self._look(title)
        same = before is not None and before.stream == now.stream
        if (same and title.fresh()) or len(title.stale()) + len(title.extra()) <= 1:
            await self._in_place(title, leave_after_ms=now_ms - EDIT_QUIET_MS if same and not set_aside else None)
        else:
            await self._exchange(title)
        self._places += title.places
        keys = TREE_FILES_MARKS + item.id.hex()
        self._marks |= {
            TREE_MARKS + item.id.hex(): now.encode(),
            keys: encode_notes(title.notes.values()),
            keys + _NEXT: None,
        }
        self._note_in_step(item.id, now)
        if len(self._places) >= _MARKED_FILES:
            await self._settle()

    async def _move(self, title: Title, before: Shown, now: Shown) -> None:
        """Give the folder of a title its new name, by way of .relais, where it is known by the title itself.

        The new name is noted while the folder lies there. So wherever this ends, by a crash or for want of room, what
        is noted leads to what lies there: it is found again when the title makes way, is withdrawn or erased.
        """
        await self._settle()
        former = TitleFolder(self._root, await self._place(before), tag_of(title.item))
        await asyncio.to_thread(former.put_away, title.known)
        try:
            moved = replace(now, stream=before.stream).encode()
            await self._store.set_marks({TREE_MARKS + title.item.hex(): moved})
        except LocalFailure as failure:
            if failure.code is Code.DISK_FULL:  # nothing is noted: it keeps its name for now
                await asyncio.to_thread(former.tidy, title.known, {}, back=True)
            raise

    def _note_in_step(self, item: bytes, now: Shown) -> None:
        if self._in_step is not None:
            self._in_step[item] = now

    def _note_seen(self, item: bytes, seen: _Seen) -> None:
        """Remember how a title was found, for as long as a command lasts and as far as that is little."""
        if self._in_step is not None and sum(len(one.lying) for one in self._seen.values()) < _SEEN_FILES:
            self._seen[item] = seen

    async def _look_at_one(self, title: Title, lying: Mapping[str, Lying]) -> bool:
        """Where a single file is to change of what lay there a moment ago, look at its folder; False for more."""
        title.lying = lying
        touched = [*(file.path for file in title.stale()), *(file.path for file in title.extra())]
        if len(touched) > 1:
            return False
        await self._look(title, folders_above(touched))
        return len(title.stale()) + len(title.extra()) <= 1

    async def _look(self, title: Title, within: frozenset[str] | None = None) -> None:
        place = title.folder.place
        if await asyncio.to_thread(is_real_folder, place):
            found = await asyncio.to_thread(look_through, place, title.known, title.wanted, within)
            others = (
                {} if within is None else {path: one for path, one in title.lying.items() if one.folder not in within}
            )
            title.lying = others | found
        else:
            title.lying = {}

    async def _in_place(self, title: Title, leave_after_ms: int | None) -> None:
        """Change single files where they lie. Edits made after `leave_after_ms` are left for now."""
        title.notes = noted(title.fresh())
        stale = title.stale()
        lying = folders_above(title.lying) if title.lying else frozenset()
        needed = await self._room.check(stale, folders_above(file.path for file in stale) - lying)
        writing = []
        for file in stale:
            edit = title.lying.get(file.path)
            edited = edit is not None and edit.stream is None
            if edit and edited and leave_after_ms is not None and leave_after_ms < edit.changed_ns // 10**6:
                for notes in title.known:
                    if file.path in notes:
                        title.notes[file.path] = notes[file.path]
                continue
            writing.append((file, title.folder.draft()))
        try:
            await self._write(title, writing, needed)
            await self._foretell(title)
        except BaseException:
            await asyncio.to_thread(remove_drafts, [draft for _, draft in writing])
            raise
        for file, draft in writing:
            await asyncio.to_thread(title.folder.put, draft, file.path, title.lying.get(file.path))
        title.places = [title.folder.place / file.path for file, _ in writing]
        for extra in title.extra():
            await asyncio.to_thread(title.folder.take_away, extra)

    async def _exchange(self, title: Title) -> None:
        """Build the version beside, and let it take the place of what lies there."""
        folder = title.folder
        stale = title.stale()
        needed = await self._room.check(stale, folders_above(title.wanted))
        await asyncio.to_thread(folder.begin)
        try:
            title.notes = noted(title.fresh())
            await asyncio.to_thread(folder.keep, title.fresh())
            await self._write(title, [(file, folder.fresh / file.path) for file in stale], needed)
            await self._foretell(title)
            await asyncio.to_thread(folder.exchange, [*title.known, title.notes], title.wanted)
            title.places = [folder.place / file.path for file in stale]
        except BaseException:
            await asyncio.to_thread(folder.drop)
            raise

    async def _foretell(self, title: Title) -> None:
        """Note what is about to lie there beside what lies there, so that a crash in between makes nobody's edits."""
        before = title.known[0]
        if TREE_FILES_MARKS + title.item.hex() in self._marks:
            await self._settle()  # what is foretold goes by it
        if before:
            notes = encode_notes(note for path, note in title.notes.items() if before.get(path) != note)
            await self._store.set_marks({f"{TREE_FILES_MARKS}{title.item.hex()}{_NEXT}": notes})

    async def _remove(self, item: bytes, shown: Shown) -> None:
        """Take a title away that is withdrawn, erased, or not for this device any more."""
        folder = TitleFolder(self._root, await self._place(shown), tag_of(item))
        await asyncio.to_thread(folder.remove, await self._known(item))
        keys = TREE_FILES_MARKS + item.hex()
        self._marks |= {TREE_MARKS + item.hex(): None, keys: None, keys + _NEXT: None}

    async def _known(self, item: bytes) -> list[Notes]:
        keys = TREE_FILES_MARKS + item.hex()
        return [decode_notes(await self._mark(key)) for key in (keys, keys + _NEXT)]

    async def _mark(self, key: str) -> bytes | None:
        """What is noted, also where the store had no room for it yet."""
        return self._marks[key] if key in self._marks else await self._store.mark(key)

    async def _place(self, shown: Shown) -> Path:
        return self._root / (await remembered_folder(self._store, shown.space) or "?") / shown.folder

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _write(self, title: Title, files: Sequence[tuple[Wanted, Path]], needed: Taken) -> None:
        """Write files from the store to these places; notes what they are like."""
        writing = Behind()
        try:
            async for _ in self._read_out(title, files, writing):
                await self._room.look_again(needed)
            await writing.settle()
            await self._room.look_again(needed)
        finally:
            await writing.leave()

    async def _read_out(
        self, title: Title, files: Sequence[tuple[Wanted, Path]], writing: Behind
    ) -> AsyncGenerator[None, None]:
        """Read and check one batch of files while the one before is written; a turn for each."""
        batch: list[tuple[Wanted, NewFile]] = []
        gathered = 0
        for file, place in files:
            parts: list[bytes] = []
            begun = False
            async with aclosing(self._pieces(file)) as pieces:
                async for piece in pieces:
                    parts.append(piece)
                    gathered += len(piece)
                    if gathered >= _AT_ONCE_BYTES:
                        batch.append((file, NewFile(place, tuple(parts), append=begun)))
                        await writing.begin(_write_batch(title, batch))
                        batch, parts, gathered, begun = [], [], 0, True
                        yield
            batch.append((file, NewFile(place, tuple(parts), append=begun)))
            if len(batch) >= _AT_ONCE_FILES:
                await writing.begin(_write_batch(title, batch))
                batch, gathered = [], 0
                yield
        if batch:
            await writing.begin(_write_batch(title, batch))

    async def _pieces(self, file: Wanted) -> AsyncGenerator[bytes, None]:
        if file.data is not None:
            yield file.data
            return
        async with aclosing(self._agent.holdings.read_checked(file.stream)) as pieces:
            async for piece in pieces:
                yield piece

    async def _settle(self) -> None:
        """Make what was written durable, then what is noted of it."""
        places, self._places = self._places, []
        if self._marks:
            await asyncio.to_thread(make_durable, places)
            marks = dict(self._marks)
            await self._store.set_marks(marks)
            self._marks = {key: mark for key, mark in self._marks.items() if marks.get(key) != mark}

    async def _tell(self) -> None:
        """Remember the trouble for `status`, if it is not what is remembered."""
        told = None if self._trouble is None else f"{self._trouble[0].value}\n{self._trouble[1]}".encode()
        if told != await self._store.mark(TREE_TROUBLE_MARK):
            await self._store.set_marks({TREE_TROUBLE_MARK: told})


_FULL_SENTENCE: Final = (
    "there is too little room on this disk for the readable copies in “coursework”; the lessons themselves are here"
)
