"""What a pupil began and kept for later, and what a form brings besides, as one list of files.

Of two files of one name the form's is taken: who chooses a file again has gone on with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from protocol.replica.console.operation import Complete, FileEvent, FileStart
from sync_agent.portal.files.uploads import KeptFiles


class JoinedFiles:
    """The files in the order of their paths, iterated once; `read` gives those `begun`, in that order."""

    def __init__(
        self, begun: Sequence[tuple[str, int]], read: Callable[[], AsyncGenerator[FileEvent, None]], added: KeptFiles
    ) -> None:
        chosen_again = {file.path.casefold() for file in added.files}
        self._stay = {path: size for path, size in begun if path.casefold() not in chosen_again}
        self._read = read
        self._added = added

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Path and size in bytes of each file, in their order."""
        return sorted([*self._stay.items(), *self._added.sizes], key=lambda file: file[0].encode())

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        """The events in order, `Complete` last. Raises what `read` raises."""
        waiting = [*self._added.files]
        stays = False
        async with aclosing(self._read()) as events:
            async for event in events:
                if isinstance(event, Complete):
                    break
                if isinstance(event, FileStart):
                    stays = event.path in self._stay
                    while stays and waiting and waiting[0].path.encode() < event.path.encode():
                        async for one in self._added.events_of(waiting.pop(0)):
                            yield one
                if stays:
                    yield event
        for file in waiting:
            async for one in self._added.events_of(file):
                yield one
        yield Complete()
