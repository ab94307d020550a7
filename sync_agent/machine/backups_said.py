"""Which backups the server has said that it has, and since when: what lets content go waits a month for that word (R8).

Rules:
- a backup holds what the server held when it was begun, and nothing of the time after that word: whoever has the server
  for an hour says one of tomorrow;
- it counts since this device first heard of it, from one and the same store; a server that says of none, or of none as
  new any more, has taken the word back;
- one a day is noted, and of those that have been said for a month only the newest: a month of rows is enough.

docs/protocol.md, "Messages"; docs/adr/0476. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import DAY_MS
from protocol.limits import RECEIPT_PROOF_MS
from sync_agent.machine.eviction import SEEN_BYTES, Seen

_ROW_BYTES: Final = SEEN_BYTES + 8


@dataclass(frozen=True, slots=True)
class BackupSaid:
    """A backup that was begun then, ms by the server's clock, and when this device first heard of one as new."""

    begun_ms: int
    heard: Seen


Backups = tuple[BackupSaid, ...]
"""In the order in which they were heard of, and begun."""


def with_said(known: Backups, begun_ms: int | None, now: Seen) -> Backups:
    """What is known once the server has said when its newest backup was begun, or that there is none."""
    if begun_ms is None:
        return ()
    still = tuple(one for one in known if one.begun_ms <= begun_ms)
    last = still[-1] if still else None
    begun_ms = min(begun_ms, now.server_ms)
    if last is None or (last.begun_ms < begun_ms and now.own_ms - last.heard.own_ms >= DAY_MS):
        still = (*still, BackupSaid(begun_ms, now))
    old = sum(has_waited(one.heard, now) for one in still)
    return still[max(0, old - 1) :]


def has_waited(seen: Seen, now: Seen) -> bool:
    """Whether something has been seen for thirty days, in time that was watched and by the server's."""
    return min(now.own_ms - seen.own_ms, now.server_ms - seen.server_ms) >= RECEIPT_PROOF_MS


def is_safe_elsewhere(seen: Seen | None, backups: Iterable[BackupSaid], now: Seen | None) -> bool:
    """Whether the server has kept something for thirty days, and said for as long that a backup holds it too.

    `now` is where the time that was watched stands, and the server's time as it was last proven.
    """
    if seen is None or now is None or not has_waited(seen, now):
        return False
    return any(seen.server_ms <= one.begun_ms and has_waited(one.heard, now) for one in backups)


def encoded(backups: Sequence[BackupSaid]) -> bytes | None:
    """For a mark; None where there is nothing to note."""
    return b"".join(one.begun_ms.to_bytes(8, "big") + one.heard.encode() for one in backups) or None


def parsed(mark: bytes | None) -> Backups:
    """From a mark. An earlier version noted the time of the newest alone: since when that was said, nobody knows."""
    rows = (mark or b"")[: len(mark or b"") // _ROW_BYTES * _ROW_BYTES]
    return tuple(
        BackupSaid(int.from_bytes(rows[at : at + 8], "big"), Seen.parse(rows[at + 8 : at + _ROW_BYTES]))
        for at in range(0, len(rows), _ROW_BYTES)
    )
