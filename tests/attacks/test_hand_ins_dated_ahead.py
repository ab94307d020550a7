"""A machine of the class dates what it hands in in a pupil's name on the last day that there is (docs/adr/0282)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from protocol.clock import DAY_MS, MAX_AT, at_from
from protocol.folds.coursework import HandInState, Work
from protocol.model.entry import Kind, compose
from protocol.model.work import ContentRef, HandIn, ItemKind, Receipt
from protocol.roles import Role
from sync_agent.app import Agent
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Classroom, Device, classroom
from tests.harness.portal import portal
from tests.harness.territory import new_device

ROW = "work is dated ahead"


def _by_their_dates(works: Iterable[Work], _now_ms: int) -> list[Work]:
    return sorted(works, key=lambda work: (work.at_ms, work.id), reverse=True)


def _the_first_of_them(works: Sequence[Work], most: int, _known_since_ms: object = None) -> list[Work]:
    return list(works[:most])


def _all_are_known(_agent: Agent) -> Callable[[Work], int | None]:
    return lambda _work: 0


def _off(**places: object) -> dict[str, object]:
    """Of each name the module that uses it is meant: this one's defence is off there."""
    modules = {
        "latest_first": ("hand_ins.handing_in", "portal.shown.shelf", "portal.everybody.work_pages"),
        "by_turns": ("hand_ins.handing_in", "portal.everybody.work_pages", "portal.everybody.class_work"),
        "known_since": ("portal.everybody.work_pages", "portal.everybody.class_work"),
    }
    return {f"sync_agent.{module}.{name}": place for name, place in places.items() for module in modules[name]}


@dataclass
class Dated:
    """An assignment, a teacher, an honest PC, and one that is not."""

    room: Classroom
    teacher: Device
    honest: Device
    hostile: Device
    item: bytes

    async def false(self, count: int, newest: int = MAX_AT) -> set[str]:
        """So many works in the pupil's name, dated at the end of time, or then."""
        agent, room = self.hostile.agent, self.room
        right = await agent.right(room.space, Kind.HAND_IN)
        made = [
            compose(
                author=agent.keys.signing,
                space=room.space,
                kind=Kind.HAND_IN,
                grant=right.grant,
                at=newest - number,
                payload=HandIn(ContentRef(Random(number).randbytes(32), 4096, 0), self.item, "PC").encode(),
                salt=bytes(16),
                subject=room.pupil_person,
                target=self.item,
            )
            for number in range(count)
        ]
        await room.territory.replica.admit(made, source=agent.device, now_ms=room.territory.clock())
        await self.sync()
        return {each.id.hex() for each in made}

    async def false_on_invented_machines(self, count: int) -> None:
        """One work in the pupil's name on each of so many machines, which whoever has the server lets in."""
        territory, room, made = self.room.territory, self.room, []
        for number in range(count):
            keys = new_device(Random(10_000 + number).randbytes)
            (grant,) = await territory.let_in(keys, Role.MACHINE, room.space)
            made.append(
                compose(
                    author=keys.signing,
                    space=room.space,
                    kind=Kind.HAND_IN,
                    grant=grant.id,
                    at=at_from(territory.clock() + 60_000, number),
                    payload=HandIn(ContentRef(Random(number).randbytes(32), 4096, 0), self.item, "PC").encode(),
                    salt=bytes(16),
                    subject=room.pupil_person,
                    target=self.item,
                )
            )
        await territory.replica.admit(made, source=b"operator", now_ms=territory.clock())
        await self.sync()

    async def shown_a_false_one(self, dated_at: int, receipt_at: int | None) -> str:
        """One that whoever has the server brings her teacher, and her PC not yet, with a receipt of that date."""
        agent, room, now_ms = self.hostile.agent, self.room, self.room.territory.clock()
        right, stream = await agent.right(room.space, Kind.HAND_IN), Random(dated_at).randbytes(32)
        made = compose(
            author=agent.keys.signing,
            space=room.space,
            kind=Kind.HAND_IN,
            grant=right.grant,
            at=dated_at,
            payload=HandIn(ContentRef(stream, 4096, 0), self.item, "PC").encode(),
            salt=bytes(16),
            subject=room.pupil_person,
            target=self.item,
        )
        await self.teacher.agent.replica.admit([made], source=b"server", now_ms=now_ms)
        if receipt_at is not None:
            await self.receives(made.id, receipt_at)
        return made.id.hex()

    async def receives(self, work: bytes, at: int) -> None:
        """Whoever has the server's key tells her teacher that it had a work then."""
        territory, replica = self.room.territory, self.teacher.agent.replica
        known = (await replica.view(self.room.space)).coursework.hand_ins[work]
        receipt = compose(
            author=territory.keys.signing,
            space=self.room.space,
            kind=Kind.RECEIPT_SERVER,
            grant=territory.certificate.id,
            at=at,
            payload=Receipt(known.record.content.stream).encode(),
            salt=bytes(16),
            subject=known.person,
            target=work,
        )
        await replica.admit([receipt], source=b"server", now_ms=territory.clock())

    async def last(self) -> str:
        """Which work her teacher is shown first."""
        async with portal(self.teacher.agent) as surfer:
            return str(re.findall(r'href="/work/([0-9a-f]{64})', await surfer.page("/work"))[0])

    async def sync(self) -> None:
        for _ in range(2):
            for device in (self.honest, self.teacher):
                await device.session.sync()

    async def hers(self) -> str:
        """What the pupil hands in, at an honest PC."""
        self.room.territory.clock.advance(DAY_MS)
        work = await self.room.hand_in(self.honest, self.item, {"a.odt": b"hers"})
        await self.sync()
        return work.hex()


@pytest_asyncio.fixture
async def dated(tmp_path: Path) -> AsyncIterator[Dated]:
    async with classroom(tmp_path) as room:
        teacher, honest, hostile = await room.teacher(), await room.machine(), await room.machine()
        await teacher.session.sync()
        item = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        for device in (teacher, hostile, honest):
            await device.session.sync()
        yield Dated(room, teacher, honest, hostile, item)


@pytest.mark.parametrize("count", [1, 205])
@attack(ROW, off=_off(latest_first=_by_their_dates))
async def test_what_a_pupil_hands_in_afterwards_is_what_the_teacher_is_shown(dated: Dated, count: int) -> None:
    await dated.false(count)
    hers = await dated.hers()
    async with portal(dated.teacher.agent) as surfer:
        shown = re.findall(r'href="/work/([0-9a-f]{64})', await surfer.page("/work"))
    assert shown[0] == hers


@attack(ROW, off=_off(by_turns=_the_first_of_them))
async def test_what_a_pupil_had_handed_in_before_stays_on_the_teachers_pages(dated: Dated) -> None:
    hers = await dated.hers()
    false = await dated.false(205, at_from(dated.room.territory.clock() + 60_000, 0))
    async with portal(dated.teacher.agent) as surfer:
        assert hers in await surfer.page("/work")
        assert hers in await surfer.page(f"/work/{min(false)}")


@attack(ROW, off=_off(known_since=_all_are_known))
async def test_so_it_does_where_whoever_has_the_server_lets_in_as_many_machines_as_they_like(dated: Dated) -> None:
    first, second = await dated.hers(), await dated.hers()
    await dated.false_on_invented_machines(206)
    async with portal(dated.teacher.agent) as surfer:
        page = await surfer.page(f"/work/{await dated.last()}")
        assert second in await surfer.page("/work")
        assert (first in page, second in page) == (True, True)


@attack(ROW, off=_off(by_turns=_the_first_of_them))
async def test_also_on_a_pc_that_came_today(dated: Dated) -> None:
    dated.honest = await dated.room.machine()
    await dated.honest.session.sync()
    await dated.sync()
    hers = await dated.hers()
    false = await dated.false(205, at_from(dated.room.territory.clock() + 60_000, 0))
    async with portal(dated.teacher.agent) as surfer:
        assert hers in await surfer.page(f"/work/{min(false)}")


def _by_receipts_of_any_date(work: Work, *, now_ms: int) -> int:
    if received := [each.at_ms for each in work.witnesses if each.says is HandInState.SERVER]:
        return min(work.at_ms, min(received) + DAY_MS)
    return work.at_ms if work.at_ms <= now_ms + DAY_MS else 0


@attack(ROW, off={"protocol.folds.coursework._counts_from_ms": _by_receipts_of_any_date})
async def test_no_receipt_that_is_dated_ahead_as_well_keeps_hers_from_being_the_last(dated: Dated) -> None:
    ahead_ms = dated.room.territory.clock() + 5_000 * DAY_MS
    await dated.shown_a_false_one(at_from(ahead_ms), at_from(ahead_ms, 1))
    hers = await dated.hers()
    assert await dated.last() == hers


@attack(ROW, off={"protocol.folds.coursework._counts_from_ms": _by_receipts_of_any_date})
async def test_no_receipt_of_years_ago_puts_hers_before_what_it_does_not_name(dated: Dated) -> None:
    await dated.shown_a_false_one(at_from(dated.room.territory.clock()), None)
    hers = await dated.hers()
    await dated.receives(bytes.fromhex(hers), 1 << 16)
    assert await dated.last() == hers


async def test_a_pc_whose_clock_was_years_ahead_for_an_hour_hands_in_no_last_work_for_years(dated: Dated) -> None:
    clock = dated.room.territory.clock
    dated.honest.agent.now_ms = lambda: clock() + 5_000 * DAY_MS
    first = await dated.room.hand_in(dated.honest, dated.item, {"a.odt": b"once"})
    dated.honest.agent.now_ms = clock
    await dated.sync()
    clock.advance(2 * DAY_MS)
    second = await dated.room.hand_in(dated.hostile, dated.item, {"a.odt": b"done again"})
    await dated.hostile.session.sync()
    await dated.sync()
    replaced = (await dated.teacher.agent.replica.view(dated.room.space)).coursework.hand_ins[second].replaces
    assert replaced == (), "that PC had not heard of the first: the server's receipt alone dates it"
    async with portal(dated.teacher.agent) as surfer:
        shown = re.findall(r'href="/work/([0-9a-f]{64})', await surfer.page("/work"))
    assert (shown[0], first != second) == (second.hex(), True)
