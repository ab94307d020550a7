"""Whoever copied the server's keys has a PC take keys of its own, of which the server knows nothing in its class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.messages.calls import SyncRequest
from protocol.messages.lives import Twin
from protocol.model.entry import Kind, compose
from protocol.model.structure import Revocation
from protocol.replica.answering.told import untold_by
from protocol.replica.at_work.readers import ever_opened_to
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from sync_agent.keys.binding import Hardware, Part
from sync_agent.keys.succession import TELLINGS, Place, bind
from sync_agent.sync.asking import Asking
from sync_agent.sync.session import Session
from sync_server.handlers.by_kit.not_heard import is_machine_of
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.devices import Device as Listed
from sync_server.opened.app import Server
from sync_server.opened.contacts import Heard
from tests.attacks.test_closed_to_who_would_tell import (
    another_class,
    calls_for_an_hour,
    lets_in,
    moved_elsewhere,
    right_of,
    with_work_that_a_thief_took,
)
from tests.attacks.test_refused_once import WORK, answered_once_by_a_thief, is_not_closed, unheard
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import thief_says
from tests.harness.entries import SOME_RECEIPT
from tests.harness.office_devices import Town, town
from tests.harness.wire import MemoryTransport

ROW = "a stolen key says whom nobody has to wait for"
A_PC: Hardware = {part: frozenset({f"{part} of this PC"}) for part in Part}


def _by_known_rights(server: Server, device: Listed, line: tuple[bytes, ...], _kept: object) -> bool:
    return is_machine_of(server, device, line)


async def _of_its_present_key(asking: Asking, spaces: list[bytes]) -> tuple[bytes, ...]:
    agent = asking._agent
    return tuple(sorted(ever_opened_to(agent.replica.door, agent.device).difference(spaces)))


async def _brings_nothing(*_: object) -> None:
    """What leads to its rights in closed classes no machine brings."""


@pytest.fixture(autouse=True)
def somebody_has_answered_that_nothing_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is closed to a machine, that day, in the server's place: else the server hears of the keys by that."""
    monkeypatch.setattr("sync_agent.sync.session.bring_from_closed", _brings_nothing)


def _only_who_tells(heard: Heard, _spaces: object) -> Heard:
    return heard


def _by_any_word(*_: object) -> list[bytes]:
    """As if who is in nowhere any more were gone from everywhere."""
    return []


BY_KNOWN_RIGHTS = {"sync_server.handlers.by_kit.not_heard.may_hold_work": _by_known_rights}
BY_ITS_PRESENT_KEY = {"sync_agent.sync.asking.Asking._ended": _of_its_present_key}


async def takes_keys_of_its_own(here: Town, machine: Device) -> Device:
    """It is told of a twin often enough, and starts again."""
    here.devices.remove(machine)
    await machine.close()
    folder, place = machine.agent.folder, Place(A_PC)
    bind(folder, A_PC, Random(9).randbytes)
    agent = await place.open(folder, here.office.clock, Random(10).randbytes)
    before = agent.device
    for _ in range(TELLINGS):
        agent.on_twin(Twin.LATER)
    assert place.gives_way.is_set()
    await agent.close()
    agent = await place.open(folder, here.office.clock, Random(11).randbytes)
    assert agent.device != before
    way = MemoryTransport(here.frontage)
    found = Device(agent, Session(agent, way), way)
    here.devices.append(found)
    return found


@dataclass(frozen=True)
class _Scene:
    """A PC with new keys, and work on it alone; the thief has let these into another class, and out of their own.

    Its old keys have told all; of the new ones the server knows the other class.
    """

    machine: Device
    work: bytes
    other: bytes

    @property
    def key(self) -> str:
        return self.machine.agent.device.hex()


async def _elsewhere_under_new_keys(here: Town, folder: Path) -> _Scene:
    _, machine, _, pupil, item = await here.class_in_step()
    office, server, other = here.office, here.office.server, await another_class(here)
    await calls_for_an_hour(here)
    assert await unheard(here) == []
    await note_arrivals(server.store, office.clock())
    office.clock.advance(DAY_MS)
    machine = await takes_keys_of_its_own(here, machine)
    agent = machine.agent
    async with answered_once_by_a_thief(here, folder, machine, WORK, says_so=False):
        work = await here.work(machine, item, pupil)
    let_in = await thief_says(office, Draft(other, Kind.GRANT, server.grant, lets_in(await right_of(machine))))
    cut = compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.REVOKE,
        grant=server.grant,
        at=at_from(office.clock()),
        payload=Revocation(agent.device, ()).encode(),
        salt=os.urandom(16),
    )
    made = await server.replica.credentials([each.id for each in let_in])
    # which he says to this PC alone
    await agent.replica.admit([*made, cut], source=server.keys.signing.public, now_ms=office.clock(), unsent=False)
    assert here.space not in await agent.spaces()
    return _Scene(machine, work, other)


@attack(ROW, off=BY_KNOWN_RIGHTS)
async def test_a_pc_whose_new_keys_nobody_knows_in_its_class_is_waited_for_though_the_old_ones_have_told_all(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        scene = await _elsewhere_under_new_keys(here, tmp_path)
        await calls_for_an_hour(here)
        assert not await here.office.server.store.present([scene.work])
        assert await unheard(here) == [(scene.key, 0)]
        await is_not_closed(here, tmp_path)
        # somebody who knows the PC lets it in there: first comes what had cut it off, then, said again, what it has
        for is_here in (False, True):
            await here.office.do("grant", device=scene.key, space=[here.office.space], anew=not is_here)
            await calls_for_an_hour(here)
            assert bool(await here.office.server.store.present([scene.work])) is is_here
            assert (await unheard(here) == []) is is_here


@attack(ROW, off={"sync_server.opened.contacts.Heard.with_untold": _only_who_tells})
async def test_and_one_that_never_tells_since_something_of_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        scene = await _elsewhere_under_new_keys(here, tmp_path)
        agent = scene.machine.agent
        monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 0)
        said = compose(
            author=agent.keys.signing,
            space=scene.other,
            kind=Kind.RECEIPT_SAFE,
            grant=(await right_of(scene.machine)).grant,
            at=at_from(here.office.clock()),
            payload=SOME_RECEIPT,
            salt=os.urandom(16),
            target=bytes(32),
        )
        await agent.replica.admit([said], source=agent.device, now_ms=here.office.clock(), unsent=True)
        await calls_for_an_hour(here)
        assert here.office.server.contacts.of(agent.device).told is None
        assert scene.key in dict(await unheard(here))


@attack(ROW, off=BY_ITS_PRESENT_KEY)
async def test_and_one_that_was_cut_off_in_its_class_first_once_it_is_said_that_its_old_keys_are_gone(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_in_step()
        await with_work_that_a_thief_took(here, tmp_path, machine, item, pupil)
        await moved_elsewhere(here, machine)
        await calls_for_an_hour(here, machine)
        before = machine.agent.device.hex()
        machine = await takes_keys_of_its_own(here, machine)
        await calls_for_an_hour(here, machine)
        assert before in dict(await unheard(here))
        await here.office.do("ungrant", device=before, space=[here.office.space])
        assert await unheard(here) == [(machine.agent.device.hex(), 0)]
        await is_not_closed(here, tmp_path)


@attack(ROW, off={"sync_server.handlers.overview.let_go._untold_here": _by_any_word})
async def test_and_one_that_is_taken_out_of_the_class_into_which_the_thief_had_let_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        scene = await _elsewhere_under_new_keys(here, tmp_path)
        await calls_for_an_hour(here)
        await here.office.do("ungrant", device=scene.key, space=[scene.other.hex()])
        assert await unheard(here) == [(scene.key, 0)]
        await is_not_closed(here, tmp_path)


async def _whatever_it_was(*_: object) -> bool:
    """As if the end of a stolen key's right were the end of all that its device ever had."""
    return True


@attack(ROW, off={"sync_server.handlers.overview.let_go._is_let_in_anywhere": _whatever_it_was})
async def test_and_one_that_has_by_a_stolen_keys_word_alone_what_let_it_in_once_that_counts_no_more(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        scene, office = await _elsewhere_under_new_keys(here, tmp_path), here.office
        await calls_for_an_hour(here)
        given = lets_in(await right_of(scene.machine))
        await thief_says(office, Draft(here.space, Kind.GRANT, office.server.grant, given))
        await note_arrivals(office.server.store, office.clock())
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        assert await unheard(here) == [(scene.key, 0)]
        await is_not_closed(here, tmp_path)
        (row,) = (await office.do("space close", space=office.space))["unheard"]
        assert row["let_in"] is False
        await office.do("ungrant", device=scene.key, space=[office.space])
        assert await unheard(here) == []


@pytest.mark.parametrize("command", ["ungrant", "revoke", "lost"])
async def test_until_it_is_said_that_it_is_gone(tmp_path: Path, command: str) -> None:
    async with town(tmp_path) as here:
        scene = await _elsewhere_under_new_keys(here, tmp_path)
        await calls_for_an_hour(here)
        assert await unheard(here) == [(scene.key, 0)]
        where = {"space": [here.office.space]} if command == "ungrant" else {}
        await here.office.do(command, device=scene.key, **where)
        assert await unheard(here) == []
        await calls_for_an_hour(here, *here.devices[:1])
        assert await unheard(here) == []


async def test_one_that_takes_keys_of_its_own_in_good_order_is_in_step_and_keeps_no_class_open(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_in_step()
        await calls_for_an_hour(here)
        machine = await takes_keys_of_its_own(here, machine)
        work = await here.work(machine, item, pupil)
        await calls_for_an_hour(here)
        assert await here.office.server.store.present([work])
        assert here.office.server.contacts.of(machine.agent.device).untold == frozenset()
        assert await unheard(here) == []


async def test_of_what_a_device_knows_as_closed_it_has_told_nothing_though_the_server_knows_it_as_open(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        _, machine, _, _, _ = await here.class_in_step()
        key, replica, another = machine.agent.device, here.office.server.replica, bytes(32)
        readable = await replica.readable(key)
        for says, untold in (((), set()), ((here.space, another), {here.space, another})):
            assert await untold_by(replica, key, SyncRequest(ended=says), (), readable) == untold
        assert await untold_by(replica, key, SyncRequest(), (another,), ()) == {here.space, another}
