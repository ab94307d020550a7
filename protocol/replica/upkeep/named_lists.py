"""What lists of files name of the streams that are to go (docs/protocol.md, "Erasure").

Rules:
- each list is looked into once a sweep, however many entries name it, in a thread: nobody waits meanwhile;
- what is no good list, by its order, its numbers or its names, names nothing: it would keep what nobody can read by it;
- a list that names none of what is sought is looked into no further, and noted: a sweep that was cut off goes on there;
- of what is not here as a whole nobody knows, and another sweep looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MAX_MANIFEST_BYTES
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.transfer.manifest import MANIFEST_MAGIC, decode_manifest, streams_of

LISTS_MARKS: Final = "erasure-lists/"
"""+ hash of what is sought in hex / a list in hex → lists, that one first, of which none names any of it."""
_NOTED_AT_ONCE: Final = 32
_NAME_BYTES: Final = 32


class NamedLists:
    """Looks into lists during one sweep."""

    def __init__(self, store: EntryStore, content: ContentStore) -> None:
        """Over the two halves of one replica."""
        self._store = store
        self._content = content
        self._sought: frozenset[bytes] = frozenset()
        self._names: dict[bytes, frozenset[bytes]] = {}
        self._files: dict[bytes, frozenset[bytes]] = {}
        self._naming_none: list[bytes] = []

    async def seek(self, streams: Collection[bytes]) -> None:
        """Look for these as well from now on."""
        if self._sought.issuperset(streams):
            return
        self._sought |= frozenset(streams)
        self._names, self._naming_none = {}, []
        others: dict[str, bytes | None] = {}
        for key, noted in (await self._store.marks(LISTS_MARKS)).items():
            if key.startswith(self._mark(b"")):
                lists = (noted[at : at + _NAME_BYTES] for at in range(0, len(noted), _NAME_BYTES))
                self._names.update(dict.fromkeys(lists, frozenset()))
            else:
                others[key] = None
        await self._store.set_marks(others)

    async def sought_in(self, stream: bytes) -> frozenset[bytes]:
        """What a list names of all that is sought. Raises `LocalFailure`, if the disk fails."""
        found = self._names.get(stream)
        if found is None:
            data = await self._read(stream)
            found = frozenset[bytes]() if data is None else await asyncio.to_thread(_named, data, self._sought)
            self._names[stream] = found
            if data is not None and not found:
                await self._note(stream)
        return found

    def names_none(self, stream: bytes) -> bool:
        """Whether a list was looked into, and names nothing that is sought."""
        return self._names.get(stream) == frozenset()

    async def files_in(self, stream: bytes) -> frozenset[bytes]:
        """What a list names of all streams that are here. Raises `LocalFailure`, if the disk fails."""
        found = self._files.get(stream)
        if found is None:
            data = await self._read(stream)
            named = frozenset[bytes]() if data is None else await asyncio.to_thread(_named, data)
            found = self._files[stream] = frozenset(await self._content.known_streams(list(named)))
        return found

    async def end(self) -> None:
        """The sweep is over: the next one may look for something else."""
        await self._store.set_marks(dict.fromkeys(await self._store.marks(LISTS_MARKS)))

    async def _note(self, stream: bytes) -> None:
        self._naming_none.append(stream)
        if len(self._naming_none) == _NOTED_AT_ONCE:
            noted, self._naming_none = self._naming_none, []
            await self._store.set_marks({self._mark(noted[0]): b"".join(noted)})

    def _mark(self, first: bytes) -> str:
        return f"{LISTS_MARKS}{blake3(b''.join(sorted(self._sought))).hexdigest()}/{first.hex()}"

    async def _read(self, stream: bytes) -> bytes | None:
        """The bytes of what may be a list, empty where it is none; None where not all of it is here."""
        data = bytearray()
        try:
            async for piece in self._content.read_stream(stream):
                data += piece
                start = min(len(data), len(MANIFEST_MAGIC))
                if len(data) > MAX_MANIFEST_BYTES or data[:start] != MANIFEST_MAGIC[:start]:
                    return b""
        except LocalFailure as failure:
            if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                raise
            return None
        return bytes(data)


def _named(data: bytes, sought: Collection[bytes] | None = None) -> frozenset[bytes]:
    """Which streams a list names, or which of these; its names are looked at only where that matters."""
    try:
        named = streams_of(data)
        found = frozenset(named if sought is None else named.intersection(sought))
        if found:
            decode_manifest(data)
    except PeerFault:
        return frozenset()
    return found
