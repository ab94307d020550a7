"""What revocations and rotations of a root do: which keys they cut, and what they hold back (R4).

A pure function of the sets of a space and of the spaces above it; its rules stand with those of the roster.

Of a root that was replaced that stays which the next has agreed to: what any of the rotations to it names, and what had
led to that (docs/adr/0326). What they leave out a root after it may let stand (`let_stand`; docs/adr/0308).

A revocation with a target ends that grant alone, and counts as long as the grant does: whoever carries out what a
grant says of its own end says nothing once nobody has said it (docs/adr/0144).

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self, TypeAlias

from protocol.errors import PeerFault
from protocol.model.ancestry import marked
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Revocation, Ruling
from protocol.rights.certified import beside, unnamed
from protocol.rights.door import Authority, Door
from protocol.rights.root_rotation import RootRotation, accounted
from protocol.rights.successions import confirmed_keys, surplus, voided
from protocol.roles import RANK, Role

_Written: TypeAlias = Mapping[bytes, Mapping[bytes, Entry]]
"""What each author has written, by id."""

_CUTTING: Final = frozenset({Kind.REVOKE, Kind.ROOT_ROTATION})
ABOVE_ROOTS: Final = RANK[Role.ROOT] + 1
_WEIGHED_AT_ONCE: Final = 2_048
"""So many revocations are followed in one pass over what a key wrote, a bit for each: what they cost is one pass."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """`ends` is the one grant of the key that it ends; None for what cuts the key off.

    It leaves what the `heads` lead to, but through what is `absent`, and of the rest what is `spared`. `again` are
    other entries that say this cut.
    """

    entry: bytes
    rank: int
    key: bytes
    heads: tuple[bytes, ...]
    ends: bytes | None = None
    spared: frozenset[bytes] = frozenset()
    again: tuple[bytes, ...] = ()
    absent: tuple[bytes, ...] = ()


class _Place(NamedTuple):
    """When cuts of a key are weighed, the highest first: those that cut it off, or those that end grants of it.

    A cut reaches what was written with less than its rank; an end, what was written under the grant: so it has the
    level of that, and comes before the cuts of that rank, which it may reach.
    """

    level: int
    is_end: bool
    rank: int
    key: bytes


_BY_NAME: Final = _Place(ABOVE_ROOTS, False, 0, b"")
"""When the certificates that a later one does not name go: once it is known which of a replaced root's count."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """What revocations do: what they hold back, with their rank; the keys that they cut; those in force → their key.

    `void` are the grants that were ended, and the successors that give nothing any more, since the key that wrote them,
    or one before it, was cut; `awaited` are the grants that are not here and are to end.
    """

    held: Mapping[bytes, int] = field(default_factory=dict)
    keys: frozenset[bytes] = frozenset()
    in_force: Mapping[bytes, bytes] = field(default_factory=dict)
    void: frozenset[bytes] = frozenset()
    awaited: frozenset[bytes] = frozenset()


def is_weighed(entry: Entry) -> bool:
    """Whether an entry may hold others back."""
    return entry.header.kind in _CUTTING or bool(beside(entry))


def without_right(authorities: Sequence[Authority], cuts: Cuts) -> set[bytes]:
    """The grants that let nobody read: held back, ended, or successors that are void or too many."""
    gone = {*cuts.held, *cuts.void}
    left = [authority for authority in authorities if authority.grant not in gone]
    return gone | surplus(left, confirmed_keys(left, gone))


def doubtful(entries: Iterable[Entry], held: Mapping[bytes, int]) -> Iterable[bytes]:
    """The revocations that are held back, and not by the root."""
    by_root = RANK[Role.ROOT]
    return (one.id for one in entries if one.header.kind == Kind.REVOKE and held.get(one.id, by_root) < by_root)


def cuts_of(
    entries: Sequence[Entry], authorities: Sequence[Authority], door: Door, *, but: Container[bytes] = ()
) -> Cuts:
    """What the revocations among `entries` do, `but` for some. Highest ranks first: only a higher rank can undo one.

    All of one rank about one key are weighed together: no cut takes the force of another of its rank, since what it
    reaches, and all that was let in by that, is of lower ranks.
    """
    if not any(is_weighed(entry) for entry in entries):
        return Cuts()
    said = _Said.of(entries, door)
    weighed = [entry for entry in entries if entry.id not in but] if but else entries
    cuts = (*_rotations(weighed, door, said.by_author), *_revocations(weighed, door, said.by_author))
    places, awaited = _placed(cuts, authorities)
    held_by: defaultdict[bytes, list[Authority]] = defaultdict(list)
    for each in authorities:
        held_by[each.key].append(each)
    held: dict[bytes, int] = {}
    _spread((one.id for one in entries if door.is_false_root(one.header)), said.under, held, ABOVE_ROOTS)
    back: dict[bytes, set[bytes]] = {}
    over: set[bytes] = set()
    in_force: dict[_Place, list[_Cut]] = {}
    for place in sorted((*places, _BY_NAME), reverse=True):
        if place == _BY_NAME:
            _spread(unnamed(entries, held), said.under, held, RANK[Role.ROOT])
            continue
        counting = [cut for cut in places[place] if cut.entry not in held and cut.ends not in held]
        key, rank = place.key, place.rank
        if not counting:
            continue
        if place.is_end:
            over.update(cut.ends for cut in counting if cut.ends is not None)
            held_by[key] = [each for each in held_by[key] if each.grant not in over]
            beyond = _after_the_end(counting, said.by_author[key], said)
        elif rank <= _rank_left(held_by[key], held, back.get(key)):
            continue
        else:
            beyond, returning = _weighed(counting, rank, said.by_author[key], said.grants[key], door)
            back[key] = back.get(key, returning) & returning
        in_force[place] = counting
        _spread(beyond, said.under, held, rank)
    returned = {key for key, returning in back.items() if returning - held.keys() - over}
    for grant in (grant for key in returned for grant in said.grants[key] if grant not in back[key]):
        held.setdefault(grant, 0)
    void = _end_of_successors(authorities, said, in_force, back, held_by, held)
    forced = {name: cut.key for counting in in_force.values() for cut in counting for name in (cut.entry, *cut.again)}
    return Cuts(held, frozenset(back.keys() - returned), forced, frozenset(void | over), awaited)


def _placed(
    cuts: Iterable[_Cut], authorities: Iterable[Authority]
) -> tuple[Mapping[_Place, Sequence[_Cut]], frozenset[bytes]]:
    """When each cut is weighed, and the grants that are to end and are not here."""
    grants = {each.grant: each for each in authorities}
    found: defaultdict[_Place, list[_Cut]] = defaultdict(list)
    awaited = set()
    for cut in cuts:
        if cut.ends is None:
            found[_Place(cut.rank, False, cut.rank, cut.key)].append(cut)
        elif (ended := grants.get(cut.ends)) is None:
            awaited.add(cut.ends)
        elif ended.key == cut.key and ended.rank < cut.rank:
            found[_Place(ended.rank, True, cut.rank, cut.key)].append(cut)
    return found, frozenset(awaited)


def _end_of_successors(
    authorities: Sequence[Authority],
    said: _Said,
    in_force: Mapping[_Place, Sequence[_Cut]],
    back: Mapping[bytes, Container[bytes]],
    left: Mapping[bytes, Sequence[Authority]],
    held: dict[bytes, int],
) -> set[bytes]:
    """The successors that end with who wrote them, or with the grant under which that was; `held` grows by theirs.

    `left` are the grants of each key that were not ended.
    """
    confirmed = confirmed_keys((each for some in left.values() for each in some), held)
    lasting = {place.key: {each.grant for each in left[place.key]} for place in in_force if place.is_end}
    void = {False: voided(authorities, back, confirmed), True: voided(authorities, lasting, confirmed)}
    ended: defaultdict[tuple[bool, bytes], list[bytes]] = defaultdict(list)
    for is_end, grants in void.items():
        for grant, key in grants.items():
            ended[is_end, key].append(grant)
    for place, counting in in_force.items():
        theirs = ended.get((place.is_end, place.key), ())
        written = {one.id: one for grant in theirs for one in said.written_under(grant)}
        _spread(_not_led_to(written, counting), said.under, held, place.rank)
    return void[False].keys() | void[True].keys()


@dataclass(frozen=True, slots=True)
class _Said:
    """Entries, by id: of each author; those that give something to a key; and the names of those under each grant."""

    by_author: Mapping[bytes, Mapping[bytes, Entry]]
    grants: Mapping[bytes, Mapping[bytes, Entry]]
    under: Mapping[bytes | None, Sequence[bytes]]
    by_id: Mapping[bytes, Entry]

    @classmethod
    def of(cls, entries: Iterable[Entry], door: Door) -> Self:
        """Sort them."""
        by_author: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
        grants: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
        under: defaultdict[bytes | None, list[bytes]] = defaultdict(list)
        by_id = {entry.id: entry for entry in entries}
        for entry in by_id.values():
            by_author[entry.header.author][entry.id] = entry
            under[entry.header.grant].append(entry.id)
            if (authority := door.authority(entry.id)) is not None:
                grants[authority.key][entry.id] = entry
        return cls(by_author, grants, under, by_id)

    def written_under(self, grant: bytes) -> Iterable[Entry]:
        """The entries under a grant: all by the key to which it was given, as the door sees to."""
        return (self.by_id[name] for name in self.under.get(grant, ()))


def _weighed(
    cuts: Sequence[_Cut], rank: int, written: Mapping[bytes, Entry], grants: Mapping[bytes, Entry], door: Door
) -> tuple[set[bytes], set[bytes]]:
    """What cuts of one rank hold back of what their key has `written`, and which of its grants overcome all of them.

    A grant overcomes what it names, by itself or through the earlier grants of the key that it names.

    Nobody takes back what a key wrote under a right of their own rank that was withdrawn since; and as a grant is of a
    lower rank than its author's, this reaches only revocations that are still to come, and no grant that decides
    whether another of the same rank counts.
    """
    beyond: set[bytes] = set()
    returning = {grant.id for grant in grants.values() if door.rank_of(grant.header) >= rank}
    able = frozenset(returning)
    reached = [entry for entry in written.values() if door.rank_of(entry.header) < rank]
    earlier = {entry.id: [name for name in entry.header.prev if name in written] for entry in written.values()}
    named_by: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for grant in grants.values():
        for name in grant.header.parents:
            named_by[name].append(grant.id)
    for some in _some_at_once(cuts):
        every = (1 << len(some)) - 1
        led_to = _reached(some, written, earlier)
        overcome = marked({cut.entry: 1 << place for place, cut in enumerate(some)}, named_by)
        returning = {grant for grant in returning if overcome.get(grant) == every}
        for entry in reached:
            grant_id = entry.header.grant
            spared = overcome.get(grant_id, 0) if grant_id is not None and grant_id in able else 0
            if (led_to.get(entry.id, 0) | spared) != every:
                beyond.add(entry.id)
    return beyond.difference(frozenset.intersection(*(cut.spared for cut in cuts))), returning


def _after_the_end(cuts: Sequence[_Cut], written: Mapping[bytes, Entry], said: _Said) -> set[bytes]:
    """What their key has `written` under the grants that these cuts end, and their heads do not lead to."""
    earlier = {one.id: [name for name in one.header.prev if name in written] for one in written.values()}
    found: set[bytes] = set()
    for some in _some_at_once(cuts):
        led_to = _reached(some, written, earlier)
        every: defaultdict[bytes | None, int] = defaultdict(int)
        for place, cut in enumerate(some):
            every[cut.ends] |= 1 << place
        for grant, ends in every.items():
            under = said.under.get(grant, ())
            found.update(name for name in under if led_to.get(name, 0) & ends != ends)
    return found


def _not_led_to(written: Mapping[bytes, Entry], cuts: Sequence[_Cut]) -> set[bytes]:
    """What is not among the heads of each of these cuts or, through what was written under the same grant, before."""
    earlier = {
        one.id: [name for name in one.header.prev if name in written and written[name].header.grant == one.header.grant]
        for one in written.values()
    }
    found: set[bytes] = set()
    for some in _some_at_once(cuts) if written else ():
        led_to = _reached(some, written, earlier)
        found.update(name for name in written if led_to.get(name) != (1 << len(some)) - 1)
    return found


def _some_at_once(cuts: Sequence[_Cut]) -> Iterable[Sequence[_Cut]]:
    return (cuts[first : first + _WEIGHED_AT_ONCE] for first in range(0, len(cuts), _WEIGHED_AT_ONCE))


def _reached(
    cuts: Sequence[_Cut], written: Mapping[bytes, Entry], earlier: Mapping[bytes, Sequence[bytes]]
) -> dict[bytes, int]:
    """What the heads of some cuts lead to, a bit for each: whoever said one of these saw what it names, or says so."""
    heads = _marks((cut.heads for cut in cuts), written)
    return marked(heads, earlier, _marks((cut.absent for cut in cuts), written))


def _marks(named: Iterable[Iterable[bytes]], written: Mapping[bytes, Entry]) -> dict[bytes, int]:
    """A bit for each of what is `named`, for all of these names that was written."""
    found: defaultdict[bytes, int] = defaultdict(int)
    for place, names in enumerate(named):
        for name in names:
            if name in written:
                found[name] |= 1 << place
    return found


def _spread(
    first: Iterable[bytes], under: Mapping[bytes | None, Sequence[bytes]], held: dict[bytes, int], rank: int
) -> None:
    """Hold back entries, and what was written under those among them that are grants."""
    pending = list(first)
    while pending:
        entry_id = pending.pop()
        if entry_id not in held:
            held[entry_id] = rank
            pending.extend(under.get(entry_id, ()))


def heads_named(cut: Entry, said: Mapping[bytes, Entry]) -> tuple[bytes, ...]:
    """The heads that a revocation, or a root's rotation, names, and its lists of more; also what is in those of `said`.

    Raises `PeerFault` for what is neither.
    """
    if cut.header.kind == Kind.ROOT_ROTATION:
        return tuple(accounted(RootRotation.parse(cut.payload or b"").heads, said))
    return _heads(cut, Revocation.parse(cut.payload or b""), said)


def _heads(cut: Entry, revocation: Revocation, said: Mapping[bytes, Entry]) -> tuple[bytes, ...]:
    if cut.header.grant is not None:
        return revocation.heads
    return tuple(accounted((*revocation.heads, *revocation.lists), said))


def _rotations(entries: Iterable[Entry], door: Door, by_author: _Written) -> Iterable[_Cut]:
    """Each root that was replaced is cut off, but for what its rotations to the next name, and for these themselves.

    So is not what a root after it lets stand, as far as that word of its own counts: the latest root is heard first.
    """
    followed: defaultdict[bytes, dict[bytes, RootRotation]] = defaultdict(dict)
    for one in entries:
        if door.is_followed(one.id) and (rotation := parsed(one, RootRotation.parse)) is not None:
            followed[one.header.author][one.id] = rotation
    let_stand: set[bytes] = set()
    for root in reversed(door.roots):
        said, rotations = by_author[root], followed[root]
        counting: Iterable[Entry] = said.values() if root == door.root_now else ()
        if rotations:
            named = {name for entry, rotation in rotations.items() for name in _left_by(entry, rotation, said)}
            spared = frozenset((let_stand & said.keys()) | rotations.keys())
            first, *again = sorted(rotations)
            yield _Cut(first, ABOVE_ROOTS, root, tuple(named), spared=spared, again=tuple(again))
            counting = (said[name] for name in {*_led_to(named, said), *spared})
        let_stand.update(name for entry in counting for name in _accepted_by(entry))


def _left_by(_entry: bytes, rotation: RootRotation, said: Mapping[bytes, Entry]) -> Iterable[bytes]:
    """What a rotation names: not what led to its entry, but by that.

    The new root has agreed to the heads. Around its word who has the old kit makes another entry, after what he likes.
    """
    return accounted(rotation.heads, said)


def _led_to(heads: Iterable[bytes], said: Mapping[bytes, Entry]) -> set[bytes]:
    found: set[bytes] = set()
    pending = list(heads)
    while pending:
        name = pending.pop()
        if name in said and name not in found:
            found.add(name)
            pending.extend(said[name].header.prev)
    return found


def _accepted_by(entry: Entry) -> tuple[bytes, ...]:
    """What a root's ruling lets count; it may be a root's before it, of any kind (§ "Root rotation")."""
    is_ruling = entry.header.kind == Kind.RULING and entry.header.grant is None
    ruling = parsed(entry, Ruling.parse) if is_ruling else None
    return () if ruling is None else ruling.accepted


def _revocations(entries: Iterable[Entry], door: Door, by_author: _Written) -> Iterable[_Cut]:
    """What each revocation cuts. A root's may name accounts of its own: a server has more heads than one holds.

    Without one of those lists it would hold back what is in it: it counts once all are here.
    """
    for entry in entries:
        if entry.header.kind == Kind.REVOKE and entry.payload is not None:
            try:
                revocation = Revocation.parse(entry.payload)
            except PeerFault:
                continue
            said = by_author[entry.header.author]
            if entry.header.grant is None and not _are_here(revocation.lists, said):
                continue
            heads = _heads(entry, revocation, said)
            rank = door.rank_of(entry.header)
            yield _Cut(entry.id, rank, revocation.key, heads, entry.header.target, absent=revocation.absent)


def _are_here(lists: Iterable[bytes], said: Mapping[bytes, Entry]) -> bool:
    return all(name in said for name in lists)


def _rank_left(authorities: Iterable[Authority], held: Container[bytes], back: Container[bytes] | None) -> int:
    """The highest rank that a key still has, once all higher revocations have been weighed; 0 for none.

    Of a key that was cut off, by the grants alone that let it back in.
    """
    left = (each for each in authorities if each.grant not in held and (back is None or each.grant in back))
    return max((each.rank for each in left), default=0)
