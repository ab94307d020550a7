"""Streams that a new version has from the old one: whichever way they come, the file is the same."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault
from protocol.limits import MiB
from protocol.transfer.byte_source import in_pieces
from protocol.transfer.deflate_parameters import ALL_LEVELS
from protocol.transfer.delta import Own, Source, Spliced
from protocol.transfer.reflate import Packed, Unfolded, fold_pieces, reopen_pieces, unfold
from protocol.transfer.reflate_recipe import decode_recipe, encode_recipe
from protocol.transfer.splicing import spans
from protocol.transfer.untouched import Untouched, untouched_streams


def prose(seed: int, size: int) -> bytes:
    return b" ".join(b"%d" % number for number in Random(seed).choices(range(5_000), k=size // 5))


def picture(seed: int) -> bytes:
    packed = zlib.compress(prose(seed, 9_000), 9)
    chunks = [(b"IHDR", bytes(13)), *((b"IDAT", packed[at : at + 700]) for at in range(0, len(packed), 700))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in [*chunks, (b"IEND", b"")]
    )


def archive(members: list[bytes]) -> bytes:
    """A ZIP of these members: pictures stored, all else deflated."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for number, data in enumerate(members):
            is_picture = data.startswith(b"\x89PNG")
            how = zipfile.ZIP_STORED if is_picture else zipfile.ZIP_DEFLATED
            target.writestr(zipfile.ZipInfo(f"{number}"), data, how, 6)
    return made.getvalue()


INNER = archive([prose(4, 2_000), picture(5)])
POOL = [prose(1, 4_000), prose(2, 300), picture(3), INNER, prose(6, 30_000), picture(7), b""]


def opened(data: bytes) -> tuple[Unfolded, dict[int, Packed]]:
    seen = unfold(data, allowed=ALL_LEVELS)
    assert seen is not None
    packed: list[Packed] = []
    image = b"".join(reopen_pieces(in_pieces(data), seen.recipe, max_bytes=MiB, note=packed.append))
    assert image == seen.image
    return seen, {stream.image_start: stream for stream in packed}


def said(old: bytes, new: bytes) -> tuple[Spliced, dict[int, Packed]]:
    """A new file in terms of an old one's image, as a delta says it; where the old one's streams lie."""
    (before, packed), (after, _) = opened(old), opened(new)
    parts = [
        span.length if span.old is None else Source(0, 0, span.old, span.length, unfolded=True)
        for span in spans(before.image, after.image)
    ]
    return Spliced(tuple(parts), after.recipe), packed


def made(old: bytes, new: bytes, target: Spliced, found: Untouched) -> bytes:
    """The new file, out of what `found` leaves of its image and of the old file's streams."""
    before, after = opened(old)[0].image, opened(new)[0].image
    fresh, at = [], 0
    for part in target.parts:
        if isinstance(part, int):
            fresh.append(after[at : at + part])
        at += part if isinstance(part, int) else part.length
    coming = iter(fresh)
    image = [before[part.start : part.end] if isinstance(part, Source) else next(coming) for part in found.parts]
    streams = {number: old[place] for number, place in found.streams.items()}
    return b"".join(fold_pieces(image, target.recipe, max_bytes=MiB, untouched=streams))


@given(
    st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=6).map(lambda chosen: [*chosen, 0]),
    st.lists(st.integers(0, len(POOL) - 1), min_size=1, max_size=6).map(lambda chosen: [*chosen, 1]),
)
def test_a_file_is_the_same_whether_its_streams_are_taken_or_made(before: list[int], after: list[int]) -> None:
    old, new = (archive([POOL[number] for number in chosen]) for chosen in (before, after))
    target, packed = said(old, new)
    assert made(old, new, target, untouched_streams(target, 0, 0, packed)) == new


def test_of_a_document_only_the_text_is_made_again() -> None:
    text = prose(8, 20_000)
    old, new = (archive([part, *POOL[:6]]) for part in (text, text.replace(b" ", b" (sic) ", 1)))
    target, packed = said(old, new)
    found = untouched_streams(target, 0, 0, packed)
    steps = decode_recipe(target.recipe).steps
    # what a few last bytes keep from being one with the copy before them is made again
    assert set(range(1, len(steps) - 1)) <= found.streams.keys() < set(range(len(steps)))
    left = sum(part if isinstance(part, int) else part.length for part in found.parts)
    assert left < len(text) + 10_000
    assert made(old, new, target, found) == new


def test_what_was_compressed_otherwise_is_made_again() -> None:
    old = archive(POOL[:3])
    target, packed = said(old, archive([*POOL[:3], prose(9, 500)]))
    recipe = decode_recipe(target.recipe)
    others = [
        replace(recipe.steps[0], parameters=recipe.steps[0].parameters._replace(level=9)),
        replace(recipe.steps[0], content=recipe.steps[0].content - 1, gap_bytes=recipe.steps[0].gap_bytes + 1),  # type: ignore[operator]
    ]
    for step in others:
        other = Spliced(target.parts, encode_recipe(replace(recipe, steps=(step, *recipe.steps[1:]))))
        assert 0 not in untouched_streams(other, 0, 0, packed).streams
    assert 0 in untouched_streams(target, 0, 0, packed).streams


def test_streams_come_only_from_the_file_that_has_them() -> None:
    old = archive(POOL[:3])
    target, packed = said(old, archive([*POOL[:3], prose(9, 500)]))
    assert not untouched_streams(target, 0, 1, packed).streams
    assert not untouched_streams(target, 1, 0, packed).streams
    elsewhere = tuple(replace(part, unfolded=False) if isinstance(part, Source) else part for part in target.parts)
    assert not untouched_streams(Spliced(elsewhere, target.recipe), 0, 0, packed).streams


def test_a_recipe_that_asks_for_more_than_the_parts_make_takes_nothing_beyond_them() -> None:
    old = archive(POOL[:3])
    target, packed = said(old, archive([*POOL[:3], prose(9, 500)]))
    short = Spliced(target.parts[:1], target.recipe)
    for number in untouched_streams(short, 0, 0, packed).streams:
        assert number in untouched_streams(target, 0, 0, packed).streams
    assert not untouched_streams(Spliced((), target.recipe), 0, 0, packed).streams
    assert untouched_streams(Spliced((Own(0, 5),), target.recipe), 0, 0, packed).parts == (Own(0, 5),)
    with pytest.raises(PeerFault):
        untouched_streams(Spliced(target.parts, b"no recipe"), 0, 0, packed)
