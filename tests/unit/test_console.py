from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

from protocol.errors import BadInput, Code, LocalFailure, PeerFault
from protocol.replica.console.config import Known, settings_for
from protocol.replica.console.frame import Call, Notices, Program, _silence, installed_version, tell
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import ID_CHARS, readable
from tests.harness.console_program import PROGRAM

ROOT = Path(__file__).parents[2]


class Terminal:
    """Runs the program and keeps what it said."""

    def __init__(self, data_dir: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.data_dir = data_dir
        self._capture = capture
        self.out = ""
        self.err = ""

    def run(self, *argv: str) -> int:
        """With `--data DIR` added."""
        return self.run_bare(*argv, "--data", str(self.data_dir))

    def run_bare(self, *argv: str) -> int:
        self._capture.readouterr()
        status = PROGRAM.main(argv)
        captured = self._capture.readouterr()
        self.out, self.err = captured.out.decode(), captured.err.decode()
        return status

    def document(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    def config(self, text: str) -> None:
        (self.data_dir / "config.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def terminal(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for option in ("DATA", "JSON", "SPACE", "PEER", "USES", "BEHIND_PROXY", "SCHOOL", "DEBUG"):
        monkeypatch.delenv(f"SYNC_AGENT_{option}", raising=False)
    return Terminal(tmp_path, capfdbinary)


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


# --- where options come from ------------------------------------------------------------------------------------------


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


# --- the process ------------------------------------------------------------------------------------------------------


async def start(*argv: str) -> asyncio.subprocess.Process:
    # a shell lets what it runs in the background ignore SIGINT, and tests may be run so
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.harness.console_program", *argv, cwd=ROOT, stdout=PIPE, stderr=PIPE
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
async def test_ctrl_c_ends_a_command_with_130(tmp_path: Path) -> None:
    process = await start("wait", "--data", str(tmp_path), "--json")
    assert process.stderr is not None
    assert await process.stderr.readline() == b"waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert (process.returncode, json.loads(out)["error"]["code"]) == (130, "interrupted")
    assert err == b"sync-agent: interrupted\n"


async def test_a_reader_that_goes_away_ends_a_command_quietly(tmp_path: Path) -> None:
    process = await start("flood", "--data", str(tmp_path))
    assert process.stdout is not None
    assert process.stderr is not None
    assert await process.stdout.readexactly(10) == b"x" * 10
    process.stdout._transport.close()  # type: ignore[attr-defined]
    assert await process.stderr.read() == b""
    assert await process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_result_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.harness.console_program", "verify", "--data", str(tmp_path), "--json"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, b"sync-agent: the disk is full\n")


CLOSED: Final = 'exec "$@" <&- >&- 2>&-'


def closed(*argv: str) -> list[str]:
    """The command line of a program that is begun with stdin, stdout and stderr closed."""
    return ["sh", "-c", CLOSED, "sh", sys.executable, "-m", "tests.harness.console_program", *argv]


@pytest.mark.skipif(os.name != "posix", reason="numbers of open files as POSIX gives them")
def test_a_program_that_is_begun_with_all_its_streams_closed_works_and_gives_their_numbers_to_no_file(
    tmp_path: Path,
) -> None:
    for command in ("note", "run"):
        noted = tmp_path / command
        noted.mkdir()
        ended = subprocess.run(closed(command, "--data", str(noted)), cwd=ROOT, capture_output=True, check=False)
        assert ended.returncode == 0, command
    assert int((tmp_path / "note" / "number").read_text()) > 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these name files in UTF-8 whatever the locale")
def test_files_have_accents_in_their_names_in_the_locale_of_c_too(tmp_path: Path) -> None:
    for locale in ({"PYTHONUTF8": "0"}, {}):
        data = tmp_path / f"É{len(locale)}"
        data.mkdir()
        ended = subprocess.run(
            [sys.executable, "-m", "tests.harness.console_program", "accents", "--data", str(data)],
            cwd=ROOT, env={**os.environ, "LC_ALL": "C", **locale}, capture_output=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert [each.name for each in data.iterdir()] == ["été.txt"]


def test_a_locale_that_lacks_a_character_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "latin-1")
    assert terminal.run("fail", "--how", "locale", "--json") == 1
    assert terminal.document()["error"] == {
        "code": "storage-failed",
        "message": "files here are named in latin-1, which lacks a character of “☺.txt”; use a locale of UTF-8",
    }


def test_help_loads_nothing_that_only_commands_need() -> None:
    listing = (
        "import sys; from tests.harness.console_program import PROGRAM; import protocol.replica.console.command; "
        "PROGRAM.main(['--help']); "
        "heavy = {'aiohttp', 'aiosqlite', 'cryptography', 'pydantic', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, check=True)
    assert ended.stderr.decode().strip() == "[]"


async def test_a_command_without_files_refuses_one() -> None:
    with pytest.raises(PeerFault):
        await Notices().start("a", 1)


@pytest.mark.skipif(os.name != "posix", reason="where a process cannot replace itself, it goes on")
def test_a_lasting_command_begins_anew_without_what_parsing_loaded(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.harness.console_program", "run", "--listen", "é:1", "--data", str(tmp_path)]
    done = subprocess.run([*argv, "--json"], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"listen": "é:1", "data": str(tmp_path), "parser": False}


def test_a_lasting_command_replaces_its_process_and_takes_over_what_was_parsed(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[str, list[str], dict[str, str]]] = []

    class Replaced(Exception):
        pass

    def replace(path: str, argv: list[str], environment: dict[str, str]) -> None:
        replaced.append((path, argv, environment))
        raise Replaced

    monkeypatch.setattr("os.execve", replace)
    argv = ["run", "--listen", "é:1", "--data", str(terminal.data_dir), "--json"]
    monkeypatch.setattr(sys, "argv", ["sync-agent", *argv])
    PROGRAM.main()
    (path, began, environment) = replaced[0]
    assert (path, began[0]) == (sys.executable, sys.executable)
    told = {key: value for key, value in environment.items() if key.startswith("SYNC_AGENT")}
    assert list(told) == ["SYNC_AGENT_PARSED"]

    # the process that takes over parses nothing again, and leaves nothing of it to its children
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(sys, "argv", ["sync-agent", "nonsense"])
    terminal._capture.readouterr()
    assert PROGRAM.main() == 0
    result = json.loads(terminal._capture.readouterr().out)
    assert (result["listen"], result["data"]) == ("é:1", str(terminal.data_dir))
    assert "SYNC_AGENT_PARSED" not in os.environ


def test_where_a_process_cannot_be_replaced_the_command_just_goes_on(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sync-agent", "run", "--data", str(terminal.data_dir), "--json"])
    monkeypatch.setattr(PROGRAM, "_begin_anew", lambda _parsed: None)
    assert PROGRAM.main() == 0
    assert json.loads(terminal._capture.readouterr().out)["listen"] == "nowhere"


def test_a_reader_that_has_gone_ends_it_with_1_and_no_complaint(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_parsed: object) -> int:
        raise BrokenPipeError

    silenced: list[object] = []
    monkeypatch.setattr("protocol.replica.console.frame._perform", gone)
    monkeypatch.setattr("protocol.replica.console.frame._silence", silenced.append)
    assert terminal.run("verify") == 1
    assert silenced == [sys.stdout]
    assert terminal.err == ""


def test_nobody_to_tell_anything_to_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A service of Windows has neither stdout nor stderr."""
    monkeypatch.setattr(sys, "stderr", None)
    tell("nobody hears this")
    monkeypatch.setattr(sys, "stdout", None)
    assert PROGRAM.main(["verify", "--data", str(tmp_path)]) == 0
    with (tmp_path / "closed").open("w", encoding="utf-8") as closed:
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    tell("nor this")


def test_a_stream_whose_end_is_closed_leads_nowhere_afterwards(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        _silence(stream)
        stream.write("x")
    _silence(None)


async def test_a_command_without_files_lets_nothing_else_arrive() -> None:
    assert await Notices().data(b"x") is None  # type: ignore[func-returns-value]
    assert await Notices().end() is None  # type: ignore[func-returns-value]


def test_the_version_is_the_installed_one_and_bare_files_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installed_version() == version("relais")
    installed_version.cache_clear()
    monkeypatch.setattr("sys.path", ["/nowhere", __file__])
    assert installed_version() == "unknown"
    installed_version.cache_clear()


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
