"""How this device is: the health report that goes up, and how its last attempt to reach the server went (R10).

The report is sent only when it says something new. What always moves a little is therefore said roughly: the free space
of the disk keeps its last reported value until it has changed by an eighth, the clock's until it has drifted by
minutes. What a neighbour or a stick was given the server may hear later than what it took from here, and show: after
that the next report is always new.
"""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Self

from protocol import canonical
from protocol.canonical import Value
from protocol.clock import MAX_TIME_MS
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.fields import Fields
from protocol.limits import MAX_NAME_CHARS, MAX_SEEN_CHARS
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.replica.console.frame import installed_version
from protocol.replica.interfaces import EntryStore, RegisterRow
from sync_agent.app import Agent
from sync_agent.machine.marks import HEALTH_MARK, LAST_SYNC_MARK
from sync_agent.machine.refusals import refused_ids
from sync_agent.network.trouble import Seen, seen_as

REPORT_AGE_MS: Final = 3600 * 1000
"""A report is carried only to who has none of the last hour."""
_ROUGHLY: Final = 8
_MINUTE_MS: Final = 60_000
_SKEW_WORTH_SAYING_MS: Final = 2 * _MINUTE_MS
_MAX_SYSTEM_CHARS: Final = 64
_MAX_MARK_BYTES: Final = 1024


async def health_of(
    agent: Agent,
    backlog_entries: int,
    backlog_bytes: int,
    trouble: Code | None,
    *,
    oldest_ms: int | None = None,
    skew_ms: int = 0,
) -> Health:
    """The report as it stands: what the server has not taken yet, the trouble of the last attempt, room, the clock."""
    return Health(
        name=agent.enrolment.device_name[:MAX_NAME_CHARS],
        version=installed_version(),
        system=operating_system(),
        trouble=None if trouble is None else trouble.value,
        backlog_entries=backlog_entries,
        backlog_bytes=backlog_bytes,
        free_bytes=await agent.replica.content.free_bytes(),
        oldest_ms=oldest_ms,
        skew_ms=round(skew_ms / _MINUTE_MS) * _MINUTE_MS if abs(skew_ms) >= _SKEW_WORTH_SAYING_MS else None,
    )


def worth_saying(now: Health, last: Health | None) -> Health | None:
    """The report to send after `last` was taken by the server, or None while it says nothing new."""
    if last is None:
        return now
    if abs(now.free_bytes - last.free_bytes) * _ROUGHLY < last.free_bytes:
        now = replace(now, free_bytes=last.free_bytes)
    if abs((now.skew_ms or 0) - (last.skew_ms or 0)) <= _SKEW_WORTH_SAYING_MS:
        now = replace(now, skew_ms=last.skew_ms)
    return None if now == last else now


async def last_health(store: EntryStore) -> Health | None:
    """The report that the server last took."""
    body = await store.mark(HEALTH_MARK)
    try:
        return None if body is None else Health.parse(body)
    except PeerFault:
        return None


async def note_taken(store: EntryStore, health: Health, before: bytes | None) -> None:
    """The server has taken a report that was composed when the mark was `before`; not what went elsewhere since."""
    if await store.mark(HEALTH_MARK) == before:
        await store.set_marks({HEALTH_MARK: health.encode()})


@lru_cache(maxsize=1)
def operating_system() -> str:
    """The system that this machine runs, in a few words."""
    return f"{platform.system()} {platform.release()}".strip()[:_MAX_SYSTEM_CHARS]


@dataclass(frozen=True, slots=True)
class LastSync:
    """How things stand with the server.

    `at_ms`: when it last answered, by its own clock, or None. `reachable`: whether the last attempt got an answer.
    `skew_ms`: by how much this machine's clock is ahead of the server's (negative: behind). `seen`: what stood in the
    way at the last attempt, if anything.
    """

    at_ms: int | None
    reachable: bool
    skew_ms: int
    seen: Seen | None = None

    @classmethod
    async def read(cls, store: EntryStore) -> Self | None:
        """What the store remembers, or None before the first attempt."""
        data = await store.mark(LAST_SYNC_MARK)
        try:
            if data is None:
                return None
            fields = Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "the last attempt")
            trouble = fields.text_or_none("trouble", MAX_SEEN_CHARS)
            seen = None if trouble is None else seen_as(trouble, fields.text_or_none("about", MAX_SEEN_CHARS) or "")
            at_ms, skew_ms = fields.count_or_none("at"), fields.signed_or_none("skew") or 0
            # an earlier version may have noted what no clock shows, and no report has room for
            skew_ms = max(-MAX_TIME_MS, min(skew_ms, MAX_TIME_MS))
            return cls(at_ms, fields.flag("reachable"), skew_ms, seen)
        except PeerFault:
            return None

    def marks(self) -> dict[str, bytes | None]:
        """What to write into the store."""
        value: dict[str, Value] = {"at": self.at_ms, "reachable": self.reachable, "skew": self.skew_ms}
        if self.seen is not None:
            value |= {"trouble": self.seen.trouble.value, "about": self.seen.about[:MAX_SEEN_CHARS]}
        return {LAST_SYNC_MARK: canonical.encode(value)}


async def own_report(agent: Agent) -> RegisterRow:
    """How this device is, dated by the server's clock as far as it is known; for whoever passes it on.

    What the server took from here is from now on not its last word. A disk that has no room for that note keeps back
    no report.
    """
    store, content = agent.replica.store, agent.replica.content
    last = await LastSync.read(store)
    skew_ms = 0 if last is None else last.skew_ms
    entries, entry_bytes = await store.unsent_totals()
    entries += len(await refused_ids(store))
    packs = sum(pack.size for pack in await content.unsent_packs())
    health = await health_of(agent, entries, entry_bytes + packs, None, skew_ms=skew_ms)
    at_ms = max(0, agent.now_ms() - skew_ms)
    with contextlib.suppress(LocalFailure):
        await store.set_marks({HEALTH_MARK: at_ms.to_bytes(8)})
    device = agent.keys.signing
    data = compose_register(device, RegisterKind.HEALTH, device.public, at_ms, health.encode()).data
    return RegisterRow(RegisterKind.HEALTH, device.public, device.public, at_ms, data)
