"""Whom this device has known, and since when: what the server names today is no old acquaintance.

Rules (docs/protocol.md, "Sealed hand-ins"; docs/adr/0125):
- counted are devices from which a person's voice starts here (`first_met`), each since it was met in a class: whoever
  has the server chooses ids, dates, and who is the same as whom, not what this device has seen before;
- those that were there when the class was first met are the *first*; who came since counts after a week, in which the
  pages of the class's teachers say who came;
- the week is one that this device has watched (`watched`): a clock that was wrong when somebody was met shortens it by
  nothing when it is set right;
- nobody met later is ever as early as somebody met before;
- of each id, as grants give it, it is noted as well when each device was met that has said a reading key and speaks
  here: the earliest, and no more of one than `MAX_MET_OF_ONE`. From there a voice goes on that is led to nobody in use
  (docs/adr/0246); whom the server alone names is not among them, and takes no place;
- nor is, of an id that began here, whom the devices of another id alone lead to: that a list calls the two one is no
  word of hers (docs/adr/0277).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

from blake3 import blake3

from protocol.folds.hand_in_keys import NEVER_MS, Known
from protocol.limits import ACQUAINTANCE_MS, MAX_MET_OF_ONE
from protocol.replica.office.bureau import Met
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from sync_agent.app import Agent
from sync_agent.machine.marks import MET_MARKS, heard_mark

_KNOWN, _CONFIRMED, _STRANGER = range(3)

Turn: TypeAlias = tuple[int, int, bytes]
"""Where a key stands in the queue: how well who said it is known, since when, and a lot of this device's drawing."""


def meeting_ms(agent: Agent) -> int:
    """The time of whom this one meets now: later than that of whoever it has met, in whatever class."""
    return max(agent.watched.now_ms(), max(agent.acquainted.meetings_ms(), default=-1) + 1)


def meet(
    agent: Agent,
    space: bytes,
    devices: Iterable[Device],
    remembered: frozenset[Device],
    heard_ms: Mapping[Device, int],
    now_ms: int,
) -> dict[str, bytes]:
    """Note the devices that this one meets in a class now, at `meeting_ms`; the marks that say so.

    `remembered` are those that it knew already, since a version that noted no time; of whom it has heard for a week
    before it believed them, `heard_ms` is when that began.
    """
    met = agent.acquainted.met.setdefault(space, {})
    marks = {}
    for device in devices:
        name = device_id(device)
        if name not in met:
            met[name] = 0 if device in remembered else heard_ms.get(device, now_ms)
            marks[f"{MET_MARKS}{space.hex()}/{name.hex()}"] = met[name].to_bytes(8, "big")
    return marks


def hear(agent: Agent, roster: Roster, now_ms: int) -> dict[str, bytes]:
    """Note the devices that are heard of in a class now, at `meeting_ms`, by their reading keys; the marks that say so.

    Of those that come at once the earliest by date: it is these among which a date decides.
    """
    heard, marks = agent.acquainted.heard.setdefault(roster.space, {}), dict[str, bytes]()
    for person, devices in roster.say_keys.items():
        met = heard.get(person, {})
        began = agent.acquainted.first.get(roster.space, {}).get(person)
        new = [
            each
            for each in devices
            if each not in met and _speaks(roster, person, each) and (not began or _is_that_ones(roster, person, each))
        ]
        new = new[: max(0, MAX_MET_OF_ONE - len(met))]
        if new:
            heard[person] = {**met, **dict.fromkeys(new, now_ms)}
            marks |= heard_mark(roster.space, person, heard[person])
    return marks


def _speaks(roster: Roster, person: bytes, device: Device) -> bool:
    return device in roster.speaking.get(roster.who(person), ())


def _is_that_ones(roster: Roster, person: bytes, device: Device) -> bool:
    """Whether a device speaks for this very id: one to which only another id's devices lead is that one's."""
    return device in roster.speaking_alone.get(person, ())


def met_first(agent: Agent, person: bytes, without: Collection[bytes]) -> Met:
    """Of a person's devices those met the earliest, in whatever class, and who was called theirs when that began.

    But for those with these signing keys. Met are those that have said a reading key as this id, or from which its
    voice starts; by the id alone: who is the same as whom, others say. What came in one look came in no order.
    """
    grants = agent.replica.door.authorities()
    named = {grant.pair for grant in grants if grant.person == person and grant.key not in without}
    met: dict[Device, int] = {}
    seen = agent.acquainted
    for space in {*seen.first, *seen.heard}:
        since = seen.met.get(space, {})
        starts = {each: since.get(device_id(each), NEVER_MS) for each in seen.first.get(space, {}).get(person, ())}
        heard = seen.heard.get(space, {}).get(person, {})
        for device, since_ms in (*starts.items(), *heard.items()):
            met[device] = min(since_ms, met.get(device, NEVER_MS))
    met = {device: since_ms for device, since_ms in met.items() if device in named}
    if not met:
        return Met()
    first_ms = min(met.values())
    at_once = frozenset(seen.beside.get(person, ())).intersection(named)
    return Met(
        at_once.union(device for device, since_ms in met.items() if since_ms == first_ms),
        for_long=agent.watched.now_ms() - first_ms >= ACQUAINTANCE_MS,
    )


def _heard_ms(agent: Agent, space: bytes) -> dict[bytes, int]:
    """Since when each person was heard of in a class: of whom is no first yet (`first_met`) that says when it was met.

    Else whoever comes next was first in the class, and whoever says such a one's key was known for longer.
    """
    return {person: min(heard.values()) for person, heard in agent.acquainted.heard.get(space, {}).items() if heard}


def known_in(agent: Agent, space: bytes) -> Known:
    """Whose word on a work of this class lets go of it."""
    met, now_ms = agent.acquainted.met.get(space, {}), agent.watched.now_ms()
    heard = _heard_ms(agent, space)
    since_ms = min((*met.values(), *heard.values()), default=0)
    persons = agent.acquainted.first.get(space, {}).items()
    return Known(
        first=frozenset(device for device, met_ms in met.items() if met_ms == since_ms),
        long=frozenset(device for device, met_ms in met.items() if now_ms - met_ms >= ACQUAINTANCE_MS),
        met_ms=heard
        | {
            person: min((met.get(device_id(device), NEVER_MS) for device in devices), default=NEVER_MS)
            for person, devices in persons
        },
    )


def turns(agent: Agent, roster: Roster) -> Callable[[bytes], Turn]:
    """In which turn a reading key of a class is sealed to: of old acquaintances', of whom these confirmed, of others.

    By no id and no date that others choose: among those who came at once, each device draws its own lots.
    """
    met = agent.acquainted.met.get(roster.space, {})
    known = known_in(agent, roster.space)
    ranks: dict[Device, tuple[int, int]] = {}
    for person, starts in roster.starts.items():
        for start in starts:
            name = device_id(start)
            if name in known.first | known.long:
                circle = roster.voices.circle(person, start)
                for place, devices in ((_KNOWN, circle.own), (_CONFIRMED, circle.others)):
                    for device in devices:
                        ranks[device] = min(ranks.get(device, (place, met[name])), (place, met[name]))

    def turn(key: bytes) -> Turn:
        lot = blake3(agent.device + key).digest()
        said = [
            ranks.get(device, (_STRANGER, met.get(device_id(device), NEVER_MS)))
            for device in roster.makers.get(key, ())
        ]
        return (*min(said, default=(_STRANGER, NEVER_MS)), lot)

    return turn


def is_acquaintance(agent: Agent, roster: Roster) -> Callable[[bytes], bool]:
    """Whether a reading key of a class is, or was, an old acquaintance's, or of whom one of these has confirmed."""
    turn, known = turns(agent, roster), known_in(agent, roster.space)
    old = known.first | known.long

    def is_one(key: bytes) -> bool:
        return turn(key)[0] != _STRANGER or any(device_id(by) in old for by in roster.said_by.get(key, ()))

    return is_one
