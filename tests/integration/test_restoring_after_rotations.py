"""A backup from before a rotation, or the kit alone, after it: devices follow, and everything comes back."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, Refused
from protocol.model.entry import Kind
from protocol.model.structure import Certificate
from protocol.trust.kit import Kit
from sync_agent.sync.withdrawn import take_withdrawals
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.servers_named import told_of_servers
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.beginning import begin
from sync_server.keeping.new_root import NewKit
from sync_server.opened.app import Server, opened
from tests.harness.backups import make_backup, restore_backup
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, rotate_root


class Scene:
    """A class that has worked, and what its operator keeps elsewhere."""

    def __init__(self, here: Town, folder: Path) -> None:
        self.here, self.folder = here, folder
        self.kit = folder / "server" / "kit"

    async def begin(self) -> None:
        office = self.here.office
        person = await office.add_person("Mme Petit", "teacher")
        self.pupil = await office.add_person("Léa", "pupil")
        self.teacher, self.machine = await self.here.device("teacher", person), await self.here.device("machine")
        self.item = await self.here.assignment(self.teacher)
        await self.here.sync()

    async def backup(self) -> Path:
        file = self.folder / "relais.tar"
        await make_backup(self.here.office.server, file)
        self.here.office.clock.advance(60_000)
        return file

    async def rotate_server(self, *, noted: bool = False) -> None:
        """The kit notes what it has said where it could be written."""
        if noted:
            await self.here.office.with_kit_in("rotate server", self.kit)
        else:
            await rotate_server(self.here.office.server, kit_in(self.kit, None))
        self.here.office.clock.advance(60_000)

    async def rotate_root(self, *, completed: bool = True) -> Path:
        before: Kit = kit_in(self.kit, None)
        made = NewKit(self.kit, None, self.folder / "kit-2", None, os.urandom)
        done = await self.here.office.with_kit("rotate root", before, made.kit)
        if completed:
            made.keep(done)
        self.here.office.clock.advance(60_000)
        return self.folder / "kit-2"

    @asynccontextmanager
    async def restored(self, backup: Path, kit: Path) -> AsyncIterator[Server]:
        """The server that `restore` makes, answering at the address of the one that burnt."""
        folder, clock = self.folder / "restored", self.here.office.clock
        shutil.rmtree(folder, ignore_errors=True)
        await restore_backup(folder, backup, kit, clock)
        async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
            self.here.frontage.responder = server.responder
            yield server

    @asynccontextmanager
    async def made_anew(self) -> AsyncIterator[Server]:
        """The server that `init --recover` makes, answering at the address of the one that burnt."""
        folder, clock = self.folder / "anew", self.here.office.clock
        given = {"kit": None, "passphrase_file": None, "recover": self.kit}
        await begin(folder, None, **given, now_ms=clock, entropy=os.urandom, tell=lambda _: None)
        async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
            self.here.frontage.responder = server.responder
            yield server

    async def hear_that_the_old_keys_are_cut_off(self) -> None:
        """A machine is told of the new keys, and the server burns before it has fetched what the old ones said last."""
        said = [
            entry for entry in await self.here.office.server.store.scan_kinds([Kind.REVOKE]) if not entry.header.grant
        ]
        await take_withdrawals(self.machine.agent, said, b"a neighbour")

    async def knows_everybody_at(self, server: Server) -> None:
        """Whoever had been let in works on, and is called as before."""
        work = await self.here.work(self.machine, self.item, self.pupil)
        for _ in range(3):
            await self.here.sync()
            await server.space_keeper.tend_grown()
        view = await server.replica.view(self.here.space)
        assert {person.name for person in view.roster.persons.values()} == {"Mme Petit", "Léa"}
        assert view.coursework.hand_ins[work].at_server
        assert await Desk(self.teacher.agent).files("open-hand-in", id=work.hex())

    async def goes_on_with(self, server: Server) -> None:
        """Everything that devices have is there, nothing of it is held back, and more work comes in."""
        work = await self.here.work(self.machine, self.item, self.pupil)
        for _ in range(3):
            await self.here.sync()
            await server.space_keeper.tend_grown()
        view = await server.replica.view(self.here.space)
        assert {person.name for person in view.roster.persons.values()} == {"Mme Petit", "Léa", "Tom"}
        assert view.coursework.hand_ins[work].at_server
        spaces = server.replica.door.spaces()
        for device in (self.teacher, self.machine):
            assert await device.agent.keyring.current(self.here.space) is not None
            assert (await server_of(device.agent.replica)).grant == server.grant
            for space in spaces:
                assert not (await device.agent.replica.view(space)).roster.held_back
        assert await Desk(self.teacher.agent).files("open-hand-in", id=work.hex())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town(tmp_path) as here:
        found = Scene(here, tmp_path)
        await found.begin()
        yield found


@pytest.mark.parametrize("noted", [False, True], ids=["", "noted"])
@pytest.mark.parametrize("rotated", ["server", "root", "both"])
async def test_a_backup_from_before_a_rotation_makes_a_server_that_devices_follow(
    scene: Scene, rotated: str, *, noted: bool
) -> None:
    backup = await scene.backup()
    kit = scene.kit
    if rotated != "root":
        await scene.rotate_server(noted=noted)
    if rotated != "server":
        kit = await scene.rotate_root()
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    await scene.here.sync()
    async with scene.restored(backup, kit) as server:
        await scene.goes_on_with(server)


async def test_a_backup_from_after_a_rotation_goes_with_the_kit_from_after_it(scene: Scene) -> None:
    kit = await scene.rotate_root()
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    backup = await scene.backup()
    with pytest.raises(Refused) as caught:
        async with scene.restored(backup, scene.kit):
            """Not reached."""
    assert caught.value.code is Code.WRONG_TERRITORY
    assert "newer" in caught.value.message
    async with scene.restored(backup, kit) as server:
        await scene.goes_on_with(server)


async def test_a_kit_that_was_never_completed_proves_nothing_to_an_older_backup(scene: Scene) -> None:
    backup = await scene.backup()
    kit = await scene.rotate_root(completed=False)
    with pytest.raises(Refused) as caught:
        async with scene.restored(backup, kit):
            """Not reached."""
    assert caught.value.code is Code.WRONG_TERRITORY
    assert "rotate root" in caught.value.message
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    async with scene.restored(backup, scene.kit) as server:
        scene.here.office.clock.advance(60_000)
        await rotate_root(server, kit_in(scene.kit, None), kit_in(kit, None), anyway=True)
        # what the old root said of the restored server, and the keys that it sealed, the second saying has named
        await scene.goes_on_with(server)
        assert server.replica.door.contested_roots == ()


async def test_the_same_rotation_is_said_again_where_a_machine_has_brought_the_first_one_before(scene: Scene) -> None:
    backup = await scene.backup()
    kit = await scene.rotate_root(completed=False)
    said = await scene.here.office.server.store.scan_kinds([Kind.ROOT_ROTATION])
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    async with scene.restored(backup, scene.kit) as server:
        now_ms = scene.here.office.clock
        await server.replica.admit(said, source=b"a machine", now_ms=now_ms())
        for _ in range(2):  # the second finds that it is done
            now_ms.advance(60_000)
            await rotate_root(server, kit_in(scene.kit, None), kit_in(kit, None), anyway=True)
        assert len(await server.store.scan_kinds([Kind.ROOT_ROTATION])) == 2
        await scene.goes_on_with(server)


async def test_what_a_stolen_backup_could_sign_is_cut_off_after_a_restore_too(scene: Scene) -> None:
    stolen = scene.here.office.server.keys
    backup = await scene.backup()
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    async with scene.restored(backup, scene.kit) as server:
        await scene.here.sync()
        assert server.keys.signing.public != stolen.signing.public
        await rotate_server(server, kit_in(scene.kit, None))
        roster = (await server.replica.view(server.replica.territory)).roster
        assert stolen.signing.public in roster.cut
        await scene.goes_on_with(server)


@pytest.mark.parametrize("noted", [False, True], ids=["", "noted"])
async def test_a_server_made_anew_after_a_rotation_refuses_nobody_whom_the_one_before_had_let_in(
    scene: Scene, *, noted: bool
) -> None:
    space = (await scene.here.office.do("space add", name="CE1", school="0180002Y", year="none"))["space"]
    far = await scene.here.device("machine", space=space)
    await scene.rotate_server(noted=noted)
    await scene.here.office.add_person("Tom", "pupil")
    await scene.here.sync()
    async with scene.made_anew() as server:
        # it hears of the rotation, and what led to that in one school, from that school's machines
        await scene.here.sync(scene.teacher, scene.machine)
        await scene.here.sync(far)
        await scene.goes_on_with(server)
        for space in await far.agent.spaces():
            assert await server.replica.fingerprint(space) == await far.agent.replica.fingerprint(space)


@pytest.mark.parametrize("noted", [False, True], ids=["", "noted"])
async def test_last_words_of_old_keys_that_burnt_with_the_server_take_nobody_elses_access(
    scene: Scene, *, noted: bool
) -> None:
    backup = await scene.backup()
    await scene.here.office.add_person("Tom", "pupil")
    await scene.rotate_server(noted=noted)
    await scene.hear_that_the_old_keys_are_cut_off()
    async with scene.restored(backup, scene.kit) as server:
        await scene.knows_everybody_at(server)


@pytest.mark.parametrize("noted", [False, True], ids=["", "noted"])
async def test_so_it_is_with_a_server_made_anew_without_any_backup(scene: Scene, *, noted: bool) -> None:
    await scene.here.office.add_person("Tom", "pupil")
    await scene.rotate_server(noted=noted)
    await scene.hear_that_the_old_keys_are_cut_off()
    async with scene.made_anew() as server:
        await scene.knows_everybody_at(server)


# --- servers of which the one that takes new keys has not heard (docs/adr/0314) ---------------------------------------


async def _rotates_unheard_of(scene: Scene) -> bytes:
    """The server takes other keys after its backup, says something with them, and burns."""
    await scene.rotate_server()
    keys = scene.here.office.server.keys.signing.public
    await scene.here.office.add_person("Tom", "pupil")
    for _ in range(2):
        await scene.here.sync()
    return keys


async def _named(server: Server) -> tuple[bytes, ...]:
    (certificate,) = (await server.store.get([server.grant])).values()
    return Certificate.parse(certificate.payload or b"").beside


@pytest.mark.parametrize("anew", ["restored", "made anew"])
async def test_a_server_that_takes_keys_before_it_has_heard_of_those_before_holds_back_none_of_theirs(
    scene: Scene, anew: str
) -> None:
    backup = await scene.backup()
    await _rotates_unheard_of(scene)
    making = scene.restored(backup, scene.kit) if anew == "restored" else scene.made_anew()
    async with making as server:
        scene.here.office.clock.advance(60_000)
        await rotate_server(server, kit_in(scene.kit, None))
        assert await _named(server) == ()
        (told,) = await told_of_servers(server)
        assert "call this again" in told
        await scene.goes_on_with(server)
        # all have called: from now on it is known whom the root has certified
        scene.here.office.clock.advance(60_000)
        await rotate_server(server, kit_in(scene.kit, None))
        certified = await server.store.scan_kinds([Kind.CERTIFICATE])
        assert {*await _named(server), server.grant} == {each.id for each in certified}
        assert await told_of_servers(server) == []
        await scene.goes_on_with(server)


async def test_an_honest_server_of_which_nobody_had_heard_in_time_counts_again_once_somebody_says_its_key(
    scene: Scene,
) -> None:
    backup = await scene.backup()
    backed_up_ms = scene.here.office.clock()
    key = await _rotates_unheard_of(scene)
    scene.here.office.clock.advance(600_000)
    async with scene.restored(backup, scene.kit) as server:
        await rotate_server(server, kit_in(scene.kit, None), since_ms=backed_up_ms)
        for _ in range(2):
            await scene.here.sync()
        persons = (await server.replica.view(scene.here.space)).roster.persons.values()
        assert "Tom" not in {person.name for person in persons}
        (told,) = await told_of_servers(server)
        assert f"--also {key.hex()}" in told
        scene.here.office.clock.advance(60_000)
        office = Office(server, scene.here.office.clock)
        with pytest.raises(BadInput, match="no server's certificate"):
            await office.with_kit("rotate server", kit_in(scene.kit, None), also=["00" * 32])
        await office.with_kit("rotate server", kit_in(scene.kit, None), also=[key.hex()])
        assert await told_of_servers(server) == []
        await scene.here.sync()
        for replica in (server.replica, scene.machine.agent.replica):
            roster = (await replica.view(scene.here.space)).roster
            assert "Tom" in {person.name for person in roster.persons.values()}
            assert key in roster.cut, "what it said counts; it says nothing more"


async def test_a_certificate_that_is_dated_years_ahead_is_told_of_by_restore_and_ended_by_another_kit(
    scene: Scene,
) -> None:
    office, clock = scene.here.office, scene.here.office.clock
    clock.advance(20 * 365 * DAY_MS)
    await scene.rotate_server()
    clock.advance(-20 * 365 * DAY_MS)
    await scene.here.sync()
    backup = scene.folder / "later.tar"
    await make_backup(office.server, backup)
    told: list[str] = []
    await restore_backup(scene.folder / "restored", backup, scene.kit, clock, told.append)
    assert any("rotate root" in line and "2046" in line for line in told)
    new_kit = await scene.rotate_root()
    await scene.here.sync()
    await office.with_kit("rotate server", kit_in(new_kit, None))
    for _ in range(2):
        await scene.here.sync()
    for device in (scene.teacher, scene.machine):
        assert (await server_of(device.agent.replica)).grant == office.server.grant
    certificate = (await office.server.store.get([office.server.grant]))[office.server.grant]
    assert certificate.timestamp_ms < clock() + DAY_MS
