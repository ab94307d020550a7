"""Why a device that grants call somebody's stays out of what is given to them, and what somebody says who knows better.

Rules (docs/adr/0402):
- what was cut off is told as that, with the day and by whom, and no line that lets it in stands beside: it may be in a
  thief's hands. What nobody with a say has called theirs is asked about;
- that a laptop is lost others say as well who have a copy of the server's key, so that a thief's is the one that is
  left: their word makes room for nobody (docs/adr/0393, 0396). Said here once more it does, and whom that would let in
  is told before, with the six words: whose they are is asked first.

docs/protocol.md, "Confirmed devices", C51, C60.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.beside_words import unlike_words
from protocol.clock import rfc3339
from protocol.model.entry import Entry, Kind
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time
from protocol.replica.office.acquaintance import Acquaintance, acquaintances_of
from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import (
    DeviceCut,
    key_cut_off,
    orders_by_key,
    standing_cuts,
)
from protocol.replica.office.grants import Looked, Why, cuts_that_matter, devices_of
from protocol.replica.office.heard import Word, said_by
from protocol.replica.office.known_here import KnownHere, teachers_devices
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.said_here import is_surely_ours, noted_cuts
from protocol.rights.vouching import Device, device_words
from protocol.roles import HAS_READING_KEYS, RANK, Role

_MOST_TOLD: Final = 20
"""Of so many devices the words are told: each set takes a hundredth of a second."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """The word that cut a device off; whether it `is_noted` as this office's own, or is the root's."""

    word: Word
    is_noted: bool


@dataclass(frozen=True, slots=True)
class Reported:
    """Devices of somebody's that others have reported, and those that come along once this is said here."""

    person: bytes
    lost: tuple[tuple[Device, CutOff], ...]
    waiting: tuple[Device, ...]

    def row(self) -> dict[str, JSON]:
        """For `status --json`."""
        lost: list[JSON] = [
            {"device": device[0].hex(), "at": rfc3339(cut.word.at_ms), "by": cut.word.by.hex()}
            for device, cut in self.lost
        ]
        return {"person": self.person.hex(), "lost": lost, "waiting": [device[0].hex() for device in self.waiting]}


async def cut_off_by(office: Office, devices: Collection[bytes]) -> dict[bytes, CutOff]:
    """By which word that stands each of these devices is cut off, this office's own before others', then the latest."""
    if not devices:
        return {}
    replica, noted = office.replica, await noted_cuts(office.replica.store)
    persons = {each.person for key in devices for each in replica.door.authorities_of(key) if each.person is not None}
    standing = {cut.entry for cut in await standing_cuts(office, devices, persons)}
    found: dict[bytes, CutOff] = {}
    for order in await replica.store.scan_kinds([Kind.REVOKE]):
        key = key_cut_off(order)
        if key is None or key not in devices:
            continue
        if order.id in standing or order.id in (await replica.view(order.header.space)).roster.revocations:
            said = CutOff(_word(order), is_surely_ours(office, order, noted))
            found[key] = max(found.get(key, said), said, key=lambda each: (each.is_noted, each.word.at_ms))
    return found


def _word(order: Entry) -> Word:
    return Word(order.header.author, order.header.grant, order.timestamp_ms)


def when_and_by(office: Office, cut: CutOff) -> str:
    """For a line of a command."""
    day = local_time(rfc3339(cut.word.at_ms) or "")
    own, given = office.own_device[0], office.replica.door.authority(cut.word.grant)
    if given is None or office.rank < RANK[Role.SERVER]:
        return f"{day} by {said_by(office.replica, cut.word, own)}"
    if cut.is_noted:
        return f"{day} by this server"
    if given.role is Role.SERVER:
        return f"{day} by a server's key, and by no command that this server has noted"
    return f"{day} by {said_by(office.replica, cut.word, own)}, a {given.role}'s"


def why_it_stays_out(office: Office, each: Looked, cut: CutOff | None) -> str:
    """In words, as far as it hangs on no look at its screen."""
    when = "" if cut is None else f" {when_and_by(office, cut)}"
    match each.why:
        case Why.CUT_OFF:
            return f"it was reported lost, or cut off,{when}"
        case Why.LEFT:
            return f"it was cut off{when}, and not for its own sake: its person left, say"
        case Why.PUPIL:
            return "its person is, or was, on a list as a pupil or a guardian, who have no computer here"
        case Why.ELSEWHERE:
            return "another school alone calls it theirs"
        case _:
            return "it stands for no teacher, though a grant calls it theirs"


def asks_to_look(each: Looked) -> bool:
    """Whether its own screen says whose a device is."""
    return each.why in (Why.NEW, Why.UNKNOWN)


# --- what others have reported ----------------------------------------------------------------------------------------


async def reported_by_others(office: Office, person: bytes, spaces: Sequence[bytes]) -> Reported | None:
    """What others have reported of somebody's that keeps the rest out of these spaces, as long as it is not said here.

    None where it keeps nobody out.
    """
    devices = devices_of(office, [person])
    return await _reported(office, person, await cuts_that_matter(office, devices, person, spaces))


async def reported_before(office: Office) -> list[Reported]:
    """The same of everybody, at a server that came out of a backup: others have noted what was said there.

    In the order in which lists here had them first: whoever makes people up has them reported first.
    """
    if not (await KnownHere.of(office)).at_once:
        return []
    cut = orders_by_key(await office.replica.store.scan_kinds([Kind.REVOKE]))
    given = [each for key in cut for each in office.replica.door.authorities_of(key)]
    persons = dict.fromkeys(each.person for each in given if each.person is not None and each.role in HAS_READING_KEYS)
    found = []
    for person in persons:
        cuts = await standing_cuts(office, devices_of(office, [person]), [person])
        found.append(await _reported(office, person, cuts))
    place = {person: number for number, person in enumerate(await mentioned(office.replica))}
    return sorted((each for each in found if each is not None), key=lambda each: place.get(each.person, len(place)))


async def _reported(office: Office, person: bytes, cuts: Sequence[DeviceCut]) -> Reported | None:
    keys = {cut.key for cut in cuts}
    called = dict.fromkeys(each.pair for each in teachers_devices(office, person))
    others = [device for device in called if device[0] not in keys]
    if not keys or not others:
        return None
    by = {key: cut for key, cut in (await cut_off_by(office, keys)).items() if not cut.is_noted}
    lost = tuple((device, by[device[0]]) for device in called if device[0] in by)
    if not lost:
        return None
    now = await acquaintances_of(office, person, cuts)
    then = await acquaintances_of(office, person, cuts, said_here=True)
    waiting = [
        each
        for each in others
        if now(each) is Acquaintance.UNKNOWN is not then(each) and await office.replica.readable(each[0])
    ]
    return Reported(person, lost, tuple(waiting)) if waiting else None


async def lines_of(office: Office, reported: Reported, program: str) -> list[str]:
    """What to ask before anything is said: a thief has hers cut off so that his are let in for it."""
    names = (await mentioned(office.replica, [reported.person]))[reported.person]
    whose = f"{unlike_words(names.shown())} ({reported.person.hex()})"
    lines = []
    for device, cut in reported.lost[:_MOST_TOLD]:
        words = await asyncio.to_thread(device_words, device)
        lines.append(
            f"of {whose} the device {device[0].hex()}, “{words}”, was reported lost, or cut off, "
            f"{when_and_by(office, cut)}: that makes room for no other before it is said here"
        )
    waiting = [f"“{await asyncio.to_thread(device_words, each)}”" for each in reported.waiting[:_MOST_TOLD]]
    again = ", ".join(f"`{program} lost {device[0].hex()}`" for device, _ in reported.lost[:_MOST_TOLD])
    lines.append(
        "before anything else ask them, face to face or by telephone, which computer is gone, and which words the page "
        f"« Qui lit les travaux » of the others shows. If it is that one, and theirs show {' and '.join(waiting)}: "
        f"{again}, and `grant --person` takes these along. If it is in their hands, or no screen of theirs shows one "
        "of these, somebody else has cut it off: report nothing, and see “The server's disk or a backup was stolen”"
    )
    return lines
