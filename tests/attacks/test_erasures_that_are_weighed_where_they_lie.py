"""Whoever has the server's key orders an erasure above a class, and takes it back in the class alone (docs/adr/0267).

There nobody missed anything; above it went on holding: it was carried out after its week, and let headers in of which
nobody asked for the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.rights.door import Door
from protocol.rights.erasures import Erasing, erasing_in
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom
from tests.harness.lan import exchange
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

ROW = "an erasure is taken back in a class alone"


def _weighed_in_each_class(
    space: bytes, entries: Sequence[Entry], held: Mapping[bytes, int], destroyed: frozenset[bytes], door: Door
) -> Erasing:
    """Those above by what is said in the class, too."""
    found = [erasing_in(member, entries, held, destroyed, door) for member in door.lineage(space)]
    return Erasing(*(frozenset[bytes]().union(*each) for each in zip(*found, strict=True)))


def _nothing_from_above(*_: object) -> frozenset[bytes]:
    return frozenset()


OFF = {
    "protocol.rights.roster.erasing_in": _weighed_in_each_class,
    "protocol.rights.roster.erased_from_above": _nothing_from_above,
}


async def _erased(room: Classroom, covers: bytes, how: str) -> None:
    """An erasure that holds above the class, and that is taken back, or whose author is cut off, in the class."""
    territory = room.territory
    if how == "an invented head says it":
        nobody = new_device(Random(77).randbytes)
        (grant,) = await territory.let_in(nobody, Role.HEAD, room.school)
        erasure = compose(
            author=nobody.signing,
            space=room.school,
            kind=Kind.ERASE,
            grant=grant.id,
            at=territory.clock() << 16,
            payload=Erasure(covers).encode(),
            salt=bytes(16),
        )
        done = await territory.replica.admit([erasure], source=b"server", now_ms=territory.clock())
        assert done.admitted
        await territory.say(room.space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
        return
    erasure = await territory.say(
        room.school if "school" in how else territory.id, Kind.ERASE, Erasure(covers).encode()
    )
    await territory.say(room.space, Kind.RULING, Ruling((), (erasure.id,)).encode())


async def _new_in(room: Classroom, happens: Callable[[], Awaitable[object]], kinds: Collection[Kind]) -> list[Entry]:
    """What the class's set has more by it, of these kinds."""
    store = room.territory.replica.store
    before = {one.entry.id for one in await store.scan(room.space)}
    await happens()
    said = [one.entry for one in await store.scan(room.space)]
    return [entry for entry in said if entry.id not in before and entry.header.kind in kinds]


async def _given_bare(room: Classroom, entries: Sequence[Entry], device: Device) -> None:
    """The changed server gives a device the headers of these alone, and has them whole again."""
    replica = room.territory.replica
    await replica.store.erase([entry.id for entry in entries])
    await replica.reload()
    for _ in range(2):
        await device.session.sync()
    await replica.admit(entries, source=b"server", now_ms=room.territory.clock())


async def _pass_days(room: Classroom, count: int, *devices: Device) -> None:
    """Days on which these meet one another, and look for what is to be destroyed."""
    for _ in range(count):
        for device in devices:
            for other in devices:
                if other is not device:
                    await exchange(device.agent, other.agent)
            await destroy_erased(device.agent)
        room.territory.clock.advance(DAY_MS)
    for device in devices:
        await destroy_erased(device.agent)


@pytest.mark.parametrize("how", ["in the territory", "in the school", "an invented head says it"])
@attack(ROW, off=OFF)
async def test_who_is_to_be_destroyed_is_missed_on_every_list_a_week_before(tmp_path: Path, how: str) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        work = await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
        for device in (machine, teacher):
            await device.session.sync()
        await _erased(room, room.pupil_person, how)
        for device in (machine, teacher):
            await device.session.sync()
        lists = [(await device.agent.replica.view(room.space)).roster.persons for device in (machine, teacher)]
        await _pass_days(room, 8, machine)
        entry = (await machine.agent.replica.store.get([work]))[work]
        assert entry.payload is None
        assert not any(room.pupil_person in each for each in lists)


@attack(ROW, off=OFF)
async def test_what_a_teacher_put_right_is_not_as_she_had_said_it_first_on_a_pc_that_was_given_its_header_alone(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        work = await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
        for device in (machine, teacher):
            await device.session.sync()
        await give_feedback(teacher.agent, work, "À refaire", "3/20", redo=True, incoming=Given({}))
        for device in (teacher, machine):
            await device.session.sync()
        await give_feedback(teacher.agent, work, "Bravo", "18/20", redo=False, incoming=Given({}))
        (corrected,) = await _new_in(room, teacher.session.sync, {Kind.FEEDBACK})
        await _erased(room, work, "in the territory")
        await _given_bare(room, [corrected], machine)
        await _pass_days(room, 3, machine, teacher)
        shown = (await machine.agent.replica.view(room.space)).coursework.hand_ins.get(work)
        assert shown is None or (shown.feedback is not None and shown.feedback.record.text == "Bravo")


@attack(ROW, off=OFF)
async def test_who_reads_a_class_from_now_on_is_named_on_its_teachers_page_or_nothing_is_handed_in_there(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        territory, teacher, machine = room.territory, await room.teacher(), await room.machine()
        await teacher.session.sync()
        item = await assignment(room, teacher, machine)
        for device in (teacher, machine):
            await device.session.sync()
        here = SpiedClass(room, teacher, machine, item, b"", new_device(Random(666).randbytes))
        await _erased(room, room.space, "in the territory")

        async def named() -> None:
            await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, room.space))

        said = await _new_in(room, named, {Kind.PERSON_KEY, Kind.PERSON})
        await _given_bare(room, said, teacher)
        for _ in range(2):
            await machine.session.sync()
        await _pass_days(room, 10, teacher, machine)
        if item not in (await machine.agent.replica.view(room.space)).coursework.items:
            return
        work = await room.hand_in(machine, item, WORK)
        for device in (machine, teacher, machine):
            await device.session.sync()
        async with portal(teacher.agent) as surfer:
            assert "M. X" in await surfer.page("/readers") or not await here.opens(work)


class _Office:
    """Devices that whoever has the server's key lets in above the class, and what they say there."""

    def __init__(self, room: Classroom) -> None:
        self.room, self.territory = room, room.territory
        self.said = 0

    async def let_in(self, keys: DeviceKeys, role: Role, space: bytes | None = None) -> bytes:
        (grant,) = await self.territory.let_in(keys, role, space or self.territory.id)
        return grant.id

    async def say(self, keys: DeviceKeys, grant: bytes, kind: Kind, payload: bytes) -> Entry:
        self.said += 1
        entry = compose(
            author=keys.signing,
            space=self.territory.id,
            kind=kind,
            grant=grant,
            at=(self.territory.clock() << 16) + self.said,
            payload=payload,
            salt=bytes(16),
        )
        done = await self.territory.replica.admit([entry], source=b"server", now_ms=self.territory.clock())
        assert done.admitted
        return entry


@attack(ROW, off={"protocol.folds.growth._may_move_erasures": lambda *_: False})
async def test_a_right_that_is_given_above_moves_the_lists_of_a_machine_that_goes_on_running(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine, office = await room.machine(), _Office(room)
        await machine.session.sync()
        head, cutting = new_device(Random(71).randbytes), new_device(Random(72).randbytes)
        grant = await office.let_in(head, Role.HEAD)
        # in the class it outranks who cuts it off above, all along: nothing of that is in force there
        await office.let_in(head, Role.ADMIN, room.space)
        by = await office.let_in(cutting, Role.ADMIN)
        await office.say(head, grant, Kind.ERASE, Erasure(room.pupil_person).encode())
        await office.say(cutting, by, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
        await machine.session.sync()
        assert room.pupil_person in (await machine.agent.replica.view(room.space)).roster.persons
        await office.let_in(head, Role.ADMIN)  # nobody cuts it off any more
        await machine.session.sync()
        assert room.pupil_person not in (await machine.agent.replica.view(room.space)).roster.persons


@attack(ROW, off={"protocol.replica.at_work.bare_entries.HEEDED_ABOVE": {Kind.ERASE, Kind.REVOKE, Kind.RULING}})
async def test_what_lacks_since_a_right_was_given_is_asked_for(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, machine, office = await room.teacher(), await room.machine(), _Office(room)
        work = await room.hand_in(machine, await assignment(room, teacher, machine), WORK)
        for device in (machine, teacher):
            await device.session.sync()
        devices = [new_device(Random(number).randbytes) for number in (71, 72, 73)]
        roles = (Role.HEAD, Role.HEAD, Role.ADMIN)
        erasing, taking_back, cutting = [
            (keys, await office.let_in(keys, role)) for keys, role in zip(devices, roles, strict=True)
        ]
        erasure = await office.say(*erasing, Kind.ERASE, Erasure(work).encode())
        await office.say(*taking_back, Kind.RULING, Ruling((), (erasure.id,)).encode())
        await office.say(*cutting, Kind.REVOKE, Revocation(taking_back[0].signing.public, ()).encode())
        await give_feedback(teacher.agent, work, "Bravo", "18/20", redo=False, incoming=Given({}))
        (said,) = await _new_in(room, teacher.session.sync, {Kind.FEEDBACK})
        await _given_bare(room, [said], machine)
        assert not await machine.agent.replica.bare.lacking()
        await office.let_in(taking_back[0], Role.ADMIN)
        await _pass_days(room, 2, machine, teacher)
        await machine.session.sync()
        await _pass_days(room, 1, machine, teacher)
        shown = (await machine.agent.replica.view(room.space)).coursework.hand_ins[work]
        assert shown.feedback is not None
        assert shown.feedback.record.text == "Bravo"
