"""Whoever copied the server's keys takes machines off the list of those that have to tell before something is over."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Code, Refused
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation, SpaceRecord
from protocol.replica.at_work.replica import Draft
from protocol.roles import SHARED, Role
from sync_server.handlers.by_kit.territory import begin_territory, kit_in
from sync_server.handlers.overview.devices import Device as Listed
from sync_server.handlers.overview.devices import DeviceState
from sync_server.handlers.overview.members import list_devices
from sync_server.opened.app import Server, opened
from tests.attacks.test_a_new_root_before_all_is_heard import again
from tests.attacks.test_classes_whose_machines_told_nothing import PCS_ALONE
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "a stolen key says whom nobody has to wait for"


async def _who_is_in(server: Server) -> list[Listed]:
    """As if whoever is cut off were gone, whoever said it."""
    return [device for device in await list_devices(server) if device.state is not DeviceState.RETIRED]


def _by_its_highest_right(_server: Server, device: Listed, _line: object) -> bool:
    return device.role in SHARED


ANY_WORD = {
    "sync_server.handlers.by_kit.not_heard.still_waited_for": _who_is_in,
    "sync_server.handlers.store.restored.still_waited_for": _who_is_in,
}
BY_ROLE = {"sync_server.handlers.by_kit.not_heard.is_machine_of": _by_its_highest_right, **PCS_ALONE}


def _cut(space: bytes, grant: bytes | None, device: bytes) -> Draft:
    return Draft(space, Kind.REVOKE, grant, Revocation(device, ()).encode())


async def calls_it_a_teachers(here: Town, machine: Device) -> None:
    server = here.office.server
    (made,) = await thief_says(
        here.office, Draft(here.school, Kind.SPACE, server.grant, SpaceRecord("Salle des maîtres").encode())
    )
    first = (await machine.agent.replica.authorities(machine.agent.device))[0]
    given = Grant(first.key, first.agreement, first.tls_sha256, Role.TEACHER, os.urandom(16), None)
    await thief_says(here.office, Draft(made.id, Kind.GRANT, server.grant, given.encode()))


async def cuts_it_off(here: Town, machine: Device) -> None:
    await thief_says(here.office, _cut(here.space, here.office.server.grant, machine.agent.device))


async def whose_pc_was_off(here: Town) -> Device:
    """The PC of a class, on which there is work that is nowhere else, and which calls no more."""
    _, machine, _, pupil, item = await here.class_in_step()
    await here.work(machine, item, pupil)
    return machine


async def unheard(office: Office) -> set[str]:
    return {row["device"] for row in (await office.do("space close", space=office.space))["unheard"]}


async def is_refused(folder: Path, office: Office) -> None:
    with pytest.raises(BadInput, match="have not told all") as refused:
        await office.with_kit("space close", kit_in(folder / "server" / "kit", None), space=office.space)
    assert refused.value.code is Code.NOT_YET


async def a_month_later(here: Town, machine: Device) -> None:
    for _ in range(30):
        here.office.clock.advance(DAY_MS)
        await here.sync(*(device for device in here.devices if device is not machine))


async def _is_waited_for(folder: Path, says: Callable[[Town, Device], Awaitable[None]]) -> None:
    async with town(folder) as here:
        machine = await whose_pc_was_off(here)
        await says(here, machine)
        await a_month_later(here, machine)
        assert await unheard(here.office) == {machine.agent.device.hex()}
        await is_refused(folder, here.office)


@attack(ROW, off=BY_ROLE)
async def test_a_pc_that_a_stolen_key_calls_a_teachers_is_waited_for_as_the_machine_that_it_is(tmp_path: Path) -> None:
    await _is_waited_for(tmp_path, calls_it_a_teachers)


@attack(ROW, off=ANY_WORD)
async def test_and_one_that_it_cuts_off_until_somebody_says_so_at_the_server(tmp_path: Path) -> None:
    await _is_waited_for(tmp_path, cuts_it_off)


@attack(ROW, off=ANY_WORD)
async def test_and_one_whose_right_it_takes_by_what_it_says_of_a_head_who_left_in_good_order(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await whose_pc_was_off(here)
        head, let_in = await here.head_of_the_school(), new_device(os.urandom)
        held = (await head.agent.replica.authorities(head.agent.device))[0]
        grant = Grant(
            let_in.signing.public, let_in.agreement.public, let_in.tls.fingerprint, Role.MACHINE, None, None
        ).encode()
        server = here.office.server
        await server.replica.write(
            [Draft(here.space, Kind.GRANT, held.grant, grant)],
            author=head.agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=os.urandom,
            unsent=False,
        )
        await here.office.do("revoke", device=head.agent.device.hex())
        assert let_in.signing.public.hex() in await unheard(here.office)
        await thief_says(here.office, _cut(here.school, server.grant, head.agent.device))
        (row,) = [row for row in await here.office.do("devices") if row["device"] == let_in.signing.public.hex()]
        assert row["state"] == "retired"
        assert let_in.signing.public.hex() in await unheard(here.office)


@attack(ROW, off=ANY_WORD)
async def test_nor_is_one_gone_for_a_server_that_is_made_anew_of_its_kit(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await whose_pc_was_off(here)
        await cuts_it_off(here, machine)
        teacher, clock, anew = here.devices[0], here.office.clock, tmp_path / "anew"
        await here.sync(teacher)
        clock.advance(DAY_MS)
        anew.mkdir()
        kit = kit_in(tmp_path / "server" / "kit", None)
        await begin_territory(anew, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom, again=True)
        async with opened(anew, now_ms=clock, entropy=os.urandom) as server:
            here.frontage.responder = server.responder
            for _ in range(20):
                clock.advance(DAY_MS)
                await here.sync(teacher)
            await is_refused(tmp_path, office := Office(server, clock, here.office.space))
            (row,) = (await office.do("status"))["restored"]["machines"]
            assert (row["device"], row["cut_off"]) == (machine.agent.device.hex(), True)
            # … until somebody says at this very server that it is gone
            await office.do("revoke", device=machine.agent.device.hex())
            assert (await office.do("status"))["restored"] is None
            await office.with_kit("space close", kit, space=office.space)


@attack(ROW, off=ANY_WORD)
async def test_a_restored_server_takes_no_other_root_since_a_stolen_key_has_cut_off_who_knows_more(
    tmp_path: Path,
) -> None:
    async with again(tmp_path) as scene:
        here, clock = scene.here, scene.here.office.clock
        seat = await here.device("machine")
        stolen, under = here.office.server.keys.signing, here.office.server.grant
        backup = await scene.backup()
        await here.office.with_kit("erase", scene.old, person=[scene.pupil])
        clock.advance(60_000)
        for _ in range(3):
            await here.sync(scene.teacher, scene.machine)
        async with scene.restored(backup, scene.kit) as server:
            said = [
                compose(
                    author=stolen,
                    space=here.space,
                    kind=Kind.REVOKE,
                    grant=under,
                    at=at_from(clock()),
                    payload=Revocation(device.agent.device, ()).encode(),
                    salt=os.urandom(16),
                )
                for device in (scene.teacher, scene.machine)
            ]
            await seat.agent.replica.admit(said, source=b"thief", now_ms=clock(), unsent=True)
            for _ in range(4):
                await here.sync(seat)
            with pytest.raises(BadInput, match="have not told all") as refused:
                await scene.rotate(server)
            assert refused.value.code is Code.NOT_YET
            rows = (await Office(server, clock, here.office.space).do("status"))["restored"]["machines"]
            assert {row["device"] for row in rows if row["cut_off"]} == {
                device.agent.device.hex() for device in (scene.teacher, scene.machine)
            }


async def typed(here: Town, machine: Device, _kit: Any) -> None:
    await here.office.do("revoke", device=machine.agent.device.hex())


async def by_the_kit(here: Town, machine: Device, kit: Any) -> None:
    await here.office.with_kit("revoke", kit, device=machine.agent.device.hex())


async def by_a_head(here: Town, machine: Device, _kit: Any) -> None:
    head = await here.head_of_the_school()
    held = (await head.agent.replica.authorities(head.agent.device))[0]
    await head.agent.replica.write(
        [_cut(here.space, held.grant, machine.agent.device)],
        author=head.agent.keys.signing,
        now_ms=here.office.clock(),
        entropy=os.urandom,
    )
    await here.sync(head)


@pytest.mark.parametrize("is_cut_off_already", [False, True], ids=["", "whom a thief has cut off"])
@pytest.mark.parametrize("says", [typed, by_the_kit, by_a_head])
async def test_who_is_gone_by_a_command_the_kit_or_a_head_whom_the_server_knows_is_waited_for_no_more(
    tmp_path: Path, says: Callable[[Town, Device, Any], Awaitable[None]], *, is_cut_off_already: bool
) -> None:
    async with town(tmp_path) as here:
        machine, kit = await whose_pc_was_off(here), kit_in(tmp_path / "server" / "kit", None)
        here.office.clock.advance(30 * DAY_MS)
        if is_cut_off_already:
            await cuts_it_off(here, machine)
        await says(here, machine, kit)
        await here.sync(*here.devices[:1] * 2)
        assert await unheard(here.office) == set()


async def test_who_was_cut_off_before_a_backup_was_made_is_waited_for_by_no_server_that_comes_of_it(
    tmp_path: Path,
) -> None:
    async with again(tmp_path) as scene:
        here = scene.here
        await here.office.do("revoke", device=scene.machine.agent.device.hex())
        backup = await scene.backup()
        async with scene.restored(backup, scene.kit) as server:
            for _ in range(3):
                for device in here.devices:
                    with suppress(Refused):
                        await device.session.sync()
            office = Office(server, here.office.clock, here.office.space)
            assert (await office.do("status"))["restored"] is None
