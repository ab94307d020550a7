"""What content a replica holds of what its entries name (R17; docs/protocol.md, "Content").

Rules:
- a revision is complete when its manifest, the chunk list of each of its files and all their chunks are here, verified,
  in packs of its own space: what only another space brought cannot be handed on in this one;
- a manifest that gives a file another size than its stream has is never complete;
- a hand-in is complete when its sealed stream is; nobody but its readers needs to look inside;
- "complete" is one mark in the store, set after the check, taken back when content turns out to be damaged;
- a long list of files that was made from one that is complete is looked at where it differs: the rest is here;
- what was open to all and has been destroyed is asked for, and given, as nobody's sealed work;
- of what was found incomplete one part that lacks is remembered, and until it has come nothing else is looked at: a
  list of a few hundred bytes may name hundreds of thousands of chunks, and be named by thousands of entries;
- names are looked at once: a list of files is its content, and the mark says that its names were found portable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from protocol.chunking import ChunkList, stream_bytes
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_ENTRIES_PER_DEVICE, MAX_MANIFEST_BYTES, KiB
from protocol.manifest import ManifestEntry, decode_manifest, read_manifest
from protocol.replica.interfaces import COMPLETE_MARKS, GIVEN_UP_MARKS, ContentStore, EntryStore, PackInfo

_NEEDS_AT_ONCE = 500
_BEGUN_LOOKED_AT = 64
_LACKING_REMEMBERED = 4 * MAX_ENTRIES_PER_DEVICE  # more than a machine can name with all of its keys
_LONG_LIST_BYTES = 32 * KiB
_HERE = b"\x01"
_HERE_AND_PORTABLE = b"\x02"


@dataclass(frozen=True, slots=True)
class Need:
    """Content that an entry names in a space; `sealed` streams have no manifest inside that we could read."""

    space: bytes
    stream: bytes
    sealed: bool


class _Parts(NamedTuple):
    """The streams and the chunks that content consists of, but for what a manifest `before` it names as well."""

    streams: list[bytes]
    chunks: list[bytes]
    before: bytes | None = None


class _Lack(NamedTuple):
    """A part that content lacks in its space: a chunk, or the list of a stream."""

    name: bytes
    is_stream: bool


class Holdings:
    """Answers about completeness, with what was found out before kept in memory and in the store."""

    def __init__(self, store: EntryStore, content: ContentStore) -> None:
        """Over the two halves of one replica; `load` reads what is known already."""
        self._store = store
        self._content = content
        self._complete: set[tuple[bytes, bytes]] = set()
        self._portable: set[bytes] = set()
        self._lacking: dict[Need, _Lack] = {}
        self._given_up: set[bytes] = set()

    async def load(self) -> None:
        """Read the marks of what is complete, and of what was given up."""
        self._given_up = {bytes.fromhex(key[len(GIVEN_UP_MARKS) :]) for key in await self._store.marks(GIVEN_UP_MARKS)}
        marks = await self._store.marks(COMPLETE_MARKS)
        self._complete = set(map(_content_of, marks))
        self._portable = {_content_of(key)[1] for key, value in marks.items() if value == _HERE_AND_PORTABLE}

    async def is_complete(self, need: Need) -> bool:
        """Whether all of it is here."""
        if (need.space, need.stream) in self._complete:
            return True
        if self._is_given_up(need):
            return False
        if await self._lack_still([need]):
            return False
        known = self._complete
        parts = await self._parts(need, all_of_it=False)
        if parts is None:
            return False
        streams, chunks, before = parts
        if await self._lacks_any(need, chunks) or await self._lacks_any(need, streams, are_streams=True):
            return False
        if known is not self._complete or (before is not None and not await self._is_marked(need.space, before)):
            # All was taken back while this was looked at: what was seen may be gone.
            return await self.is_complete(need)
        self._lacking.pop(need, None)
        known.add((need.space, need.stream))
        mark = _HERE if need.sealed else _HERE_AND_PORTABLE
        await self._store.set_marks({_mark_of(need.space, need.stream): mark})
        return True

    def doubtful(self, needs: Iterable[Need]) -> list[Need]:
        """Those of `needs` that were not found complete before, and that may be asked for."""
        unseen = (need for need in needs if (need.space, need.stream) not in self._complete)
        return [need for need in unseen if not self._is_given_up(need)]

    async def incomplete(self, needs: Iterable[Need], most: int | None = None) -> list[Need]:
        """Those of `needs` that are not all here, each once, at most `most` of them."""
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
                if need.stream not in begun or need in lacking or not await self.is_complete(need):
                    missing.append(need)
        return missing

    async def _lack_still(self, needs: Iterable[Need]) -> set[Need]:
        """Those of `needs` of which a part that was missing is missing still."""
        found: set[Need] = set()
        for are_streams in (False, True):
            sought: defaultdict[bytes, list[tuple[bytes, Need]]] = defaultdict(list)
            for need in needs:
                lack = self._lacking.get(need)
                if lack is not None and lack.is_stream == are_streams:
                    sought[need.space].append((lack.name, need))
            look = self._content.missing_streams if are_streams else self._content.missing_chunks
            for space, lacks in sought.items():
                missing = await look(space, list({name for name, _ in lacks}))
                found |= {need for name, need in lacks if name in missing}
        return found

    async def _lacks_any(self, need: Need, names: Sequence[bytes], *, are_streams: bool = False) -> bool:
        """Whether any of these parts is missing; one is remembered, the last: what comes in pieces comes in order."""
        look = self._content.missing_streams if are_streams else self._content.missing_chunks
        missing = await look(need.space, names)
        if missing:
            self._remember(need, _Lack(next(name for name in reversed(names) if name in missing), are_streams))
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
                if (need.space, need.stream) in self._complete:
                    return place
                if need.stream in begun and begun_left:
                    begun_left -= 1
                    if await self.is_complete(need):
                        return place
        return None

    async def forget(self) -> None:
        """Take back every mark: content was found damaged, and each piece is to be looked at again."""
        self._complete = set()
        await self._store.set_marks(dict.fromkeys(await self._store.marks(COMPLETE_MARKS)))

    async def give_up(self, streams: Iterable[bytes]) -> None:
        """Note open content that is to be destroyed: who hands it in as sealed work has it brought by nobody."""
        fresh = set(streams) - self._given_up
        await self._store.set_marks({GIVEN_UP_MARKS + stream.hex(): b"\1" for stream in fresh})
        self._given_up |= fresh

    def _is_given_up(self, need: Need) -> bool:
        return need.sealed and need.stream in self._given_up

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

    async def chunks(self, need: Need) -> list[bytes] | None:
        """Every chunk that the content consists of, or None while a list of them is missing."""
        parts = await self._parts(need)
        return None if parts is None else parts.chunks

    async def lists(self, need: Need) -> dict[bytes, ChunkList] | None:
        """Every stream that the content consists of with its chunks, or None while not all of it is here."""
        if not await self.is_complete(need):
            return None
        outer = await self._content.chunk_list(need.stream)
        if outer is None:
            return None
        files = () if need.sealed else await self.manifest(need.stream)
        return {need.stream: outer, **await self._content.chunk_lists(list({file.stream for file in files}))}

    async def packs(self, need: Need, *, beyond: Sequence[Need] = ()) -> list[PackInfo]:
        """The packs that hold this content, without those only needed for what lies in `beyond` too."""
        if self._is_given_up(need):
            return []
        parts = await self._parts(need)
        if parts is None:
            parts = _Parts([need.stream], [ref.hash for ref in await self._content.chunk_list(need.stream) or ()])
        streams, chunks, _ = parts
        for known in beyond:
            others = await self._parts(known)
            there = set() if others is None else {*others.streams, *others.chunks}
            streams = [stream for stream in streams if stream not in there]
            chunks = [chunk for chunk in chunks if chunk not in there]
        return await self._content.packs_holding(need.space, chunks, streams)

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

    async def _parts(self, need: Need, *, all_of_it: bool = True) -> _Parts | None:
        """What content consists of, or, of a long list of files, what is new in it; None while a list is missing."""
        outer = await self._content.chunk_list(need.stream)
        if outer is None:
            return None
        found = dict.fromkeys(ref.hash for ref in outer)
        if need.sealed:
            return _Parts([need.stream], list(found))
        if await self._lacks_any(need, list(found)):
            return None
        try:
            data = await self._read(need.stream)
            before = None if all_of_it or len(data) < _LONG_LIST_BYTES else await self._before(need)
            known = () if before is None else await self.manifest(before)
            files = self._decoded(need.stream, data, known)
        except LocalFailure:
            return None
        # A manifest may name one stream for many files: each is looked at once.
        sizes = {file.stream: file.size for file in files}
        if any(sizes[file.stream] != file.size for file in files):
            return None
        here = {file.stream: file.size for file in known}
        sizes = {stream: size for stream, size in sizes.items() if here.get(stream) != size}
        lists = await self._content.chunk_lists(list(sizes))
        for stream, size in sizes.items():
            chunks = lists.get(stream)
            if chunks is None:
                self._remember(need, _Lack(stream, is_stream=True))
            if chunks is None or stream_bytes(chunks) != size:
                return None
            found.update(dict.fromkeys(ref.hash for ref in chunks))
        return _Parts([need.stream, *sizes], list(found), before)


def _mark_of(space: bytes, stream: bytes) -> str:
    return f"{COMPLETE_MARKS}{space.hex()}/{stream.hex()}"


def _content_of(mark: str) -> tuple[bytes, bytes]:
    """The space and the stream that a mark is about."""
    start = len(COMPLETE_MARKS)
    return bytes.fromhex(mark[start : start + 64]), bytes.fromhex(mark[-64:])
