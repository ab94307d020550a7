"""To whom keys of a space were sealed, and by whose word (docs/protocol.md, "Given keys").

Only the recipient can tell whether a seal holds the key that it names. If anybody's word were enough, one machine could
seal noise to another, and nobody would seal the key to it any more.

Rules:
- a seal opens by whoever made it; of each author a few for a recipient are tried, so that nobody is kept busy;
- a key counts as given by the word of who may make such keys: to lie, they could as well make another;
- by the recipient's own: it says so once it could open the key, and would harm itself alone. Nothing proves whose an
  X25519 key is, so that all devices have to say so whose grants name it;
- and, for whoever is about to seal it, by their own. A key that was cut off vouches for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from protocol.limits import MAX_WRAPS_BY_ONE
from protocol.model.entry import Entry
from protocol.rights.door import Authority
from protocol.rights.roster import Roster


@dataclass(frozen=True, slots=True)
class GivenKeys:
    """The seals of keys by name: `seals` maps a recipient's X25519 key to what is sealed to it.

    `by_makers` are the recipients that were given a key by who may make it; `words` maps a recipient to the Ed25519
    keys of the other devices that sealed it; `owners` maps an X25519 key to the devices whose grants name it.
    """

    seals: Mapping[bytes, Mapping[bytes, tuple[bytes, ...]]] = field(default_factory=dict)
    by_makers: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    words: Mapping[bytes, Mapping[bytes, frozenset[bytes]]] = field(default_factory=dict)
    owners: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)

    def of(self, name: bytes) -> Mapping[bytes, tuple[bytes, ...]]:
        """What was sealed of one key, by recipient."""
        return self.seals.get(name, {})

    def lacking(self, name: bytes, wanted: Iterable[bytes], own: Collection[bytes]) -> list[bytes]:
        """Who of `wanted` was not given a key, as far as the device with the Ed25519 keys `own` can tell."""
        done, words = self.by_makers.get(name, frozenset()), self.words.get(name, {})
        return [one for one in wanted if one not in done and not self._says_so(one, words.get(one, frozenset()), own)]

    def _says_so(self, recipient: bytes, by: frozenset[bytes], own: Collection[bytes]) -> bool:
        owners = self.owners.get(recipient, frozenset())
        return not by.isdisjoint(own) or (bool(owners) and owners <= by)


class GivenKeysFold:
    """Gathers the seals among a space's entries."""

    def __init__(self, roster: Roster, may_make: Callable[[Authority], bool]) -> None:
        """Over a space whose roster is known; `may_make` tells whose grant allows to make such keys."""
        self._may_make = may_make
        self._grants = {each.grant: each for each in roster.authorities if each.key not in roster.cut}
        self._counted: Counter[tuple[bytes, bytes, bytes]] = Counter()
        self._seals: defaultdict[bytes, defaultdict[bytes, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        self._by_makers: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._words: defaultdict[bytes, defaultdict[bytes, set[bytes]]] = defaultdict(lambda: defaultdict(set))

    def add(self, entry: Entry, name: bytes, wraps: Iterable[tuple[bytes, bytes]]) -> None:
        """An entry that counts seals the key of this name to recipients. To be called in an order that the set says."""
        voice = self._grants.get(entry.header.grant or b"")
        for recipient, sealed in wraps:
            place = name, recipient, entry.header.author
            self._counted[place] += 1
            if self._counted[place] <= MAX_WRAPS_BY_ONE:
                self._seals[name][recipient].append(sealed)
            if voice is not None and self._may_make(voice):
                self._by_makers[name].add(recipient)
            elif voice is not None:
                self._words[name][recipient].add(voice.key)

    def result(self) -> GivenKeys:
        """What was gathered."""
        owners: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for grant in self._grants.values():
            owners[grant.agreement].add(grant.key)
        return GivenKeys(
            {name: {to: tuple(sealed) for to, sealed in each.items()} for name, each in self._seals.items()},
            {name: frozenset(given) for name, given in self._by_makers.items()},
            {name: {to: frozenset(words) for to, words in each.items()} for name, each in self._words.items()},
            {agreement: frozenset(keys) for agreement, keys in owners.items()},
        )
