"""What an administrator should know of the server itself, said on the overview; `verify` says what is a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sync_server.handlers.overview.spoken_elsewhere import Spoken, spoken_elsewhere
from sync_server.opened.app import Server

NONE_MADE_AFTER_MS: Final = 24 * 3600 * 1000
"""That there is no backup is said so long after the first device has come."""
OLD_AFTER_MS: Final = 2 * NONE_MADE_AFTER_MS
"""A backup is made every night; one may fail."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A topic, which the catalogues have words for, and the facts that belong into them."""

    topic: str
    facts: Mapping[str, str | int] = field(default_factory=dict)


def notices(server: Server) -> list[Notice]:
    """All of them, the gravest first; none if all is well."""
    found = []
    if server.replica.door.contested_roots:
        found.append(Notice("contested-root"))
    if server.callers_are_unknown:
        found.append(Notice("unknown-callers"))
    count = sum(server.unforeseen.counts().values())
    if count:
        met = server.unforeseen.rows()[0]
        found.append(Notice("unforeseen", {"count": count, "work": met.work, "what": met.what, "where": met.where}))
    return found


async def key_notices(server: Server) -> list[Notice]:
    """That a key has spoken elsewhere: this server's, or one of before; or what a damaged database lost comes back."""
    return [
        Notice(_topic_of(each), {"count": each.heard.count, "at_ms": each.heard.first_ms})
        for each in await spoken_elsewhere(server)
    ]


def _topic_of(spoken: Spoken) -> str:
    if spoken.is_call_alone:
        return "key-called"
    if spoken.is_of_before:
        return "spoken-elsewhere-before"
    return "spoken-elsewhere" if spoken.lost_ms is None else "spoken-elsewhere-or-lost"


def backup_notices(backup_ms: int | None, first_ms: int | None, now_ms: int) -> list[Notice]:
    """What there is to say about backups: none, or an old one. `first_ms` is when the first device came."""
    if first_ms is None:
        return []
    if backup_ms is None:
        return [Notice("no-backup")] if now_ms - first_ms >= NONE_MADE_AFTER_MS else []
    return [Notice("old-backup", {"at_ms": backup_ms})] if now_ms - backup_ms >= OLD_AFTER_MS else []
