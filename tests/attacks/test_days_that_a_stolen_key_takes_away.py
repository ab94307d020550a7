"""A head teacher lets a substitute in until a day, and a stolen server's key says a right without (docs/attacks.md).

He is in league with the thief, or somebody uses his laptop; and a teacher of the class has confirmed him, of whom
docs/operate.md says that he is given nothing earlier by that.
"""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.folds.hand_in_keys import teachers_keys
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.replica.office.stays import Stay, end_stays
from protocol.replica.office.stays import stays as as_they_are
from protocol.rights.door import Authority, Door
from protocol.rights.roster import Roster
from protocol.rights.vouching import Circle, Standing, device_id
from protocol.rights.vouching import Device as Pair
from protocol.roles import HAS_READING_KEYS, PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.office import SchoolOffice
from sync_agent.school.own_stay import own_stay
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class
from tests.harness.territory import new_device

ROW = "a stolen key takes the last day from somebody's stay"
STAY_MS = 15 * DAY_MS


async def opens(device: Device, work: bytes) -> bool:
    try:
        return await Desk(device.agent).files("open-hand-in", id=work.hex()) == WORK
    except Refused:
        return False


@dataclass
class Here:
    """A class of which a work was opened before a substitute came, whom its teacher confirms as a colleague."""

    made: SpiedClass
    head: Device
    laptop: Device
    person: bytes

    async def sync(self) -> None:
        for _ in range(3):
            await self.made.sync(self.laptop, self.head, self.made.teacher, self.made.machine)

    async def opens_what_was_opened(self) -> bool:
        return await opens(self.laptop, self.made.work)

    async def let_in(self, device: Device | None = None) -> None:
        """By one word of the copied key: of the substitute's laptop, or of a device that was made up for it."""
        keys = new_device(Random(4242).randbytes) if device is None else device.agent.keys
        await self.made.room.territory.let_in(keys, Role.TEACHER, self.made.room.space, person=self.person)

    async def confirm(self, device: Device) -> None:
        await confirm(self.made.teacher.agent, device_id(own_device(device.agent)), shown_as="other")
        await self.sync()

    async def end(self, *, whole: bool = False) -> None:
        """The copied key ends the right that has a day, or cuts the laptop off with all that it has."""
        room, key = self.made.room, self.laptop.agent.device
        (right,) = [each for each in room.territory.replica.door.authorities_of(key) if each.until_ms is not None]
        tips = tuple(await room.territory.replica.tips(room.space, key))
        target = None if whole else right.grant
        await room.territory.say(room.space, Kind.REVOKE, Revocation(key, tips).encode(), target=target)


@pytest.fixture
async def let_in(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path) as made:
        room = made.room
        head = await room.head()
        person = await room.territory.person("M. Remplaçant", PersonRole.TEACHER, room.space)
        laptop = await room.device(Role.TEACHER, person=person, until_ms=room.territory.clock() + STAY_MS)
        found = Here(made, head, laptop, person)
        await found.sync()
        yield found


@pytest.fixture
async def here(let_in: Here) -> Here:
    await let_in.confirm(let_in.laptop)
    return let_in


def _whose_rights_all_end(roster: Roster) -> set[bytes]:
    """As it was: one right without an end, of whichever device, and somebody was there for good."""
    rights = [each for each in roster.authorities if each.role in HAS_READING_KEYS and each.key not in roster.cut]
    staying = {each.person for each in rights if each.until_ms is None}
    return {each.person for each in rights if each.person is not None} - staying


OF_ALL_RIGHTS = {"protocol.folds.hand_in_keys._with_a_last_day": _whose_rights_all_end}


@attack(ROW, off=OF_ALL_RIGHTS)
@pytest.mark.parametrize("made_up", [False, True], ids=["of his laptop", "of a device that is nobody's"])
async def test_a_substitute_is_given_nothing_earlier_however_many_rights_without_an_end_are_said(
    here: Here, *, made_up: bool
) -> None:
    assert not await here.opens_what_was_opened()
    await here.let_in(None if made_up else here.laptop)
    await here.sync()
    assert not await here.opens_what_was_opened()


def _of_who_is_not_cut_off(roster: Roster) -> set[bytes]:
    return {each.person for each in roster.authorities if each.until_ms and each.person and each.key not in roster.cut}


async def his_next_laptop(here: Here) -> Device:
    """Another one, which was let in without an end, and of which the first one says that it is his."""
    further = await here.made.room.device(Role.TEACHER, person=here.person)
    for device in (further, here.laptop, further):
        await here.made.sync(device)
    await confirm(here.laptop.agent, device_id(own_device(further.agent)), shown_as="own")
    await here.sync()
    return further


@attack(ROW, off={"protocol.folds.hand_in_keys._with_a_last_day": _of_who_is_not_cut_off})
async def test_nor_on_his_next_laptop_once_the_one_that_has_a_day_is_cut_off(here: Here) -> None:
    further = await his_next_laptop(here)
    await here.end(whole=True)
    here.laptop = further
    await here.sync()
    assert not await here.opens_what_was_opened()


@pytest.mark.parametrize("further", [False, True], ids=["his laptop", "his next one"])
async def test_nor_where_the_right_that_has_a_day_is_ended(here: Here, *, further: bool) -> None:
    next_one = await his_next_laptop(here) if further else here.laptop
    await here.end()
    if not further:
        await here.let_in(here.laptop)
    here.laptop = next_one
    await here.sync()
    assert not await here.opens_what_was_opened(), "what was confirmed was that right"


@attack(ROW, off={"sync_agent.keys.confirming._last_day_beside": lambda *_: ()})
@pytest.mark.parametrize("further", [False, True], ids=["his laptop", "his next one"])
async def test_nor_where_that_is_ended_and_one_without_an_end_was_said_before_she_confirmed(
    let_in: Here, *, further: bool
) -> None:
    """The head's list has his day while she confirms him: what she confirms ends with it, of whichever laptop."""
    here, next_one = let_in, let_in.laptop
    if further:
        next_one = await here.made.room.device(Role.TEACHER, person=here.person)
        await here.made.sync(next_one)
    else:
        await here.let_in(here.laptop)
    await here.sync()
    assert [row["over"] for row in await Desk(here.head.agent).ask("stays")] == [False]
    await here.confirm(next_one)
    await here.end()
    here.laptop = next_one
    await here.sync()
    assert not await here.opens_what_was_opened()


def _whoever_has_a_day_that_is_past(roster: Roster, now_ms: int) -> set[bytes]:
    return {each.person for each in roster.authorities if each.person and (each.until_ms or now_ms + 1) <= now_ms}


@attack(ROW, off={"protocol.folds.hand_in_keys._whose_stay_is_over": _whoever_has_a_day_that_is_past})
async def test_a_teacher_to_whom_a_stolen_key_gives_a_day_that_is_past_reads_on(here: Here) -> None:
    made = here.made
    territory, keys, person = made.room.territory, made.teacher.agent.keys, made.room.teacher_person
    await territory.let_in(keys, Role.TEACHER, made.room.space, person=person, until_ms=territory.clock() - 1)
    await here.sync()
    assert await own_stay(made.teacher.agent) is None
    assert await end_stays(await SchoolOffice.of(here.head.agent)) == 0
    work = await made.room.hand_in(made.machine, made.item, WORK)
    await here.sync()
    assert await opens(made.teacher, work)


def _as_if_none_had_another(authorities: Iterable[Authority], door: Door) -> list[Stay]:
    return [stay for stay in as_they_are(authorities, door) if not stay.for_good]


@attack(ROW, off={"protocol.replica.office.stays.stays": _as_if_none_had_another})
async def test_the_heads_computer_says_that_no_program_will_end_the_stay(here: Here) -> None:
    await here.let_in(here.laptop)
    await here.sync()
    rows = await Desk(here.head.agent).ask("stays")
    assert [(row["name"], row["over"], row["for_good"]) for row in rows] == [("M. Remplaçant", False, True)]
    async with portal(here.head.agent) as surfer:
        page = html.unescape(await surfer.page("/school"))
    assert "M. Remplaçant, CM1 : fin" in page
    assert "un autre droit, sans fin ou plus long, est donné au même ordinateur" in page
    here.made.room.territory.clock.advance(STAY_MS)
    await here.sync()
    assert await end_stays(await SchoolOffice.of(here.head.agent)) == 0, "nor does it cut off whom a thief gives a day"
    assert [row["over"] for row in await Desk(here.head.agent).ask("stays")] == [True]


def _each_space_by_itself(authorities: Iterable[Authority], door: Door) -> list[Stay]:
    rights = list(authorities)
    return [
        replace(
            stay, for_good=any((each.key, each.space, each.until_ms) == (stay.key, stay.space, None) for each in rights)
        )
        for stay in as_they_are(rights, door)
    ]


@attack(ROW, off={"protocol.replica.office.stays.stays": _each_space_by_itself})
@pytest.mark.parametrize("above", ["in the school", "in the territory"])
@pytest.mark.parametrize("lasts_ms", [None, 70 * 365 * DAY_MS])
async def test_nor_does_a_stay_go_from_the_heads_list_while_a_right_above_the_class_goes_on(
    here: Here, above: str, lasts_ms: int | None
) -> None:
    territory, room = here.made.room.territory, here.made.room
    where = room.school if above == "in the school" else territory.replica.territory
    until_ms = None if lasts_ms is None else territory.clock() + lasts_ms
    await territory.let_in(here.laptop.agent.keys, Role.TEACHER, where, person=here.person, until_ms=until_ms)
    await here.sync()
    territory.clock.advance(STAY_MS)
    await here.sync()
    ended = await end_stays(await SchoolOffice.of(here.head.agent))
    await here.sync()
    work = await room.hand_in(here.made.machine, here.made.item, WORK)
    await here.sync()
    assert await opens(here.laptop, work), "whether anything was ended or not"
    rows = await Desk(here.head.agent).ask("stays")
    assert ("M. Remplaçant", True, True) in [(row["name"], row["over"], row["for_good"]) for row in rows]
    async with portal(here.head.agent) as surfer:
        page = html.unescape(await surfer.page("/school"))
    assert "un autre droit, sans fin ou plus long, est donné au même ordinateur" in page
    assert ended == 0
    await Desk(here.head.agent).ask("revoke", device=here.laptop.agent.device.hex())
    assert await Desk(here.head.agent).ask("stays") == []
    roster = (await here.head.agent.replica.view(room.space)).roster
    assert not roster.may_read(here.laptop.agent.device), "a person ends it"


def _of_whatever_he_is_called(roster: Roster, circle: Circle, own: bytes) -> list[list[bytes]]:
    """A word about a device is about its keys, as whoever's it says them."""
    every = teachers_keys(roster, for_good=True).items()
    said = [[key for key in keys if roster.makers[key] & circle.others] for person, keys in every if person != own]
    return [theirs for theirs in said if theirs]


def _by_its_keys_alone(circle: Circle, own: Container[Pair], _shown_as: str, standing: Standing) -> bool:
    return standing[0] in circle.others or standing[0] in own


@attack(
    ROW,
    off={
        "sync_agent.hand_ins.wraps._confirmed_keys": _of_whatever_he_is_called,
        "sync_agent.keys.confirming._is_confirmed": _by_its_keys_alone,
    },
)
@pytest.mark.parametrize("asked", ["whether he opens it", "whether her page tells"])
async def test_nor_as_somebody_else_of_whom_no_right_has_a_day_and_whom_her_page_names(
    tmp_path: Path, asked: str
) -> None:
    async with spied_class(tmp_path) as made:
        territory, space, spy = made.room.territory, made.room.space, made.spy
        person = await territory.person("M. Remplaçant", PersonRole.TEACHER, space)
        ends_ms = territory.clock() + STAY_MS
        (right,) = await territory.let_in(spy, Role.TEACHER, space, person=person, until_ms=ends_ms)
        made.grant = right.id
        await made.say(Kind.PERSON_KEY, PersonKey(spy.agreement.public).encode(), person)
        await made.sync()
        await confirm(made.teacher.agent, device_id(own_keys(spy)), shown_as="other")
        await made.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, space))
        for _ in range(3):
            await made.sync()
        if asked == "whether he opens it":
            assert not await made.opens(made.work)
        else:
            rows = await Desk(made.teacher.agent).ask("key-readers")
            states = {row["teacher"]: row["state"] for row in rows}
            assert (states["M. Remplaçant"], states["M. X"]) == ("confirmed", "reads new work")
