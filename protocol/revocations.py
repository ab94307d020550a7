"""What revocations and rotations of a root do: which keys they cut, and what they hold back (R4).

A pure function of the sets of a space and of the spaces above it; its rules stand with those of the roster.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocol.ancestry import ancestors
from protocol.entry import Entry, Kind
from protocol.errors import PeerFault
from protocol.rights import Authority, Door
from protocol.roles import RANK, Role
from protocol.root_rotation import RootRotation, accounted
from protocol.structure import Revocation
from protocol.successions import confirmed_keys, surplus, voided

_Written: TypeAlias = Mapping[bytes, Mapping[bytes, Entry]]
"""What each author has written, by id."""

_CUTTING: Final = frozenset({Kind.REVOKE, Kind.ROOT_ROTATION})
ABOVE_ROOTS: Final = RANK[Role.ROOT] + 1


@dataclass(frozen=True, slots=True)
class _Cut:
    entry: bytes
    rank: int
    key: bytes
    heads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Cuts:
    """What revocations do: what they hold back, with their rank; the keys that they cut; those in force → their key.

    `void` are the successors that give nothing any more, since the key that wrote them, or one before it, was cut.
    """

    held: Mapping[bytes, int] = field(default_factory=dict)
    keys: frozenset[bytes] = frozenset()
    in_force: Mapping[bytes, bytes] = field(default_factory=dict)
    void: frozenset[bytes] = frozenset()


def without_right(authorities: Sequence[Authority], cuts: Cuts) -> set[bytes]:
    """The grants that let nobody read: held back, or successors that are void or too many."""
    gone = {*cuts.held, *cuts.void}
    left = [authority for authority in authorities if authority.grant not in gone]
    return gone | surplus(left, confirmed_keys(left, gone))


def cuts_of(entries: Sequence[Entry], authorities: Sequence[Authority], door: Door) -> Cuts:
    """What the revocations among `entries` do. Highest ranks first: only a higher rank can undo a revocation."""
    if not any(entry.header.kind in _CUTTING for entry in entries):
        return Cuts()
    by_author: defaultdict[bytes, dict[bytes, Entry]] = defaultdict(dict)
    for entry in entries:
        by_author[entry.header.author][entry.id] = entry
    found = (*_rotations(entries, door, by_author), *_revocations(entries, door))
    cuts = sorted(found, key=lambda cut: cut.rank, reverse=True)
    if not cuts:
        return Cuts()
    under: defaultdict[bytes | None, list[bytes]] = defaultdict(list)
    for entry in entries:
        under[entry.header.grant].append(entry.id)
    held_by: defaultdict[bytes, list[Authority]] = defaultdict(list)
    for each in authorities:
        held_by[each.key].append(each)
    grants: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in entries:
        authority = door.authority(entry.id)
        if authority is not None:
            grants[authority.key].append(entry)
    held: dict[bytes, int] = {}
    for false in (entry.id for entry in entries if door.is_false_root(entry.header)):
        held[false] = ABOVE_ROOTS
        _spread(under.get(false, ()), under, held, ABOVE_ROOTS)
    back: dict[bytes, set[bytes]] = {}
    in_force: dict[bytes, bytes] = {}
    named = {key: _named_by(grants[key]) for key in {cut.key for cut in cuts}}
    for cut in cuts:
        if cut.entry in held or cut.rank <= _rank_left(held_by[cut.key], held, back.get(cut.key)):
            continue
        in_force[cut.entry] = cut.key
        returning = {
            grant.id
            for grant in grants[cut.key]
            if cut.entry in named[cut.key][grant.id] and door.rank_of(grant.header) >= cut.rank
        }
        back[cut.key] = back.get(cut.key, returning) & returning
        written = by_author[cut.key]
        beyond = written.keys() - ancestors(cut.heads, written)
        # Nobody takes back what a key wrote under a right of their own rank that was withdrawn since; and as a grant is
        # of a lower rank than its author's, this reaches only revocations that are still to come, and no grant that
        # decides whether another of the same rank counts.
        reached = (one for one in beyond if door.rank_of(written[one].header) < cut.rank)
        _spread((one for one in reached if written[one].header.grant not in returning), under, held, cut.rank)
    returned = {key for key, returning in back.items() if returning - held.keys()}
    held.update((grant.id, 0) for key in returned for grant in grants[key] if grant.id not in back[key])
    void = voided(authorities, back, confirmed_keys(authorities, held))
    for authority in authorities:
        if authority.grant in void:
            theirs = by_author[authority.key]
            written = {name: theirs[name] for name in under[authority.grant] if name in theirs}
            for cut in cuts:
                if cut.entry in in_force and cut.key == void[authority.grant]:
                    _spread(written.keys() - ancestors(cut.heads, written), under, held, cut.rank)
    return Cuts(held, frozenset(back.keys() - returned), in_force, frozenset(void))


def _named_by(grants: Iterable[Entry]) -> dict[bytes, set[bytes]]:
    """What each grant of a key names, by itself and through the earlier ones that it names."""
    known = {grant.id: grant.header.parents for grant in grants}
    found = {}
    for grant in known:
        named: set[bytes] = set()
        pending = [grant]
        while pending:
            for name in known.get(pending.pop(), ()):
                if name not in named:
                    named.add(name)
                    pending.append(name)
        found[grant] = named
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


def _rotations(entries: Iterable[Entry], door: Door, by_author: _Written) -> Iterable[_Cut]:
    """Each root that was replaced is cut off, but for what the rotation names, and for the rotation itself."""
    for entry in entries:
        if entry.header.kind == Kind.ROOT_ROTATION and door.is_followed(entry.id):
            try:
                rotation = RootRotation.parse(entry.payload or b"")
            except PeerFault:
                continue
            named = accounted(rotation.heads, by_author[entry.header.author])
            yield _Cut(entry.id, ABOVE_ROOTS, entry.header.author, (*named, entry.id))


def _revocations(entries: Iterable[Entry], door: Door) -> Iterable[_Cut]:
    for entry in entries:
        if entry.header.kind == Kind.REVOKE and entry.payload is not None:
            try:
                revocation = Revocation.parse(entry.payload)
            except PeerFault:
                continue
            yield _Cut(entry.id, door.rank_of(entry.header), revocation.key, revocation.heads)


def _rank_left(authorities: Iterable[Authority], held: Container[bytes], back: Container[bytes] | None) -> int:
    """The highest rank that a key still has, once all higher revocations have been weighed; 0 for none.

    Of a key that was cut off, by the grants alone that let it back in.
    """
    left = (each for each in authorities if each.grant not in held and (back is None or each.grant in back))
    return max((each.rank for each in left), default=0)
