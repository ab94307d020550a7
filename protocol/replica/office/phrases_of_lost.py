"""Which phrases a lost device drew: whoever has such a paper is its person's on any computer that comes in as theirs.

Rules (docs/adr/0247):
- what a device said before its report stands, unless a time is given: so does a phrase that a thief drew on it;
- nobody can tell hers from a thief's: the day of each is said, for she knows which paper she wrote;
- the latest are looked at, and so many: each is a signature, and a thief draws as many as he likes;
- what others than this office and the root hold back is told as well (docs/adr/0502).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_without import held_surely
from protocol.rights.vouching import is_drawn_by
from protocol.trust.person_keys import PhraseKey

MAX_PHRASES: Final = 50


@dataclass(frozen=True, slots=True)
class Drawn:
    """A phrase, by the public half of its key, and when it was said first.

    It `counts` where nothing holds it back, or others' words alone: they let it count again whenever they like.
    """

    agreement: bytes
    drawn_ms: int
    counts: bool

    def row(self) -> dict[str, JSON]:
        """As commands say it."""
        return {"phrase": self.agreement.hex(), "drawn": rfc3339(self.drawn_ms), "counts": self.counts}


async def phrases_of_lost(office: Office, lost: bytes, spaces: Collection[bytes]) -> tuple[Drawn, ...]:
    """Those that it drew in some spaces, the latest first."""
    said = [
        entry
        for entry in await office.replica.store.scan_kinds([Kind.PHRASE])
        if entry.header.author == lost and entry.header.space in spaces
    ]
    found: dict[bytes, list[Entry]] = {}
    for entry in sorted(said, key=lambda each: (-each.header.at, each.id)):
        phrase = parsed(entry, PhraseKey.parse)
        if phrase is not None:
            found.setdefault(phrase.agreement, []).append(entry)
    drawn = [
        Drawn(agreement, min(each.timestamp_ms for each in entries), await _counts(office, entries))
        for agreement, entries in list(found.items())[:MAX_PHRASES]
        if _is_its_own(office, entries)
    ]
    return tuple(sorted(drawn, key=lambda each: (-each.drawn_ms, each.agreement)))


def _is_its_own(office: Office, entries: Collection[Entry]) -> bool:
    """Whether the device that says a phrase drew it: what others drew it may say as well."""
    for entry in entries:
        phrase, given = parsed(entry, PhraseKey.parse), office.replica.door.authority(entry.header.grant)
        if phrase is not None and given is not None and given.person is not None:
            return is_drawn_by(phrase, given.person, given.pair, entry.header.space)
    return False


async def _counts(office: Office, entries: Collection[Entry]) -> bool:
    for entry in entries:
        roster = (await office.replica.view(entry.header.space)).roster
        if roster.is_erased(entry) or roster.is_frozen(entry):
            continue
        if entry.id not in roster.held_back:
            return True
        if entry.id not in (await held_surely(office, [entry.header.space]))[entry.header.space]:
            return True
    return False
