"""A command as a process: how it is ended, what it is begun with, and what it loads."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from protocol.errors import PeerFault
from protocol.replica.console.frame import Notices, _silence, installed_version, tell
from tests.harness.console_program import PROGRAM
from tests.harness.terminal import Terminal

ROOT = Path(__file__).parents[2]


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
