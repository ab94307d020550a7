"""Whose sign-in a device that is cut off could open: who has it guesses three pictures in a minute.

Rules (docs/adr/0281, docs/adr/0346, docs/adr/0609, docs/adr/0610):
- a sign-in in force is told that was set by a device which is cut off, or lies under a key that such a one was given,
  or drew;
- it has drawn each key that it has named, but for one that somebody else says to have drawn who is not out: by no
  date, as what others say moves the clock of whoever sets something, and who has not heard of a report sets on;
- cut off is also who fell with whoever let them in: a grant of it is held back;
- what is gone is an X25519 key: one that a grant named that is held back, beside an honest computer's signing key, is;
- it is given a key by the word of who may make such keys; by a machine's of keys alone that were in use before it was
  cut off: who draws a key later knows of that and gives it none, and any machine may say that it did;
- not told is a device whose key another that holds sign-ins has as well: what is drawn anew, that one is given too;
- who is let in again is cut off no more, and a right that ended says of nobody that a computer is in other hands;
- this is told and changes nothing: whoever has the server cuts devices off as it likes, and would shut pupils out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from protocol.folds.sign_in import SignIns, holders
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster
from protocol.roles import Role


@dataclass(frozen=True, slots=True)
class Gone:
    """A device that is cut off: its Ed25519 key, its X25519 keys, and since when, as a hybrid time.

    That of its last revocation; of one that fell with who let it in, of the last of these. Or, of a device that is not
    cut off, the X25519 keys that were named beside it by grants that fell: what it signed itself `is_its_own`.
    """

    key: bytes
    agreements: frozenset[bytes]
    cut_at: int
    is_its_own: bool = False


def gone_from(roster: Roster, door: Door, said_at: Mapping[bytes, int]) -> list[Gone]:
    """The devices that are cut off from a space, the last one first; `said_at` is when each revocation was said."""
    last: dict[bytes, int] = {}
    ended: dict[bytes, int] = {}
    for revocation, key in roster.revocations.items():
        of_its_kind = ended if revocation in roster.ends else last
        of_its_kind[key] = max(of_its_kind.get(key, 0), said_at.get(revocation, 0))
    held = frozenset(holders(roster, door.territory))
    fell = _Fell(roster, door, {**ended, **last})
    found = []
    for key in sorted(roster.cut):
        cut_at = last.get(key, last.get(door.origin(key)))  # what came of it by successors went with it
        if cut_at is None:
            cut_at = fell.at(key)
        if cut_at is not None:
            own = frozenset(each.agreement for each in door.authorities_of(key))
            found.append(Gone(key, own - held, cut_at))
    found += _named_beside(roster, held, fell)
    return sorted(found, key=lambda device: -device.cut_at)


def _named_beside(roster: Roster, held: frozenset[bytes], fell: _Fell) -> Iterable[Gone]:
    """The X25519 keys that grants have named which are held back, beside devices that are not cut off."""
    beside: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for each in roster.former:
        if each.grant in roster.held_back and each.key not in roster.cut and each.agreement not in held:
            beside[each.key].add(each.agreement)
    for key, agreements in beside.items():
        cut_at = fell.at(key)
        if cut_at is not None:
            yield Gone(key, frozenset(agreements), cut_at, is_its_own=True)


class _Fell:
    """When devices fell with those who let them in: as the last of these was cut off, or lost the right to."""

    def __init__(self, roster: Roster, door: Door, ended_at: Mapping[bytes, int]) -> None:
        """`ended_at` is when each key was cut off, or a right of it ended."""
        self._roster, self._door, self._ended_at = roster, door, ended_at
        self._known: dict[bytes, int] = {}
        # a certificate that no later one names goes without a revocation
        self._named_at = max((each.at for each in roster.authorities if each.role is Role.SERVER), default=0)

    def at(self, key: bytes) -> int | None:
        """None for who did not: no grant of theirs is held back."""
        held = [each for each in self._door.authorities_of(key) if each.grant in self._roster.held_back]
        return max(map(self._grant_at, held), default=None)

    def _grant_at(self, given: Authority) -> int:
        line = []
        here: Authority | None = given
        while here is not None and here.grant in self._roster.held_back and here.grant not in self._known:
            line.append(here)
            here = self._door.authority(here.under)
        at = 0 if here is None else self._known.get(here.grant, 0)
        for one in reversed(line):
            at = max(at, self._ended_at.get(one.author, self._named_at if one.under is None else 0))
            self._known[one.grant] = at
        return at


def opened_by(sign_ins: SignIns, gone: Iterable[Gone]) -> dict[bytes, list[bytes]]:
    """Whose sign-in in force devices that are cut off could open: person → the devices."""
    lies_under = {person: mine.record.key for person, mine in sign_ins.persons.items() if mine.is_set}
    gone = list(gone)  # somebody may have cut off thousands, and a class has few keys
    had = {name: [device.key for device in gone if _had(sign_ins, name, device)] for name in sign_ins.uses}
    return {person: had[name] for person, name in lies_under.items() if name is not None and had[name]}


def _had(sign_ins: SignIns, name: bytes, device: Gone) -> bool:
    use, given = sign_ins.uses[name], sign_ins.given
    if not device.is_its_own and (device.key in use.by or _has_drawn(sign_ins, name, device.key)):
        return True
    if not device.agreements.isdisjoint(given.by_makers.get(name, frozenset())):
        return True
    return not device.agreements.isdisjoint(given.of(name)) and use.since < device.cut_at


def _has_drawn(sign_ins: SignIns, name: bytes, device: bytes) -> bool:
    """Whether a device that is cut off may have drawn a key: nobody who is not says so, and it has named it."""
    is_named = device in sign_ins.unknown or device in sign_ins.claimed.get(name, ())
    return is_named and name not in sign_ins.drawn
