"""A network sets back the clock of whoever notes what has come when (docs/attacks.md)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from, rfc3339
from protocol.errors import Code, Refused
from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonKey, PersonRecord
from protocol.replica.office.arrivals import Ran, RunningTime, note_arrivals
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.territory import new_device

ROW = "a network sets back the clock of who notes what came when"
HOUR_MS = 3_600_000


def _nothing_was_watched(_: RunningTime, noted: Ran) -> Ran:
    return noted


OFF = {"protocol.replica.office.arrivals.RunningTime.now": _nothing_was_watched}


class Weekend:
    """A class that works until Friday at 18:00, and whoever notes that: of two clocks there, one can be set."""

    def __init__(self, here: Town, noting: Server | Agent) -> None:
        self.here, self.noting, self.passed_ms, self.set_ms = here, noting, 0, 0
        noting.steady_ms = lambda: self.passed_ms
        noting.now_ms = lambda: here.office.clock() + self.set_ms

    def passes(self, ms: int) -> None:
        self.here.office.clock.advance(ms)
        self.passed_ms += ms

    async def note(self) -> None:
        noting = self.noting
        store = noting.store if isinstance(noting, Server) else noting.replica.store
        await note_arrivals(store, noting.now_ms(), noting.running)

    async def works(self, pc: Device, item: bytes, pupil: str) -> None:
        for _ in range(10):
            self.passes(DAY_MS)
            await self.here.work(pc, item, pupil)
            await self.here.sync()
            await self.note()
        self.friday_ms = self.here.office.clock() + 2 * HOUR_MS

    async def saturday_as_friday(self) -> None:
        self.passes(18 * HOUR_MS)
        self.set_ms = -17 * HOUR_MS

    async def saturday_as_friday_while_it_is_opened_again_and_again(self) -> None:
        for _ in range(18 * 6):
            self.passes(HOUR_MS // 6)
            self.set_ms -= HOUR_MS // 6 - 60_000
            self.noting.running = RunningTime(lambda: self.passed_ms, bytes(16))
            await self.note()

    async def monday(self) -> None:
        await self.note()
        self.set_ms = 0
        self.passes(44 * HOUR_MS)
        await self.here.sync()
        await self.note()


@attack(ROW, off=OFF)
async def test_what_a_stolen_key_says_on_saturday_counts_not_as_fridays_when_the_servers_clock_was_set_back(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        thiefs_pc = await here.device("machine")
        server, kit, clock = here.office.server, kit_in(tmp_path / "server" / "kit", None), here.office.clock
        stolen, right, weekend = server.keys.signing, server.grant, Weekend(here, server)
        await weekend.works(machine, item, pupil)
        await weekend.saturday_as_friday()
        spy, x = new_device(os.urandom), os.urandom(16)
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, x, None)
        said: list[Entry] = []
        for number, (kind, payload, subject) in enumerate(
            (
                (Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), x),
                (Kind.GRANT, given.encode(), None),
                (Kind.PERSON_KEY, PersonKey(spy.agreement.public).encode(), x),
            )
        ):
            is_his = kind is Kind.PERSON_KEY
            said.append(
                compose(
                    author=spy.signing if is_his else stolen,
                    space=here.space,
                    kind=kind,
                    grant=said[-1].id if is_his else right,
                    at=at_from(clock(), number),
                    payload=payload,
                    salt=os.urandom(16),
                    subject=subject,
                )
            )
        await thiefs_pc.agent.replica.admit(said, source=b"thief", now_ms=clock(), unsent=True)
        await here.sync(thiefs_pc)
        await weekend.monday()
        await here.office.with_kit("rotate server", kit, since=rfc3339(weekend.friday_ms))
        assert await here.office.do("waiting")
        for _ in range(2):
            await here.sync()
        work = await here.work(machine, item, pupil)
        await here.sync()
        found = (await server.replica.view(here.space)).coursework.hand_ins[work]
        assert content_key_of(found, {spy.agreement.public: spy.agreement}) is None


@attack(ROW, off=OFF)
async def test_what_a_stolen_pc_hands_in_on_saturday_stands_at_no_teachers_when_the_servers_clock_was_set_back(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, pupil, item)):
        stolen, weekend = await here.device("machine"), Weekend(here, here.office.server)
        await weekend.works(machine, item, pupil)
        await weekend.saturday_as_friday()
        forged = await here.work(stolen, item, pupil)
        await here.sync(stolen)
        await weekend.monday()
        await here.office.do("lost", device=stolen.agent.device.hex(), since=rfc3339(weekend.friday_ms))
        for _ in range(2):
            await here.sync(machine, teacher)
        assert forged not in (await teacher.agent.replica.view(here.space)).coursework.hand_ins


@attack(ROW, off=OFF)
async def test_nor_when_it_was_the_clock_of_the_head_teachers_computer_that_reports_the_loss(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, pupil, item)):
        stolen, head = await here.device("machine"), await here.head_of_the_school()
        weekend = Weekend(here, head.agent)
        await weekend.works(machine, item, pupil)
        await weekend.saturday_as_friday()
        forged = await here.work(stolen, item, pupil)
        await here.sync(stolen, head)
        await weekend.monday()
        await Desk(head.agent).ask("lost", device=stolen.agent.device.hex(), since=rfc3339(weekend.friday_ms))
        for _ in range(2):
            await here.sync(head, teacher, machine)
        assert forged not in (await teacher.agent.replica.view(here.space)).coursework.hand_ins


@attack(ROW, off={"protocol.replica.office.arrivals.passed_ms": lambda *_: None})
async def test_nor_when_its_program_was_told_all_night_to_open_its_store_again(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, pupil, item)):
        stolen, head = await here.device("machine"), await here.head_of_the_school()
        weekend = Weekend(here, head.agent)
        await weekend.works(machine, item, pupil)
        await weekend.saturday_as_friday_while_it_is_opened_again_and_again()
        forged = await here.work(stolen, item, pupil)
        await here.sync(stolen, head)
        await weekend.monday()
        await Desk(head.agent).ask("lost", device=stolen.agent.device.hex(), since=rfc3339(weekend.friday_ms))
        for _ in range(2):
            await here.sync(head, teacher, machine)
        assert forged not in (await teacher.agent.replica.view(here.space)).coursework.hand_ins


@attack("stolen enrolment code", off=OFF)
async def test_a_code_found_a_week_later_opens_nothing_though_the_servers_clock_was_set_back(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        paper = await here.office.invite("teacher", person=await here.office.add_person("M. Roy", "teacher"))
        weekend = Weekend(here, here.office.server)
        await weekend.note()
        await weekend.works(machine, item, pupil)
        weekend.set_ms = -int(9.5 * DAY_MS)
        spy = new_device(os.urandom)
        with suppress(Refused):
            await here.office.enrol(paper, spy)
        assert here.space not in await here.office.server.replica.readable(spy.signing.public)


async def test_a_code_that_is_good_for_long_lets_in_until_its_end_though_programs_ran_all_the_time(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        paper = await here.office.invite("machine", ttl="11d", uses=2)
        weekend = Weekend(here, here.office.server)
        await weekend.works(machine, item, pupil)
        await here.office.enrol(paper)
        weekend.passes(2 * DAY_MS)
        with pytest.raises(Refused) as caught:
            await here.office.enrol(paper)
        assert caught.value.code is Code.CODE_EXPIRED
