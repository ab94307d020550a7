"""Small deltas that make much work: for the server, for neighbours, for who takes a stick (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from threading import Event

import pytest

from protocol.errors import TooLarge
from protocol.limits import KiB, MiB
from protocol.replica.content.deltas import bases, expansion
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.deflate_parameters import ALL_LEVELS
from protocol.transfer.delta import DeltaFrame, Own, Source, Spliced
from protocol.transfer.delta_reader import open_delta_frame
from protocol.transfer.delta_writer import DeltaWriter
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.transfer.reflate import unfold
from tests.harness.attack import attack
from tests.harness.edited_lesson import archive

SPACE = bytes(32)
MOST_BYTES = 32 * MiB
ROW = "a small delta that makes much work"
UNCOUNTED = {"protocol.replica.content.deltas.expansion_cost.Work.add": lambda *_: None}


def finished(writer: DeltaWriter) -> bytes:
    writer.finish()
    return writer.take()


def delta_that_hops(hops: int) -> bytes:
    """A delta of three frames, and a file of single bytes from one and another in turn."""
    writer = DeltaWriter()
    for number in range(3):
        writer.add_frame(Random(number).randbytes(100 * KiB) + bytes(7 * MiB), (), b"")
        writer.add_target(Spliced((7 * MiB + 100 * KiB,)))
    places = (turn % 3 * (7 * MiB + 100 * KiB) + turn for turn in range(hops))
    writer.add_target(Spliced(tuple(Own(place, 1) for place in places)))
    return finished(writer)


@attack(ROW, off=UNCOUNTED)
async def test_a_delta_that_asks_for_the_same_frames_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened_bytes = []

    def noting(frame: DeltaFrame, data: bytes, dictionary: bytes) -> bytes:
        opened_bytes.append(frame.plain_bytes)
        return open_delta_frame(frame, data, dictionary)

    monkeypatch.setattr(expansion, "open_delta_frame", noting)
    monkeypatch.setattr("protocol.replica.content.deltas.expansion_cost.MAX_DELTA_WORK_BYTES", MOST_BYTES)
    with suppress(TooLarge):
        await MemoryPacks().ingest(SPACE, delta_that_hops(30))
    assert sum(opened_bytes) <= MOST_BYTES


async def with_three_documents(content: MemoryPacks) -> tuple[bytes, bytes]:
    """A manifest of documents, which is here; and a delta that turns from the inside of one to another's."""
    build = await content.build(SPACE, unsent=False)
    texts = (" ".join(map(str, range(number, 30_000 + number))).encode() for number in (0, 7, 14))
    documents = [archive({"content.xml": text}) for text in texts]
    listed: list[ManifestEntry] = []
    for number, data in enumerate([*documents, b""]):
        body = data or encode_manifest(listed)
        chunks = cut(body)
        for chunk in chunks:
            await build.chunk(chunk)
        stream = await build.stream(chunk_list(chunks))
        listed.append(ManifestEntry(f"{number}.odt", len(data), stream))
    await build.finish()
    writer = DeltaWriter([stream])
    for number, data in enumerate(documents):
        unfolded = unfold(data, allowed=ALL_LEVELS)
        assert unfolded is not None
        writer.add_image(0, number, unfolded.recipe)
    writer.add_target(Spliced(tuple(Source(0, turn % 3, turn, 1, unfolded=True) for turn in range(400))))
    return stream, finished(writer)


@attack(ROW, off=UNCOUNTED)
async def test_a_delta_that_asks_for_the_same_documents_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_bytes = []

    reopened = bases._reopened

    def noting(data: bytes, recipe: bytes) -> bases.Inside:
        inside = reopened(data, recipe)
        made_bytes.append(len(inside.image))
        return inside

    monkeypatch.setattr(bases, "_reopened", noting)
    monkeypatch.setattr("protocol.replica.content.deltas.expansion_cost.MAX_DELTA_WORK_BYTES", MOST_BYTES)
    content = MemoryPacks()
    _, delta = await with_three_documents(content)
    with suppress(TooLarge):
        await content.ingest(SPACE, delta)
    assert made_bytes
    assert sum(made_bytes[:-1]) <= MOST_BYTES


async def in_the_usual_threads(work: Callable[..., bytes], *args: object) -> bytes:
    return await asyncio.to_thread(work, *args)


@attack(ROW, off={"protocol.replica.content.deltas.expansion.apart": in_the_usual_threads})
async def test_while_deltas_are_rebuilt_all_other_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun, others_went_on = asyncio.get_running_loop(), asyncio.Event(), Event()
    in_time = []

    def long_work(frame: DeltaFrame, data: bytes, dictionary: bytes) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        in_time.append(others_went_on.wait(5.0))
        return open_delta_frame(frame, data, dictionary)

    monkeypatch.setattr(expansion, "open_delta_frame", long_work)
    loop.set_default_executor(ThreadPoolExecutor(1))
    rebuilt = asyncio.create_task(MemoryPacks().ingest(SPACE, delta_that_hops(1)))
    await begun.wait()
    await asyncio.to_thread(others_went_on.set)
    await rebuilt
    assert all(in_time)
