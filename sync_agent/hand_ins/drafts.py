"""Work that a pupil has begun on this machine and not handed in: kept per pupil and assignment, sealed, and only here.

Rules:
- a draft never leaves the machine, and is no entry; the last one kept takes the place of the one before; the portal
  puts the files of that into it (`files/joined.py`);
- its bytes, and the names of its files, lie in DIR/drafts under a name drawn at random, sealed with a key that lies in
  a mark of the store, sealed itself (`machine.key_slots`); without it they are noise, wherever on the disk they are,
  and go at the next look;
- who was added twice finds again what was begun under the other id, if both came to this machine under one name: a list
  that calls two pupils one may be a thief's, and gives nobody another's draft (docs/adr/0180);
- bounded in bytes and in number, and leaves alone what the disk keeps for rights (docs/adr/0260);
- handing in takes it away, and an erasure of its pupil, of what it is for, or of the class, once that is carried out.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, RelaisError, disk_fault
from protocol.fields import Fields
from protocol.limits import MiB
from protocol.model.entry import Entry
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart, Incoming
from protocol.replica.office.people import only_names
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.rights.roster import Roster
from protocol.trust.sealing import CONTENT_KEY_BYTES, SealedFile, SealReader, SealWriter
from sync_agent.app import Agent
from sync_agent.hand_ins.file_names import Names, names_at_head
from sync_agent.machine.key_slots import MAX_MARK_BYTES, SEALED_KEY_BYTES
from sync_agent.machine.marks import DRAFT_MARKS

FOLDER: Final = "drafts"
MAX_DRAFT_BYTES: Final = 256 * MiB
MAX_DRAFTS: Final = 500

_BEING_WRITTEN: Final[set[str]] = set()
_NAME_BYTES: Final = 16
_LENGTH_BYTES: Final = 4
_MAX_CHUNK_BYTES: Final = 70_000
_UNREADABLE: Final = "what was kept for later cannot be read any more"


@dataclass(frozen=True, slots=True)
class Kept:
    """A draft: the sealed key, the file with its bytes, when it was kept."""

    sealed_key: bytes
    name: str
    at_ms: int

    @classmethod
    def parse(cls, mark: bytes) -> Self | None:
        """From a mark; None for what cannot be read."""
        try:
            fields = Fields(decode(mark, max_bytes=MAX_MARK_BYTES), "a draft")
            name = fields.octets("name", _NAME_BYTES).hex()
            return cls(fields.octets("sealed", SEALED_KEY_BYTES), name, fields.count("at"))
        except PeerFault:
            return None

    def encode(self) -> bytes:
        """To a mark."""
        return encode({"sealed": self.sealed_key, "name": bytes.fromhex(self.name), "at": self.at_ms})


class Drafts:
    """The drafts of one machine."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._folder = agent.folder / FOLDER

    async def ids_of(self, person: bytes, roster: Roster) -> list[bytes]:
        """Under which ids a pupil's drafts are looked for, their own first."""
        others = sorted(other for other, one in roster.aliases.items() if one == person)
        called = await only_names(self._agent.replica, [person, *others]) if others else {}
        return [person, *(one for one in others if one in called and called[one] == called.get(person))]

    async def find(self, person: bytes, item: bytes) -> Kept | None:
        """What a pupil has begun for an assignment."""
        mark = await self._agent.replica.store.mark(_mark(person, item))
        return None if mark is None else Kept.parse(mark)

    async def begun_by(self, person: bytes, item: bytes, roster: Roster) -> tuple[bytes, Kept] | None:
        """What a pupil has begun for an assignment, and under which of their ids that is kept."""
        for each in await self.ids_of(person, roster):
            if (kept := await self.find(each, item)) is not None:
                return each, kept
        return None

    def opens(self, kept: Kept) -> bool:
        """Whether a draft can be read as far as its key goes: else that is lost, or cannot be read for now."""
        return self._agent.key_slots.open(kept.sealed_key) is not None

    async def begun(self, person: bytes) -> set[bytes]:
        """The assignments that a pupil has begun."""
        prefix = f"{DRAFT_MARKS}{person.hex()}/"
        return {bytes.fromhex(key.removeprefix(prefix)) for key in await self._agent.replica.store.marks(prefix)}

    async def keep(self, person: bytes, item: bytes, files: Sequence[tuple[str, int]], incoming: Incoming) -> None:
        """Keep these files, durably. Raises `BadInput` (NOTHING_TO_SEND, FILE_TOO_LARGE …), `LocalFailure`."""
        if sum(size for _, size in files) > MAX_DRAFT_BYTES:
            raise BadInput(Code.FILE_TOO_LARGE, "this is too much to be kept for later; hand it in")
        store = self._agent.replica.store
        before = await self.find(person, item)
        if before is None and len(await store.marks(DRAFT_MARKS)) >= MAX_DRAFTS:
            raise LocalFailure(Code.DISK_FULL, "too many drafts are kept on this machine already")
        key, name = self._agent.entropy(CONTENT_KEY_BYTES), self._agent.entropy(_NAME_BYTES).hex()
        place = self._folder / name
        _BEING_WRITTEN.add(name)
        try:
            writer = SealWriter(key, [SealedFile(path, size) for path, size in files])
            from sync_agent.hand_ins.handing_in import sealed_chunks  # noqa: PLC0415 — only who keeps a draft seals

            await self._write(place, sealed_chunks(writer, files, incoming))
        except BaseException:
            await asyncio.to_thread(place.unlink, missing_ok=True)
            _BEING_WRITTEN.discard(name)
            raise
        try:
            async with self._agent.noting_drafts, self._agent.key_slots.sealing(key) as sealed:
                before = await self.find(person, item)
                made = Kept(sealed, name, self._agent.now_ms())
                # whoever is cut off here may have set the mark all the same: bytes without one go at the next look
                await store.set_marks({_mark(person, item): made.encode()})
        finally:
            _BEING_WRITTEN.discard(name)
        if before is not None:
            await self._agent.key_slots.give_up([before.sealed_key])
            await asyncio.to_thread((self._folder / before.name).unlink, missing_ok=True)

    async def drop(self, person: bytes, item: bytes, only: Kept | None = None) -> None:
        """Forget a draft, if there is one; with `only`, if it is still that one."""
        async with self._agent.noting_drafts:
            kept = await self.find(person, item)
            if only is not None and kept != only:
                return
            if kept is not None:
                await self._agent.key_slots.give_up([kept.sealed_key])
            await self._agent.replica.store.set_marks({_mark(person, item): None})
        if kept is not None:
            await asyncio.to_thread((self._folder / kept.name).unlink, missing_ok=True)

    async def files_of(self, kept: Kept) -> Names:
        """Path and size of each file of a draft. Raises `LocalFailure(DAMAGED)`."""
        key = self._key(kept)
        try:
            return await names_at_head(self._chunks(self._folder / kept.name), key)
        except (OSError, RelaisError) as reason:
            raise LocalFailure(Code.DAMAGED, _UNREADABLE) from reason

    async def incoming(self, kept: Kept) -> AsyncGenerator[FileEvent, None]:
        """The files of a draft, as a command takes them. Raises `LocalFailure(DAMAGED)`."""
        reader, at = SealReader(self._key(kept)), -1
        try:
            async for chunk, last in self._chunks(self._folder / kept.name):
                for index, piece in reader.feed(chunk, last=last):
                    while at < index:
                        if at >= 0:
                            yield FileEnd()
                        at += 1
                        yield _start(reader, at)
                    yield FileData(piece)
            reader.finish()
        except (OSError, RelaisError) as reason:
            raise LocalFailure(Code.DAMAGED, _UNREADABLE) from reason
        while at < len(reader.files or ()) - 1:
            if at >= 0:
                yield FileEnd()
            at += 1
            yield _start(reader, at)
        yield FileEnd()
        yield Complete()

    async def sweep(self) -> None:
        """Take away the drafts of who, or for what, has been destroyed, and bytes that no mark knows.

        Not of who is only hidden, nor for what came as a header alone: that may be a thief's word, and be taken back.
        It goes by what was destroyed in their class: whoever has the server erases anybody in a school of its own.
        """
        store = self._agent.replica.store
        if not await self._agent.key_slots.seal_bare():
            return
        # before the marks: what is kept from here on is not among them, and stays
        lying = set(await asyncio.to_thread(self._lying)) - _BEING_WRITTEN
        marks = await store.marks(DRAFT_MARKS)
        destroyed = await DestroyedHere.of(self._agent.replica)
        whose = {key: _named(key) for key in marks}
        items = await store.get([item for _, item in whose.values()])
        gone = [key for key, (person, item) in whose.items() if _is_over(person, items.get(item), destroyed)]
        kept = {key: read for key, mark in marks.items() if (read := Kept.parse(mark)) is not None}
        await self._agent.key_slots.give_up([each.sealed_key for key, each in kept.items() if key in gone])
        await store.set_marks(dict.fromkeys(gone))
        known = {each.name for key, each in kept.items() if key not in gone}
        await asyncio.to_thread(self._remove, lying - known)

    def _key(self, kept: Kept) -> bytes:
        key = self._agent.key_slots.open(kept.sealed_key)
        if key is None:
            raise LocalFailure(Code.DAMAGED, _UNREADABLE)
        return key

    def _lying(self) -> list[str]:
        try:
            return [place.name for place in self._folder.iterdir()]
        except FileNotFoundError:
            return []

    def _remove(self, names: set[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    async def _write(self, place: Path, chunks: AsyncIterator[bytes]) -> None:
        try:
            file = await asyncio.to_thread(_create, place)
            try:
                async for chunk in chunks:
                    await asyncio.to_thread(self._add, file, len(chunk).to_bytes(_LENGTH_BYTES, "big") + chunk)
                await asyncio.to_thread(_make_durable, file)
            finally:
                await asyncio.to_thread(file.close)
        except OSError as reason:
            code = disk_fault(reason)
            raise LocalFailure(code, f"{place} cannot be written: {reason.strerror}") from reason

    def _add(self, file: IO[bytes], data: bytes) -> None:
        self._agent.ballast.leave(len(data))
        file.write(data)

    async def _chunks(self, place: Path) -> AsyncGenerator[tuple[bytes, bool], None]:
        """The sealed chunks, each with whether it is the last."""
        file = await asyncio.to_thread(place.open, "rb")
        try:
            following = await asyncio.to_thread(_next, file)
            while following:
                chunk, following = following, await asyncio.to_thread(_next, file)
                yield chunk, not following
        finally:
            await asyncio.to_thread(file.close)


def _create(place: Path) -> IO[bytes]:
    place.parent.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600), "wb")


def _make_durable(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _next(file: IO[bytes]) -> bytes:
    size = int.from_bytes(file.read(_LENGTH_BYTES), "big")
    return file.read(size) if 0 < size <= _MAX_CHUNK_BYTES else b""


def _mark(person: bytes, item: bytes) -> str:
    return f"{DRAFT_MARKS}{person.hex()}/{item.hex()}"


def _is_over(person: bytes, item: Entry | None, destroyed: DestroyedHere) -> bool:
    if item is None:
        return person in destroyed.names
    return person in destroyed.at(item.header.space) or destroyed.covers(item)


def _named(key: str) -> tuple[bytes, bytes]:
    """The person and the item of a mark."""
    person, _, item = key.removeprefix(DRAFT_MARKS).partition("/")
    return bytes.fromhex(person), bytes.fromhex(item)


def _start(reader: SealReader, at: int) -> FileStart:
    files = reader.files or ()
    return FileStart(files[at].path, files[at].size)
