"""How a command line is read: the program's table told to click, which brings what a daemon never uses again.

Rules: `frame`. What was parsed comes out as data; nothing of click leaves this module. A command is
described to click when somebody asks for it, so that a line costs no more as commands grow.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

import click
from click.core import augment_usage_errors

from protocol.errors import BadInput, Code
from protocol.portable_names import displayable
from protocol.replica.console.config import Known, settings_for
from protocol.replica.console.frame import Call, Command, Misuse, Parsed
from protocol.replica.console.options import Argument, Option, several_in
from protocol.shown_text import obeyed_in

_OF_EVERY_COMMAND: Final = ("--data", "--json")
_NAMES_FILES: Final = frozenset({"DIR", "FILE", "FILE…", "FOLDER", "KIT", "PATH", "PATH…", "TITLE…", "auto|FOLDER"})
"""The words in a command's help for what names files or folders."""
_BREAKS: Final = frozenset("\t\n\r")


class Parser:
    """Reads command lines for the commands of one program."""

    def __init__(
        self, name: str, summary: str, version: Callable[[], str], prefix: str, commands: Mapping[str, Command]
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.commands = commands
        self._summary = summary
        self._version = version

    def parse(self, argv: Sequence[str] | None) -> Parsed | Misuse | int:
        """What `argv` (default: the process's own) asks for; an exit status if that was help or the version."""
        group = _Group(self, "", name=self.name, help=self._summary, params=[self._version_option()])
        try:
            outcome = group.main(args=argv, prog_name=self.name, standalone_mode=False)
        except click.UsageError as error:
            where = self.name if error.ctx is None else error.ctx.command_path
            return Misuse(where, _out_of_place(error) or error.format_message().replace("\n\t", " "))
        except click.Abort:
            raise KeyboardInterrupt from None
        return outcome if isinstance(outcome, Parsed) else int(outcome or 0)

    def _version_option(self) -> click.Option:
        def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
            if wanted:
                click.echo(f"{self.name} {self._version()}")
                context.exit()

        return click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show,
            help="Show the version and exit.",
        )


def _out_of_place(error: click.UsageError) -> str | None:
    """What to say of an option that every command has, and that was given before one was named."""
    if not (isinstance(error, click.NoSuchOption) and error.ctx and isinstance(error.ctx.command, click.Group)):
        return None
    named = error.option_name in _OF_EVERY_COMMAND
    return f"{error.option_name} comes after the command and its arguments" if named else None


class _Group(click.Group):
    """The commands of a program that share their first words, `path`; each is described when it is asked for."""

    def __init__(self, parser: Parser, path: str, **told: Any) -> None:
        super().__init__(no_args_is_help=False, **told)
        self._parser = parser
        self._path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The next words, in the table's order."""
        del ctx
        return list(dict.fromkeys(self._next_words()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or the group, of that next word."""
        del ctx
        name = f"{self._path}{cmd_name}"
        if name in self._parser.commands:
            return _command_of(self._parser, name)
        members = ", ".join(known[len(name) + 1 :] for known in self._parser.commands if known.startswith(f"{name} "))
        return _Group(self._parser, f"{name} ", name=cmd_name, help=f"{name}: {members}") if members else None

    def _next_words(self) -> Iterator[str]:
        for name in self._parser.commands:
            if name.startswith(self._path):
                yield name[len(self._path) :].partition(" ")[0]


class _Command(click.Command):
    """A command whose help speaks of its arguments too, and that is takes once what is one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what click would take the last of, `--person A --person B`, or the next option as a value."""
        with augment_usage_errors(ctx):  # which command it was that lacks a value
            given, _, told = self.make_parser(ctx).parse_args(list(args))
        names = {name for part in self.get_params(ctx) if isinstance(part, click.Option) for name in part.opts}
        for part in told:
            if isinstance(part, click.Option) and not (part.multiple or part.is_flag) and told.count(part) > 1:
                raise click.UsageError(f"{part.opts[0]} is given twice; it takes one", ctx)
            value = given.get(part.name or "")
            if isinstance(part, click.Option) and names & set(value if isinstance(value, list) else [value]):
                raise click.UsageError(f"{part.opts[0]} needs a value, and another option follows", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the arguments before the options."""
        rows = [
            (part.make_metavar(ctx), part.told + ("  [required]" if part.required else ""))
            for part in self.get_params(ctx)
            if isinstance(part, _Argument)
        ]
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        super().format_options(ctx, formatter)


class _Argument(click.Argument):
    """An argument that says what it is for."""

    def __init__(self, told: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.told = told

    def make_metavar(self, ctx: click.Context) -> str:
        """As the table has it; brackets where it may be left out."""
        shown = self.metavar or (self.name or "").upper()
        del ctx
        return shown if self.required else f"[{shown}]"


class _AnyText(click.types.StringParamType):
    """A text, or several of an option that may be repeated. The name of a file may be any bytes."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """As `several_in` says; click alone would part names and hours at their spaces."""
        return several_in(rv)


class _Text(_AnyText):
    """What people read: a name, an id, a date; or a text that `has_lines`."""

    def __init__(self, *, has_lines: bool) -> None:
        super().__init__()
        self._has_lines = has_lines

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text. Fails for bytes that are none: they would be found in no list, and written in no entry.

        Fails likewise for what screens obey: nobody who types means it, and who reads is shown something else.
        """
        text = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{displayable(text)} is no text in UTF-8", param, ctx)
        if (sign := obeyed_in(text, has_lines=self._has_lines)) is not None:
            kind = "a break" if sign in _BREAKS else f"a sign that no screen shows ({displayable(sign)})"
            self.fail(f"“{displayable(text.strip())}” holds {kind}; type it without", param, ctx)
        return text


@dataclass(frozen=True)
class _Part:
    """A parameter of a command's handler: its name, the type of a value, whether it repeats, what is told of it."""

    name: str
    kind: type
    repeated: bool
    required: bool
    default: Any
    told: Option | Argument

    @cached_property
    def option(self) -> str | None:
        """The option's name spelled with `_`; None for an argument."""
        if isinstance(self.told, Argument):
            return None
        return next((name[2:].replace("-", "_") for name in self.told.names if name.startswith("--")), self.name)

    def value(self, parsed: Any) -> Any:
        """What click found, as the handler takes it: a list, or the default, where nothing was given."""
        if not self.repeated:
            return parsed
        return list(parsed) if parsed else self.default


def _command_of(parser: Parser, name: str) -> click.Command:
    """The command `name` plus `--data` and `--json`; it only says what was parsed."""
    command = parser.commands[name]
    parts = _parts(command.handler)

    def configure(context: click.Context, _option: click.Parameter, value: str | None) -> str:
        if value is None:  # of a command that needs none
            return ""
        if not value:
            raise BadInput(Code.USAGE, "--data names no folder")
        parameters = {part.option: part.name for part in parts} | {"json": "json"}
        account = os.geteuid() if sys.platform != "win32" else None
        found = settings_for(Path(value), name, _KnownOptions(parser.commands), account=account)
        context.default_map = {parameters[option]: setting for option, setting in found.items()}
        return value

    def parse(*, data: str, json: bool, **parsed: Any) -> Parsed:
        arguments = {part.name: part.value(parsed[part.name]) for part in parts}
        return Parsed(command, Call(parser.name, name, Path(data), json), arguments)

    common = [
        click.Option(
            ["--data"],
            metavar="DIR",
            envvar=f"{parser.prefix}_DATA",
            show_envvar=True,
            required=not command.apart,
            is_eager=True,
            callback=configure,
            help="The data folder; none is needed here." if command.apart else "The data folder.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            envvar=f"{parser.prefix}_JSON",
            show_envvar=True,
            help="Print one JSON document.",
        ),
    ]
    params = [*(_parameter(part, parser.prefix) for part in parts), *common]
    return _Command(name.rpartition(" ")[2], params=params, callback=parse, help=inspect.getdoc(command.handler))


def _parameter(part: _Part, prefix: str) -> click.Parameter:
    kind = _type_of(part)
    if part.option is None:
        nargs = -1 if part.repeated else 1
        told = part.told.help or ""
        metavar = part.told.metavar
        return _Argument(told, [part.name], type=kind, metavar=metavar, required=part.required, nargs=nargs)
    spelled = f"--{part.option.replace('_', '-')}"
    least = part.told.min if isinstance(part.told, Option) else None
    return click.Option(
        [spelled, part.name],
        type=kind if least is None else click.IntRange(min=least),
        is_flag=part.kind is bool or None,  # told that it is none, a required one may come without its value
        multiple=part.repeated,
        required=part.required,
        show_default=True,
        envvar=f"{prefix}_{part.option.upper()}",
        show_envvar=True,
        metavar=part.told.metavar,
        help=part.told.help,
        **({} if part.repeated or part.required else {"default": part.default}),  # given as None, it would be a value
    )


def _type_of(part: _Part) -> _AnyText | type:
    if part.kind is not str:
        return part.kind
    if part.told.metavar in _NAMES_FILES:
        return _AnyText()
    return _Text(has_lines=isinstance(part.told, Option) and part.told.has_lines)


def _parts(handler: Callable[..., Any]) -> list[_Part]:
    """The handler's parameters but its first. Without a word about it, one with a default is an option."""
    return [_part(each) for each in list(inspect.signature(handler, eval_str=True).parameters.values())[1:]]


def _part(parameter: inspect.Parameter) -> _Part:
    hint = parameter.annotation
    kind, *rest = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    required = parameter.default is parameter.empty
    told = next((info for info in rest if isinstance(info, (Option, Argument))), None)
    if told is None:
        told = Argument() if required else Option()
    one, repeated = _one_of(kind)
    return _Part(parameter.name, one, repeated, required, None if required else parameter.default, told)


def _one_of(kind: Any) -> tuple[type, bool]:
    """The type of one value, and whether there may be several: `list[str] | None` is (str, True)."""
    for each in (kind, *get_args(kind)):
        if get_origin(each) is list:
            return get_args(each)[0], True
    return next((each for each in (kind, *get_args(kind)) if each in (str, int, bool)), str), False


class _KnownOptions(Mapping[str, Known]):
    """The options of every command, worked out for those that `config.toml` makes somebody ask for."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = commands

    def __getitem__(self, name: str) -> Known:
        parts = _parts(self._commands[name].handler)
        return Known(name, {part.option: part.repeated for part in parts if part.option is not None} | {"json": False})

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)
