"""What an administrator should know of the server itself, said on the overview; `verify` says what is a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sync_server.app import Server


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
