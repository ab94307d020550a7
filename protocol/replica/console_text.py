"""Results for people: plain text, no colour, nothing that a terminal would obey."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeGuard

from protocol.portable_names import displayable
from protocol.replica.operation import JSON

_GAP: Final = "  "


def readable(result: JSON) -> str:
    """`result` as lines: a table for a list of objects, one line per key for an object. An empty object is no line."""
    return "".join(f"{line}\n" for line in _lines(result))


def _lines(value: JSON) -> Iterator[str]:
    if _is_table(value):
        yield from _table(value)
    elif isinstance(value, Mapping):
        yield from _record(value)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from ([_cell(part) for part in value] or ["(none)"])
    else:
        yield _cell(value)


def _table(rows: Sequence[Mapping[str, JSON]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    grid = [[displayable(column) for column in columns]]
    grid += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in grid) for index in range(len(columns))]
    for line in grid:
        yield _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _record(record: Mapping[str, JSON]) -> Iterator[str]:
    width = max((len(displayable(key)) for key in record), default=0)
    for key, value in record.items():
        if _is_table(value) or (isinstance(value, Mapping) and any(_is_deep(part) for part in value.values())):
            yield displayable(key)
            yield from _indented(_lines(value))
        else:
            yield f"{displayable(key).ljust(width)}{_GAP}{_cell(value)}".rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{_GAP}{line}" for line in lines)


def _cell(value: JSON) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return displayable(value)
        case int() | float():
            return str(value)
        case Mapping():
            return " ".join(f"{displayable(key)}={_cell(part)}" for key, part in value.items()) or "-"
        case _:
            if _is_table(value):
                return str(len(value))
            return ", ".join(_cell(part) for part in value) or "-"


def _is_table(value: JSON) -> TypeGuard[Sequence[Mapping[str, JSON]]]:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(part, Mapping) for part in value)
    )


def _is_deep(value: JSON) -> bool:
    return isinstance(value, (Mapping, Sequence)) and not isinstance(value, str)
