"""What a family finds in a portfolio."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


def remarks_in(files: Mapping[str, bytes]) -> dict[str, str]:
    """What was said of the work of one pupil, each by whose word it is, without the day with which it begins."""
    found = {}
    for path, data in files.items():
        _, place, *_, name = path.split("/")
        if place == "corrections" and path.count("/") == 3:
            day, _, said = data.decode().partition("\n")
            assert _DAY.fullmatch(day), day
            found[name.removesuffix(".txt")] = said
    return found
