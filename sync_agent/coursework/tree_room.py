"""What room the disk, and its budget, have for the readable copies; the rules are `copies_room` (docs/adr/0259).

Rules:
- what a copy takes is reckoned by the list of files itself: what a revision says of its size binds nobody;
- room is looked at before a title is written, while it is, and after;
- a title that found no room is remembered with what it asks for: its list is not read again before there is as much.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from protocol.errors import Code, LocalFailure
from protocol.folds.coursework import Version
from sync_agent.app import Agent
from sync_agent.coursework.copies_room import DiskRoom, Taken, room_beyond, taken
from sync_agent.coursework.folder import Notes, folders_above
from sync_agent.coursework.rules import Wanted, fitting, wanted_files


class NoRoom(Exception):
    """A title for which there is no room: it needs so much."""

    def __init__(self, needed: Taken) -> None:
        super().__init__(needed)
        self.needed = needed


class TreeRoom:
    """The room for the copies of one agent."""

    def __init__(self, agent: Agent, reserve_bytes: int, known: Callable[[bytes], Awaitable[Sequence[Notes]]]) -> None:
        """So many bytes the tree leaves free; `known` are the notes of a title's files, those of its copy first."""
        self._agent = agent
        self._reserve_bytes = reserve_bytes
        self._known = known
        self._takes: dict[bytes, int] = {}
        """What copies of these lists of files take of the disk."""
        self._too_large: dict[bytes, tuple[object, Taken]] = {}
        """Titles that found no room, as they were to be shown, and how much they ask for."""

    async def left(self) -> DiskRoom:
        """What is free beyond what this tree leaves. Raises `OSError`."""
        return room_beyond(self._agent.folder, await self._agent.replica.content.free_bytes(), self._reserve_bytes)

    async def fitting(self, complete: Mapping[bytes, Version]) -> set[bytes]:
        """The items that have a copy within the disk budget, of which the store comes first."""
        budget_bytes = self._agent.room_limits.budget_bytes
        if budget_bytes is None:
            return set(complete)
        contents = {item: version.record.content for item, version in complete.items()}
        used_ms = {
            item: max(version.at_ms, await self._agent.opened_ms(contents[item].stream))
            for item, version in complete.items()
        }
        _, _, stored_bytes = await self._agent.replica.content.totals()
        sizes = {item: await self._size(item, content.stream) for item, content in contents.items()}
        self._takes = {content.stream: sizes[item] for item, content in contents.items()}
        return fitting(sizes, used_ms, max(0, budget_bytes - stored_bytes))

    async def is_known_to_lack_for(self, item: bytes, now: object) -> bool:
        """Whether a title, as it is to be shown now, found no room before, and would find none now."""
        before, needed = self._too_large.get(item, (None, Taken(0, 0)))
        return before == now and not (await self.left()).holds(needed)

    async def brought(self, item: bytes, now: object, bringing: Awaitable[None]) -> None:
        """Bring one title. Raises `NoRoom`, which is remembered."""
        self._too_large.pop(item, None)
        try:
            await bringing
        except NoRoom as reason:
            self._too_large[item] = (now, reason.needed)
            raise

    async def check(self, files: Iterable[Wanted], folders: Collection[str]) -> Taken:
        """What these files and folders will take. Raises `NoRoom` where that is not there."""
        room = await self.left()
        needed = taken((file.size for file in files), folders, room.block_bytes)
        if not room.holds(needed):
            raise NoRoom(needed)
        return needed

    async def look_again(self, needed: Taken) -> None:
        """While files are written: a disk that fills more than was reckoned, or by others, ends it (`NoRoom`)."""
        if not (await self.left()).lacking.is_nothing:
            raise NoRoom(Taken(2 * needed.size, 2 * needed.files))

    async def _size(self, item: bytes, stream: bytes) -> int:
        """What a copy takes of the disk."""
        if stream in self._takes:
            return self._takes[stream]
        try:
            wanted = wanted_files(await self._agent.holdings.manifest(stream))
            sizes = {file.path: file.size for file in wanted.values()}
        except LocalFailure as failure:
            if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                raise
            sizes = {note.path: note.size for note in (await self._known(item))[0].values()}
        return taken(sizes.values(), folders_above(sizes), (await self.left()).block_bytes).size
