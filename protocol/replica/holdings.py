"""What content a replica holds of what its entries name (R17; docs/protocol.md, "Content").

Rules:
- a revision is complete when its manifest, the chunk list of each of its files and all their chunks are here, verified,
  in packs of its own space: what only another space brought cannot be handed on in this one;
- a manifest that gives a file another size than its stream has is never complete;
- a hand-in is complete when its sealed stream is; nobody but its readers needs to look inside;
- "complete" is one mark in the store, set after the check, taken back when content turns out to be damaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocol.chunking import ChunkList, stream_bytes
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_MANIFEST_BYTES
from protocol.manifest import ManifestEntry, decode_manifest
from protocol.replica.interfaces import COMPLETE_MARKS, ContentStore, EntryStore, PackInfo

_NEEDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Need:
    """Content that an entry names in a space; `sealed` streams have no manifest inside that we could read."""

    space: bytes
    stream: bytes
    sealed: bool


class Holdings:
    """Answers about completeness, with what was found out before kept in memory and in the store."""

    def __init__(self, store: EntryStore, content: ContentStore) -> None:
        """Over the two halves of one replica; `load` reads what is known already."""
        self._store = store
        self._content = content
        self._complete: set[tuple[bytes, bytes]] = set()

    async def load(self) -> None:
        """Read the marks of what is complete."""
        self._complete = {
            (bytes.fromhex(key[len(COMPLETE_MARKS) : len(COMPLETE_MARKS) + 64]), bytes.fromhex(key[-64:]))
            for key in await self._store.marks(COMPLETE_MARKS)
        }

    async def is_complete(self, need: Need) -> bool:
        """Whether all of it is here."""
        if (need.space, need.stream) in self._complete:
            return True
        known = self._complete
        parts = await self._parts(need)
        if parts is None:
            return False
        streams, chunks = parts
        if await self._content.missing_chunks(need.space, chunks):
            return False
        if await self._content.missing_streams(need.space, streams):
            return False
        if known is not self._complete:
            # All was taken back while this was looked at: what was seen may be gone.
            return await self.is_complete(need)
        known.add((need.space, need.stream))
        await self._store.set_marks({f"{COMPLETE_MARKS}{need.space.hex()}/{need.stream.hex()}": b"\x01"})
        return True

    async def incomplete(self, needs: Iterable[Need], most: int | None = None) -> list[Need]:
        """Those of `needs` that are not all here, at most `most` of them."""
        unknown = [need for need in needs if (need.space, need.stream) not in self._complete]
        missing: list[Need] = []
        for start in range(0, len(unknown), _NEEDS_AT_ONCE):
            some = unknown[start : start + _NEEDS_AT_ONCE]
            # Most of what is missing is missing altogether: one look-up tells for many.
            begun = await self._content.known_streams([need.stream for need in some])
            for need in some:
                if most is not None and len(missing) >= most:
                    return missing
                if need.stream not in begun or not await self.is_complete(need):
                    missing.append(need)
        return missing

    async def forget(self) -> None:
        """Take back every mark: content was found damaged, and each piece is to be looked at again."""
        self._complete = set()
        await self._store.set_marks(dict.fromkeys(await self._store.marks(COMPLETE_MARKS)))

    async def manifest(self, stream: bytes) -> tuple[ManifestEntry, ...]:
        """The tree of a revision whose manifest is here. Raises `LocalFailure(INCOMPLETE | DAMAGED)`."""
        data = bytearray()
        async for piece in self._content.read_stream(stream):
            data += piece
            if len(data) > MAX_MANIFEST_BYTES:
                raise LocalFailure(Code.DAMAGED, "a list of files is larger than allowed", stream=stream.hex())
        try:
            return decode_manifest(bytes(data))
        except PeerFault as fault:
            raise LocalFailure(
                Code.DAMAGED, "a list of files cannot be read", stream=stream.hex(), reason=fault.code
            ) from fault

    async def chunks(self, need: Need) -> list[bytes] | None:
        """Every chunk that the content consists of, or None while a list of them is missing."""
        parts = await self._parts(need)
        return None if parts is None else parts[1]

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
        parts = await self._parts(need)
        if parts is None:
            parts = [need.stream], [ref.hash for ref in await self._content.chunk_list(need.stream) or ()]
        streams, chunks = parts
        for known in beyond:
            there = {name for names in await self._parts(known) or () for name in names}
            streams = [stream for stream in streams if stream not in there]
            chunks = [chunk for chunk in chunks if chunk not in there]
        return await self._content.packs_holding(need.space, chunks, streams)

    async def _parts(self, need: Need) -> tuple[list[bytes], list[bytes]] | None:
        """The streams and the chunks that the content consists of, or None while a list of them is missing."""
        outer = await self._content.chunk_list(need.stream)
        if outer is None:
            return None
        found = dict.fromkeys(ref.hash for ref in outer)
        if need.sealed:
            return [need.stream], list(found)
        if await self._content.missing_chunks(need.space, list(found)):
            return None
        try:
            files = await self.manifest(need.stream)
        except LocalFailure:
            return None
        # A manifest may name one stream for many files: each is looked at once.
        sizes = {file.stream: file.size for file in files}
        if any(sizes[file.stream] != file.size for file in files):
            return None
        lists = await self._content.chunk_lists(list(sizes))
        for stream, size in sizes.items():
            chunks = lists.get(stream)
            if chunks is None or stream_bytes(chunks) != size:
                return None
            found.update(dict.fromkeys(ref.hash for ref in chunks))
        return [need.stream, *sizes], list(found)
