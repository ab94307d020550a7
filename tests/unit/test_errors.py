from __future__ import annotations

import re

import pytest

from protocol import errors
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge


def test_every_code_is_a_stable_word_and_no_two_are_the_same() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in Code)
    assert len(Code.__members__) == len(set(Code))
    assert all(name.lower().replace("_", "-") == code for name, code in Code.__members__.items())


@pytest.mark.parametrize(
    ("kind", "exit_status", "http_status"),
    [
        (BadInput, 2, 400),
        (Refused, 5, 403),
        (NoAnswer, 3, 503),
        (LocalFailure, 1, 500),
        (PeerFault, 1, 400),
        (TooLarge, 1, 413),
    ],
)
def test_whose_fault_it_is_decides_exit_code_and_status(
    kind: type[RelaisError], exit_status: int, http_status: int
) -> None:
    assert (kind.exit_status, kind.http_status) == (exit_status, http_status)


def test_there_is_one_tree_and_every_class_in_it_is_listed_above() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == {RelaisError, BadInput, Refused, NoAnswer, LocalFailure, PeerFault, TooLarge}
    assert issubclass(TooLarge, PeerFault), "whoever refuses a peer's fault refuses what is too large"


def test_an_error_says_its_sentence_and_carries_its_facts() -> None:
    error = BadInput(Code.UNKNOWN_SPACE, "cette classe n'existe pas", space="ab12")
    assert str(error) == "cette classe n'existe pas"
    assert error.message == str(error)
    assert error.code == "unknown-space"
    assert error.facts == {"space": "ab12"}
    assert error.args == ("cette classe n'existe pas",)
