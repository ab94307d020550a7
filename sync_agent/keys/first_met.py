"""Whom this device believes of each person: those that it met first, in a class and in whatever class.

Rules (docs/protocol.md, "Confirmed devices", C38 to C43, C47):
- of each person it believes for good the device that it saw first in a class, whatever dates come later;
- of whom it knows better by another, from other classes, nobody is that before they have spoken there for a week: a
  class begins each year, and its first hour is no word of hers. Meanwhile whoever she was elsewhere is who speaks, once
  they say a key there (docs/adr/0389). Who is known best is that at once (docs/adr/0434);
- which devices were called hers when it met her first it notes as well: of these it saw none before the others, and no
  office of its takes one along by a date (docs/adr/0396);
- who is cut off in a class, or back and not confirmed again, comes elsewhere after whoever else was met, and before
  whom nobody met, or has only heard there: a cut is also a thief's word, about a class that is over (docs/adr/0414).
  That a right has ended says nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.limits import ACQUAINTANCE_MS, MAX_MET_OF_ONE
from protocol.rights.door import Authority
from protocol.rights.roster import Roster, authorities_over
from protocol.rights.speaking import GONE, UNMET
from protocol.rights.successions import predecessors_of
from protocol.rights.vouching import Device, device_id
from protocol.roles import HAS_READING_KEYS
from sync_agent.app import Agent
from sync_agent.keys.acquaintances import hear, meet, meeting_ms, nobodys_keys, note_led
from sync_agent.keys.confirming import own_device, own_grant, own_grants
from sync_agent.keys.seen_readers import space_mark
from sync_agent.machine.acquainted import Orders
from sync_agent.machine.marks import (
    BESIDE_MARKS,
    FIRST_MARKS,
    GONE_AS_MARKS,
    KNOWN_READER_MARKS,
    MET_MARKS,
    WAS_THERE,
    heard_mark,
)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a class shows in one look: from whom each voice starts, and who has gone on for a week unknown (`lasting`).

    `own` is as whose this device itself is in the class, by the grant under which it speaks there.
    """

    roster: Roster
    own: bytes | None
    starts: Mapping[bytes, Sequence[Device]]
    lasting: Mapping[bytes, Mapping[Device, int]]


async def remember_firsts(agent: Agent) -> None:
    """Note whom this device believes of each person: those that it saw first, and itself; and whom it met next.

    By the ids under which they are granted: a list that calls two people one makes no memory of it. All classes are
    looked at before anything is noted but who is gone in each: what comes in one look comes in no order of classes.
    """
    if forgotten := _forget_itself(agent):
        agent.bear_in_mind()
    await agent.acquainted.save(agent.replica.store, forgotten)
    grants = await own_grants(agent)
    now_ms, before_now = meeting_ms(agent), agent.acquainted.persons()
    rosters = [(await agent.replica.view(space)).roster for space in await agent.spaces()]
    mine = [await own_grant(agent, grants, roster.space) for roster in rosters]
    marks: dict[str, bytes | None] = {}
    for roster in rosters:
        marks |= _who_is_gone(agent, roster)
    orders = agent.acquainted.orders()
    for look in [_look(agent, roster, own, orders) for roster, own in zip(rosters, mine, strict=True)]:
        if noted := _note(agent, look, now_ms, orders):
            marks |= noted | _who_is_gone(agent, look.roster)
            orders.noted(look.roster.space)
    marks |= _called_theirs(agent, agent.acquainted.persons() - before_now)
    if marks:
        agent.bear_in_mind()
    await agent.acquainted.save(agent.replica.store, marks)


def _look(agent: Agent, roster: Roster, mine: Authority | None, orders: Orders) -> _Look:
    starts, lasting = _starts(agent, roster, orders), _for_a_week(agent, roster)
    return _Look(roster, None if mine is None else mine.person, starts, lasting)


def _note(agent: Agent, look: _Look, now_ms: int, orders: Orders) -> dict[str, bytes | None]:
    """Note whom a class shows; the marks that say so.

    Itself as whose it met the class, or as somebody's of whom it knows nobody there, nor better by another elsewhere:
    whoever has the server grants a pupils' PC, or a colleague's laptop, as hers (docs/adr/0270).
    """
    space, own = look.roster.space, look.own
    known = agent.acquainted.first.setdefault(space, {})
    is_new = not known
    before = frozenset(device for devices in known.values() for device in devices)
    starts = {person: list(devices) for person, devices in {**look.starts, **look.lasting}.items()}
    itself = own_device(agent)
    if (
        own is not None
        and itself not in known.get(own, ())
        and _is_first_itself(known.get(own, ()), agent.own_keys)
        and not _is_doubted(agent, space, own, itself, orders)
    ):
        starts.setdefault(own, []).append(itself)
    marks: dict[str, bytes | None] = {}
    for person, devices in starts.items():
        for device in devices:
            believed = known.get(person, ())
            if device not in believed:
                known[person] = (*believed, device)
                marks[space_mark(FIRST_MARKS, space, person)] = _pairs(known[person])
    if is_new and own is not None:
        marks |= _there_already(look.roster, starts)
    heard_ms = {device: at_ms for heard in look.lasting.values() for device, at_ms in heard.items()}
    marks |= meet(agent, space, (each for devices in known.values() for each in devices), before, heard_ms, now_ms)
    marks |= note_led(agent, look.roster, now_ms)
    return marks | hear(agent, look.roster, now_ms, orders)


def _starts(agent: Agent, roster: Roster, orders: Orders) -> dict[bytes, list[Device]]:
    """From which devices each voice starts in a class, but for those that are doubted as its person's."""
    known = agent.acquainted.first.get(roster.space, {})
    return {
        person: [
            each
            for each in devices
            # all classes are gone through for somebody new alone: this is asked at each look
            if each in known.get(person, ()) or not _is_doubted(agent, roster.space, person, each, orders)
        ]
        for person, devices in roster.starts.items()
    }


def _is_doubted(agent: Agent, space: bytes, person: bytes, device: Device, orders: Orders) -> bool:
    """Whether a device may be somebody else's: this one knows the person better by another, elsewhere.

    In the order that folds go by, of those that it met before this look. Who is gone wherever it met them is doubted
    also where nobody stands before them: the next one of that person may be on its way. So is it itself, with whatever
    keys it has had, and always where it was let in as nobody's own.
    """
    if device[0] in nobodys_keys(agent):
        return True
    placed, own = orders.placed(person, but=space), own_device(agent)
    same = (at for each, at in placed.items() if each == device or (device == own and each[0] in agent.own_keys))
    place = min(same, default=UNMET)
    return bool(place & GONE) or any(at < place for at in placed.values())


def _forget_itself(agent: Agent) -> dict[str, bytes | None]:
    """Undo what an earlier version noted: a machine that was let in as nobody's own is nobody's; the marks of that."""
    seen, nobodys, marks = agent.acquainted, nobodys_keys(agent), dict[str, bytes | None]()
    if not nobodys:
        return marks

    def is_other(device: Device) -> bool:
        return device[0] not in nobodys

    for space, known in seen.first.items():
        for person, devices in list(known.items()):
            others = tuple(filter(is_other, devices))
            if others != devices:
                marks[space_mark(FIRST_MARKS, space, person)] = _pairs(others) or None
                known[person] = others
                if not others:
                    del known[person]
    for space, heard in seen.heard.items():
        for person, since_ms in heard.items():
            if not all(map(is_other, since_ms)):
                heard[person] = {device: met_ms for device, met_ms in since_ms.items() if is_other(device)}
                marks |= heard_mark(space, person, heard[person])
    for space, met in seen.met.items() if marks else ():
        if met.pop(name := device_id(own_device(agent)), None) is not None:
            marks[space_mark(MET_MARKS, space, name)] = None
    return marks


def _for_a_week(agent: Agent, roster: Roster) -> dict[bytes, dict[Device, int]]:
    """Those heard in a class for a week that this one has watched, since when, of whom it believes nobody there.

    They are hers there, though nobody has looked since, and whom this one knew before has come meanwhile. Where another
    one has spoken in their place since an earlier look, their week was over by then, or is none.
    """
    known, now_ms = agent.acquainted.first.get(roster.space, {}), agent.watched.now_ms()
    found = dict[bytes, dict[Device, int]]()
    for person, heard in agent.acquainted.heard.get(roster.space, {}).items():
        speak = roster.speaking.get(person, frozenset())
        until_ms = min((heard.get(each, now_ms) for each in speak), default=now_ms)
        lasting = {
            each: heard_ms
            for each, heard_ms in heard.items()
            if (now_ms if each in speak else until_ms) - heard_ms >= ACQUAINTANCE_MS
            and not roster.is_away(each, person)
        }
        if lasting and not known.get(person):
            found[person] = lasting
    return found


def _is_first_itself(known: Sequence[Device], own_keys: Container[bytes]) -> bool:
    """Whether this device is one from which its person's voice starts here: nobody of theirs was known before.

    Or it was itself among those, with keys that it had before: a laptop that gave way to its copy, and is hers again.
    """
    return not known or any(key in own_keys for key, _ in known)


def _who_is_gone(agent: Agent, roster: Roster) -> dict[str, bytes | None]:
    """Note those known in a class that are cut off there, or came back unconfirmed; the marks that say so."""
    seen, marks = agent.acquainted, dict[str, bytes | None]()
    ever = authorities_over(roster.space, agent.replica.door)
    noted = seen.gone.setdefault(roster.space, {})
    known, heard = seen.first.get(roster.space, {}), seen.heard.get(roster.space, {})
    for person in {*known, *heard}:
        devices = dict.fromkeys((*known.get(person, ()), *heard.get(person, ())))
        gone = tuple(device for device in devices if is_gone(roster, ever, device, person))
        if gone != noted.get(person, ()):
            noted[person] = gone
            marks[space_mark(GONE_AS_MARKS, roster.space, person)] = _pairs(gone) if gone else None
    return marks


def is_gone(roster: Roster, ever: Collection[Authority], device: Device, person: bytes) -> bool:
    """Whether a device is away as a person's, and not only because its right has ended.

    It was cut off, or what it came of by successors, or who let it in: `ever` are all grants that there were.
    """
    if not roster.is_away(device, person):
        return False
    line = {device[0], *predecessors_of(device[0], ever)}
    held_back = (each for each in ever if each.pair == device and each.grant in roster.held_back)
    return not line.isdisjoint(roster.reported) or any(held_back)


def _called_theirs(agent: Agent, persons: Container[bytes]) -> dict[str, bytes]:
    """Note which devices grants call these persons', whom this device meets now; the marks that say so.

    Held back or not, and whether they have said a key or not: whoever has the server has somebody's say none meanwhile.
    """
    called: dict[bytes, dict[Device, None]] = {}
    for grant in agent.replica.door.authorities() if persons else ():
        if grant.person is not None and grant.person in persons and grant.role in HAS_READING_KEYS:
            called.setdefault(grant.person, {})[grant.pair] = None
    found = {person: tuple(devices)[:MAX_MET_OF_ONE] for person, devices in called.items()}
    agent.acquainted.beside |= found
    return {f"{BESIDE_MARKS}{person.hex()}": _pairs(devices) for person, devices in found.items()}


def _pairs(devices: Iterable[Device]) -> bytes:
    return b"".join(map(b"".join, devices))


def _there_already(roster: Roster, starts: Mapping[bytes, Iterable[Device]]) -> dict[str, bytes]:
    """The marks of those who read a class when it is met: they are told of once too, and plainly (`Reader.was_there`).

    A server in wrong hands lets somebody in before a new year's class, or a new laptop, comes (docs/adr/0272).
    """
    devices = {device for theirs in (*starts.values(), *roster.speaking.values()) for device in theirs}
    here = (device for device in devices if _is_here(roster, device))
    return {space_mark(KNOWN_READER_MARKS, roster.space, device_id(device)): WAS_THERE for device in here}


def _is_here(roster: Roster, device: Device) -> bool:
    """Whether a device is among those that a teacher's page shows as readers: who is cut off already never was."""
    return device[0] not in roster.cut and any(one.pair == device for one in roster.authorities)
