"""What pages of an archive are made of: their words, days, and ways to the files beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Protocol
from urllib.parse import quote

from protocol.replica.console.operation import JSON


class Say(Protocol):
    """The words of a program in one language."""

    language: str

    def __call__(self, key: str, /, **facts: object) -> str:
        """The text of a key, with facts in place of the names in braces."""
        ...

    def count(self, key: str, number: int, **facts: object) -> str:
        """The text for so many."""
        ...

    def moment(self, at_ms: int) -> dt.datetime:
        """A time as clocks here show it."""
        ...

    def clock(self, at_ms: int) -> str:
        """An hour of the day."""
        ...


def links_to(files: JSON) -> str:
    """A list of files, each with the way to it in the archive."""
    paths = [str(file["path"]) for file in rows_in(files)]
    if not paths:
        return ""
    links = "".join(f'<li><a href="{quote(path)}">{escaped(path.rpartition("/")[2])}</a></li>' for path in paths)
    return f"<ul>{links}</ul>"


def rows_in(value: JSON) -> list[Mapping[str, JSON]]:
    """The rows that lie in a row."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def table(columns: Iterable[str], rows: Iterable[Sequence[JSON]]) -> str:
    """A table, with the headings of its columns."""
    heads = "".join(f"<th>{escaped(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def mark_of(remark: Mapping[str, JSON], say: Say) -> str:
    """What stands behind the first line of a remark: its mark, and that the work is to be done again."""
    mark = f" <strong>{escaped(remark['mark'])}</strong>" if remark["mark"] else ""
    redo = f" {escaped(say('family.redo'))}" if remark["redo"] else ""
    return mark + redo


def day_of(text: JSON) -> str:
    """The day of a time, as people write it."""
    day = str(text)[:10].split("-")
    return "/".join(reversed(day))


def escaped(text: JSON) -> str:
    """For HTML."""
    return escape(str(text))
