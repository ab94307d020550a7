"""A PC that was off for months keeps last year's pupils to itself; a wrong clock costs nobody their work."""

from __future__ import annotations

import datetime as dt
import html
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.folds.coursework import HandInState
from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure, SpaceRecord
from protocol.model.work import ItemKind
from protocol.roles import Role
from protocol.school_years import past_from_ms
from sync_agent.coursework.past_years import (
    BELIEVED_LEAD_MS,
    TRUSTED_FOR_MS,
    day_ms,
    is_past,
    past_spaces,
)
from sync_agent.coursework.reading import Manifests, list_people
from sync_agent.hand_ins.file_names import SealedLists
from sync_agent.hand_ins.handing_in import list_hand_ins
from sync_agent.status import status
from tests.harness.classroom import Classroom, Device
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.territory import school_year


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


OVER = at("2027-10-01")
DRAWING = {"dessin.png": b"drawn"}


async def names(room: Classroom, device: Device) -> list[object]:
    return [row["name"] for row in await list_people(device.agent, room.space) if isinstance(row, dict)]


async def works(device: Device) -> list[object]:
    rows = await list_hand_ins(device.agent, None, Manifests(), SealedLists())
    return [row["state"] for row in rows if isinstance(row, dict)]


@pytest.mark.parametrize(
    ("year", "over"),
    [
        ("2026-2027", "2027-10-01"),
        (" 2026 – 2027 ", "2027-10-01"),
        ("2026/27", "2027-10-01"),
        ("1999-00", "2000-10-01"),
        ("2026", "2027-04-01"),
    ],
)
def test_a_class_is_past_three_months_after_its_years_lessons(year: str, over: str) -> None:
    assert past_from_ms(year) == at(over)


@pytest.mark.parametrize("year", [None, "", "CM1", "2026-2028", "2027-2026", "2026-7", "0000", "9999-10000", "9999"])
def test_what_names_no_year_is_never_past(year: str | None) -> None:
    assert past_from_ms(year) is None
    assert not is_past(year, now_ms=at("2090-01-01"), agreed_ms=None)


@pytest.mark.parametrize("day", ["2026-08-01", "2026-12-31", "2027-07-31", "2031-11-27"])
def test_what_a_test_calls_this_years_class_is_not_past_whenever_it_runs(day: str) -> None:
    assert not is_past(school_year(at(day)), now_ms=at(day), agreed_ms=None)


def test_what_time_it_is_follows_what_is_proven_where_the_clock_is_years_ahead_alone() -> None:
    proven = at("2026-11-18")
    assert day_ms(at("2009-01-01"), proven) == at("2009-01-01"), "a server that says a late year hides no class"
    assert day_ms(at("2027-10-02"), proven) == at("2027-10-02")
    assert day_ms(proven + BELIEVED_LEAD_MS, proven) == proven + BELIEVED_LEAD_MS
    assert day_ms(at("2040-01-01"), proven) == proven


async def test_a_pc_that_was_off_for_months_shows_nobody_of_last_year_before_it_has_heard(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, {"a.txt": b"a"}, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await pc.session.sync()
    await room.hand_in(pc, item, DRAWING)
    async with portal(pc.agent) as page:
        assert "Léa" in await page.page("/who")
        room.territory.clock.ms = OVER - DAY_MS
        assert "Léa" in await page.page("/who")
        room.territory.clock.ms = OVER
        for address in ("/", "/state", "/work"):
            assert "Léa" not in await page.page(address)
        assert "2027" in await page.page("/")
        for address in ("/who", f"/item/{item.hex()}"):
            assert "Léa" not in (await page.get(address)).text
        assert await names(room, pc) == []
        desk = Desk(pc.agent)
        assert await desk.ask("people", space=room.space.hex()) == []
        (why,) = desk.told
        assert "a past year, is not shown" in why
        assert "2026-2027" in why
        assert "2027-10-01" in why
        assert await works(pc) == []
        told: Any = await status(pc.agent)
        assert [row["past_year"] for row in told["spaces"]] == [True]
        assert set(await names(room, teacher)) == {"Léa", "Mme Petit"}, "a teacher has families to give their work to"
        await pc.session.sync()
        assert "Léa" in await page.page("/who"), "the class is wanted: the server has not closed it"
        assert await works(pc) == [HandInState.SERVER.value]
        room.territory.clock.advance(TRUSTED_FOR_MS + 1)
        assert "Léa" not in (await page.get("/who")).text


@pytest.mark.parametrize("by_kit", [True, False])
async def test_who_asks_for_the_list_of_a_closed_class_is_told_that_it_is_closed_or_that_it_is_hidden(
    room: Classroom, by_kit: bool
) -> None:
    pc, territory = await room.machine(), room.territory
    await pc.session.sync()
    desk = Desk(pc.agent)
    assert await desk.ask("people", space=room.space.hex())
    assert not desk.told
    says = territory.kit_says if by_kit else territory.say
    await says(territory.id, Kind.ERASE, Erasure(room.space).encode())
    await pc.session.sync()
    assert await desk.ask("people", space=room.space.hex()) == []
    (why,) = desk.told
    assert ("was closed" in why, "is hidden at present" in why) == (by_kit, not by_kit)


@pytest.mark.parametrize(
    ("by_kit", "on_the_page", "to_who_asks"),
    [
        (True, "La classe « CM1 » est finie : il n'y a plus rien à voir ici.", "since it was closed: CM1"),
        (False, "La classe « CM1 » n'est plus montrée pour le moment.", "since it is hidden, by another than"),
    ],
)
async def test_a_computer_whose_one_class_was_closed_says_so_and_not_that_it_has_none_yet(
    room: Classroom, by_kit: bool, on_the_page: str, to_who_asks: str
) -> None:
    territory, pc = room.territory, await room.machine()
    await pc.session.sync()
    async with portal(pc.agent) as surfer:
        before = html.unescape(await surfer.page("/"))
        assert on_the_page not in before
        says = territory.kit_says if by_kit else territory.say
        await says(room.school, Kind.ERASE, Erasure(room.space).encode())
        await pc.session.sync()
        page = html.unescape(await surfer.page("/"))
    assert on_the_page in page
    assert "pas encore de classe" not in page
    assert "va publier bientôt" not in page
    assert "pas encore vérifié" not in page
    desk = Desk(pc.agent)
    for command in ("items", "hand-ins"):
        assert await desk.ask(command) == []
        (why,) = desk.told
        assert to_who_asks in why


async def test_past_classes_of_the_school_that_a_pc_never_had_are_not_said_to_be_on_it(room: Classroom) -> None:
    pc, territory = await room.machine(), room.territory
    school = territory.replica.door.parent(room.space)
    assert school is not None
    await territory.say(school, Kind.SPACE, SpaceRecord("CP", None, "2026-2027").encode())
    await pc.session.sync()
    territory.clock.ms = OVER
    assert len(await past_spaces(pc.agent)) == 2
    async with portal(pc.agent) as page:
        assert "A class of a past year" in await page.page("/?lang=en")


@pytest.mark.parametrize("wrong", ["2009-01-01", "2040-01-01"])
async def test_a_wrong_clock_hides_no_class_of_this_year_and_keeps_no_work_back(room: Classroom, wrong: str) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, {"a.txt": b"a"}, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await pc.session.sync()
    today, room.territory.clock.ms = room.territory.clock.ms, at(wrong)
    assert set(await names(room, pc)) == {"Léa", "Mme Petit"}
    await room.hand_in(pc, item, DRAWING)
    room.territory.clock.ms = today
    await pc.session.sync()
    assert await works(pc) == [HandInState.SERVER.value]


async def test_work_that_is_made_or_waits_while_a_class_is_not_shown_goes_up_all_the_same(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, {"a.txt": b"a"}, kind=ItemKind.ASSIGNMENT)).item
    await teacher.session.sync()
    await pc.session.sync()
    await room.hand_in(pc, item, DRAWING)
    room.territory.clock.ms = at("2028-05-01")
    await room.hand_in(pc, item, {"fin.txt": b"made by command"})
    assert await works(pc) == []
    await pc.session.sync()
    await teacher.session.sync()
    assert len(await works(teacher)) == 2


async def test_a_pc_that_met_no_server_yet_goes_by_the_day_on_which_it_was_let_in(room: Classroom) -> None:
    await room.teacher()
    pc = await room.machine()
    store = room.territory.replica.store
    everything = [row.entry for space in await pc.agent.spaces() for row in await store.page(space, 0, 1 << 20)]
    await pc.agent.replica.admit(everything, source=b"peer", now_ms=room.territory.clock())
    assert await names(room, pc) != []
    room.territory.clock.ms = OVER
    assert await names(room, pc) == []
    room.territory.clock.ms = at("2040-01-01")
    assert await names(room, pc) != []


async def test_a_relay_shows_no_more_than_a_pc(room: Classroom) -> None:
    relay = await room.device(Role.RELAY)
    await relay.session.sync()
    assert await names(room, relay) != []
    room.territory.clock.ms = OVER
    assert await names(room, relay) == []


async def test_no_school_is_past_whatever_year_a_thief_says_of_it(room: Classroom) -> None:
    territory, pc = room.territory, await room.machine()
    thiefs = compose(
        author=territory.keys.signing,
        space=territory.id,
        kind=Kind.SPACE,
        grant=territory.certificate.id,
        at=1,
        payload=SpaceRecord("École", "0180001X", "2010-2011").encode(),
        salt=bytes(SALT_BYTES),
    )
    await pc.session.sync()
    territory.clock.advance(TRUSTED_FOR_MS + DAY_MS)
    await pc.agent.replica.admit([thiefs], source=b"the server", now_ms=territory.clock())
    assert not await past_spaces(pc.agent)
