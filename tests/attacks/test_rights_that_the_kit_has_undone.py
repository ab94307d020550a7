"""A copied key gave computers a right, the kit has undone it, and next year comes (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.grants import grants_of
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import brought, granted, signed_with, thief_says
from tests.harness.kept_town import keep_town, town_in_step
from tests.harness.office_devices import AtWork, Town
from tests.harness.portal import portal
from tests.harness.territory import new_device

ROW = "a right that the kit has undone keeps an honest laptop out of the next class"
LEAVING = "a thief has others cut people off"
HOUR_MS = 3_600_000
_Says: TypeAlias = Callable[..., Awaitable[None]]


async def _whatever_ended(office: Office, key: bytes, space: bytes) -> bool:
    """As if a device were cut off wherever no right of it is left."""
    return key in (await office.replica.view(space)).roster.cut


async def _every(_replica: Replica, grants: Sequence[Authority]) -> list[Authority]:
    """As if what the root's word holds back had been given."""
    return list(grants)


async def _whatever_was_said(office: Office, device: bytes) -> list[Authority]:
    """As if a right that the root's word holds back had been given as well."""
    return grants_of(office, device)


@pytest.fixture(autouse=True)
async def kept() -> None:
    """What each of these begins with."""
    await keep_town(__name__)


@dataclass(frozen=True)
class _Autumn:
    """The computers to which a copied key had given a right as hers, above all classes, which the kit has undone."""

    here: Town
    at_work: AtWork
    head: Device
    thiefs: DeviceKeys

    async def next_class(self, at: str) -> tuple[str, list[str]]:
        """Mme Petit is let into it, at the server or at the head's; what is told meanwhile."""
        office, desk = self.here.office, Desk(self.head.agent)
        if at == "server":
            school = (await office.do("space list"))[0]["school"]
            space = (await office.do("space add", name="CE2", school=school))["space"]
            office.said.lines.clear()
            await office.do("grant", person=self.at_work.person, space=[space])
            told = list(office.said.lines)
        else:
            space = (await desk.ask("space add", name="CE2"))["space"]
            await desk.ask("grant", person=self.at_work.person, space=[space])
            told = []
        for _ in range(2):
            await self.here.sync()
        return space, told

    async def is_in(self, keys: DeviceKeys, space: str) -> bool:
        return bytes.fromhex(space) in await self.here.office.server.replica.readable(keys.signing.public)


@asynccontextmanager
async def _autumn(folder: Path) -> AsyncIterator[_Autumn]:
    async with town_in_step(folder, __name__) as (here, at_work):
        office, head = here.office, await here.head_of_the_school()
        autumn = _Autumn(here, at_work, head, new_device(os.urandom))
        await here.sync()
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(6 * HOUR_MS)
        for keys in (at_work.teacher.agent.keys, at_work.machine.agent.keys, autumn.thiefs):
            called = granted(keys, Role.TEACHER, at_work.person)
            await thief_says(office, Draft(here.school, Kind.GRANT, office.server.grant, called))
        await here.sync()
        office.clock.advance(HOUR_MS)
        await office.with_kit("rotate server", kit_in(here.folder / "server" / "kit", None), since="3h")
        for _ in range(2):
            await here.sync()
        yield autumn


@pytest.mark.parametrize("at", ["server", "head"])
@attack(ROW, off={"protocol.replica.office.grants._is_cut_off": _whatever_ended})
async def test_her_laptop_comes_into_the_next_class_though_the_kit_has_undone_a_right_of_it(
    tmp_path: Path, at: str
) -> None:
    async with _autumn(tmp_path) as autumn:
        space, _ = await autumn.next_class(at)
        assert await autumn.is_in(autumn.at_work.teacher.agent.keys, space)
        assert not await autumn.is_in(autumn.at_work.machine.agent.keys, space)
        assert not await autumn.is_in(autumn.thiefs, space)


@attack(ROW, off={"protocol.replica.office.grants.grants_not_undone": _every})
async def test_what_a_copied_key_called_hers_is_told_as_what_it_is_and_not_as_a_leavers(tmp_path: Path) -> None:
    async with _autumn(tmp_path) as autumn:
        _, told = await autumn.next_class("server")
        pc, thiefs = autumn.at_work.machine.agent.device.hex(), autumn.thiefs.signing.public.hex()
        assert [line for line in told if pc in line and "it stands for no teacher" in line]
        assert [line for line in told if thiefs in line and "nothing here says that it is this person's" in line]
        assert not [line for line in told if "its person left" in line]


@asynccontextmanager
async def _ended(folder: Path) -> AsyncIterator[tuple[Town, AtWork, Device, _Says]]:
    """The kit has ended a key before its copy said anything; and how that says rights in classes, by any PC."""
    async with town_in_step(folder, __name__) as (here, at_work):
        office, head = here.office, await here.head_of_the_school()
        copied, grant = office.server.keys.signing, office.server.grant
        await here.sync()
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(6 * HOUR_MS)
        await office.with_kit("rotate server", kit_in(here.folder / "server" / "kit", None), since="3h")
        office.clock.advance(24 * HOUR_MS)

        async def say(*rights: tuple[bytes, bytes]) -> None:
            for space, called in rights:
                await brought(here, signed_with(copied, grant, space, office.clock(), Kind.GRANT, called))
            for _ in range(2):
                await here.sync()

        yield here, at_work, head, say


@pytest.mark.parametrize("at", ["server", "head"])
@attack(LEAVING, off={"protocol.replica.office.withdrawals.given_to": _whatever_was_said})
async def test_with_a_child_goes_no_computer_that_a_key_calls_theirs_which_the_kit_has_ended(
    tmp_path: Path, at: str
) -> None:
    async with _ended(tmp_path) as (here, at_work, head, say):
        office, others = here.office, [at_work.teacher, at_work.machine]
        await say(*((here.space, granted(each.agent.keys, Role.TEACHER, at_work.pupil)) for each in others))
        if at == "server":
            await office.do("person retire", person=at_work.pupil)
        else:
            await Desk(head.agent).ask("ungrant", person=at_work.pupil, space=[here.space.hex()])
            await here.sync(head)
        readable = office.server.replica.readable
        assert [here.space in await readable(each.agent.device) for each in others] == [True, True]


@attack(LEAVING, off={"sync_agent.portal.head.losses.grants_not_undone": _every})
async def test_no_page_asks_a_head_to_have_a_laptop_revoked_for_rights_that_such_a_key_says_it_has(
    tmp_path: Path,
) -> None:
    async with _ended(tmp_path) as (here, at_work, head, say):
        hers = at_work.teacher.agent.keys
        higher, wider = granted(hers, Role.HEAD, at_work.person), granted(hers, Role.TEACHER, at_work.person)
        await say((here.space, higher), (here.school, wider))
        async with portal(head.agent) as surfer:
            assert f"sync-server revoke {hers.signing.public.hex()}" not in await surfer.page("/lost")
