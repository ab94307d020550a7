"""Whose devices speak for somebody, and under which grants nobody does (docs/protocol.md, "Confirmed devices").

Rules:
- what speaks starts from the devices that this replica saw first, and goes where their words lead;
- a teacher's grant whose device is not among those says nothing; that it is over makes it no more than it was: of a
  grant that gives nothing any more, also what was said while it did leads to its device (docs/adr/0161).

Pure; called by the roster alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from protocol.circles import Circles
from protocol.rights import Authority
from protocol.roles import HAS_READING_KEYS, Role
from protocol.vouching import Device, Voices, Word

Remembered: TypeAlias = Mapping[bytes, Sequence[Device]]
"""The devices that a replica saw first for each person, and believes whatever comes later."""


def joined(remembered: Remembered, aliases: Mapping[bytes, bytes]) -> Remembered:
    """Those that were seen first, of who was added twice under the one id under which they are listed now.

    Whoever has the server lists a teacher as the same as somebody else: that moves no memory out of the way.
    """
    found: defaultdict[bytes, dict[Device, None]] = defaultdict(dict)
    for person in sorted(remembered):
        found[aliases.get(person, person)].update(dict.fromkeys(remembered[person]))
    return {person: tuple(devices) for person, devices in found.items()}


def speaking_devices(
    voices: Voices, cut: frozenset[bytes], remembered: Remembered
) -> tuple[dict[bytes, frozenset[Device]], dict[bytes, tuple[Device, ...]]]:
    """Who speaks for each person, and from which devices that starts.

    From those that are remembered, else from the earliest that leads to one in use. Those that were cut off stay among
    them: what they said before stays said.
    """
    circles = Circles(voices)
    found, starts = {}, {}
    for person, firsts in voices.firsts.items():
        circle, begun = circles.of(person), list(remembered.get(person, ()))
        fresh = [device for start in begun for device in circle.start(start)]
        for start in firsts:
            if any(device[0] not in cut and (device, person) in voices.standings for device in fresh):
                break
            begun.append(start)
            fresh = circle.start(start)
        found[person] = frozenset(circle.own - voices.let_back)
        starts[person] = tuple(dict.fromkeys(begun))
    return found, starts


def unconfirmed(
    authorities: Iterable[Authority], aliases: Mapping[bytes, bytes], speaking: Mapping[bytes, frozenset[Device]]
) -> Iterable[bytes]:
    """Those of devices that are nobody's, or whose person no device of theirs has said so of.

    Where a person's devices have said no key yet, none of them speaks: whoever has the server grants what it likes.
    """
    for authority in authorities:
        if authority.role in HAS_READING_KEYS:
            device = (authority.key, authority.agreement)
            person = None if authority.person is None else aliases.get(authority.person, authority.person)
            is_nameless_head = authority.person is None and authority.role is Role.HEAD
            if device not in speaking.get(person or b"", ()) and not is_nameless_head:
                yield authority.grant


def over(ever: Iterable[Authority], living: Iterable[Authority]) -> list[Authority]:
    """The teachers' grants that give nothing any more."""
    left = {each.grant for each in living}
    return [each for each in ever if each.grant not in left and each.role in HAS_READING_KEYS]


def once_led_to(
    over: Iterable[Authority],
    aliases: Mapping[bytes, bytes],
    voices: Voices,
    starts: Mapping[bytes, Sequence[Device]],
) -> dict[bytes, frozenset[Device]]:
    """Which devices of the persons of grants that are over theirs lead to, by what was said of such grants too.

    A grant ends by the word of whoever has the server: that makes nothing hers that was not hers before.
    """
    persons = {aliases.get(each.person, each.person) for each in over if each.person is not None}
    if not persons:
        return {}
    none: frozenset[Word] = frozenset()
    words = {
        voice: voices.words.get(voice, none) | voices.over.get(voice, none) for voice in {*voices.words, *voices.over}
    }
    circles = Circles(replace(voices, words=words))
    found = {}
    for person in persons:
        circle = circles.of(person)
        for start in starts.get(person, ()):
            circle.start(start)
        found[person] = frozenset(circle.own)
    return found
