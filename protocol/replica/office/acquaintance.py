"""How well an office knows a device that grants call somebody's, before it takes it along (docs/adr/0163).

Whoever runs the server calls any device anybody's, cuts off and lets back in, and shows an office what it likes. What
an office has met before, and what a human confirmed on it, stays: from there words of confirmation lead on.

docs/protocol.md, "Confirmed devices", C55.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from enum import Enum

from protocol.replica.office.bureau import Office
from protocol.replica.office.device_cuts import DeviceCut, cuts_said_here
from protocol.replica.office.held_by_others import grants_not_held_back_by_this_office
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.replica.office.known_here import (
    MOST_AT_ONCE,
    How,
    KnownHere,
    noted_of,
    teachers_devices,
)
from protocol.rights.door import Authority
from protocol.rights.reachability import bits_led_to
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device
from protocol.roles import RANK, Role


class Acquaintance(Enum):
    """`KNOWN` comes along, `UNKNOWN` does not; `NEW` does, and is told: somebody begins anew here with it."""

    KNOWN = "known"
    NEW = "new"
    UNKNOWN = "unknown"


async def acquaintances_of(
    office: Office, person: bytes, cuts: Collection[DeviceCut], *, said_here: bool = False
) -> Callable[[Device], Acquaintance]:
    """How well an office knows each device as a person's; all that does not hang on the device is looked up once.

    Known is what was confirmed as this person's on the office's own machine, or let in by its name there, and what that
    leads to. Besides, what every device leads to that came first for this id, of several in one look each of them: no
    date says which of these was hers (docs/adr/0396). The id as granted, for lists may call anybody the same as
    anybody. What was said by who is held back leads nowhere: in doubt a device stays out, and a human is told.

    Who comes along by that is new until that was told; so is whoever was met less than a week ago, and who was met next
    where this machine or the root has cut off whoever was met before, as a lost laptop: `cuts` are those that stand.
    Another head's computer makes nobody begin anew, for a server invents such; but what it has reported leads nowhere.

    The server goes by what it knows itself (`known_here`), and by what that leads to: whoever has its key says the
    rest.

    With `said_here`, as it would be if all these cuts were this office's own words.
    """
    if office.rank >= RANK[Role.SERVER]:
        return await _at_the_server(office, person, cuts, said_here=said_here)
    rosters = [(await office.replica.view(space)).roster for space in office.replica.door.spaces()]
    called = _called(office, person)
    gone = {cut.key for cut in cuts if cut.is_ours or said_here}.intersection(key for key, _ in called)
    silent = gone | {cut.key for cut in cuts if not cut.by_server}
    words, known = _own_words(rosters, silent), _confirmed_by(office.own_device, person, rosters)
    known |= await noted_of(office, person, How.NAME)
    met, told = office.met_first(person, gone), await noted_of(office, person, How.TOLD)
    left = {each for each in called if each[0] not in gone}

    bits = {device: 1 << place for place, device in enumerate(met.devices)}
    all_met, one_known = (1 << len(bits)) - 1, 1 << len(bits)

    def own_bits(device: Device) -> int:
        return bits.get(device, 0) | (one_known if device in known else 0)

    leading = bits_led_to([*called, *words], lambda device: words.get(device, ()), own_bits)

    def acquaintance(device: Device) -> Acquaintance:
        led_by = leading.get(device, own_bits(device))
        if led_by & one_known:
            return Acquaintance.KNOWN
        if 0 < len(met.devices) <= MOST_AT_ONCE and led_by & all_met == all_met:
            return Acquaintance.KNOWN if met.for_long and not gone and device in told else Acquaintance.NEW
        return Acquaintance.NEW if not met.devices and left == {device} else Acquaintance.UNKNOWN

    return acquaintance


async def _at_the_server(
    office: Office, person: bytes, cuts: Collection[DeviceCut], *, said_here: bool
) -> Callable[[Device], Acquaintance]:
    """The same at a server; where it knows none of somebody's, who came first begins anew, and is told.

    Where a backup says who came first, those do to whom all others lead: who is alone, say. Where it knows any of
    somebody's, cut off or not, nobody does; and whoever was cut off was met all the same, unless this server has noted
    that word as its own, or it is the root's: others say a thief's (docs/adr/0393). What was cut off leads nowhere.
    """
    called, counting = await _called_at_the_server(office, person)
    noted = {order.id for order in await cuts_said_here(office)}
    gone, silent = {cut.key for cut in cuts if said_here or cut.entry in noted}, {cut.key for cut in cuts}
    left = [each for each in called if each.key not in gone]
    speaking = [each for each in counting if each.key not in silent]
    here = await KnownHere.of(office)
    known, told = await here.known_of(left), here.told_of(left)
    begun = known
    if not known and not await here.known_of(called):
        if here.at_once:
            begun = await _led_to_by_all(office, {each.pair for each in left}, speaking, silent)
        else:
            begun = told or {each.pair for each in left[:1]}
    led_to = await _led_to(office, begun.intersection(each.pair for each in speaking), speaking, silent)

    def acquaintance(device: Device) -> Acquaintance:
        if device not in led_to:
            return Acquaintance.UNKNOWN
        return Acquaintance.KNOWN if known or device in told else Acquaintance.NEW

    return acquaintance


async def _called_at_the_server(office: Office, person: bytes) -> tuple[list[Authority], list[Authority]]:
    """What ever called a device a teacher's own, in order of arrival, and what of it is not held back.

    But for what is held back by this server's own word, or the root's: somebody who has its key holds back anybody's.
    """
    said = teachers_devices(office, person)
    ever = await grants_not_held_back_by_this_office(office, said)
    return ever, await grants_not_held_back(office.replica, said)


async def _led_to_by_all(
    office: Office, several: Collection[Device], called: Sequence[Authority], silent: Collection[bytes]
) -> set[Device]:
    """Those of several devices to which each of them leads: whichever of them was the first, they are as known."""
    if len(several) > MOST_AT_ONCE:
        return set()
    led = [await _led_to(office, [device], called, silent) for device in several]
    return set(several).intersection(*led)


async def _led_to(
    office: Office, begun: Collection[Device], called: Sequence[Authority], silent: Collection[bytes]
) -> set[Device]:
    """The devices to which these lead, themselves included: by words, or as copies that made keys for themselves.

    Looked at are the classes of devices that are led to alone: grants name a thief's in as many as he likes.
    """
    door, confirmed = office.replica.door, defaultdict[Device, set[Device]](set)
    spaces, copies = defaultdict[Device, set[bytes]](set), defaultdict[bytes, set[Device]](set)
    for each in called:
        spaces[each.pair].add(each.space)
        if each.predecessor is not None:
            copies[each.predecessor].add(each.pair)
    found, pending, looked = set(begun), list(begun), set[bytes]()
    while pending:
        device = pending.pop()
        confirmed[device] |= copies[device[0]]
        near = {below for space in spaces[device] if space != office.home for below in door.below(space)}
        for space in near - looked:
            for other, words_by in _own_words([(await office.replica.view(space)).roster], silent).items():
                for by in words_by:
                    confirmed[by].add(other)
        looked |= near
        fresh = {other for by in found for other in confirmed[by]} - found
        found |= fresh
        pending += fresh
    return found


def _called(office: Office, person: bytes) -> set[Device]:
    """All that any grant ever called a teacher's, held back or not."""
    return {grant.pair for grant in teachers_devices(office, person)}


def _confirmed_by(voice: Device, person: bytes, rosters: Sequence[Roster]) -> set[Device]:
    """The devices that one has confirmed as a person's, as they were shown to a human."""
    said = (word for roster in rosters for word in roster.voices.words.get(voice, ()))
    return {word.device for word in said if word.person == person}


def _own_words(rosters: Sequence[Roster], silent: Collection[bytes]) -> dict[Device, set[Device]]:
    """By which others each device was confirmed as one of their own, in whatever class.

    Of what a `silent` device says, one that was reported, only that counts which a class keeps in which it is cut off.
    """
    confirmed_by: defaultdict[Device, set[Device]] = defaultdict(set)
    for roster in rosters:
        for by, words in roster.voices.words.items():
            for word in words if by[0] not in silent or by[0] in roster.cut else ():
                if word.is_own:
                    confirmed_by[word.device].add(by)
    return confirmed_by
