"""A teacher whom a stolen server named a week ago says that work which was not his was opened (docs/adr/0256).

Such work is left out of no stick, and its content makes way for nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import Known
from protocol.limits import ACQUAINTANCE_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonKey, PersonRecord, Revocation
from protocol.model.work import Receipt
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_agent.hand_ins.for_good import known_for_good
from sync_agent.keys.acquaintances import known_in
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import takes_for_opened, work_of
from tests.harness.commands import Desk
from tests.harness.joined_lists import JOINED
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "who was named a week ago says that work of others was opened"


@dataclass
class Named:
    """A class in which M. X has been named: its PC is to take for opened what nobody for whom it was has read."""

    here: SpiedClass
    person: bytes

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

    async def counts_as_opened(self, work: bytes) -> bool:
        """Whether its PC takes a work for opened by whom it was meant for."""
        return await takes_for_opened(self.here.machine, self.here.room.space, work)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def x_is_named(here: SpiedClass) -> Named:
    person = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(person)
    await here.sync(here.machine)
    return Named(here, person)


def _whoever_says_it(key: bytes, roster: Roster, _known: Known) -> frozenset[bytes]:
    return roster.said_as.get(key, frozenset())


@attack(ROW, off={"protocol.folds.hand_in_keys._whose": _whoever_says_it})
async def test_who_says_her_key_as_his_has_opened_no_work_from_before_him(here: SpiedClass) -> None:
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine)
    named = await x_is_named(here)
    hers = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert hers is not None
    await here.say(Kind.PERSON_KEY, PersonKey(hers.public).encode(), named.person)
    await named.a_week_passes()
    await named.says_opened(work)
    assert not await named.counts_as_opened(work)
    await here.sync(here.teacher)
    await Desk(here.teacher.agent).ask("confirm-opened", id=work.hex())
    await here.sync(here.teacher, here.machine)
    assert await named.counts_as_opened(work), "she has opened it"


async def _as_shown(agent: Agent, roster: Roster) -> Known:
    return known_in(agent, roster.space)


@pytest.mark.parametrize("how", ["erased", "cut off with all that she said"])
@attack(ROW, off={"sync_agent.hand_ins.for_good.known_for_good": _as_shown})
async def test_who_says_her_key_as_his_while_she_is_hidden_has_opened_no_work_from_before_him(
    here: SpiedClass, how: str
) -> None:
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine)
    named, territory, space = await x_is_named(here), here.room.territory, here.room.space
    hers = here.teacher.agent.reading_keys.newest_of(space)
    assert hers is not None
    await here.say(Kind.PERSON_KEY, PersonKey(hers.public).encode(), named.person)
    await named.a_week_passes()
    if how == "erased":
        await territory.say(space, Kind.ERASE, Erasure(here.room.teacher_person).encode())
    else:
        await territory.say(space, Kind.REVOKE, Revocation(here.teacher.agent.device, ()).encode())
    await here.sync(here.machine)
    await named.says_opened(work)
    assert not await named.counts_as_opened(work)


@attack(ROW, off={"sync_agent.hand_ins.for_good.unknown_words": lambda _entries: frozenset()})
async def test_nor_who_says_her_key_as_his_once_her_word_is_destroyed(here: SpiedClass) -> None:
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    await here.sync(here.machine)
    named, space = await x_is_named(here), here.room.space
    hers = here.teacher.agent.reading_keys.newest_of(space)
    assert hers is not None
    await here.say(Kind.PERSON_KEY, PersonKey(hers.public).encode(), named.person)
    await named.a_week_passes()
    await here.room.territory.say(space, Kind.ERASE, Erasure(here.room.teacher_person).encode())
    await here.sync(here.machine)
    await named.a_week_passes()
    await named.a_week_passes()
    said = await here.machine.agent.replica.store.of_kinds(space, [Kind.PERSON_KEY])
    assert [one for one in said if one.entry.payload is None], "her word is gone from the PC"
    await named.says_opened(work)
    assert not await named.counts_as_opened(work)


async def _met_as_starts_alone(agent: Agent, roster: Roster) -> Known:
    agent.acquainted.heard.clear()
    return await known_for_good(agent, roster)


@pytest.mark.parametrize("how", ["erased", "cut off with all that it said"])
@attack(ROW, off={"sync_agent.hand_ins.for_good.known_for_good": _met_as_starts_alone})
async def test_nor_who_says_the_key_of_her_second_laptop_while_that_is_hidden(here: SpiedClass, how: str) -> None:
    territory, space, teacher = here.room.territory, here.room.space, here.teacher
    second = await here.room.teacher()
    await here.sync(teacher, second, here.machine, teacher)
    await confirm(teacher.agent, device_id(own_device(second.agent)), shown_as="own")
    await here.sync(teacher, second, here.machine, teacher)
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"encore" * 50})
    named, its = await x_is_named(here), second.agent.reading_keys.newest_of(space)
    assert its is not None
    await here.say(Kind.PERSON_KEY, PersonKey(its.public).encode(), named.person)
    await named.a_week_passes()
    if how == "erased":
        await territory.say(space, Kind.ERASE, Erasure(here.room.teacher_person).encode())
    else:
        await territory.say(space, Kind.REVOKE, Revocation(second.agent.device, ()).encode())
    await here.sync(here.machine)
    await named.says_opened(work)
    assert not await named.counts_as_opened(work)


@attack(ROW, off=JOINED)
async def test_whom_a_list_calls_the_same_as_her_after_a_week_has_opened_no_work_from_before_him(
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
    assert not await named.counts_as_opened(work)
