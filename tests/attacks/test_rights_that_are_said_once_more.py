"""A copied key says a right once more, and ends it: what a teacher said of that device was about the first (0573)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.rights.door import Authority
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.lost_laptop import confirm_each_other
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a server's operator names a device of their own as a teacher's"


def _the_last(grants: Sequence[Authority]) -> Authority:
    return max(reversed(grants), key=lambda each: each.rank)


async def _said_once_more(here: SpiedClass, device: Device, person: bytes) -> bytes:
    (right,) = await here.room.territory.let_in(device.agent.keys, Role.TEACHER, here.room.space, person=person)
    return right.id


async def _ended(here: SpiedClass, device: Device, right: bytes) -> None:
    territory, space, key = here.room.territory, here.room.space, device.agent.device
    cut = Revocation(key, tuple(await territory.replica.tips(space, key))).encode()
    await territory.say(space, Kind.REVOKE, cut, target=right)


@attack(ROW, off={"sync_agent.keys.confirming._named_of": _the_last})
async def test_her_yes_lasts_though_a_copied_key_had_said_the_right_once_more_and_ends_that(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        first, second, person = here.teacher, await here.room.teacher(), here.room.teacher_person
        await here.sync(second, first)
        right = await _said_once_more(here, second, person)
        await here.sync(second, first)
        await confirm_each_other(here, first, second)
        await _ended(here, second, right)
        for _ in range(2):
            await here.sync(first, second, here.machine)
        hers = (await here.machine.agent.replica.view(here.room.space)).roster.speaking[person]
        assert hers == {own_device(first.agent), own_device(second.agent)}


async def _how_he_stands(here: SpiedClass) -> dict[str, str]:
    rows = await Desk(here.teacher.agent).ask("key-readers")
    return {row["teacher"]: row["state"] for row in rows}


@attack(ROW, off={"sync_agent.keys.confirming._named_of": lambda grants: grants[0]})
async def test_and_her_yes_to_a_substitute_whose_stay_was_made_longer_lasts_as_long(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        person, now_ms = await territory.person("M. Remplaçant", PersonRole.TEACHER, space), territory.clock()
        his = await here.room.device(Role.TEACHER, person=person, until_ms=now_ms + 15 * DAY_MS)
        (first,) = [each.grant for each in territory.replica.door.authorities_of(his.agent.device)]
        longer_ms = now_ms + 30 * DAY_MS
        await territory.let_in(his.agent.keys, Role.TEACHER, space, person=person, until_ms=longer_ms)
        for _ in range(2):
            await here.sync(his, here.teacher)
        await confirm(here.teacher.agent, device_id(own_device(his.agent)), shown_as="other")
        await _ended(here, his, first)
        for _ in range(2):
            await here.sync(his, here.teacher)
        assert (await _how_he_stands(here))["M. Remplaçant"] == "confirmed"
