"""The weeks of erasures: since when each holds here, in no doubt, without a break (docs/protocol.md, "Erasure").

Rules:
- a look begins a week for what it sees hold, and ends that of what it does not;
- so does whatever comes: before anything does into the space of an erasure, or one above it, it is looked whether that
  holds at this moment. Between two such moments nothing moves it: no break is so short that no look sees it, and what
  a crash leaves is looked at as it lies (docs/adr/0475);
- marks of what does not hold go in the transaction in which that comes;
- folds cost: of more spaces than a request names those nearest to the territory are looked at, and in the others each
  week is over. A week that is too long destroys nothing. But fewer would do harm: each head teacher of a region has
  leavers forgotten in the same days of July;
- the root's are looked at by looks alone: nobody else breaks them. What was obeyed here holds for that, and waits no
  more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from protocol.limits import MAX_SPACES_PER_REQUEST
from protocol.model.entry import Entry
from protocol.replica.at_work.destroyed import carried_out
from protocol.replica.interfaces import EntryStore
from protocol.rights.door import Door
from protocol.rights.roster import Roster

SEEN_MARKS: Final = "erasure-seen/"
"""+ erasure in hex → 8 bytes of ms: since when this replica has seen it hold, in no doubt, without a break."""
_MOST_SPACES: Final = MAX_SPACES_PER_REQUEST
"""In so many it is looked what holds before something comes."""

_Running = dict[bytes, dict[bytes, bytes]]
"""By the space in which they lie: each erasure → its author."""
RosterOf = Callable[[bytes], Awaitable[Roster]]


class _Judged(NamedTuple):
    """What the fold of a space said when all weeks in it ran: whether they do hangs on nothing else."""

    held_back: frozenset[bytes]
    undone: frozenset[bytes]
    cut: frozenset[bytes]

    def breaks(self, erasure: bytes, author: bytes) -> bool:
        """Whether an erasure does not hold, or is in doubt."""
        return erasure in self.held_back or erasure in self.undone or author in self.cut


class Weeks:
    """Those that run in one replica."""

    def __init__(self, store: EntryStore) -> None:
        """Nothing is read yet."""
        self._store = store
        self._running: _Running | None = None
        self._judged: dict[bytes, _Judged] = {}

    async def noted(self) -> dict[bytes, int]:
        """Since when erasures have been seen to hold here, by the own clock in ms."""
        return {
            bytes.fromhex(key.removeprefix(SEEN_MARKS)): int.from_bytes(at, "big", signed=True)
            for key, at in (await self._store.marks(SEEN_MARKS)).items()
        }

    async def look(self, sure: Collection[Entry], now_ms: int) -> dict[bytes, int]:
        """Since when these hold, all that do in no doubt; noted from now on. Raises `LocalFailure`."""
        noted = await self.noted()
        since = {entry.id: min(noted.get(entry.id, now_ms), now_ms) for entry in sure}
        marks = {SEEN_MARKS + name.hex(): _since_mark(at) for name, at in since.items() if noted.get(name) != at}
        begins_by_kit = any(entry.header.grant is None and entry.id not in noted for entry in sure)
        await self._store.set_marks({**marks, **_ended(noted.keys() - since.keys())}, by_kit=begins_by_kit)
        await self._run(sure)
        return since

    async def less(self, leapt_ms: int) -> dict[str, bytes | None]:
        """The marks to note when the own clock has leapt by so many ms."""
        return {SEEN_MARKS + name.hex(): _since_mark(at + leapt_ms) for name, at in (await self.noted()).items()}

    async def broken(self, spaces: AbstractSet[bytes], door: Door, roster_of: RosterOf) -> dict[str, bytes | None]:
        """The marks to let go of before something comes into `spaces`: of what does not hold now, or is in doubt.

        Where that does not become durable, `forget` is to be called. Raises `LocalFailure`.
        """
        if not door.has_erasures:
            return {}
        running, judged = await self._all_running(), self._judged
        moved = [space for space, here in running.items() if here and not spaces.isdisjoint(door.lineage(space))]
        moved.sort(key=lambda space: (len(door.lineage(space)), space))
        over = {one for space in moved[_MOST_SPACES:] for one in running.pop(space)}
        for space in moved[:_MOST_SPACES]:
            roster = await roster_of(space)
            now = _Judged(roster.held_back, roster.undone, roster.cut)
            if judged.get(space) != now:
                here = {one for one, author in running[space].items() if now.breaks(one, author)}
                running[space] = {one: author for one, author in running[space].items() if one not in here}
                judged[space] = now
                over |= here
        return _ended(over)

    def forget(self) -> None:
        """Read anew what runs, and look at all of it, the next time."""
        self._running, self._judged = None, {}

    async def _all_running(self) -> _Running:
        if self._running is None:
            await self._run((await self._store.get(list(await self.noted()))).values())
        return self._running or {}

    async def _run(self, erasures: Iterable[Entry]) -> None:
        obeyed = await carried_out(self._store)
        running: defaultdict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        for entry in erasures:
            if entry.header.grant is not None and entry.id not in obeyed:
                running[entry.header.space][entry.id] = entry.header.author
        self._running, self._judged = dict(running), {}


def _ended(erasures: Iterable[bytes]) -> dict[str, bytes | None]:
    return {SEEN_MARKS + name.hex(): None for name in erasures}


def _since_mark(at_ms: int) -> bytes:
    """Less than 0 where the own clock is at its beginning, and something has waited for longer than that."""
    return at_ms.to_bytes(8, "big", signed=True)
