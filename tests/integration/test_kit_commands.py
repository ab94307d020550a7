"""What only the kit can do, and what follows: a teacher's work opened again, new keys for the server, a lost laptop."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, PeerFault, Refused, RelaisError
from protocol.identity import AgreementKey, SigningKey
from protocol.model.entry import Kind
from protocol.model.structure import Grant
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import NO_FILES
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.vouching import device_id, device_words
from protocol.roles import Role
from protocol.trust.kit import Kit
from sync_agent.hand_ins.copies import Copies
from sync_agent.hand_ins.wraps import readers_of
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.lan.exchange.link import Link, LinkState
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.machine.addresses import Address
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit import rotation
from sync_server.handlers.by_kit.territory import kit_in, new_kit
from sync_server.handlers.record.erasures import erasure_notices
from sync_server.handlers.store.notices import notices
from sync_server.opened.app import Server
from sync_server.opened.data_folder import KEYS_FILE, NEXT_KEYS_FILE
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk, Received
from tests.harness.machines import school
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device


class Scene:
    """A class with a teacher's laptop and a pupils' machine, and work that the teacher has opened."""

    def __init__(self, here: Town, kit: Kit) -> None:
        self.here, self.office, self.kit = here, here.office, kit
        self.person = self.pupil = ""
        self.item = b""

    async def begin(self) -> None:
        self.person = await self.office.add_person("Mme Petit", "teacher")
        self.pupil = await self.office.add_person("Léa", "pupil")
        self.teacher, self.machine = await self.here.device("teacher", self.person), await self.here.device("machine")
        self.item = await self.here.assignment(self.teacher)
        await self.here.sync(self.machine)

    async def opened_work(self) -> str:
        work = (await self.here.work(self.machine, self.item, self.pupil)).hex()
        await self.here.sync(self.machine, self.teacher)
        await Desk(self.teacher.agent).ask("confirm-opened", id=work)
        await self.here.sync(self.teacher, self.machine)
        return work

    async def rewrap(self, words: str | None = None) -> Any:
        """For the teacher's device with these words, in the class."""
        return await self.with_kit("rewrap", person=self.person, words=words, space=[self.office.space])

    async def with_kit(self, command: str, kit: Kit | None = None, **params: Any) -> Any:
        return await self.office.with_kit(command, kit or self.kit, **params)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        found = Scene(here, kit_in(tmp_path / "server" / "kit", None))
        await found.begin()
        yield found


async def opens(device: Device, work: str) -> bool:
    try:
        return await Desk(device.agent).files("open-hand-in", id=work) == WORK
    except Refused:
        return False


# --- rewrap -----------------------------------------------------------------------------------------------------------


async def test_the_kit_opens_earlier_work_to_a_teacher_who_has_lost_every_key(scene: Scene) -> None:
    work = await scene.opened_work()
    await scene.office.do("revoke", device=scene.teacher.agent.device.hex())
    laptop = await scene.here.device("teacher", scene.person)
    assert not await opens(laptop, work)
    words = device_words(own_device(laptop.agent))
    with pytest.raises(BadInput) as caught:
        await scene.rewrap()
    assert caught.value.code is Code.USAGE
    assert words in caught.value.message
    with pytest.raises(BadInput, match="no device that is named as this person's shows “misread words”: say for which"):
        await scene.rewrap("misread words")
    assert await scene.rewrap(words.upper()) == {"hand_ins": 1}
    await scene.here.sync(laptop)
    assert await opens(laptop, work)
    assert await scene.rewrap(words) == {"hand_ins": 0}


def test_without_a_class_it_says_in_which_the_laptop_is_to_people_and_programs_and_opens_none(tmp_path: Path) -> None:
    with school(tmp_path) as here:
        (reader,) = here.enrol("Portable", "teacher").ok("key", "readers")
        asked = ("rewrap", "--kit", str(tmp_path / "kit"), "--person", here.teacher_person, "--words", reader["words"])
        for is_running in (True, False):
            if not is_running:
                here.server.stop()
            done = here.server.run(*asked)
            assert (done.status, done.code) == (2, "usage")
            (one,) = done.json["error"]["choices"]
            assert (one["space"], one["name"], one["school"], one["hand_ins"]) == (here.space, "CM1", "0180001X", 0)
            assert [each["by"] for each in one["let_in"]] == ["server"]
            assert f"the same command with: --space {here.space}" in done.err
            assert here.server.ok(*asked, "--space", here.space) == {"hand_ins": 0}
        assert here.server.run(*asked, "--space", "0180001X").code == "usage", "a school is no class"


async def test_of_a_class_in_which_the_laptop_is_not_it_says_that_nothing_was_opened_there(scene: Scene) -> None:
    await scene.opened_work()
    await scene.office.do("revoke", device=scene.teacher.agent.device.hex())
    laptop = await scene.here.device("teacher", scene.person)
    other = (await scene.office.do("space add", name="CE1", school="0180001D"))["space"]
    words = device_words(own_device(laptop.agent))
    both = [scene.office.space, other]
    assert await scene.with_kit("rewrap", person=scene.person, words=words, space=both) == {"hand_ins": 1}
    (told,) = [line for line in scene.office.said.lines if "nothing is opened in" in line]
    assert f"{other} (“CE1”)" in told


async def test_each_use_of_the_recovery_key_is_in_the_trail(scene: Scene) -> None:
    await scene.opened_work()
    await scene.office.do("revoke", device=scene.teacher.agent.device.hex())
    laptop = await scene.here.device("teacher", scene.person)
    await scene.rewrap(device_words(own_device(laptop.agent)))
    trail = await scene.office.do("audit")
    (used,) = [row for row in trail if row["what"] == "rewrap"]
    assert (used["by"], used["key"]) == ("root", scene.kit.root.public.hex())
    assert used["about"] == f"{scene.person} 1 {scene.office.space}"
    assert {"space", "invite", "grant", "revoke", "certificate"} <= {row["what"] for row in trail}
    assert not any("Petit" in str(row) or "Léa" in str(row) for row in trail)


async def test_whom_a_head_confirms_is_in_the_trail_and_so_are_a_new_name_and_a_quarantine(scene: Scene) -> None:
    office, school = scene.office, scene.here.school.hex()
    person = await office.add_person("Mme Roy", "teacher", school)
    head = await scene.here.device("head", person, school)
    laptop = await scene.here.device("teacher", scene.person)
    await scene.here.sync(head, laptop, head)
    await confirm(head.agent, device_id(own_device(laptop.agent)))
    await scene.here.sync(head)
    await office.do("space rename", space=office.space, name="CM2")
    await office.do("quarantine start", school="0180001D")
    trail = await office.do("audit")
    (given,) = [row for row in trail if row["what"] == "vouch"]
    assert (given["by"], given["key"]) == ("head", head.agent.device.hex())
    assert given["about"] == f"{laptop.agent.device.hex()} by hand"
    assert [row["about"] for row in trail if row["what"] == "quarantine"] == ["on"]
    assert "space-change" in {row["what"] for row in trail}
    assert "CM2" not in str(trail)


async def test_whom_keys_had_forgotten_that_were_replaced_since_are_told_until_somebody_says_so_again(
    scene: Scene,
) -> None:
    office = scene.office
    lea = await office.add_person("Léa", "pupil")
    await office.do("erase", person=[lea])
    assert (await office.do("status"))["erasures_waiting"] == 0
    await scene.with_kit("rotate server")
    assert (await office.do("status"))["erasures_waiting"] == 1
    (notice,) = await erasure_notices(office.server)
    title = notice_of(Words("fr", office.clock()), notice).title
    assert title.replace("\N{NO-BREAK SPACE}", " ") == "Effacements qui attendent : 1"
    await office.do("erase", person=[lea])
    assert (await office.do("status"))["erasures_waiting"] == 0


async def test_whose_erasure_counts_no_more_is_told_beside_names_until_somebody_says_so_again(scene: Scene) -> None:
    office = scene.office
    lea = await office.add_person("Léa", "pupil")
    await note_arrivals(office.server.store, office.clock())
    office.clock.advance(1_000_000)
    since = rfc3339(office.clock())
    office.clock.advance(1_000_000)
    await office.do("erase", person=[lea])
    await scene.with_kit("rotate server", since=since)
    assert any("is shown again" in line for line in office.said.lines)
    status = await office.do("status")
    assert (status["erasures_waiting"], status["erasures_held_back"]) == (0, 1)
    (notice,) = await erasure_notices(office.server)
    assert "erase --person" in notice_of(Words("fr", office.clock()), notice).remedy
    office.said.lines.clear()
    listed = await office.do("person list", space=office.space)
    assert lea in {row["person"] for row in listed}
    assert any("is shown again" in line for line in office.said.lines)
    (waiting,) = [row for row in await office.do("waiting") if row["kind"] == "erase"]
    await office.do("erase", person=[waiting["person"]])
    assert (await office.do("status"))["erasures_held_back"] == 0
    assert lea not in {row["person"] for row in await office.do("person list", space=office.space)}


async def test_an_export_of_who_is_to_be_forgotten_says_why_its_page_is_empty(scene: Scene) -> None:
    office = scene.office
    lea = await office.add_person("Léa", "pupil")
    await office.do("erase", person=[lea])
    got = Received()
    await office.table["export-person"]({"person": lea}, NO_FILES, got)
    assert any("to be forgotten, and hidden" in line for line in got.lines)
    assert "Un effacement est en cours" in got.files["index.html"].decode()


async def test_the_kits_keys_are_written_nowhere(scene: Scene, tmp_path: Path) -> None:
    await scene.opened_work()
    await scene.office.do("revoke", device=scene.teacher.agent.device.hex())
    laptop = await scene.here.device("teacher", scene.person)
    await scene.rewrap(device_words(own_device(laptop.agent)))
    await scene.with_kit("rotate server")
    for path in (tmp_path / "server").rglob("*"):
        if path.is_file() and path.name != "kit":
            data = path.read_bytes()
            for secret in (scene.kit.root.seed, scene.kit.recovery.seed):
                assert secret not in data, path
                assert secret.hex().encode() not in data, path


@pytest.mark.parametrize("command", ["rewrap", "rotate server"])
async def test_the_kit_of_another_territory_does_nothing(scene: Scene, command: str) -> None:
    counts = await scene.office.server.store.spaces()
    with pytest.raises(BadInput) as caught:
        await scene.with_kit(command, new_kit("ailleurs", os.urandom), person=scene.person, space=[])
    assert caught.value.code is Code.BAD_KIT
    assert await scene.office.server.store.spaces() == counts


async def test_a_person_without_a_key_is_named_as_such(scene: Scene) -> None:
    with pytest.raises(BadInput) as caught:
        await scene.with_kit("rewrap", person=scene.pupil, space=[])
    assert caught.value.code is Code.UNKNOWN_PERSON


# --- new keys for the server ------------------------------------------------------------------------------------------


async def test_devices_follow_a_server_that_has_changed_its_keys_and_everything_stays(scene: Scene) -> None:
    work = await scene.opened_work()
    old = scene.office.server.keys
    scene.office.clock.advance(1_000)
    made = await scene.with_kit("rotate server")
    assert made["server"] != old.signing.public.hex()
    later = (await scene.here.work(scene.machine, scene.item, scene.pupil)).hex()
    await scene.here.sync()
    await scene.here.sync()
    assert (await server_of(scene.machine.agent.replica)).key.hex() == made["server"]
    assert await opens(scene.teacher, work)
    assert await opens(scene.teacher, later)
    assert {row["state"] for row in await scene.office.do("hand-ins", space=scene.office.space)} == {
        "teacher",
        "server",
    }
    newcomer = await scene.here.device("machine")
    assert newcomer.agent.replica.door.knows_space(scene.here.space)
    for device in (scene.teacher, scene.machine, newcomer):
        assert await device.agent.keyring.current(scene.here.space) is not None
    assert (await scene.office.do("verify"))["ok"]


async def test_a_server_that_answers_with_the_old_key_is_not_believed_any_more(scene: Scene) -> None:
    old = scene.office.server.responder.station
    scene.office.clock.advance(1_000)
    await scene.with_kit("rotate server")
    await scene.here.sync()
    new, scene.office.server.responder.station = scene.office.server.responder.station, old
    with pytest.raises((PeerFault, Refused)):
        await scene.machine.session.sync()
    scene.office.server.responder.station = new
    await scene.here.sync(scene.machine)


async def test_what_a_thief_writes_under_the_old_key_counts_for_nothing(scene: Scene) -> None:
    from protocol.model.structure import Grant  # noqa: PLC0415
    from protocol.replica.at_work.replica import Draft  # noqa: PLC0415
    from protocol.roles import Role  # noqa: PLC0415

    server, thief = scene.office.server, SigningKey(os.urandom(32))
    old, grant = server.keys.signing, server.grant
    scene.office.clock.advance(1_000)
    await scene.with_kit("rotate server")
    payload = Grant(thief.public, AgreementKey(os.urandom(32)).public, None, Role.ADMIN, None, None).encode()
    await server.replica.write(
        [Draft(scene.here.space, Kind.GRANT, grant, payload)], author=old, now_ms=0, entropy=os.urandom
    )
    assert await server.replica.readable(thief.public) == {}


@pytest.mark.parametrize("named", [False, True], ids=["before the entries", "after the entries"])
async def test_a_rotation_that_is_cut_short_leaves_a_server_with_the_keys_that_the_set_names(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    class PowerCutError(Exception):
        """The machine goes off."""

    async def off(*_: object) -> None:
        raise PowerCutError

    if named:
        monkeypatch.setattr(Server, "take_next_keys", off)
    else:
        monkeypatch.setattr(rotation, "write_as_root", off)
    old = scene.office.server.keys.signing.public
    with pytest.raises(PowerCutError):
        await scene.with_kit("rotate server")
    monkeypatch.undo()
    folder = shutil.copytree(tmp_path / "server", tmp_path / "after")
    server = await Server.open(folder, now_ms=scene.office.clock, entropy=os.urandom)
    try:
        assert (server.keys.signing.public == old) == (not named)
        assert not (folder / NEXT_KEYS_FILE).exists()
        assert (folder / KEYS_FILE).exists()
        scene.here.frontage.responder = server.responder
        await scene.here.sync()
    finally:
        await server.close()


async def test_nothing_that_the_server_says_while_its_keys_change_is_held_back(scene: Scene) -> None:
    server, spaces = scene.office.server, scene.office.server.replica.door.spaces()
    works = [await scene.here.work(scene.machine, scene.item, scene.pupil) for _ in range(3)]
    old = server.keys.signing.public
    scene.office.clock.advance(1_000)
    names = [f"Pupil {number}" for number in range(12)]
    await asyncio.gather(
        *(scene.office.add_person(name, "pupil") for name in names[:6]),
        server.space_keeper.tend(spaces),
        scene.with_kit("rotate server"),
        server.space_keeper.tend_grown(),
        scene.here.sync(scene.machine),
        *(scene.office.add_person(name, "pupil") for name in names[6:]),
    )
    await scene.here.sync()
    await scene.here.sync()
    assert server.keys.signing.public != old
    for replica in (server.replica, scene.teacher.agent.replica):
        view = await replica.view(scene.here.space)
        assert {person.name for person in view.roster.persons.values()} >= set(names)
        for space in spaces:
            assert not (await replica.view(space)).roster.held_back
    states = {row["id"]: row["state"] for row in await scene.office.do("hand-ins", space=scene.office.space)}
    assert {states[work.hex()] for work in works} == {"server"}


async def test_whom_a_head_let_in_whose_own_access_waits_is_listed_as_out(scene: Scene) -> None:
    head, keys = await scene.here.head_of_the_school(), new_device(Random(7).randbytes)
    grant = Grant(
        keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None, None
    ).encode()
    agent = head.agent
    (held,) = agent.replica.door.authorities_of(agent.device)
    let_in = [Draft(scene.here.space, Kind.GRANT, held.grant, grant)]
    await agent.replica.write(let_in, author=agent.keys.signing, now_ms=agent.now_ms(), entropy=os.urandom)
    await scene.here.sync(head)

    async def state() -> str:
        rows = await scene.office.do("devices")
        return next(str(row["state"]) for row in rows if row["device"] == keys.signing.public.hex())

    assert await state() == "never-seen"
    scene.office.clock.advance(2 * 3600 * 1000)
    await scene.with_kit("rotate server", since="1h", anyway=True)
    assert not await scene.office.server.replica.authorities(keys.signing.public)
    assert await state() == "retired"


# --- what nobody foresaw ---


async def test_what_nobody_foresaw_is_shown_on_the_device_and_to_the_administrator(scene: Scene) -> None:
    agent, server = scene.machine.agent, scene.office.server

    def dial(_: object) -> PeerTransport:
        raise ZeroDivisionError

    fell = asyncio.Event()
    place, copies = Address("127.0.0.1", 1), Copies(agent, set)
    link = Link(agent, LanResponder(agent), place, copies, lambda _: None, fell.set, draw=min, dial=dial)
    running = asyncio.create_task(link.run())
    await fell.wait()
    assert link.state is LinkState.ASIDE
    assert link.trouble is not None
    assert link.trouble.code is Code.INTERNAL
    assert not running.done(), "it is tried again later"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (met,) = (await Desk(agent).ask("status"))["unforeseen"]
    assert (met["what"], met["count"], met["work"]) == ("ZeroDivisionError", 1, "a link with a neighbour")
    assert "internal" in {problem["code"] for problem in (await Desk(agent).ask("doctor"))["problems"]}
    await scene.here.sync(scene.machine)
    (row,) = [row for row in await scene.office.do("devices") if row["device"] == agent.device.hex()]
    assert row["state"] == "error"
    assert not notices(server)
    server.unforeseen.note("keys of spaces", ValueError())
    assert [notice.facts["what"] for notice in notices(server)] == ["ValueError"]
    assert (await scene.office.do("status"))["unforeseen"][0]["count"] == 1


# --- a lost device ----------------------------------------------------------------------------------------------------


async def test_a_lost_laptop_is_cut_off_and_what_it_held_is_said(scene: Scene) -> None:
    await scene.opened_work()
    device = scene.teacher.agent.device.hex()
    told = await scene.office.do("lost", device=device, dry_run=True)
    assert told["revoked"] is False
    assert await scene.teacher.agent.spaces()
    await scene.here.sync(scene.teacher)
    told = await scene.office.do("lost", device=device)
    assert (told["device"], told["role"], told["person"], told["revoked"]) == (device, "teacher", "Mme Petit", True)
    (held,) = told["held"]
    assert held == {
        "space": scene.office.space,
        "name": "CM2 B",
        "people": 2,
        "items": 1,
        "hand_ins_made": 0,
        "hand_ins_readable": 1,
    }
    with pytest.raises(RelaisError):
        await scene.teacher.session.sync()
    await scene.here.sync(scene.machine)
    key = scene.teacher.agent.reading_keys.newest_of(scene.here.space)
    assert key is not None
    assert key.public not in await readers_of(scene.machine.agent, scene.here.space)


async def test_what_a_lost_laptop_reads_is_said_though_all_that_it_said_is_held_back(scene: Scene) -> None:
    await scene.opened_work()
    device = scene.teacher.agent.device.hex()
    await scene.office.do("lost", device=device, since="1h", anyway=True)
    (held,) = (await scene.office.do("lost", device=device, dry_run=True))["held"]
    assert held["hand_ins_readable"] == 1


async def test_of_a_pupils_machine_it_is_said_that_it_opens_no_work(scene: Scene) -> None:
    await scene.opened_work()
    told = await scene.office.do("lost", device=scene.machine.agent.device.hex())
    (held,) = told["held"]
    assert (held["hand_ins_made"], held["hand_ins_readable"], told["person"]) == (1, 0, None)


async def test_of_a_pupils_machine_what_no_teacher_has_opened_yet_is_said_to_be_readable(scene: Scene) -> None:
    await scene.opened_work()
    await scene.here.work(scene.machine, scene.item, scene.pupil)
    await scene.here.sync(scene.machine)
    (held,) = (await scene.office.do("lost", device=scene.machine.agent.device.hex(), dry_run=True))["held"]
    assert (held["hand_ins_made"], held["hand_ins_readable"]) == (2, 1)


async def test_a_device_that_nobody_knows_cannot_be_lost(scene: Scene) -> None:
    with pytest.raises(BadInput) as caught:
        await scene.office.do("lost", device="00" * 32)
    assert caught.value.code is Code.UNKNOWN_DEVICE
