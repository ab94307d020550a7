"""The parameters of a command, from JSON to typed values, once, at the edge.

What cannot be an id is not known: an unreadable item is an unknown item, so that every wrong id gives one answer.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import BadInput, Code
from protocol.model.entry import ID_BYTES, PERSON_BYTES
from protocol.portable_names import displayable
from protocol.replica.console.operation import Params

SHOWN_CHARS: Final = 80


def text(params: Params, key: str) -> str:
    """The string `key`. Raises `BadInput(USAGE)` if it is missing."""
    value = params.get(key)
    if not isinstance(value, str):
        raise BadInput(Code.USAGE, f"“{key}” is missing")
    return value


def text_or_none(params: Params, key: str) -> str | None:
    """The string `key`, or nothing."""
    return None if params.get(key) is None else text(params, key)


def flag(params: Params, key: str) -> bool:
    """Whether `key` is set."""
    return params.get(key) is True


def count_or_none(params: Params, key: str) -> int | None:
    """The integer `key`, not below 0, or nothing. Raises `BadInput(USAGE)` for anything else."""
    value = params.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise BadInput(Code.USAGE, f"“{key}” is a whole number, and not below 0")


def count(params: Params, key: str) -> int:
    """The integer `key`. Raises `BadInput(USAGE)` if it is missing."""
    value = params.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(Code.USAGE, f"“{key}” is missing")
    return value


def identifier(params: Params, key: str, code: Code, what: str) -> bytes:
    """The id of 32 bytes in `key`. Raises `BadInput(code)`, which says that there is no such `what`."""
    return _octets(text(params, key), ID_BYTES, code, what)


def identifier_or_none(params: Params, key: str, code: Code, what: str) -> bytes | None:
    """The id of 32 bytes in `key`, or nothing."""
    return None if params.get(key) is None else identifier(params, key, code, what)


def person(params: Params, key: str) -> bytes:
    """The id of 16 bytes in `key`. Raises `BadInput(UNKNOWN_PERSON)`."""
    return _octets(text(params, key), PERSON_BYTES, Code.UNKNOWN_PERSON, "person")


def sizes(params: Params, key: str) -> list[tuple[str, int]]:
    """The list of (path, size in bytes) in `key`. Raises `BadInput(USAGE)` for anything else."""
    rows = params.get(key)
    found = []
    for row in rows if isinstance(rows, list) else [None]:
        match row:
            case [str(path), int(size)] if not isinstance(size, bool):
                found.append((path, size))
            case _:
                raise BadInput(Code.USAGE, f"“{key}” is no list of files")
    return found


def named_paths(params: Params, key: str) -> list[tuple[str, str]]:
    """The list of (name as it was given, the path that it would be) in `key`. Raises `BadInput(USAGE)`."""
    rows = params.get(key)
    found = []
    for row in rows if isinstance(rows, list) else [None]:
        match row:
            case [str(name), str(path)]:
                found.append((name, path))
            case _:
                raise BadInput(Code.USAGE, f"“{key}” is no list of names")
    return found


def texts(params: Params, key: str) -> list[str]:
    """The texts in `key`, none where it is missing. Raises `BadInput(USAGE)` for anything else."""
    rows = params.get(key, [])
    if not isinstance(rows, list):
        raise BadInput(Code.USAGE, f"“{key}” is no list of texts")
    found = [row for row in rows if isinstance(row, str)]
    if len(found) != len(rows):
        raise BadInput(Code.USAGE, f"“{key}” is no list of texts")
    return found


def shown(given: str) -> str:
    """What a person gave, fit to be repeated in a sentence."""
    text = displayable(given)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _octets(given: str, size: int, code: Code, what: str) -> bytes:
    try:
        value = bytes.fromhex(given)
    except ValueError:
        value = b""
    if len(value) != size:
        raise BadInput(code, f"there is no {what} “{shown(given)}” here; an id is asked for, or its first eight digits")
    return value
