"""What a head teacher is shown while she leads a drill: one step after the other, ticked by what her device has seen.

Rules:
- a step is ticked by nothing but entries, and by what devices near this one have shown; nobody ticks one by hand;
- what was seen on the network is noted while the drill runs, since it can be seen no more afterwards;
- a step that needs a stick is offered, and held against nobody.

docs/protocol.md, "Measures".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol import canonical
from protocol.errors import PeerFault
from protocol.folds.coursework import Version, Work
from protocol.folds.measures import Drill
from sync_agent.app import Agent
from sync_agent.machine.marks import BROUGHT_MARKS, CARRIED_MARKS, DRILL_SEEN_MARK
from sync_agent.portal.wording import Words

_MAX_MARK_BYTES: Final = 256
OPTIONAL: Final = frozenset({"stick"})


@dataclass(frozen=True, slots=True)
class Observed:
    """What this device has seen of a drill.

    `heard`: on how many devices that the server is out of reach; `title` of what was published and is on most devices,
    `holding` on how many; `handed_in` how many works, of which `safe` in other hands before the end, `by_stick` on a
    stick's way, and `sent` at the server by now.
    """

    heard: int
    title: str | None
    holding: int
    handed_in: int
    safe: int
    by_stick: int
    sent: int


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the list: which, whether it is ticked, whether it is the next one, and what was seen of it."""

    key: str
    done: bool
    is_next: bool
    seen: str

    @property
    def is_optional(self) -> bool:
        """Whether a drill is complete without it."""
        return self.key in OPTIONAL


class Watcher:
    """Looks at what goes on in a drill; remembers where this device stood when it first saw what was published."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._arrived: dict[bytes, int] = {}

    async def observe(self, drill: Drill, *, running: bool) -> Observed:
        """What has been seen of a drill up to now."""
        agent = self._agent
        published: list[tuple[int, Version]] = []
        works: list[Work] = []
        for space in await agent.spaces():
            if drill.space not in agent.replica.door.lineage(space):
                continue
            coursework = (await agent.replica.view(space)).coursework
            versions = [version for item in coursework.items.values() for version in item.versions.values()]
            published += [
                (await self._holding(space, version) if running else 0, version)
                for version in versions
                if drill.start_ms <= version.at_ms <= drill.end_ms
            ]
            works += [work for work in coursework.hand_ins.values() if drill.start_ms <= work.at_ms <= drill.end_ms]
        most = max(published, key=lambda each: (each[0], each[1].at_ms, each[1].id), default=None)
        heard = max(agent.around.cut(), agent.live_neighbours()) if running else 0
        heard, holding = await self._noted(drill, heard, 0 if most is None else most[0])
        return Observed(
            heard=heard,
            title=None if most is None else most[1].record.title,
            holding=holding,
            handed_in=len(works),
            safe=sum(any(witness.at_ms <= drill.end_ms for witness in work.witnesses) for work in works),
            by_stick=await self._by_stick(works),
            sent=sum(work.at_server for work in works),
        )

    async def _holding(self, space: bytes, version: Version) -> int:
        """On how many devices in touch a version is, as a whole."""
        if version.id not in self._arrived:
            # whoever has all that was here when it was first seen has the entry too
            self._arrived[version.id] = (await self._agent.replica.position(space)).count
        return len(self._agent.around.holding(space, self._arrived[version.id], version.record.content.stream))

    async def _by_stick(self, works: list[Work]) -> int:
        """How many works a stick has brought here, or was given here."""
        store = self._agent.replica.store
        marks = (*await store.marks(BROUGHT_MARKS), *await store.marks(CARRIED_MARKS))
        known = {mark.rpartition("/")[2] for mark in marks}
        return sum(work.id.hex() in known for work in works)

    async def _noted(self, drill: Drill, heard: int, holding: int) -> tuple[int, int]:
        """The most that was seen of both, noted when it is more than before."""
        store = self._agent.replica.store
        before = (0, 0)
        try:
            match canonical.decode(await store.mark(DRILL_SEEN_MARK) or b"", max_bytes=_MAX_MARK_BYTES):
                case [bytes(name), int(first), int(second)] if name == drill.id:
                    before = first, second
        except PeerFault:
            pass
        most = max(heard, before[0]), max(holding, before[1])
        if most != before:
            await store.set_marks({DRILL_SEEN_MARK: canonical.encode([drill.id, *most])})
        return most


def steps_of(seen: Observed, say: Words, *, is_over: bool) -> list[Step]:
    """The list as it stands; `is_over`: the drill has ended, and what was handed in is on its way to the server."""
    rows = [
        ("cut", seen.heard > 0, say.count("drill.seen_cut", seen.heard) if seen.heard else ""),
        (
            "publish",
            seen.title is not None and seen.holding > 0,
            ""
            if seen.title is None
            else f"{say('drill.seen_publish', title=seen.title)} {say.count('drill.seen_holding', seen.holding)}",
        ),
        ("hand_in", seen.handed_in > 0, say.count("drill.seen_hand_in", seen.handed_in) if seen.handed_in else ""),
        (
            "safe",
            0 < seen.handed_in == seen.safe,
            say.count("drill.seen_safe", seen.safe, total=seen.handed_in) if seen.handed_in else "",
        ),
        ("stick", seen.by_stick > 0, say.count("drill.seen_stick", seen.by_stick) if seen.by_stick else ""),
    ]
    if is_over:
        arrived = say.count("drill.seen_sent", seen.sent, total=seen.handed_in) if seen.handed_in else ""
        rows.append(("sent", seen.handed_in == seen.sent, arrived))
    waiting = [key for key, done, _ in rows if not done]
    needed = [key for key in waiting if key not in OPTIONAL]
    if is_over:
        needed, waiting = [key for key in needed if key == "sent"], []
    following = next(iter(needed or waiting), None)
    return [Step(key, done, key == following, words) for key, done, words in rows]
