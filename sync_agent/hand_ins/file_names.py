"""The names of the files inside hand-ins, as far as this device may know them (docs/protocol.md, "Sealed hand-ins").

Rules:
- they lie nowhere but in what is sealed: whoever may open a work reads them there, the computer where it was handed in
  until it gives the key up, and from then on nobody there (docs/adr/0431);
- what is handed in by a form has as many files as a pupil hands in at once, and no more: of the work of one a form of
  tens of thousands of empty files would be as dear as a class's. Who runs the computer hands in more by the command;
- what others have made may have more files, as sealed lists have a wider bound: those that were opened are kept in
  memory up to a number of names in all, and read again beyond it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

from protocol.errors import BadInput, Code, LocalFailure, PeerFault
from protocol.folds.coursework import Work
from protocol.limits import MAX_FILES_PER_HAND_IN
from protocol.replica.content.holdings import work_need
from protocol.trust.sealing import SealReader
from sync_agent.app import Agent
from sync_agent.hand_ins.opening import opening_key
from sync_agent.hand_ins.wraps import kept_of
from sync_agent.keys.key_wraps import reading_keys

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


async def names_at_head(sealed: AsyncGenerator[tuple[bytes, bool], None], content_key: bytes) -> Names:
    """The list at the head of sealed chunks, each with whether it is the last; no more of them is read.

    Raises what the generator raises, and as `SealReader.feed`.
    """
    reader = SealReader(content_key)
    async with aclosing(sealed):
        async for chunk, last in sealed:
            reader.feed(chunk, last=last)
            if reader.files is not None:
                return tuple((file.path, file.size) for file in reader.files)
    return ()


class SealedLists:
    """The lists of files inside hand-ins that this device opened before, so that a list of a class stays quick."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Names] = OrderedDict()
        self.names_kept = 0
        """How many names are in memory."""

    async def of(self, agent: Agent, work: Work) -> Names:
        """Path and size of each file, as far as this device may know them."""
        kept = await kept_of(agent, work.id)
        sealed_key = None if kept is None else kept.sealed_key
        if sealed_key is None and work.readers.keys().isdisjoint(reading_keys(agent)):
            return ()
        if work.id not in self._known:
            content_key = agent.key_slots.open(sealed_key) or await opening_key(agent, work)
            if content_key is None or not await agent.holdings.is_complete(work_need(work)):
                return ()
            try:
                found = await names_at_head(_chunks(agent, work), content_key)
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


async def _chunks(agent: Agent, work: Work) -> AsyncGenerator[tuple[bytes, bool], None]:
    stream = work.record.content.stream
    left = len(await agent.replica.content.chunk_list(stream) or ())
    async with aclosing(agent.holdings.read_checked(stream)) as sealed:
        async for chunk in sealed:
            left -= 1
            yield chunk, left == 0
