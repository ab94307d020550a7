"""A clock that nobody sets: who goes on by what was noted of it, and who does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.replica import steady
from protocol.replica.steady import note_of, passed_ms, steady_clock

HERE, ELSEWHERE = bytes(range(16)), bytes(16)


def test_whoever_has_the_same_beginning_knows_what_has_passed_since() -> None:
    assert passed_ms(note_of(5_000, HERE), 65_000, HERE) == 60_000
    assert passed_ms(note_of(65_000, HERE), 5_000, HERE) == -60_000, "a machine that was put back to before"


@pytest.mark.parametrize("note", [b"", note_of(5_000, ELSEWHERE), note_of(5_000, HERE)[:-1], bytes(3), HERE])
def test_of_another_beginning_of_none_and_of_what_is_no_note_nobody_knows(note: bytes) -> None:
    assert passed_ms(note, 65_000, HERE) is None


def test_what_has_no_name_is_noted_for_nobody() -> None:
    assert note_of(5_000, b"") == b""
    assert passed_ms(note_of(5_000, HERE), 65_000, b"") is None


def test_it_began_with_the_machine_where_the_system_names_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boot_id").write_text("00010203-0405-0607-0809-0a0b0c0d0e0f\n")
    monkeypatch.setattr(steady, "_MACHINES", tmp_path / "boot_id")
    assert steady_clock().beginning == HERE


@pytest.mark.parametrize("named", [None, "", "00010203", "what is this?"])
def test_and_elsewhere_with_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    if named is not None:
        (tmp_path / "boot_id").write_text(named)
    monkeypatch.setattr(steady, "_MACHINES", tmp_path / "boot_id")
    assert steady_clock().beginning == steady_clock().beginning == steady._PROCESS


def test_it_never_goes_back() -> None:
    clock = steady_clock()
    read = [clock.read_ms() for _ in range(100)]
    assert read == sorted(read)
