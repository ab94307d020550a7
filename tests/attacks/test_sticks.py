"""What may be tried by whoever prepared the stick that is plugged in (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
from blake3 import blake3

from protocol.bundles.form import (
    HEAD_BYTES,
    NONCE_BYTES,
    TRAILER_BYTES,
    Head,
    Index,
    PackNote,
    Trailer,
    head_size,
    parse_head,
)
from protocol.bundles.reader import BundleReader, Entries, PackData, PackEnd, PackStart, Registers
from protocol.bundles.writer import BundleWriter
from protocol.errors import Code, LocalFailure
from protocol.folds.space_keys import SpaceSecret
from protocol.limits import (
    MAX_BUNDLE_FRONTS_PER_LOOK_BYTES,
    MAX_BUNDLE_INDEX_BYTES,
    MiB,
)
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation
from protocol.model.work import ItemKind
from protocol.replica.answering.allowances import Allowance, Allowances
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import FileData, FileStart
from protocol.replica.content.holdings import work_need
from protocol.roles import PersonRole
from sync_agent.courier.disk import CardsIn, CourierDisk
from sync_agent.courier.removing import Known
from sync_agent.courier.survey import Card, survey
from sync_agent.courier.watch import CourierWatch, disks_of
from sync_agent.machine.plain_files import is_plain_folder
from sync_agent.operations import table
from tests.harness.attack import attack
from tests.harness.caller import pack_files
from tests.harness.classroom import SMALL, WORK, Classroom, Device, classroom
from tests.harness.couriers import bring, bundles, courier_class, export, know_keys, overhear, set_aside
from tests.harness.passing_days import pass_days

TERRITORY = bytes(range(32))


@attack("a hostile stick", off={"sync_agent.courier.disk.CourierDisk._check_own": lambda _disk: None})
async def test_a_stick_that_leads_elsewhere_takes_and_leaves_nothing_there(tmp_path: Path) -> None:
    async with classroom(tmp_path / "room") as room:
        teacher = await room.teacher()
        await room.publish(teacher, SMALL)
        home = tmp_path / "home"
        home.mkdir()
        (home / "0123456789abcdef.tmp").write_bytes(b"somebody's unsaved work")
        stick = tmp_path / "sticks" / "USB" / "Relais"
        stick.mkdir(parents=True)
        (stick / room.territory.id[:8].hex()).symlink_to(home)
        disks = disks_of(str(tmp_path / "sticks"))
        agent = teacher.agent
        await CourierWatch(agent, table(agent), disks, monotonic=time.monotonic, say=lambda _: None).look()
        assert [path.name for path in home.iterdir()] == ["0123456789abcdef.tmp"]
        assert agent.stick == "failed"


@attack("a hostile stick", off={"sync_agent.courier.watch.is_real_folder": Path.is_dir})
async def test_a_stick_whose_folder_is_a_link_has_none(tmp_path: Path) -> None:
    async with classroom(tmp_path / "room") as room:
        teacher = await room.teacher()
        await room.publish(teacher, SMALL)
        home, stick = tmp_path / "home", tmp_path / "sticks" / "USB"
        home.mkdir()
        stick.mkdir(parents=True)
        (stick / "Relais").symlink_to(home)
        disks, agent = disks_of(str(tmp_path / "sticks")), teacher.agent
        await CourierWatch(agent, table(agent), disks, monotonic=time.monotonic, say=lambda _: None).look()
        assert not list(home.iterdir())


def as_windows_tells(attributes: int, tag: int) -> os.stat_result:
    """What its `lstat` says of a folder with these attributes."""
    return cast("os.stat_result", SimpleNamespace(st_mode=0o40777, st_file_attributes=attributes, st_reparse_tag=tag))


@attack("a hostile stick", off={"sync_agent.machine.plain_files.is_reparse_point": lambda _state: False})
async def test_a_junction_of_windows_is_no_folder() -> None:
    folder, leads_on = 0x10, 0x400
    assert is_plain_folder(as_windows_tells(folder, 0))
    assert not is_plain_folder(as_windows_tells(folder | leads_on, 0xA0000003)), "a junction"
    assert not is_plain_folder(as_windows_tells(folder | leads_on, 0xA000000C)), "a symbolic link"
    assert is_plain_folder(as_windows_tells(folder | leads_on, 0x9000001A)), "a folder of a cloud's, which lies here"


def junk(place: Path, front_bytes: int) -> None:
    """A bundle as far as anybody without a key can tell, of a few KiB on the disk and a large front."""
    digest = os.urandom(32)
    head = Head.compose(TERRITORY, bytes(32), bytes(32), os.urandom(32), (), front_bytes)
    size = len(head.data) + front_bytes + 4_096 + TRAILER_BYTES
    with (place / f"{digest[:16].hex()}.rls").open("wb") as file:
        file.write(head.data)
        file.truncate(size - TRAILER_BYTES)
        file.seek(size - TRAILER_BYTES)
        file.write(Trailer(size, digest).encode())


@attack("a hostile stick", off={"sync_agent.courier.disk.MAX_BUNDLE_FRONTS_PER_LOOK_BYTES": 2**60})
async def test_a_stick_full_of_large_fronts_is_given_up_after_the_small_ones(tmp_path: Path) -> None:
    disk = CourierDisk(tmp_path, TERRITORY)
    disk.make()
    for front_bytes in [*[MAX_BUNDLE_INDEX_BYTES] * 17, 100]:
        junk(disk.place, front_bytes)
    read, first = 0, 0
    async for event in CardsIn(disk, disk.bundles()):
        if isinstance(event, FileStart):
            first = first or event.size or 0
        elif isinstance(event, FileData):
            read += len(event.data)
    assert first < MiB
    assert read <= MAX_BUNDLE_FRONTS_PER_LOOK_BYTES


async def put_bundle(thief: Device, room: Classroom, stick: Path, index: Index, packs: Sequence[bytes] = ()) -> None:
    """A bundle that opens with the class's key, on the stick."""
    agent = thief.agent
    secret = await agent.keyring.current(room.space)
    assert secret is not None
    writer = BundleWriter(
        secret.bundle,
        territory=room.territory.id,
        space=room.space,
        commitment=secret.commitment,
        nonce=os.urandom(NONCE_BYTES),
        preface=(),
        index=index,
    )
    pieces = [writer.begin()]
    for note, pack in zip(index.packs, packs, strict=True):
        pieces += [bytes(writer.pack(note)), bytes(writer.data(pack))]
    pieces.append(writer.finish())
    data = b"".join(pieces)
    disk = CourierDisk(stick, room.territory.id)
    disk.make()
    (disk.place / f"{Trailer.parse(data[-TRAILER_BYTES:]).name}.rls").write_bytes(data)


def everything(allowances: Allowances, space: bytes, device: bytes) -> Awaitable[Allowance]:
    del allowances, space, device
    return asyncio.sleep(0, Allowance(2**40, 2**40, 2**40, 2**40))


@attack("a hostile stick", off={"protocol.replica.answering.allowances.Allowances.of": everything})
async def test_a_stick_of_the_class_brings_nothing_that_nobody_asked_for(tmp_path: Path) -> None:
    async with courier_class(tmp_path / "room") as room:
        thief, lea = await room.machine(), await room.machine()
        await know_keys(room, thief, lea)
        junk_packs = [(await pack_files({"rien.bin": Random(number).randbytes(500_000)})).packs[0] for number in (1, 2)]
        notes = tuple(PackNote(blake3(pack).digest(), len(pack)) for pack in junk_packs)
        await put_bundle(thief, room, tmp_path / "stick", Index(packs=notes), junk_packs)
        await bring(lea, tmp_path / "stick")
        assert [await lea.agent.replica.content.pack(note.hash) for note in notes] == [None, None]


@attack("a hostile stick", off={"protocol.transfer.pack.PackReceiver.finish": lambda _receiver: None})
async def test_a_pack_under_anothers_name_is_told_before_its_bundle_ends_and_takes_no_place(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with courier_class(tmp_path / "room") as room:
        teacher, thief, lea = await room.teacher(), await room.machine(), await room.machine()
        await know_keys(room, teacher, thief, lea)
        lesson = {"film.bin": Random(3).randbytes(700_000)}
        item = (await room.publish(teacher, lesson)).item
        ((wanted, _),) = (await teacher.agent.replica.content.pack_sizes()).items()
        await export(teacher, stick)
        max(bundles(stick), key=lambda path: path.stat().st_size).unlink()
        others = [(await pack_files({"rien.bin": Random(number).randbytes(300_000)})).packs[0] for number in (1, 2)]
        names = (wanted, blake3(others[1]).digest())
        notes = tuple(PackNote(name, len(pack)) for name, pack in zip(names, others, strict=True))
        await put_bundle(thief, room, stick, Index(packs=notes), others)
        with pytest.raises(LocalFailure, match="damaged"):
            await bring(lea, stick)
        assert await lea.agent.replica.content.pack(wanted) is None
        await export(teacher, stick)
        await bring(lea, stick)
        assert await lea.files(item) == lesson


async def forget(room: Classroom, person: bytes, device: Device) -> None:
    """By the kit, and eight days later nothing of them is left at `device`."""
    territory = room.territory
    await territory.kit_says(territory.id, Kind.ERASE, Erasure(person).encode())
    await device.session.sync()
    await pass_days(territory, 8, device)
    await device.session.sync()


async def erase_the_pupil(room: Classroom, lea: Device) -> None:
    """The one who hands in."""
    await forget(room, room.pupil_person, lea)


@attack("a hostile stick", off={"sync_agent.courier.removing.is_read": lambda *_: False})
async def test_an_id_that_somebody_made_up_keeps_nothing_erased_on_a_stick(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with courier_class(tmp_path / "room") as room:
        teacher, thief, lea = await room.teacher(), await room.machine(), await room.machine()
        await know_keys(room, teacher, thief, lea)
        stick.mkdir()
        await export(lea, stick)
        await put_bundle(thief, room, stick, Index(entries=(os.urandom(32),)))
        await erase_the_pupil(room, lea)
        await export(lea, stick)
        disk = CourierDisk(stick, room.territory.id)
        found = await survey(lea.agent, CardsIn(disk, disk.bundles()))
        told = await room.territory.replica.store.scan_kinds([Kind.PERSON])
        names = {entry.id for entry in told if entry.header.subject == room.pupil_person}
        assert names
        assert all(names.isdisjoint(card.index.entries) for card in found.cards)


async def is_whole(teacher: Device, room: Classroom, work: bytes) -> bool:
    """Whether a teacher has what was handed in."""
    made = (await teacher.agent.replica.view(room.space)).coursework.hand_ins.get(work)
    return made is not None and await teacher.agent.holdings.is_complete(work_need(made))


async def nothing_is_missed(*_: object, **__: object) -> bool:
    return False


@pytest.mark.parametrize("is_forgotten", [True, False], ids=["beside-who-was-forgotten", "large"])
@attack("a hostile stick", off={"sync_agent.courier.removing.Missing.is_in": nothing_is_missed})
async def test_work_that_a_pc_has_heard_of_and_does_not_hold_leaves_no_stick_there(
    tmp_path: Path, is_forgotten: bool
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
        teacher, lea, other = await room.teacher(), await room.machine(), await room.machine()
        await know_keys(room, teacher, lea, other)
        task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        for device in (teacher, lea, other):
            await device.session.sync()
        work = await room.hand_in(lea, task, {"film.bin": Random(4).randbytes(300_000)})
        await export(lea, stick)
        await overhear(other, lea, room.space)
        with pytest.MonkeyPatch.context() as patch:
            if is_forgotten:
                await forget(room, tom, other)
            else:
                patch.setattr("sync_agent.courier.removing._WASTE_BYTES", 100_000)
            await export(other, stick)
        await bring(teacher, stick)
        assert await is_whole(teacher, room, work)


@attack("a hostile stick", off={"sync_agent.courier.commands.flag": lambda _params, _key: False})
async def test_a_pc_that_had_no_room_for_what_a_stick_brings_removes_nothing_from_it(tmp_path: Path) -> None:
    stick = tmp_path / "sticks" / "USB" / "Relais"
    stick.mkdir(parents=True)
    async with courier_class(tmp_path / "room") as room:
        tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
        teacher, lea, other = await room.teacher(), await room.machine(), await room.machine()
        await know_keys(room, teacher, lea, other)
        await export(lea, stick)
        await export(teacher, stick)
        await forget(room, tom, other)
        await room.publish(teacher, {"film.bin": Random(5).randbytes(300_000)})
        await export(teacher, stick)
        before, agent = set(bundles(stick)), other.agent

        async def no_room(*_: object) -> None:
            raise LocalFailure(Code.DISK_FULL, "the disk is full")

        watch = CourierWatch(
            agent, table(agent), disks_of(str(tmp_path / "sticks")), monotonic=time.monotonic, say=lambda _: None
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent.replica.content, "append_part", no_room)
            await watch.look()
        assert agent.stick == "full"
        assert before <= set(bundles(stick))


def names_erased_in_words(card: Card, known: Known) -> bool:
    return not known.destroyed.isdisjoint(card.index.entries)


@attack("a hostile stick", off={"sync_agent.courier.removing.holds_erased": names_erased_in_words})
async def test_sealed_work_of_who_was_erased_leaves_a_stick_that_has_it_in_a_bundle_without_words(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        teacher, lea = await room.teacher(), await room.machine()
        await know_keys(room, teacher, lea)
        task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        for device in (teacher, lea):
            await device.session.sync()
        work = await room.hand_in(lea, task, WORK)
        await lea.session.sync()
        made = (await lea.agent.replica.view(room.space)).coursework.hand_ins[work]
        (info,) = await lea.agent.holdings.packs(work_need(made))
        pack, read = bytearray(info.size), await lea.agent.replica.content.pack_reader(info.hash)
        read(0, memoryview(pack))
        await put_bundle(lea, room, stick, Index(packs=(PackNote(info.hash, info.size, (work,)),)), [bytes(pack)])
        (path,) = bundles(stick)
        await erase_the_pupil(room, lea)
        await export(lea, stick)
        assert not path.exists()


async def damage_all(device: Device, stick: Path, at: int) -> None:
    """A byte of each bundle is another, and somebody imports."""
    for path in bundles(stick):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    with pytest.raises(LocalFailure, match="damaged"):
        await bring(device, stick)


@attack("a hostile stick", off={"sync_agent.courier.disk.CourierDisk.set_aside_before": lambda _disk: []})
async def test_what_was_set_aside_as_damaged_keeps_nothing_erased_on_a_stick(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        lea = await room.machine()
        await know_keys(room, lea)
        for at in (-1, HEAD_BYTES + 1):  # the end of each; then what opens it
            await export(lea, stick)
            await damage_all(lea, stick, at)
        await export(lea, stick)
        assert len(set_aside(stick)) >= 2
        somebodys = bundles(stick)[0].with_name("vacances.bad")
        somebodys.write_bytes(b"not ours")
        await erase_the_pupil(room, lea)
        await export(lea, stick)
        disk = CourierDisk(stick, room.territory.id)
        aside = [disk._look(path.name) for path in set_aside(stick) if path != somebodys]
        found = await survey(lea.agent, CardsIn(disk, aside))
        told = await room.territory.replica.store.scan_kinds([Kind.PERSON])
        names = {entry.id for entry in told if entry.header.subject == room.pupil_person}
        left = [card for card in found.spoilt if not names.isdisjoint(card.index.entries)]
        assert not left
        assert not found.damaged, "of these nobody can tell what they hold"
        assert somebodys.exists()


@attack("a hostile stick", off={"protocol.replica.upkeep.orders.DestroyedHere.covers": lambda _erased, _entry: True})
async def test_what_a_thief_had_erased_stays_on_a_stick_that_has_it_and_comes_back_from_there(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        territory, school = room.territory, room.territory.schools[0]
        teacher, late, thief = await room.teacher(), await room.machine(), await room.head()
        await know_keys(room, teacher, late, thief)
        await export(teacher, stick)
        replica, theirs = late.agent.replica, thief.agent.replica
        (grant,) = await theirs.authorities(thief.agent.device)
        said = await theirs.write(
            [Draft(school, Kind.ERASE, grant.grant, Erasure(room.pupil_person).encode())],
            author=thief.agent.keys.signing,
            now_ms=territory.clock(),
            entropy=territory.entropy,
        )
        await replica.admit(said, source=b"the thief", now_ms=territory.clock())
        # all others have destroyed it, and this machine has come to hold the headers alone
        about = [one.entry for one in await replica.store.scan(room.space)]
        await replica.store.erase([entry.id for entry in about if entry.header.subject == room.pupil_person])
        await replica.reload()
        cut = await territory.say(school, Kind.REVOKE, Revocation(thief.agent.device, ()).encode())
        await replica.admit([cut], source=b"the server", now_ms=territory.clock())
        assert room.pupil_person not in (await replica.view(room.space)).roster.persons
        await export(late, stick)
        await bring(late, stick)
        assert room.pupil_person in (await replica.view(room.space)).roster.persons


def hollow(path: Path) -> None:
    """What a carrier without a key can do: the body is another, and the end says that all is there."""
    data = bytearray(path.read_bytes()[:-TRAILER_BYTES])
    front = head_size(bytes(data[:HEAD_BYTES])) + int.from_bytes(data[HEAD_BYTES - 4 : HEAD_BYTES], "big")
    data[front + 5] ^= 1
    trailer = Trailer(len(data) + TRAILER_BYTES, blake3(data).digest())
    path.unlink()
    path.with_name(f"{trailer.name}.rls").write_bytes(bytes(data) + trailer.encode())


@attack("a hostile stick", off={"sync_agent.courier.commands._to_check": lambda _whole: []})
async def test_a_bundle_that_a_carrier_has_hollowed_out_is_written_again_by_who_looks_at_it(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        teacher, machine = await room.teacher(), await room.machine()
        await know_keys(room, teacher, machine)
        task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        await teacher.session.sync()
        await machine.session.sync()
        work = await room.hand_in(machine, task, WORK)
        await export(machine, stick)
        for path in bundles(stick):
            hollow(path)
        assert (await export(machine, stick))["entries"], "it is not there, and is written again"
        assert not (await export(machine, stick))["entries"], "once"
        with pytest.raises(LocalFailure, match="damaged"):
            await bring(teacher, stick)
        assert work in (await teacher.agent.replica.view(room.space)).coursework.hand_ins


def read_bundle(secret: SpaceSecret, data: bytes) -> tuple[Index, list[Entry], list[bytes], list[bytes]]:
    """What a bundle lists, and what it holds: entries, registers, packs."""
    head = parse_head(data[: head_size(data[:HEAD_BYTES])])
    index, entries, registers, packs = Index(), list[Entry](), list[bytes](), list[bytes]()
    for event in BundleReader(secret.bundle, head, len(data)).feed(data[len(head.data) :]):
        match event:
            case Index():
                index = event
            case Entries():
                entries += event.entries
            case Registers():
                registers += event.data
            case PackStart():
                packs.append(b"")
            case PackData():
                packs[-1] += event.data
            case PackEnd():
                pass
    return index, entries, registers, packs


def hollow_under_the_key(secret: SpaceSecret, path: Path, what: str) -> None:
    """What a carrier with a class's key can do: the same index, sealed as it should be, and not what it lists."""
    data = path.read_bytes()
    head = parse_head(data[: head_size(data[:HEAD_BYTES])])
    if head.commitment != secret.commitment:
        return
    index, entries, registers, packs = read_bundle(secret, data)
    match what:
        case "nothing":
            entries, registers, packs = [], [], []
        case "headers":
            entries = [replace(entry, salt=None, payload=None) for entry in entries]
        case "signatures":
            entries = [replace(entry, signature=bytes(64)) for entry in entries]
        case _:
            packs = [bytes(len(pack)) for pack in packs]
    writer = BundleWriter(
        secret.bundle,
        territory=head.territory,
        space=head.space,
        commitment=head.commitment,
        nonce=os.urandom(NONCE_BYTES),
        preface=head.preface,
        index=index,
    )
    pieces = [writer.begin(), bytes(writer.entries(entries)), bytes(writer.registers(registers))]
    for note, pack in zip(index.packs, packs, strict=False):
        pieces += [bytes(writer.pack(note)), bytes(writer.data(pack))]
    pieces.append(writer.finish())
    path.unlink()
    path.with_name(f"{Trailer.parse(pieces[-1][-TRAILER_BYTES:]).name}.rls").write_bytes(b"".join(pieces))


@pytest.mark.parametrize("what", ["nothing", "headers", "signatures", "packs"])
@attack("a hostile stick", off={"protocol.bundles.listed.Listed.check": lambda _listed: None})
async def test_a_bundle_that_one_of_the_class_has_hollowed_out_is_set_aside_and_written_again(
    tmp_path: Path, what: str
) -> None:
    stick, elsewhere = tmp_path / "stick", tmp_path / "elsewhere"
    stick.mkdir()
    async with courier_class(tmp_path / "room") as room:
        teacher, machine, thief = await room.teacher(), await room.machine(), await room.machine()
        await know_keys(room, teacher, machine, thief)
        task = (await room.publish(teacher, SMALL, kind=ItemKind.ASSIGNMENT)).item
        for device in (teacher, machine, thief):
            await device.session.sync()
        work = await room.hand_in(machine, task, WORK)
        await export(machine, stick)
        secret = await thief.agent.keyring.current(room.space)
        assert secret is not None
        for path in bundles(stick):
            hollow_under_the_key(secret, path, what)
        shutil.copytree(stick, elsewhere)
        written = await export(machine, stick)
        assert written.get("damaged"), "its author's computer says so"
        assert len(set_aside(stick)) == len(written["damaged"])
        assert await export(machine, stick) == {"entries": 0, "bytes": 0}, "it is written again, once"
        with pytest.raises(LocalFailure, match="damaged"):
            await bring(teacher, elsewhere)
        assert set_aside(elsewhere)
        await bring(teacher, stick)
        assert await is_whole(teacher, room, work)
