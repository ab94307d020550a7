"""A text that is published without a file: what lies in its file, and what a page may show of one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_TEXT_CHARS
from protocol.transfer.manifest import ManifestEntry
from sync_agent.coursework.texts import MAX_SHOWN_TEXT_BYTES, TEXT_FILE, bytes_of, text_file, text_of

LINES = st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1), min_size=1)


@given(LINES)
def test_a_text_is_read_again_as_it_was_written(lines: list[str]) -> None:
    text = "\n".join(lines)
    if text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"):
        text = f"x{text}"
    assert text_of(bytes_of(text)) == text
    assert text_of(bytes_of(text.replace("\n", "\r\n"))) == text, "as browsers and Windows end lines"


@pytest.mark.parametrize("empty", ["", "  ", "\r\n\n", "\t "])
def test_a_text_in_which_nothing_stands_is_no_file(empty: str) -> None:
    assert bytes_of(empty) == b""


def test_what_would_steer_the_page_or_is_no_text_is_not_passed_on() -> None:
    assert text_of("\ufeffPiscine\x1b[2J\x00 lundi\r\n".encode()) == "Piscine[2J lundi"
    assert text_of(b"\xff\xfe") == "\N{REPLACEMENT CHARACTER}" * 2
    assert text_of(b" \n ") == ""


@pytest.mark.parametrize(
    ("path", "size", "shown"),
    [
        (TEXT_FILE, 12, True),
        (TEXT_FILE, MAX_SHOWN_TEXT_BYTES, True),
        (TEXT_FILE, MAX_SHOWN_TEXT_BYTES + 1, False),
        (TEXT_FILE, 0, False),
        (f"sub/{TEXT_FILE}", 12, False),
        ("autre.txt", 12, False),
    ],
)
def test_one_name_at_the_root_is_shown_as_text_if_it_is_no_larger_than_a_text_may_be(
    path: str, size: int, shown: bool
) -> None:
    file = ManifestEntry(path, size, bytes(32))
    assert text_file([ManifestEntry("a.pdf", 9, bytes(32)), file]) == (file if shown else None)


def test_the_longest_text_is_shown() -> None:
    longest = bytes_of("\N{HEAVY BLACK HEART}" * MAX_TEXT_CHARS)
    assert text_file([ManifestEntry(TEXT_FILE, len(longest), bytes(32))]) is not None
    assert len(text_of(longest)) == MAX_TEXT_CHARS
