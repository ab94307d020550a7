"""Content in stores: a folder that is opened, files that are published there and read back, packs from elsewhere."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import ContentStore, PackBuild
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.pack import FinishedPack
from protocol.transfer.pack_writer import PackWriter
from tests.harness.entries import SPACE


@asynccontextmanager
async def opened(folder: Path, monotonic: Callable[[], float] = time.monotonic) -> AsyncIterator[PackFolder]:
    """The store in a folder, closed afterwards."""
    store = await SqliteStore.open(folder)
    try:
        packs = await PackFolder.open(folder, store, monotonic=monotonic)
        yield packs
        await packs.close()
    finally:
        await store.close()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that nothing makes smaller, the same for each seed."""
    return Random(seed).randbytes(size)


FILES: Final = [b"", b"a", noise(100), noise(700_000), b"text " * 50_000, noise(3_000_000, 2)]
"""Nothing, a byte, few and many that nothing makes smaller, and what is made smaller."""


async def add(build: PackBuild, data: bytes) -> bytes:
    """Cut a file and add it to a build; its stream."""
    chunks = cut(data)
    for chunk in chunks:
        await build.chunk(chunk)
    return await build.stream(chunk_list(chunks))


async def publish(
    content: ContentStore, files: Iterable[bytes], space: bytes = SPACE, *, unsent: bool = False, sealed: bool = False
) -> list[FinishedPack]:
    """Files as packs of a space."""
    build = await content.build(space, unsent=unsent, sealed=sealed)
    for data in files:
        await add(build, data)
    return await build.finish()


async def read(content: ContentStore, stream: bytes) -> bytes:
    """All of a stream."""
    return b"".join([piece async for piece in content.read_stream(stream)])


async def whole(content: ContentStore, pack: FinishedPack) -> bytes:
    """The bytes of a pack."""
    return await content.read_pack(pack.hash, 0, pack.size)


def name_of(data: bytes) -> bytes:
    """The stream that a file becomes."""
    return stream_id(chunk_list(cut(data)))


def made_elsewhere(files: Iterable[bytes], level: int = 5) -> tuple[bytes, FinishedPack]:
    """A pack as another replica would have written it."""
    writer = PackWriter(level=level)
    for data in files:
        chunks = cut(data)
        for chunk in chunks:
            writer.add_chunk(chunk)
        writer.add_stream(chunk_list(chunks))
    finished = writer.finish()
    return writer.take(), finished
