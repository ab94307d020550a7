"""A teacher whom a stolen server named a week ago, and the keys of work that was not his (docs/adr/0256)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import Known
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, PersonRecord
from protocol.model.work import Receipt
from protocol.rights.roster import Roster
from protocol.rights.vouching import Device as VouchedDevice
from protocol.roles import PersonRole
from sync_agent.hand_ins.wraps import Kept, mark_of
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import work_of
from tests.harness.commands import Desk
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "who was named a week ago says that work of others was opened"


@dataclass
class Named:
    """A class in which M. X has been named: of its PC he is to have the keys let go of."""

    here: SpiedClass
    person: bytes

    async def hand_in(self) -> bytes:
        work = await self.here.room.hand_in(self.here.machine, self.here.item, {"autre.odt": b"encore" * 50})
        await self.here.sync(self.here.machine)
        return work

    async def a_week_passes(self) -> None:
        for _ in range(ACQUAINTANCE_MS // DAY_MS + 1):
            self.here.room.territory.clock.advance(DAY_MS)
            await destroy_erased(self.here.machine.agent)
            await self.here.sync(self.here.machine)

    async def says_opened(self, work: bytes) -> None:
        """M. X says so; the PC hears it."""
        here = self.here
        stream = (await work_of(here.machine, here.room, work)).record.content.stream
        await here.say(Kind.RECEIPT_TEACHER, Receipt(stream).encode(), here.room.pupil_person, target=work)
        for _ in range(2):
            await here.sync(here.machine)
        assert (await work_of(here.machine, here.room, work)).opened

    async def is_kept(self, work: bytes) -> bool:
        """Whether the PC keeps the key of a work that it made."""
        mark = await self.here.machine.agent.replica.store.mark(mark_of(work))
        return Kept.parse(mark or b"").content_key is not None


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path) as made:
        yield made


async def x_is_named(here: SpiedClass) -> Named:
    person = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(person)
    await here.sync(here.machine)
    return Named(here, person)


def _whoever_says_it(key: bytes, roster: Roster, _known: Known) -> frozenset[bytes]:
    return roster.said_as.get(key, frozenset())


@attack(ROW, off={"protocol.folds.hand_in_keys._whose": _whoever_says_it})
async def test_who_says_her_key_as_his_lets_go_of_no_work_from_before_him(here: SpiedClass) -> None:
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine)
    named = await x_is_named(here)
    hers = here.teacher.agent.reading_key(here.room.space)
    assert hers is not None
    await here.say(Kind.PERSON_KEY, PersonKey(hers.public).encode(), named.person)
    await named.a_week_passes()
    await named.says_opened(work)
    assert await named.is_kept(work)
    await here.sync(here.teacher)
    await Desk(here.teacher.agent).ask("confirm-opened", id=work.hex())
    await here.sync(here.teacher, here.machine)
    assert not await named.is_kept(work), "she has opened it"


def _starts_as_lists_have_it(person: bytes, roster: Roster) -> tuple[VouchedDevice, ...]:
    return roster.starts.get(roster.who(person), ())


@attack(ROW, off={"protocol.folds.hand_in_keys._starts_of": _starts_as_lists_have_it})
async def test_whom_a_list_calls_the_same_as_her_after_a_week_lets_go_of_no_work_from_before_him(
    here: SpiedClass,
) -> None:
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine)
    named = await x_is_named(here)
    await named.a_week_passes()
    same = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=here.room.teacher_person)
    await here.room.territory.say(here.room.space, Kind.PERSON, same.encode(), subject=named.person)
    await here.sync(here.machine)
    await named.says_opened(work)
    assert await named.is_kept(work)
