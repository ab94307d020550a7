"""Results for people: plain text, no colour, nothing that a terminal would obey.

Rules:
- a table fits the terminal: ids are shortened to a beginning that commands take as well, times are this machine's, to
  the minute, and said in words, columns in which nothing stands are left out unless "no" is the news, and the widest
  give way, names and sentences before ids and times; words that people compare on two screens, and what is wrong with
  something, are never cut, and a line is rather too long, as all are where no terminal is (a file, another program);
- problems are sentences with what to do about each, and are never cut;
- one fact alone, as a command prints for copying, is whole; a time stands behind the words for it, and among other
  facts, as in `status`, is said in words only, wherever it stands;
- a name beside what people compare looks like none of it;
- whoever wants everything asks for JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeGuard

from protocol.beside_words import unlike_words
from protocol.portable_names import displayable
from protocol.replica.console.operation import JSON

DEFAULT_WIDTH_CHARS: Final = 120
ID_CHARS: Final = 12
"""How much of an id a table shows: two of a million differ in it, but for one chance in 500."""
_ID: Final = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{32})?")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_GAP: Final = "  "
_CUT: Final = "…"
_NARROWEST_CHARS: Final = 10
_NOTHING: Final = frozenset({"-", "no", ""})
_NO_IS_NEWS: Final = frozenset({"complete", "second_factor"})
"""Columns that say "yes" where all is well."""
_WHOLE: Final = frozenset({"words", "problem"})
"""Columns that are of no use when a part is missing."""
_COMPARED: Final = frozenset({"words", "fingerprint"})
_NAMES: Final = frozenset({"name", "called", "title", "teacher", "space"})
"""Keys of what somebody chose."""
_NEAR: Final = {-1: "yesterday", 0: "today", 1: "tomorrow"}
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def readable(
    result: JSON,
    width_chars: int = DEFAULT_WIDTH_CHARS,
    columns: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """`result` as lines: a table for a list of objects, one line per key for an object. An empty object is no line.

    `columns` are the keys that a table shows to people, with their headings; all by their own names if it is None. An
    object shows all, those under their headings.
    `now` is what "today" means, and whose year need not be said.
    """
    return "".join(f"{line}\n" for line in _lines(_comparable(result), width_chars, columns, now))


def many_of(many: int, what: str) -> str:
    """How many there are of something that takes an s: 1 hand-in, 2 hand-ins."""
    return f"{many} {what}" if many == 1 else f"{many} {what}s"


def _comparable(value: JSON, *, beside: bool = False) -> JSON:
    """`value` with no name that looks like the words or the fingerprint that stand with it (docs/adr/0375)."""
    if isinstance(value, Mapping):
        beside = beside or not _COMPARED.isdisjoint(value)
        return {
            key: unlike_words(part)
            if beside and key in _NAMES and isinstance(part, str)
            else _comparable(part, beside=beside)
            for key, part in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_comparable(part, beside=beside) for part in value]
    return value


def _lines(
    value: JSON, width: int, columns: Mapping[str, str] | None, now: datetime | None, *, within: bool = False
) -> Iterator[str]:
    """`within` says that it is a part of something."""
    if _is_table(value):
        yield from _problems(value) if "message" in value[0] else _table(value, width, columns, now)
    elif isinstance(value, Mapping):
        yield from _record(value, width, columns, now, within=within)
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


def _table(
    rows: Sequence[Mapping[str, JSON]], width: int, wanted: Mapping[str, str] | None, now: datetime | None
) -> Iterator[str]:
    known = list(dict.fromkeys(key for row in rows for key in row))
    headings = {key: key for key in known}
    if wanted is not None:
        headings = {key: heading for key, heading in wanted.items() if key in headings} or headings
    columns = list(headings)
    grid = [[_brief(row.get(column), now) for column in columns] for row in rows]
    filled = [
        index
        for index, column in enumerate(columns)
        if column in _NO_IS_NEWS or any(line[index] not in _NOTHING for line in grid)
    ]
    shown = filled or list(range(len(columns)))
    lines = [[line[index] for index in shown] for line in ([displayable(headings[key]) for key in columns], *grid)]
    wished = [max(len(line[index]) for line in lines) for index in range(len(shown))]
    whole = frozenset(at for at, index in enumerate(shown) if columns[index] in _WHOLE)
    exact = frozenset(at for at, index in enumerate(shown) if any(_is_exact(row.get(columns[index])) for row in rows))
    widths = _fitted(_fitted(wished, width, whole | exact), width, whole)
    for line in lines:
        cells = (_shortened(cell, room).ljust(room) for cell, room in zip(line, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def _fitted(widths: list[int], width: int, whole: frozenset[int]) -> list[int]:
    """The widths of columns, the widest that is not `whole` cut back until all fit, or until none can give way."""
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    giving = [index for index in range(len(widths)) if index not in whole]
    while over > 0 and giving and widths[widest := max(giving, key=widths.__getitem__)] > _NARROWEST_CHARS:
        widths[widest] -= 1
        over -= 1
    return widths


def _is_exact(value: JSON) -> bool:
    """Whether a value tells little once its end is cut off: an id, a time."""
    return isinstance(value, str) and bool(_ID.fullmatch(value) or _TIME.fullmatch(value))


def _shortened(cell: str, room: int) -> str:
    return cell if len(cell) <= room else cell[: room - 1] + _CUT


def _record(
    record: Mapping[str, JSON],
    width: int,
    columns: Mapping[str, str] | None,
    now: datetime | None,
    *,
    within: bool,
) -> Iterator[str]:
    headed = {displayable((columns or {}).get(key, key)): value for key, value in record.items()}
    key_width = max(map(len, headed), default=0)
    for key, value in headed.items():
        if _is_table(value) or (isinstance(value, Mapping) and any(_is_deep(part) for part in value.values())):
            yield key
            yield from _indented(_lines(value, width - len(_GAP), columns, now, within=True))
        else:
            yield f"{key.ljust(key_width)}{_GAP}{_fact(value, now, within=within)}".rstrip()


def _fact(value: JSON, now: datetime | None, *, within: bool) -> str:
    """A value that stands alone in its line, or `within` others."""
    if now is not None and isinstance(value, str) and _TIME.fullmatch(value):
        return local_time(value, now) if within else f"{local_time(value, now)} ({value})"
    if isinstance(value, Mapping):
        return " ".join(f"{displayable(key)}={_fact(part, now, within=True)}" for key, part in value.items()) or "-"
    return _cell(value)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"{_GAP}{line}" for line in lines)


def _brief(value: JSON, now: datetime | None) -> str:
    """A cell of a table."""
    if isinstance(value, str):
        if _ID.fullmatch(value):
            return value[:ID_CHARS]
        return local_time(value, now) if _TIME.fullmatch(value) else displayable(value)
    if isinstance(value, Mapping):
        parts = {key: _brief(part, now) for key, part in value.items() if part}
        return " ".join(f"{displayable(key)}={part}" for key, part in parts.items()) or "-"
    if isinstance(value, Sequence):
        return _cell(value) if not value or all(_is_short(part) for part in value) else str(len(value))
    return _cell(value)


def _is_short(value: JSON) -> bool:
    return not _is_deep(value) and not (isinstance(value, str) and _ID.fullmatch(value))


def local_time(time: str, now: datetime | None = None) -> str:
    """A time of RFC 3339 by this machine's clock, to the minute: today 10:12, Fri 4 Dec 18:00, 4 Dec 2027 18:00.

    Without `now` it is said in full.
    """
    try:
        when = datetime.fromisoformat(time).astimezone()
        today = None if now is None else now.astimezone().date()
    except (ValueError, OverflowError, OSError):
        return time
    if today is not None and (near := _NEAR.get((when.date() - today).days)) is not None:
        return f"{near} {when:%H:%M}"
    day = f"{when.day} {_MONTHS[when.month - 1]}"
    if today is not None and when.year == today.year:
        return f"{_WEEKDAYS[when.weekday()]} {day} {when:%H:%M}"
    return f"{day} {when.year} {when:%H:%M}"


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
