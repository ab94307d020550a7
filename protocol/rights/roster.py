"""The fold of rights and names: who is in a space, who may read it, what a revocation holds back (R4, R6, R11).

A pure function of the sets of a space and of the spaces above it, the same for every order of arrival.

Rules:
- a person is the shown head of the `person` entries with that subject in the space itself; names come from nowhere
  else;
- of whom the list says that they are frozen, it lists nobody, and all that is about them and their work is passed over
  like what is erased; nothing of it is destroyed (docs/adr/0429);
- a revocation counts when its author's rank is strictly above every rank that the key it cuts has in these spaces, and
  it is not held back itself;
- a revocation of one grant (its target) ends that alone, and counts for nothing once the grant is held back;
- of a cut key only the named heads and their ancestors stay; several cuts intersect; the rest is held back, never
  dropped, until a human of at least the revocation's rank accepts it;
- who cuts a key cuts what came of it by successors, for the same heads, but for keys that have a grant of their own;
- of those who stand for a person, the devices that the person's own have confirmed count (`vouching`): their
  keys are sealed to, their words are the person's; what the others say waits;
- a grant that is held back gives no right to read, and what was written under it is held back with it;
- who was reported and came back is no teacher's voice, and holds none of a teacher's keys in use, before each device of
  theirs that was never reported, and that it is linked with, has confirmed it again; as whose it was, never, if it came
  back as something else;
- an erasure counts by what is said in its own space and above it (`erasures`);
- a device that was let go comes back by a grant that names the revocations in `parents`, itself or through earlier
  grants, written by at least their rank: what it writes under that grant counts, and its earlier grants are held back.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, TypeVar

from protocol.model.ancestry import heads
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.rights.door import OF_KEYS, Authority, Door, covering_names
from protocol.rights.erasures import erased_from_above, erasing_in, rulings_of
from protocol.rights.keys_in_use import (
    keys_in_use,
    phrases_of,
    replaced_keys,
    said_as,
    said_by,
)
from protocol.rights.letting_back import LetInAgain, let_in_again
from protocol.rights.revocations import cuts_of, doubtful, without_right
from protocol.rights.speaking import Remembered, heard_on, once_led_to, over, speaking_devices, unconfirmed
from protocol.rights.spent_keys import Doubted, keys_cut_off, keys_held, keys_spent
from protocol.rights.voices import voices_of
from protocol.rights.vouching import Away, Device, Standing, Voices
from protocol.roles import HAS_READING_KEYS, RANK, PersonRole, Role
from protocol.trust.person_keys import PhraseKey

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody on the class list."""

    id: bytes
    name: str
    role: PersonRole
    entry: bytes


class LetCount(NamedTuple):
    """By which ruling a word counts, who said it, and its kind."""

    ruling: bytes
    author: bytes
    kind: int


@dataclass(frozen=True, slots=True)
class Roster:
    """What the fold says about rights and names of one space.

    `reading_keys` maps a teacher to the X25519 keys that open hand-ins; `spent` are those, with their teacher, that a
    device holds which was cut off: nothing more is sealed to them; `phrases` maps a teacher to the phrases that were
    drawn, oldest first; `refused` maps what of the held back somebody has refused to the ruling that says so.
    `authorities` are the grants that hold in the space and are not held back; `cut` are the keys that a revocation in
    force has cut off.
    """

    space: bytes
    persons: Mapping[bytes, Person]
    reading_keys: Mapping[bytes, tuple[bytes, ...]]
    authorities: tuple[Authority, ...]
    cut: frozenset[bytes]
    held_back: frozenset[bytes]
    erased: frozenset[bytes]
    refused: Mapping[bytes, bytes] = field(default_factory=dict)
    refused_by_root: frozenset[bytes] = frozenset()
    """Those of the refused that a root has refused: a copied server key refuses what it holds back in one breath."""
    let_count: Mapping[bytes, LetCount] = field(default_factory=dict)
    """What lies here, was held back, and counts by a ruling, none of the root's: a copied server key says such."""
    undone: frozenset[bytes] = frozenset()
    """Erasures in the space that a ruling has taken back."""
    carried_out: frozenset[bytes] = field(default=frozenset(), compare=False)
    """Erasures in the space that this replica has obeyed, and that hold here whoever takes them back but the root."""
    lasting: frozenset[bytes] = field(default=frozenset(), compare=False)
    """Erasures in the space that hold wherever they were obeyed: the root has not let go of them."""
    erasures_above: bool = False
    """Whether erasures lie in spaces above it, in force or not."""
    void: frozenset[bytes] = frozenset()
    """Grants that were ended, and successors that give no right: their key was cut, or there are too many."""
    former: tuple[Authority, ...] = ()
    """The grants of the space that give nothing, or no more: ended, held back or void."""
    awaited: frozenset[bytes] = frozenset()
    """Grants that are not here, and that a revocation ends."""
    spent: frozenset[tuple[bytes, bytes]] = frozenset()
    phrases: Mapping[bytes, tuple[tuple[Device, PhraseKey], ...]] = field(default_factory=dict)
    aliases: Mapping[bytes, bytes] = field(default_factory=dict)
    """Who was added twice → who a list calls them: that joins no voices, and gives no keys (docs/adr/0461)."""
    left: Mapping[bytes, Person] = field(default_factory=dict)
    """Who was on the list and has left it, as it called them last: whose work lies here has a name."""
    frozen: frozenset[bytes] = frozenset()
    """Of whom what there is is kept, and not used, under each of their ids."""
    revocations: Mapping[bytes, bytes] = field(default_factory=dict)
    """The entries that cut a key off here and are in force, those that were overcome included → the key."""
    ends: frozenset[bytes] = frozenset()
    """Those of them that ended one grant of it alone."""
    again: LetInAgain = field(default_factory=dict)
    """Of keys that were reported the grants that let them in again, those that have ended since included."""
    held_by_root: frozenset[bytes] = frozenset()
    """What is held back by the root's own word: no server's (docs/adr/0469)."""
    doubtful: frozenset[bytes] = frozenset()
    """The revocations that are held back, and not by the root."""
    voices: Voices = field(default_factory=Voices)
    away: Away = field(default_factory=Away)
    speaking: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    """The devices that speak for each person whose devices have said a reading key, those cut off included."""
    starts: Mapping[bytes, tuple[Device, ...]] = field(default_factory=dict)
    """From which devices that starts: those that this replica saw first."""
    unconfirmed: frozenset[bytes] = frozenset()
    """The grants of teachers' devices that speak for nobody: no device of their person's has confirmed them, or none
    has said a reading key; or, but for a head's, they name no person at all."""
    heard_on: frozenset[bytes] = frozenset()
    """Those of them whose words are shown all the same, beside those of whoever speaks for that person."""
    granted: Mapping[bytes, Authority] = field(default_factory=dict)
    """The grants that ever let the device of somebody who answers pupils into the space, or into one above it."""
    nameless: frozenset[bytes] = frozenset()
    """The grants of heads that name no person: they run a school, and are no teacher to anybody's work."""
    replaced: frozenset[bytes] = frozenset()
    """The entries in whose place their own author has said another reading key, one that is held back included."""
    makers: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    """The devices that made each reading key in use."""
    said_as: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    """As whose each reading key was ever said, by the ids that grants give."""
    said_by: Mapping[bytes, frozenset[Device]] = field(default_factory=dict)
    """The devices that ever said each reading key, those that were cut off since included; the earliest first."""

    def who(self, person: bytes) -> bytes:
        """The one id under which a person is listed."""
        return self.aliases.get(person, person)

    def named(self, person: bytes) -> Person | None:
        """Somebody as the list calls them, or called them last before they left it."""
        one = self.who(person)
        return self.persons.get(one) or self.left.get(one)

    def speaks(self, grant: bytes | None) -> bool:
        """Whether what is written under a teacher's or head's grant is a teacher's word."""
        return grant not in self.unconfirmed and grant not in self.nameless

    def is_heard(self, grant: bytes | None) -> bool:
        """Whether what is answered under it is shown as a teacher's word: nothing is given to who is only heard."""
        return self.speaks(grant) or grant in self.heard_on

    def spoken_as(self, given: Authority | None) -> bytes | None:
        """The person whose word it is that is written under a grant; None where nobody of theirs said that it is."""
        if given is None or given.role not in HAS_READING_KEYS or not self.speaks(given.grant):
            return None
        return given.person

    def shown_as(self, given: Authority | None) -> bytes | None:
        """The same, and who is only heard beside whoever speaks for that person: for what is shown, and says so."""
        if given is not None and given.grant in self.heard_on:
            return given.person
        return self.spoken_as(given)

    def voice(self, grant: bytes | None) -> bytes | None:
        """As `shown_as`, for a grant of the space, one that is over included."""
        return self.shown_as(self.granted.get(grant or b""))

    def is_away(self, device: Device, person: bytes) -> bool:
        """Whether a device is gone as a person's: cut off, or back and not confirmed again as that."""
        return self.away.has(device, person)

    @property
    def teachers(self) -> list[Person]:
        """Those whom the list has as teachers."""
        return [person for person in self.persons.values() if person.role is PersonRole.TEACHER]

    @property
    def reported(self) -> frozenset[bytes]:
        """The keys that a revocation in force has ever cut off, and not only ended a grant of."""
        return frozenset(key for name, key in self.revocations.items() if name not in self.ends)

    def may_read(self, key: bytes) -> bool:
        """Whether a device with this key may read the space."""
        return key not in self.cut and any(authority.key == key for authority in self.authorities)

    def authority_of(self, key: bytes) -> Authority | None:
        """The grant of highest rank that the key holds here, if it is not cut."""
        mine = [authority for authority in self.authorities if authority.key == key and key not in self.cut]
        return max(mine, key=lambda authority: (authority.rank, authority.grant), default=None)

    def hides(self, entry: Entry) -> bool:
        """Whether the fold passes an entry over: held back, erased, or about somebody who is frozen."""
        return entry.id in self.held_back or self.is_erased(entry) or self.is_frozen(entry)

    def is_frozen(self, entry: Entry) -> bool:
        """Whether an entry is about somebody of whom what there is is kept, and not used."""
        return entry.header.subject in self.frozen and entry.header.kind in _FROZEN

    def is_erased(self, entry: Entry) -> bool:
        """Whether an erasure that counts covers an entry."""
        return bool(self.erased) and not self.erased.isdisjoint(covering_names(entry))

    def is_held_with_its_author(self, entry: Entry) -> bool:
        """Whether who said an entry was cut off here, or its grant counts no more: held back, it is so with them."""
        return entry.header.author in self.revocations.values() or entry.header.grant in self.held_back

    def tells_of_keys(self, entry: Entry) -> bool:
        """Whether the fold weighs what an entry says of keys: that one was given or replaced also if held back."""
        if entry.header.kind in _ALSO_HELD_BACK:
            return not self.is_erased(entry)
        return entry.header.kind in OF_KEYS and not self.hides(entry)


_ALSO_HELD_BACK: Final = frozenset({Kind.PERSON_KEY, Kind.KEY_WRAP})
_FROZEN: Final = frozenset(
    {
        Kind.HAND_IN,
        Kind.WRAP,
        Kind.FEEDBACK,
        Kind.RECEIPT_TEACHER,
        Kind.RECEIPT_SAFE,
        Kind.RECEIPT_SERVER,
        Kind.SIGN_IN,
        Kind.SIGN_IN_WRAP,
        Kind.SIGN_IN_LOCK,
    }
)
_NOTHING: Final = Remembered()


def fold_roster(
    space: bytes,
    own: Sequence[Entry],
    above: Sequence[Entry],
    door: Door,
    remembered: Remembered = _NOTHING,
    destroyed: frozenset[bytes] = frozenset(),
) -> Roster:
    """The roster of `space` from its `own` entries and those of the spaces `above` it.

    `remembered` and `destroyed` are what this replica has seen first, and what it has destroyed: without them, the set
    alone decides.
    """
    authorities = authorities_over(space, door)
    entries = [*above, *own]
    cuts = cuts_of(entries, authorities, door)
    held, revocations = cuts.held, cuts.in_force
    gone = without_right(authorities, cuts)
    living = tuple(authority for authority in authorities if authority.grant not in gone)
    cut = cuts.keys | ({authority.key for authority in authorities} - {authority.key for authority in living})
    accepted, refused = _ruled(entries, held, door)
    held_back = frozenset(held.keys() - accepted.keys())
    erasing = erasing_in(space, entries, held, destroyed, door)
    ends = frozenset(one.id for one in entries if one.header.target is not None and one.id in revocations)
    roster = Roster(
        space=space,
        persons={},
        reading_keys={},
        authorities=living,
        cut=cut,
        held_back=held_back,
        refused={one: by.id for one, by in refused.items()},
        refused_by_root=frozenset(one for one, by in refused.items() if _is_roots(by, door)),
        erased=erasing.covers | erased_from_above(space, above, authorities, destroyed, door),
        undone=erasing.undone,
        carried_out=erasing.carried_out,
        lasting=erasing.lasting,
        erasures_above=any(one.header.kind == Kind.ERASE for one in above),
        void=frozenset(gone - held.keys()),
        awaited=cuts.awaited,
        revocations=revocations,
        ends=ends,
        again=_let_in_again(entries, held, door, {one: key for one, key in revocations.items() if one not in ends}),
        held_by_root=frozenset(one for one in held_back if held[one] >= RANK[Role.ROOT]),
        doubtful=frozenset(doubtful(entries, held)),
    )
    return _with_names(roster, own, accepted, door, remembered)


def roster_below(
    over: Roster, space: bytes, own: Sequence[Entry], door: Door, remembered: Remembered, *, erasures_above: bool
) -> Roster:
    """What `fold_roster` gives of a space right below that of `over`, where nothing of its `own` bears on rights above.

    What was weighed there holds here as it does there.
    """
    given = authorities_over(space, door)
    weighed = replace(
        over,
        space=space,
        authorities=tuple(each for each in given if each.grant not in over.held_back and each.grant not in over.void),
        undone=frozenset(),
        carried_out=frozenset(),
        lasting=frozenset(),
        erasures_above=erasures_above,
        frozen=frozenset(),
    )
    return _with_names(weighed, own, {}, door, remembered)


def _with_names(
    roster: Roster, own: Sequence[Entry], accepted: Mapping[bytes, Entry], door: Door, remembered: Remembered
) -> Roster:
    """A roster in which all is weighed, with who is listed, what was said of keys, and what of its own was accepted."""
    listed = persons_of(own, roster.hides)
    named = replace(roster, persons=listed.persons, left=listed.left, aliases=listed.aliases, frozen=listed.frozen)
    said = [entry for entry in own if roster.tells_of_keys(entry)]
    let_count = _let_count((entry for entry in own if not named.hides(entry)), accepted, door)
    return with_voices(replace(named, let_count=let_count), said, door, remembered)


def _let_in_again(
    entries: Iterable[Entry], held: Mapping[bytes, int], door: Door, reports: Mapping[bytes, bytes]
) -> LetInAgain:
    """The grants by which somebody was let in again: none that is held back, though names lead through such a one too.

    One that overcomes too little of what cut its device off (rank 0) stays: somebody was let in by it once.
    """
    again = let_in_again(entries, door, reports)
    return {grant: named for grant, named in again.items() if held.get(grant, 0) == 0}


def with_voices(roster: Roster, said: Sequence[Entry], door: Door, remembered: Remembered = _NOTHING) -> Roster:
    """The roster with what hangs on its grants and on what is `said` of keys: who speaks for whom, whose keys count.

    `said` is what the roster `tells_of_keys`. Persons, and what is cut, held back or erased, stand.
    """
    cut, given = roster.cut, said
    said = [entry for entry in said if entry.id not in roster.held_back]
    ever = authorities_over(roster.space, door)
    voices = voices_of(said, roster.authorities, door, cut=cut, came_back=roster.reported - cut, again=roster.again)
    speaking, starts = speaking_devices(voices, cut, remembered.but_for(_undone_by_root(ever, roster.held_by_root)))
    ended = over(ever, roster.authorities)
    then = once_led_to(ended, voices, starts)
    silent = frozenset(unconfirmed(roster.authorities, speaking))
    unheard = silent.union(voices.unheard_by, unconfirmed(ended, then))
    kept = [entry for entry in said if entry.header.grant not in unheard]
    revoked = frozenset(roster.revocations.values()) - cut
    away = Away(cut, frozenset(_not_confirmed_again(ever, revoked, voices)))
    phrases = phrases_of(kept, door, cut)
    lost = keys_cut_off(ever, away)
    held = keys_held(lost, roster.authorities, away, phrases, (speaking, then))
    gone = {key: signers for key, signers in lost.items() if key not in held}
    doubted = Doubted(roster.held_back, unheard)
    spent = keys_spent(kept, given, door, away, gone, doubted, (speaking, then), phrases)
    replaced = replaced_keys(given)
    standing = [entry for entry in kept if _stands(entry, door, voices)]
    in_use, makers = keys_in_use(standing, door, cut, spent, replaced)
    return replace(
        roster,
        reading_keys=in_use,
        replaced=replaced,
        makers=makers,
        said_as=said_as(kept, door),
        said_by=said_by(kept, door),
        spent=spent,
        phrases=phrases,
        voices=voices,
        away=away,
        speaking=speaking,
        starts=starts,
        unconfirmed=unheard,
        heard_on=frozenset(heard_on(roster.authorities, silent, voices, cut, remembered)),
        former=_former(ever, roster.authorities),
        granted={each.grant: each for each in ever if each.role in HAS_READING_KEYS},
        nameless=frozenset(each.grant for each in ever if each.role is Role.HEAD and each.person is None),
    )


def _undone_by_root(ever: Iterable[Authority], held_by_root: Container[bytes]) -> frozenset[Standing]:
    """The devices that nothing but grants which the root's own word holds back ever let in as somebody's."""
    standing = defaultdict[bool, set[Standing]](set)
    for each in ever if held_by_root else ():
        if each.person is not None:
            standing[each.grant in held_by_root].add((each.pair, each.person))
    return frozenset(standing[True] - standing[False])


def _not_confirmed_again(ever: Iterable[Authority], revoked: Container[bytes], voices: Voices) -> Iterable[Standing]:
    """As whose those who came back, or had a right ended, were ever let in, and stand no more or wait."""
    for each in ever:
        if each.key in revoked and each.role in HAS_READING_KEYS and each.person is not None:
            device = each.pair
            standing = device, each.person
            if standing not in voices.standings or device in voices.let_back:
                yield standing


def authorities_over(space: bytes, door: Door) -> list[Authority]:
    """The grants of a space and of those above it, those that give nothing any more included."""
    return [authority for member in door.lineage(space) for authority in door.authorities_in(member)]


def _former(ever: Iterable[Authority], living: Iterable[Authority]) -> tuple[Authority, ...]:
    left = {each.grant for each in living}
    return tuple(each for each in ever if each.grant not in left)


def _stands(entry: Entry, door: Door, voices: Voices) -> bool:
    """Whether who wrote an entry about its person still has a teacher's grant of that person."""
    author, person = door.authority(entry.header.grant), entry.header.subject or b""
    return author is not None and (author.pair, person) in voices.standings


class Listed(NamedTuple):
    """Who is listed, who has left, who was added twice and is somebody else of the list, and which ids are frozen."""

    persons: dict[bytes, Person]
    left: dict[bytes, Person]
    aliases: dict[bytes, bytes]
    frozen: frozenset[bytes]


def persons_of(entries: Iterable[Entry], hides: Callable[[Entry], bool]) -> Listed:
    """What the entries of a list come to."""
    by_subject: defaultdict[bytes, list[Entry]] = defaultdict(list)
    passed: defaultdict[bytes, list[Entry]] = defaultdict(list)
    records: dict[bytes, PersonRecord] = {}
    for entry in entries:
        if entry.header.kind == Kind.PERSON and (subject := entry.header.subject) is not None:
            record = None if hides(entry) else parsed(entry, PersonRecord.parse)
            if record is None:
                passed[subject].append(entry)
            else:
                records[entry.id] = record
                by_subject[subject].append(entry)
    shown = {subject: heads(versions, passed.get(subject, ()))[0] for subject, versions in by_subject.items()}
    same = {subject: other for subject, entry in shown.items() if (other := records[entry.id].same_as) is not None}
    aliases = {subject: one for subject, one in _ends_of(same).items() if one != subject}
    said = {subject: records[entry.id] for subject, entry in shown.items()}
    frozen = {subject for subject, record in said.items() if record.freezes}
    frozen |= {subject for subject, one in aliases.items() if one in frozen}
    found, left = dict[bytes, Person](), dict[bytes, Person]()
    for subject, record in said.items():
        if subject not in aliases and subject not in frozen:
            there = left if record.left and subject not in same else found
            there[subject] = Person(subject, record.name, record.role, shown[subject].id)
    return Listed(found, left, aliases, frozenset(frozen))


def _ends_of(same: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Whom each chain of "the same as" ends with; of a ring, made by two people who merged both ways, the least id.

    Each link is followed once: whoever may list people says chains of thousands.
    """
    ends: dict[bytes, bytes] = {}
    for first in same:
        line: dict[bytes, None] = {}
        here = first
        while here in same and here not in ends and here not in line:
            line[here] = None
            here = same[here]
        end = ends.get(here, here)
        if here in line:
            passed = list(line)
            end = min(passed[passed.index(here) :])
        ends.update(dict.fromkeys(line, end))
    return ends


def _ruled(
    entries: Iterable[Entry], held: Mapping[bytes, int], door: Door
) -> tuple[dict[bytes, Entry], dict[bytes, Entry]]:
    """What of the held back humans have accepted, and refused, by which ruling: the latest of the revocation's rank.

    Only work can be accepted, never what gives rights or keys: so a ruling frees no revocation and no ruling.
    """
    acceptable = {entry.id for entry in entries if entry.id in held and is_acceptable(entry.header.kind)}
    accepted: dict[bytes, Entry] = {}
    refused: dict[bytes, Entry] = {}
    for entry, ruling in rulings_of(entries, held, door) if held else ():
        rank = door.rank_of(entry.header)
        for one in ruling.accepted:
            if one in acceptable and rank >= held[one]:
                refused.pop(one, None)
                accepted[one] = entry
        for one in ruling.refused:
            if one in held and rank >= held[one]:
                accepted.pop(one, None)
                refused[one] = entry
    return accepted, refused


def _is_roots(ruling: Entry, door: Door) -> bool:
    return door.standing_of(ruling.header) >= RANK[Role.ROOT]


def _let_count(shown: Iterable[Entry], accepted: Mapping[bytes, Entry], door: Door) -> dict[bytes, LetCount]:
    by_others = {one: by.id for one, by in accepted.items() if not _is_roots(by, door)}
    return {
        one.id: LetCount(by_others[one.id], one.header.author, one.header.kind)
        for one in (shown if by_others else ())
        if one.id in by_others
    }


def is_acceptable(kind: int) -> bool:
    """Whether entries of this kind wait for a human when they are held back: work, not rights and not keys."""
    return kind in _ACCEPTABLE


_ACCEPTABLE: Final = frozenset(
    {
        Kind.REVISION,
        Kind.WITHDRAW,
        Kind.RESTORE,
        Kind.FEEDBACK,
        Kind.RECEIPT_TEACHER,
        Kind.HAND_IN,
        Kind.WRAP,
        Kind.RECEIPT_SAFE,
    }
)
