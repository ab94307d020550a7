"""What a command of either program is, wherever it runs: an operation with parameters, files in, files out, one result.

Rules:
- the same operation serves the process that owns the store and a caller behind the control channel;
- files travel as events, never whole: a start, pieces of at most `FILE_PIECE_BYTES`, an end; memory stays constant;
- `Restart` says that a file changed while it was read: everything sent so far is void, the reading begins again;
- `Complete` comes once and last; an operation keeps nothing of an input that ends without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol, TypeAlias

from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, PeerFault, Refused, RelaisError, TooLarge
from protocol.limits import (
    FILE_PIECE_BYTES,
    MAX_FILE_BYTES,
    MAX_FILES_PER_REVISION,
    MAX_PATH_BYTES,
    MAX_SENTENCE_CHARS,
)

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Params: TypeAlias = Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class FileStart:
    """A file begins: its path relative to what was named, with `/`, and its size in bytes where it is known."""

    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file, 1 to `FILE_PIECE_BYTES` of them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The file is whole."""


@dataclass(frozen=True, slots=True)
class Restart:
    """All events before this one are void."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Nothing follows, and what came since the last `Restart` is what the caller means."""


FileEvent: TypeAlias = FileStart | FileData | FileEnd | Restart | Complete


class Incoming(Protocol):
    """The caller's files; iterated once."""

    def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order, `Complete` last."""
        ...


class Outgoing(Protocol):
    """Where an operation's files and progress lines go. Each call returns when the other side can take more."""

    async def start(self, path: str, size: int | None) -> None:
        """Begin the file `path`."""
        ...

    async def data(self, data: bytes) -> None:
        """Add bytes to the file; any length."""
        ...

    async def end(self) -> None:
        """The file is whole."""
        ...

    async def progress(self, text: str) -> None:
        """Tell the person one line."""
        ...


Operation: TypeAlias = Callable[[Params, Incoming, Outgoing], Awaitable[JSON]]
Table: TypeAlias = Mapping[str, Operation]


class LateTable(Mapping[str, Operation]):
    """A table that is made, and whose commands are loaded, when the first command is asked for."""

    def __init__(self, make: Callable[[], Table]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> Operation:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def _table(self) -> Table:
        return self._make()


class NoFiles:
    """The input of a command that names no file."""

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """Complete at once."""
        yield Complete()


NO_FILES: Final = NoFiles()


class FileFlow:
    """The grammar of events, checked one by one.

    Between two `Restart`: any number of files, each a start, data, an end; the announced size is the size; `Complete`
    once and last. Raises `PeerFault(MALFORMED)` or `TooLarge` at the first event that breaks it.
    """

    def __init__(self) -> None:
        self._inside = False
        self._size: int | None = None
        self._seen = 0
        self._files = 0
        self.complete = False

    def take(self, event: FileEvent) -> None:
        """Check the next event."""
        if self.complete:
            raise _broken("an event after the last one")
        match event:
            case FileStart():
                self._start(event)
            case FileData():
                self._data(len(event.data))
            case FileEnd():
                self._end()
            case Restart():
                self._inside, self._files = False, 0
            case Complete():
                if self._inside:
                    raise _broken("the last file has no end")
                self.complete = True

    def _start(self, event: FileStart) -> None:
        if self._inside:
            raise _broken("a file begins inside another")
        if event.size is not None and event.size < 0:
            raise _broken("a size below zero")
        if len(event.path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a path is longer than allowed")
        if event.size is not None and event.size > MAX_FILE_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a file is larger than allowed", path=event.path, size=event.size)
        self._files += 1
        if self._files > MAX_FILES_PER_REVISION:
            raise TooLarge(Code.TOO_LARGE, "more files than allowed", max=MAX_FILES_PER_REVISION)
        self._inside, self._size, self._seen = True, event.size, 0

    def _data(self, length: int) -> None:
        if not self._inside:
            raise _broken("data outside a file")
        if not 1 <= length <= FILE_PIECE_BYTES:
            raise TooLarge(Code.TOO_LARGE, "a piece of a file is empty or larger than allowed", size=length)
        self._seen += length
        if self._seen > (MAX_FILE_BYTES if self._size is None else self._size):
            raise _broken("a file is longer than announced")

    def _end(self) -> None:
        if not self._inside:
            raise _broken("an end outside a file")
        if self._size is not None and self._seen != self._size:
            raise _broken("a file is shorter than announced")
        self._inside = False


def failure_of(error: RelaisError) -> dict[str, JSON]:
    """`error` as it crosses the control channel."""
    return {
        "kind": type(error).__name__,
        "code": str(error.code),
        "message": error.message[:MAX_SENTENCE_CHARS],
        "exit_status": error.exit_status,
        **choices_in(error),
    }


def choices_in(error: RelaisError) -> Mapping[str, JSON]:
    """What there is to choose from, where an error says so: it crosses the channel, and stands in what is printed."""
    choices = error.facts.get("choices")
    return {"choices": choices} if isinstance(choices, list) else {}


def error_of(failure: JSON) -> RelaisError:
    """The error that `failure_of` described, of the same class; of its exit status's class if a newer program made it.

    An unknown code becomes `INTERNAL` and keeps its sentence.
    """
    if not isinstance(failure, Mapping):
        return PeerFault(Code.MALFORMED, "the running program's answer cannot be read")
    status = failure.get("exit_status")
    by_status = _BY_STATUS.get(status, LocalFailure) if isinstance(status, int) else LocalFailure
    family = _BY_KIND.get(str(failure.get("kind")), by_status)
    code = failure.get("code")
    known = Code(code) if isinstance(code, str) and code in _CODES else Code.INTERNAL
    choices = {"choices": failure["choices"]} if "choices" in failure else {}
    return family(known, str(failure.get("message", "the command failed")), **choices)


_BY_KIND: Final[Mapping[str, type[RelaisError]]] = {
    family.__name__: family for family in (BadInput, Refused, NoAnswer, LocalFailure, PeerFault, TooLarge)
}
_BY_STATUS: Final[Mapping[int, type[RelaisError]]] = {
    family.exit_status: family for family in (BadInput, Refused, NoAnswer, LocalFailure)
}
_CODES: Final = frozenset(code.value for code in Code)


def _broken(why: str) -> PeerFault:
    return PeerFault(Code.MALFORMED, "the files of a command arrive in the wrong order", reason=why)
