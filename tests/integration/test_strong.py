"""What a server prepares for machines that have nothing and a thin line, and what they make of it."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.limits import KiB, MiB
from protocol.messages.wire import SYNC_PATH
from protocol.replica.content.deltas import expansion, expansion_cost, strong_build, strong_worker
from protocol.replica.content.deltas.bases import read_range
from protocol.replica.content.deltas.strong_build import reading_order
from protocol.replica.content.deltas.strong_worker import StrongWorker, Teller
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.delta import Own, Spliced
from protocol.transfer.delta_writer import LEVEL, DeltaWriter, compress
from protocol.transfer.manifest import ManifestEntry
from protocol.transfer.reflate import fold
from sync_agent.machine.marks import NO_STRONG_MARK
from sync_agent.pacing import line_rate
from sync_agent.pacing.line_rate import MEASURED_S, THIN_BYTES_PER_S, Gauge
from sync_server.opened import strong
from sync_server.opened.strong import StrongKeeper
from tests.harness.classroom import Classroom, Device, Files, classroom, faulty, syncs
from tests.harness.edited_lesson import AFTER, BEFORE, archive

WORDS = [f"mot{number}" for number in range(4_000)]
PARAGRAPHS = [" ".join(Random(number).choices(WORDS, k=60)) for number in range(300)]


def text(seed: int) -> bytes:
    """A text that says again, far behind, what was said before."""
    return "\n".join(Random(seed).choices(PARAGRAPHS, k=200)).encode()


LESSON: Files = {
    "page.html": text(1),
    "cours.odt": archive({"content.xml": text(2), "styles.xml": text(3)}),
    "image.png": Random(4).randbytes(300_000),
    "vide.txt": b"",
}
OTHER: Files = {"dossier.zip": archive({f"{number}.txt": text(number) for number in range(10, 16)}), **BEFORE}


@dataclass
class Here:
    """The work of the process, done here; `spoil` makes images that are not the files'."""

    spoil: bool = False
    dies_after: int = 1_000_000
    teller: Teller = field(default_factory=Teller)
    levels: set[int] = field(default_factory=set)

    async def compress(self, plain: bytes, level: int) -> bytes:
        self.levels.add(level)
        self.dies_after -= 1
        if self.dies_after < 0:
            raise LocalFailure(Code.INTERRUPTED, "killed")
        return compress(plain, b"", 3)

    async def tell(self, data: bytes, at: int, *, anew: bool) -> tuple[bytes, tuple[Own | int, ...], bytes]:
        recipe, told = self.teller.tell(data, at, anew=anew)
        return recipe, told.parts, told.new.replace(b"mot1", b"mot2") if recipe and self.spoil else told.new


@pytest.fixture
async def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Classroom]:
    monkeypatch.setattr(strong, "MIN_PREPARED_BYTES", 0)
    async with classroom(tmp_path, faulty) as made:
        yield made


async def catalogue(room: Classroom) -> tuple[Device, dict[bytes, Files]]:
    """Two lessons that the server has."""
    teacher = await room.teacher()
    items = {(await room.publish(teacher, files)).item: files for files in (LESSON, OTHER)}
    await teacher.session.sync()
    return teacher, items


async def prepare(room: Classroom, effort: Here | StrongWorker | None = None) -> list[bytes]:
    """A server that has had two rounds of peace."""
    keeper = StrongKeeper(room.territory.replica, room.territory.holdings)
    assert await keeper.tend(effort or Here()) == []
    return await keeper.tend(effort or Here())


async def thin(room: Classroom) -> Device:
    device = await room.machine()
    device.session._asking.thin = True
    return device


async def fetched(room: Classroom, device: Device, items: dict[bytes, Files]) -> int:
    result = await device.session.sync()
    for item, files in items.items():
        assert await device.files(item) == files
    assert await device.agent.missing() == []
    return result.bytes_in


async def test_over_a_thin_line_a_first_sync_takes_clearly_less_and_brings_the_same(room: Classroom) -> None:
    _, items = await catalogue(room)
    plain = await fetched(room, await room.machine(), items)
    worker = StrongWorker()
    try:
        assert await prepare(room, worker) == [room.space]
    finally:
        await worker.close()
    device = await thin(room)
    assert await fetched(room, device, items) < plain * 0.9
    # what is for first syncs only is not kept twice on a pupil's PC
    assert all(delta.bases for delta in await device.agent.replica.content.deltas(room.space))
    assert await device.agent.replica.store.mark(NO_STRONG_MARK) is None
    assert not list((device.agent.folder / "parts").iterdir())


async def test_a_line_that_turns_out_to_be_thin_changes_over_in_the_middle(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, items = await catalogue(room)
    await prepare(room)
    monkeypatch.setattr(line_rate, "MEASURED_S", 0.0)
    monkeypatch.setattr(line_rate, "THIN_BYTES_PER_S", 10**15)
    monkeypatch.setattr("sync_agent.sync.transfer.WORTH_BYTES", 0)
    device = await room.machine()
    asked = device.faulty.traffic.round_trips
    await fetched(room, device, items)
    assert device.session._asking.thin
    assert device.faulty.traffic.round_trips - asked < 12


async def test_what_came_after_the_preparation_comes_on_top_of_it(room: Classroom) -> None:
    teacher, items = await catalogue(room)
    await prepare(room)
    last = list(items)[-1]
    items[last] = {**OTHER, **AFTER}
    await room.publish(teacher, items[last], item=last)
    await teacher.session.sync()
    late = await thin(room)
    taken = await fetched(room, late, items)
    assert (
        taken
        < sum(delta.size for delta in await room.territory.replica.content.deltas(room.space) if delta.strong) + 40_000
    )


async def test_a_space_is_prepared_once_and_again_when_much_has_come(room: Classroom) -> None:
    teacher, _ = await catalogue(room)
    keeper = StrongKeeper(room.territory.replica, room.territory.holdings)
    assert [await keeper.tend(Here()) for _ in range(4)] == [[], [room.space], [], []]
    before = [delta.hash for delta in await room.territory.replica.content.deltas(room.space) if delta.strong]
    await room.publish(teacher, {"grand.bin": Random(9).randbytes(3 * MiB)})
    await teacher.session.sync()
    assert [await keeper.tend(Here()) for _ in range(3)] == [[], [room.space], []]
    after = [delta.hash for delta in await room.territory.replica.content.deltas(room.space) if delta.strong]
    assert set(before).isdisjoint(after)


async def test_the_greatest_effort_is_for_spaces_of_which_it_takes_seconds(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalogue(room)
    few, many = Here(), Here()
    await prepare(room, few)
    monkeypatch.setattr(strong_build, "_LONG_BYTES", 1_000)
    for delta in await room.territory.replica.content.deltas(room.space):
        await room.territory.replica.content.drop_delta(delta.hash)
    await prepare(room, many)
    assert few.levels == {LEVEL}
    assert many.levels == {strong_build._LONG_LEVEL}


async def test_an_edit_that_a_delta_brings_is_no_reason_to_prepare_all_of_it_again(room: Classroom) -> None:
    teacher, items = await catalogue(room)
    keeper = StrongKeeper(room.territory.replica, room.territory.holdings)
    assert [await keeper.tend(Here()) for _ in range(3)] == [[], [room.space], []]
    edited = next(item for item, files in items.items() if files is OTHER)
    await room.publish(teacher, {**OTHER, **AFTER}, item=edited)
    await teacher.session.sync()
    assert [await keeper.tend(Here()) for _ in range(3)] == [[], [], []]
    for delta in await room.territory.replica.content.deltas(room.space):
        if not delta.strong:
            await room.territory.replica.content.drop_delta(delta.hash)
    await room.publish(teacher, {"note.txt": b"encore"})
    await teacher.session.sync()
    assert [await keeper.tend(Here()) for _ in range(3)] == [[], [room.space], []]


async def test_a_space_whose_content_is_still_on_its_way_is_looked_at_again(room: Classroom) -> None:
    teacher = await room.teacher()
    await room.publish(teacher, {"image.png": Random(4).randbytes(300_000), "page.html": text(1)})
    teacher.faulty.faults.out_bytes = 20_000
    assert not await syncs(teacher)
    keeper = StrongKeeper(room.territory.replica, room.territory.holdings)
    assert [await keeper.tend(Here()) for _ in range(3)] == [[], [], []]
    teacher.faulty.faults.out_bytes = None
    await teacher.session.sync()
    assert [await keeper.tend(Here()) for _ in range(3)].count([room.space]) == 1


async def test_a_lesson_that_is_no_list_of_files_keeps_a_class_from_no_preparation(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, _ = await catalogue(room)
    monkeypatch.setattr("sync_agent.coursework.publisher.encode_manifest", lambda _: b"no list of files")
    await room.publish(teacher, OTHER)
    await teacher.session.sync()
    assert await prepare(room) == [room.space]


async def test_what_two_documents_share_is_said_once_however_far_apart_they_stand(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strong_build, "_FRAME_BYTES", 100_000)
    picture, between = Random(5).randbytes(200_000), Random(6).randbytes(300_000)
    lesson = {
        "a/cours.odt": archive({"content.xml": text(2), "image.bin": picture}),
        "b.zip": archive({"autre.bin": between}),
        "cours.epub": archive({"texte.html": text(7), "image.bin": picture}),
        "image.png": picture,
    }
    teacher = await room.teacher()
    item = (await room.publish(teacher, lesson)).item
    await teacher.session.sync()
    await prepare(room)
    (kept,) = [delta for delta in await room.territory.replica.content.deltas(room.space) if delta.strong]
    assert kept.size < 700_000
    await fetched(room, await thin(room), {item: lesson})


async def test_several_containers_bring_the_lessons_only_together(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strong_build, "CONTAINER_BYTES", 100_000)
    monkeypatch.setattr(strong_build, "_FRAME_BYTES", 100_000)
    _, items = await catalogue(room)
    await prepare(room)
    kept = [delta for delta in await room.territory.replica.content.deltas(room.space) if delta.strong]
    assert len(kept) > 2
    assert kept[-1].parts == tuple(delta.hash for delta in kept[:-1])
    await fetched(room, await thin(room), items)
    # one of them lost: packs bring the lessons
    await room.territory.replica.content.drop_delta(kept[0].hash)
    await fetched(room, await thin(room), items)


async def test_a_preparation_that_is_cut_short_leaves_nothing(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strong_build, "CONTAINER_BYTES", 100_000)
    monkeypatch.setattr(strong_build, "_FRAME_BYTES", 100_000)
    _, items = await catalogue(room)
    assert await prepare(room, Here(dies_after=4)) == []
    assert not any(delta.strong for delta in await room.territory.replica.content.deltas(room.space))
    await fetched(room, await thin(room), items)


async def test_a_machine_on_which_files_come_out_otherwise_takes_packs_and_remembers_it(room: Classroom) -> None:
    _, items = await catalogue(room)
    await prepare(room, Here(spoil=True))
    device = await thin(room)
    await fetched(room, device, items)
    assert await device.agent.replica.store.mark(NO_STRONG_MARK) is not None
    posts: list[str] = []
    device.faulty.faults.on_post = posts.append
    await device.session.sync()
    assert posts == [SYNC_PATH]


async def test_a_worker_that_dies_fails_the_job_and_starts_again_with_the_next() -> None:
    worker = StrongWorker()
    try:
        assert await worker.compress(b"a" * 1_000, LEVEL) == compress(b"a" * 1_000, b"", LEVEL)
        recipe, parts, new = await worker.tell(LESSON["cours.odt"], 0, anew=True)
        assert recipe
        assert parts == (len(new),)
        assert await worker.tell(LESSON["cours.odt"], len(new), anew=False) == (recipe, (Own(0, len(new)),), b"")
        assert await worker.tell(LESSON["cours.odt"], 0, anew=True) == (recipe, parts, new)
        assert await worker.tell(b"no container", len(new), anew=False) == (b"", (12,), b"no container")
        process = worker._process
        assert process is not None
        process.kill()
        with pytest.raises(LocalFailure) as failed:
            await worker.compress(b"b" * 1_000, LEVEL)
        assert failed.value.code is Code.INTERRUPTED
        assert await worker.compress(b"c", LEVEL) == compress(b"c", b"", LEVEL)
    finally:
        await worker.close()


def test_a_line_is_thin_when_it_has_been_slow_for_a_while() -> None:
    slow, fast = Gauge(), Gauge()
    for gauge, rate in ((slow, THIN_BYTES_PER_S // 2), (fast, THIN_BYTES_PER_S * 2)):
        assert not gauge.note(10 * MiB, 100.0)
        assert not gauge.note(rate // 2, 100.5)
        assert gauge.note(int(rate * (MEASURED_S - 0.5)), 100.0 + MEASURED_S) is (gauge is slow)


def test_what_is_read_comes_before_what_is_looked_at_and_listened_to() -> None:
    names = "film.mp4 son.wav image.png cours.odt page.html x.pdf b.epub cours.docx b/page.HTM"
    ordered = sorted((ManifestEntry(path, 1, bytes(32)) for path in names.split()), key=reading_order)
    assert [file.path for file in ordered] == [
        "b/page.HTM", "page.html", "x.pdf", "b.epub", "cours.docx", "cours.odt", "image.png", "son.wav", "film.mp4",
    ]  # fmt: skip


def test_the_worker_does_jobs_one_after_the_other_until_its_input_ends() -> None:
    image = b"a" * 5_000
    jobs = BytesIO(
        b"".join(
            struct.pack(">BII", kind, len(data), LEVEL if kind == 1 else 0) + data
            for kind, data in ((1, image), (3, LESSON["cours.odt"]), (3, b"no container"), (1, Random(1).randbytes(99)))
        )
        + b"\x01\x00"  # cut short: whoever asked is gone
    )
    results = BytesIO()
    strong_worker.work(jobs, results)
    results.seek(0)
    found = []
    while head := results.read(12):
        recipe, parts, rest = struct.unpack(">III", head)
        recipe_bytes, _, rest_bytes = results.read(recipe), results.read(8 * parts), results.read(rest)
        found.append((recipe_bytes, rest_bytes))
    assert len(found) == 4
    assert found[0] == (b"", compress(image, b"", LEVEL))
    recipe, plain = found[1]
    assert fold(plain, recipe, max_bytes=MiB) == LESSON["cours.odt"]
    assert found[2] == (b"", b"no container")
    assert len(found[3][1]) > 99


async def test_a_job_that_is_given_up_leaves_no_worker_that_would_answer_it_later() -> None:
    worker = StrongWorker()
    job = asyncio.create_task(worker.compress(Random(1).randbytes(8 * MiB), LEVEL))
    while worker._process is None:  # noqa: ASYNC110  (the worker tells nobody)
        await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert worker._process is None


async def test_a_file_said_from_many_places_keeps_few_of_the_frames_that_it_is_said_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expansion_cost, "KEPT_BYTES", 2 * MiB)
    writer = DeltaWriter()
    frames = [Random(number).randbytes(MiB) for number in range(6)]
    for frame in frames:
        writer.add_frame(frame, (), b"")
    # from one frame and another in turn, so that each has to be opened again
    places = [Own(turn % 6 * MiB + turn // 6 * 8_192, 8_192) for turn in range(600)]
    writer.add_target(Spliced((6 * MiB,)))
    writer.add_target(Spliced((*places, 1)))
    writer.add_frame(b"!", (), b"")
    writer.finish()
    data = writer.take()
    content = MemoryPacks()
    tracemalloc.start()
    try:
        await content.ingest(bytes(32), data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    made = b"".join(b"".join(frames)[place.start : place.start + place.length] for place in places) + b"!"
    assert await read_range(content, stream_id(chunk_list(cut(made))), 0, len(made)) == made
    assert peak_bytes < 80 * MiB


async def test_a_file_that_would_cost_its_readers_too_much_is_sent_as_it_is(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strong_build, "_MOST_WORK_BYTES", 0)
    _, items = await catalogue(room)
    await prepare(room)
    kept = [delta for delta in await room.territory.replica.content.deltas(room.space) if delta.strong]
    assert kept
    assert not any(delta.levels for delta in kept)
    await fetched(room, await thin(room), items)


async def test_what_a_container_costs_its_readers_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    work = expansion_cost.Work()
    monkeypatch.setattr(expansion, "Work", lambda: work)
    writer, foreseen = DeltaWriter(), expansion_cost.Foreseen(8 * MiB)
    foreseen_bytes = 0
    for number in range(3):
        writer.add_frame(Random(number).randbytes(100 * KiB) + bytes(8 * MiB - 100 * KiB), (), b"")
        writer.add_target(Spliced((8 * MiB,)))
        foreseen_bytes += foreseen.file((8 * MiB,), number * 8 * MiB, folded=False)
        foreseen.frame(8 * MiB)
    parts = tuple(Own(turn % 3 * 8 * MiB + turn, 1) for turn in range(20))
    writer.add_target(Spliced(parts))
    foreseen_bytes += foreseen.file(parts, 24 * MiB, folded=False)
    writer.finish()
    await MemoryPacks().ingest(bytes(32), writer.take())
    assert work.done_bytes <= foreseen_bytes <= work.done_bytes + 8 * MiB
