"""Where a running program's log lines go, and what never stands in one.

A line is `key=value` (logfmt): time, level, the part of the program, the sentence. Under systemd's journal, which knows
time and level, a prefix `<n>` gives the level instead (sd-daemon(3)); on a terminal only the sentence is shown.

Rules:
- no title, no person's name, no secret: who logs names ids and numbers. What a library says of an exception may hold a
  path, and a path holds titles; so of an exception only its kind, its code and its places in the program are written;
- a log file is bounded: at `LOG_FILE_BYTES` it becomes `.1`, that one `.2`, and the oldest goes;
- what strangers send, which is refused, is not in it: whoever reaches a listener would else fill it with errors;
- a log that cannot be written stops no work;
- nothing in a line is obeyed by the terminal that shows it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.limits import LOG_FILE_BYTES, LOG_FILES_KEPT
from protocol.portable_names import displayable
from protocol.replica.console.frame import tell

OWN: Final = ("protocol", "sync_agent", "sync_server")
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
_SAID: Final = "said"

_HTTP_SERVER: Final = "aiohttp.server"
_NO_HTTP: Final = "aiohttp.http_exceptions"

_log = logging.getLogger(__name__)


class Form(StrEnum):
    """How a line is written."""

    FILE = "file"
    JOURNAL = "journal"
    TERMINAL = "terminal"


def form_of(stream: TextIO | None, journal_stream: str | None) -> Form:
    """How lines to `stream` are written; `journal_stream` is `JOURNAL_STREAM` of the environment: device:inode."""
    if stream is None:
        return Form.FILE
    try:
        facts = os.fstat(stream.fileno())
        if journal_stream == f"{facts.st_dev}:{facts.st_ino}":
            return Form.JOURNAL
        return Form.TERMINAL if stream.isatty() else Form.FILE
    except (OSError, ValueError):
        return Form.FILE


def log_to(stream: TextIO | None, form: Form, file: Path | None = None) -> None:
    """Send the log lines of this process to `file` if one is given, else to `stream`; the last call counts.

    Raises `LocalFailure(STORAGE_FAILED)` if the file cannot be written.
    """
    handler: logging.Handler
    if file is not None:
        handler, form = BoundedFile(file), Form.FILE
    elif stream is not None:
        handler = _Unfailing(stream)
    else:
        handler = logging.NullHandler()
    handler.setFormatter(Line(form))
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
        former.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger(_HTTP_SERVER).addFilter(_is_of_this_machine)


@contextlib.contextmanager
def logging_to(file: str | None, journal_stream: str | None) -> Iterator[None]:
    """Send this process's log lines where `--log-file` says, else to stderr in the form of whoever reads it.

    What ends the program is noted in the file as well. Raises as `log_to` does.
    """
    log_to(sys.stderr, form_of(sys.stderr, journal_stream), None if file is None else Path(file))
    try:
        yield
    except RelaisError as error:
        _log.error("%s", error, extra={_SAID: True})
        raise


def say(log: logging.Logger, sentence: str) -> None:
    """One plain line on stderr for whoever started the program, and one in its log file."""
    tell(sentence)
    log.info("%s", sentence, extra={_SAID: True})


def _is_of_this_machine(record: logging.LogRecord) -> bool:
    """Whether a library speaks of us: that strangers send what is no HTTP (and get 400) is no error of this machine's.

    Told by the name of where the exception comes from: whoever only logs loads no library for it.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__module__ != _NO_HTTP


class Line(logging.Formatter):
    """One record as one line."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        message = record.getMessage()
        if record.name not in OWN and not record.name.startswith(tuple(f"{name}." for name in OWN)):
            # a library may go on for lines, and quote the exception
            message = message.partition("\n")[0]
        sentence = displayable(" ".join(message.split()))
        if record.exc_info and record.exc_info[1] is not None:
            sentence += f" ({of_exception(record.exc_info[1])})"
        if self._form is Form.TERMINAL:
            return sentence
        fields = f"from={record.name} message={json.dumps(sentence, ensure_ascii=False)}"
        if self._form is Form.JOURNAL:
            return f"<{_priority(record.levelno)}>{fields}"
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"time={at} level={record.levelname.lower()} {fields}"


def of_exception(error: BaseException) -> str:
    """What may be written of an exception: its kind, its code, and where it came from; never its own words."""
    kind = type(error).__name__
    if isinstance(error, RelaisError):
        kind = f"{kind} {error.code}"
    elif isinstance(error, OSError) and error.errno is not None:
        kind = f"{kind} errno {error.errno}"
    places = _places(error.__traceback__)
    return f"{kind} at {places}" if places else kind


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace, limit=-6)
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def _priority(level: int) -> int:
    return next((number for bound, number in _PRIORITIES if level >= bound), _DEBUG_PRIORITY)


class _Unfailing(logging.StreamHandler[TextIO]):
    """A stream whose reader may go away; what was said there already is not said again."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what `say` has written."""
        return not hasattr(record, _SAID) and bool(super().filter(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """A log that cannot be written stops no work, and nobody is left to tell."""


class BoundedFile(logging.Handler):
    """A log file that never takes more than `(kept + 1) × max_bytes`. Only its owner reads it."""

    def __init__(self, path: Path, *, max_bytes: int = LOG_FILE_BYTES, kept: int = LOG_FILES_KEPT) -> None:
        """Raises `LocalFailure(STORAGE_FAILED)` if the file cannot be opened."""
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = _opened(path)
        except OSError as reason:
            raise LocalFailure(
                Code.STORAGE_FAILED, f"the log file {path} cannot be written: {reason.strerror}", path=str(path)
            ) from reason
        # from here on logging closes it at the end of the process
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, and make room first where it would not fit."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
            if os.fstat(self._file).st_size + len(line) > self._max_bytes:
                self._turn()
            os.write(self._file, line)
        except (OSError, ValueError):
            return

    def close(self) -> None:
        """Let go of the file."""
        with contextlib.suppress(OSError):
            os.close(self._file)
        self._file = -1
        super().close()

    def _turn(self) -> None:
        """Begin a new file; where the old one cannot be renamed (Windows, while somebody reads it), empty it."""
        os.close(self._file)
        try:
            for number in range(self._kept, 0, -1):
                older = self._path if number == 1 else self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self._path, 0)
        self._file = _opened(self._path)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o600)
