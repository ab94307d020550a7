"""What pulls the brake on publishing from watched folders, and what does not."""

from __future__ import annotations

import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_agent.watching.brake import (
    DATA,
    EMPTY,
    HEAD_BYTES,
    TEXT,
    Change,
    entropy_bits,
    is_burst,
    is_disguise,
    is_scrambled,
    looks_harmed,
    type_of,
)

NOISE = Random(1).randbytes(HEAD_BYTES)
PROSE = ("Le soleil chauffe l'eau des océans. " * 200).encode()[:HEAD_BYTES]


@pytest.mark.parametrize(
    ("changes", "files", "pulled"),
    [
        ([Change.SCRAMBLED] * 20, 10_000, True),
        ([Change.SCRAMBLED] * 19, 10_000, False),
        ([Change.SCRAMBLED] * 3, 10, True),
        ([Change.SCRAMBLED] * 2, 4, False),
        ([Change.GONE] * 10, 30, True),
        ([Change.GONE] * 10, 100, False),
        ([Change.GONE] * 5, 6, False),
        ([Change.GONE] * 9 + [Change.SCRAMBLED], 30, True),
        ([Change.REWRITTEN] * 30, 60, True),
        ([Change.REWRITTEN] * 30, 100, False),
        ([Change.REWRITTEN] * 12, 12, False),
        ([], 0, False),
    ],
)
def test_the_brake_is_pulled_by_destruction_and_not_by_work(changes: list[Change], files: int, pulled: bool) -> None:
    assert is_burst(changes, files) is pulled


@given(st.lists(st.sampled_from(Change), max_size=60), st.sampled_from(Change), st.integers(0, 200))
def test_more_destruction_never_lets_go_of_the_brake(changes: list[Change], more: Change, files: int) -> None:
    if is_burst(changes, files):
        assert is_burst([*changes, more], files)


def test_a_title_that_looks_harmed_waits_for_the_others() -> None:
    assert looks_harmed(dict.fromkeys("ab", Change.SCRAMBLED), published_files=2)
    assert looks_harmed(dict.fromkeys("abc", Change.SCRAMBLED), published_files=100)
    assert not looks_harmed({"a": Change.SCRAMBLED}, published_files=100)
    assert not looks_harmed(dict.fromkeys("abc", Change.REWRITTEN), published_files=3)
    assert not looks_harmed({}, published_files=0)


@pytest.mark.parametrize(
    ("before", "after", "scrambled"),
    [
        (b"%PDF-1.7 ...", NOISE, True),
        (b"PK\x03\x04 an .odt", NOISE, True),
        (PROSE, NOISE, True),
        (PROSE, b"", True),
        (b"\xff\xd8\xff a photo", b"PK\x03\x04", True),
        (PROSE, b"Une autre fin.", False),
        (PROSE, "Une autre fin.".encode("cp1252") + "é".encode("cp1252"), False),
        (b"PK\x03\x04 one", b"PK\x03\x04 two", False),
        (b"", NOISE, False),
        (NOISE, Random(2).randbytes(HEAD_BYTES), False),
        (bytes(range(8)) * 512, NOISE, True),
    ],
)
def test_a_file_that_became_something_else_is_scrambled(before: bytes, after: bytes, scrambled: bool) -> None:
    assert is_scrambled(before, after) is scrambled


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", EMPTY),
        (b"<h1>Bonjour</h1>", TEXT),
        ("é".encode() * 100 + b"\xc3", TEXT),
        ("Année scolaire, élève".encode("cp1252"), TEXT),
        ("Élève".encode("utf-16"), TEXT),
        (NOISE, DATA),
        (b"\x00\x01\x02", DATA),
        (b"\x00\x00\x00\x18ftypmp42", "mp4"),
    ],
)
def test_a_files_type_is_told_by_its_first_bytes(head: bytes, kind: str) -> None:
    assert type_of(head) == kind


def test_noise_has_more_entropy_than_prose() -> None:
    assert entropy_bits(b"") == 0
    assert entropy_bits(b"aaaa") == 0
    assert entropy_bits(bytes(range(256))) == 8
    assert entropy_bits(PROSE) < 5 < entropy_bits(zlib.compress(PROSE)) < entropy_bits(NOISE)


def test_a_name_with_one_more_extension_is_a_disguise() -> None:
    assert is_disguise("eau.pdf.locked", of="eau.pdf")
    assert not is_disguise("eau.pdf", of="eau.pdf")
    assert not is_disguise("eau.pdfs", of="eau.pdf")
    assert not is_disguise("autre.pdf.locked", of="eau.pdf")
