"""`DIR/config.toml`: options that a command was not given.

Rules: a key is an option's name, with `-` or `_`; at the top it is for every command that has the option, in a table
named like a command (`[run]`, `[space-add]`, `[space.add]`) for that one, and stronger.
What no command knows is refused. Root takes no options from a file that another account may change: the account of a
service would steer what root does with the kit in hand.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import MAX_CONFIG_FILE_BYTES

CONFIG_FILE: Final = "config.toml"

_ROOT: Final = 0
_WRITTEN_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH

Setting: TypeAlias = "str | int | float | bool | list[str]"


@dataclass(frozen=True, slots=True)
class Known:
    """The options of one command: spelled with `_`, and whether each may be repeated."""

    command: str
    options: Mapping[str, bool]


def settings_for(
    data_dir: Path, command: str, commands: Mapping[str, Known], *, account: int | None = None
) -> dict[str, Setting]:
    """What `DIR/config.toml` says for `command`: option (with `_`) → value; nothing if there is no file.

    `account` is the number of the account for which the command runs, where accounts have numbers.

    Raises `BadInput(USAGE)`, with the file and the key, for what cannot be read or no command knows;
    `LocalFailure(STORAGE_FAILED)` where this account may not enter the folder.
    """
    path = data_dir / CONFIG_FILE
    document = _read(path, account)
    if not document:
        return {}
    everybody: dict[str, bool] = {}
    for known in commands.values():
        everybody.update(known.options)
    own = commands[command].options
    general: dict[str, Setting] = {}
    special: dict[str, Setting] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            _table(path, key, value, command, commands, special)
            continue
        option = _option(path, key, everybody)
        if option in own:
            general[option] = _setting(path, key, value, repeated=own[option])
    return general | special


def _is_of_others(path: Path, opened: int) -> bool:
    """Whether another account than root owns what was opened, or a link in its place, or may write it."""
    facts = os.fstat(opened)
    link = path.lstat()
    return facts.st_uid != _ROOT or link.st_uid != _ROOT or bool(facts.st_mode & _WRITTEN_BY_OTHERS)


def _table(
    path: Path,
    name: str,
    table: Mapping[str, object],
    command: str,
    commands: Mapping[str, Known],
    found: dict[str, Setting],
) -> None:
    """Collect what `table` says for `command`, and check the rest of it."""
    named = {spelled: known for known in commands for spelled in (known.replace(" ", "-"), known)}.get(name)
    if named is not None:
        options = commands[named].options
        for key, value in table.items():
            option = _option(path, f"{name}.{key}", options, key)
            setting = _setting(path, f"{name}.{key}", value, repeated=options[option])
            if named == command:
                found[option] = setting
    elif any(known.startswith(f"{name} ") for known in commands):
        for key, value in table.items():
            if not isinstance(value, dict):
                _refuse(path, f"has a key that no command knows: {name}.{key}")
            _table(path, f"{name} {key}", value, command, commands, found)
    else:
        _refuse(path, f"has a table that no command is named like: {name}")


def _read(path: Path, account: int | None) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            if account == _ROOT and _is_of_others(path, file.fileno()):
                return {}
            raw = file.read(MAX_CONFIG_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as reason:
        if not os.access(path.parent, os.X_OK):
            raise LocalFailure(
                Code.STORAGE_FAILED,
                f"this account cannot use the data folder {path.parent}: {reason.strerror}",
                data_dir=str(path.parent),
            ) from reason
        raise BadInput(Code.USAGE, f"{path} cannot be read: {reason.strerror}", path=str(path)) from reason
    if len(raw) > MAX_CONFIG_FILE_BYTES:
        _refuse(path, "is larger than allowed")
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise BadInput(Code.USAGE, f"{path} is not valid TOML: {reason}", path=str(path)) from reason


def _option(path: Path, shown: str, options: Mapping[str, bool], key: str | None = None) -> str:
    option = (shown if key is None else key).lstrip("-").replace("-", "_")
    if option not in options:
        _refuse(path, f"has a key that no command knows: {shown}")
    return option


def _setting(path: Path, key: str, value: object, *, repeated: bool) -> Setting:
    if isinstance(value, (dt.date, dt.time)):
        value = value.isoformat()
    if repeated:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) for part in parts):
            _refuse(path, f"gives no text, or list of texts, for {key}")
        return list(parts)
    if not isinstance(value, (str, int, float, bool)):
        _refuse(path, f"gives something else than one value for {key}")
    return value


def _refuse(path: Path, why: str) -> NoReturn:
    raise BadInput(Code.USAGE, f"{path} {why}", path=str(path))
