"""The names of the files inside hand-ins, as far as this device may know them (docs/protocol.md, "Sealed hand-ins").

Rules:
- what is handed in by a form has as many files as a pupil hands in at once, and no more: their names stay for good, and
  of the work of one a form of tens of thousands of empty files would be as dear as a class's. Who runs the computer
  hands in more by the command;
- the names lie in a mark of their own: keys are looked at after each piece of news, names when somebody asks for those
  of one work;
- what others have made may have more files, as sealed lists have a wider bound: those that were opened are kept in
  memory up to a number of names in all, and read again beyond it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

from protocol.canonical import Value, decode, encode
from protocol.errors import BadInput, Code, LocalFailure, PeerFault
from protocol.fields import Fields
from protocol.folds.coursework import Work
from protocol.limits import (
    MAX_FILE_BYTES,
    MAX_FILES_PER_HAND_IN,
    MAX_FILES_PER_REVISION,
)
from protocol.replica.content.holdings import work_need
from protocol.trust.sealing import SealReader
from sync_agent.app import Agent
from sync_agent.hand_ins.opening import opening_key
from sync_agent.machine.key_slots import MAX_MARK_BYTES
from sync_agent.machine.marks import HAND_IN_MARKS, HAND_IN_NAMES_MARKS

_MAX_NAMES_KEPT: Final = 100_000

Names: TypeAlias = Sequence[tuple[str, int]]
"""Path and size in bytes of each file."""


def check_number(files: int) -> None:
    """Whether so many files are handed in at once. Raises `BadInput(TOO_MANY_FILES)`."""
    if files > MAX_FILES_PER_HAND_IN:
        raise BadInput(
            Code.TOO_MANY_FILES,
            f"there are more than {MAX_FILES_PER_HAND_IN} files; nothing was handed in. Put them into one archive (a "
            "ZIP file, say), or hand in fewer",
            max=MAX_FILES_PER_HAND_IN,
        )


def names_mark_of(hand_in: bytes) -> str:
    """The name of the mark that holds the names of a hand-in's files."""
    return f"{HAND_IN_NAMES_MARKS}{hand_in.hex()}"


def encoded(files: Names) -> bytes:
    """For the store."""
    rows: list[Value] = [[path, size] for path, size in files]
    return encode({"files": rows})


def names_in(mark: bytes) -> Names | None:
    """From the store; None where a mark holds none: in an earlier version they lay beside the key.

    Raises `LocalFailure(DAMAGED)`.
    """
    try:
        fields = Fields(decode(mark, max_bytes=MAX_MARK_BYTES), "the names of a hand-in's files")
        return [_file(row) for row in fields.rows("files", MAX_FILES_PER_REVISION)] if fields.has("files") else None
    except PeerFault as fault:
        raise LocalFailure(Code.DAMAGED, "what this device noted of a hand-in cannot be read") from fault


class SealedLists:
    """The lists of files inside hand-ins that this device opened before, so that a list of a class stays quick."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Names] = OrderedDict()
        self.names_kept = 0
        """How many names are in memory."""

    async def of(self, agent: Agent, work: Work) -> Names:
        """Path and size of each file, as far as this device may know them."""
        for name in (names_mark_of(work.id), f"{HAND_IN_MARKS}{work.id.hex()}"):
            mark = await agent.replica.store.mark(name)
            if mark is not None and (noted := names_in(mark)) is not None:
                return noted
        if work.id not in self._known:
            content_key = await opening_key(agent, work)
            if content_key is None or not await agent.holdings.is_complete(work_need(work)):
                return ()
            try:
                found = await _sealed_list(agent, work, content_key)
            except (PeerFault, LocalFailure):
                return ()
            self._keep(work.id, found)
            return found
        return self._known[work.id]

    def _keep(self, work: bytes, names: Names) -> None:
        """The last that were read, as long as there are not too many names of them together."""
        self.names_kept += len(names) - len(self._known.pop(work, ()))
        self._known[work] = names
        while self.names_kept > _MAX_NAMES_KEPT and len(self._known) > 1:
            self.names_kept -= len(self._known.popitem(last=False)[1])


async def _sealed_list(agent: Agent, work: Work, content_key: bytes) -> Names:
    """The list of files at the head of a hand-in; no more of it is read."""
    stream = work.record.content.stream
    left = len(await agent.replica.content.chunk_list(stream) or ())
    reader = SealReader(content_key)
    async with aclosing(agent.holdings.read_checked(stream)) as sealed:
        async for chunk in sealed:
            left -= 1
            reader.feed(chunk, last=left == 0)
            if reader.files is not None:
                return tuple((file.path, file.size) for file in reader.files)
    return ()


def _file(row: Value) -> tuple[str, int]:
    match row:
        case [str(path), int(size)] if 0 <= size <= MAX_FILE_BYTES:
            return path, size
    raise PeerFault(Code.MALFORMED, "a file of a hand-in has the wrong form")
