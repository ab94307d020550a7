"""Whose word that work was opened has its machine let go of the key (docs/protocol.md, "Sealed hand-ins", W9).

Of a receipt two things are asked. Whether what keeps the work alive may let go of it (`hand_in_keys`): in doubt it
stays. Whether whoever comes to teach may still be given it: in doubt they may not. Whoever has the server arranges
doubts, and names readers months later; so nothing counts here that takes somebody's word away (docs/adr/0303). What the
root's own word holds back `heard_opened` leaves out (docs/adr/0469).

Rules:
- counted is whom this replica knows in the class, and whom these lead to by whatever was ever said there, as if nobody
  had been cut off, no grant were over, and nothing held back or erased;
- and, however new, who alone has ever said a reading key to which the work was sealed first: of a key that several have
  said nobody, since whoever has the server says hers of all work that waits. A word of which the header alone has come,
  and was never here whole, claims none: any device of theirs would claim all by one (docs/adr/0602, docs/adr/0620);
- a receipt counts by its header: nobody else could sign that, and a server gives it without what it says.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from protocol.folds.coursework import Work
from protocol.model.entry import Entry
from protocol.rights.door import Door
from protocol.rights.keys_in_use import claimed_keys, said_by
from protocol.rights.reachability import bits_led_to
from protocol.rights.roster import Roster, authorities_over
from protocol.rights.voices import voices_of
from protocol.rights.vouching import Device


@dataclass(frozen=True, slots=True)
class Openers:
    """Whose receipts count, by the keys as which their machines began: of all work, and of what a key opens."""

    led_to: frozenset[bytes]
    made_by: Mapping[bytes, frozenset[bytes]]

    def have_opened(self, work: Work | None, said: frozenset[bytes]) -> bool:
        """Whether one of the machines that say to have opened a work counts; None of one that is not shown.

        Of such a one nobody new counts: who hides it for an hour says meanwhile whatever they like.
        """
        meant_for = () if work is None else work.meant_for
        return bool(said & self.led_to) or any(said & self.made_by.get(key, frozenset()) for key in meant_for)


def openers_of(
    roster: Roster,
    door: Door,
    said: Sequence[Entry],
    known: Iterable[Device],
    recovery: Collection[bytes],
    destroyed: AbstractSet[bytes],
) -> Openers:
    """Those of one class, by all that was ever `said` of keys and of devices there.

    `known` are the devices that this replica knows there; `recovery` are the keys of all kits: everybody's work is
    sealed to them, and anybody may say one as theirs. `destroyed` are the words about keys that this replica destroyed.
    """
    claimed = claimed_keys((entry for entry in said if not _came_alone(entry, destroyed)), door)
    alone = {key: devices for key, devices in said_by(said, door).items() if key not in claimed and key not in recovery}
    return Openers(
        _machines(_ever_led_to(known, roster, door, said), door),
        {key: _machines(devices, door) for key, devices in alone.items()},
    )


def _came_alone(entry: Entry, destroyed: AbstractSet[bytes]) -> bool:
    """Whether the header alone is here, and always was: who was forgotten is named by whom it pleases."""
    return entry.payload is None and entry.id not in destroyed


def _machines(devices: Iterable[Device], door: Door) -> frozenset[bytes]:
    return frozenset(door.began_as(key) for key, _ in devices)


def _ever_led_to(known: Iterable[Device], roster: Roster, door: Door, said: Iterable[Entry]) -> set[Device]:
    voices = voices_of(
        said,
        authorities_over(roster.space, door),
        door,
        cut=(),
        came_back=(),
        again={},
    )
    words = voices.words
    return set(bits_led_to(known, lambda voice: (word.device for word in words.get(voice, ())), lambda _: 0))
