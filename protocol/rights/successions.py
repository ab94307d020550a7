"""Which successors give nothing: a copy has no right that its original has lost (docs/protocol.md, "Roster").

Rules:
- a successor counts as long as no revocation in force cuts off the key that wrote it, nor one that this key succeeds,
  and so on; coming back lets only those in again that the key writes afterwards;
- of what came of one grant by successors, only the first `MAX_SUCCESSORS` (by `at`, then id) let anybody read;
- a grant for the new keys that nothing holds back makes them a device like any other: none of this concerns it.

Whoever steals a device can say as many successors as they like before it is missed. Pure; grants and cuts come in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from itertools import takewhile

from protocol.limits import MAX_SUCCESSORS
from protocol.rights.door import Authority


def confirmed_keys(authorities: Iterable[Authority], held: Container[bytes]) -> set[bytes]:
    """The keys that have a grant which nothing holds back, besides what a successor gives them."""
    return {each.key for each in authorities if each.predecessor is None and each.grant not in held}


def successors_of(key: bytes, authorities: Iterable[Authority]) -> list[bytes]:
    """The keys that came of one by successors, directly or by others, nearest first."""
    passed_on: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
    for authority in authorities:
        if authority.predecessor is not None:
            passed_on[authority.predecessor][authority.key] = None
    return _led_to(key, passed_on)


def predecessors_of(key: bytes, authorities: Iterable[Authority]) -> list[bytes]:
    """The keys of which one came by successors, directly or by others, nearest first."""
    came_of: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
    for authority in authorities:
        if authority.predecessor is not None:
            came_of[authority.key][authority.predecessor] = None
    return _led_to(key, came_of)


def line_since_confirmed(key: bytes, authorities: Iterable[Authority], confirmed: Container[bytes]) -> int:
    """How many keys have come one after the other, this one the last, since a person has confirmed one."""
    line = (key, *predecessors_of(key, authorities))
    return sum(1 for _ in takewhile(lambda each: each not in confirmed, line))


def _led_to(key: bytes, by: Mapping[bytes, Iterable[bytes]]) -> list[bytes]:
    found = {key: None}
    pending = [key]
    for here in pending:
        fresh = [there for there in by.get(here, ()) if there not in found]
        found.update(dict.fromkeys(fresh))
        pending.extend(fresh)
    return [there for there in found if there != key]


def voided(
    authorities: Collection[Authority], cut: Mapping[bytes, Container[bytes]], confirmed: Container[bytes]
) -> dict[bytes, bytes]:
    """The successors that a cut key wrote, or one that came of it → that key.

    `cut` are the keys cut off, each with its grants that overcome all of its revocations: those void nothing.
    """
    successors = {authority.grant: authority for authority in authorities if authority.predecessor is not None}
    causes: dict[bytes, bytes | None] = {}
    for first in successors:
        # iterative, because a machine may have been cloned more often than the interpreter may recurse
        line = []
        here: bytes | None = first
        while here is not None and here in successors and here not in causes:
            line.append(successors[here])
            here = successors[here].under
        for successor in reversed(line):
            by, under = successor.author, successor.under
            cause = None if under is None else causes.get(under)
            if successor.key in confirmed:
                cause = None
            elif by in cut and (under is None or under not in cut[by]):
                cause = by
            causes[successor.grant] = cause
    return {grant: key for grant, key in causes.items() if key is not None}


def surplus(authorities: Collection[Authority], confirmed: Container[bytes]) -> set[bytes]:
    """The successors beyond `MAX_SUCCESSORS` that came of one grant, and what came of them."""
    successors = [each for each in authorities if each.predecessor is not None and each.key not in confirmed]
    if len(successors) <= MAX_SUCCESSORS:
        return set()
    found: set[bytes] = set()
    for of_one in _lines(successors, authorities).values():
        of_one.sort(key=lambda successor: (successor.at, successor.grant))
        found.update(successor.grant for successor in of_one[MAX_SUCCESSORS:])
    return found


def has_room_for_words(grant: bytes, authorities: Collection[Authority], confirmed: Container[bytes]) -> bool:
    """Whether less than half of the successors that may be have come of the grant from which this one came.

    The other half is for machines that find themselves copied: who says "twin" does not use that up. As in `surplus`,
    those that were `confirmed` since take no place.
    """
    successors = [each for each in authorities if each.predecessor is not None]
    lines = _lines(successors, authorities)
    own = (line for begin, line in lines.items() if grant in {begin, *(each.grant for each in line)})
    return all(sum(each.key not in confirmed for each in line) < MAX_SUCCESSORS // 2 for line in own)


def _lines(successors: Iterable[Authority], authorities: Iterable[Authority]) -> dict[bytes, list[Authority]]:
    """What came of one grant by successors, by that grant."""
    by_grant = {authority.grant: authority for authority in authorities}
    first: dict[bytes, bytes] = {}
    lines: defaultdict[bytes, list[Authority]] = defaultdict(list)
    for successor in successors:
        line, here = [], successor
        while here.grant not in first and here.predecessor is not None and here.under in by_grant:
            line.append(here.grant)
            here = by_grant[here.under]
        begin = first.get(here.grant, here.grant)
        first.update(dict.fromkeys(line, begin))
        lines[begin].append(successor)
    return lines
