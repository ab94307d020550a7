"""A machine that was cloned: distinct devices, no work lost, shown to a person (R1; docs/protocol.md, "Clones")."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from protocol.errors import NoAnswer
from protocol.messages.lives import Twin
from protocol.model.entry import Kind
from protocol.replica.private_file import write_private
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies, forgetful_devices
from sync_agent.hand_ins.handing_in import list_hand_ins
from sync_agent.keys.binding import Hardware, Part
from sync_agent.keys.succession import NEXT_KEYS_FILE, TELLINGS, Place, Told, bind, is_due
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.school.sign_in import Try
from sync_agent.sync.session import Session
from tests.harness.challenged import give_challenges
from tests.harness.classroom import SMALL, WORK, Classroom, Device, assignment, work_of
from tests.harness.lan import exchange, listening_device
from tests.harness.sign_in import PICTURES, signed_class
from tests.harness.wire import MemoryTransport


@pytest.fixture
def room(room: Classroom) -> Classroom:
    """A class whose server tells of twins: it goes by challenges that it gives."""
    give_challenges(room.frontage.responder, room.territory.clock)
    return room


class PowerCut(BaseException):
    """Nobody catches it."""


def pc(number: int) -> Hardware:
    return {part: frozenset({f"{part} {number}"}) for part in Part if part is not Part.SYSTEM} | {
        Part.SYSTEM: frozenset({"the image's"})
    }


async def started(room: Classroom, disk: Path, name: str, place: Place, seed: int = 3) -> Device:
    """A copy of a disk, started on a machine."""
    folder = room.folder / name
    if not folder.exists():
        shutil.copytree(disk, folder, ignore=shutil.ignore_patterns("run"))
    agent = await place.open(folder, room.territory.clock, Random(seed).randbytes)
    way = MemoryTransport(room.frontage)
    device = Device(agent, Session(agent, way), way)
    room.devices.append(device)
    return device


async def stopped(room: Classroom, device: Device) -> Path:
    room.devices.remove(device)
    await device.close()
    return device.agent.folder


async def image_of(room: Classroom, device: Device) -> Path:
    """The disk of a device that was enrolled on the first PC."""
    disk = await stopped(room, device)
    bind(disk, pc(1), Random(5).randbytes)
    return disk


def keys_of(*devices: Device) -> set[bytes]:
    return {device.agent.device for device in devices}


async def hand_ins(agent: Agent) -> set[str]:
    class Nothing:
        async def of(self, *_: object) -> tuple[()]:
            return ()

    rows = await list_hand_ins(agent, None, Nothing(), Nothing())  # type: ignore[arg-type]
    return {str(row["id"]) for row in rows if isinstance(row, dict)}


@pytest.mark.parametrize(
    ("successors", "why"),
    [
        (0, "this machine was copied too often: new keys would open nothing"),
        (2, "the rest is kept for machines that find themselves copied"),
    ],
)
async def test_a_machine_that_takes_no_new_keys_says_in_its_log_why(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, successors: int, why: str
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", successors)
    place = Place(pc(2))
    copy = await started(room, await image_of(room, await room.machine()), "copy", place)
    for _ in range(TELLINGS):
        copy.agent.on_twin(Twin.LATER)
    await started(room, await stopped(room, copy), "copy", place)
    (told,) = {text for text in caplog.messages if "keeps the keys that it has" in text}
    assert why in told


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "elsewhere", "told", "expected"),
    [
        (Role.MACHINE, False, Told(), False),
        (Role.MACHINE, True, Told(), True),
        (Role.TEACHER, True, Told(), False),
        (Role.TEACHER, True, Told(1, Twin.FIRST), True),
        (Role.RELAY, True, Told(1, Twin.LATER), True),
        (Role.MACHINE, False, Told(1, Twin.LATER), False),
        (Role.MACHINE, False, Told(TELLINGS, Twin.LATER), True),
        (Role.TEACHER, False, Told(99, Twin.LATER), False),
        (Role.RELAY, False, Told(99, Twin.LATER), False),
        (Role.MACHINE, False, Told(99, Twin.FIRST), False),
        (None, True, Told(99, Twin.LATER), False),
    ],
)
def test_who_takes_keys_of_its_own(role: Role | None, elsewhere: bool, told: Told, expected: bool) -> None:
    assert is_due(role, elsewhere=elsewhere, told=told) is expected


def test_a_machine_on_its_own_hardware_gives_way_to_words_once_a_week() -> None:
    told = Told(TELLINGS, Twin.LATER)
    assert not is_due(Role.MACHINE, elsewhere=False, told=told, lately=True)
    assert is_due(Role.MACHINE, elsewhere=True, told=told, lately=True)


def test_only_a_pupils_pc_takes_new_keys_for_what_copies_wrote() -> None:
    assert is_due(Role.MACHINE, elsewhere=False, told=Told(), lately=True, mistaken=True)
    for role in (None, Role.TEACHER, Role.RELAY):
        assert not is_due(role, elsewhere=False, told=Told(), mistaken=True)


# --- images -----------------------------------------------------------------------------------------------------------


async def test_an_image_with_an_enrolled_agent_gives_as_many_devices_as_machines(room: Classroom) -> None:
    disk = await image_of(room, master := await room.machine())
    clones = [await started(room, disk, f"pc{number}", Place(pc(number))) for number in range(1, 5)]
    assert len(keys_of(*clones)) == len(clones)
    assert clones[0].agent.device == master.agent.device
    assert len({clone.agent.enrolment.device_name for clone in clones}) == len(clones)
    for clone in clones:
        await clone.session.sync()
    for clone in clones:
        await clone.session.sync()
    assert await room.agree(clones)


async def test_work_made_before_and_after_the_cloning_reaches_the_teacher_from_all(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    before = await room.hand_in(machine, item, WORK)
    disk = await image_of(room, machine)
    one, other = [await started(room, disk, f"pc{number}", Place(pc(number)), seed=number) for number in (1, 2)]
    after = [await room.hand_in(clone, item, {"reponse.txt": bytes([n])}) for n, clone in enumerate((one, other))]
    assert await hand_ins(other.agent) == {before.hex(), after[1].hex()}
    await other.session.sync()
    for device in (one, teacher):
        await device.session.sync()
    assert not await teacher.agent.missing()
    for work in (before, *after):
        assert (await work_of(teacher, room, work)).at_server
    assert not await forgetful_devices(one.agent)


async def test_who_keeps_the_key_is_not_taken_for_one_that_forgets_because_of_what_a_copy_wrote_before_it_parted(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    disk = await image_of(room, machine)
    early = await started(room, disk, "pc2", Place(pc(1)))
    of_the_copy = await room.hand_in(early, item, {"avant.txt": b"de la copie"})
    clone = await started(room, await stopped(room, early), "pc2", Place(pc(2)))
    await clone.session.sync()
    keeper = await started(room, disk, "pc1", Place(pc(1)))
    own = await room.hand_in(keeper, item, {"ici.txt": b"de la premiere"})
    await keeper.session.sync()
    former = keeper.agent.device
    assert former in await forgetful_devices(keeper.agent), "nobody can tell yet"
    for _ in range(2):
        keeper = await started(room, await stopped(room, keeper), "pc1", Place(pc(1)))
        assert keeper.agent.device not in {former, clone.agent.device}
        await keeper.session.sync()
        assert keeper.agent.device not in await forgetful_devices(keeper.agent)
        assert own.hex() in await hand_ins(keeper.agent), "what it wrote with its old key is its own"
    assert len(await room.territory.replica.store.scan_kinds([Kind.SUCCESSOR])) == 2
    await teacher.session.sync()
    for work in (of_the_copy, own):
        assert (await work_of(teacher, room, work)).at_server


async def test_who_forgets_at_each_reboot_stays_known_for_it_though_its_disk_was_copied(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    clone = await started(room, disk, "pc2", Place(pc(2)))
    await clone.session.sync()
    item = await assignment(room, await room.teacher(), clone)
    for morning in range(3):
        frozen = await started(room, disk, f"morning{morning}", Place(pc(1)), seed=morning)
        await frozen.session.sync()
        if morning:
            assert frozen.agent.device in await forgetful_devices(frozen.agent)
        await room.hand_in(frozen, item, WORK)
        await frozen.session.sync()
        await stopped(room, frozen)
    assert len(await room.territory.replica.store.scan_kinds([Kind.SUCCESSOR])) == 1


async def test_a_clone_is_no_second_copy_of_what_it_brought_along(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, item, WORK)
    disk = await image_of(room, machine)
    clone = await started(room, disk, "pc2", Place(pc(2)))
    other = await room.machine()
    await other.session.sync()
    await exchange(clone.agent, other.agent)
    assert not await Copies(clone.agent, set).tend()
    assert not (await work_of(clone, room, work)).copies
    assert await Copies(other.agent, set).tend()


async def test_a_clone_that_forgets_at_each_reboot_is_one_device(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    found = []
    for morning in range(3):
        clone = await started(room, disk, f"morning{morning}", Place(pc(2)), seed=morning)
        await clone.session.sync()
        found.append(clone.agent.device)
        await stopped(room, clone)
    successors = await room.territory.replica.store.scan_kinds([Kind.SUCCESSOR])
    assert len(set(found)) == 1
    assert len(successors) == 1


async def test_pupils_sign_in_on_a_clone_at_once_and_with_no_server(room: Classroom) -> None:
    school = await signed_class(room)
    disk = await image_of(room, school.pc)
    clone = await started(room, disk, "pc2", Place(pc(2)))
    assert clone.agent.former
    assert (await school.fold_of(clone).attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


async def test_a_copy_of_a_shared_pc_is_one_whoever_calls_it_a_teachers(room: Classroom) -> None:
    clone = await started(room, await image_of(room, await room.machine()), "pc2", Place(pc(2)))
    assert clone.agent.former
    await clone.session.sync()
    await room.territory.let_in(clone.agent.keys, Role.TEACHER, room.space, person=room.teacher_person)
    await clone.session.sync()
    assert await clone.agent.role() is Role.MACHINE


async def test_a_machine_with_a_new_disk_stays_who_it_is(room: Classroom) -> None:
    machine = await room.machine()
    key = machine.agent.device
    disk = await image_of(room, machine)
    moved = await started(room, disk, "moved", Place({**pc(1), Part.DISK: frozenset({"new"})}))
    assert moved.agent.device == key


@pytest.mark.parametrize("cut_after", ["keys/next", "keys/former", "keys/device"])
async def test_cut_at_any_moment_it_takes_the_same_keys_at_the_next_start(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, cut_after: str
) -> None:
    disk = await image_of(room, await room.machine())
    whole = await started(room, disk, "whole", Place(pc(2)))

    def write_and_die(path: Path, data: bytes) -> None:
        write_private(path, data)
        if str(path).endswith(cut_after):
            raise PowerCut

    for module in ("keys.succession", "machine.former"):
        monkeypatch.setattr(f"sync_agent.{module}.write_private", write_and_die)
    with pytest.raises(PowerCut):
        await started(room, disk, "cut", Place(pc(2)))
    monkeypatch.undo()
    again = await started(room, disk, "cut", Place(pc(2)))
    assert again.agent.device == whole.agent.device
    assert not (again.agent.folder / NEXT_KEYS_FILE).exists()
    await again.session.sync()
    assert await room.agree([again])


# --- two alive at once ------------------------------------------------------------------------------------------------


async def in_turn(*devices: Device) -> None:
    for _ in range(6):
        for device in devices:
            await device.session.sync()


async def test_a_folder_copied_on_one_machine_becomes_two_devices_once_both_speak(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    places = Place(pc(1)), Place(pc(1))
    one, other = [await started(room, disk, f"copy{n}", place, seed=n) for n, place in enumerate(places)]
    assert one.agent.device == other.agent.device
    await in_turn(one, other)
    assert [place.gives_way.is_set() for place in places] == [False, True]
    again = await started(room, await stopped(room, other), "copy1", places[1], seed=7)
    assert again.agent.device != one.agent.device
    await in_turn(one, again)
    assert await room.agree([one, again])
    assert not any(place.gives_way.is_set() for place in places)


async def test_a_teachers_laptop_that_moved_keeps_its_rights_until_a_twin_is_seen(room: Classroom) -> None:
    teacher = await room.teacher()
    disk = await image_of(room, teacher)
    place = Place(pc(2))
    moved = await started(room, disk, "moved", place)
    assert moved.agent.device == teacher.agent.device
    await room.publish(moved, SMALL)
    original = await started(room, disk, "original", Place(pc(1)), seed=8)
    await in_turn(moved, original)
    assert place.gives_way.is_set()
    again = await started(room, await stopped(room, moved), "moved", place, seed=9)
    assert again.agent.device != original.agent.device
    assert await again.agent.role() is Role.MACHINE
    for device in (again, original, again):
        await device.session.sync()
    coursework = (await original.agent.replica.view(room.space)).coursework
    assert len(coursework.items) == 1
    assert await room.agree([again, original])


async def test_a_machine_that_is_started_again_and_again_is_no_clone(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    place = Place(pc(1))
    for boot in range(4):
        device = await started(room, disk, "pc", place, seed=boot)
        for _ in range(3):
            await device.session.sync()
        await stopped(room, device)
    assert not place.gives_way.is_set()


# --- two alive at once, and no server ---------------------------------------------------------------------------------


async def meet_in_turn(*devices: Device, times: int = TELLINGS) -> str:
    """Each calls the next, as neighbours do that have found each other; what the last caller was told."""
    said = ""
    for _ in range(times):
        for at, device in enumerate(devices):
            async with listening_device(devices[at - 1].agent) as address:
                with pytest.raises(NoAnswer) as nobody:
                    await exchange_once(device.agent, address)
                said = str(nobody.value)
    return said


@pytest.mark.parametrize("callers", [slice(0, 1), slice(1, 2), slice(0, 2)])
async def test_of_two_copies_that_meet_where_no_server_answers_one_takes_keys_of_its_own(
    room: Classroom, callers: slice
) -> None:
    disk = await image_of(room, await room.machine())
    places = [Place(pc(1)), Place(pc(1))]
    copies = [await started(room, disk, f"copy{n}", place, seed=n) for n, place in enumerate(places)]
    for caller in copies[callers]:
        other = next(copy for copy in copies if copy is not caller)
        async with listening_device(other.agent) as address:
            for _ in range(TELLINGS):
                with pytest.raises(NoAnswer, match="a copy of this device"):
                    await exchange_once(caller.agent, address)
    later = max(range(2), key=lambda n: copies[n].agent.life.nonce)
    assert [place.gives_way.is_set() for place in places] == [n == later for n in range(2)]
    again = await started(room, await stopped(room, copies[later]), f"copy{later}", places[later], seed=7)
    stays = copies[1 - later]
    assert again.agent.device != stays.agent.device
    await exchange(again.agent, stays.agent)
    assert await stays.agent.replica.readable(again.agent.device)


async def test_a_device_that_calls_itself_is_no_clone(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    place = Place(pc(1))
    device = await started(room, disk, "pc", place)
    assert "this device itself" in await meet_in_turn(device)
    assert not place.gives_way.is_set()


async def test_a_teachers_laptop_that_moved_gives_way_at_once_when_it_meets_its_original(room: Classroom) -> None:
    disk = await image_of(room, await room.teacher())
    places = Place(pc(1)), Place(pc(2))
    original, moved = [await started(room, disk, f"l{n}", place, seed=n) for n, place in enumerate(places)]
    await meet_in_turn(original, moved, times=1)
    assert [place.gives_way.is_set() for place in places] == [False, True]


# --- two alive at once, no network in common, and a server that each reaches seldom -----------------------------------


async def test_two_copies_that_reach_the_server_once_a_day_each_are_told_apart_within_a_week(room: Classroom) -> None:
    disk = await image_of(room, await room.machine())
    places = Place(pc(1)), Place(pc(1))
    one, other = [await started(room, disk, f"copy{n}", place, seed=n) for n, place in enumerate(places)]
    days = 0
    while not places[1].gives_way.is_set():
        for device in (one, other):
            await device.session.sync()
        days += 1
        assert days <= 7
    assert not places[0].gives_way.is_set()


async def test_two_copies_that_are_started_anew_before_each_contact_stay_one_device_and_lose_nothing(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    disk = await image_of(room, machine)
    places, works = (Place(pc(1)), Place(pc(1))), []
    for day in range(4):
        for number, place in enumerate(places):
            copy = await started(room, disk, f"copy{number}", place, seed=10 * day + number)
            works.append(await room.hand_in(copy, item, {"reponse.txt": bytes([day, number])}))
            await copy.session.sync()
            await stopped(room, copy)
    assert not any(place.gives_way.is_set() for place in places), "nothing tells them from one that is started often"
    await teacher.session.sync()
    assert not await teacher.agent.missing()
    for work in works:
        assert (await work_of(teacher, room, work)).at_server


async def test_a_laptop_that_gave_way_to_its_copy_and_is_hers_again_speaks_for_her_on_its_own_screen(
    room: Classroom,
) -> None:
    territory, person = room.territory, room.teacher_person
    teacher, machine = await room.teacher(), await room.machine()
    for device in (teacher, machine):
        await device.session.sync()
    disk, place = await image_of(room, teacher), Place(pc(2))
    moved = await started(room, disk, "moved", place)
    original = await started(room, disk, "original", Place(pc(1)), seed=8)
    await in_turn(moved, original)
    assert place.gives_way.is_set()
    again = await started(room, await stopped(room, moved), "moved", place, seed=9)
    await again.session.sync()
    await stopped(room, original)
    (grant,) = await territory.let_in(again.agent.keys, Role.TEACHER, room.space, person=person)
    for _ in range(3):
        await again.session.sync()
    assert (await again.agent.replica.view(room.space)).roster.speaks(grant.id)
    assert await again.agent.role() is Role.TEACHER
