"""What a file is for a browser, by its name: our own table, because that of the system can be changed by anybody.

Rules: what browsers show is shown; everything else, and what is unknown, is saved. Text gets the charset that its bytes
show, unless the document says it itself.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

UNKNOWN: Final = "application/octet-stream"
_SNIFFED_BYTES: Final = 1024

_SHOWN: Final[Mapping[str, str]] = {
    "html": "text/html",
    "htm": "text/html",
    "xhtml": "application/xhtml+xml",
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "json": "application/json",
    "xml": "text/xml",
    "txt": "text/plain",
    "md": "text/plain",
    "vtt": "text/vtt",
    "wasm": "application/wasm",
    "svg": "image/svg+xml",
    "png": "image/png",
    "apng": "image/apng",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "ico": "image/vnd.microsoft.icon",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "weba": "audio/webm",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "ogv": "video/ogg",
    "webm": "video/webm",
    "pdf": "application/pdf",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
}
_SAVED: Final[Mapping[str, str]] = {
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "epub": "application/epub+zip",
    "h5p": "application/zip",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "rtf": "application/rtf",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
_TEXT: Final = frozenset({"text/html", "text/css", "text/javascript", "text/plain", "text/csv"})
_BYTE_ORDER_MARK: Final = re.compile(rb"\xef\xbb\xbf|\xff\xfe|\xfe\xff")
_DECLARED: Final = re.compile(rb"<meta[^>]{0,200}charset|@charset", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Media:
    """A media type, and whether a browser shows it."""

    type: str
    shown: bool


def media_of(path: str) -> Media:
    """What the ending of a path means."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower() if "." in path else ""
    if ending in _SHOWN:
        return Media(_SHOWN[ending], shown=True)
    return Media(_SAVED.get(ending, UNKNOWN), shown=False)


def is_text(media_type: str) -> bool:
    """Whether `content_type` wants to see how it begins."""
    return media_type in _TEXT


def content_type(media_type: str, head: bytes, *, whole: bool) -> str:
    """The field's value for a file that begins with `head`, or is it as a `whole`."""
    if not is_text(media_type) or _BYTE_ORDER_MARK.match(head) or _DECLARED.search(head[:_SNIFFED_BYTES]):
        return media_type
    return f"{media_type}; charset={'utf-8' if _is_utf_8(head, whole=whole) else 'windows-1252'}"


def attachment(name: str) -> str:
    """`Content-Disposition` for a file that is to be saved under its name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9 ._()\-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _is_utf_8(head: bytes, *, whole: bool) -> bool:
    """Whether it is; what is not `whole` may end inside a character."""
    try:
        getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return True
