"""Forms that a browser sends, with files: read as they come, in constant memory.

Rules:
- the token comes before the first file, and is checked before a byte of it is kept;
- files wait in one unnamed temporary file beside the store (`spool`), because a hand-in seals the list of sizes before
  its first byte; it goes when the request ends, and with the process whatever ends it, but for a power cut on Windows:
  the next start removes it;
- browsers give base names, or for a folder paths that begin with its own name, which is dropped;
- every bound is that of the commands, checked at the first byte too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, ClientError, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from blake3 import blake3

from protocol.canonical import Value, encode
from protocol.errors import NO_ROOM, BadInput, Code, LocalFailure, PeerFault, TooLarge
from protocol.limits import FILE_PIECE_BYTES, MAX_FILE_BYTES, MAX_FILES_PER_REVISION, MAX_TEXT_CHARS, KiB
from protocol.portable_names import Problem, check_portable, displayable, portable_form, portable_name
from protocol.replica.ballast import Ballast
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart
from sync_agent.portal.door import TOKEN_FIELD, broken_form
from sync_agent.portal.files.spool import Spool
from sync_agent.watching.rules import is_left_behind

PIECE_TIMEOUT_S: Final = 60.0
MAX_FIELD_BYTES: Final = 4 * MAX_TEXT_CHARS + KiB
MAX_FIELDS: Final = 64


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of a form: the path that it gets, and where it lies in the temporary file."""

    path: str
    offset: int
    size: int


class KeptFiles:
    """The files of a form, as a command takes them: ascending by path, iterated once."""

    def __init__(self, spool: Spool, files: Sequence[Kept]) -> None:
        self._spool = spool
        self.files = sorted(files, key=lambda file: file.path.encode())

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Path and size in bytes of each file, in their order."""
        return [(file.path, file.size) for file in self.files]

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order, `Complete` last."""
        for file in self.files:
            async for event in self.events_of(file):
                yield event
        yield Complete()

    async def events_of(self, file: Kept) -> AsyncIterator[FileEvent]:
        """The events of one of the files."""
        yield FileStart(file.path, file.size)
        at, end = file.offset, file.offset + file.size
        while at < end:
            piece = await asyncio.to_thread(self._read, at, min(FILE_PIECE_BYTES, end - at))
            yield FileData(piece)
            at += len(piece)
        yield FileEnd()

    def _read(self, offset: int, size: int) -> bytes:
        piece = self._spool.read(offset, size)
        if not piece:
            raise LocalFailure(Code.STORAGE_FAILED, "a file that was being kept has gone")
        return piece


@dataclass(frozen=True, slots=True)
class Form:
    """What a form held; `digest` is of all that it said, names and bytes of files included, its token apart.

    Where names do not fit, these are the `problems`, and it holds no files. `left_out` are the paths of what programs
    left in a folder.
    """

    fields: Mapping[str, str]
    files: KeptFiles
    digest: bytes
    problems: Sequence[Problem] = ()
    left_out: Sequence[str] = ()

    def text(self, name: str) -> str:
        """A field, without spaces around it; empty if it was not there."""
        return self.fields.get(name, "").strip()


async def simple_form(request: web.Request, check: Callable[[str | None], None]) -> Mapping[str, str]:
    """The fields of a form without files. Raises what `check` raises of the token, `PeerFault`, `TooLarge`."""
    if (request.content_length or 0) > MAX_FIELD_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            while piece := await request.content.read(FILE_PIECE_BYTES):
                body += piece
                if len(body) > MAX_FIELD_BYTES:
                    raise _too_large()
    except (TimeoutError, ClientError, ConnectionError, web.RequestPayloadError) as reason:
        raise _cut_off(reason) from reason
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError) as reason:
        raise broken_form(str(reason)) from reason
    check(fields.get(TOKEN_FIELD))
    return fields


@asynccontextmanager
async def form_with_files(
    request: web.Request,
    folder: Path,
    check: Callable[[str | None], None],
    *,
    as_named: bool,
    most_files: int = MAX_FILES_PER_REVISION,
) -> AsyncIterator[Form]:
    """A form and its files, which go when the context ends. `folder` is where they wait.

    With `as_named`, what programs left in a folder is left out (docs/adr/0233), and names that are not portable are the
    form's `problems`; else the nearest portable ones are taken, as one does for children. Raises what `check` raises of
    the token, `BadInput` (FILE_TOO_LARGE, TOO_MANY_FILES), `PeerFault`, `TooLarge`, `LocalFailure(DISK_FULL)`.
    """
    try:
        reader = await request.multipart()
    except (AssertionError, ValueError) as reason:
        raise broken_form(str(reason)) from reason
    with _spool_in(folder) as spool:
        reading = _Reading(spool, Ballast(folder), check, as_named=as_named, most_files=most_files)
        try:
            await reading.take(reader)
        except (TimeoutError, ClientError, ConnectionError, EOFError, web.RequestPayloadError) as reason:
            raise _cut_off(reason) from reason
        except (ValueError, AssertionError, HttpProcessingError) as reason:
            raise broken_form(str(reason)) from reason
        except OSError as reason:
            raise _trouble(reason) from reason
        problems, named = reading.named()
        yield Form(reading.fields, KeptFiles(spool, named), reading.digest(), problems, reading.left_out)


class _Reading:
    """A form while it comes."""

    def __init__(
        self,
        spool: Spool,
        ballast: Ballast,
        check: Callable[[str | None], None],
        *,
        as_named: bool,
        most_files: int,
    ) -> None:
        self._spool = spool
        self._ballast = ballast
        self._check = check
        self._as_named = as_named
        self._most_files = most_files
        self._given: list[tuple[str, int, int]] = []
        self._digests: list[bytes] = []
        self._end = 0
        self.fields: dict[str, str] = {}
        self.left_out: list[str] = []

    async def take(self, reader: MultipartReader) -> None:
        checked = False
        while True:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                part = await reader.next()
            if part is None:
                break
            if not isinstance(part, BodyPartReader) or "Content-Encoding" in part.headers:
                raise broken_form("a part inside a part")
            if part.filename is None:
                await self._field(part)
                continue
            if not checked:
                self._check(self.fields.get(TOKEN_FIELD))
                checked = True
            await self._file(part, part.filename)
        if not checked:
            self._check(self.fields.get(TOKEN_FIELD))

    async def _field(self, part: BodyPartReader) -> None:
        if len(self.fields) >= MAX_FIELDS:
            raise _too_large()
        value = bytearray()
        while piece := await self._piece(part):
            value += piece
            if len(value) > MAX_FIELD_BYTES:
                raise _too_large()
        self.fields[part.name or ""] = value.decode()

    async def _file(self, part: BodyPartReader, name: str) -> None:
        size, hasher = 0, blake3()
        inside = name.replace("\\", "/").partition("/")[2]
        if self._as_named and inside and is_left_behind(inside):
            while await self._piece(part):
                pass
            self.left_out += [displayable(inside)] if len(self.left_out) < MAX_FILES_PER_REVISION else []
            return
        while piece := await self._piece(part):
            size += len(piece)
            if size > MAX_FILE_BYTES:
                raise BadInput(Code.FILE_TOO_LARGE, f"{displayable(name)} is larger than 4 GiB", path=displayable(name))
            hasher.update(piece)
            await asyncio.to_thread(self._write, piece)
        if not name and not size:  # the field was left empty
            return
        if len(self._given) >= self._most_files:
            raise BadInput(Code.TOO_MANY_FILES, f"there are more than {self._most_files} files", max=self._most_files)
        self._given.append((name, self._end, size))
        self._digests.append(hasher.digest())
        self._end += size

    def _write(self, piece: bytes) -> None:
        self._ballast.leave(len(piece))
        self._spool.add(piece)

    async def _piece(self, part: BodyPartReader) -> bytes:
        async with asyncio.timeout(PIECE_TIMEOUT_S):
            return await part.read_chunk(FILE_PIECE_BYTES)

    def digest(self) -> bytes:
        """Of the whole form: the same again if, and only if, it says the same."""
        fields: list[Value] = [[name, value] for name, value in sorted(self.fields.items()) if name != TOKEN_FIELD]
        files: list[Value] = [[name, digest] for (name, _, _), digest in zip(self._given, self._digests, strict=True)]
        return blake3(encode([fields, files])).digest()

    def named(self) -> tuple[list[Problem], list[Kept]]:
        """What keeps their names from fitting; where nothing does, the files with the paths that they get."""
        names = [_without_outer_folder(name.replace("\\", "/")) for name, _, _ in self._given]
        if not self._as_named:
            names = _made_portable(names)
        problems = check_portable(names)
        if problems:
            return problems, []
        given = zip(names, self._given, strict=True)
        return [], [Kept(portable_form(name), offset, size) for name, (_, offset, size) in given]


def _without_outer_folder(name: str) -> str:
    """The path inside the folder that was chosen; a file's own name otherwise."""
    return name.partition("/")[2] or name


def _made_portable(names: Sequence[str]) -> list[str]:
    """The nearest portable names, each once: a second "dessin.png" becomes "dessin (2).png"."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    made = []
    for name in names:
        plain = portable_name(name.rpartition("/")[2])
        stem, dot, ending = plain.rpartition(".")
        if not stem:
            stem, dot, ending = plain, "", ""
        # of thousands of one name none tries again what those before it have tried
        alike = f"{stem[:200]}{dot}{ending}".casefold()
        candidate, number = plain, last.get(alike, 1)
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem[:200]} ({number}){dot}{ending}"
        last[alike] = number
        taken.add(candidate.casefold())
        made.append(candidate)
    return made


def _spool_in(folder: Path) -> Spool:
    try:
        return Spool(folder)
    except OSError as reason:
        raise _trouble(reason) from reason


def _trouble(reason: OSError) -> LocalFailure:
    if reason.errno in NO_ROOM:
        return LocalFailure(Code.DISK_FULL, "the disk is full; what was sent could not be kept")
    return LocalFailure(Code.STORAGE_FAILED, f"what was sent could not be kept: {reason.strerror}")


def _cut_off(reason: Exception) -> PeerFault:
    return PeerFault(Code.CUT_OFF, "the upload broke off", reason=str(reason))


def _too_large() -> TooLarge:
    return TooLarge(Code.TOO_LARGE, "the form is larger than any of ours")
