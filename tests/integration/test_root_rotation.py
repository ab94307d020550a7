"""A territory takes another root: devices follow, old codes and the old kit are worth nothing, the new kit rebuilds."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.errors import BadInput, Code, Refused
from protocol.identity import AgreementKey, SigningKey
from protocol.messages.enrollment import parse_chain
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.root_rotation import RootRotation
from protocol.trust.kit import Kit, parse_kit, write_kit
from sync_agent.enrollment.by_code import enroll
from sync_agent.hand_ins.wraps import readers_of
from sync_agent.status import fingerprint
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.territory import begin_territory, kit_in, new_kit
from sync_server.handlers.store.notices import notices
from sync_server.keeping.kit_file import KitInFile
from sync_server.keeping.new_root import NewKit
from sync_server.opened.app import opened
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import rotate_root
from tests.harness.wire import MemoryTransport


class Rotated:
    """A class that has worked under its first root, and the kits of both."""

    def __init__(self, here: Town, folder: Path) -> None:
        self.here, self.folder = here, folder
        self.old = kit_in(folder / "server" / "kit", None)

    async def begin(self) -> None:
        office = self.here.office
        self.person = await office.add_person("Mme Petit", "teacher")
        self.pupil = await office.add_person("Léa", "pupil")
        self.teacher, self.machine = await self.here.device("teacher", self.person), await self.here.device("machine")
        self.item = await self.here.assignment(self.teacher)
        await self.here.sync(self.machine)
        self.old_code = await office.invite("machine")
        office.clock.advance(60_000)

    async def rotate(self, old: Path | None = None, name: str = "kit-2") -> Any:
        """What the command does."""
        place = old or self.folder / "server" / "kit"
        before = kit_in(place, None)
        made = NewKit(place, None, self.folder / name, None, os.urandom)
        done = made.keep(await self.here.office.with_kit("rotate root", before, made.kit))
        self.here.office.clock.advance(60_000)
        return done

    @property
    def new(self) -> Kit:
        return kit_in(self.folder / "kit-2", None)

    async def enrol(self, code: str, name: str) -> Any:
        """A new device, through the front door."""
        self.here.office.server.responder.add_handler(Call.ENROLL, self.here.office.enrolment.answer)
        return await enroll(
            self.folder / name,
            "http://server.test",
            code,
            name,
            now_ms=self.here.office.clock,
            entropy=Random(name).randbytes,
            connect=lambda _: MemoryTransport(self.here.frontage),
        )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Rotated]:
    async with town(tmp_path) as here:
        found = Rotated(here, tmp_path)
        await found.begin()
        yield found


async def test_devices_follow_and_work_goes_on(scene: Rotated) -> None:
    assert (await scene.rotate())["version"] == 1
    work = (await scene.here.work(scene.machine, scene.item, scene.pupil)).hex()
    await scene.here.sync(scene.machine, scene.teacher)
    for device in (scene.machine, scene.teacher):
        replica = device.agent.replica
        assert replica.door.root_now == scene.new.root.public
        assert (await server_of(replica)).grant == scene.here.office.server.grant
        assert await device.agent.keyring.current(scene.here.space) is not None
    assert await Desk(scene.teacher.agent).files("open-hand-in", id=work)
    readers = await readers_of(scene.machine.agent, scene.here.space)
    assert scene.new.recovery.public in readers
    assert scene.old.recovery.public not in readers


async def test_all_show_the_same_fingerprint_after_a_rotation_and_so_does_the_new_kit(scene: Rotated) -> None:
    made = await scene.rotate()
    await scene.here.sync()
    shown = (await scene.here.office.do("status"))["fingerprint"]
    assert shown != scene.old.fingerprint
    assert shown == made["fingerprint"] == scene.new.fingerprint == fingerprint(scene.machine.agent)
    assert shown in (scene.folder / "kit-2").read_text(encoding="utf-8")


async def test_a_device_follows_through_several_roots_at_once(scene: Rotated) -> None:
    await scene.rotate()
    assert (await scene.rotate(scene.folder / "kit-2", "kit-3"))["version"] == 2
    await scene.here.sync()
    third = kit_in(scene.folder / "kit-3", None)
    assert scene.machine.agent.replica.door.roots == (
        scene.old.root.public,
        scene.new.root.public,
        third.root.public,
    )


async def test_a_code_from_before_is_refused_and_a_new_one_lets_in(scene: Rotated) -> None:
    await scene.rotate()
    with pytest.raises(Refused) as caught:
        await scene.enrol(scene.old_code, "late")
    assert caught.value.code is Code.WRONG_TERRITORY
    code = await scene.here.office.invite("machine")
    enrolled = await scene.enrol(code, "new")
    assert enrolled.territory == scene.here.office.server.replica.territory
    assert scene.here.space in enrolled.spaces


async def test_the_old_kit_does_nothing_any_more(scene: Rotated) -> None:
    await scene.rotate()
    for command in ("rewrap", "rotate server"):
        with pytest.raises(BadInput) as caught:
            await scene.here.office.with_kit(command, scene.old, person=scene.person, space=[])
        assert caught.value.code is Code.BAD_KIT


async def test_another_root_follows_where_the_kit_has_closed_several_classes_of_a_school(scene: Rotated) -> None:
    office, place = scene.here.office, scene.folder / "server" / "kit"
    made = [(await office.do("space add", name=name, school="0180001D"))["space"] for name in ("CP", "CE1")]
    for space in made:
        office.clock.advance(60_000)
        await office.with_kit_in("space close", place, space=space)
    new = replace(new_kit("Cher", os.urandom), first_root=scene.old.root.public)
    await rotate_root(office.server, scene.old, new, said=office.said, remembered=KitInFile.read(place, None).said)
    assert any("2 × erase" in line for line in office.said.lines if "this stays" in line)
    for space in made:
        assert bytes.fromhex(space) in (await office.server.replica.view(bytes.fromhex(space))).roster.erased


async def test_the_new_kit_goes_where_a_folder_is(scene: Rotated) -> None:
    stick = scene.folder / "stick"  # it is not plugged in
    for place in (stick / "kit-2", scene.folder):
        with pytest.raises(BadInput) as caught:
            NewKit(scene.folder / "server" / "kit", None, place, None, os.urandom)
        assert caught.value.code is Code.USAGE
    assert not stick.exists()


async def test_the_new_kit_takes_the_place_of_no_other(scene: Rotated) -> None:
    kit = scene.folder / "server" / "kit"
    before = kit.read_bytes()
    with pytest.raises(BadInput, match=r"kit exists already; move it to a safe place, .* with --new-kit") as caught:
        NewKit(kit, None, kit, None, os.urandom)
    assert caught.value.code is Code.USAGE
    assert kit.read_bytes() == before


async def test_a_rotation_that_was_cut_is_taken_up_again_with_the_same_files(scene: Rotated) -> None:
    place = scene.folder / "server" / "kit"
    made = NewKit(place, None, scene.folder / "kit-2", None, os.urandom)
    await scene.here.office.with_kit("rotate root", scene.old, made.kit)  # and the answer is lost
    assert scene.new.chain == b""
    assert (await scene.rotate())["version"] == 1
    assert scene.new.chain
    await scene.here.sync()


async def test_the_new_kit_rebuilds_a_server_that_devices_follow(scene: Rotated) -> None:
    await scene.rotate()
    await scene.here.sync(scene.machine)  # the teacher's laptop is off, and still believes in the first root
    reborn = scene.folder / "reborn"
    reborn.mkdir()
    clock = scene.here.office.clock
    await begin_territory(reborn, scene.new, kit_file=None, passphrase=None, now_ms=clock, entropy=os.urandom)
    async with opened(reborn, now_ms=clock, entropy=os.urandom) as server:
        assert server.replica.territory == scene.here.office.server.replica.territory
        scene.here.frontage.responder = server.responder
        await scene.here.sync(scene.teacher, scene.machine, scene.teacher)
        assert scene.teacher.agent.replica.door.root_now == scene.new.root.public
        assert "Léa" in {p.name for p in (await server.replica.view(scene.here.space)).roster.persons.values()}


async def test_the_set_does_not_depend_on_when_the_rotation_arrives(scene: Rotated) -> None:
    await scene.rotate()
    server = scene.here.office.server
    entries = [stored.entry for space in server.replica.door.spaces() for stored in await server.store.scan(space)]
    shuffled = Random(3).sample(entries, len(entries))
    late = [*(e for e in shuffled if e.header.kind != Kind.ROOT_ROTATION), *of_kind(entries, Kind.ROOT_ROTATION)]
    for order in (shuffled, late):
        replica = await Replica.open(scene.old.root.public, MemoryStore(), MemoryPacks())
        await replica.admit(order, source=b"x", now_ms=scene.here.office.clock())
        assert await replica.fingerprint(replica.territory) == await server.replica.fingerprint(replica.territory)
        assert replica.door.root_now == scene.new.root.public


async def test_a_root_that_is_replaced_twice_is_followed_alike_everywhere_and_people_are_told(scene: Rotated) -> None:
    await scene.rotate()
    server, thief = scene.here.office.server, SigningKey(os.urandom(32))
    territory, old = server.replica.territory, scene.old.root
    said = RootRotation.agreed(thief, territory, old.public, 1, ())
    draft = Draft(territory, Kind.ROOT_ROTATION, None, said.encode())
    await server.replica.write([draft], author=old, now_ms=scene.here.office.clock(), entropy=os.urandom)
    backwards = await Replica.open(old.public, MemoryStore(), MemoryPacks())
    entries = [stored.entry for stored in await server.store.scan(territory)]
    await backwards.admit(entries[::-1], source=b"x", now_ms=scene.here.office.clock())
    await scene.here.sync()
    for replica in (server.replica, scene.machine.agent.replica, backwards):
        assert replica.door.roots == (old.public, scene.new.root.public)
        assert replica.door.contested_roots == (old.public,)
    verdict = await scene.here.office.do("verify")
    assert [problem["what"] for problem in verdict["problems"]] == ["root"]
    found = await Desk(scene.machine.agent).ask("doctor")
    assert "contested-root" in {problem["code"] for problem in found["problems"]}
    assert [notice.topic for notice in notices(server)] == ["contested-root"]


def of_kind(entries: list[Entry], kind: Kind) -> list[Entry]:
    return [entry for entry in entries if entry.header.kind == kind]


@pytest.mark.parametrize("passphrase", [None, "quatre mots de passe longs"])
def test_a_kit_of_a_later_root_is_read_as_it_was_written(passphrase: str | None) -> None:
    draw = Random(7).randbytes
    for chain in (b"", b"\x00", draw(700)):
        kit = Kit("Cher", SigningKey(draw(32)), AgreementKey(draw(32)), chain, draw(32))
        text = write_kit(kit, passphrase=passphrase, salt=draw(16))
        read = parse_kit(text, passphrase=passphrase)
        assert (read.root.seed, read.recovery.seed, read.chain, read.first_root, read.territory) == (
            kit.root.seed,
            kit.recovery.seed,
            chain,
            kit.first_root,
            kit.territory,
        )


async def test_what_the_kit_holds_of_the_rotations_proves_them(scene: Rotated) -> None:
    await scene.rotate()
    (rotation,) = parse_chain(scene.new.chain)
    assert (rotation.header.kind, rotation.header.author) == (Kind.ROOT_ROTATION, scene.old.root.public)
