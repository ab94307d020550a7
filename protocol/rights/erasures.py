"""Which erasures count in a space, and what they cover there (docs/protocol.md, "Erasure").

Rules:
- an erasure is weighed in the space in which it lies, by what is said there and above, and counts alike in all spaces
  below: whoever has the server would else take it back in a class, where nobody misses anything then, and have it
  carried out above (docs/adr/0267);
- it counts unless it is held back, or refused by the ruling of at least its author's rank that stands above the others;
- a root refuses by name as well: of all that it, or a root before it, has signed of that name up to the turn that it
  says, wherever it lies and whenever it turns up, none counts. Who has it say so twice gains nothing (docs/adr/0324);
- what this replica has carried out stays erased here even then, until a ruling of the root's refuses it: that the
  root has cut off who said it says nothing of whom it names (docs/adr/0268). What it has carried out in one space it
  is told for that one alone (docs/adr/0468).

Pure; called by the roster.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from protocol.model.ancestry import moments
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure, Ruling
from protocol.rights.door import Authority, Door
from protocol.rights.revocations import cuts_of
from protocol.roles import RANK, Role

_BY_ROOT: Final = RANK[Role.ROOT]


class Erasing(NamedTuple):
    """What the erasures that lie in one space do.

    A ruling has `undone` some, others were `carried_out` here and hold for that; those are `lasting` that would hold
    wherever they were; `covers` is what is erased by those that count.
    """

    undone: frozenset[bytes] = frozenset()
    carried_out: frozenset[bytes] = frozenset()
    lasting: frozenset[bytes] = frozenset()
    covers: frozenset[bytes] = frozenset()


class _Said(NamedTuple):
    """An erasure, and the entry in which it was said."""

    entry: Entry
    erasure: Erasure


def erasing_in(
    space: bytes, entries: Sequence[Entry], held: Mapping[bytes, int], destroyed: frozenset[bytes], door: Door
) -> Erasing:
    """What the erasures in a space do, by the `entries` there and above, of which some are `held` back at which rank.

    `destroyed` are the erasures that this replica has obeyed.
    """
    said = {one.id: _Said(one, erasure) for one in entries if (erasure := _erasure_in(one, space)) is not None}
    if not said:
        return Erasing()
    rulings = list(rulings_of(entries, held, door))
    undone, let_go = _undone(said, rulings, door), _undone(said, rulings, door, least=_BY_ROOT)
    carried_out, lasting = _carried_out(said, destroyed, let_go), _carried_out(said, said.keys(), let_go)
    counting = said.keys() - held.keys() - undone | carried_out
    return Erasing(undone, carried_out, lasting, frozenset(said[one].erasure.covers for one in counting))


def erased_from_above(
    space: bytes,
    above: Sequence[Entry],
    authorities: Sequence[Authority],
    destroyed: frozenset[bytes],
    door: Door,
) -> frozenset[bytes]:
    """What the erasures cover that lie above a space, each weighed where it lies.

    `above` are the entries of those spaces, `authorities` the grants of all of them.
    """
    found: set[bytes] = set()
    lying = {one.header.space for one in above if one.header.kind == Kind.ERASE}
    line = door.lineage(space)
    for place, member in enumerate(line[1:], start=1):
        if member in lying:
            reached = frozenset(line[place:])
            there = [one for one in above if one.header.space in reached]
            held = cuts_of(there, [each for each in authorities if each.space in reached], door).held
            found |= erasing_in(member, there, held, destroyed, door).covers
    return frozenset(found)


def rulings_of(entries: Iterable[Entry], held: Container[bytes], door: Door) -> Iterable[tuple[Entry, Ruling]]:
    """The rulings that count: those of a higher rank after the others, of one rank the oldest first.

    By their dates alone whoever had the server's key for an hour would stand above the kit's word, and above all that
    a server says after it (docs/adr/0275).
    """
    rulings = {entry.id: entry for entry in entries if entry.header.kind == Kind.RULING and entry.id not in held}
    said = moments(rulings, door.said_at)
    for entry in sorted(rulings.values(), key=lambda one: (door.standing_of(one.header), said[one.id], one.id)):
        if (ruling := parsed(entry, Ruling.parse)) is not None:
            yield entry, ruling


def _undone(
    said: Mapping[bytes, _Said], rulings: Iterable[tuple[Entry, Ruling]], door: Door, least: int = 0
) -> frozenset[bytes]:
    """The erasures that the foremost ruling of at least their rank, and of `least`, refuses.

    That one counts again after all a root alone says: whoever means it says it anew, and it waits a week of its own.
    """
    ranks = {one: door.rank_of(each.entry.header) for one, each in said.items()}
    ruled: dict[bytes, bool] = {}
    for entry, ruling in rulings:
        rank = door.rank_of(entry.header)
        accepted = ruling.accepted if rank >= _BY_ROOT else ()
        refused = (*ruling.refused, *_refused_by_name(entry, ruling, said.values(), door))
        for names, undone in ((accepted, False), (refused, True)):
            ruled |= {one: undone for one in names if one in ranks and rank >= max(least, ranks[one])}
    return frozenset(one for one, undone in ruled.items() if undone)


def _refused_by_name(entry: Entry, ruling: Ruling, said: Iterable[_Said], door: Door) -> list[bytes]:
    """The erasures by roots that a root's ruling in the territory refuses by their name.

    By its own in no later turn, or by a root before it in whichever: a later root's stand above what it says.
    """
    if ruling.covers is None or entry.header.grant is not None or entry.header.space != door.territory:
        return []
    until = door.place_of_root(entry.header.author), ruling.turn
    return [
        each.entry.id
        for each in said
        if each.entry.header.grant is None
        and each.erasure.covers == ruling.covers
        and (door.place_of_root(each.entry.header.author), each.erasure.turn) <= until
    ]


def _carried_out(
    said: Mapping[bytes, _Said], destroyed: AbstractSet[bytes], let_go: AbstractSet[bytes]
) -> frozenset[bytes]:
    """Those that this replica has obeyed: what they cover stays erased here until the root has `let_go`.

    Whoever has the server takes back what the server said, and cuts off who said anything else.
    """
    return frozenset((destroyed & said.keys()) - let_go)


def order_in(entry: Entry) -> Erasure | Ruling | None:
    """What an erasure says, or a ruling; None for another word, and for one that cannot be read."""
    if entry.header.kind == Kind.ERASE:
        return parsed(entry, Erasure.parse)
    return parsed(entry, Ruling.parse) if entry.header.kind == Kind.RULING else None


def _erasure_in(entry: Entry, space: bytes) -> Erasure | None:
    is_there = entry.header.kind == Kind.ERASE and entry.header.space == space
    return parsed(entry, Erasure.parse) if is_there else None
