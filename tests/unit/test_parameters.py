"""Parameters of commands, from JSON to typed values."""

from __future__ import annotations

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import JSON


@pytest.mark.parametrize("text", ["", "xyz", "é" * 32, "ab" * 31, "ab" * 33, "\udcff"])
def test_what_cannot_be_an_id_is_not_known(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        given.identifier({"item": text}, "item", Code.UNKNOWN_ITEM, "item")
    assert refused.value.code is Code.UNKNOWN_ITEM


def test_an_id_is_read_from_hexadecimal() -> None:
    assert given.identifier({"item": "Ab" * 32}, "item", Code.UNKNOWN_ITEM, "item") == b"\xab" * 32
    assert given.person({"person": "cd" * 16}, "person") == b"\xcd" * 16


@pytest.mark.parametrize("value", [None, "x", [["a"]], [["a", "b"]], [["a", True]], [[1, 2]], {"a": 1}])
def test_a_list_of_files_of_another_form_is_refused(value: JSON) -> None:
    with pytest.raises(BadInput) as refused:
        given.sizes({"files": value}, "files")
    assert refused.value.code is Code.USAGE


@pytest.mark.parametrize("value", [-1, 1.5, "7", True])
def test_what_is_no_number_is_refused(value: JSON) -> None:
    with pytest.raises(BadInput):
        given.count_or_none({"due_ms": value}, "due_ms")


def test_what_is_not_given_is_nothing_and_what_must_be_given_is_asked_for() -> None:
    assert given.text_or_none({}, "mark") is None
    assert given.count_or_none({"due_ms": None}, "due_ms") is None
    assert given.flag({}, "redo") is False
    with pytest.raises(BadInput) as refused:
        given.text({}, "text")
    assert refused.value.code is Code.USAGE


def test_a_long_or_strange_word_is_repeated_short_and_harmless() -> None:
    assert given.shown("\x1b[31m" + "x" * 200).startswith("\\x1b[31m")
    assert len(given.shown("x" * 10_000)) < 100
