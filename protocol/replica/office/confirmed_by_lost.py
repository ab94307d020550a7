"""Who goes on in somebody's name when a device of theirs is lost: by its word alone, or by nobody's.

Rules:
- what a device said before its report stands, unless a time is given: whom it confirmed goes on as its person's;
- nobody can tell whom she confirmed from whom a thief did: each is named, with the six words of its two keys;
- whom it has not confirmed and who is called the same person's is named as well: where no other device of theirs is
  left to which its words lead, new work is sealed to whoever came next, also to whom a thief has called so before
  (docs/adr/0397);
- from whom a voice starts is asked of what came here first, not of dates: a thief's device dates its key as it likes,
  and one that the server names besides dates its own so that it alone speaks here, and elsewhere the thief's does. What
  others' words hold back came all the same: else whoever cuts hers off for a minute is the first (docs/adr/0505).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from protocol.model.entry import Entry, Kind
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_without import held_surely
from protocol.replica.office.whose_device import whose_device
from protocol.replica.office.withdrawals import Kept, kept_by
from protocol.rights.circles import Circles
from protocol.rights.door import Door
from protocol.rights.keys_in_use import says_a_key
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, Voices, device_words

MAX_WORDS: Final = 50
"""For so many devices the six words are made: each takes a hundredth of a second."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Such a device, and where it reads; `words` are missing where there are very many."""

    kept: Kept
    words: str | None

    def row(self) -> dict[str, JSON]:
        """As commands say it."""
        return self.kept.row() | {"words": self.words}


async def confirmed_by_lost(office: Office, lost: bytes, spaces: Iterable[bytes]) -> tuple[Confirmed, ...]:
    """Those in some spaces that still read, whoever was confirmed by them in turn included."""
    rosters = [(await office.replica.view(space)).roster for space in spaces]
    spoke_in = [roster for roster in rosters if any(voice[0] == lost for voice in roster.voices.words)]
    if not spoke_in:
        return ()
    keys = await office.replica.store.scan_kinds([Kind.PERSON_KEY])
    held = await held_surely(office, [roster.space for roster in spoke_in])
    named: dict[tuple[bytes, bytes], Device] = {}
    for roster in spoke_in:
        starts = _came_first(office.replica.door, keys, roster, held[roster.space])
        named |= {(pair[0], roster.space): pair for pair in _by_its_word_alone(roster, lost, starts)}
    return await _with_words(office, named)


async def called_so_besides(office: Office, lost: bytes, spaces: Iterable[bytes]) -> tuple[Confirmed, ...]:
    """Those in some spaces that read as the same person, and that no word of the lost device leads to.

    As the person whose it is; where it came in as nobody's own, as whoever's it is called besides.
    """
    rosters = [(await office.replica.view(space)).roster for space in spaces]
    starts = {grant.pair for grant in office.replica.door.authorities_of(lost)}
    whose = await whose_device(office.replica, lost)
    persons = whose.others if whose.person is None else (whose.person,)
    named: dict[tuple[bytes, bytes], Device] = {}
    for roster in rosters:
        others = sorted(each for each in roster.voices.standings if each[1] in persons and each[0][0] != lost)
        led_to = {person: roster.voices.circle(person, *starts).own for person in {person for _, person in others}}
        named |= {(each[0], roster.space): each for each, person in others if each not in led_to[person]}
    return await _with_words(office, named)


async def _with_words(office: Office, named: Mapping[tuple[bytes, bytes], Device]) -> tuple[Confirmed, ...]:
    kept = await kept_by(office, named)
    pairs = list(dict.fromkeys(named[each.device, each.space] for each in kept))[:MAX_WORDS]
    words = await asyncio.to_thread(lambda: {pair: device_words(pair) for pair in pairs})
    return tuple(Confirmed(each, words.get(named[each.device, each.space])) for each in kept)


def _came_first(door: Door, keys: Iterable[Entry], roster: Roster, held: Container[bytes]) -> dict[bytes, Device]:
    """The device of each person whose reading key was the first that came to a space, but for those that are `held`."""
    found: dict[bytes, Device] = {}
    for entry in keys:
        author = door.authority(entry.header.grant) if entry.header.space == roster.space else None
        if author is None or author.person is None or author.person != entry.header.subject or entry.id in held:
            continue
        if says_a_key(entry):
            found.setdefault(author.person, author.pair)
    return found


def _by_its_word_alone(roster: Roster, lost: bytes, starts: Mapping[bytes, Device]) -> Sequence[Device]:
    """Who speaks as somebody's by the word of a device, or of those that it alone has confirmed: here, or elsewhere."""
    said = roster.voices.words
    others = replace(roster.voices, words={voice: said[voice] for voice in said if voice[0] != lost})
    led_to, led_to_by_others = _Led(roster.voices, starts), _Led(others, starts)

    def speaks_by_it(device: Device, person: bytes) -> bool:
        speaks = device in roster.speaking.get(person, ()) or device in led_to.own(person)
        return speaks and device not in led_to_by_others.own(person)

    found, pending = dict[Device, None](), [voice for voice in said if voice[0] == lost]
    while pending:
        for word in said.get(pending.pop(), ()):
            if word.device[0] != lost and word.device not in found and speaks_by_it(word.device, word.person):
                found[word.device] = None
                pending.append(word.device)
    return sorted(found)


class _Led:
    """Whom a person's first device leads to of theirs, by some words; worked out when it is asked for."""

    def __init__(self, voices: Voices, starts: Mapping[bytes, Device]) -> None:
        self._circles = Circles(voices)
        self._starts = starts
        self._own: dict[bytes, frozenset[Device]] = {}

    def own(self, person: bytes) -> frozenset[Device]:
        if person not in self._own:
            starts = self._starts
            self._own[person] = frozenset(self._circles.of(person).start(starts[person]) if person in starts else ())
        return self._own[person]
