"""A teacher's laptop wraps opened work for colleagues who come later: who makes it do so without end (ADR 0205)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.limits import MAX_LATE_WRAPS_PER_DEVICE
from protocol.model.entry import Kind
from protocol.model.structure import PersonKey
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.roles import Role
from sync_agent.hand_ins.wraps import tend_hand_ins
from tests.attacks.test_confirmed_colleagues import confirmed_colleague
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.crowding_wraps import EARLY, crowd_with_wraps
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a teacher's laptop is made to pass on the same work again and again"


async def _open_the_work(here: SpiedClass) -> None:
    await here.sync(here.teacher)
    await Desk(here.teacher.agent).ask("confirm-opened", id=here.work.hex())
    await here.sync(here.teacher)


async def _nothing(*_: object) -> dict[bytes, set[bytes]]:
    return {}


def _by_the_highest_grant(authorities: Iterable[Authority], roster: Roster) -> frozenset[bytes]:
    highest = {each.key: each for each in sorted(authorities, key=lambda each: each.rank)}
    return frozenset(
        key for key, each in highest.items() if each.role in {Role.TEACHER, Role.HEAD} and roster.speaks(each.grant)
    )


@pytest.mark.parametrize("further", [Role.ADMIN, Role.HEAD])
@attack(
    ROW,
    off={
        "sync_agent.hand_ins.wraps._wrapped_here": _nothing,
        "protocol.folds.seals._believed": _by_the_highest_grant,
    },
)
async def test_wraps_of_no_worth_beside_her_own_have_her_say_hers_once(tmp_path: Path, further: Role) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        laptop = here.teacher
        await here.room.territory.let_in(laptop.agent.keys, further, here.room.space)
        await _open_the_work(here)
        await confirmed_colleague(here)
        await crowd_with_wraps(here.room, here.work, [here.spy.agreement.public], before=EARLY)
        await here.sync(laptop, laptop)
        assert [await tend_hand_ins(laptop.agent) for _ in range(3)] == [0, 0, 0]
        said = await laptop.agent.replica.store.of_kinds(here.room.space, [Kind.WRAP])
        assert len([each for each in said if each.entry.header.author == laptop.agent.device]) == 1


@attack(ROW, off={"sync_agent.hand_ins.wraps._as_many_as_bounded": lambda wanted, *_: list(wanted)})
async def test_a_colleague_who_says_one_key_after_another_is_given_a_work_for_some_of_them(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        laptop, territory = here.teacher, here.room.territory
        colleague = await confirmed_colleague(here)
        await _open_the_work(here)
        keys = await territory.replica.store.scan_kinds([Kind.PERSON_KEY])
        last = [entry for entry in keys if entry.header.author == here.spy.signing.public][-1]
        for number in range(MAX_LATE_WRAPS_PER_DEVICE + 4):
            key = new_device(Random(8_000 + number).randbytes).agreement.public
            last = await here.say(Kind.PERSON_KEY, PersonKey(key, "PC").encode(), colleague, parents=(last.id,))
            await here.sync(laptop)
        said = await laptop.agent.replica.store.of_kinds(here.room.space, [Kind.WRAP])
        by_her = [each for each in said if each.entry.header.author == laptop.agent.device]
        assert len(by_her) == MAX_LATE_WRAPS_PER_DEVICE
