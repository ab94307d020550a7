"""Deltas at rest: what every `ContentStore` makes of them (docs/protocol.md, "Deltas")."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from protocol.errors import Code, PeerFault, RelaisError
from protocol.limits import MAX_SPLICED_BYTES, MiB
from protocol.replica.content.deltas import delta_build, expansion
from protocol.replica.content.deltas.delta_build import build_delta, keep_as_delta
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.packs import DELTA_BUDGET_BYTES, PackFolder
from protocol.replica.interfaces import ContentStore, DeltaInfo
from protocol.replica.storage.sqlite import SqliteStore
from protocol.transfer import reflate
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.deflate_parameters import ALL_LEVELS, NO_LEVELS, Parameters, Profile, deflate
from protocol.transfer.deflate_streams import Wrapping
from protocol.transfer.delta import Chunked, Copy, Source, Spliced, Tree
from protocol.transfer.delta_writer import LEVEL, DeltaWriter, compress
from protocol.transfer.manifest import ManifestEntry, encode_manifest, without_streams
from protocol.transfer.pack import FinishedPack
from protocol.transfer.reflate import Unfolded, unfold
from protocol.transfer.reflate_recipe import Sequence, Step, decode_recipe, encode_recipe
from tests.harness.edited_lesson import AFTER, BEFORE, Files, archive, noise
from tests.harness.entries import OTHER_SPACE, SPACE


@asynccontextmanager
async def opened(folder: Path, *, delta_budget_bytes: int = DELTA_BUDGET_BYTES) -> AsyncIterator[PackFolder]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    store = await SqliteStore.open(folder)
    try:
        packs = await PackFolder.open(folder, store, delta_budget_bytes=delta_budget_bytes)
        yield packs
        await packs.close()
    finally:
        await store.close()


@dataclass
class Two:
    """Who makes deltas, and who takes them."""

    maker: ContentStore
    taker: ContentStore


@pytest.fixture(params=["memory", "folder"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield Two(MemoryPacks(), MemoryPacks())
        else:
            maker = await stack.enter_async_context(opened(tmp_path / "maker"))
            yield Two(maker, await stack.enter_async_context(opened(tmp_path / "taker")))


async def put(
    content: ContentStore, files: Files, space: bytes = SPACE, *, unsent: bool = False
) -> tuple[bytes, list[FinishedPack]]:
    """Publish files; their manifest, and the packs that were written."""
    build = await content.build(space, unsent=unsent)
    listed: list[ManifestEntry] = []
    for path, data in [*files.items(), ("", b"")]:
        body = data if path else encode_manifest(listed)
        chunks = cut(body)
        for chunk in chunks:
            await build.chunk(chunk)
        stream = await build.stream(chunk_list(chunks))
        listed.append(ManifestEntry(path, len(data), stream))
    return stream, await build.finish()


async def read(content: ContentStore, stream: bytes) -> bytes:
    return b"".join([piece async for piece in content.read_stream(stream)])


def name_of(data: bytes) -> bytes:
    return stream_id(chunk_list(cut(data)))


async def both_have(two: Two, files: Files) -> bytes:
    await put(two.maker, files)
    return (await put(two.taker, files))[0]


async def made(two: Two) -> tuple[bytes, bytes]:
    """A delta from BEFORE, which both have, to AFTER; the manifest that it brings."""
    base = await both_have(two, BEFORE)
    tree, _ = await put(two.maker, AFTER)
    delta = await build_delta(two.maker, SPACE, tree, [base])
    assert delta is not None
    return delta[1], tree


async def test_the_strongest_level_is_for_a_bounded_part_of_a_delta(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: set[object] = set()
    add_frame = DeltaWriter.add_frame

    def noted(*args: Any, **options: Any) -> None:
        levels.add(options["level"])
        add_frame(*args, **options)

    monkeypatch.setattr(DeltaWriter, "add_frame", noted)
    await made(two)
    assert levels == {LEVEL}
    levels.clear()
    monkeypatch.setattr(delta_build, "_STRONGEST_BYTES", 0)
    tree, _ = await put(two.maker, {**AFTER, "page.html": b"other"})
    assert await build_delta(two.maker, SPACE, tree, [(await put(two.maker, BEFORE))[0]]) is not None
    assert levels == {delta_build._LARGE_LEVEL}


async def test_a_table_corrected_in_many_lines_costs_little_more_than_a_compressor_needs(two: Two) -> None:
    lines = [b"%d;%d;%s" % (number, number * number % 977, noise(4, number).hex().encode()) for number in range(20_000)]
    before = b"\n".join(lines)
    after = b"\n".join(line + b"!" * (number % 300 == 0) for number, line in enumerate(lines))
    base = await both_have(two, {"notes.csv": before})
    tree, _ = await put(two.maker, {"notes.csv": after})
    delta = await build_delta(two.maker, SPACE, tree, [base])
    assert delta is not None
    assert len(delta[1]) < len(compress(after, before, LEVEL)) + 300
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(after)) == after


async def code_of(content: ContentStore, data: bytes, space: bytes = SPACE) -> Code | None:
    try:
        await content.ingest(space, data)
    except RelaisError as error:
        return error.code
    return None


# --- what a delta brings ----------------------------------------------------------------------------------------------


async def test_a_delta_brings_the_new_version_byte_for_byte_in_very_little(two: Two) -> None:
    data, tree = await made(two)
    assert len(data) < 2_000
    await two.taker.ingest(SPACE, data)
    assert await read(two.taker, tree) == await read(two.maker, tree)
    for content in AFTER.values():
        assert await read(two.taker, name_of(content)) == content
    chunks = await two.taker.chunk_list(name_of(AFTER["son.wav"])) or ()
    assert await two.taker.missing_chunks(SPACE, chunks) == set()
    assert await two.taker.verify() == []


async def test_of_a_file_too_large_to_be_looked_into_the_new_chunks_travel_beside_their_neighbours(two: Two) -> None:
    old = noise(MAX_SPLICED_BYTES + MiB)
    base = await both_have(two, {"son.wav": old})
    new = old[: 4 * MiB] + b"inserted" + old[4 * MiB :]
    tree, _ = await put(two.maker, {"son.wav": new})
    delta = await build_delta(two.maker, SPACE, tree, [base])
    assert delta is not None
    assert delta[0].size < 1_000
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(new)) == new


async def test_a_delta_that_arrives_in_parts_is_taken_like_one_in_a_message(two: Two) -> None:
    data, tree = await made(two)
    name = blake3(data).digest()
    await two.taker.append_part(name, 0, data[:100])
    await two.taker.append_part(name, 100, data[100:])
    assert await two.taker.finish_part(SPACE, name, len(data)) is None
    assert await two.taker.chunk_list(tree) is not None


async def test_a_delta_made_of_nothing_brings_a_small_publication(two: Two) -> None:
    tree, _ = await put(two.maker, {"cours.odt": BEFORE["cours.odt"]})
    delta = await build_delta(two.maker, SPACE, tree, [])
    assert delta is not None
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(BEFORE["cours.odt"])) == BEFORE["cours.odt"]


async def test_a_lesson_made_of_two_others_costs_what_is_new(two: Two) -> None:
    first, second = {"a.bin": noise(400_000, 5)}, {"b.bin": noise(400_000, 6)}
    bases = [await both_have(two, first), await both_have(two, second)]
    files = {"c.bin": first["a.bin"] + second["b.bin"], "neuf.txt": b"neuf"}
    tree, _ = await put(two.maker, files)
    delta = await build_delta(two.maker, SPACE, tree, bases)
    assert delta is not None
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(files["c.bin"])) == files["c.bin"]
    assert len(delta[1]) < 150_000


async def test_too_much_that_is_new_makes_no_delta(two: Two) -> None:
    base = await both_have(two, {"a": b"a"})
    tree, _ = await put(two.maker, {"a": noise(3 * MiB)})
    assert await build_delta(two.maker, SPACE, tree, []) is None
    assert await build_delta(two.maker, SPACE, tree, [base]) is not None


# --- what is refused --------------------------------------------------------------------------------------------------


async def test_a_delta_whose_base_is_not_here_is_refused_and_nothing_changes(two: Two) -> None:
    data, tree = await made(two)
    stranger = MemoryPacks()
    for content in (stranger, two.taker):
        before = await content.totals()
        space = SPACE if content is stranger else OTHER_SPACE
        assert await code_of(content, data, space) is Code.MISSING_BASE
        assert await content.totals() == before
        assert await content.deltas(space) == []
    assert await stranger.chunk_list(tree) is None


async def test_a_delta_does_not_fetch_content_out_of_a_space_that_its_maker_may_not_read(two: Two) -> None:
    secret = {"secret.txt": b"for the other class only " * 100}
    hidden, _ = await put(two.taker, secret, OTHER_SPACE)
    size = len(secret["secret.txt"])
    whole = chunk_list(cut(secret["secret.txt"]))
    for target in (Spliced((Source(0, 0, 0, size),)), Chunked((Copy(0, 0, 0, len(whole)),))):
        writer = DeltaWriter([hidden])
        writer.add_target(target)
        writer.finish()
        assert await code_of(two.taker, writer.take()) is Code.MISSING_BASE
    assert await two.taker.missing_chunks(SPACE, whole[:1]) == {whole[0]}
    # not even when the list of files is known in both spaces
    build = await two.taker.build(SPACE, unsent=False)
    chunks = cut(await read(two.taker, hidden))
    for chunk in chunks:
        await build.chunk(chunk)
    await build.stream(chunk_list(chunks))
    await build.finish()
    for target in (Spliced((Source(0, 0, 0, size),)), Chunked((Copy(0, 0, 0, len(whole)),))):
        writer = DeltaWriter([hidden])
        writer.add_target(target)
        writer.finish()
        assert await code_of(two.taker, writer.take()) is Code.MISSING_BASE


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (Spliced((Source(0, 9, 0, 5),)), Code.MALFORMED),
        (Spliced((Source(0, 4, 0, 5),)), Code.MALFORMED),
        (Spliced((Source(0, 1, 89_999, 5),)), Code.MALFORMED),
        (Spliced((Source(0, 3, 0, 5, unfolded=True),)), Code.UNKNOWN_FORMAT),
        (Spliced((Source(0, 0, 0, 5, unfolded=True),)), Code.UNKNOWN_FORMAT),
        (Spliced((Source(0, 1, 0, 50),), recipe=b"no recipe"), Code.UNKNOWN_FORMAT),
        (Chunked((Copy(0, 1, 0, 9),)), Code.MALFORMED),
        (Chunked((Copy(0, 4, 0, 1),)), Code.MALFORMED),
        (Chunked((Copy(0, 2, 0, 1), Copy(0, 1, 0, 1))), Code.MALFORMED),
    ],
)
async def test_ranges_that_its_base_does_not_have_are_refused(two: Two, target: Chunked | Spliced, code: Code) -> None:
    writer = DeltaWriter([await both_have(two, BEFORE)])
    writer.add_image(0, 3, b"no recipe")
    writer.add_image(0, 0, b"\x90")
    writer.add_target(target)
    writer.finish()
    before = await two.taker.totals()
    assert await code_of(two.taker, writer.take()) is code
    assert await two.taker.totals() == before


async def test_a_damaged_delta_is_refused_wherever_it_is_damaged_and_nothing_changes(two: Two) -> None:
    data, tree = await made(two)
    before = await two.taker.totals()
    for at in range(8, len(data), max(1, len(data) // 40)):
        spoiled = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        assert await code_of(two.taker, spoiled) is not None
        name = blake3(data).digest()
        await two.taker.append_part(name, 0, spoiled)
        with pytest.raises(PeerFault):
            await two.taker.finish_part(SPACE, name, len(spoiled))
        assert await two.taker.part_size(name) == 0
    assert await two.taker.totals() == before
    assert await two.taker.chunk_list(tree) is None


async def test_a_delta_that_lies_about_a_file_makes_something_that_no_entry_names(two: Two) -> None:
    base = await both_have(two, BEFORE)
    tree = encode_manifest([ManifestEntry("page.html", 3, name_of(b"abc"))])
    writer = DeltaWriter([base])
    data = without_streams(tree, frozenset({0}))
    writer.add_frame(b"xyz" + data, [], b"")
    writer.add_target(Spliced((3,)))
    writer.add_target(Tree(len(data), ((0, 0),)))
    writer.finish()
    await two.taker.ingest(SPACE, writer.take())
    assert await two.taker.chunk_list(name_of(tree)) is None


# --- files seen from inside -------------------------------------------------------------------------------------------

SEEN = unfold(BEFORE["cours.odt"], allowed=ALL_LEVELS)
assert SEEN is not None
INSIDE: Unfolded = SEEN
TREE = encode_manifest([ManifestEntry("cours.odt", len(BEFORE["cours.odt"]), name_of(BEFORE["cours.odt"]))])


def from_inside(recipe: bytes) -> bytes:
    """A delta that brings the lesson's document as its image and this recipe."""
    writer = DeltaWriter([])
    data = without_streams(TREE, frozenset({0}))
    writer.add_frame(INSIDE.image + data, [], b"", level=1)
    writer.add_target(Spliced((len(INSIDE.image),), recipe))
    writer.add_target(Tree(len(data), ((0, 0),)))
    writer.finish()
    return writer.take()


async def test_a_receiver_whose_zlib_gives_other_bytes_shows_nothing_and_takes_packs(two: Two) -> None:
    right, level = decode_recipe(INSIDE.recipe), 5
    other = replace(right, steps=tuple(replace(s, parameters=s.parameters._replace(level=level)) for s in right.steps))
    await two.taker.ingest(SPACE, from_inside(encode_recipe(other)))
    assert await two.taker.chunk_list(name_of(TREE)) is None
    assert await two.taker.chunk_list(name_of(BEFORE["cours.odt"])) is None
    await put(two.taker, {"cours.odt": BEFORE["cours.odt"]})
    assert await read(two.taker, name_of(BEFORE["cours.odt"])) == BEFORE["cours.odt"]


async def test_a_machine_that_knows_its_zlib_to_be_another_refuses_at_once_as_if_a_base_were_missing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "profile", lambda: Profile(0b111011111))
    before = await two.taker.totals()
    assert await code_of(two.taker, from_inside(INSIDE.recipe)) is Code.MISSING_BASE
    assert await two.taker.totals() == before


async def test_a_damaged_recipe_never_makes_the_file_that_was_meant(two: Two) -> None:
    for at in range(len(INSIDE.recipe)):
        for change in (0x01, 0x80):
            recipe = INSIDE.recipe[:at] + bytes([INSIDE.recipe[at] ^ change]) + INSIDE.recipe[at + 1 :]
            assert await code_of(two.taker, from_inside(recipe)) in {
                None, Code.MALFORMED, Code.NOT_CANONICAL, Code.TOO_LARGE, Code.UNKNOWN_FORMAT,
            }  # fmt: skip
            assert await two.taker.chunk_list(name_of(TREE)) is None
    assert await code_of(two.taker, from_inside(INSIDE.recipe)) is None
    assert await two.taker.chunk_list(name_of(TREE)) is not None


async def test_a_recipe_that_makes_more_than_a_file_may_be_is_refused_and_nothing_changes(two: Two) -> None:
    # Chunks of one byte each: the largest expansion that a recipe can ask for.
    plain = noise(2 * MiB)
    picture = Step(0, Wrapping.IDAT, Parameters(1, 8, 15, 0), len(plain) - 2, (1,))
    writer = DeltaWriter([])
    writer.add_frame(plain, [], b"", level=1)
    writer.add_target(Spliced((len(plain),), encode_recipe(Sequence((picture,), 0))))
    writer.finish()
    before = await two.taker.totals()
    assert await code_of(two.taker, writer.take()) is Code.TOO_LARGE
    assert await two.taker.totals() == before


async def test_what_did_not_change_in_a_document_is_not_compressed_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = {f"{number}.svg": noise(40_000, number).hex().encode() for number in range(5)}
    text = " ".join(f"<p>Phrase {number}</p>" for number in range(3_000)).encode()
    inner = {"plus.zip": archive({f"{number}.svg": noise(20_000, number).hex().encode() for number in range(5, 9)})}
    before = archive({"content.xml": text, **drawings, **inner})
    after = archive({"content.xml": text.replace(b"1500", b"1500 (sic)"), **drawings, **inner})
    base = await both_have(two, {"cours.odt": before})
    tree, _ = await put(two.maker, {"cours.odt": after})
    delta = await build_delta(two.maker, SPACE, tree, [base])
    assert delta is not None
    assert delta[0].index.images
    compressed = 0

    def counted(plain: Iterable[bytes | memoryview], parameters: Parameters) -> Iterator[bytes]:
        nonlocal compressed
        pieces = list(plain)
        compressed += sum(map(len, pieces))
        return deflate(pieces, parameters)

    monkeypatch.setattr(reflate, "deflate", counted)
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(after)) == after
    assert compressed == len(text) + len(" (sic)")


# --- what is kept for others ------------------------------------------------------------------------------------------


async def test_a_delta_that_was_taken_is_kept_for_others(two: Two) -> None:
    data, tree = await made(two)
    await two.taker.ingest(SPACE, data)
    (kept,) = await two.taker.deltas(SPACE)
    assert (kept.size, kept.trees, kept.covers) == (len(data), (tree,), ())
    assert await two.taker.pack(kept.hash, SPACE) is not None
    assert await two.taker.pack(kept.hash, OTHER_SPACE) is None
    assert await two.taker.read_pack(kept.hash, 0, kept.size) == data
    assert await two.taker.read_pack(kept.hash, 10, 5) == data[10:15]
    assert await two.taker.deltas(OTHER_SPACE) == []
    assert await two.taker.unsent_deltas() == []


async def test_once_the_server_has_a_delta_its_packs_need_not_be_sent(two: Two) -> None:
    base, _ = await put(two.maker, BEFORE)
    tree, packs = await put(two.maker, AFTER, unsent=True)
    await keep_as_delta(two.maker, SPACE, tree, [base], packs)
    (waiting,) = await two.maker.unsent_deltas()
    assert waiting.covers == tuple(pack.hash for pack in packs)
    assert [pack.hash for pack in await two.maker.unsent_packs()] == list(waiting.covers)
    await two.maker.mark_packs([waiting.hash], unsent=False)
    assert await two.maker.unsent_deltas() == []
    assert await two.maker.unsent_packs() == []
    assert await two.maker.drop_delta(waiting.hash)
    assert not await two.maker.drop_delta(waiting.hash)
    assert await two.maker.deltas(SPACE) == []


async def test_a_delta_that_saves_nothing_is_not_kept(two: Two) -> None:
    base, _ = await put(two.maker, {"a": noise(1_000, 1)})
    tree, packs = await put(two.maker, {"a": noise(200_000, 2)})
    await keep_as_delta(two.maker, SPACE, tree, [base], packs)
    assert await two.maker.deltas(SPACE) == []


async def test_the_deltas_used_longest_ago_make_room(tmp_path: Path) -> None:
    async with opened(tmp_path, delta_budget_bytes=2_500) as content:
        for number in range(4):
            data = noise(1_000, number)
            about = DeltaInfo(blake3(data).digest(), len(data), SPACE, (bytes([number]) * 32,), ())
            await content.keep_delta(about, data, unsent=number == 0)
        kept = await content.deltas(SPACE)
        # what still has to go to the server stays
        assert [delta.trees[0][0] for delta in kept] == [0, 2, 3]
        files = list((tmp_path / "deltas").iterdir())
        assert len(files) == 3


async def test_after_a_restart_deltas_are_what_files_and_rows_agree_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as content:
        for number in range(3):
            data = noise(1_000, number)
            await content.keep_delta(DeltaInfo(blake3(data).digest(), len(data), SPACE, (), ()), data)
        first, second, third = await content.deltas(SPACE)
    folder = tmp_path / "deltas"
    (folder / f"{first.hash.hex()}.delta").unlink()
    (folder / f"{second.hash.hex()}.delta").write_bytes(b"cut short")
    (folder / f"{'ab' * 32}.delta").write_bytes(b"nobody knows it")
    async with opened(tmp_path) as content:
        assert await content.deltas(SPACE) == [third]
        assert [file.name for file in folder.iterdir()] == [f"{third.hash.hex()}.delta"]


async def test_where_recipes_would_weigh_more_than_what_is_new_a_file_is_compared_as_it_is(two: Two) -> None:
    # many small streams, so that a recipe is long; a page more at the end changes none of them
    pages = [zlib.compress(b"".join(b"BT (%d) Tj ET " % (number * at) for at in range(60))) for number in range(300)]
    before = b"%PDF-1.5\n" + b"".join(
        b"%d 0 obj\n<</Filter/FlateDecode>>\nstream\n%b\nendstream\nendobj\n" % pair for pair in enumerate(pages)
    )
    assert unfold(before, allowed=ALL_LEVELS) is not None
    base = await both_have(two, {"cours.pdf": before})
    after = {"cours.pdf": before + b"trailer <</Root 1>>"}
    tree, _ = await put(two.maker, after)
    delta = await build_delta(two.maker, SPACE, tree, [base])
    assert delta is not None
    assert delta[0].index.levels() == NO_LEVELS
    assert delta[0].size < 500
    await two.taker.ingest(SPACE, delta[1])
    assert await read(two.taker, name_of(after["cours.pdf"])) == after["cours.pdf"]


async def test_a_document_that_is_large_inside_is_compared_and_made_in_little_memory(two: Two) -> None:
    pages = {f"{n}.xml": b"".join(b"<p>%d %d</p>" % (n, at * at % 9_973) for at in range(60_000)) for n in range(20)}
    corrected = {**pages, "7.xml": pages["7.xml"].replace(b"<p>7 1</p>", b"<p>7 one</p>", 1)}
    before, after = {"cours.odt": archive(pages)}, {"cours.odt": archive(corrected)}
    assert sum(map(len, pages.values())) > 14 * MiB
    base = await both_have(two, before)
    tree, _ = await put(two.maker, after)
    tracemalloc.start()
    try:
        made = await build_delta(two.maker, SPACE, tree, [base])
        making_bytes = tracemalloc.get_traced_memory()[1]
        assert made is not None
        tracemalloc.reset_peak()
        await two.taker.ingest(SPACE, made[1])
        taking_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert await read(two.taker, name_of(after["cours.odt"])) == after["cours.odt"]
    assert len(made[1]) < 2_000
    assert making_bytes < 18 * MiB
    assert taking_bytes < 18 * MiB


async def test_a_large_document_whose_parts_were_moved_and_renumbered_costs_a_part_of_its_packs(two: Two) -> None:
    streams = [noise(3_000, number) for number in range(3_200)]
    before = {"manuel.pdf": b"".join(b"%d 0 obj" % number + data for number, data in enumerate(streams))}
    moved = [*range(1_600, 3_200), *range(1_600)]
    after = {"manuel.pdf": b"".join(b"%d 0 obj" % (9 * number) + streams[number] for number in moved)}
    assert len(after["manuel.pdf"]) > MAX_SPLICED_BYTES
    base = await both_have(two, before)
    tree, packs = await put(two.maker, after)
    made = await build_delta(two.maker, SPACE, tree, [base])
    assert made is not None
    assert len(made[1]) < sum(pack.size for pack in packs) / 2
    await two.taker.ingest(SPACE, made[1])
    assert await read(two.taker, name_of(after["manuel.pdf"])) == after["manuel.pdf"]


async def test_a_picture_put_into_a_sound_costs_the_picture(two: Two) -> None:
    sound = noise(117_000, 1)
    picture = archive({"pochette.raw": b"".join(noise(40, n % 50) for n in range(2_000)) + noise(30_000, 2)})
    before, after = {"chant.mp3": b"ID3" + sound}, {"chant.mp3": b"ID3" + picture + sound}
    base = await both_have(two, before)
    tree, _ = await put(two.maker, after)
    made = await build_delta(two.maker, SPACE, tree, [base])
    assert made is not None
    assert len(made[1]) < len(picture) + 1_000
    await two.taker.ingest(SPACE, made[1])
    assert await read(two.taker, name_of(after["chant.mp3"])) == after["chant.mp3"]
