"""Which phrases a lost device drew: whoever has such a paper is its person's on any computer that comes in as theirs.

Rules (docs/adr/0247):
- what a device said before its report stands, unless a time is given: so does a phrase that a thief drew on it;
- nobody can tell hers from a thief's: the day of each is said, for she knows which paper she wrote;
- what others drew it may say as well, and so may a thief, in later words without end: what it did not draw takes the
  place of nothing that it did. Each look is a signature, so there are not more than so many, the latest first; what is
  not looked at is told as its own (docs/adr/0556);
- what others than this office and the root hold back is told as well (docs/adr/0502).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from protocol.clock import rfc3339
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_without import held_surely
from protocol.rights.roster import Roster
from protocol.rights.vouching import is_drawn_by
from protocol.trust.person_keys import PhraseKey

MAX_PHRASES: Final = 50
MAX_LOOKED_AT: Final = 512


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
    rosters = {space: (await office.replica.view(space)).roster for space in {each.header.space for each in said}}
    held = {each.header.space for each in said if each.id in rosters[each.header.space].held_back}
    surely = await held_surely(office, held)
    drawn = [
        Drawn(agreement, min(each.timestamp_ms for each in entries), _counts(rosters, surely, entries))
        for agreement, entries in islice(_its_own(office, said).items(), MAX_LOOKED_AT)
    ]
    told = sorted(drawn, key=lambda each: not each.counts)[:MAX_PHRASES]
    return tuple(sorted(told, key=lambda each: (-each.drawn_ms, each.agreement)))


def _its_own(office: Office, said: Iterable[Entry]) -> dict[bytes, Collection[Entry]]:
    """The phrases that the device drew, the latest first, each with all words that say it."""
    words = defaultdict[bytes, list[Entry]](list)
    own: dict[bytes, Collection[Entry]] = {}
    looked_at = 0
    for entry in sorted(said, key=lambda each: (-each.header.at, each.id)):
        phrase = parsed(entry, PhraseKey.parse)
        if phrase is None or phrase.proof is None:
            continue  # without a proof it is nobody's
        words[phrase.agreement].append(entry)
        if phrase.agreement not in own:
            looked_at += 1
            if looked_at > MAX_LOOKED_AT or _is_drawn_on_it(office, entry, phrase):
                own[phrase.agreement] = words[phrase.agreement]
    return own


def _is_drawn_on_it(office: Office, entry: Entry, phrase: PhraseKey) -> bool:
    given = office.replica.door.authority(entry.header.grant)
    if given is None or given.person is None:
        return False
    return is_drawn_by(phrase, given.person, given.pair, entry.header.space)


def _counts(
    rosters: Mapping[bytes, Roster], surely: Mapping[bytes, Container[bytes]], entries: Iterable[Entry]
) -> bool:
    """Whether one of these words counts, or is held back by others' words alone; `surely` is what is so by ours."""
    for entry in entries:
        roster = rosters[entry.header.space]
        if roster.is_erased(entry) or roster.is_frozen(entry):
            continue
        if entry.id not in roster.held_back or entry.id not in surely[entry.header.space]:
            return True
    return False
