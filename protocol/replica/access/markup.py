"""What pages of an archive are made of: their words, days, and ways to the files beside them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
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
    rows = [file for file in files if isinstance(file, Mapping)] if isinstance(files, list) else []
    if not rows:
        return ""
    paths = [str(file["path"]) for file in rows]
    links = "".join(f'<li><a href="{quote(path)}">{escaped(path.rpartition("/")[2])}</a></li>' for path in paths)
    return f"<ul>{links}</ul>"


def day_of(text: JSON) -> str:
    """The day of a time, as people write it."""
    day = str(text)[:10].split("-")
    return "/".join(reversed(day))


def escaped(text: JSON) -> str:
    """For HTML."""
    return escape(str(text))
