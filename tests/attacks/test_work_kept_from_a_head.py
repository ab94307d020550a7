"""Somebody is in the server on the day on which a head teacher reports a PC: a work is kept from her computer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from protocol.clock import DAY_MS
from protocol.messages.parts import SpacePage
from protocol.reconcile.set_digest import fingerprint_of
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import answered_by_a_copy
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal


@asynccontextmanager
async def _left_out(false: Server, name: bytes, space: bytes) -> AsyncIterator[None]:
    """A copy of the server says that its set is one without that word."""
    shown, true = fingerprint_of(await false.replica.records(space), without=[name]), false.responder._news.pages

    def without(page: SpacePage) -> SpacePage:
        entries = tuple(entry for entry in page.entries if entry.id != name)
        at = page.checkpoint
        return replace(page, entries=entries, checkpoint=replace(at, fingerprint=shown) if at.space == space else at)

    async def pages(*args: Any, **more: Any) -> tuple[list[SpacePage], list[bytes], bool]:
        found, stale, has_more = await true(*args, **more)
        return list(map(without, found)), stale, has_more

    false.responder._news.pages = pages  # type: ignore[method-assign]
    yield
    false.responder._news.pages = true  # type: ignore[method-assign]


async def _works(here: Town, device: Device) -> Collection[bytes]:
    return (await device.agent.replica.view(here.space)).coursework.hand_ins


async def _nobody_counts(*_: object) -> int:
    return 0


@attack(
    "words are kept back behind others until who signed them is cut off",
    off={"protocol.replica.office.withdrawals.absent_of": _nobody_counts},
)
async def test_a_head_teacher_is_told_how_many_words_of_a_pc_she_reports_were_kept_from_her(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, _, pupil, item = await here.class_in_step()
        head, clock = await here.head_of_the_school(), here.office.clock
        for _ in range(3):
            await here.sync()
        works = []
        for _ in range(3):
            clock.advance(60_000)
            works.append(await here.work(machine, item, pupil))
            await here.sync(machine, teacher)
        pc = machine.agent.device.hex()
        async with answered_by_a_copy(here, tmp_path) as false, _left_out(false, works[1], here.space):
            await head.session.sync()
            rehearsed = await Desk(head.agent).ask("lost", device=pc, dry_run=True)
            async with portal(head.agent) as surfer:
                page = (await surfer.send("/lost", "/lost", {"device": pc, "since": "", "meant": "yes"})).text
        assert set(works) - set(await _works(here, head)) == {works[1]}
        here.devices.remove(machine)
        await machine.agent.close()
        for _ in range(3):
            clock.advance(DAY_MS)
            await here.sync()
        assert works[1] not in await _works(here, teacher), "it is held back everywhere, where it had lain for long too"
        await here.office.do("accept", named=[works[1].hex()])
        await here.sync()
        assert works[1] in await _works(here, teacher)
        assert rehearsed.get("absent") == 1
        assert "mène à 1 mot qui manque ici" in page
