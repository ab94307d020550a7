"""Whom this device has known, and since when: what the server names today is no old acquaintance.

Rules (docs/protocol.md, "Sealed hand-ins", W3, W13 to W15; docs/adr/0125):
- counted are devices from which a person's voice starts here (`first_met`), each since it was met in a class: whoever
  has the server chooses ids and dates, not what this device has seen before;
- those that were there when the class was first met are the *first*; who came since counts after a week, in which the
  pages of the class's teachers say who came;
- whom it has met elsewhere, as the same person's, it knows in a class as well (`known_devices`), and each is in turn by
  both meetings (`in_turn`): a class begins each year, and whoever has the server is in it before a teacher's laptop.
  Who is cut off elsewhere was met all the same: that may be a thief's word, about a class that is over (docs/adr/0415);
- what lets go of content goes by the class alone (`known_in`): whoever has the server makes classes of its own, in
  which machines meet whom it names later;
- the week is one that this device has watched (`watched`): a clock that was wrong when somebody was met shortens it by
  nothing when it is set right;
- nobody met later is ever as early as somebody met before;
- of each id, as grants give it, it is noted as well when each device was met that has said a reading key and speaks
  here: of one a bounded number a week, and in any case whom it knows best elsewhere (docs/adr/0434), and whom words of
  whoever came first lead to (docs/adr/0554). From there a voice goes on that is led to nobody in use (docs/adr/0246);
  whom the server alone names is not among them, and takes no place;
- whom words of whoever came first of all in a class have led to is noted too: they stand behind that one in all classes
  (`Acquainted.placed`), before whom this device has met meanwhile (docs/adr/0458).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from blake3 import blake3

from protocol.folds.hand_in_keys import NEVER_MS, Known
from protocol.limits import ACQUAINTANCE_MS, MAX_MET_OF_ONE
from protocol.replica.office.bureau import Met
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device, device_id
from sync_agent.app import Agent
from sync_agent.machine.acquainted import Orders
from sync_agent.machine.marks import LED_MARKS, MET_MARKS, heard_mark

_KNOWN, _CONFIRMED, _STRANGER = range(3)

Turn: TypeAlias = tuple[int, int, bytes]
"""Where a key stands in the queue: how well who said it is known, in which turn, and a lot of this device's drawing."""


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


def hear(agent: Agent, roster: Roster, now_ms: int, orders: Orders) -> dict[str, bytes]:
    """Note the devices heard of in a class now, at `meeting_ms`, by their reading keys; the marks that say so."""
    heard, marks = agent.acquainted.heard.setdefault(roster.space, {}), dict[str, bytes]()
    nobodys = nobodys_keys(agent)
    for person, devices in roster.voices.firsts.items():
        met = heard.get(person, {})
        new = [each for each in devices if each not in met and each[0] not in nobodys and _speaks(roster, person, each)]
        if new and (placed := _with_a_place(agent, roster.space, person, new, orders, now_ms)):
            heard[person] = {**met, **dict.fromkeys(placed, now_ms)}
            marks |= heard_mark(roster.space, person, heard[person])
    return marks


def note_led(agent: Agent, roster: Roster, now_ms: int) -> dict[str, bytes]:
    """Note of the devices that say a key in a class as somebody's those to which words of who came first there lead.

    Not who speaks there by need, while a word of the server's has cut her off, nor whom such a one leads to. Gives the
    marks; `hear` finds each of these a place.
    """
    noted, marks = agent.acquainted.led.setdefault(roster.space, {}), dict[str, bytes]()
    heard, nobodys = agent.acquainted.heard.get(roster.space, {}), nobodys_keys(agent)
    for person, firsts in agent.acquainted.first.get(roster.space, {}).items():
        leaders, before = agent.acquainted.came_first(roster.space, person), noted.get(person, ())
        here = dict.fromkeys((*firsts, *heard.get(person, ()), *roster.voices.firsts.get(person, ())))
        known = {*leaders, *before}
        theirs = [each for each in here if each not in known and _speaks(roster, person, each)]
        leading = _gone_nowhere(agent, person, leaders) if theirs else ()
        own = {device for each in leading for device in roster.voices.circle(person, each).own}
        free = _free_this_week((heard.get(person, {}).get(each, 0) for each in before), now_ms)
        if new := [each for each in theirs if each in own and each[0] not in nobodys][:free]:
            noted[person] = (*before, *new)
            marks |= {f"{LED_MARKS}{roster.space.hex()}/{person.hex()}": b"".join(map(b"".join, noted[person]))}
    return marks


def _gone_nowhere(agent: Agent, person: bytes, devices: Iterable[Device]) -> list[Device]:
    """Those that are cut off as a person's in no class: whoever has a stolen laptop has it lead to others there."""
    gone = {each for there in agent.acquainted.gone.values() for each in there.get(person, ())}
    return [each for each in devices if each not in gone]


def nobodys_keys(agent: Agent) -> frozenset[bytes]:
    """This device's own keys, if it was let in as nobody's own: whatever grants call it, it is nobody's to itself.

    Others cannot tell: they hear of its grants in whatever order (docs/adr/0435).
    """
    return agent.own_keys if agent.is_shared else frozenset()


def _with_a_place(
    agent: Agent, space: bytes, person: bytes, devices: Sequence[Device], orders: Orders, now_ms: int
) -> list[Device]:
    """Of these those that are noted: of whom nothing makes sure a bounded number a week.

    A place is for good, and makes room for nobody: whoever has the server cuts off whom it would have forgotten. So its
    own keep nobody out but for that week (docs/adr/0554). Of those that come at once the earliest by date are noted: it
    is these among which a date decides. Who was there before whoever is first takes no place of those who came since.
    """
    sure = _in_any_case(agent, space, person, orders)
    taken = agent.acquainted.places_taken(space, person, sure)
    others = set([each for each in devices if each not in sure][: _free_this_week(taken, now_ms)])
    return [each for each in devices if each in sure or each in others]


def _in_any_case(agent: Agent, space: bytes, person: bytes, orders: Orders) -> frozenset[Device]:
    """Whom this device knows best elsewhere as somebody's, and whom words of who came first in a class lead to."""
    elsewhere = orders.placed(person, but=space)
    best = sorted(elsewhere, key=elsewhere.__getitem__)[:MAX_MET_OF_ONE]
    return frozenset(best).union(agent.acquainted.led.get(space, {}).get(person, ()))


def _free_this_week(taken_ms: Iterable[int], now_ms: int) -> int:
    """How many more are noted this week, if others were at these times."""
    return max(0, MAX_MET_OF_ONE - sum(now_ms - each < ACQUAINTANCE_MS for each in taken_ms))


def _speaks(roster: Roster, person: bytes, device: Device) -> bool:
    return device in roster.speaking.get(person, ())


def met_first(agent: Agent, person: bytes, without: Collection[bytes]) -> Met:
    """Of a person's devices those that stand first, in whatever class, and who was called theirs when that began.

    But for those with these signing keys. Met are those that have said a reading key as this id, or from which its
    voice starts; by the id alone (docs/adr/0461). What came in one look came in no order.
    """
    grants = agent.replica.door.authorities()
    named = {grant.pair for grant in grants if grant.person == person and grant.key not in without}
    met = {device: since_ms for device, since_ms in agent.acquainted.met_or_led_to(person).items() if device in named}
    if not met:
        return Met()
    first_ms = min(met.values())
    at_once = frozenset(agent.acquainted.beside.get(person, ())).intersection(named)
    return Met(
        at_once.union(device for device, since_ms in met.items() if since_ms == first_ms),
        for_long=agent.watched.now_ms() - first_ms >= ACQUAINTANCE_MS,
    )


def _heard_ms(agent: Agent, space: bytes) -> dict[bytes, int]:
    """Since when each person was heard of in a class: of whom is no first yet (`first_met`) that says when it was met.

    Else whoever comes next was first in the class, and whoever says such a one's key was known for longer.
    """
    return {person: min(heard.values()) for person, heard in agent.acquainted.heard.get(space, {}).items() if heard}


def _began_at_ms(agent: Agent, space: bytes) -> int:
    """When this device met a class: the first that it met there, or heard of."""
    met, heard = agent.acquainted.met.get(space, {}), _heard_ms(agent, space)
    return min((*met.values(), *heard.values()), default=0)


def known_in(agent: Agent, space: bytes) -> Known:
    """Whose word on a work of this class lets go of it: by whom this device has met here, and nowhere else."""
    met, now_ms = agent.acquainted.met.get(space, {}), agent.watched.now_ms()
    since_ms = _began_at_ms(agent, space)
    firsts = {person: agent.acquainted.firsts_ms(space, person) for person in agent.acquainted.first.get(space, {})}
    return Known(
        first=frozenset(device for device, met_ms in met.items() if met_ms == since_ms),
        long=frozenset(device for device, met_ms in met.items() if now_ms - met_ms >= ACQUAINTANCE_MS),
        met_ms=_heard_ms(agent, space)
        | {person: min(since_ms.values(), default=NEVER_MS) for person, since_ms in firsts.items()},
    )


@dataclass(frozen=True, slots=True)
class Start:
    """A device from which a person's voice starts in a class: since when it is known there, and in whatever class."""

    person: bytes
    device: Device
    here_ms: int
    anywhere_ms: int


def _starts(agent: Agent, space: bytes) -> list[Start]:
    """Those of a class; of whom nobody is first there yet, those heard: for a cut elsewhere, too, they are doubted."""
    first, heard = agent.acquainted.first.get(space, {}), agent.acquainted.heard.get(space, {})
    found: list[Start] = []
    for person in {*first, *heard}:
        anywhere = agent.acquainted.met_anywhere(person)
        here = agent.acquainted.firsts_ms(space, person) or heard.get(person, {})
        found += [Start(person, device, here_ms, anywhere[device]) for device, here_ms in here.items()]
    return found


def known_devices(agent: Agent, space: bytes) -> frozenset[Device]:
    """Whom this device knows in a class: for a week, in whatever class, or since before it met anybody else there."""
    long_ms, began_ms = agent.watched.now_ms() - ACQUAINTANCE_MS, _began_at_ms(agent, space)
    return frozenset(each.device for each in _starts(agent, space) if each.anywhere_ms <= max(long_ms, began_ms))


def heard_for_long(agent: Agent, space: bytes) -> frozenset[Device]:
    """Whom this device has heard in a class as somebody's for a week, whoever stands first there as that one.

    A laptop that came after one that is lost stays that where nothing leads to it.
    """
    long_ms = agent.watched.now_ms() - ACQUAINTANCE_MS
    return frozenset(
        device
        for heard in agent.acquainted.heard.get(space, {}).values()
        for device, since_ms in heard.items()
        if since_ms <= long_ms
    )


def in_turn(agent: Agent, space: bytes) -> list[Start]:
    """Those from which voices start in a class: by turns whom this device has known for longest, anywhere and there.

    An hour before a teacher's laptop whoever has the server is in a new class; and in a class of its own before a new
    teacher comes. By no id and no date that others choose: among those who came at once it draws its own lots.
    """
    drawn = sorted(_starts(agent, space), key=lambda each: blake3(agent.device + b"".join(each.device)).digest())
    anywhere, here = (sorted(drawn, key=key) for key in (lambda each: each.anywhere_ms, lambda each: each.here_ms))
    return list(dict.fromkeys(each for both in zip(anywhere, here, strict=True) for each in both))


def turns(agent: Agent, roster: Roster) -> Callable[[bytes], Turn]:
    """When a reading key of a class is sealed to: old acquaintances', then whom these confirmed, then others."""
    met = agent.acquainted.met.get(roster.space, {})
    known = known_devices(agent, roster.space)
    places: dict[Device, int] = {}
    for place, each in enumerate(in_turn(agent, roster.space)):
        places.setdefault(each.device, place)
    ranks: dict[Device, tuple[int, int]] = {}
    for person, starts in roster.starts.items():
        for start in known.intersection(starts):
            circle = roster.voices.circle(person, start)
            for rank, devices in ((_KNOWN, circle.own), (_CONFIRMED, circle.others)):
                for device in devices:
                    ranks[device] = min(ranks.get(device, (rank, places[start])), (rank, places[start]))

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
    turn, known = turns(agent, roster), known_devices(agent, roster.space)

    def is_one(key: bytes) -> bool:
        return turn(key)[0] != _STRANGER or not known.isdisjoint(roster.said_by.get(key, ()))

    return is_one
