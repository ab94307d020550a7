"""A text that a teacher publishes without a file: how it lies among the files of a revision, and how it is read again.

It is the file `TEXT_FILE` (docs/protocol.md, "Coursework"; docs/adr/0099), in UTF-8 with an end to its last line, so
that any program opens it. Whoever shows it shows text, never markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from protocol.limits import MAX_TEXT_CHARS
from protocol.transfer.manifest import ManifestEntry

TEXT_FILE: Final = "mot.txt"
MAX_SHOWN_TEXT_BYTES: Final = 4 * MAX_TEXT_CHARS + 1
"""A larger file of this name is a file like any other."""
_BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_CONTROLS_KEPT: Final = frozenset("\n\t")


def bytes_of(text: str) -> bytes:
    """The file that holds a text; no byte for one in which nothing stands."""
    lines = _plain_ends(text).strip("\n").rstrip()
    return f"{lines}\n".encode() if lines else b""


def text_of(data: bytes) -> str:
    """The text in such a file: its lines, without control characters; what is no UTF-8 shows as signs that say so."""
    text = _plain_ends(data.decode(errors="replace").removeprefix(_BYTE_ORDER_MARK))
    kept = (char for char in text if char in _CONTROLS_KEPT or unicodedata.category(char) != "Cc")
    return "".join(kept).strip("\n") if text.strip() else ""


def text_file(files: Sequence[ManifestEntry]) -> ManifestEntry | None:
    """The file among these that is shown as a text, if one is."""
    found = next((file for file in files if file.path == TEXT_FILE), None)
    return found if found is not None and 0 < found.size <= MAX_SHOWN_TEXT_BYTES else None


def _plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
