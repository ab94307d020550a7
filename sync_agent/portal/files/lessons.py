"""The second listener: files of items, each item at an origin of its own, `http://FIRST-32-DIGITS.localhost:PORT/`.

Lessons are HTML from anywhere, run by a browser. Rules:
- an item's origin serves that item and nothing else; no cookie is set or read, nothing can be sent, a service worker is
  never handed out, so that what a lesson stores or breaks stays with that lesson;
- every answer is sandboxed and may load only what lies in the same item; what runs is shown in a frame of the portal,
  whose policy keeps it at its origin: a lesson opens no other page, neither the portal's, another item's nor a site's;
- a file is printed from a page of ours at the same origin, which is shown in the portal's frame as lessons are;
- names that browsers do not resolve to this machine by themselves reach nothing: any other `Host` is refused;
- a teacher's device also serves every version of an item, at the origin of the last digits of the version's own: its
  first are, of the first version, those of the item.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from aiohttp import web

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.portable_names import portable_form
from protocol.transfer.manifest import ManifestEntry
from sync_agent.coursework.reading import need_of, readable_version
from sync_agent.portal.door import Handler
from sync_agent.portal.files.delivery import deliver
from sync_agent.portal.files.media_types import media_of
from sync_agent.portal.rendering import Rendering
from sync_agent.portal.shown.shelf import Shelf, entry_page
from sync_agent.portal.wording import CATALOGUES, Register, Words

ORIGIN_DIGITS: Final = 32
_HOST: Final = re.compile(rf"([0-9a-f]{{{ORIGIN_DIGITS}}})\.localhost:(\d+)")
_ALLOWED: Final = "allow-downloads allow-forms allow-modals allow-pointer-lock allow-same-origin allow-scripts"
_RUNS: Final = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml", "image/svg+xml"})

_PRINT: Final = "relais-print"
_PDF: Final = "application/pdf"
_LOAD_FROM_HERE: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; base-uri 'self'"
)
_COMMON_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-DNS-Prefetch-Control": "off",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def name_of_version(version: bytes) -> bytes:
    """What `origin_of` is given for one version of an item."""
    return version[-(ORIGIN_DIGITS // 2) :]


def origin_of(name: bytes, port: int) -> str:
    """The origin of an item, or of one of its versions."""
    return f"http://{name.hex()[:ORIGIN_DIGITS]}.localhost:{port}"


def address_in(origin: str, path: str) -> str:
    """The URL of a file at an origin."""
    return f"{origin}/{quote(path)}"


def large_address(digits: str, path: str) -> str:
    """The address, in the portal, of the page that shows a lesson's file in a frame of the size of the window."""
    return f"/large/{digits}/{quote(path)}"


def print_address(digits: str, path: str) -> str:
    """The address, in the portal, of the page that shows a lesson's file and has the browser print it."""
    return f"/print/{digits}/{quote(path)}"


def printed(address: str) -> str:
    """The address of a file at its origin, to be printed: a frame that prints what is in it, all of its pages."""
    return f"{address}?{_PRINT}"


def frame_permissions() -> str:
    """The `sandbox` attribute of the portal's frame: what the answers' own sandbox allows, no more."""
    return _ALLOWED


class Lessons:
    """Answers for all items. `port` and `portal_origin`, who may show them in a frame, are set once they are known."""

    def __init__(self, shelf: Shelf, render: Rendering) -> None:
        self._shelf = shelf
        self._render = render
        self.port = 0
        self.portal_origin = ""

    def _headers(self, media_type: str = "text/html") -> dict[str, str]:
        """What every answer carries.

        A sandbox would keep browsers' own PDF viewers from starting; a PDF runs nothing in any of our origins.
        """
        sandbox = "" if media_type == _PDF else f"sandbox {_ALLOWED}; "
        return {
            **_COMMON_HEADERS,
            "Content-Security-Policy": f"{sandbox}{_LOAD_FROM_HERE}; frame-ancestors 'self' {self.portal_origin}",
        }

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Only known names, only reading, and no service worker."""
        host = _HOST.fullmatch(request.headers.get("Host", ""))
        if host is None or int(host[2]) != self.port:
            return self._plain(HTTPStatus.MISDIRECTED_REQUEST)
        if request.method not in {"GET", "HEAD"}:
            return self._plain(HTTPStatus.METHOD_NOT_ALLOWED)
        if "Service-Worker" in request.headers or request.headers.get("Sec-Fetch-Dest") == "serviceworker":
            return self._plain(HTTPStatus.FORBIDDEN)
        try:
            return await handler(request)
        except LocalFailure as failure:
            if failure.code is Code.STORAGE_FAILED:
                raise
            return self._plain(HTTPStatus.NOT_FOUND)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A file, the page with which an item opens, or a list of what is there."""
        files = await self._files(request.headers.get("Host", "")[:ORIGIN_DIGITS])
        if files is None:
            return self._plain(HTTPStatus.NOT_FOUND)
        path = portable_form(request.match_info["path"])
        file = _file_at(files, path)
        prints = file is not None and _PRINT in request.query and media_of(file.path).type in _RUNS
        if file is not None and self._would_run_unframed(request, media_of(file.path).type):
            lead = print_address if prints else large_address
            return self._framed(lead(request.headers.get("Host", "")[:ORIGIN_DIGITS], file.path))
        if file is not None and prints:
            return self._printing(request, file.path)
        if file is not None:
            headers = self._headers(media_of(file.path).type)
            return await deliver(request, self._shelf.agent, file, headers, save=False)
        if path == "" and (first := entry_page(files)) is not None:
            return self._moved(first)
        inside = path if path.endswith("/") or not path else f"{path}/"
        listed = [file for file in files if file.path.startswith(inside)]
        if not listed:
            # browsers ask every origin for it
            return self._plain(HTTPStatus.NO_CONTENT if path == "favicon.ico" else HTTPStatus.NOT_FOUND)
        return self._moved(inside) if inside != path else self._listing(request, inside, listed)

    def _would_run_unframed(self, request: web.Request, media_type: str) -> bool:
        """Whether this is opened in a tab of its own, where no page of ours keeps it from leading elsewhere."""
        return request.headers.get("Sec-Fetch-Dest") == "document" and media_type in _RUNS

    def _framed(self, address: str) -> web.Response:
        location = f"{self.portal_origin}{address}"
        return web.Response(status=HTTPStatus.FOUND, headers={**self._headers(), "Location": location})

    def _printing(self, request: web.Request, path: str) -> web.Response:
        """A page around a file, of the same origin: a page of the portal could show it, and not print it as a whole."""
        say = _words_for(request)
        text = self._render("printing.html", say=say, path=path, address=f"/{quote(path)}")
        return web.Response(text=text, content_type="text/html", headers=self._headers())

    async def _files(self, digits: str) -> Sequence[ManifestEntry] | None:
        """The files of the item (or, for teachers, the version) with these first digits, if it may be read here."""
        teaches = await self._shelf.teaches()
        for space in await self._shelf.agent.spaces():
            for item in (await self._shelf.agent.replica.view(space)).coursework.items.values():
                version = await self._version(item, digits, teaches=teaches)
                if version is not None:
                    await self._shelf.agent.note_opened(version.record.content.stream)
                    return await self._shelf.files(version.record.content)
        return None

    async def _version(self, item: Item, digits: str, *, teaches: bool) -> Version | None:
        if item.withdrawn and not teaches:
            return None
        if item.id.hex().startswith(digits):
            return await readable_version(self._shelf.agent, item)
        for version in item.versions.values() if teaches else ():
            if version.id.hex().endswith(digits):
                return version if await self._shelf.agent.holdings.is_complete(need_of(item, version)) else None
        return None

    def _listing(self, request: web.Request, folder: str, files: Sequence[ManifestEntry]) -> web.Response:
        """A page with the names in a folder."""
        say = _words_for(request)
        names: dict[str, int | None] = {}
        for file in files:
            name, slash, _ = file.path.removeprefix(folder).partition("/")
            names[name + slash] = None if slash else file.size
        text = self._render("listing.html", say=say, folder=folder, names=sorted(names.items()), quote=quote)
        return web.Response(text=text, content_type="text/html", headers=self._headers())

    def _moved(self, path: str) -> web.Response:
        return web.Response(status=HTTPStatus.FOUND, headers={**self._headers(), "Location": f"/{quote(path)}"})

    def _plain(self, status: HTTPStatus) -> web.Response:
        text = None if status is HTTPStatus.NO_CONTENT else f"{status.phrase}\n"
        return web.Response(status=status, text=text, headers=self._headers())


def _words_for(request: web.Request) -> Words:
    return Words(CATALOGUES.preferred(request.headers.get("Accept-Language", "")), Register.TEEN)


def _file_at(files: Sequence[ManifestEntry], path: str) -> ManifestEntry | None:
    """The file that a path means: itself, the index of a folder, or itself but for capitals.

    Lessons are written on systems that do not tell capitals apart, and a list of files has no two names that differ
    in nothing else.
    """
    wanted = f"{path}index.html" if path == "" or path.endswith("/") else path
    by_path: Mapping[str, ManifestEntry] = {file.path: file for file in files}
    if wanted in by_path:
        return by_path[wanted]
    loosely = wanted.casefold()
    return next((file for file in files if file.path.casefold() == loosely), None)
