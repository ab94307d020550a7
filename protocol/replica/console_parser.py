"""How a command line is read: the program's table told to typer, which brings what a daemon never uses again.

Rules: `protocol.replica.console`. What was parsed comes out as data; nothing of typer leaves this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from protocol.errors import BadInput, Code
from protocol.replica.console import Call, Command, Misuse, Parsed
from protocol.replica.console_config import Known, settings_for
from protocol.replica.console_options import Argument, Option


@dataclass(frozen=True, slots=True)
class _Entry:
    """A command as it is parsed."""

    command: Command
    signature: inspect.Signature
    known: Known
    parameters: Mapping[str, str]


class Parser:
    """Reads command lines for the commands of one program."""

    def __init__(
        self, name: str, summary: str, version: Callable[[], str], prefix: str, commands: Mapping[str, Command]
    ) -> None:
        self.name = name
        self._summary = summary
        self._version = version
        self._prefix = prefix
        self._commands = {entered: self._entry(entered, command) for entered, command in commands.items()}

    def parse(self, argv: Sequence[str] | None) -> Parsed | Misuse | int:
        """What `argv` (default: the process's own) asks for; an exit status if that was help or the version."""
        try:
            outcome = self._application()(args=argv, prog_name=self.name, standalone_mode=False)
        except typer.TyperException as error:
            context = getattr(error, "ctx", None)
            where = self.name if context is None else context.command_path
            return Misuse(where, error.format_message().replace("\n\t", " "))
        except typer.Abort:
            raise KeyboardInterrupt from None
        return outcome if isinstance(outcome, Parsed) else cast("int", outcome or 0)

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
            (groups[group] if group else application).command(last, help=inspect.getdoc(command.command.handler))(
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

    def _parser_of(self, name: str, command: _Entry) -> Callable[..., Parsed]:
        """A function with the command's signature plus `--data` and `--json`, which only says what was parsed."""

        def configure(context: typer.Context, value: str) -> str:
            if not value:
                raise BadInput(Code.USAGE, "--data names no folder")
            found = settings_for(Path(value), name, known)
            context.default_map = {command.parameters[option]: setting for option, setting in found.items()}
            return value

        def parse(*, data: str, json: bool, **arguments: Any) -> Parsed:
            return Parsed(command.command, Call(self.name, name, Path(data), json), arguments)

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

    def _entry(self, name: str, command: Command) -> _Entry:
        signature, options, parameters = self._signature_of(command.handler)
        return _Entry(command, signature, Known(name, options), parameters)

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


def _typer_parts(hint: Any, *, has_default: bool) -> tuple[Any, OptionInfo | ArgumentInfo]:
    """The type and the typer half of a parameter; without one it is an option if it has a default, else an argument."""
    kind, *rest = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    told = next((info for info in rest if isinstance(info, (Option, Argument))), None)
    if told is None:
        told = Option() if has_default else Argument()
    if isinstance(told, Argument):
        return kind, cast("ArgumentInfo", typer.Argument(metavar=told.metavar, help=told.help))
    # within `Annotated` typer takes its first positional argument for a name
    info = typer.Option(*told.names, metavar=told.metavar, help=told.help, min=told.min)
    return kind, cast("OptionInfo", info)


def _option_name(info: OptionInfo) -> str | None:
    """The option's name with `_`, where it is not simply the parameter's."""
    spelled = (info.default, *(info.param_decls or ()))  # within `Annotated` typer keeps the first name in `default`
    for name in spelled:
        if isinstance(name, str) and name.startswith("--"):
            return name[2:].replace("-", "_")
    return None


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is list or any(get_origin(part) is list for part in get_args(kind))
