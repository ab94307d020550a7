"""Voices as they would be if a list that calls two ids one joined them: the defence off (docs/adr/0461)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from protocol.model.entry import Entry
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster, with_voices
from protocol.rights.speaking import Remembered
from protocol.rights.vouching import Device, Voices

_spoken_as: Final = Roster.spoken_as
_NOTHING: Final = Remembered()


def _joined(roster: Roster, said: Sequence[Entry], door: Door, remembered: Remembered = _NOTHING) -> Roster:
    """Whom a list calls the same has the same devices, words and beginnings."""
    found = with_voices(roster, said, door, remembered)
    speaking = _under_each(found.speaking, found)
    return replace(
        found,
        voices=_said_of_one(found.voices, found.who),
        speaking={person: frozenset(devices) for person, devices in speaking.items()},
        starts=_under_each(found.starts, found),
    )


def _under_each(devices: Mapping[bytes, Iterable[Device]], roster: Roster) -> dict[bytes, tuple[Device, ...]]:
    joined: defaultdict[bytes, dict[Device, None]] = defaultdict(dict)
    for person, theirs in devices.items():
        joined[roster.who(person)].update(dict.fromkeys(theirs))
    return {person: tuple(joined[roster.who(person)]) for person in {*devices, *joined}}


def _said_of_one(voices: Voices, who: Callable[[bytes], bytes]) -> Voices:
    words = {
        voice: frozenset(
            each._replace(person=who(each.person), by=None if each.by is None else who(each.by)) for each in said
        )
        for voice, said in voices.words.items()
    }
    return replace(
        voices, words=words, standings=frozenset((device, who(person)) for device, person in voices.standings)
    )


def _as_listed(roster: Roster, given: Authority | None) -> bytes | None:
    person = _spoken_as(roster, given)
    return None if person is None else roster.who(person)


JOINED: dict[str, object] = {
    "protocol.rights.roster.with_voices": _joined,
    "protocol.folds.growth.with_voices": _joined,
    "protocol.rights.roster.Roster.spoken_as": _as_listed,
}


def _silenced(roster: Roster, said: Sequence[Entry], door: Door, remembered: Remembered = _NOTHING) -> Roster:
    """Whom a list calls somebody else says nothing any more, and is given nothing."""
    found = with_voices(roster, said, door, remembered)
    grants = {given.grant for given in found.granted.values() if given.person in found.aliases}
    return replace(
        found,
        unconfirmed=found.unconfirmed | grants,
        speaking={person: devices for person, devices in found.speaking.items() if person not in found.aliases},
        reading_keys={person: keys for person, keys in found.reading_keys.items() if person not in found.aliases},
    )


SILENCED: dict[str, object] = {
    "protocol.rights.roster.with_voices": _silenced,
    "protocol.folds.growth.with_voices": _silenced,
}
