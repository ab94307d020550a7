"""The frame of both command lines: options from argv, environment and `DIR/config.toml` in, one result or error out.

Rules:
- `--data` and `--json` belong to every command and come after it; an option is also `PROGRAM_OPTION` in the environment
  (a repeatable one splits at white space) and a key of `DIR/config.toml`; in this order, the default last;
- with `--json` stdout holds exactly one JSON document; without, readable text; sentences go to stderr;
- an error decides its own exit status (`protocol.errors`); what nobody foresaw is one sentence and 1, and a traceback
  only if `PROGRAM_DEBUG` is set;
- parsing is over before a command begins, and a command loads its libraries itself: `--help` stays quick; what parses
  (`parser`) is loaded only to parse, and a daemon begins anew without it.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias, TypeVar, cast

from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.portable_names import displayable
from protocol.replica.console.operation import JSON, choices_in
from protocol.replica.console.text import readable

INTERRUPTED_STATUS: Final = 130
_TAKEN_OVER: Final = "_PARSED"
_INSTALLED: Final = ".dist-info"
_UTF8: Final = "utf-8"
_UTF8_MODE: Final = "PYTHONUTF8"
_OBEYED: Final = re.compile("[\x7f-\x9f]")
"""What terminals may obey, and JSON leaves as it is."""
SMALL: Final = {"FROZENLIST_NO_EXTENSIONS": "1"}
"""aiohttp's list of a handful of handlers, compiled, is the only thing that loads the C++ library: 1.5 MB."""
_CHANGED: Final = "changed"
_FALSE: Final = frozenset({"", "0", "false", "no", "off", "f", "n"})

Handler: TypeAlias = "Callable[..., JSON] | Callable[..., Awaitable[JSON]]"
_H = TypeVar("_H", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Call:
    """What every command is told: its program and name, DIR, and whether the result is wanted as JSON."""

    program: str
    command: str
    data_dir: Path
    json: bool


@dataclass(frozen=True, slots=True)
class Command:
    """An entry of a program's table; `Program.command` says what its flags mean."""

    handler: Callable[..., Any]
    verdict: bool
    raw: bool
    lasting: bool
    said: str | None
    unchanged: str | None
    columns: Mapping[str, str] | None
    for_people: Sequence[str]
    apart: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command with all that it was given."""

    command: Command
    call: Call
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Misuse:
    """A command line that cannot be parsed: the command in question, and what is wrong with it."""

    where: str
    sentence: str


class Program:
    """One of the two programs: a table of commands.

    A command is a function, plain or `async`, whose first parameter is the `Call` and whose others are `Annotated` with
    `options.Argument` or `Option`; its docstring is its help and what it returns is the result.
    """

    def __init__(self, name: str, summary: str, version: Callable[[], str]) -> None:
        self.name = name
        self._summary = summary
        self._version = version
        self._prefix = name.upper().replace("-", "_")
        self._commands: dict[str, Command] = {}

    @property
    def begun_anew(self) -> bool:
        """Whether this process goes on with a lasting command that was parsed before, and needs no other command."""
        return f"{self._prefix}{_TAKEN_OVER}" in os.environ

    def command(
        self,
        name: str,
        *,
        verdict: bool = False,
        raw: bool = False,
        lasting: bool = False,
        said: str | None = None,
        unchanged: str | None = None,
        columns: Mapping[str, str] | None = None,
        for_people: Sequence[str] = (),
        apart: bool = False,
    ) -> Callable[[_H], _H]:
        """Enter a function as the command `name` (`"items"`, `"space add"`).

        `verdict`: the exit status is 1 if the result's `ok`, or `valid`, is false. `raw`: the command writes stdout
        itself and its result is not shown. `lasting`: once its options are parsed the command begins anew in the same
        process without what parsing has loaded, which a daemon would keep in memory for weeks. `said`: one line for
        people once it is done, where there is no result to show; not where a part of it could not be (`remains`).
        `unchanged`: that line where all was so already: the result's `changed` is false, which nobody else is shown.
        `columns`: those that people see of a result that is a table, with their headings; of another one, headings
        alone. `for_people`: keys that only they are shown, since scripts were promised a document without. `apart`: it
        is about no data folder, and need not be told of one.
        """

        def enter(handler: _H) -> _H:
            self._commands[name] = Command(handler, verdict, raw, lasting, said, unchanged, columns, for_people, apart)
            return handler

        return enter

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command that `argv` (default: the process's own) asks for; the exit status."""
        if argv is None:
            _open_what_is_closed()
            _name_files_in_utf8()
        as_json = self._wants_json(sys.argv[1:] if argv is None else argv)
        try:
            if (parsed := self._taken_over()) is not None:
                as_json = parsed.call.json
                return _perform(parsed)
            from protocol.replica.console.parser import Parser  # noqa: PLC0415 — a daemon does without it

            parser = Parser(self.name, self._summary, self._version, self._prefix, self._commands)
            outcome = parser.parse(argv)
            if isinstance(outcome, int):  # help or version, already written
                return outcome
            if isinstance(outcome, Misuse):
                sentence = f"{outcome.sentence} ({outcome.where} --help)"
                return _report(outcome.where, BadInput(Code.USAGE, sentence), as_json=as_json)
            as_json = outcome.call.json
            if outcome.command.lasting and argv is None:
                self._begin_anew(outcome)
            return _perform(outcome)
        except RelaisError as error:
            return _report(self.name, error, as_json=as_json)
        except KeyboardInterrupt:
            _report(self.name, LocalFailure(Code.INTERRUPTED, "interrupted"), as_json=as_json)
            return INTERRUPTED_STATUS
        except BrokenPipeError:
            _silence(sys.stdout)
            return 1
        except Exception as error:  # noqa: BLE001 — the last line of defence of a program
            return self._unforeseen(error, as_json=as_json)

    def _begin_anew(self, parsed: Parsed) -> None:
        """Replace this program by itself, told what was parsed; where the system has no such call, just go on."""
        if os.name != "posix":
            return
        told = {
            "command": parsed.call.command,
            "data": str(parsed.call.data_dir),
            "json": parsed.call.json,
            "arguments": parsed.arguments,
        }
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os.execve(  # noqa: S606  (ourselves)
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {**SMALL, **os.environ, f"{self._prefix}{_TAKEN_OVER}": json.dumps(told)},
        )

    def _taken_over(self) -> Parsed | None:
        """What the program that this one replaces had parsed."""
        told = os.environ.pop(f"{self._prefix}{_TAKEN_OVER}", None)
        if told is None:
            return None
        found = json.loads(told)
        call = Call(self.name, found["command"], Path(found["data"]), found["json"])
        return Parsed(self._commands[call.command], call, found["arguments"])

    def _unforeseen(self, error: Exception, *, as_json: bool) -> int:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return _report(self.name, LocalFailure(Code.DISK_FULL, "the disk is full"), as_json=as_json)
        if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != _UTF8:
            lacks = f"files here are named in {error.encoding}, which lacks a character of “{error.object}”"
            sentence = f"{lacks}; use a locale of UTF-8"
            return _report(self.name, LocalFailure(Code.STORAGE_FAILED, sentence), as_json=as_json)
        if _is_on(os.environ.get(f"{self._prefix}_DEBUG")):
            import traceback  # noqa: PLC0415 — loaded only when needed

            traceback.print_exception(error)
        sentence = f"something unforeseen happened ({type(error).__name__}: {error}); {self._prefix}_DEBUG=1 tells more"
        return _report(self.name, LocalFailure(Code.INTERNAL, sentence), as_json=as_json)

    def _wants_json(self, argv: Sequence[str]) -> bool:
        named = list(argv)
        if "--" in named:
            named = named[: named.index("--")]
        return "--json" in named or _is_on(os.environ.get(f"{self._prefix}_JSON"))


class Notices:
    """The output of a command that brings no files: progress goes to stderr."""

    async def start(self, path: str, size: int | None) -> None:
        """Refuse a file that nobody asked for."""
        raise PeerFault(Code.MALFORMED, "a file arrives that nobody asked for", path=path, size=size)

    async def data(self, data: bytes) -> None:
        """Nothing arrives outside a file."""

    async def end(self) -> None:
        """Nothing ends outside a file."""

    async def progress(self, text: str) -> None:
        """Tell the person."""
        tell(text)


class Unheard(Notices):
    """The same, of which nothing is told: what people compare comes from this program, and stands alone."""

    async def progress(self, text: str) -> None:
        """Tell nobody."""


def now_ms() -> int:
    """This machine's clock, in ms since 1970. Raises `BadInput(BAD_DATE)` where it is beyond what programs count to."""
    try:
        return max(0, time.time_ns() // 1_000_000)  # a clock may be set to 1969; no mark and no entry holds such a time
    except OverflowError:  # 2⁶³ ns: April 2262
        raise BadInput(Code.BAD_DATE, "this computer's clock is after the year 2262; set date and time") from None


def tell(sentence: str) -> None:
    """Write one line to stderr; nobody listening is no failure."""
    try:
        print(displayable(sentence), file=sys.stderr, flush=True)  # noqa: T201 — this is the console
    except (OSError, ValueError):
        _silence(sys.stderr)


@lru_cache(maxsize=1)
def installed_version() -> str:
    """The version of the installed distribution, or "unknown" when running from bare files.

    It stands in a folder's name. `importlib.metadata` says the same, and brings parsers of mail, ZIP and CSV, which a
    daemon would keep: a megabyte.
    """
    found = (name for place in sys.path for name in _names_in(Path(place)) if name.startswith("relais-"))
    return next((name[len("relais-") : -len(_INSTALLED)] for name in found if name.endswith(_INSTALLED)), "unknown")


def _names_in(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:  # what Python looks in may be an archive, or gone
        return []


def _perform(parsed: Parsed) -> int:
    now_ms()  # what runs a loop reads the clock before any command does
    result = parsed.command.handler(parsed.call, **parsed.arguments)
    if inspect.iscoroutine(result):
        import asyncio  # noqa: PLC0415 — a command that needs no loop does not wait for it

        result = asyncio.run(cast("Coroutine[Any, Any, JSON]", result))
    if not parsed.command.raw:
        shown = _without(result, [_CHANGED] if parsed.command.unchanged is not None else [])
        if parsed.call.json:
            _write(_document(_without(shown, parsed.command.for_people)))
        else:
            _write(_for_people(parsed.command, shown))
    if not parsed.call.json and (line := _said(parsed.command, result)) is not None:
        tell(line)
    return 1 if parsed.command.verdict and not result.get("ok", result.get("valid")) else 0


def _without(result: JSON, keys: Sequence[str]) -> JSON:
    return {key: value for key, value in result.items() if key not in keys} if isinstance(result, dict) else result


def _for_people(command: Command, result: JSON) -> str:
    """The result as text: as wide as the terminal, and whole where it goes into a file or another program."""
    width = shutil.get_terminal_size((sys.maxsize, 24)).columns
    return readable(result, width, command.columns, datetime.now(UTC))


def _said(command: Command, result: JSON) -> str | None:
    """The line for people once a command is done."""
    if not isinstance(result, dict):
        return command.said
    if result.get("remains"):
        return None
    return command.unchanged if result.get(_CHANGED) is False else command.said


def _report(where: str, error: RelaisError, *, as_json: bool) -> int:
    tell(f"{where}: {error.message}")
    try:
        if as_json:
            _write(_document({"error": {"code": str(error.code), "message": error.message, **choices_in(error)}}))
    except OSError:  # the exit status still tells
        _silence(sys.stdout)
    return error.exit_status


def _document(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _write(text: str) -> None:
    """Write to stdout as UTF-8, whatever the locale; what UTF-8 does not hold becomes an escape, as JSON has it."""
    if sys.stdout is None or not text:
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
    sys.stdout.buffer.flush()


def _open_what_is_closed() -> None:
    """Lead to nowhere what of stdin, stdout and stderr whoever started us has closed.

    The next file that is opened would get its number, the store's among them, and what some library complains of on
    stderr would be written into that.
    """
    if os.name != "posix":
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # what is opened gets the lowest number that is free: this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _name_files_in_utf8() -> None:
    """Begin anew where a file's name holds no accent: in the C locale, where Python's own remedy is switched off."""
    ascii_only = os.name == "posix" and sys.getfilesystemencoding() == "ascii"
    if ascii_only and os.environ.get(_UTF8_MODE) != "1":
        os.execve(  # noqa: S606  (ourselves)
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _UTF8_MODE: "1"}
        )


def _silence(stream: TextIO | None) -> None:
    """Lead a closed stream to nowhere, so that the interpreter's last flush does not complain."""
    if stream is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return


def _is_on(value: str | None) -> bool:
    return value is not None and value.strip().lower() not in _FALSE
