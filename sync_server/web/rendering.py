"""Templates into pages, and the files that pages load: read once, served from memory under a hash of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from blake3 import blake3
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sync_server.web.addresses import STATIC

_HERE: Final = Path(__file__).parent
_TYPES: Final[Mapping[str, str]] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_TAG_CHARS: Final = 12


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load; its address changes with what it holds, so that it may be kept for ever."""

    data: bytes
    content_type: str
    tag: str


class Rendering:
    """All templates and files of the pages."""

    def __init__(self) -> None:
        self.files: Final[Mapping[str, StaticFile]] = {
            path.name: StaticFile(data, _TYPES[path.suffix], blake3(data).hexdigest()[:_TAG_CHARS])
            for path in sorted((_HERE / "static").iterdir())
            if path.suffix in _TYPES
            for data in (path.read_bytes(),)
        }
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals["static"] = self.address_of

    def address_of(self, name: str) -> str:
        """Where a page finds a file."""
        return f"{STATIC}/{name}?{self.files[name].tag}"

    def page(self, template: str, **facts: object) -> str:
        """The HTML of a page."""
        return self._templates.get_template(template).render(**facts)


@cache
def rendering() -> Rendering:
    """That of this process: a template is compiled once, when it is first needed."""
    return Rendering()
