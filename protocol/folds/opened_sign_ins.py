"""Whose sign-in a device that is cut off could open: who has it guesses three pictures in a minute.

Rules (docs/adr/0281):
- a sign-in in force is told that was set by a device which is cut off, or lies under a key that such a one was given;
- it is given a key by the word of who may make such keys; by a machine's, of keys alone that were in use before it was
  cut off: who draws a key later knows of that and gives it none, and any machine may say that it did;
- not told is a device whose key another that holds sign-ins has as well: what is drawn anew, that one is given too;
- who is let in again is cut off no more, and a right that ended says of nobody that a computer is in other hands;
- this is told and changes nothing: whoever has the server cuts devices off as it likes, and would shut pupils out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.folds.sign_in import SignIns, holders
from protocol.rights.door import Door
from protocol.rights.roster import Roster


@dataclass(frozen=True, slots=True)
class Gone:
    """A device that is cut off: its Ed25519 key, its X25519 keys, and the hybrid time of its last revocation."""

    key: bytes
    agreements: frozenset[bytes]
    cut_at: int


def gone_from(roster: Roster, door: Door, said_at: Mapping[bytes, int]) -> list[Gone]:
    """The devices that revocations have cut off from a space, the last one first; `said_at` is when each was said."""
    last: dict[bytes, int] = {}
    for revocation, key in roster.revocations.items():
        if revocation not in roster.ends:
            last[key] = max(last.get(key, 0), said_at.get(revocation, 0))
    held = frozenset(holders(roster, door.territory))
    found = []
    for key in sorted(roster.cut):
        cut_at = last.get(key, last.get(door.origin(key)))  # what came of it by successors went with it
        if cut_at is not None:
            own = frozenset(each.agreement for each in door.authorities_of(key))
            found.append(Gone(key, own - held, cut_at))
    return sorted(found, key=lambda device: -device.cut_at)


def opened_by(sign_ins: SignIns, gone: Iterable[Gone]) -> dict[bytes, list[bytes]]:
    """Whose sign-in in force devices that are cut off could open: person → the devices."""
    lies_under = {person: mine.record.key for person, mine in sign_ins.persons.items() if mine.is_set}
    gone = list(gone)  # somebody may have cut off thousands, and a class has few keys
    had = {name: [device.key for device in gone if _had(sign_ins, name, device)] for name in sign_ins.uses}
    return {person: had[name] for person, name in lies_under.items() if name is not None and had[name]}


def _had(sign_ins: SignIns, name: bytes, device: Gone) -> bool:
    use, given = sign_ins.uses[name], sign_ins.given
    if device.key in use.by or not device.agreements.isdisjoint(given.by_makers.get(name, frozenset())):
        return True
    return use.since < device.cut_at and not device.agreements.isdisjoint(given.of(name))
