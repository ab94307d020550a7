"""Somebody was in the server, and it is made anew as docs/operate.md says (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, Refused
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.replica.office.arrivals import ARRIVAL_MARKS, note_arrivals
from protocol.roles import Role
from sync_agent.upkeep.erasing import destroy_erased
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.backing_up import restore
from sync_server.keeping.beginning import begin
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

WAS_IN = "somebody was in the server, and it is made anew"


class School:
    """A class that works, the keys of its server, which somebody else has as well, and the server made anew."""

    def __init__(self, here: Town, folder: Path) -> None:
        self.here, self.folder, self.clock = here, folder, here.office.clock
        self.kit = folder / "server" / "kit"
        self.office: Office = here.office
        self.told: list[str] = []
        self.at = 0

    async def begin(self) -> None:
        here, desk = self.here, self.office
        self.petit = await desk.add_person("Mme Petit", "teacher")
        self.lea = await desk.add_person("Léa", "pupil")
        self.laptop = await here.device("teacher", self.petit)
        self.item = await here.assignment(self.laptop)
        await note_arrivals(desk.server.store, self.clock())
        self.clock.advance(1000)
        self.pc = await here.device("machine")

    async def backup(self) -> Path:
        file = self.folder / "relais.tar"
        await make_backup(self.office.server, file)
        self.clock.advance(DAY_MS)
        return file

    def key(self) -> tuple[SigningKey, bytes]:
        return self.office.server.keys.signing, self.office.server.grant

    async def intruder_says(self, with_key: tuple[SigningKey, bytes], spy: DeviceKeys) -> None:
        """A spy is let in, and the class's PC is cut off with nothing that it said, wherever this is heard."""
        person = bytes.fromhex(self.petit)
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, person, None)
        said = ((Kind.GRANT, given.encode()), (Kind.REVOKE, Revocation(self.pc.agent.device, ()).encode()))
        key, grant = with_key
        for kind, payload in said:
            self.at += 1
            at = (self.clock() << 16) + self.at
            entry = compose(
                author=key, space=self.here.space, kind=kind, grant=grant, at=at, payload=payload, salt=os.urandom(16)
            )
            await self.office.server.replica.admit([entry], source=b"somebody's laptop", now_ms=self.clock())

    @asynccontextmanager
    async def made_anew(self, backup: Path | None) -> AsyncIterator[None]:
        folder, now_ms, tell = self.folder / "anew", self.clock, self.told.append
        if backup is None:
            given = {"kit": None, "passphrase_file": None, "recover": self.kit}
            await begin(folder, None, **given, now_ms=now_ms, entropy=os.urandom, tell=tell)
        else:
            await restore(folder, backup, self.kit, None, now_ms=now_ms, entropy=os.urandom, tell=tell)
        async with opened(folder, now_ms=self.clock, entropy=os.urandom) as server:
            self.here.frontage.responder = server.responder
            self.office = Office(server, self.clock, self.here.office.space, self.here.office.said)
            yield

    async def machines_call(self) -> None:
        for _ in range(3):
            for device in self.here.devices:
                with suppress(Refused):  # whom the intruder's word keeps out until the kit's ends it
                    await self.here.sync(device)
            await self.office.server.space_keeper.tend_grown()
        await note_arrivals(self.office.server.store, self.clock())

    async def rotate(self, **params: object) -> None:
        await self.office.with_kit("rotate server", kit_in(self.kit, None), **params)

    async def takes(self, **params: object) -> bool:
        """Whether the command does so, and does not ask."""
        try:
            await self.rotate(**params)
        except BadInput:
            return False
        return True

    async def is_in(self, *devices: Device | DeviceKeys) -> list[bool]:
        keys = [each.agent.device if isinstance(each, Device) else each.signing.public for each in devices]
        return [self.here.space in await self.office.server.replica.readable(key) for key in keys]


def spy(number: int) -> DeviceKeys:
    return new_device(Random(number).randbytes)


def _let_go_of_all(*_: object) -> frozenset[bytes]:
    """What is held back, as it was while the root's cut let go of it."""
    return frozenset()


@pytest.mark.parametrize("since", ["230h", None])
@attack(
    "a server is made anew from before somebody was forgotten",
    off={"protocol.rights.erasures._carried_out": _let_go_of_all},
)
async def test_who_was_forgotten_after_the_backup_is_back_on_no_machine_and_the_server_says_that_it_shows_them(
    tmp_path: Path, since: str | None
) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        await here.sync()
        backup, lea = await school.backup(), bytes.fromhex(school.lea)
        await school.office.do("erase", person=[school.lea])
        for _ in range(2):
            await here.sync()
        for day in range(10):
            for device in here.devices:
                await destroy_erased(device.agent)
            school.clock.advance(DAY_MS if day else 0)
        async with school.made_anew(backup):
            await school.rotate(**({"since": since} if since else {}))
            for _ in range(3):
                await school.machines_call()
                for device in here.devices:
                    await destroy_erased(device.agent)
            for device in here.devices:
                assert lea not in (await device.agent.replica.view(here.space)).roster.persons
            assert (await school.office.do("status"))["erasures_held_back"] == 1
            (waiting,) = [row for row in await school.office.do("waiting") if row["kind"] == "erase"]
            await school.office.do("erase", person=[waiting["person"]])
            assert lea not in (await school.office.server.replica.view(here.space)).roster.persons


@attack(WAS_IN, off={"sync_server.keeping.foreign_backup._STAY": ("",)})
async def test_what_an_intruder_notes_in_a_backup_of_when_all_had_come_is_believed_by_nobody(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        await note_arrivals(school.office.server.store, school.clock())
        school.clock.advance(DAY_MS)
        await school.intruder_says(school.key(), spy(1))
        store, hours_ms = school.office.server.store, 3_600_000
        await store.set_marks(dict.fromkeys(await store.marks(ARRIVAL_MARKS)))
        await note_arrivals(store, school.clock() - 20 * hours_ms)
        backup = await school.backup()
        async with school.made_anew(backup):
            assert any("restore a backup from before" in line for line in school.told)
            with pytest.raises(BadInput) as caught:
                await school.rotate(since="30h")
            assert caught.value.code is Code.BAD_DATE
            assert str(caught.value).startswith("nothing was done, and the keys that counted still count: ")
            assert str(caught.value).endswith("`sync-server rotate server --kit KIT`")


async def _nothing_is_noted(*_: object) -> None:
    """Of when the backup was made."""


@attack(WAS_IN, off={"sync_server.keeping.backing_up.note_arrivals": _nothing_is_noted})
async def test_who_was_in_a_server_is_no_server_once_it_is_restored_and_new_keys_are_made(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        backup, stolen, spies = await school.backup(), [school.key()], [spy(1), spy(2), spy(3)]
        work = await here.work(school.pc, school.item, school.lea)
        await here.sync(school.pc)
        await school.intruder_says(stolen[0], spies[0])
        await school.rotate()  # there, where somebody sees the new keys as well
        stolen.append(school.key())
        await school.intruder_says(stolen[1], spies[1])
        await here.sync(school.laptop)
        school.clock.advance(3_600_000)
        async with school.made_anew(backup):
            assert any("--since TIME" in line for line in school.told)
            await school.office.do("verify")
            assert "the keys of an earlier server still count" in school.office.said.lines[-1]
            assert await school.takes(since="12h")
            await school.office.do("verify")
            assert "the keys of an earlier server" not in school.office.said.lines[-1]
            await school.machines_call()
            await school.rotate(since="12h")  # of the keys that were made there, machines have brought word
            for key in stolen:
                await school.intruder_says(key, spies[2])
            await school.machines_call()
            assert await school.is_in(school.laptop, school.pc, *spies) == [True, True, False, False, False]
            await here.sync(school.pc)
            view = await school.office.server.replica.view(here.space)
            assert view.coursework.hand_ins[work].at_server


async def test_the_keys_of_a_server_that_nobody_saved_end_once_machines_have_brought_word_of_them(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        stolen, later = school.key(), spy(1)
        school.clock.advance(DAY_MS)
        async with school.made_anew(None):
            assert "rotate server" in school.told[-1]
            with pytest.raises(BadInput, match="the first machine that calls") as caught:
                await school.rotate(since="1h", anyway=True)
            assert caught.value.code is Code.BAD_DATE
            await school.machines_call()
            await school.rotate()
            await school.intruder_says(stolen, later)
            await school.machines_call()
            assert await school.is_in(school.laptop, school.pc, later) == [True, True, False]


async def test_where_nothing_is_known_of_then_all_that_the_old_keys_said_waits_and_is_let_in_again(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        work, before = await here.work(school.pc, school.item, school.lea), spy(1)
        await school.intruder_says(school.key(), before)
        school.clock.advance(DAY_MS)
        async with school.made_anew(None):
            await school.machines_call()
            with pytest.raises(BadInput, match="--anyway"):
                await school.rotate(since="12h")
            await school.rotate(since="12h", anyway=True)
            assert await school.is_in(school.laptop, school.pc, before) == [False] * 3
            waiting = await school.office.do("waiting", refused=False)
            honest = {school.laptop.agent.device, school.pc.agent.device}
            said = {row["id"] for row in waiting if row["kind"] == "person"}
            said |= {row["id"] for row in waiting if school.laptop.agent.device.hex() in (row["title"] or "")}
            await school.office.do("accept", named=sorted(said))
            await school.office.do("grant", device=school.pc.agent.device.hex(), space=[here.space.hex()])
            await school.machines_call()
            for device in honest:
                await school.office.with_kit("accept", kit_in(school.kit, None), named=[device.hex()])
            await school.machines_call()
            assert await school.is_in(school.laptop, school.pc, before) == [True, True, False]
            view = await school.office.server.replica.view(here.space)
            assert {person.name for person in view.roster.persons.values()} == {"Mme Petit", "Léa"}
            assert view.coursework.hand_ins[work].at_server
