"""Who gives a command, as a line of the trail says it."""

from __future__ import annotations

import pytest

from protocol.replica.console.typed_by import TYPED_BY, account_here, account_told, by_here, by_of, typed_here


@pytest.mark.parametrize(
    ("own", "signed_in", "by_sudo", "told"),
    [
        ("anne", "", "", "anne"),
        ("anne", "anne", "", "anne"),
        ("root", "anne", "", "root (anne)"),
        ("root", "", "anne", "root (anne)"),
        ("root", "anne", "root", "root (anne)"),
        ("relais", "root", "anne", "relais (root)"),
    ],
)
def test_who_signed_in_is_told_beside_whom_they_became(own: str, signed_in: str, by_sudo: str, told: str) -> None:
    assert account_told(own, signed_in, by_sudo) == told


def test_a_command_says_whose_it_is_and_one_that_says_nothing_is_nobodys() -> None:
    assert typed_here({"space": "ab"}) == {"space": "ab", TYPED_BY: account_here()}
    assert by_of(typed_here({})) == by_here() == f"command line: {account_here()}"
    for odd in ("", None, 7, ["root"]):
        assert by_of({TYPED_BY: odd}) == "command line: ?"


def test_what_a_terminal_would_obey_is_shown_and_what_is_too_long_is_cut() -> None:
    assert by_of({TYPED_BY: "ro\x1b[2Jot"}) == "command line: ro\\x1b[2Jot"
    assert len(by_of({TYPED_BY: "n" * 10_000})) < 300
