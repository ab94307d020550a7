"""Templates and the two static files, read once; a file's address holds its hash, so that browsers keep it for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from protocol.beside_words import beside_words, unlike_words

_HERE: Final = Path(__file__).parent
_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HASH_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Static:
    """A file that pages load: its bytes and type."""

    data: bytes
    type: str


class Rendering:
    """Pages from templates. Everything that is put into a page is escaped."""

    def __init__(self) -> None:
        self.statics: dict[str, Static] = {}
        addresses: dict[str, str] = {}
        for path in sorted((_HERE / "static").iterdir()):
            data = path.read_bytes()
            name = f"{path.stem}.{sha256(data).hexdigest()[:_HASH_DIGITS]}{path.suffix}"
            self.statics[name] = Static(data, _TYPES[path.suffix])
            addresses[path.name] = f"/static/{name}"
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["static"] = addresses
        self._environment.filters |= {"beside_words": beside_words, "unlike_words": unlike_words}

    def __call__(self, template: str, facts: Mapping[str, object] | None = None, /, **more: object) -> str:
        """The page that `template` makes of these facts."""
        return self._environment.get_template(template).render({**(facts or {}), **more})


@cache
def rendering() -> Rendering:
    """That of this process: a template is compiled once, when it is first needed."""
    return Rendering()
