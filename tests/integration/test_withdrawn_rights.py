"""A device whose right was taken learns it at its next contact, says so, and comes back when it may."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, NoAnswer, Refused
from protocol.identity import DeviceKeys
from protocol.messages.enrollment import EnrollAnswer
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.stays import end_stays
from protocol.roles import Role
from sync_agent.lan.exchange.meeting import secrets_of
from sync_agent.sync.withdrawn import ended_names
from sync_server.opened.app import opened
from tests.harness.backups import make_backup, restore_backup
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.lan import exchange
from tests.harness.office_devices import Town, town
from tests.harness.patience import PATIENCE_S
from tests.harness.server_in_process import Member


class Scene:
    """A teacher of two classes, and a machine of one of them."""

    def __init__(self, here: Town) -> None:
        self.here, self.office = here, here.office

    async def begin(self) -> None:
        self.other = (await self.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        self.person = await self.office.add_person("Mme Petit", "teacher", self.office.space, self.other)
        code_spaces = (self.office.space, self.other)
        self.teacher = await self.here.device("teacher", self.person)
        await self.office.do("grant", device=self.teacher.agent.device.hex(), space=[self.other])
        self.machine = await self.here.device("machine")
        self.item = await self.here.assignment(self.teacher)
        await self.here.sync()
        assert {space.hex() for space in await self.teacher.agent.spaces()} >= set(code_spaces)

    async def listed(self, device: Device) -> set[str]:
        return {row["space"] for row in (await Desk(device.agent).ask("status"))["spaces"]}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        found = Scene(here)
        await found.begin()
        yield found


@pytest.mark.parametrize("of", ["device", "person"])
async def test_a_device_learns_that_one_of_its_classes_has_been_taken_from_it(scene: Scene, of: str) -> None:
    device = scene.teacher.agent.device.hex()
    await scene.office.do("ungrant", **{of: device if of == "device" else scene.person}, space=[scene.office.space])
    await scene.here.sync(scene.teacher)
    assert await scene.listed(scene.teacher) == {scene.other}
    desk = Desk(scene.teacher.agent)
    assert (await desk.ask("status"))["ended"] == [{"space": scene.office.space, "name": "CM2 B"}]
    assert await desk.ask("items") == []
    assert any("CM2 B" in line for line in desk.told)
    with pytest.raises(Refused, match="ended"):
        await desk.files("publish", space=scene.office.space, title="Trop tard", kind="lesson")
    await scene.here.sync(scene.teacher)
    before = scene.teacher.way.traffic.round_trips
    await scene.here.sync(scene.teacher)
    assert scene.teacher.way.traffic.round_trips == before + 1, "it asks for it no more"
    await scene.office.do("grant", device=device, space=[scene.office.space])
    await scene.here.sync(scene.teacher)
    assert await scene.listed(scene.teacher) == {scene.office.space, scene.other}
    assert [row["title"] for row in await desk.ask("items")] == ["Racontez"]
    assert (await desk.ask("status"))["ended"] == []


async def test_what_a_device_still_holds_of_a_class_it_was_taken_from_is_refused_and_not_said_to_be_unknown(
    scene: Scene,
) -> None:
    await scene.office.do("ungrant", device=scene.teacher.agent.device.hex(), space=[scene.office.space])
    await scene.here.sync(scene.teacher)
    desk, never_there = Desk(scene.teacher.agent), bytes(32).hex()
    for command, given in (("withdraw", {}), ("versions", {}), ("cat", {"path": "a"}), ("checkout", {})):
        with pytest.raises(Refused, match="ended"):
            await desk.ask(command, item=scene.item.hex(), **given)
        with pytest.raises(BadInput, match="there is no item"):
            await desk.ask(command, item=never_there, **given)


async def test_a_device_that_may_do_nothing_any_more_knows_it_and_why(scene: Scene) -> None:
    device = scene.machine.agent.device.hex()
    await scene.office.do("revoke", device=device)
    with pytest.raises(Refused) as caught:
        await scene.machine.session.sync()
    assert caught.value.code is Code.REVOKED
    status = await Desk(scene.machine.agent).ask("status")
    assert (status["role"], status["spaces"]) == (None, [])
    assert await ended_names(scene.machine.agent) == ["CM2 B"]
    await scene.office.do("grant", device=device, space=[scene.office.space])
    await scene.here.sync(scene.machine)
    assert await scene.listed(scene.machine) == {scene.office.space}


async def test_a_substitutes_laptop_says_after_the_last_day_that_its_time_is_over(scene: Scene) -> None:
    office, person = scene.office, await scene.office.add_person("M. Roux", "teacher", scene.office.space)
    wanted = {"role": "teacher", "space": [office.space], "person": person, "uses": 1, "ttl": "40d", "for": "15d"}
    laptop = await scene.here.device("teacher", code=(await office.do("invite", **wanted))["code"])
    last_day = day_of(office.clock() + 15 * DAY_MS)
    office.clock.advance(15 * DAY_MS)
    assert await end_stays(office.server)
    with pytest.raises(Refused, match=f"was until {last_day}, and has ended") as caught:
        await laptop.session.sync()
    assert caught.value.code is Code.REVOKED
    desk = Desk(laptop.agent)
    assert await desk.ask("items") == []
    (line,) = desk.told
    assert f"was until {last_day}: CM2 B" in line


@pytest.mark.parametrize("whose", ["teacher", "machine"])
async def test_who_asks_a_computer_that_was_revoked_for_work_is_told_so_and_that_it_waits(
    scene: Scene, whose: str
) -> None:
    device = scene.teacher if whose == "teacher" else scene.machine
    pupil = await scene.office.add_person("Léa", "pupil", scene.office.space)
    await scene.here.sync()
    await scene.here.work(scene.machine, scene.item, pupil)
    await scene.here.sync(scene.machine, scene.teacher)
    desk = Desk(device.agent)
    (row,) = await desk.ask("hand-ins")
    assert desk.told == []
    await scene.office.do("revoke", device=device.agent.device.hex())
    with pytest.raises(Refused):
        await device.session.sync()
    assert await desk.ask("hand-ins") == []
    (line,) = desk.told
    assert "this computer was revoked" in line
    assert "CM2 B" in line
    assert "waits" in line
    await scene.office.do("grant", device=device.agent.device.hex(), space=[scene.office.space])
    await scene.here.sync(device)
    assert [each["id"] for each in await desk.ask("hand-ins")] == [row["id"]]


async def test_a_device_comes_back_to_a_class_that_takes_more_than_one_page(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = scene.machine.agent.device.hex()
    await scene.office.do("revoke", device=device)
    with pytest.raises(Refused):
        await scene.machine.session.sync()
    for number in range(8):
        await scene.office.add_person(f"Élève {number}", "pupil", scene.office.space)
    await scene.office.do("grant", device=device, space=[scene.office.space])
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 2_000)
    await scene.here.sync(scene.machine)
    assert await scene.listed(scene.machine) == {scene.office.space}
    before = scene.machine.way.traffic.round_trips
    await scene.here.sync(scene.machine)
    assert scene.machine.way.traffic.round_trips == before + 1, "nothing is left to be asked for"


async def test_who_was_let_in_by_somebody_who_had_been_let_go_is_shown_that_revocation(scene: Scene) -> None:
    office, server = scene.office, scene.office.server
    head = await office.enrol(await office.invite("head", "0180001D"))
    await office.do("revoke", device=head.id)
    late = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    grant = Grant(late.signing.public, late.agreement.public, late.tls.fingerprint, Role.MACHINE, None, None)
    draft = Draft(scene.here.space, Kind.GRANT, head.grants[0].id, grant.encode())
    await server.replica.write([draft], author=head.keys.signing, now_ms=office.clock(), entropy=os.urandom)
    with pytest.raises(Refused) as caught:
        await Member(office, late, EnrollAnswer(0, "", (), None)).sync()
    proofs = caught.value.facts["withdrawn"]
    assert isinstance(proofs, tuple)
    assert [Revocation.parse(one.payload or b"").key for one in proofs if one.header.kind == Kind.REVOKE] == [
        head.keys.signing.public
    ]


async def test_a_server_that_was_restored_and_has_forgotten_the_revocation_hears_of_it_again(
    scene: Scene, tmp_path: Path
) -> None:
    backup, clock = tmp_path / "relais.tar", scene.office.clock
    await make_backup(scene.office.server, backup)
    await scene.office.do("ungrant", device=scene.teacher.agent.device.hex(), space=[scene.office.space])
    await scene.here.sync(scene.teacher)
    clock.advance(60_000)
    await restore_backup(tmp_path / "restored", backup, tmp_path / "server" / "kit", clock)
    async with opened(tmp_path / "restored", now_ms=clock, entropy=os.urandom) as server:
        scene.here.frontage.responder = server.responder
        async with asyncio.timeout(PATIENCE_S):
            await scene.here.sync(scene.teacher)
            await scene.here.sync(scene.teacher)
        assert await scene.listed(scene.teacher) == {scene.other}
        roster = (await server.replica.view(scene.here.space)).roster
        assert scene.teacher.agent.device in roster.cut
        before = scene.teacher.way.traffic.round_trips
        await scene.here.sync(scene.teacher)
        assert scene.teacher.way.traffic.round_trips == before + 1


# --- and no server ----------------------------------------------------------------------------------------------------


async def test_a_device_to_which_nothing_is_open_any_more_learns_from_a_neighbour_that_it_was_let_back_in(
    scene: Scene,
) -> None:
    head = await scene.here.device("head", space="0180001D")
    desk, device = Desk(head.agent), scene.machine.agent.device.hex()
    await desk.ask("revoke", device=device)
    with pytest.raises(Refused):
        await exchange(scene.machine.agent, head.agent)
    assert await scene.listed(scene.machine) == set()
    line = head.agent.replica.door.lineage(scene.here.space)
    held = [await scene.machine.agent.replica.fingerprint(space) for space in line]
    await scene.here.sync(head, scene.teacher)
    with pytest.raises(Refused, match="withdrawn"):
        await exchange(scene.machine.agent, scene.teacher.agent)
    with pytest.raises(NoAnswer):
        await exchange(scene.teacher.agent, scene.machine.agent)
    now = [await scene.machine.agent.replica.fingerprint(space) for space in line]
    assert now == held, "who is kept out is shown nothing"
    # the head teacher thinks better of it, and no server answers anybody
    await desk.ask("grant", device=device, space=[scene.office.space])
    await exchange(scene.teacher.agent, head.agent)
    await exchange(scene.machine.agent, scene.teacher.agent)
    assert await scene.listed(scene.machine) == {scene.office.space}
    for space in await scene.machine.agent.spaces():
        found = await scene.machine.agent.replica.fingerprint(space)
        assert found == await scene.teacher.agent.replica.fingerprint(space)
    assert await secrets_of(scene.machine.agent)


async def test_what_a_thief_closed_is_open_again_by_the_word_of_a_neighbour_that_knows_of_the_thief(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief, clock = await scene.here.device("head", space="0180001D"), scene.office.clock
    await note_arrivals(scene.office.server.store, clock())
    clock.advance(DAY_MS)
    await Desk(thief.agent).ask("revoke", device=scene.machine.agent.device.hex())
    await scene.here.sync(thief)
    with pytest.raises(Refused):
        await scene.machine.session.sync()
    for number in range(8):
        await scene.office.add_person(f"Élève {number}", "pupil", scene.office.space)
    await scene.office.do("lost", device=thief.agent.device.hex(), since="12h")
    await scene.here.sync(scene.teacher)
    # from here on the machine reaches the teacher's laptop alone, and what it needs lies on several pages
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 2_000)
    await exchange(scene.machine.agent, scene.teacher.agent)
    assert await scene.listed(scene.machine) == {scene.office.space}
