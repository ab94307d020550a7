"""Where the options of a command come from: the line, the environment, the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.config import Known, settings_for
from tests.harness.terminal import Terminal


def test_options_and_folder_may_come_from_the_environment(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for option, value in {
        "DATA": str(terminal.data_dir),
        "SPACE": "s",
        "PEER": " a:1  b:2 ",
        "USES": "7",
        "BEHIND_PROXY": "true",
        "JSON": "1",
    }.items():
        monkeypatch.setenv(f"SYNC_AGENT_{option}", value)
    assert terminal.run_bare("publish", "a") == 0
    assert terminal.document() == {
        "path": ["a"], "space": "s", "peer": ["a:1", "b:2"], "uses": 7, "behind": True, "dir": str(terminal.data_dir),
    }  # fmt: skip
    assert terminal.run_bare("publish") == 2
    assert terminal.document()["error"]["code"] == "usage"


def test_argv_wins_over_environment_over_the_commands_table_over_the_file_over_the_default(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(*argv: str) -> str:
        assert terminal.run("publish", "a", "--json", *argv) == 0
        space = terminal.document()["space"]
        assert isinstance(space, str)
        return space

    assert terminal.run("publish", "a") == 2
    terminal.config('space = "file"')
    assert seen() == "file"
    terminal.config('space = "file"\n[publish]\nspace = "table"')
    assert seen() == "table"
    monkeypatch.setenv("SYNC_AGENT_SPACE", "environment")
    assert seen() == "environment"
    assert seen("--space", "argv") == "argv"


@pytest.mark.parametrize("words", [("--data", "d", "verify"), ("space", "--json", "list"), ("--json", "verify")])
def test_an_option_of_every_command_before_the_command_is_told_its_place(
    terminal: Terminal, words: tuple[str, ...]
) -> None:
    assert terminal.run_bare(*words) == 2
    assert "comes after the command and its arguments" in terminal.err
    assert terminal.run_bare("--nonsense", "verify") == 2
    assert "No such option '--nonsense'" in terminal.err


def test_a_variable_holds_several_values_one_a_line_and_ids_and_addresses_side_by_side(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_id, another = "ab" * 32, "7f6eccd1"
    for variable, values in (
        ("mon-fri 08:30-16:30", ["mon-fri 08:30-16:30"]),
        ("CM1 CM2\n  CE 2\n\n", ["CM1 CM2", "CE 2"]),
        ("10.0.0.1:8443 [::1]:8443", ["10.0.0.1:8443", "[::1]:8443"]),
        (f"{an_id} {another} 0180005L", [an_id, another, "0180005L"]),
        ("", None),
    ):
        monkeypatch.setenv("SYNC_AGENT_PEER", variable)
        assert terminal.run("publish", "a", "--space", "s", "--json") == 0
        assert terminal.document()["peer"] == values


@pytest.mark.parametrize("key", ["behind-proxy", "behind_proxy", "--behind-proxy"])
def test_the_file_takes_every_kind_of_option(terminal: Terminal, key: str) -> None:
    terminal.config(f'space = "s"\npeer = ["a:1", "b:2"]\n[publish]\n{key} = true\nuses = 3')
    assert terminal.run("publish", "a", "--json") == 0
    found = terminal.document()
    assert (found["peer"], found["behind"], found["uses"]) == (["a:1", "b:2"], True, 3)
    terminal.config('space = "s"\npeer = "a:1"\njson = true')
    assert terminal.run("publish", "a") == 0
    assert terminal.document()["peer"] == ["a:1"]


@pytest.mark.parametrize("table", ["[space.add]", '["space add"]', "[space-add]"])
def test_a_table_may_be_named_like_a_command_of_two_words(terminal: Terminal, table: str) -> None:
    terminal.config(f'{table}\nschool = "0180005L"')
    assert terminal.run("space", "add", "6e B", "--json") == 0
    assert terminal.document() == {"command": "space add", "name": "6e B", "school": "0180005L"}


@pytest.mark.parametrize(
    "text",
    [
        "space =",
        "\udcff",
        "nonsense = 1",
        'data = "elsewhere"',
        "[nonsense]\nuses = 1",
        "[publish]\nschool = 'x'",
        "[space]\nschool = 'x'",
        "[space.nonsense]\nschool = 'x'",
        "uses = 'many'",
        "uses = 0",
        "uses = [1]",
        "peer = 3",
        "peer = [3]",
        "space = {x = 1}",
        "path = ['a']",
        "#" * 70_000,
    ],
)
def test_a_file_that_cannot_be_meant_is_wrong_usage(terminal: Terminal, text: str) -> None:
    (terminal.data_dir / "config.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert terminal.run("publish", "a", "--space", "s", "--json") == 2
    assert terminal.document()["error"]["code"] == "usage"


def test_a_file_may_begin_with_the_mark_that_windows_puts_before_a_text(terminal: Terminal) -> None:
    (terminal.data_dir / "config.toml").write_text('[publish]\nspace = "s"\njson = true\n', encoding="utf-8-sig")
    assert terminal.run("publish", "a") == 0
    assert terminal.document()["space"] == "s"


def test_a_folder_in_the_place_of_the_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(BadInput) as refusal:
        settings_for(tmp_path, "run", {"run": Known("run", {})})
    assert refusal.value.code == Code.USAGE


def test_a_folder_that_this_account_may_not_enter_is_named_as_the_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(LocalFailure, match="cannot use the data folder") as failure:
        settings_for(tmp_path, "run", {"run": Known("run", {})})
    assert failure.value.code == Code.STORAGE_FAILED


def test_no_folder_and_no_file_say_nothing(tmp_path: Path) -> None:
    known = {"run": Known("run", {"listen": False})}
    assert settings_for(tmp_path, "run", known) == {}
    assert settings_for(tmp_path / "missing", "run", known) == {}
