"""What somebody, or a class, was ever called, and since when: whoever orders something by a name is told all of it.

Rules (docs/adr/0160, 0289):
- whoever writes a list, or has the server's key, chooses what somebody is called now, and dates it as they please; not
  what was here before. So all names are said, in the order in which they came here;
- names that are held back by now are among them: who holds back may have said what came next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.model.entry import Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.text import local_time

MAX_NAMES_SHOWN: Final = 4
"""Of all that somebody was ever called: the first that came here."""


@dataclass(frozen=True, slots=True)
class Mentioned:
    """What lists ever called somebody, in the order in which that came here; on which, and since when by its date.

    `last` is what came last.
    """

    names: tuple[str, ...] = ()
    spaces: tuple[bytes, ...] = ()
    since_ms: tuple[int, ...] = ()
    last: str = ""

    def shown(self) -> str:
        """The names for a line of a command."""
        return ", then ".join(f"“{name}”" for name in self.names[:MAX_NAMES_SHOWN]) or "somebody without a name here"

    def called(self, now: str) -> str:
        """Who is called `now` today, with whatever else lists ever called them: a name alone may be somebody else's."""
        since = dict(zip(self.names, self.since_ms, strict=True))
        others = [f"“{name}” since {day_of(since[name])}" for name in self.names if name != now][:MAX_NAMES_SHOWN]
        if not others:
            return f"“{now}”"
        so_since = f"called so since {day_of(since[now])}" if now in since else "called so now"
        return f"“{now}” ({so_since}; other names here: {', '.join(others)})"


async def mentioned(replica: Replica, persons: Collection[bytes] | None = None) -> dict[bytes, Mentioned]:
    """What each of these people, or whoever was ever listed, was ever called, and where."""
    names: dict[bytes, dict[str, int]] = {person: {} for person in persons or ()}
    spaces: dict[bytes, dict[bytes, None]] = {person: {} for person in persons or ()}
    last: dict[bytes, str] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        person, record = entry.header.subject or b"", parsed(entry, PersonRecord.parse)
        if record is not None and (persons is None or person in persons):
            names.setdefault(person, {}).setdefault(record.name, entry.timestamp_ms)
            spaces.setdefault(person, {}).setdefault(entry.header.space)
            last[person] = record.name
    return {
        person: Mentioned(tuple(said), tuple(spaces[person]), tuple(said.values()), last.get(person, ""))
        for person, said in names.items()
    }


def day_of(at_ms: int) -> str:
    """A time for a line of a command."""
    return local_time(rfc3339(at_ms) or "")
