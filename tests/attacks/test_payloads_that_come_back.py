"""A thief has a pupil forgotten, the kit shows them again, and neighbours bring PCs what these had destroyed."""

from __future__ import annotations

from protocol.clock import DAY_MS
from protocol.folds.coursework import HandInState
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.replica import Admission
from protocol.replica.console.frame import Notices
from protocol.roles import PersonRole
from sync_agent.hand_ins.copies import Copies, forgetful_devices
from sync_agent.hand_ins.handing_in import hand_in
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, state_at
from tests.harness.lan import exchange

ROW = "who was forgotten and is shown again makes PCs machines that forget"


def _payloads_too(admission: Admission) -> tuple[Entry, ...]:
    return (*admission.admitted, *admission.released, *admission.filled)


async def _forgotten_and_shown_again(room: Classroom, pc: Device) -> None:
    """Who handed in there is forgotten by a copied key until that PC has destroyed it, and shown again by the kit."""
    said = await room.territory.say(room.territory.id, Kind.ERASE, Erasure(room.pupil_person).encode())
    await pc.session.sync()
    for _ in range(4):
        await destroy_erased(pc.agent)
        room.territory.clock.advance(3 * DAY_MS)
    await destroy_erased(pc.agent)
    await room.territory.kit_says(room.territory.id, Kind.RULING, Ruling((), (said.id,)).encode())


@attack(ROW, off={"protocol.replica.at_work.replica.Admission.came": property(_payloads_too)})
async def test_a_pc_that_is_brought_a_payload_that_it_destroyed_keeps_second_copies_on(room: Classroom) -> None:
    teacher, pc, neighbour, author = await room.teacher(), *[await room.machine() for _ in range(3)]
    item = await assignment(room, teacher, pc, neighbour, author)
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    work = await room.hand_in(pc, item, WORK)
    for each in (pc, neighbour, author):
        await each.session.sync()
    await _forgotten_and_shown_again(room, pc)
    assert (await pc.agent.replica.store.get([work]))[work].payload is None
    await pc.session.sync()
    for _ in range(2):
        await exchange(neighbour.agent, pc.agent)
    assert (await pc.agent.replica.store.get([work]))[work].payload is not None, "the neighbour has brought it"

    assert not await forgetful_devices(pc.agent)
    sizes = [(path, len(data)) for path, data in WORK.items()]
    await author.session.sync()
    another = await hand_in(author.agent, item, tom, sizes, Given(WORK), Notices())
    for _ in range(2):
        await exchange(author.agent, pc.agent)
        await Copies(pc.agent, set).tend()
    await exchange(author.agent, pc.agent)
    assert await state_at(author, room, another) is HandInState.SAFE


async def test_that_a_pc_was_brought_a_payload_back_is_held_against_it_from_no_earlier_version(room: Classroom) -> None:
    pc = await room.machine()
    await pc.agent.replica.store.set_marks({f"forgets/{pc.agent.device.hex()}": b"\x01"})
    assert not await forgetful_devices(pc.agent)
