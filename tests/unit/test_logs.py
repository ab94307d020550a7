"""Log lines: their forms, their bounds, and what never stands in one."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.service.logs import BoundedFile, Form, Line, form_of


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


def test_an_exception_is_told_by_its_kind_and_place_never_by_its_words() -> None:
    secret = raised(FileNotFoundError(2, "No such file", "/srv/publish/CM1/Exposé de Léa.odt"))
    for name in ("sync_agent.watcher", "asyncio", "aiohttp.server"):
        told = line(Form.FILE, name, "it failed", error=secret)
        assert "Léa" not in told
        assert re.search(r"\(FileNotFoundError errno 2 at test_logs\.py:\d+ raised\)", told)
    ours = line(Form.FILE, "sync_agent.x", "it failed", error=raised(LocalFailure(Code.DAMAGED, "Léa's work")))
    assert "LocalFailure damaged" in ours
    assert "Léa" not in ours


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


def test_the_journal_is_recognised_by_the_very_stream_that_it_names(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w", encoding="utf-8") as stream:
        facts = os.fstat(stream.fileno())
        assert form_of(stream, f"{facts.st_dev}:{facts.st_ino}") is Form.JOURNAL
        assert form_of(stream, f"{facts.st_dev}:{facts.st_ino + 1}") is Form.FILE
        assert form_of(stream, None) is Form.FILE
    assert form_of(io.StringIO(), "1:2") is Form.FILE
    assert form_of(None, None) is Form.FILE
    assert sys.stderr is not None
