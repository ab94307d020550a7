"""A replica whose database is damaged: moved aside, made anew from what is readable anywhere (R4, R8).

Rules:
- a damaged database is never written to again: it lies in `damaged/database-N`, and stays there until something is let
  go of for good that it may hold (`ContentStore.forget_damaged`); one that somebody has deleted is known by what lies
  beside it, and is made anew as well;
- what can be read in it (`salvage`) goes through the ordinary door into a new one; what waits for something that was
  lost waits in quarantine; marks come back except those that speak of the old order of arrival, or of content found
  whole;
- what the owner keeps beside the database (`second_copy`) is taken in first: what introduces it, what nobody else has;
- whole packs belong again to the spaces whose entries name what they hold; others remain parts, so that the next sync
  has them without a download;
- what was lost comes back by reconciliation: without cursors the ranges of both sets are compared, both ways;
- `rebuilding` names what is read from until all of it is in the new database: a crash in between begins again;
- that entries may have been lost is noted with that, for whoever goes by what this store once held (docs/adr/0350).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from protocol.clock import milliseconds_of
from protocol.errors import Code, LocalFailure
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import CLOCK_MARK, Replica
from protocol.replica.content.kept.pack_files import DAMAGED
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.disk import Disk
from protocol.replica.interfaces import COMPLETE_MARKS, Damage, EntryStore
from protocol.replica.office.made_anew import LOST_MARK
from protocol.replica.private_file import remove_private, write_private
from protocol.replica.storage.database import SUSPECT
from protocol.replica.storage.salvage import Salvage, salvage
from protocol.replica.storage.second_copy import SecondCopy
from protocol.replica.storage.sqlite import DATABASE, SqliteStore

NOTE: Final = f"{DATABASE}.rebuilding"
REBUILT_MARK: Final = "rebuilt"
"""→ 8 bytes of ms: when the database was last made anew, until `doctor` and `verify` need not say so any more."""
SOURCE: Final = b"salvage"
_BATCH: Final = 2_000
_BESIDE: Final = ("", "-wal", "-shm")
_TIME_BYTES: Final = 8
_BLANK: Final = b"\1"

_log = logging.getLogger(__name__)

KeepMark: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Opened:
    """The three parts of a replica on disk; `rebuilt` says how many entries came out of a damaged database."""

    store: SqliteStore
    content: PackFolder
    replica: Replica
    rebuilt: int | None = None

    async def close(self) -> None:
        """Let go."""
        await self.replica.close()


@dataclass(frozen=True, slots=True)
class Loss:
    """When (ms) entries were lost, or may have been; `is_blank` if nothing of what the store had noted could be read.

    Each loss of a store has a time of its own.
    """

    at_ms: int
    is_blank: bool = False


async def open_or_rebuild(
    folder: Path,
    root: bytes,
    *,
    beside: Sequence[SecondCopy],
    keep_mark: KeepMark,
    unsent: bool,
    now_ms: Callable[[], int],
) -> Opened:
    """The replica in `folder`, made anew if its database is damaged.

    `beside` are the copies to take in first; `keep_mark` says which marks are still true over another order of
    arrival; with `unsent` the packs that are taken back are offered to the server again. Raises `LocalFailure`.
    """
    note = folder / NOTE
    if not note.is_file():
        if (folder / DATABASE).exists() or not any(copy.exists() for copy in beside):
            try:
                return await _open(folder, root, keep_mark, now_ms)
            except LocalFailure as failure:
                if failure.code is not Code.DAMAGED or "sqlite" not in failure.facts:
                    raise
        await asyncio.to_thread(_set_aside, folder)
    try:
        opened = await _open(folder, root, keep_mark, now_ms)
    except LocalFailure as failure:
        if failure.code is not Code.DAMAGED or "sqlite" not in failure.facts:
            raise
        # what is new is damaged as well: both are read from
        await asyncio.to_thread(_set_aside, folder)
        opened = await _open(folder, root, keep_mark, now_ms)
    try:
        entries = await _refill(folder, opened, beside, keep_mark, unsent=unsent, now_ms=now_ms)
        await asyncio.to_thread(remove_private, note)
        _log.warning("the database was damaged and has been made anew: %d entries could be read", entries)
    except BaseException:
        await opened.close()
        raise
    return Opened(opened.store, opened.content, opened.replica, entries)


async def put_right(store: EntryStore, keep_mark: KeepMark, now_ms: int) -> list[Damage]:
    """Move bad entries aside; where some went, nobody's word counts any more that all entries are here."""
    damages = await store.verify()
    if damages:
        gone = {mark: None for mark in await store.marks("") if not keep_mark(mark)}
        await store.set_marks({**gone, **await _loss(store, now_ms)})
    return damages


async def last_loss(store: EntryStore) -> Loss | None:
    """The last time that entries were lost here, or may have been; None for a store that is whole."""
    noted = await store.mark(LOST_MARK)
    return None if noted is None else Loss(int.from_bytes(noted[:_TIME_BYTES], "big"), noted[_TIME_BYTES:] != b"")


async def _loss(store: EntryStore, now_ms: int, *, is_blank: bool = False) -> dict[str, bytes | None]:
    """The mark that says so: later than all that was here, though a clock begins anew with a power cut."""
    last, before = await store.mark(CLOCK_MARK) or b"", await last_loss(store)
    at_ms = max(now_ms, milliseconds_of(int.from_bytes(last, "big")))
    if before is not None:
        at_ms, is_blank = max(at_ms, before.at_ms + 1), is_blank or before.is_blank
    return {LOST_MARK: at_ms.to_bytes(_TIME_BYTES, "big") + (_BLANK if is_blank else b"")}


async def _open(folder: Path, root: bytes, keep_mark: KeepMark, now_ms: Callable[[], int]) -> Opened:
    for is_last in (False, True):
        try:
            return await _open_once(folder, root, keep_mark, now_ms)
        except LocalFailure as failure:
            # an entry that no opening can do without is damaged: under suspicion now, it is moved aside
            if is_last or failure.code is not Code.DAMAGED or "sqlite" in failure.facts:
                raise
    raise AssertionError


async def _open_once(folder: Path, root: bytes, keep_mark: KeepMark, now_ms: Callable[[], int]) -> Opened:
    is_suspect = (folder / f"{DATABASE}{SUSPECT}").is_file()
    store = await SqliteStore.open(folder)
    try:
        if is_suspect:
            await put_right(store, keep_mark, now_ms())
        content = await PackFolder.open(folder, store)
        replica = await Replica.open(root, store, content)
        store.roots = lambda: replica.door.roots
        return Opened(store, content, replica)
    except BaseException:
        # the connection's thread would keep the process from ending
        await store.close()
        raise


def _set_aside(folder: Path) -> None:
    """Note where the damaged database will lie, then move it there."""
    note, disk = folder / NOTE, Disk(folder)
    known = _noted(folder)
    number = next(n for n in range(1, 1 << 30) if not (folder / DAMAGED / f"database-{n}").exists())
    aside = f"{DAMAGED}/database-{number}"
    disk.make_folder(aside)
    write_private(note, "\n".join([*known, aside]).encode())
    moves = [(f"{DATABASE}{end}", f"{aside}/{DATABASE}{end}") for end in _BESIDE[::-1]]
    disk.rename_all([move for move in moves if (folder / move[0]).exists()])
    disk.remove(f"{DATABASE}{SUSPECT}")


def _noted(folder: Path) -> list[str]:
    note = folder / NOTE
    return note.read_text(encoding="utf-8").split("\n") if note.is_file() else []


async def _refill(
    folder: Path,
    opened: Opened,
    beside: Sequence[SecondCopy],
    keep_mark: KeepMark,
    *,
    unsent: bool,
    now_ms: Callable[[], int],
) -> int:
    """Put into the new database what the old ones give, and what lies beside; the number of entries."""
    count = 0
    files = [folder / aside / DATABASE for aside in _noted(folder)]
    reads: list[Callable[[], Salvage]] = [
        *(copy.read for copy in beside),
        *(partial(_salvaged, file) for file in files if file.is_file()),
    ]
    is_blank = True
    for read in reads:
        found = await asyncio.to_thread(read)
        is_blank = is_blank and not found.marks
        count += await _admit(opened.replica, found.entries, now_ms(), unsent=unsent)
        await opened.store.put_registers(found.registers)
        await opened.store.set_marks({key: value for key, value in found.marks.items() if _stays(key, keep_mark)})
    await opened.replica.reload()
    await _take_back_packs(opened, unsent=unsent)
    at_ms = now_ms()
    rebuilt = {REBUILT_MARK: at_ms.to_bytes(_TIME_BYTES, "big")}
    await opened.store.set_marks({**rebuilt, **await _loss(opened.store, at_ms, is_blank=is_blank)})
    return count


def _salvaged(file: Path) -> Salvage:
    try:
        return salvage(file)
    except OSError as reason:
        raise LocalFailure(Code.STORAGE_FAILED, f"{file} cannot be read: {reason.strerror}", path=str(file)) from reason


def _stays(key: str, keep_mark: KeepMark) -> bool:
    return keep_mark(key) and not key.startswith(COMPLETE_MARKS)


async def _admit(replica: Replica, entries: tuple[Entry, ...], now_ms: int, *, unsent: bool) -> int:
    """Let entries in, in their order; the number of those that came in."""
    count = 0
    for start in range(0, len(entries), _BATCH):
        admission = await replica.admit(entries[start : start + _BATCH], source=SOURCE, now_ms=now_ms, unsent=unsent)
        count += len(admission.admitted) + len(admission.released)
    return count


async def _take_back_packs(opened: Opened, *, unsent: bool) -> None:
    """Make whole packs visible in the spaces whose entries, lists of files and chunks name what they hold."""
    rebuild = opened.content.rebuild()
    await rebuild.take_in_parts()
    await rebuild.look_at_entries(opened.store, opened.content)
    await rebuild.give_homes(unsent=unsent)
