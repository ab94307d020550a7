"""Which reading keys of a space are spent by devices that are gone (docs/protocol.md, "Roster").

Whoever has the server says of keys what he likes: that one was given away, that it is another's, that somebody's own
X25519 key is that of a device which he then cuts off.

Rules:
- what a device that is away as its teacher's has made, or was given, is spent: nothing more is sealed to it;
- where who made a key says that it was given away, it counts, whatever is held back of that; where another device of
  the same person does, too, but for what is held back of one that is away (docs/adr/0469); what anybody else says of a
  key that one of these has said as its teacher's, never;
- what is given to the X25519 key of a device in use, or of a phrase, to which the person's own lead (now, and once) is
  given to nobody else, whoever names that key beside a signing key of nobody;
- of what somebody says of themselves, and is held back, that they were given a key counts for nothing: a lost laptop
  would spend each new key of hers.

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonKey
from protocol.rights.door import Authority, Door
from protocol.rights.keys_in_use import Key, by_their_own
from protocol.rights.speaking import Speaking
from protocol.rights.vouching import Away, Device
from protocol.roles import HAS_READING_KEYS
from protocol.trust.person_keys import KeyWraps, PhraseKey

_NOBODY: Final = frozenset[bytes]()


class Doubted(NamedTuple):
    """The entries that are held back, and the grants under which nobody speaks."""

    held_back: Container[bytes]
    unheard: Container[bytes]


def keys_spent(
    heard: Sequence[Entry],
    given: Iterable[Entry],
    door: Door,
    away: Away,
    gone: Mapping[Key, Collection[bytes]],
    doubted: Doubted,
    leading: tuple[Speaking, Speaking],
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
) -> frozenset[Key]:
    """The reading keys, each with its teacher, that a device which is `away` as that teacher's has made or was given.

    `gone` are the keys of devices that are, with who signs for each; `heard` is what counts, and `given` are all
    entries that say that a key was given to somebody. `leading` is to whom each one's own devices lead now, and once
    did.
    """
    if not any(away):
        return frozenset()
    people = _People(away, leading, phrases)
    claims = _Claims(heard, door, people, doubted)
    recipients = _Recipients(gone, people)
    found, spent_by_maker = set(claims.spent), set[Key]()
    for person, device, entry in by_their_own(given, Kind.KEY_WRAP, door):
        gift, author = parsed(entry, KeyWraps.parse), entry.header.author
        if gift is None:
            continue
        made = claims.made_as.get((author, gift.agreement), _NOBODY)
        is_held_back = entry.id in doubted.held_back
        if not made and _is_nobodys_word(is_held_back=is_held_back, is_away=people.is_away(device, person)):
            continue
        is_heeded = bool(made) and (person, gift.agreement) not in claims.of_their_own
        # as whose it is given: as whose its author made it, which many gifts share, and as this one's
        alone = frozenset({person}) if is_heeded or _is_theirs(entry, doubted) else _NOBODY
        if recipients.are_gone(gift, _Giver(device, made, alone), is_held_back=is_held_back):
            found.update((each, gift.agreement) for each in alone)
            spent_by_maker.add((author, gift.agreement))
    found.update((each, maker[1]) for maker in spent_by_maker for each in claims.made_as.get(maker, ()))
    return frozenset(found)


class _People:
    """Which devices are whose by what their own say, and which of these are gone."""

    def __init__(
        self,
        away: Away,
        leading: tuple[Speaking, Speaking],
        phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
    ) -> None:
        self._away: Final = away
        self._now, self._once = leading
        self._papers: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for id_, drawer, agreement in _of_phrases(phrases, self.is_away):
            if any(drawer in devices for devices in self.own(id_)):
                self._papers[id_].add(agreement)
        self.in_use: Final = cache(self._in_use)  # many gifts are of few persons

    def is_away(self, device: Device, person: bytes) -> bool:
        """Whether a device is gone as a person's."""
        return self._away.has(device, person)

    def own(self, person: bytes) -> tuple[Collection[Device], Collection[Device]]:
        """The devices to which somebody's own lead, and once led."""
        return self._now.get(person, frozenset()), self._once.get(person, frozenset())

    def _in_use(self, persons: frozenset[bytes]) -> tuple[frozenset[Device], frozenset[bytes]]:
        """The devices of some persons that are in use; and the X25519 keys of these and of their phrases."""
        own = frozenset(
            device for each in persons for device in self._now.get(each, ()) if not self.is_away(device, each)
        )
        return own, _kept_by(own, *(self._papers[each] for each in persons))


class _Claims:
    """Who has said which key as whose.

    `made_as` is as whose a device said a key; of a key that is `of_their_own`, which its teacher's devices have said,
    what others say does not count; `spent` are those of who is gone.
    """

    def __init__(self, heard: Iterable[Entry], door: Door, people: _People, doubted: Doubted) -> None:
        said = [
            (person, device, key.agreement, _is_theirs(entry, doubted))
            for person, device, entry in by_their_own(heard, Kind.PERSON_KEY, door)
            if (key := parsed(entry, PersonKey.parse)) is not None
        ]
        self.of_their_own: Final = _made_by_their_own(said)
        self.spent: Final = set[Key]()
        claimed: defaultdict[Key, set[bytes]] = defaultdict(set)
        for person, device, agreement, is_theirs in said:
            if is_theirs or (person, agreement) not in self.of_their_own:
                claimed[device[0], agreement].add(person)
                if people.is_away(device, person):
                    self.spent.add((person, agreement))
        self.made_as: Final = {key: frozenset(persons) for key, persons in claimed.items()}


class _Giver(NamedTuple):
    """Who says that a key was given: by which device, as whose this one `made` the key, and as whose `alone`."""

    device: Device
    made: frozenset[bytes]
    alone: frozenset[bytes]


class _Recipients:
    """Whether who was given a key is gone."""

    def __init__(self, gone: Mapping[Key, Collection[bytes]], people: _People) -> None:
        self._gone: Final = gone
        self._people: Final = people
        self._by_key: Final = _whoever_they_are(gone)

    def are_gone(self, gift: KeyWraps, giver: _Giver, *, is_held_back: bool) -> bool:
        """Whether one of them is; who gave it, by a word that is held back, does not count.

        What a maker or a device in use gives is gone with whoever is; what another does, with a device of that person.
        """
        kept, (own, kept_alone) = self._people.in_use(giver.made)[1], self._people.in_use(giver.alone)
        strange = [to for to in {recipient for recipient, _ in gift.wraps} if to not in kept and to not in kept_alone]
        if giver.made or giver.device in own:
            holders = (each for to in strange for each in self._by_key.get(to, ()))
        else:
            holders = (each for to in strange for one in giver.alone for each in self._gone.get((one, to), ()))
        itself = giver.device[0] if is_held_back else None
        # two of them are looked at, at most: only one is `itself`
        return any(holder != itself for holder in holders)


def _made_by_their_own(said: Iterable[tuple[bytes, Device, bytes, bool]]) -> frozenset[Key]:
    """The keys that a device of the teacher has said as the teacher's."""
    return frozenset((person, agreement) for person, _, agreement, theirs in said if theirs)


def _is_theirs(entry: Entry, doubted: Doubted) -> bool:
    """Whether one of its person's devices said something of a key."""
    return entry.header.grant not in doubted.unheard


def _is_nobodys_word(*, is_held_back: bool, is_away: bool) -> bool:
    """Whether what a device says of a key that another one made counts for nothing.

    Whom this replica took for hers while a server's word had cut her off, her own laptop does not: what that one says
    was given has her make no other key.
    """
    return is_held_back and is_away


def _kept_by(own: Iterable[Device], *papers: Iterable[bytes]) -> frozenset[bytes]:
    """The X25519 keys of somebody's devices in use, and of their phrases: a gift to these is one to nobody else."""
    return frozenset(agreement for _, agreement in own).union(*papers)


def _of_phrases(
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]], is_away: Callable[[Device, bytes], bool]
) -> Iterable[tuple[bytes, Device, bytes]]:
    """As whose each phrase was drawn, by which device that is not away as that one's, and its X25519 key."""
    return ((id_, by, said.agreement) for id_, drawn in phrases.items() for by, said in drawn if not is_away(by, id_))


def _whoever_they_are(gone: Mapping[Key, Collection[bytes]]) -> dict[bytes, set[bytes]]:
    """The keys of devices that are gone by their X25519 keys alone."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for (_, agreement), signers in gone.items():
        found[agreement].update(signers)
    return dict(found)


def keys_cut_off(authorities: Iterable[Authority], away: Away) -> dict[Key, set[bytes]]:
    """The X25519 keys of each teacher's devices that are away as that one's, with the keys that sign for these.

    Nothing proves whose an X25519 key is: that another machine, cut off or not, says it is its own means nothing here.
    """
    found: defaultdict[Key, set[bytes]] = defaultdict(set)
    for each in authorities:
        whose = None if each.role not in HAS_READING_KEYS else each.person
        if whose is not None and away.has(each.pair, whose):
            found[whose, each.agreement].add(each.key)
    return dict(found)


def keys_held(
    claimed: Collection[Key],
    living: Iterable[Authority],
    away: Away,
    phrases: Mapping[bytes, Iterable[tuple[Device, PhraseKey]]],
    led: tuple[Speaking, Speaking],
) -> frozenset[Key]:
    """Those of the keys, `claimed` as each teacher's, that the teacher's devices in use hold, or drew as phrases.

    Whoever may write grants names them beside a signing key of their own, which is then cut off: that spends nothing.
    Of devices that are `away` none counts, nor a phrase of theirs: a lost laptop can have drawn one with its own X25519
    key. A device holds what it has as the person to whose devices these have `led` (now; what it drew, also once):
    whatever else it is granted as, as nobody else's.
    """
    granted = [
        (each.person, each.pair, each.agreement)
        for each in living
        if each.person is not None and each.role in HAS_READING_KEYS
    ]
    drawn = [(person, device, phrase.agreement) for person, said in phrases.items() for device, phrase in said]
    held = {
        (person, agreement)
        for those, leading in ((granted, led[:1]), (drawn, led))
        for person, device, agreement in those
        if not away.has(device, person) and any(device in devices.get(person, ()) for devices in leading)
    }
    return frozenset(held.intersection(claimed))
