"""Log lines: their forms, their bounds, and what never stands in one."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from protocol.errors import Code, LocalFailure
from protocol.replica.service.logs import OWN, BoundedFile, Form, Line, form_of, log_to, logging_to, say

ROOT = Path(__file__).parents[2]


def line(form: Form, name: str, message: str, *arguments: object, error: BaseException | None = None) -> str:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(name, logging.WARNING, "x.py", 1, message, arguments, exc_info)
    record.created = 1_795_000_000.25
    return Line(form).format(record)


def raised(error: BaseException) -> BaseException:
    try:
        raise error  # noqa: TRY301
    except BaseException as caught:  # noqa: BLE001  (it is what the test is about)
        return caught


def test_a_line_for_a_file_has_time_level_place_and_sentence() -> None:
    assert line(Form.FILE, "sync_agent.scheduler", "the server is “%s”", "away") == (
        'time=2026-11-18T11:06:40.250Z level=warning from=sync_agent.scheduler message="the server is “away”"'
    )


def test_a_line_for_the_journal_leaves_time_and_level_to_it() -> None:
    assert line(Form.JOURNAL, "sync_agent.scheduler", "away") == '<4>from=sync_agent.scheduler message="away"'


def test_a_line_stays_one_line() -> None:
    for form in Form:
        assert "\n" not in line(form, "sync_agent.x", "one\ntwo\r\nthree")


def test_nothing_in_a_line_is_obeyed_by_a_terminal() -> None:
    for form in Form:
        told = line(form, "sync_agent.x", "“%s” calls", "Port\x1b[31mable\u202e\x9b2J")
        assert "“Port\\x1b[31mable\\u202e\\x9b2J” calls" in told.replace("\\\\", "\\")
        assert told.isprintable()


def test_an_exception_is_told_by_its_kind_and_place_never_by_its_words() -> None:
    secret = raised(FileNotFoundError(2, "No such file", "/srv/publish/CM1/Exposé de Léa.odt"))
    for name in ("sync_agent.watching.watcher", "asyncio", "aiohttp.server"):
        told = line(Form.FILE, name, "it failed", error=secret)
        assert "Léa" not in told
        assert re.search(r"\(FileNotFoundError errno 2 at test_logs\.py:\d+ raised\)", told)
    ours = line(Form.FILE, "sync_agent.x", "it failed", error=raised(LocalFailure(Code.DAMAGED, "Léa's work")))
    assert "LocalFailure damaged" in ours
    assert "Léa" not in ours


@pytest.mark.usefixtures("own_logging")
def test_what_strangers_send_that_is_no_http_is_no_error_in_the_log_and_failures_of_ours_are() -> None:
    written = io.StringIO()
    log_to(written, Form.FILE)
    of_aiohttp = logging.getLogger("aiohttp.server")
    for error in (BadHttpMessage("no HTTP"), LineTooLong(b"a line", 8192), OSError(5, "a disk")):
        of_aiohttp.error("Error handling request", exc_info=raised(error))
    told = written.getvalue()
    assert told.count("Error handling request") == 1
    assert "OSError errno 5" in told


def test_what_a_library_adds_below_its_first_line_is_left_out() -> None:
    said = line(Form.FILE, "asyncio", "Task exception was never retrieved\nfuture: <Task exception=X('Léa')>")
    assert "Task exception" in said
    assert "Léa" not in said


def test_a_log_file_never_outgrows_its_bound_keeps_the_newest_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "agent.log"
    handler = BoundedFile(path, max_bytes=1000, kept=2)
    handler.setFormatter(Line(Form.FILE))
    for number in range(200):
        handler.handle(logging.LogRecord("sync_agent.x", logging.INFO, "x.py", 1, "line %d", (number,), None))
    handler.close()
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert "line 199" in path.read_text(encoding="utf-8")
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    handler = BoundedFile(tmp_path / "agent.log")
    os.close(handler._file)
    handler.handle(logging.LogRecord("sync_agent.x", logging.INFO, "x.py", 1, "line", (), None))


def test_a_log_file_that_cannot_be_made_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(LocalFailure) as caught:
        BoundedFile(tmp_path / "file" / "agent.log")
    assert caught.value.code is Code.STORAGE_FAILED


def test_a_log_file_that_cannot_be_made_leaves_nothing_to_close_at_the_end(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom protocol.errors import RelaisError\n"
        "from protocol.replica.service.logs import BoundedFile\n"
        "try:\n    BoundedFile(Path(sys.argv[1]))\nexcept RelaisError as error:\n"
        "    kept = error  # as whoever reports it does\n    print(error.code)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, check=True)
    assert (ended.stdout.split(), ended.stderr) == ([b"storage-failed"], b"")


def test_the_journal_is_recognised_by_the_very_stream_that_it_names(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w", encoding="utf-8") as stream:
        facts = os.fstat(stream.fileno())
        assert form_of(stream, f"{facts.st_dev}:{facts.st_ino}") is Form.JOURNAL
        assert form_of(stream, f"{facts.st_dev}:{facts.st_ino + 1}") is Form.FILE
        assert form_of(stream, None) is Form.FILE
    assert form_of(io.StringIO(), "1:2") is Form.FILE
    assert form_of(None, None) is Form.FILE
    assert sys.stderr is not None


@pytest.fixture
def own_logging() -> Iterator[logging.Logger]:
    """The process's logging, as it was again afterwards."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in OWN}
    root.handlers = []
    yield logging.getLogger("sync_agent.test")
    for handler in root.handlers:
        handler.close()
    root.handlers, root.level = kept[0], kept[1]
    for name, level in kept[2].items():
        logging.getLogger(name).setLevel(level)


def test_a_stream_shows_what_is_ours_and_of_libraries_only_warnings(own_logging: logging.Logger) -> None:
    stream = io.StringIO()
    log_to(stream, Form.TERMINAL)
    own_logging.info("ready")
    logging.getLogger("aiohttp.server").info("a request")
    logging.getLogger("aiohttp.server").warning("odd bytes")
    assert stream.getvalue() == "ready\nodd bytes\n"
    # the last call counts: nothing is written twice
    log_to(None, Form.FILE)
    own_logging.info("more")
    assert "more" not in stream.getvalue()


def test_a_stream_whose_reader_went_away_stops_nothing(own_logging: logging.Logger) -> None:
    stream = io.StringIO()
    log_to(stream, Form.TERMINAL)
    stream.close()
    own_logging.info("ready")


def test_what_was_said_to_a_person_is_in_the_file_once_and_not_again_on_their_screen(
    own_logging: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "agent.log"

    def run() -> None:
        with logging_to(str(file), None):
            say(own_logging, "ready: Renard")
            raise LocalFailure(Code.DISK_FULL, "the disk is full")

    with pytest.raises(LocalFailure):
        run()
    assert [line.split("message=")[1] for line in file.read_text(encoding="utf-8").splitlines()] == [
        '"ready: Renard"',
        '"the disk is full"',
    ]
    assert capsys.readouterr().err == "ready: Renard\n"
    with logging_to(None, None):
        say(own_logging, "ready: Renard")
    assert capsys.readouterr().err == "ready: Renard\n"


def test_levels_that_systemd_does_not_know_are_the_least(own_logging: logging.Logger) -> None:
    record = logging.LogRecord("sync_agent.x", logging.DEBUG, "x.py", 1, "m", (), None)
    assert Line(Form.JOURNAL).format(record).startswith("<7>")


def test_where_an_old_file_cannot_be_renamed_the_log_begins_anew_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(32, "used by another process")

    monkeypatch.setattr(Path, "replace", denied)
    path = tmp_path / "agent.log"
    handler = BoundedFile(path, max_bytes=100, kept=1)
    handler.setFormatter(Line(Form.TERMINAL))
    for number in range(50):
        handler.handle(logging.LogRecord("sync_agent.x", logging.INFO, "x.py", 1, "line %d", (number,), None))
    handler.close()
    assert path.stat().st_size <= 100
    assert "line 49" in path.read_text(encoding="utf-8")
