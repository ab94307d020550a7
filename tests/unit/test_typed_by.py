"""Who gives a command, as a line of the trail says it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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


@pytest.mark.parametrize("variables", [{}, {"USERNAME": "root", "USER": "root", "LOGNAME": "root"}])
def test_on_windows_the_system_says_whose_it_is_and_no_variable_does(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("USERNAME", "USER", "LOGNAME", "LNAME", "SUDO_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for module in ("pwd", "termios"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("protocol.replica.console.typed_by._LOGIN", Path("no such file"))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "getlogin", lambda: "anne")
    assert account_here() == "anne"
    monkeypatch.setattr(os, "getlogin", _nobody)
    assert account_here() == ""


def _nobody() -> str:
    raise OSError


def test_what_a_terminal_would_obey_is_shown_and_what_is_too_long_is_cut() -> None:
    assert by_of({TYPED_BY: "ro\x1b[2Jot"}) == "command line: ro\\x1b[2Jot"
    assert len(by_of({TYPED_BY: "n" * 10_000})) < 300
