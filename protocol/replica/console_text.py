"""Results for people: plain text, no colour, nothing that a terminal would obey.

Rules:
- a table fits the terminal: ids are shortened to a beginning that commands take as well, times are this machine's and
  to the minute, columns in which nothing stands are left out unless "no" is the news, and the widest give way;
- problems are sentences with what to do about each, and are never cut;
- one fact alone, as a command prints for copying, is whole;
- whoever wants everything asks for JSON.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeGuard

from protocol.portable_names import displayable
from protocol.replica.operation import JSON

DEFAULT_WIDTH_CHARS: Final = 120
ID_CHARS: Final = 12
"""How much of an id a table shows: two of a million differ in it, but for one chance in 500."""
_ID: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_GAP: Final = "  "
_CUT: Final = "…"
_NARROWEST_CHARS: Final = 10
_NOTHING: Final = frozenset({"-", "no", ""})
_NO_IS_NEWS: Final = frozenset({"complete"})
"""Columns that say "yes" where all is well."""


def readable(result: JSON, width_chars: int = DEFAULT_WIDTH_CHARS, columns: Collection[str] | None = None) -> str:
    """`result` as lines: a table for a list of objects, one line per key for an object. An empty object is no line.

    `columns` are those that a table shows to people; all if it is None.
    """
    return "".join(f"{line}\n" for line in _lines(result, width_chars, columns))


def _lines(value: JSON, width: int, columns: Collection[str] | None = None) -> Iterator[str]:
    if _is_table(value):
        yield from _problems(value) if "message" in value[0] else _table(value, width, columns)
    elif isinstance(value, Mapping):
        yield from _record(value, width)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from ([_cell(part) for part in value] or ["(none)"])
    else:
        yield _cell(value)


def _problems(rows: Sequence[Mapping[str, JSON]]) -> Iterator[str]:
    """Sentences are read whole, however long they are."""
    for row in rows:
        yield f"- {_cell(row.get('message'))} ({_cell(row.get('code'))})"
        if row.get("remedy"):
            yield f"  → {_cell(row['remedy'])}"


def _table(rows: Sequence[Mapping[str, JSON]], width: int, wanted: Collection[str] | None) -> Iterator[str]:
    known = list(dict.fromkeys(key for row in rows for key in row))
    columns = [key for key in known if wanted is None or key in wanted] or known
    grid = [[_brief(row.get(column)) for column in columns] for row in rows]
    filled = [
        index
        for index, column in enumerate(columns)
        if column in _NO_IS_NEWS or any(line[index] not in _NOTHING for line in grid)
    ]
    shown = filled or list(range(len(columns)))
    lines = [[line[index] for index in shown] for line in ([displayable(column) for column in columns], *grid)]
    widths = _fitted([max(len(line[index]) for line in lines) for index in range(len(shown))], width)
    for line in lines:
        cells = (_shortened(cell, room).ljust(room) for cell, room in zip(line, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def _fitted(widths: list[int], width: int) -> list[int]:
    """The widths of columns, the widest cut back until all fit, or until none can give way any more."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while over > 0 and (widest := max(widths, default=0)) > _NARROWEST_CHARS:
        widths[widths.index(widest)] -= 1
        over -= 1
    return widths


def _shortened(cell: str, room: int) -> str:
    return cell if len(cell) <= room else cell[: room - 1] + _CUT


def _record(record: Mapping[str, JSON], width: int) -> Iterator[str]:
    key_width = max((len(displayable(key)) for key in record), default=0)
    for key, value in record.items():
        if _is_table(value) or (isinstance(value, Mapping) and any(_is_deep(part) for part in value.values())):
            yield displayable(key)
            yield from _indented(_lines(value, width - len(_GAP)))
        else:
            yield f"{displayable(key).ljust(key_width)}{_GAP}{_cell(value)}".rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{_GAP}{line}" for line in lines)


def _brief(value: JSON) -> str:
    """A cell of a table."""
    if isinstance(value, str):
        if _ID.fullmatch(value):
            return value[:ID_CHARS]
        return _local(value) if _TIME.fullmatch(value) else displayable(value)
    if isinstance(value, Mapping):
        return " ".join(f"{displayable(key)}={_brief(part)}" for key, part in value.items()) or "-"
    if isinstance(value, Sequence):
        return _cell(value) if not value or all(_is_short(part) for part in value) else str(len(value))
    return _cell(value)


def _is_short(value: JSON) -> bool:
    return not _is_deep(value) and not (isinstance(value, str) and _ID.fullmatch(value))


def _local(time: str) -> str:
    """A time as this machine's clock shows it, to the minute."""
    try:
        return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return time


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
