"""Voices as they would be if a head teacher's grant were her word that the device is its person's: the defence off."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protocol.model.entry import Entry
from protocol.rights.door import Authority, Door
from protocol.rights.voices import voices_of
from protocol.rights.vouching import Device, Voices, Word
from protocol.roles import HAS_READING_KEYS, Role


def voices_with_granted_words(
    entries: Iterable[Entry],
    authorities: Iterable[Authority],
    door: Door,
    **others: Any,
) -> Voices:
    """As `voices_of`, with a word for each grant that a head teacher's device has written."""
    holding = list(authorities)
    voices = voices_of(entries, holding, door, **others)
    granted = {each.grant: each for each in holding if each.role in HAS_READING_KEYS}
    words: dict[Device, frozenset[Word]] = dict(voices.words)
    for each in granted.values():
        by = granted.get(each.under or b"")
        if by is not None and by.role is Role.HEAD and each.person is not None:
            device = (each.key, each.agreement)
            word = Word(device, each.person, by.person, each.role is Role.HEAD)
            voice = (by.key, by.agreement)
            words[voice] = words.get(voice, frozenset()) | {word}
    return replace(voices, words=words)
