"""What a replica holds of what its entries name: complete or not, and in which packs (R17)."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import pytest
from blake3 import blake3

from protocol.errors import Code, LocalFailure
from protocol.portable_names import portability_problems
from protocol.replica.content.holdings import Holdings, Need, NotReadNow
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.pack_files import PACKS
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import COMPLETE_MARKS, DeltaInfo
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer import manifest
from protocol.transfer.chunking import ChunkList, ChunkRef, chunk_list, cut, stream_id
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.transfer.pack_writer import PackWriter
from tests.harness.bad_disk import failing_to_open
from tests.harness.caller import in_sealed_form, pack_files, pack_sealed

SPACE, ELSEWHERE = bytes([1]) * 32, bytes([2]) * 32
FILES = {"a": b"a" * 100, "b/c": Random(1).randbytes(40_000)}


async def put(content: MemoryPacks | PackFolder, *streams: bytes) -> list[bytes]:
    """Whole streams, packed; their ids."""
    build = await content.build(SPACE, unsent=False)
    names = []
    for data in streams:
        chunks = cut(data)
        for chunk in chunks:
            await build.chunk(chunk)
        names.append(await build.stream(chunk_list(chunks)))
    await build.finish()
    return names


async def revision(content: MemoryPacks, *rows: tuple[str, int, bytes]) -> Need:
    """A manifest with these rows, its content apart."""
    (stream,) = await put(content, encode_manifest(ManifestEntry(*row) for row in rows))
    return Need(SPACE, stream, sealed=False)


@pytest.fixture
def content() -> MemoryPacks:
    return MemoryPacks()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def holdings(store: MemoryStore, content: MemoryPacks) -> Holdings:
    return Holdings(store, content)


async def test_a_revision_is_complete_when_manifest_lists_and_chunks_are_here(
    store: MemoryStore, content: MemoryPacks, holdings: Holdings
) -> None:
    packed = await pack_files(FILES)
    need = Need(SPACE, packed.ref.stream, sealed=False)
    assert not await holdings.is_complete(need)
    assert await holdings.incomplete([need, need], most=1) == [need]
    await content.ingest(SPACE, packed.packs[0])
    assert await holdings.incomplete([need]) == []
    assert [file.path for file in await holdings.manifest(need.stream)] == ["a", "b/c"]
    again = Holdings(store, content)
    await again.load()
    assert await again.incomplete([need]) == []
    await again.forget()
    assert await store.marks("complete/") == {}


async def _fill(store: SqliteStore, size: int) -> None:
    for number in range(1_000):
        await store.set_marks({f"filled/{size}/{number}": bytes(size)})


async def test_what_is_here_is_said_to_be_here_where_there_is_no_room_to_note_it(
    tmp_path: Path, content: MemoryPacks
) -> None:
    store = await SqliteStore.open(tmp_path)
    await store.database.run(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
    for size in (500, 50, 0):
        with pytest.raises(LocalFailure, match="the disk is full"):
            await _fill(store, size)
    packed = await pack_files(FILES)
    need = Need(SPACE, packed.ref.stream, sealed=False)
    await content.ingest(SPACE, packed.packs[0])
    assert await Holdings(store, content).is_complete(need)
    assert not await store.marks(COMPLETE_MARKS), "whoever opens this store next looks again"
    await store.close()


class LookedAt(MemoryPacks):
    """Counts how often it is asked which lists of files are missing, and takes its time over that."""

    looked = 0

    async def missing_streams(self, space: bytes, streams: Sequence[bytes]) -> set[bytes]:
        self.looked += 1
        await asyncio.sleep(0)
        return await super().missing_streams(space, streams)


async def test_of_many_who_ask_at_once_whether_content_is_here_one_looks(store: MemoryStore) -> None:
    content = LookedAt()
    holdings = Holdings(store, content)
    packed = await pack_files(FILES)
    need = Need(SPACE, packed.ref.stream, sealed=False)
    await content.ingest(SPACE, packed.packs[0])
    assert await asyncio.gather(*[holdings.is_complete(need) for _ in range(5)]) == [True] * 5
    assert content.looked == 1


async def test_content_of_another_space_is_not_here(content: MemoryPacks, holdings: Holdings) -> None:
    packed, sealed = await pack_files(FILES), await pack_sealed(b"s" * 5_000)
    for pack in (*packed.packs, *sealed.packs):
        await content.ingest(ELSEWHERE, pack)
    needs = [Need(SPACE, packed.ref.stream, sealed=False), Need(SPACE, sealed.ref.stream, sealed=True)]
    assert await holdings.incomplete(needs) == needs
    assert [await holdings.packs(need) for need in needs] == [[], []]


async def test_a_hand_in_is_complete_without_looking_inside(content: MemoryPacks, holdings: Holdings) -> None:
    sealed = await pack_sealed(b"s" * 5_000)
    need = Need(SPACE, sealed.ref.stream, sealed=True)
    await content.ingest(SPACE, sealed.packs[0])
    assert await holdings.is_complete(need)
    assert len(await holdings.packs(need)) == 1


async def test_what_has_not_the_form_of_sealed_work_is_nobodys_hand_in_and_stays_what_it_is_to_the_class(
    content: MemoryPacks, holdings: Holdings
) -> None:
    packed = await pack_files({"remarque.txt": Random(1).randbytes(150_000)})
    lesson, claimed = (Need(SPACE, packed.ref.stream, sealed) for sealed in (False, True))
    assert await holdings.incomplete([claimed]) == [claimed], "of what is not here nobody can tell"
    await content.ingest(SPACE, packed.packs[0])
    for _ in range(2):
        assert await holdings.incomplete([claimed]) == []
        assert await holdings.complete([claimed]) == set()
        assert await holdings.packs(claimed) == []
        assert await holdings.chunks(claimed) is None
    assert holdings.doubtful([claimed, lesson]) == [lesson]
    assert await holdings.complete([claimed, lesson]) == {lesson}
    assert len(await holdings.packs(lesson)) == 1
    assert await holdings.packs(claimed) == []
    assert await holdings.lists(claimed) is None


async def test_of_what_is_claimed_to_be_work_only_so_much_is_remembered(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.holdings._LACKING_REMEMBERED", 2)
    claimed = [Need(SPACE, stream, sealed=True) for stream in await put(content, b"a", b"b", b"c")]
    for _ in range(2):
        assert await holdings.incomplete(claimed) == []
    assert len(holdings.doubtful(claimed)) == 1


async def test_a_list_that_is_false_about_chunks_that_are_here_brings_and_gives_nothing(
    content: MemoryPacks, holdings: Holdings
) -> None:
    sealed = await pack_sealed(Random(1).randbytes(150_000))
    await content.ingest(SPACE, sealed.packs[0])
    first, *others = await content.chunk_list(sealed.ref.stream) or ()
    writer = PackWriter()
    false = writer.add_stream((ChunkRef(others[0].hash, first.length), *others))
    writer.finish()
    await content.ingest(SPACE, writer.take())
    need = Need(SPACE, false, sealed=True)
    assert await holdings.incomplete([need]) == [need]
    assert await holdings.packs(Need(SPACE, sealed.ref.stream, sealed=True)) != await holdings.packs(need)


def in_parts(*parts: tuple[list[bytes], list[ChunkList]]) -> list[bytes]:
    """Packs, each with some chunks and some lists."""
    found = []
    for chunks, lists in parts:
        writer = PackWriter(level=1)
        for chunk in chunks:
            writer.add_chunk(chunk)
        for each in lists:
            writer.add_stream(each)
        writer.finish()
        found.append(writer.take())
    return found


async def test_what_lacked_a_part_is_complete_once_all_have_come_in_whatever_order(
    content: MemoryPacks, holdings: Holdings
) -> None:
    chunks = in_sealed_form(Random(2).randbytes(150_000))
    names = chunk_list(chunks)
    sealed, twice = (Need(SPACE, stream_id(names), sealed=True), Need(SPACE, stream_id(names[:1]), sealed=True))
    packs = in_parts(([], [names]), (chunks[2:], []), (chunks[:1], [names[:1]]), (chunks[1:2], []))
    lacking = []
    for pack in packs:
        await content.ingest(SPACE, pack)
        lacking.append(await holdings.incomplete([sealed, twice, sealed]))
        assert await holdings.is_complete(sealed) is (sealed not in lacking[-1])
    assert lacking == [[sealed, twice], [sealed, twice], [sealed], []]


async def test_a_list_that_only_another_space_had_brought_is_looked_for_until_this_one_has_it(
    content: MemoryPacks, holdings: Holdings
) -> None:
    packed = await pack_sealed(b"s" * 5_000)
    need = Need(SPACE, packed.ref.stream, sealed=True)
    await content.ingest(ELSEWHERE, packed.packs[0])
    for _ in range(2):
        assert not await holdings.is_complete(need)
    await content.ingest(SPACE, packed.packs[0])
    assert await holdings.is_complete(need)


async def test_a_revision_lacks_what_its_manifest_names(content: MemoryPacks, holdings: Holdings) -> None:
    (here,) = await put(content, b"here")
    absent = stream_id(chunk_list([b"absent"]))
    for rows in (
        [("a", 4, here), ("b", 6, absent)],
        [("a", 5, here)],
        [("a", 4, here), ("b", 5, here)],
    ):
        assert not await holdings.is_complete(await revision(content, *rows)), rows
    assert await holdings.is_complete(await revision(content, ("a", 4, here), ("b", 4, here)))


async def test_a_manifest_that_cannot_be_read_is_never_complete(content: MemoryPacks, holdings: Holdings) -> None:
    (stream,) = await put(content, b"no manifest")
    need = Need(SPACE, stream, sealed=False)
    assert not await holdings.is_complete(need)
    assert len(await holdings.packs(need)) == 1, "it is passed on all the same"
    with pytest.raises(LocalFailure) as caught:
        await holdings.manifest(stream)
    assert caught.value.code is Code.DAMAGED


@pytest.mark.parametrize("why", ["no list of files", "too long", "a wrong size", "two sizes of one file"])
async def test_what_is_here_and_is_no_list_of_files_is_read_once_and_not_asked_for(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    (file,) = await put(content, b"here")
    listed = {"a wrong size": [("a", 5, file)], "two sizes of one file": [("a", 5, file), ("b", 4, file)]}.get(why)
    if listed is None:
        (stream,) = await put(content, b"no list of files" if why != "too long" else b"x" * 60)
        need = Need(SPACE, stream, sealed=False)
        monkeypatch.setattr("protocol.replica.content.holdings.MAX_MANIFEST_BYTES", 50)
    else:
        need = await revision(content, *listed)
    assert await holdings.incomplete([need]) == []
    monkeypatch.setattr(content, "read_stream", None)
    for _ in range(2):
        assert await holdings.incomplete([need]) == []
        assert holdings.doubtful([need]) == []
        assert await holdings.complete([need]) == set()
    assert not await holdings.is_complete(need)
    assert len(await holdings.packs(need)) == 1, "it is passed on all the same"


async def test_what_a_disk_did_not_give_back_is_a_list_of_files_all_the_same(tmp_path: Path) -> None:
    packed = await pack_files(FILES)
    need = Need(SPACE, packed.ref.stream, sealed=False)
    store = await SqliteStore.open(tmp_path)
    content = await PackFolder.open(tmp_path, store)
    await content.ingest(SPACE, packed.packs[0])
    (file,) = (tmp_path / PACKS).rglob("*.pack")
    whole = file.read_bytes()
    file.write_bytes(bytes(len(whole)))
    holdings = Holdings(store, content)
    assert await holdings.incomplete([need]) == [need]
    file.write_bytes(whole)
    await content.ingest(SPACE, packed.packs[0])
    found = await holdings.complete([need])
    await store.close()
    assert found == {need}


async def test_what_a_list_that_cannot_be_read_just_now_names_is_not_known_and_is_given_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path)
    content = await PackFolder.open(tmp_path, store)
    (file,) = await put(content, b"here")
    (stream,) = await put(content, encode_manifest([ManifestEntry("a", 4, file)]))
    need, holdings = Need(SPACE, stream, sealed=False), Holdings(store, content)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", failing_to_open(errno.EMFILE, ".pack"))
        assert len(await holdings.packs(need)) == 1
        with pytest.raises(NotReadNow):
            await holdings.packs_needed(need)
        assert not await holdings.is_complete(need)
        assert await holdings.chunks(need) is None
    assert len(await holdings.packs(need)) == len(await holdings.packs_needed(need)) == 2
    await store.close()


async def test_of_what_is_no_list_of_files_only_so_much_is_remembered(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.holdings._LACKING_REMEMBERED", 2)
    named = [Need(SPACE, stream, sealed=False) for stream in await put(content, b"a", b"b", b"c")]
    assert await holdings.incomplete(named) == []
    assert len(holdings.doubtful(named)) == 1


async def test_a_manifest_beyond_the_limit_is_not_read_to_its_end(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.holdings.MAX_MANIFEST_BYTES", 10)
    (stream,) = await put(content, b"more than ten bytes")
    with pytest.raises(LocalFailure):
        await holdings.manifest(stream)


async def test_what_only_another_space_brought_does_not_make_a_revision_complete(
    content: MemoryPacks, holdings: Holdings
) -> None:
    # an empty file has no chunk: its list is all that there is of it, and could not be handed on from here
    ((elsewhere,), empty) = (await pack_files({"e": b""})).packs, stream_id(())
    await content.ingest(ELSEWHERE, elsewhere)
    need = await revision(content, ("e", 0, empty))
    assert not await holdings.is_complete(need)
    assert await holdings.incomplete([need]) == [need]
    await put(content, b"")
    assert await holdings.is_complete(need)


async def test_one_stream_under_a_thousand_names_is_looked_at_once(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here,) = await put(content, b"here")
    need = await revision(content, *((f"{number}", 4, here) for number in range(1_000)))
    looked: list[int] = []

    def counted(chunks: object) -> int:
        looked.append(1)
        return 4

    monkeypatch.setattr("protocol.replica.content.holdings.stream_bytes", counted)
    assert await holdings.is_complete(need)
    assert len(looked) == 2, "once the list's own size, once that of the file"


async def test_packs_beyond_what_is_known_are_those_of_the_change(content: MemoryPacks, holdings: Holdings) -> None:
    known = MemoryPacks()
    first = await pack_files(FILES, known)
    second = await pack_files({**FILES, "a": b"changed"}, known)
    for pack in (*first.packs, *second.packs):
        await content.ingest(SPACE, pack)
    old, new = (Need(SPACE, packed.ref.stream, sealed=False) for packed in (first, second))
    assert len(await holdings.packs(new)) == 2
    assert [pack.size for pack in await holdings.packs(new, beyond=[old])] == [len(second.packs[0])]
    unknown = Need(SPACE, bytes(32), sealed=False)
    assert len(await holdings.packs(new, beyond=[unknown])) == 2


async def test_what_has_come_of_content_is_given_at_once_though_it_was_asked_for_before(
    content: MemoryPacks, holdings: Holdings
) -> None:
    chunks = in_sealed_form(Random(2).randbytes(150_000))
    names = chunk_list(chunks)
    need = Need(SPACE, stream_id(names), sealed=True)
    found = []
    for pack in in_parts(([], [names]), (chunks[:1], []), (chunks[1:], [])):
        await content.ingest(SPACE, pack)
        found.append(len(await holdings.packs(need)))
    assert found == [1, 2, 3]
    await content.drop([(await holdings.packs(need))[0].hash])
    assert len(await holdings.packs(need)) < 3


async def test_what_was_looked_at_while_all_was_taken_back_is_looked_at_again(
    store: MemoryStore, content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = await pack_sealed(b"s" * 5_000)
    await content.ingest(SPACE, sealed.packs[0])
    missing_chunks = content.missing_chunks

    async def lost_meanwhile(space: bytes, chunks: Sequence[ChunkRef]) -> set[ChunkRef]:
        missing = await missing_chunks(space, chunks)
        content._packs.clear()
        await holdings.forget()
        return missing

    monkeypatch.setattr(content, "missing_chunks", lost_meanwhile)
    assert not await holdings.is_complete(Need(SPACE, sealed.ref.stream, sealed=True))
    assert await store.marks("complete/") == {}


async def test_content_whose_file_went_away_is_not_called_complete_for_ever(tmp_path: Path) -> None:
    packed = await pack_files(FILES)
    need = Need(SPACE, packed.ref.stream, sealed=False)
    store = await SqliteStore.open(tmp_path)
    content = await PackFolder.open(tmp_path, store)
    await content.ingest(SPACE, packed.packs[0])
    assert await Holdings(store, content).is_complete(need)
    await store.close()
    for file in (tmp_path / PACKS).rglob("*.pack"):
        file.unlink()
    store = await SqliteStore.open(tmp_path)
    holdings = Holdings(store, await PackFolder.open(tmp_path, store))
    await holdings.load()
    found = await holdings.incomplete([need])
    await store.close()
    assert found == [need]


# --- lists of files that were looked at before ------------------------------------------------------------------------


def rows(count: int, stream: bytes) -> list[tuple[str, int, bytes]]:
    return [(f"dossier/page {number}.html", 4, stream) for number in range(count)]


async def made_from(content: MemoryPacks, base: Need, *listed: tuple[str, int, bytes]) -> Need:
    """A manifest that a delta has made of another one."""
    need = await revision(content, *listed)
    data = b"delta of " + need.stream
    await content.keep_delta(DeltaInfo(blake3(data).digest(), len(data), SPACE, (need.stream,), (base.stream,)), data)
    return need


@pytest.fixture
def names_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    looked: list[str] = []
    problems = portability_problems

    def noted(paths: Iterable[str], *, known_characters_only: bool) -> Iterable[object]:
        given = list(paths)
        looked.extend(given)
        return problems(given, known_characters_only=known_characters_only)

    monkeypatch.setattr(manifest, "portability_problems", noted)
    return looked


async def test_names_are_looked_at_once_whatever_process_reads_the_list_next(
    store: MemoryStore, content: MemoryPacks, holdings: Holdings, names_looked_at: list[str]
) -> None:
    (here,) = await put(content, b"here")
    need = await revision(content, ("a", 4, here), ("b", 4, here))
    assert await holdings.is_complete(need)
    assert names_looked_at == ["a", "b"]
    again = Holdings(store, content)
    await again.load()
    for one in (holdings, again):
        assert [file.path for file in await one.manifest(need.stream)] == ["a", "b"]
    assert names_looked_at == ["a", "b"]


async def test_of_a_long_list_made_from_a_complete_one_only_what_differs_is_looked_up(
    content: MemoryPacks, holdings: Holdings, monkeypatch: pytest.MonkeyPatch, names_looked_at: list[str]
) -> None:
    streams = await put(content, *(b"%4d" % number for number in range(1_000)))
    listed = [(f"dossier/page {number}.html", 4, stream) for number, stream in enumerate(streams)]
    base = await revision(content, *listed)
    assert await holdings.is_complete(base)
    (new,) = await put(content, b"neuf!")
    changed = await made_from(content, base, *listed[:-1], ("dossier/page 999.html", 5, new))
    looked: list[int] = []
    chunk_lists = content.chunk_lists

    async def counted(wanted: Sequence[bytes]) -> dict[bytes, ChunkList]:
        looked.append(len(wanted))
        return await chunk_lists(wanted)

    monkeypatch.setattr(content, "chunk_lists", counted)
    names_looked_at.clear()
    assert await holdings.is_complete(changed)
    assert max(looked) == 1
    assert names_looked_at == []


async def test_what_differs_in_a_long_list_is_looked_at_as_ever(content: MemoryPacks, holdings: Holdings) -> None:
    (here,) = await put(content, b"here")
    listed = rows(1_000, here)
    base = await revision(content, *listed)
    assert await holdings.is_complete(base)
    absent = stream_id(chunk_list([b"absent"]))
    for more in (("neuf.html", 6, absent), ("neuf.html", 5, here)):
        assert not await holdings.is_complete(await made_from(content, base, *listed, more)), more
    assert await holdings.is_complete(await made_from(content, base, *listed, ("neuf.html", 4, here)))


async def test_a_long_list_is_looked_at_as_a_whole_where_the_one_before_is_not_complete_any_more(
    store: MemoryStore, content: MemoryPacks, holdings: Holdings
) -> None:
    (here,) = await put(content, b"here")
    listed = rows(1_000, here)
    base = await revision(content, *listed)
    assert await holdings.is_complete(base)
    changed = await made_from(content, base, *listed[:-1])
    for name in [name for name, pack in content._packs.items() if here in pack.streams]:
        await content.drop([name])
    # the store has taken its marks back; what this object remembers has not
    await store.set_marks(dict.fromkeys(await store.marks("complete/")))
    assert not await holdings.is_complete(changed)
