"""What a family finds in a portfolio."""

from __future__ import annotations

from collections.abc import Mapping


def remarks_in(files: Mapping[str, bytes]) -> dict[str, str]:
    """What was said of the work of one pupil, each by whose word it is."""
    found = {}
    for path, data in files.items():
        _, place, *_, name = path.split("/")
        if place == "corrections" and path.count("/") == 3:
            found[name.removesuffix(".txt")] = data.decode()
    return found
