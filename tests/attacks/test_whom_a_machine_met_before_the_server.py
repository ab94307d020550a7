"""Whom a machine knows that had only neighbours for weeks, or is somebody's by the server's word (docs/adr/0270)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

from protocol.clock import DAY_MS
from protocol.errors import Refused
from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.model.work import ItemKind
from protocol.rights.vouching import device_id
from protocol.roles import Role
from sync_agent.keys.key_wraps import reading_keys
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, classroom
from tests.harness.commands import Desk
from tests.harness.copied_keys import AS_WHOEVER_IT_IS_CALLED
from tests.harness.lan import exchange
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, own_keys, spied_class
from tests.harness.territory import new_device


async def _nothing(*_: object) -> int:
    return 0


@attack(
    "a machine that had only neighbours meets the server",
    off={"sync_agent.lan.exchange.after_news.tend_after_news": _nothing},
)
async def test_a_pc_that_worked_by_its_neighbours_for_weeks_knows_its_teacher_before_whom_a_server_names(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        petit, machine = await room.teacher(), await room.machine()
        await petit.session.sync()
        item = (await room.publish(petit, SMALL, kind=ItemKind.ASSIGNMENT)).item
        await exchange(machine.agent, petit.agent)
        room.territory.clock.advance(21 * DAY_MS)
        here = SpiedClass(room, petit, machine, item, b"", new_device(Random(666).randbytes))
        await here.name_the_spy(room.teacher_person, back_ms=10**10)
        await here.sync(machine, petit, machine)
        work = await room.hand_in(machine, item, {"b.odt": b"the fourth week"})
        await here.sync(machine)
        found = (await machine.agent.replica.view(room.space)).coursework.hand_ins[work]
        assert content_key_of(found, reading_keys(petit.agent)) is not None
        assert not await here.opens(work)


@attack(
    "a server grants a pupils' PC a teacher's right, as hers",
    off={
        "sync_agent.keys.first_met._is_first_itself": lambda *_: True,
        "sync_agent.keys.first_met._is_doubted": lambda *_: False,
        "sync_agent.keys.first_met.nobodys_keys": lambda _: frozenset(),
        **AS_WHOEVER_IT_IS_CALLED,
    },
)
async def test_what_a_pupil_says_at_a_pc_that_a_server_calls_hers_is_no_word_of_hers_there(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        room, machine = here.room, here.machine
        territory = room.territory
        (grant,) = await territory.let_in(machine.agent.keys, Role.TEACHER, room.space, person=room.teacher_person)
        for _ in range(3):
            await here.sync(machine)
        await here.name_the_spy(room.teacher_person)
        await here.sync(machine)
        # the pages stay a shared PC's (docs/adr/0287)
        desk = Desk(machine.agent)
        with suppress(Refused):
            await desk.ask("key-confirm", reader=device_id(own_keys(here.spy)).hex(), shown_as="own")
        with suppress(Refused):
            await desk.ask("feedback", id=here.work.hex(), text="Viens me voir ce soir.", mark=None, redo=False)
        await here.sync(machine)
        tips = tuple(await territory.replica.tips(room.space, machine.agent.device))
        end = Revocation(machine.agent.device, tips).encode()
        await territory.say(room.space, Kind.REVOKE, end, target=grant.id)
        await here.sync(machine, here.teacher, machine)
        async with portal(machine.agent) as surfer:
            await surfer.send("/who", "/who", {"person": room.pupil_person.hex(), "back": "/"})
            assert "Viens me voir" not in await surfer.page(f"/work/{here.work.hex()}")
        work = await room.hand_in(machine, here.item, {"c.odt": b"months later"})
        await here.sync(machine)
        assert not await here.opens(work)
