from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.replica.byte_range import NotSatisfiable, Span, asked_span


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-99", Span(0, 100)),
        ("bytes=90-", Span(90, 10)),
        ("bytes=90-1000000", Span(90, 10)),
        ("bytes=-1", Span(99, 1)),
        ("bytes=-100", Span(0, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("Bytes= 5-6 ", Span(5, 2)),
    ],
)
def test_one_range_of_bytes_is_given_as_asked(value: str, span: Span) -> None:
    assert asked_span(value, 100) == span


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_without_any_byte_that_there_is_cannot_be_satisfied(value: str) -> None:
    with pytest.raises(NotSatisfiable):
        asked_span(value, 100)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,3-4",
        "items=0-1",
        "bytes=a-b",
        "bytes=٣-٤",
        "bytes=1_0-20",
    ],
)
def test_what_is_no_single_range_of_bytes_is_answered_whole(value: str | None) -> None:
    assert asked_span(value, 100) is None


@given(st.integers(1, 1000), st.integers(0, 2000), st.integers(0, 2000))
def test_a_range_never_leaves_the_content(size: int, first: int, last: int) -> None:
    try:
        span = asked_span(f"bytes={first}-{last}", size)
    except NotSatisfiable:
        assert first >= size
        return
    if span is None:
        assert last < first
    else:
        assert span.length >= 1
        assert span.start == first
        assert span.start + span.length - 1 == min(last, size - 1)
