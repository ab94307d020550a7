"""What content a replica holds of what its entries name (R17; docs/protocol.md, "Content").

Rules:
- a revision is complete when its manifest, the chunk list of each of its files and all their chunks are here, verified,
  in packs of its own space: what only another space brought cannot be handed on in this one;
- a manifest that gives a file another size than its stream has is never complete;
- what is here and is no list of files, or one of a false size, is so for ever, since its name binds it: it is asked for
  no more, nor read again, though it is passed on, to whoever knows a format that this program does not;
- a hand-in is complete when its sealed stream is; nobody but its readers needs to look inside;
- what has not the form of sealed work, as its list tells, is nobody's hand-in, whoever says so, since no reader opens
  it: it is asked for, and given, for what names it openly alone (docs/adr/0132);
- "complete" is one mark in the store, set after the check, taken back when content turns out to be damaged; a full disk
  keeps nobody from an answer, only from its being remembered;
- a long list of files that was made from one that is complete is looked at where it differs: the rest is here;
- what was open to all and has been destroyed is asked for, and given, as nobody's sealed work;
- of what was found incomplete one part that lacks is remembered, and until it has come nothing else is looked at: a
  list of a few hundred bytes may name hundreds of thousands of chunks, and be named by thousands of entries;
- which packs hold content is remembered until packs come or go: as many entries may ask for it. What a disk does not
  give back just now is no list that lacks: what it names is not known, and nothing goes for that;
- names are looked at once: a list of files is its content, and the mark says that its names were found portable.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from weakref import WeakValueDictionary

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.folds.coursework import Work
from protocol.limits import MAX_ENTRIES_PER_DEVICE, MAX_MANIFEST_BYTES, KiB
from protocol.replica.interfaces import COMPLETE_MARKS, GIVEN_UP_MARKS, ContentStore, EntryStore, PackInfo
from protocol.transfer.chunking import ChunkList, ChunkRef, stream_bytes
from protocol.transfer.manifest import ManifestEntry, decode_manifest, read_manifest
from protocol.trust.sealing import has_sealed_form

_NEEDS_AT_ONCE = 500
_BEGUN_LOOKED_AT = 64
_LACKING_REMEMBERED = 4 * MAX_ENTRIES_PER_DEVICE  # more than a machine can name with all of its keys
_HOLDERS_REMEMBERED = 65_536  # packs, of all that is remembered
_LONG_LIST_BYTES = 32 * KiB
_HERE = b"\x01"
_HERE_AND_PORTABLE = b"\x02"


@dataclass(frozen=True, slots=True)
class Need:
    """Content that an entry names in a space; `sealed` streams have no manifest inside that we could read."""

    space: bytes
    stream: bytes
    sealed: bool


def work_need(work: Work) -> Need:
    """The content of a hand-in."""
    return Need(work.space, work.record.content.stream, sealed=True)


class NotReadNow(LocalFailure):
    """A list of files is here and cannot be read just now: which packs hold what it names is not known."""


class _Parts(NamedTuple):
    """The streams and the chunks that content consists of, but for what a manifest `before` it names as well."""

    streams: list[bytes]
    chunks: list[ChunkRef]
    before: bytes | None = None


_Lack: TypeAlias = ChunkRef | bytes
"""A part that content lacks in its space: a chunk, or the list of the stream of this name."""


class Holdings:
    """Answers about completeness, with what was found out before kept in memory and in the store."""

    def __init__(self, store: EntryStore, content: ContentStore) -> None:
        """Over the two halves of one replica; `load` reads what is known already."""
        self._store = store
        self._content = content
        self._complete: set[tuple[bytes, bytes]] = set()
        self._portable: set[bytes] = set()
        self._lacking: dict[Need, _Lack] = {}
        self._looking: WeakValueDictionary[Need, asyncio.Lock] = WeakValueDictionary()
        self._given_up: set[bytes] = set()
        self._not_sealed: dict[bytes, None] = {}
        self._no_manifest: dict[bytes, None] = {}
        self._holders: dict[Need, list[PackInfo]] = {}
        self._holders_at = -1
        self._holders_left = _HOLDERS_REMEMBERED

    async def load(self) -> None:
        """Read the marks of what is complete, and of what was given up."""
        self._given_up = {bytes.fromhex(key[len(GIVEN_UP_MARKS) :]) for key in await self._store.marks(GIVEN_UP_MARKS)}
        marks = await self._store.marks(COMPLETE_MARKS)
        self._complete = set(map(_content_of, marks))
        self._portable = {_content_of(key)[1] for key, value in marks.items() if value == _HERE_AND_PORTABLE}

    async def is_complete(self, need: Need) -> bool:
        """Whether all of it is here."""
        if self._is_known(need):
            return True
        # when content comes all ask at once: one looks, and notes for the others what it has found
        async with self._looking.setdefault(need, asyncio.Lock()):
            return self._is_known(need) or await self._look(need)

    async def _look(self, need: Need) -> bool:
        """Whether all of what was not found complete before is here."""
        if self._is_nothing(need) or await self._lack_still([need]):
            return False
        known = self._complete
        parts = await self._read_now(need, all_of_it=False)
        if parts is None:
            return False
        streams, chunks, before = parts
        if await self._lacks_chunk(need, chunks) or await self._lacks_list(need, streams):
            return False
        if known is not self._complete or (before is not None and not await self._is_marked(need.space, before)):
            # All was taken back while this was looked at: what was seen may be gone.
            return await self._look(need)
        self._lacking.pop(need, None)
        known.add((need.space, need.stream))
        mark = _HERE if need.sealed and need.stream not in self._portable else _HERE_AND_PORTABLE
        try:
            await self._store.set_marks({_mark_of(need.space, need.stream): mark})
        except LocalFailure as failure:
            if failure.code is not Code.DISK_FULL:
                raise  # where there is no room for the mark, whoever opens this store next looks again
        return True

    def doubtful(self, needs: Iterable[Need]) -> list[Need]:
        """Those of `needs` that were not found complete before, and that may be asked for."""
        unseen = (need for need in needs if not self._is_known(need))
        return [need for need in unseen if not self._is_nothing(need)]

    async def complete(self, needs: Iterable[Need]) -> set[Need]:
        """Those of `needs` that are all here."""
        sought = list(dict.fromkeys(needs))
        lacking = set(await self.incomplete(sought))
        return {need for need in sought if need not in lacking and not self._is_nothing(need)}

    async def incomplete(self, needs: Iterable[Need], most: int | None = None) -> list[Need]:
        """Those of `needs` that are not all here and may be asked for, each once, at most `most` of them."""
        unknown = list(dict.fromkeys(self.doubtful(needs)))
        missing: list[Need] = []
        for start in range(0, len(unknown), _NEEDS_AT_ONCE):
            some = unknown[start : start + _NEEDS_AT_ONCE]
            # Most of what is missing is missing altogether: one look-up tells for many.
            begun = await self._content.known_streams([need.stream for need in some])
            lacking = await self._lack_still(some)
            for need in some:
                if most is not None and len(missing) >= most:
                    return missing
                has_begun = need.stream in begun and need not in lacking
                if not has_begun or not (await self.is_complete(need) or self._is_nothing(need)):
                    missing.append(need)
        return missing

    async def _lack_still(self, needs: Iterable[Need]) -> set[Need]:
        """Those of `needs` of which a part that was missing is missing still."""
        found: set[Need] = set()
        chunks: defaultdict[bytes, dict[Need, ChunkRef]] = defaultdict(dict)
        lists: defaultdict[bytes, dict[Need, bytes]] = defaultdict(dict)
        for need in needs:
            lack = self._lacking.get(need)
            if isinstance(lack, ChunkRef):
                chunks[need.space][need] = lack
            elif lack is not None:
                lists[need.space][need] = lack
        for space, lacks in chunks.items():
            missing = await self._content.missing_chunks(space, list(set(lacks.values())))
            found |= {need for need, chunk in lacks.items() if chunk in missing}
        for space, unlisted in lists.items():
            absent = await self._content.missing_streams(space, list(set(unlisted.values())))
            found |= {need for need, stream in unlisted.items() if stream in absent}
        return found

    async def _lacks_chunk(self, need: Need, chunks: Sequence[ChunkRef]) -> bool:
        """Whether any of these is missing; one is remembered, the last: what comes in pieces comes in order."""
        missing = await self._content.missing_chunks(need.space, chunks)
        if missing:
            self._remember(need, next(chunk for chunk in reversed(chunks) if chunk in missing))
        return bool(missing)

    async def _lacks_list(self, need: Need, streams: Sequence[bytes]) -> bool:
        missing = await self._content.missing_streams(need.space, streams)
        if missing:
            self._remember(need, next(stream for stream in reversed(streams) if stream in missing))
        return bool(missing)

    def _remember(self, need: Need, lack: _Lack) -> None:
        self._lacking.pop(need, None)
        if len(self._lacking) >= _LACKING_REMEMBERED:
            del self._lacking[next(iter(self._lacking))]
        self._lacking[need] = lack

    async def first_complete(self, needs: Sequence[Need]) -> int | None:
        """The place of the first of `needs` that is all here.

        Most of what is missing is missing altogether, and one look-up tells for many; of what has begun to come, so
        much is looked at: whoever may publish says versions without end.
        """
        begun_left = _BEGUN_LOOKED_AT
        for start in range(0, len(needs), _NEEDS_AT_ONCE):
            some = needs[start : start + _NEEDS_AT_ONCE]
            begun = await self._content.known_streams(list({need.stream for need in some}))
            for place, need in enumerate(some, start):
                if self._is_known(need):
                    return place
                if need.stream in begun and begun_left:
                    begun_left -= 1
                    if await self.is_complete(need):
                        return place
        return None

    async def forget(self) -> None:
        """Take back every mark: content was found damaged, and each piece is to be looked at again."""
        self._complete = set()
        self._holders_at = -1
        await self._store.set_marks(dict.fromkeys(await self._store.marks(COMPLETE_MARKS)))

    async def read_checked(self, stream: bytes, start: int = 0) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream that was complete, from `start` on.

        Raises `LocalFailure(INCOMPLETE | DAMAGED)`, having taken back that it is.
        """
        try:
            async for piece in self._content.read_stream(stream, start):
                yield piece
        except LocalFailure as failure:
            if failure.code in (Code.INCOMPLETE, Code.DAMAGED):
                await self.forget()
            raise

    async def give_up(self, streams: Iterable[bytes]) -> None:
        """Note open content that is to be destroyed: who hands it in as sealed work has it brought by nobody."""
        fresh = set(streams) - self._given_up
        await self._store.set_marks({GIVEN_UP_MARKS + stream.hex(): b"\1" for stream in fresh})
        self._given_up |= fresh

    async def take_back(self, streams: Iterable[bytes]) -> None:
        """Note that this is given up no more: somebody has given it again."""
        named = self._given_up.intersection(streams)
        await self._store.set_marks({GIVEN_UP_MARKS + stream.hex(): None for stream in named})
        self._given_up -= named

    async def come_again(self) -> set[bytes]:
        """What was given up and is here all the same."""
        return await self._content.known_streams(list(self._given_up)) if self._given_up else set()

    def _is_known(self, need: Need) -> bool:
        """Whether it was found complete before; a lesson that was is no work for that."""
        return (need.space, need.stream) in self._complete and not (need.sealed and need.stream in self._portable)

    def _is_no_work(self, need: Need) -> bool:
        """Whether a hand-in names what is known to be none; of what is here, whoever has its list finds that out."""
        return need.sealed and (need.stream in self._given_up or need.stream in self._not_sealed)

    def _is_nothing(self, need: Need) -> bool:
        """Whether it is known that this will never be complete, whatever comes."""
        return self._is_no_work(need) or (not need.sealed and need.stream in self._no_manifest)

    async def _list_of(self, need: Need) -> ChunkList | None:
        """The list of its stream, if it is here, and no hand-in names what is none."""
        found = await self._content.chunk_list(need.stream)
        if found is None or not need.sealed or has_sealed_form(found):
            return found
        _note(self._not_sealed, need.stream)
        return None

    async def manifest(self, stream: bytes) -> tuple[ManifestEntry, ...]:
        """The tree of a revision whose manifest is here. Raises `LocalFailure(INCOMPLETE | DAMAGED)`."""
        return self._decoded(stream, await self._read(stream))

    async def _read(self, stream: bytes) -> bytes:
        data = bytearray()
        async for piece in self._content.read_stream(stream):
            data += piece
            if len(data) > MAX_MANIFEST_BYTES:
                raise LocalFailure(Code.DAMAGED, "a list of files is larger than allowed", stream=stream.hex())
        return bytes(data)

    def _decoded(self, stream: bytes, data: bytes, like: Sequence[ManifestEntry] = ()) -> tuple[ManifestEntry, ...]:
        """The tree of a manifest, whose names are looked at unless they were before. Raises `LocalFailure(DAMAGED)`."""
        try:
            files = read_manifest(data) if stream in self._portable else decode_manifest(data, like=like)
        except PeerFault as fault:
            raise LocalFailure(
                Code.DAMAGED, "a list of files cannot be read", stream=stream.hex(), reason=fault.code
            ) from fault
        self._portable.add(stream)
        return files

    async def chunks(self, need: Need) -> list[ChunkRef] | None:
        """Every chunk that the content consists of, or None while a list of them is missing."""
        parts = await self._read_now(need)
        return None if parts is None else parts.chunks

    async def lists(self, need: Need) -> dict[bytes, ChunkList] | None:
        """Every stream that the content consists of with its chunks, or None while not all of it is here."""
        outer = await self._list_of(need) if await self.is_complete(need) else None
        if outer is None:
            return None
        files = () if need.sealed else await self.manifest(need.stream)
        return {need.stream: outer, **await self._content.chunk_lists(list({file.stream for file in files}))}

    async def packs(self, need: Need, *, beyond: Sequence[Need] = ()) -> list[PackInfo]:
        """The packs that hold this content, to be given, without those only needed for what lies in `beyond` too.

        What a disk does not give back just now is given another time.
        """
        try:
            return await self._packs(need, beyond)
        except NotReadNow:
            return await self._content.packs_holding(need.space, list(await self._list_of(need) or ()), [need.stream])

    async def packs_needed(self, need: Need) -> list[PackInfo]:
        """The packs without which this content is not whole: others may go. Raises `NotReadNow`."""
        return await self._packs(need)

    async def _packs(self, need: Need, beyond: Sequence[Need] = ()) -> list[PackInfo]:
        """See `packs`. Raises `NotReadNow`."""
        if self._is_no_work(need):
            return []
        if not beyond and (remembered := self._remembered(need)) is not None:
            return remembered
        changes = self._content.changes
        parts = await self._parts(need)
        if self._is_no_work(need):
            return []
        if parts is None:
            parts = _Parts([need.stream], list(await self._list_of(need) or ()))
        streams, chunks, _ = parts
        for known in beyond:
            others = await self._read_now(known)
            if others is not None:
                streams = list(set(streams) - set(others.streams))
                chunks = list(set(chunks) - set(others.chunks))
        found = await self._content.packs_holding(need.space, chunks, streams)
        if not beyond and changes == self._content.changes:
            self._remember_holders(need, found)
        return found

    def _remembered(self, need: Need) -> list[PackInfo] | None:
        """The packs that were found to hold content, if none has come or gone since."""
        found = self._holders.get(need) if self._holders_at == self._content.changes else None
        return None if found is None else list(found)

    def _remember_holders(self, need: Need, found: Sequence[PackInfo]) -> None:
        room = self._holders_left if self._holders_at == self._content.changes else 0
        if len(found) >= room:
            self._holders, self._holders_at, room = {}, self._content.changes, _HOLDERS_REMEMBERED
        self._holders_left = room - len(found) - 1
        self._holders[need] = list(found)

    async def _before(self, need: Need) -> bytes | None:
        """The manifest of a version that is here as a whole, and of which this one was made, if that is known."""
        for delta in reversed(await self._content.deltas(need.space)):
            for base in delta.bases if need.stream in delta.trees else ():
                if base in self._portable and await self._is_marked(need.space, base):
                    return base
        return None

    async def _is_marked(self, space: bytes, stream: bytes) -> bool:
        """Whether the store says so still: it takes such marks back together with content that is lost."""
        return await self._store.mark(_mark_of(space, stream)) == _HERE_AND_PORTABLE

    async def _read_now(self, need: Need, *, all_of_it: bool = True) -> _Parts | None:
        """As `_parts`; None too where a list cannot be read just now."""
        try:
            return await self._parts(need, all_of_it=all_of_it)
        except NotReadNow:
            return None

    async def _parts(self, need: Need, *, all_of_it: bool = True) -> _Parts | None:
        """What content consists of, or, of a long list of files, what is new in it; None while a list is missing.

        Raises `NotReadNow`.
        """
        outer = await self._list_of(need)
        if outer is None:
            return None
        found = dict.fromkeys(outer)
        if need.sealed:
            return _Parts([need.stream], list(found))
        if need.stream in self._no_manifest or await self._lacks_chunk(need, list(found)):
            return None
        if stream_bytes(outer) > MAX_MANIFEST_BYTES:
            _note(self._no_manifest, need.stream)
            return None
        try:
            # what the disk gives back was compared with its hash: whatever fails here may succeed another time
            data = await self._read(need.stream)
            before = None if all_of_it or len(data) < _LONG_LIST_BYTES else await self._before(need)
            known = () if before is None else await self.manifest(before)
        except LocalFailure as failure:
            if failure.code in (Code.DAMAGED, Code.INCOMPLETE):
                return None
            raise NotReadNow(failure.code, failure.message, **failure.facts) from failure
        try:
            files = self._decoded(need.stream, data, known)
        except LocalFailure:
            _note(self._no_manifest, need.stream)
            return None
        # A manifest may name one stream for many files: each is looked at once.
        sizes = {file.stream: file.size for file in files}
        if any(sizes[file.stream] != file.size for file in files):
            _note(self._no_manifest, need.stream)
            return None
        here = {file.stream: file.size for file in known}
        sizes = {stream: size for stream, size in sizes.items() if here.get(stream) != size}
        lists = await self._content.chunk_lists(list(sizes))
        for stream, size in sizes.items():
            chunks = lists.get(stream)
            if chunks is None:
                self._remember(need, stream)
                return None
            if stream_bytes(chunks) != size:
                _note(self._no_manifest, need.stream)
                return None
            found.update(dict.fromkeys(chunks))
        return _Parts([need.stream, *sizes], list(found), before)


def _note(remembered: dict[bytes, None], stream: bytes) -> None:
    """Remember one more; the eldest makes way, where there are more than a machine can name."""
    if len(remembered) >= _LACKING_REMEMBERED:
        del remembered[next(iter(remembered))]
    remembered[stream] = None


def _mark_of(space: bytes, stream: bytes) -> str:
    return f"{COMPLETE_MARKS}{space.hex()}/{stream.hex()}"


def _content_of(mark: str) -> tuple[bytes, bytes]:
    """The space and the stream that a mark is about."""
    start = len(COMPLETE_MARKS)
    return bytes.fromhex(mark[start : start + 64]), bytes.fromhex(mark[-64:])
