"""What a command says: its result, its errors, for people and for scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from protocol.replica.console.frame import Call, Program
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import ID_CHARS, readable
from tests.harness.console_program import PROGRAM
from tests.harness.terminal import Terminal

# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_is_one_json_document(terminal: Terminal) -> None:
    assert terminal.run("publish", "a.txt", "--space", "é", "--json") == 0
    assert terminal.document()["path"] == ["a.txt"]
    assert terminal.document()["space"] == "é"
    assert terminal.err == ""
    assert terminal.run("space", "list", "--shape", "nothing", "--json") == 0
    assert terminal.document() == {}


def test_without_json_a_list_is_a_table_and_nothing_that_a_terminal_obeys(terminal: Terminal) -> None:
    assert terminal.run("space", "list") == 0
    assert terminal.out.splitlines() == [
        "name             entries  files  late",
        "6e B             12       2      -",
        "École\\x1b[31m\\n  7        -      yes",
    ]


def test_without_json_an_object_is_one_line_per_key(terminal: Terminal) -> None:
    assert terminal.run("space", "list", "--shape", "record") == 0
    assert terminal.out.splitlines() == [
        "ok      no",
        "spaces",
        "  name             entries  files  late",
        "  6e B             12       2      -",
        "  École\\x1b[31m\\n  7        -      yes",
        "disk    free=3",
    ]
    assert terminal.run("space", "list", "--shape", "empty") == 0
    assert terminal.out == "(none)\n"
    assert terminal.run("space", "list", "--shape", "nothing") == 0
    assert terminal.out == ""


def test_json_holds_nothing_that_a_terminal_obeys_and_says_the_same(terminal: Terminal) -> None:
    strange = "a\x1b[31m\x7f\x9b2Jé"
    assert terminal.run("publish", strange, "--space", "s", "--json") == 0
    assert terminal.out.strip().isprintable()
    assert terminal.document()["path"] == [strange]


def test_what_utf8_does_not_hold_is_an_escape(terminal: Terminal) -> None:
    assert readable(["\udcff"]) == "\\udcff\n"
    assert terminal.run("publish", "a", "--space", "s", "--json") == 0


def test_a_verdict_decides_the_exit_status(terminal: Terminal) -> None:
    assert terminal.run("verify", "--json") == 0
    assert terminal.run("verify", "--broken", "--json") == 1
    assert terminal.document() == {"ok": False, "problems": ["pack 3"]}


def test_a_raw_command_writes_its_bytes_and_nothing_else(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert PROGRAM.main(["cat", "--data", str(tmp_path), "--json"]) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\xff\x00raw"


def test_text_for_people_is_short_where_it_may_be_and_whole_where_it_must_be() -> None:
    problems = [
        {"code": "disk-full", "message": "the disk is full", "remedy": "make room"},
        {"code": "x", "message": "y"},
    ]
    assert readable(problems) == "- the disk is full (disk-full)\n  → make room\n- y (x)\n"
    assert readable("plain") == "plain\n"
    rows: JSON = [
        {"id": "ab" * 32, "at": "2026-11-24T22:33:00Z", "old": "2026-99-24T22:33:00Z", "in": {"a": 1}, "no": {}}
    ]
    assert readable(rows, 200).splitlines()[1].split()[0] == "ab" * (ID_CHARS // 2)
    assert "a=1" in readable(rows, 200)
    assert "2026-99-24T22:33:00Z" in readable(rows, 200), "what is no time stays as it is"
    assert "…" in readable([{"title": "x" * 90, "other": "y" * 90}], 60)


@pytest.mark.parametrize(("left", "told"), [([], True), (["a right"], False)])
def test_what_could_be_done_in_part_only_is_not_said_to_be_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], left: list[JSON], *, told: bool
) -> None:
    program = Program("sync-agent", "a program", lambda: "1")

    @program.command("revoke", said="cut off")
    def revoke(_call: Call) -> JSON:
        """Cut off."""
        return {"remains": left} if left else {}

    assert program.main(["revoke", "--data", str(tmp_path)]) == 0
    assert ("cut off" in capfd.readouterr().err) is told


@pytest.mark.parametrize("changed", [True, False])
def test_what_was_so_already_is_not_said_to_be_done_now(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], *, changed: bool
) -> None:
    program = Program("sync-agent", "a program", lambda: "1")

    @program.command("withdraw", said="withdrawn", unchanged="it was so already")
    def withdraw(_call: Call) -> JSON:
        """Withdraw."""
        return {"changed": changed}

    assert program.main(["withdraw", "--data", str(tmp_path)]) == 0
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "withdrawn\n" if changed else "it was so already\n")
    assert program.main(["withdraw", "--json", "--data", str(tmp_path)]) == 0
    assert json.loads(capfd.readouterr().out) == {}


def test_what_is_for_people_alone_is_in_no_document_of_a_script(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program = Program("sync-agent", "a program", lambda: "1")

    @program.command("checkout", said="written", for_people=["files"])
    def checkout(_call: Call) -> JSON:
        """Write."""
        return {"files": 3}

    assert program.main(["checkout", "--data", str(tmp_path)]) == 0
    told = capfd.readouterr()
    assert "3" in told.out
    assert told.err == "written\n"
    assert program.main(["checkout", "--json", "--data", str(tmp_path)]) == 0
    assert json.loads(capfd.readouterr().out) == {}


def test_a_table_is_cut_to_the_terminal_and_is_whole_where_it_goes_into_another_program(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program("sync-agent", "a program", lambda: "1")
    folder = "/home/petit/" + "leçons/" * 40

    @program.command("list")
    def listed(_call: Call) -> JSON:
        """List."""
        return [{"folder": folder, "title": "Eau"}]

    monkeypatch.delenv("COLUMNS", raising=False)
    assert program.main(["list", "--data", str(tmp_path)]) == 0
    assert folder in capfd.readouterr().out
    monkeypatch.setenv("COLUMNS", "80")
    assert program.main(["list", "--data", str(tmp_path)]) == 0
    assert max(map(len, capfd.readouterr().out.splitlines())) == 80


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ("input", 2, "unknown-item"),
        ("refused", 5, "no-right"),
        ("silence", 3, "unreachable"),
        ("bug", 1, "internal"),
        ("full", 1, "disk-full"),
        ("interrupt", 130, "interrupted"),
    ],
)
def test_an_error_has_its_status_its_document_and_its_sentence(
    terminal: Terminal, how: str, status: int, code: str
) -> None:
    assert terminal.run("fail", "--how", how) == status
    assert terminal.out == ""
    assert terminal.err.startswith("sync-agent: ")
    assert terminal.err.count("\n") == 1
    assert terminal.run("fail", "--how", how, "--json") == status
    error = terminal.document()["error"]
    assert sorted(error) == ["code", "message"]
    assert error["code"] == code


def test_an_unforeseen_error_shows_its_trace_only_when_asked(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.run("fail", "--how", "bug")
    assert "Traceback" not in terminal.err
    monkeypatch.setenv("SYNC_AGENT_DEBUG", "1")
    assert terminal.run("fail", "--how", "bug", "--json") == 1
    assert "Traceback" in terminal.err
    assert terminal.document()["error"]["code"] == "internal"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["space"],
        ["space", "nonsense"],
        ["publish"],
        ["publish", "a"],
        ["publish", "a", "--space"],
        ["publish", "a", "--space", "s"],
        ["publish", "a", "--space", "s", "--data", ""],
        ["publish", "a", "--space", "s", "--data", "d", "--uses", "many"],
        ["publish", "a", "--space", "s", "--data", "d", "--uses", "0"],
        ["publish", "a", "--space", "s", "--data", "d", "--nonsense"],
        ["publish", "a", "--space", "s", "--data", "d", "--space", "t"],
        ["publish", "a", "--space", "s", "--data", "d", "--data", "e"],
        ["publish", "a", "--space", "s", "--data", "d", "--behind-proxy=1"],
        ["publish", "a", "--space", "s", "--data", "d", "--no-behind-proxy"],
        ["verify", "extra", "--data", "d"],
        ["--data", "d", "verify"],
    ],
)
def test_wrong_usage_is_2_with_a_sentence_and_a_document(terminal: Terminal, argv: list[str]) -> None:
    assert terminal.run_bare(*argv) == 2
    assert terminal.out == ""
    assert terminal.err.startswith("sync-agent")
    assert terminal.run_bare(*argv, "--json") == 2
    assert terminal.document()["error"]["code"] == "usage"


def test_an_option_that_repeats_and_a_switch_may_be_given_twice(terminal: Terminal) -> None:
    once = ("publish", "a", "--space", "s", "--peer", "p:1", "--behind-proxy", "--json")
    assert terminal.run(*once, "--peer", "q:2", "--behind-proxy", "--json") == 0
    assert terminal.document()["peer"] == ["p:1", "q:2"]
    assert terminal.run(*once, "--space", "t") == 2
    assert "--space is given twice" in terminal.document()["error"]["message"]


def test_what_is_no_text_is_wrong_usage_but_in_the_name_of_a_file(terminal: Terminal) -> None:
    assert terminal.run("publish", "a", "--space", "\udcff", "--json") == 2
    assert "\\udcff is no text" in terminal.document()["error"]["message"]
    assert terminal.run("publish", "a", "--space", "s", "--peer", "\udcff:1", "--json") == 2
    assert terminal.run("publish", "\udcff", "--space", "s", "--json") == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("6e\x1b[2JB", "\\x1b"),
        ("6e\nB", "a break"),
        ("6e\tB", "a break"),
        ("6e\u2028B", "\\u2028"),
        ("6e\x9b2JB", "\\x9b"),
        ("6e\u202eB", "\\u202e"),
        ("6e\u2066B\u2069", "\\u2066"),
    ],
)
def test_what_a_screen_would_obey_is_wrong_usage_in_what_people_type(terminal: Terminal, name: str, said: str) -> None:
    assert terminal.run("space", "add", name, "--school", "0180005L", "--json") == 2
    assert said in terminal.document()["error"]["message"]
    assert terminal.err.strip().isprintable()
    assert terminal.run("space", "add", "6e B", "--school", name) == 2


@pytest.mark.parametrize("name", ["6e B\r\n", " 6e B", "نور\u200f", "Zoe\u0308", "N\u00a0°\u202f1", "👩\u200d🏫"])
def test_blanks_around_a_name_and_what_letters_need_are_usual(terminal: Terminal, name: str) -> None:
    assert terminal.run("space", "add", name, "--school", "0180005L", "--json") == 0
    assert terminal.document()["name"] == name


def test_a_text_has_lines_and_nothing_else_that_a_screen_obeys(terminal: Terminal) -> None:
    text = "Très bien :\n\t- le titre\r\n\t- la fin\n"
    assert terminal.run("say", "--text", text, "--json") == 0
    assert terminal.document() == {"text": text}
    for sign in ("\x1b", "\r", "\x00", "\x0b", "\x85", "\x9b", "\u2029", "\u202d", "\u2067"):
        assert terminal.run("say", "--text", f"Très{sign}bien") == 2


def test_a_clock_that_no_program_can_read_is_told_as_one_to_set(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beyond() -> int:
        raise OverflowError("timestamp too large to convert to C PyTime_t")

    monkeypatch.setattr("time.time_ns", beyond)
    assert terminal.run("space", "add", "6e B", "--school", "0180005L", "--json") == 2
    assert terminal.document()["error"]["code"] == "bad-date"
    assert "set date and time" in terminal.err


def test_a_required_option_without_its_value_is_wrong_usage(terminal: Terminal) -> None:
    start = ("publish", "a", "--data", str(terminal.data_dir))
    assert terminal.run_bare(*start, "--space") == 2
    assert "'--space' requires an argument" in terminal.err
    assert "sync-agent publish --help" in terminal.err, "whose --space it is"
    assert terminal.run_bare(*start, "--space", "--peer", "p:1") == 2
    assert "--space needs a value" in terminal.err
    assert terminal.run_bare(*start, "--space", "s", "--peer", "--behind-proxy") == 2
    assert "--peer needs a value" in terminal.err


def test_json_before_the_command_is_wrong_usage_told_as_json(terminal: Terminal) -> None:
    assert terminal.run_bare("--json", "verify") == 2
    assert terminal.document()["error"]["code"] == "usage"


def test_a_path_called_like_an_option_is_no_wish_for_json(terminal: Terminal) -> None:
    assert terminal.run_bare("publish", "--data", str(terminal.data_dir), "--", "--json") == 2
    assert terminal.out == ""
    assert terminal.run_bare("publish", "--data", str(terminal.data_dir), "--space", "s", "--json", "--", "--json") == 0
    assert terminal.document()["path"] == ["--json"]


@pytest.mark.parametrize("argv", [["--help"], ["publish", "--help"], ["space", "--help"], ["space", "add", "--help"]])
def test_help_is_given_for_everything(terminal: Terminal, argv: list[str]) -> None:
    assert terminal.run_bare(*argv) == 0
    assert terminal.out.startswith(f"Usage: sync-agent {' '.join(argv[:-1])}".rstrip())
    assert "\x1b" not in terminal.out


def test_the_version_is_given(terminal: Terminal) -> None:
    assert terminal.run_bare("--version") == 0
    assert terminal.out == "sync-agent 1.2.3\n"
