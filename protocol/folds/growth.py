"""The folds of one space together, and how they grow by what comes in (R4; docs/protocol.md, "Roster", "Coursework").

A fold of a whole class costs what the class has ever said. What comes in is mostly about one person, one item, one
hand-in: then the fold of all is the fold before, with these made anew.

Rules:
- what has grown is what the whole set would give, whatever came first and in whatever pieces: a law, tried on random
  histories; where that cannot be told from the fold and from what came, there is no growth, and all is folded anew;
- a person, an item and a hand-in hang on the entries about them, which are read again, and on the roster;
- a grant, and what is said of keys, may change who speaks for whom, which is weighed anew from the few entries of
  these kinds; a teacher's words and seals hang on that: if one of those heard has said such before, there is no growth;
- so does in whose place a word is said on who confirmed whom: if that changes, and somebody has spoken by several
  devices, there is none either;
- by the same judgement a space of which nothing is kept yet begins with what was weighed right above it, or not;
- no growth where rights are taken or come back, something is erased or shown again, a copy follows its original,
  somebody is listed twice, is frozen or no more, a school is told what to do, or a key that was cut off has said
  something.

Pure: entries, the door and what a replica remembers come in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

from protocol.folds.coursework import (
    HANGS_ON_VOICES,
    Coursework,
    Topics,
    item_named,
    topics_of,
    with_topics,
    work_named,
)
from protocol.folds.measures import Measures, fold_measures
from protocol.model.entry import ID_BYTES, Entry, Kind
from protocol.rights.door import Door
from protocol.rights.roster import Roster, authorities_over, fold_roster, persons_of, roster_below, with_voices
from protocol.rights.speaking import Remembered

LETS_IN: Final = frozenset({Kind.GRANT})
MOVES_ALL: Final = frozenset(
    {
        Kind.CERTIFICATE,
        Kind.SUCCESSOR,
        Kind.REVOKE,
        Kind.ROOT_ROTATION,
        Kind.ROOT_ACCOUNT,
        Kind.ERASE,
        Kind.RULING,
    }
)
_ORDERS: Final = frozenset({Kind.DRILL, Kind.QUARANTINE})


class Heard(NamedTuple):
    """As much of an entry, of a space or of one above it, as tells whether it moves what was folded."""

    id: bytes
    kind: int
    author: bytes
    grant: bytes | None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Of an entry."""
        return cls(entry.id, entry.header.kind, entry.header.author, entry.header.grant)


@dataclass(frozen=True, slots=True)
class Index:
    """Which entries are about what: by person, item or hand-in their ids, one after the other; and of keys.

    So that they can be read again, and need not be kept: also those that are passed over and hold their place. `voices`
    are the keys of those who have said what hangs on who they are, whether it counts or not.
    """

    persons: Mapping[bytes, bytes]
    items: Mapping[bytes, bytes]
    works: Mapping[bytes, bytes]
    keys: bytes
    voices: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SpaceFold:
    """What a space's set says: rights and names, coursework, orders to a school."""

    roster: Roster
    coursework: Coursework
    measures: Measures
    index: Index


@dataclass(frozen=True, slots=True)
class Growth:
    """What came into a space, and what it touches: which persons, whether voices; `older` are to be read again."""

    fresh: tuple[Entry, ...]
    persons: frozenset[bytes]
    of_keys: bool
    older: tuple[bytes, ...]


def fold_space(
    space: bytes,
    own: Sequence[Entry],
    above: Sequence[Entry],
    door: Door,
    remembered: Remembered,
    destroyed: frozenset[bytes],
) -> SpaceFold:
    """The folds of a space from nothing; what comes in is as for `fold_roster`."""
    return _folds(fold_roster(space, own, above, door, remembered, destroyed), own, door)


def fold_below(
    over: Roster, space: bytes, own: Sequence[Entry], door: Door, remembered: Remembered, *, erasures_above: bool
) -> SpaceFold | None:
    """The same, from the roster of the space right above; None where something in it may bear on more than itself."""
    if _let_in(over, map(Heard.of, own), door) is None:
        return None
    roster = roster_below(over, space, own, door, remembered, erasures_above=erasures_above)
    return _folds(roster, own, door)


def _folds(roster: Roster, own: Sequence[Entry], door: Door) -> SpaceFold:
    counting = [entry for entry in own if not roster.hides(entry)]
    topics = topics_of(own, roster)
    return SpaceFold(
        roster,
        with_topics(Coursework({}, {}), roster.space, topics, roster),
        fold_measures(own, roster, door),
        Index(
            _joined(_by_person(own)),
            _joined(topics.of_items()),
            _joined(topics.of_works()),
            _joined_ids(entry for entry in own if roster.tells_of_keys(entry)),
            _voices_among(counting),
        ),
    )


def growth_of(fold: SpaceFold, fresh: Sequence[Entry], above: Sequence[Heard], door: Door) -> Growth | None:
    """How a fold grows by what came into its space, in order of arrival, and above it; None where it does not."""
    roster, index = fold.roster, fold.index
    let_in = _let_in(roster, [*above, *map(Heard.of, fresh)], door)
    if let_in is None or any(entry.header.kind in _ORDERS for entry in fresh):
        return None
    if _may_move_erasures(roster, above):
        return None
    persons = dict.fromkeys(one for entry in fresh if (one := _person_named(entry)) is not None)
    items = dict.fromkeys(item for entry in fresh if (item := item_named(entry)) is not None)
    works = dict.fromkeys(work for entry in fresh if (work := work_named(entry)) is not None)
    of_keys = let_in or any(map(roster.tells_of_keys, fresh))
    if persons and (roster.aliases or roster.frozen):
        return None
    older = [
        *_ids(index.persons, persons),
        *_ids(index.items, items),
        *_ids(index.works, works),
        *(_split(index.keys) if of_keys else ()),
    ]
    return Growth(tuple(fresh), frozenset(persons), of_keys, tuple(older))


def grown(
    fold: SpaceFold, growth: Growth, older: Mapping[bytes, Entry], door: Door, remembered: Remembered
) -> SpaceFold | None:
    """The fold, grown; `older` are the entries that `growth` reads again. None where all is to be folded anew."""
    if any(name not in older for name in growth.older):
        return None
    before = fold.roster
    entries = [*(older[name] for name in growth.older), *growth.fresh]
    said = [entry for entry in entries if before.tells_of_keys(entry)]
    roster = _grown_roster(fold, growth, entries, said, door, remembered)
    if roster is None:
        return None
    topics = topics_of(entries, roster)
    coursework = fold.coursework
    if topics.items or topics.works:
        coursework = with_topics(coursework, roster.space, topics, roster)
    return SpaceFold(roster, coursework, fold.measures, _grown_index(fold.index, growth, entries, said, topics, roster))


def _may_move_erasures(roster: Roster, above: Iterable[Heard]) -> bool:
    """Whether erasures above may count now, or no more: by a further right a revocation may hold no longer."""
    return roster.erasures_above and any(one.kind in LETS_IN for one in above)


def _let_in(roster: Roster, heard: Iterable[Heard], door: Door) -> bool | None:
    """Whether somebody is let in by what was heard; None where something of it may move anything."""
    revoked = frozenset(roster.revocations.values())
    is_any = False
    for one in heard:
        if one.kind in MOVES_ALL or one.grant in roster.held_back or one.id in roster.awaited:
            return None
        if one.author in revoked or (revoked and one.grant in roster.void):
            return None
        if one.grant is None and one.author not in door.roots:
            return None
        if one.kind in LETS_IN:
            given = door.authority(one.id)
            if given is None or given.key in roster.cut or given.key in revoked:
                return None
            if any(each.predecessor is not None for each in door.authorities_of(given.key)):
                # a copy that people have let in is no copy any more
                return None
            is_any = True
    return is_any


def _grown_roster(
    fold: SpaceFold,
    growth: Growth,
    entries: Sequence[Entry],
    said: Sequence[Entry],
    door: Door,
    remembered: Remembered,
) -> Roster | None:
    roster = _heard_anew(fold, said, door, remembered) if growth.of_keys else fold.roster
    if roster is None or not growth.persons:
        return roster
    listed = persons_of(entries, roster.hides)
    if listed.aliases or listed.frozen:
        return None
    there, left = (
        {one: person for one, person in each.items() if one not in growth.persons}
        for each in (roster.persons, roster.left)
    )
    return replace(roster, persons={**there, **listed.persons}, left={**left, **listed.left})


def _heard_anew(fold: SpaceFold, said: Sequence[Entry], door: Door, remembered: Remembered) -> Roster | None:
    """The roster with the grants that there are now; None where that bears on what somebody has said before."""
    before = fold.roster
    ever = authorities_over(before.space, door)
    living = tuple(each for each in ever if each.grant not in before.held_back and each.grant not in before.void)
    after = with_voices(replace(before, authorities=living), said, door, remembered)
    let_in = {each.grant for each in living} - {each.grant for each in before.authorities}
    heard = (before.unconfirmed | before.nameless) ^ (after.unconfirmed | after.nameless)
    heard |= before.heard_on ^ after.heard_on
    concerned = {each.key for each in ever if each.grant in let_in | heard}
    if not concerned.isdisjoint(fold.index.voices) or _may_lead_on(before, after, fold.index.voices):
        return None
    return after


def _may_lead_on(before: Roster, after: Roster, spoke: Container[bytes]) -> bool:
    """Whether it may have changed which devices of somebody's lead to which, of those that spoke."""
    if (before.voices.words, before.voices.over) == (after.voices.words, after.voices.over):
        return False
    named = (each for each in after.granted.values() if each.key in spoke and each.person is not None)
    devices = {(each.person, each.pair) for each in named}
    return any(many > 1 for many in Counter(person for person, _ in devices).values())


def _grown_index(
    index: Index, growth: Growth, entries: Sequence[Entry], said: Sequence[Entry], topics: Topics, roster: Roster
) -> Index:
    persons = _by_person(entries) if growth.persons else {}
    items, works = topics.of_items(), topics.of_works()
    return Index(
        {**index.persons, **_joined(persons)} if persons else index.persons,
        {**index.items, **_joined(items)} if items else index.items,
        {**index.works, **_joined(works)} if works else index.works,
        _joined_ids(said) if growth.of_keys else index.keys,
        index.voices | _voices_among(entry for entry in entries if not roster.hides(entry)),
    )


def _joined_ids(entries: Iterable[Entry]) -> bytes:
    return b"".join(entry.id for entry in entries)


def _voices_among(entries: Iterable[Entry]) -> frozenset[bytes]:
    return frozenset(entry.header.author for entry in entries if entry.header.kind in HANGS_ON_VOICES)


def _person_named(entry: Entry) -> bytes | None:
    return entry.header.subject if entry.header.kind == Kind.PERSON else None


def _by_person(entries: Iterable[Entry]) -> dict[bytes, list[Entry]]:
    found: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in entries:
        if (person := _person_named(entry)) is not None:
            found[person].append(entry)
    return found


def _joined(entries: Mapping[bytes, Sequence[Entry]]) -> dict[bytes, bytes]:
    return {name: b"".join(entry.id for entry in about) for name, about in entries.items()}


def _ids(index: Mapping[bytes, bytes], names: Iterable[bytes]) -> Iterable[bytes]:
    return (one for name in names for one in _split(index.get(name, b"")))


def _split(ids: bytes) -> Iterable[bytes]:
    return (ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES))
