"""Entries on their way through the door together, in whatever order they came (R7; docs/protocol.md, "Admission").

Rules:
- what was let in lets in what waited for it, at once, however long the line is: the result never depends on the order;
- an entry is looked at again only when an id that it waits for has become known, so that no order costs more;
- of two copies of one entry the one with its payload counts.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace

from protocol.errors import Code
from protocol.model.entry import Entry
from protocol.replica.interfaces import Held
from protocol.rights.door import Door, Outcome


def names_awaited(door: Door, held: Held) -> tuple[bytes, ...]:
    """The ids that would let a waiting entry in, or bring it nearer to it."""
    return door.awaited(held.entry) if held.missing is None else (held.missing,)


class Passage:
    """What became of the entries that were judged: admitted ones in order, those that wait, those that were refused.

    The door learns what is admitted; `learned` are the ids that became known by it.
    """

    def __init__(self, door: Door) -> None:
        self.admitted: dict[bytes, Entry] = {}
        self.waiting: dict[bytes, Held] = {}
        self.refused: dict[bytes, Code] = {}
        self.learned: set[bytes] = set()
        self._door = door
        self._awaiting: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)

    def judge(self, held: Held, *, signed: bool) -> None:
        """Judge an entry whose signature holds or not, and then whatever waited for it."""
        pending = deque([(held, signed)])
        while pending:
            one, holds = pending.popleft()
            told = self._examine(one, signed=holds)
            if told is not None:
                self.learned.add(told)
                # Only what is signed ever waits.
                woken = (self.waiting.get(name) for name in self._awaiting.pop(told, ()))
                pending.extend((waiting, True) for waiting in woken if waiting is not None)

    def _examine(self, held: Held, *, signed: bool) -> bytes | None:
        """Judge one entry; the id that has become known by it, if any."""
        entry = held.entry
        other = self.waiting.get(entry.id)
        if other is held:
            other = None
        if entry.id in self.admitted or (other is not None and entry.payload is None):
            return None
        verdict = self._door.examine(entry, signed=signed)
        if verdict.outcome is Outcome.REFUSE:
            if other is None:
                self.waiting.pop(entry.id, None)
                self.refused[entry.id] = verdict.code or Code.MALFORMED
            return None
        self.refused.pop(entry.id, None)
        if verdict.outcome is Outcome.ADMIT:
            self.waiting.pop(entry.id, None)
            self.admitted[entry.id] = entry
            return self._door.learn(entry)
        waiting = replace(held, missing=verdict.missing)
        self.waiting[entry.id] = waiting
        for name in names_awaited(self._door, waiting):
            self._awaiting[name][entry.id] = None
        return None
