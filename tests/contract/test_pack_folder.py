"""What a `ContentStore` in a folder must do beside what every store does: files that outlive, fail, or are spoilt."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from protocol.errors import Code, LocalFailure
from protocol.limits import PACK_TARGET_BYTES, MiB
from protocol.replica import disk
from protocol.replica.content.kept.frames import Frames
from protocol.replica.content.kept.pack_files import part_name
from protocol.replica.content.kept.sqlite_content import Place
from protocol.replica.interfaces import PackBuild, PackInfo
from protocol.transfer.chunking import chunk_list, cut
from protocol.transfer.pack_writer import PackWriter
from tests.harness.bad_disk import failing
from tests.harness.content_stores import (
    FILES,
    add,
    made_elsewhere,
    name_of,
    noise,
    opened,
    publish,
    read,
    whole,
)
from tests.harness.entries import OTHER_SPACE, SPACE
from tests.harness.failures import code_of

# --- what only a folder can show --------------------------------------------------------------------------------------


def pack_file(folder: Path, pack: bytes) -> Path:
    return folder / "packs" / pack[:1].hex() / f"{pack.hex()}.pack"


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, FILES, unsent=True)
        await content.append_part(b"p" * 32, 0, b"12345")
        totals = await content.totals()
    async with opened(tmp_path) as content:
        assert await content.totals() == totals
        assert await read(content, name_of(FILES[-1])) == FILES[-1]
        assert await content.unsent_packs() == [PackInfo(pack.hash, pack.size, SPACE)]
        assert await content.part_size(b"p" * 32) == 5


async def test_each_frame_is_decoded_once_when_streams_are_read_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [noise(30_000, seed) for seed in range(200)]
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, files)
        opened_frames: list[int] = []
        read_frame = Frames._read

        def noting(self: Frames, place: Place) -> bytes:
            opened_frames.append(place.frame.offset)
            return read_frame(self, place)

        monkeypatch.setattr(Frames, "_read", noting)
        for data in files:
            assert await read(content, name_of(data)) == data
        assert opened_frames == [frame.offset for frame in pack.index.frames]
        assert len(opened_frames) > 1


async def test_damaged_content_is_noticed_at_reading_and_counts_as_missing(tmp_path: Path) -> None:
    damaged, sound = noise(50_000), noise(50_000, 2)
    async with opened(tmp_path) as content:
        (bad,) = await publish(content, [damaged])
        await publish(content, [sound])
        flip(pack_file(tmp_path, bad.hash), 1_000)
        with pytest.raises(LocalFailure) as failed:
            await read(content, name_of(damaged))
        assert failed.value.code is Code.DAMAGED
        assert (tmp_path / "damaged" / f"{bad.hash.hex()}.pack").exists()
        with pytest.raises(LocalFailure) as failed:
            await read(content, name_of(damaged))
        assert failed.value.code is Code.INCOMPLETE
        assert await content.pack(bad.hash) is None
        chunks = chunk_list(cut(damaged))
        assert await content.missing_chunks(SPACE, chunks) == set(chunks)
        assert await read(content, name_of(sound)) == sound
        (again,) = await publish(content, [damaged])
        assert again.hash == bad.hash
        assert await read(content, name_of(damaged)) == damaged


async def test_a_chunk_that_another_pack_holds_survives_damage(tmp_path: Path) -> None:
    data = noise(50_000)
    other, _ = made_elsewhere([b"else", data])
    async with opened(tmp_path) as content:
        (bad,) = await publish(content, [data])
        await content.ingest(OTHER_SPACE, other)
        flip(pack_file(tmp_path, bad.hash), 1_000)
        assert await read(content, name_of(data)) == data
        assert await read(content, name_of(data)) == data


async def test_a_pack_whose_file_vanishes_while_open_counts_as_missing(tmp_path: Path) -> None:
    data = noise(50_000)
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, [data])
        pack_file(tmp_path, pack.hash).unlink()
        with pytest.raises(LocalFailure) as failed:
            await read(content, name_of(data))
        assert failed.value.code is Code.DAMAGED
        assert await content.pack(pack.hash) is None
        await publish(content, [data])
        assert await read(content, name_of(data)) == data


async def test_content_that_cannot_be_read_just_now_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, [b"a file"])
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", failing(errno.EMFILE))
            assert await code_of(read(content, name_of(b"a file"))) is Code.STORAGE_FAILED
            assert await code_of(content.verify()) is Code.STORAGE_FAILED
        assert await read(content, name_of(b"a file")) == b"a file"
        assert await content.pack(pack.hash) is not None


async def test_a_failure_of_the_disk_says_what_the_system_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as content:
        await publish(content, [b"a file"])
        monkeypatch.setattr(Path, "open", failing(errno.EMFILE))
        with pytest.raises(LocalFailure, match=f"could not be read or written: {os.strerror(errno.EMFILE)}"):
            await read(content, name_of(b"a file"))


async def test_content_that_the_disk_cannot_read_any_more_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, [b"a file"])
        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", failing(errno.EIO))
            assert await code_of(read(content, name_of(b"a file"))) is Code.DAMAGED
        assert await content.pack(pack.hash) is None


async def test_a_build_whose_task_is_cancelled_can_be_aborted(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        build = await content.build(SPACE, unsent=False)
        await add(build, noise(9_000_000))
        task = asyncio.create_task(finish_or_abort(build))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert list((tmp_path / "parts").iterdir()) == []
        assert await content.totals() == (0, 0, 0)


async def finish_or_abort(build: PackBuild) -> None:
    try:
        await build.finish()
    except asyncio.CancelledError:
        await build.abort()
        raise


async def test_a_pack_whose_bringer_goes_away_is_taken_in_all_the_same(tmp_path: Path) -> None:
    data, made = made_elsewhere([noise(100_000)])
    async with opened(tmp_path) as content:
        task = asyncio.create_task(content.ingest(SPACE, data))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await content.close()
        assert await content.pack(made.hash) is not None


async def test_verify_moves_bad_packs_aside(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        packs = [(await publish(content, [noise(30_000, seed)]))[0].hash for seed in range(4)]
        flip(pack_file(tmp_path, packs[1]), 500)
        flip(pack_file(tmp_path, packs[2]), -1)
        pack_file(tmp_path, packs[3]).unlink()
        assert {damage.id for damage in await content.verify()} == set(packs[1:])
        assert {damage.what for damage in await content.verify()} == set()
        assert (await content.totals())[0] == 1


async def test_a_pack_file_that_was_cut_or_removed_counts_as_missing_after_opening(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        packs = [(await publish(content, [noise(30_000, seed)]))[0].hash for seed in range(3)]
    pack_file(tmp_path, packs[0]).unlink()
    os.truncate(pack_file(tmp_path, packs[1]), 10_000)
    async with opened(tmp_path) as content:
        assert [await content.pack(pack) is None for pack in packs] == [True, True, False]
        assert (await content.totals())[:2] == (1, 1)
        assert (tmp_path / "damaged" / f"{packs[1].hex()}.pack").exists()


async def test_packs_that_an_opening_found_gone_are_told_by_the_next_verify_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        packs = [(await publish(content, [noise(30_000, seed)]))[0] for seed in range(3)]
        back = await content.read_pack(packs[2].hash, 0, packs[2].size)
    pack_file(tmp_path, packs[0].hash).unlink()
    os.truncate(pack_file(tmp_path, packs[1].hash), 0)
    pack_file(tmp_path, packs[2].hash).unlink()
    async with opened(tmp_path) as content:
        assert (await content.totals())[:2] == (0, 0), "a command that looked at other things in between"
    async with opened(tmp_path) as content:
        await content.ingest(SPACE, back)
        assert {damage.id for damage in await content.verify()} == {packs[0].hash, packs[1].hash}
        assert await content.verify() == []


async def test_a_whole_pack_without_rows_becomes_a_part_again(tmp_path: Path) -> None:
    data, made = made_elsewhere([noise(1_000)])
    async with opened(tmp_path) as content:
        assert await content.totals() == (0, 0, 0)
    pack_file(tmp_path, made.hash).parent.mkdir()
    pack_file(tmp_path, made.hash).write_bytes(data)
    (tmp_path / "packs" / "Thumbs.db").write_bytes(b"what a file manager leaves")
    async with opened(tmp_path) as content:
        assert await content.pack(made.hash) is None
        assert await content.part_size(made.hash) == len(data)
        await content.finish_part(SPACE, made.hash, len(data))
        assert await whole(content, made) == data


async def test_what_was_being_written_when_the_power_went_is_cleared_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        build = await content.build(SPACE, unsent=False)
        await add(build, noise(5_000_000))
        await build._settle()
        assert build._open is not None
        build._open.file.close()
        assert [file.suffix for file in (tmp_path / "parts").iterdir()] == [".passing"]
    async with opened(tmp_path) as content:
        assert list((tmp_path / "parts").iterdir()) == []
        assert await content.totals() == (0, 0, 0)


@pytest.mark.parametrize("date_s", [0, 1_451_606_400, 4_102_444_800], ids=["1970", "2016", "2100"])
async def test_what_is_forgotten_takes_the_parts_that_an_earlier_program_left_whatever_their_dates(
    tmp_path: Path, date_s: int
) -> None:
    async with opened(tmp_path) as content:
        await content.append_part(b"p" * 32, 0, b"of a remark")
        await content.append_part(b"q" * 32, 0, b"of a film")
    for part in (tmp_path / "parts").iterdir():
        os.utime(part, (date_s, date_s))
    async with opened(tmp_path) as content:
        await content.append_part(b"q" * 32, 9, b", gone on with")
        for part in (tmp_path / "parts").iterdir():
            os.utime(part, (date_s, date_s))
        await content.forget_unfinished([SPACE])
        assert await content.part_size(b"p" * 32) == 0
        assert await content.part_size(b"q" * 32) == 23


async def test_a_part_that_was_dated_just_now_by_an_earlier_program_goes_with_what_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        await content.append_part(b"p" * 32, 0, b"of a remark")
    async with opened(tmp_path) as content:
        await content.forget_unfinished([SPACE])
        assert await content.part_size(b"p" * 32) == 0


async def test_what_a_program_has_added_to_within_ten_minutes_outlives_what_is_forgotten_meanwhile(
    tmp_path: Path,
) -> None:
    now_s = [0.0]
    async with opened(tmp_path, lambda: now_s[0]) as content:
        await content.append_part(b"p" * 32, 0, b"of a film")
        now_s[0] += 599
        await content.forget_unfinished([SPACE])
        assert await content.part_size(b"p" * 32) == 9
        await content.mend_part(b"p" * 32, 0, b"OF")
        now_s[0] += 599
        await content.forget_unfinished([SPACE])
        assert await content.part_size(b"p" * 32) == 9
        now_s[0] += 2
        await content.forget_unfinished([SPACE])
        assert await content.part_size(b"p" * 32) == 0


async def test_an_aborted_build_leaves_no_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        build = await content.build(SPACE, unsent=False)
        await add(build, noise(PACK_TARGET_BYTES + 5 * MiB))
        await build.abort()
        assert list((tmp_path / "parts").iterdir()) == []


# --- a disk that fails [6] --------------------------------------------------------------------------------------------


async def test_after_a_failed_flush_packs_are_refused_until_the_store_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, made = made_elsewhere([noise(1_000)])
    async with opened(tmp_path) as content:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(errno.EIO))
            assert await code_of(content.ingest(SPACE, data)) is Code.STORAGE_FAILED
        assert await code_of(content.ingest(SPACE, data)) is Code.STORAGE_FAILED
        assert await code_of(content.append_part(made.hash, 0, data)) is Code.STORAGE_FAILED
        assert await code_of(publish(content, [b"x"])) is Code.STORAGE_FAILED
        assert await content.totals() == (0, 0, 0)
    async with opened(tmp_path) as content:
        assert await code_of(content.ingest(SPACE, data)) is None


async def test_a_full_disk_refuses_what_does_not_fit_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = made_elsewhere([noise(1_000)])
    async with opened(tmp_path) as content:
        await publish(content, [b"before"])
        with monkeypatch.context() as patched:
            patched.setattr(disk, "_write_some", failing(errno.ENOSPC))
            assert await code_of(content.ingest(SPACE, data)) is Code.DISK_FULL
            build = await content.build(SPACE, unsent=False)
            stream = await add(build, noise(5_000))
            assert await code_of(build.finish()) is Code.DISK_FULL
            await build.abort()
        assert list((tmp_path / "parts").iterdir()) == []
        assert await content.chunk_list(stream) is None
        assert await code_of(content.ingest(SPACE, data)) is None
        assert await read(content, name_of(b"before")) == b"before"


# --- giving up, and making room ---------------------------------------------------------------------------------------


def moved_aside(folder: Path) -> list[Path]:
    return list((folder / "damaged").rglob("*"))


def spoil_packs(folder: Path) -> None:
    for file in folder.rglob("*.pack"):
        file.write_bytes(bytes(file.stat().st_size))


async def test_what_was_moved_aside_goes_when_something_is_given_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as packs:
        await publish(packs, [noise(300_000)])
        spoil_packs(tmp_path)
        await packs.verify()
        assert moved_aside(tmp_path)
        await packs.forget({SPACE}, set())
        assert not moved_aside(tmp_path)


async def test_while_something_is_built_no_chunk_goes_that_it_may_name(tmp_path: Path) -> None:
    data = noise(70_000)
    async with opened(tmp_path) as packs:
        writer = PackWriter()
        for chunk in cut(data):
            writer.add_chunk(chunk)
        pack = writer.finish()
        await packs.ingest(SPACE, writer.take())
        build = await packs.build(SPACE, unsent=True)
        await add(build, data)
        assert await packs.forget_unnamed([pack.hash]) == []
        await build.finish()
        assert await packs.forget_unnamed([pack.hash]) == []
        assert await read(packs, name_of(data)) == data


async def test_chunks_that_no_list_names_are_found_however_many_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.packing.pack_remains._CHUNKS_AT_ONCE", 3)
    async with opened(tmp_path) as packs:
        lost = []
        for seed in range(4):
            writer = PackWriter()
            for chunk in cut(noise(300_000, seed)):
                writer.add_chunk(chunk)
            lost.append(writer.finish().hash)
            await packs.ingest(SPACE, writer.take())
            await publish(packs, [noise(300_000, 10 + seed)])
        assert await packs.unnamed() == lost


async def test_the_file_of_a_dropped_pack_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path) as packs:
        (pack,) = await publish(packs, [noise(70_000)])
        assert await packs.free_bytes() <= await packs.disk_bytes()
        await packs.drop([pack.hash])
    assert not any(name.endswith(".pack") for _, _, names in os.walk(tmp_path) for name in names)


async def test_no_part_is_removed_by_a_forgetting_while_somebody_may_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = noise(300_000, 1)
    async with opened(tmp_path) as content:
        (pack,) = await publish(content, [work], sealed=True)
        is_kept_from_writers: list[bool] = []
        remove = disk.Disk.remove

        def noting(self: disk.Disk, name: str) -> None:
            if name == part_name(pack.hash):
                is_kept_from_writers.append(content._part_lock(pack.hash).locked())
            remove(self, name)

        monkeypatch.setattr(disk.Disk, "remove", noting)
        await content.forget({SPACE}, {name_of(work)})
        assert is_kept_from_writers == [True]
