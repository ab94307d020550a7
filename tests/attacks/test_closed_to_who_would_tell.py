"""Whoever copied the server's keys closes to a machine what it knows something of, and has it tell all that is left."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Code, Refused
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Revocation, SpaceRecord
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import begin_territory
from sync_server.opened.app import opened
from tests.attacks.test_a_new_root_before_all_is_heard import Again, again
from tests.attacks.test_refused_once import WORK, answered_once_by_a_thief, is_not_closed, unheard
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office

ROW = "a stolen key says whom nobody has to wait for"


async def _nobody(*_: object) -> frozenset[bytes]:
    """As if who has told of some spaces had told of all."""
    return frozenset()


OF_WHAT_IT_MAY_READ = {
    "sync_server.handlers.by_kit.not_heard.kept_from_telling": _nobody,
    "sync_server.handlers.store.restored.kept_from_telling": _nobody,
}


def lets_in(given: Authority) -> bytes:
    return Grant(given.key, given.agreement, given.tls_sha256, Role.MACHINE, None, None).encode()


async def right_of(device: Device) -> Authority:
    return (await device.agent.replica.authorities(device.agent.device))[0]


async def another_class(here: Town) -> bytes:
    under = here.office.server.grant
    (made,) = await thief_says(here.office, Draft(here.school, Kind.SPACE, under, SpaceRecord("CM1").encode()))
    return made.id


async def moved_elsewhere(here: Town, machine: Device) -> Entry:
    """The thief lets a PC into another class, and cuts it off in its own."""
    under, other = here.office.server.grant, await another_class(here)
    _, cut = await thief_says(
        here.office,
        Draft(other, Kind.GRANT, under, lets_in(await right_of(machine))),
        Draft(here.space, Kind.REVOKE, under, Revocation(machine.agent.device, ()).encode()),
    )
    return cut


async def of_the_school_and_cut_off_in_the_class(here: Town, machine: Device) -> Entry:
    """The thief lets it into all of the school, and cuts it off in this one class."""
    under = here.office.server.grant
    await another_class(here)
    _, cut = await thief_says(
        here.office,
        Draft(here.school, Kind.GRANT, under, lets_in(await right_of(machine))),
        Draft(here.space, Kind.REVOKE, under, Revocation(machine.agent.device, ()).encode()),
    )
    return cut


async def calls_for_an_hour(here: Town, *devices: Device) -> None:
    for _ in range(4):
        here.office.clock.advance(61_000)
        await here.sync(*devices)


async def with_work_that_a_thief_took(here: Town, folder: Path, machine: Device, item: bytes, pupil: str) -> bytes:
    """It lies on the PC alone, which believes that the server has it; weeks ago."""
    async with answered_once_by_a_thief(here, folder, machine, WORK, says_so=False):
        work = await here.work(machine, item, pupil)
    for _ in range(30):
        here.office.clock.advance(DAY_MS)
        await here.sync(*(device for device in here.devices if device is not machine))
    return work


@attack(ROW, off=OF_WHAT_IT_MAY_READ)
@pytest.mark.parametrize("closes", [moved_elsewhere, of_the_school_and_cut_off_in_the_class])
async def test_a_pc_that_tells_all_of_other_classes_since_its_own_was_closed_to_it_is_waited_for(
    tmp_path: Path, closes: Callable[[Town, Device], Awaitable[Entry]]
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        work = await with_work_that_a_thief_took(here, tmp_path, machine, item, pupil)
        await closes(here, machine)
        await calls_for_an_hour(here, machine)
        assert here.space not in await machine.agent.spaces()
        assert not await here.office.server.store.present([work])
        assert await unheard(here) == [(machine.agent.device.hex(), 0)]
        await is_not_closed(here, tmp_path)
        # somebody lets it in again, and it brings what it has, which is looked at before the class is closed
        await here.office.do("grant", device=machine.agent.device.hex(), space=[here.office.space])
        await calls_for_an_hour(here, machine)
        assert await here.office.server.store.present([work])
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unheard"], told["hidden"]) == ([], 1)


@attack(ROW, off=OF_WHAT_IT_MAY_READ)
async def test_nor_has_it_told_since_the_thief_has_opened_its_class_again_before_it_calls(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        await with_work_that_a_thief_took(here, tmp_path, machine, item, pupil)
        given, office = await right_of(machine), here.office
        cut = await moved_elsewhere(here, machine)
        await calls_for_an_hour(here, machine)
        again = Draft(here.space, Kind.GRANT, office.server.grant, lets_in(given), parents=(cut.id,))
        await thief_says(office, again)
        assert here.space in await office.server.replica.readable(machine.agent.device)
        await is_not_closed(here, tmp_path)


def _of_a_stolen_key(scene: Again) -> Callable[[bytes, Kind, bytes], Entry]:
    """Makes what whoever copied the key of the server of before signs: space, kind, payload → entry."""
    server, clock = scene.here.office.server, scene.here.office.clock
    author, grant = server.keys.signing, server.grant
    return lambda space, kind, payload: compose(
        author=author,
        space=space,
        kind=kind,
        grant=grant,
        at=at_from(clock()),
        payload=payload,
        salt=os.urandom(16),
    )


async def _closes_all(scene: Again, said: Callable[[bytes, Kind, bytes], Entry], devices: list[Device]) -> list[Entry]:
    """Another school with a class, into which the thief lets all devices that he cuts off where they are."""
    territory = scene.here.office.server.replica.door.territory
    record = SpaceRecord("Autre", "0999999Z")
    school = said(territory, Kind.SPACE, record.encode())
    room = said(record.space_of(school, territory), Kind.SPACE, SpaceRecord("CE1").encode())
    words = [school, room]
    for device in devices:
        given = await right_of(device)
        words.append(said(room.id, Kind.GRANT, lets_in(given)))
        words.append(said(given.space, Kind.REVOKE, Revocation(given.key, ()).encode()))
    return words


@attack(ROW, off=OF_WHAT_IT_MAY_READ)
async def test_nor_have_those_told_a_restored_server_who_are_let_into_another_school_alone(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        here, clock = scene.here, scene.here.office.clock
        head = await here.head_of_the_school()
        said = _of_a_stolen_key(scene)
        backup = await scene.backup()
        await Desk(head.agent).ask("erase", person=[scene.pupil], alone=True)
        await calls_for_an_hour(here)
        async with scene.restored(backup, scene.kit) as server:
            words = await _closes_all(scene, said, here.devices)
            await server.replica.admit(words, source=b"thief", now_ms=clock(), unsent=False)
            for _ in range(4):
                clock.advance(61_000)
                for device in here.devices:
                    with suppress(Refused):
                        await device.session.sync()
            office = Office(server, clock, here.office.space)
            with pytest.raises(BadInput, match="have not told all") as refused:
                await scene.rotate(server)
            assert refused.value.code is Code.NOT_YET
            said_of = (await office.do("status"))["restored"]
            assert {row["device"] for row in said_of["machines"] if row["cut_off"]} == {
                device.agent.device.hex() for device in here.devices
            }


async def test_of_a_class_from_which_a_pc_was_taken_by_a_command_nothing_is_awaited_of_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        await here.work(machine, item, pupil)
        other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        key = machine.agent.device.hex()
        await here.office.do("grant", device=key, space=[other])
        await here.office.do("ungrant", device=key, space=[here.office.space])
        await calls_for_an_hour(here)
        assert here.space not in await machine.agent.spaces()
        assert await unheard(here) == []


async def test_nor_once_that_is_said_of_one_to_which_a_thief_has_closed_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        await here.work(machine, item, pupil)
        await moved_elsewhere(here, machine)
        await calls_for_an_hour(here, machine)
        key = machine.agent.device.hex()
        assert await unheard(here) == [(key, 0)]
        await here.office.do("ungrant", device=key, space=[here.office.space])
        assert await unheard(here) == []


async def test_what_is_closed_to_it_elsewhere_keeps_no_class_open_of_which_it_has_told(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, _, _)):
        other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        await here.office.do("grant", device=machine.agent.device.hex(), space=[other])
        await calls_for_an_hour(here)
        await moved_elsewhere(here, machine)
        await calls_for_an_hour(here, machine)
        assert await unheard(here) == [(machine.agent.device.hex(), 0)]
        assert (await here.office.do("space close", space=other))["unheard"] == []


async def _nothing(*_: object) -> tuple[bytes, ...]:
    """As if a device told of no space that is closed to it."""
    return ()


@attack(ROW, off={"sync_agent.sync.asking.Asking._ended": _nothing})
async def test_nor_has_who_tells_a_server_that_has_never_heard_of_the_class_that_was_closed_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as where somebody has answered that day that the server lacks nothing of what is closed
    monkeypatch.setattr("sync_agent.sync.session.bring_from_closed", _nothing)
    async with again(tmp_path) as scene:
        here, clock, anew = scene.here, scene.here.office.clock, tmp_path / "anew"
        said = _of_a_stolen_key(scene)

        words = await _closes_all(scene, said, here.devices)
        for device in here.devices:
            await device.agent.replica.admit(words, source=b"thief", now_ms=clock(), unsent=False)
        anew.mkdir()
        kit, chance = scene.old, os.urandom
        await begin_territory(anew, kit, kit_file=None, passphrase=None, now_ms=clock, entropy=chance, again=True)
        async with opened(anew, now_ms=clock, entropy=os.urandom) as server:
            here.frontage.responder = server.responder
            # whom it knows already has to show it no right
            shown = await here.office.server.replica.credentials([here.office.server.grant])
            let_in = [word for word in words if word.header.kind != Kind.REVOKE]
            await server.replica.admit([*shown, *let_in], source=b"thief", now_ms=clock(), unsent=False)
            for _ in range(5):
                clock.advance(61_000)
                for device in here.devices:
                    with suppress(Refused):
                        await device.session.sync()
            assert not server.replica.door.knows_space(here.space)
            with pytest.raises(BadInput, match="have not told all") as refused:
                await scene.rotate(server)
            assert refused.value.code is Code.NOT_YET
