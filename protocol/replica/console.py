"""The frame of both command lines: options from argv, environment and `DIR/config.toml` in, one result or error out.

Rules:
- `--data` and `--json` belong to every command and come after it; an option is also `PROGRAM_OPTION` in the environment
  (a repeatable one splits at white space) and a key of `DIR/config.toml`; in this order, the default last;
- with `--json` stdout holds exactly one JSON document; without, readable text; sentences go to stderr;
- an error decides its own exit status (`protocol.errors`); what nobody foresaw is one sentence and 1, and a traceback
  only if `PROGRAM_DEBUG` is set;
- parsing is over before a command begins, and a command loads its libraries itself: `--help` stays quick.
"""

from __future__ import annotations

import copy
import errno
import inspect
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from protocol.errors import BadInput, Code, LocalFailure, PeerFault, RelaisError
from protocol.portable_names import displayable
from protocol.replica.console_config import Known, settings_for
from protocol.replica.console_text import DEFAULT_WIDTH_CHARS, readable
from protocol.replica.operation import JSON

INTERRUPTED_STATUS: Final = 130
_TAKEN_OVER: Final = "_PARSED"
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
class _Command:
    handler: Callable[..., Any]
    signature: inspect.Signature
    known: Known
    parameters: Mapping[str, str]
    verdict: bool
    raw: bool
    lasting: bool
    said: str | None
    columns: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Parsed:
    command: _Command
    call: Call
    arguments: dict[str, Any]


class Program:
    """One of the two programs: a table of commands.

    A command is a function, plain or `async`, whose first parameter is the `Call` and whose others are `Annotated` with
    `typer.Argument` or `typer.Option`; its docstring is its help and what it returns is the result.
    """

    def __init__(self, name: str, summary: str, version: Callable[[], str]) -> None:
        self.name = name
        self._summary = summary
        self._version = version
        self._prefix = name.upper().replace("-", "_")
        self._commands: dict[str, _Command] = {}

    def command(
        self,
        name: str,
        *,
        verdict: bool = False,
        raw: bool = False,
        lasting: bool = False,
        said: str | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> Callable[[_H], _H]:
        """Enter a function as the command `name` (`"items"`, `"space add"`).

        `verdict`: the exit status is 1 if the result's `ok`, or `valid`, is false. `raw`: the command writes stdout
        itself and its result is not shown. `lasting`: once its options are parsed the command begins anew in the same
        process without what parsing has loaded, which a daemon would keep in memory for weeks. `said`: one line for
        people once it is done, where there is no result to show. `columns`: those that people see of a result that is a
        table.
        """

        def enter(handler: _H) -> _H:
            signature, options, parameters = self._signature_of(handler)
            known = Known(name, options)
            self._commands[name] = _Command(handler, signature, known, parameters, verdict, raw, lasting, said, columns)
            return handler

        return enter

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command that `argv` (default: the process's own) asks for; the exit status."""
        as_json = self._wants_json(sys.argv[1:] if argv is None else argv)
        try:
            if (parsed := self._taken_over()) is not None:
                as_json = parsed.call.json
                return _perform(parsed)
            outcome = self._application()(args=argv, prog_name=self.name, standalone_mode=False)
            if not isinstance(outcome, _Parsed):  # help or version, already written
                return cast("int", outcome or 0)
            as_json = outcome.call.json
            if outcome.command.lasting and argv is None:
                self._begin_anew(outcome)
            return _perform(outcome)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            where = self.name if context is None else context.command_path
            sentence = error.format_message().replace("\n\t", " ")
            return _report(where, BadInput(Code.USAGE, f"{sentence} ({where} --help)"), as_json=as_json)
        except RelaisError as error:
            return _report(self.name, error, as_json=as_json)
        except (KeyboardInterrupt, typer.Abort):
            _report(self.name, LocalFailure(Code.INTERRUPTED, "interrupted"), as_json=as_json)
            return INTERRUPTED_STATUS
        except BrokenPipeError:
            _silence(sys.stdout)
            return 1
        except Exception as error:  # noqa: BLE001 — the last line of defence of a program
            return self._unforeseen(error, as_json=as_json)

    def _begin_anew(self, parsed: _Parsed) -> None:
        """Replace this program by itself, told what was parsed; where the system has no such call, just go on."""
        if os.name != "posix":
            return
        told = {
            "command": parsed.call.command,
            "data": str(parsed.call.data_dir),
            "json": parsed.call.json,
            "arguments": parsed.arguments,
        }
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(  # noqa: S606  (ourselves)
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            {**os.environ, f"{self._prefix}{_TAKEN_OVER}": json.dumps(told)},
        )

    def _taken_over(self) -> _Parsed | None:
        """What the program that this one replaces had parsed."""
        told = os.environ.pop(f"{self._prefix}{_TAKEN_OVER}", None)
        if told is None:
            return None
        found = json.loads(told)
        call = Call(self.name, found["command"], Path(found["data"]), found["json"])
        return _Parsed(self._commands[call.command], call, found["arguments"])

    def _unforeseen(self, error: Exception, *, as_json: bool) -> int:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _report(self.name, LocalFailure(Code.DISK_FULL, "the disk is full"), as_json=as_json)
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

    def _application(self) -> typer.Typer:
        frame = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
        application = typer.Typer(help=self._summary, **cast("dict[str, Any]", frame))
        application.callback()(self._top())
        groups: dict[str, typer.Typer] = {}
        for name, command in self._commands.items():
            group, _, last = name.rpartition(" ")
            if group and group not in groups:
                groups[group] = typer.Typer(**cast("dict[str, Any]", frame))
                members = ", ".join(
                    other[len(group) + 1 :] for other in self._commands if other.startswith(f"{group} ")
                )
                application.add_typer(groups[group], name=group, help=f"{group}: {members}")
            (groups[group] if group else application).command(last, help=inspect.getdoc(command.handler))(
                self._parser_of(name, command)
            )
        return application

    def _top(self) -> Callable[..., None]:
        def show(value: bool) -> None:
            if value:
                typer.echo(f"{self.name} {self._version()}")
                raise typer.Exit

        def top(
            *,
            version: Annotated[
                bool, typer.Option("--version", is_eager=True, callback=show, help="Show the version and exit.")
            ] = False,
        ) -> None:
            del version

        top.__annotations__ = get_type_hints(top, globalns=globals(), localns={"show": show}, include_extras=True)
        return top

    def _parser_of(self, name: str, command: _Command) -> Callable[..., _Parsed]:
        """A function with the command's signature plus `--data` and `--json`, which only says what was parsed."""

        def configure(context: typer.Context, value: str) -> str:
            if not value:
                raise BadInput(Code.USAGE, "--data names no folder")
            found = settings_for(Path(value), name, known)
            context.default_map = {command.parameters[option]: setting for option, setting in found.items()}
            return value

        def parse(*, data: str, json: bool, **arguments: Any) -> _Parsed:
            return _Parsed(command, Call(self.name, name, Path(data), json), arguments)

        known = {other: entered.known for other, entered in self._commands.items()}
        data = typer.Option(
            "--data",
            metavar="DIR",
            envvar=f"{self._prefix}_DATA",
            is_eager=True,
            callback=configure,
            help="The data folder.",
        )
        wants_json = typer.Option("--json", envvar=f"{self._prefix}_JSON", help="Print one JSON document.")
        common = [
            inspect.Parameter("data", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, data]),
            inspect.Parameter(
                "json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, wants_json]
            ),
        ]
        signature = command.signature.replace(parameters=[*command.signature.parameters.values(), *common])
        parse.__signature__ = signature  # type: ignore[attr-defined]
        parse.__annotations__ = {part.name: part.annotation for part in signature.parameters.values()}
        return parse

    def _signature_of(self, handler: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, bool], dict[str, str]]:
        """The handler's parameters but its first, completed for typer; what is repeatable; option → parameter."""
        signature: list[inspect.Parameter] = []
        options: dict[str, bool] = {"json": False}
        parameters = {"json": "json"}
        for parameter in list(inspect.signature(handler, eval_str=True).parameters.values())[1:]:
            kind, info = _typer_parts(parameter.annotation, has_default=parameter.default is not parameter.empty)
            if isinstance(info, OptionInfo):
                option = _option_name(info) or parameter.name
                if kind is bool and not _option_name(info):  # no `--no-…` twin
                    info.param_decls = (f"--{option.replace('_', '-')}",)
                info.envvar = f"{self._prefix}_{option.upper()}"
                options[option] = _is_list(kind)
                parameters[option] = parameter.name
            signature.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[cast("Any", kind), info])
            )
        return inspect.Signature(signature), options, parameters


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


def tell(sentence: str) -> None:
    """Write one line to stderr; nobody listening is no failure."""
    try:
        print(displayable(sentence), file=sys.stderr, flush=True)  # noqa: T201 — this is the console
    except (OSError, ValueError):
        _silence(sys.stderr)


def installed_version() -> str:
    """The version of the installed distribution, or "unknown" when running from bare files."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 — slow, and needed by one option

    try:
        return version("relais")
    except PackageNotFoundError:
        return "unknown"


def _perform(parsed: _Parsed) -> int:
    result = parsed.command.handler(parsed.call, **parsed.arguments)
    if inspect.iscoroutine(result):
        import asyncio  # noqa: PLC0415 — a command that needs no loop does not wait for it

        result = asyncio.run(cast("Coroutine[Any, Any, JSON]", result))
    if not parsed.command.raw:
        width = shutil.get_terminal_size((DEFAULT_WIDTH_CHARS, 24)).columns
        text = _document(result) if parsed.call.json else readable(result, width, parsed.command.columns)
        _write(text)
    if parsed.command.said is not None and not parsed.call.json:
        tell(parsed.command.said)
    return 1 if parsed.command.verdict and not result.get("ok", result.get("valid")) else 0


def _report(where: str, error: RelaisError, *, as_json: bool) -> int:
    tell(f"{where}: {error.message}")
    try:
        if as_json:
            _write(_document({"error": {"code": str(error.code), "message": error.message}}))
    except OSError:  # the exit status still tells
        _silence(sys.stdout)
    return error.exit_status


def _document(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def _write(text: str) -> None:
    """Write to stdout as UTF-8, whatever the locale; what UTF-8 does not hold becomes an escape, as JSON has it."""
    if sys.stdout is None or not text:
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
    sys.stdout.buffer.flush()


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


def _typer_parts(hint: Any, *, has_default: bool) -> tuple[Any, OptionInfo | ArgumentInfo]:
    """The type and the typer half of a parameter; without one it is an option if it has a default, else an argument."""
    kind, *rest = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    for info in rest:
        if isinstance(info, (OptionInfo, ArgumentInfo)):
            return kind, copy.copy(info)
    return kind, cast("OptionInfo | ArgumentInfo", typer.Option() if has_default else typer.Argument())


def _option_name(info: OptionInfo) -> str | None:
    """The option's name with `_`, where it is not simply the parameter's."""
    spelled = (info.default, *(info.param_decls or ()))  # within `Annotated` typer keeps the first name in `default`
    for name in spelled:
        if isinstance(name, str) and name.startswith("--"):
            return name[2:].replace("-", "_")
    return None


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list or any(get_origin(part) is list for part in get_args(kind))


def _is_on(value: str | None) -> bool:
    return value is not None and value.strip().lower() not in _FALSE
