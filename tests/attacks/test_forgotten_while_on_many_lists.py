"""A copied key puts who is forgotten on more lists than go in a day, and takes the erasure back (docs/adr/0468)."""

from __future__ import annotations

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.replica.at_work.destroyed import destroyed_names
from protocol.roles import PersonRole, Role
from sync_agent.hand_ins.wraps import kept_of
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, work_of

ROW = "a server shows again who was forgotten"
CLASSES = 20
WORK = {"raconte.odt": b"il etait une fois" * 40}


async def _nowhere(_store: object) -> dict[bytes, frozenset[bytes]]:
    return {}


def _nothing_again(_said: object, _places: object) -> list[object]:
    return []


IN_ALL_OR_NOWHERE: dict[str, object] = {
    "protocol.replica.upkeep.eraser.carried_out_at": _nowhere,
    "protocol.replica.at_work.replica.carried_out_at": _nowhere,
    "protocol.replica.upkeep.orders.orders_again": _nothing_again,
    "protocol.replica.upkeep.eraser.orders_again": _nothing_again,
}


async def days(device: Device, room: Classroom, count: int) -> None:
    for _ in range(count):
        await destroy_erased(device.agent)
        room.territory.clock.advance(DAY_MS)
        await device.session.sync()
    await destroy_erased(device.agent)


async def payloads(device: Device, room: Classroom) -> int:
    """How many words about the pupil are left there."""
    said = [one.entry for one in await device.agent.replica.store.scan(room.space)]
    return sum(one.payload is not None for one in said if one.header.subject == room.pupil_person)


async def forgotten_on_many_lists(room: Classroom, device: Device) -> bytes:
    """The erasure of the pupil, whom her class's list has shown for a week, and a copied key then names on twenty."""
    territory, pupil = room.territory, room.pupil_person
    await days(device, room, 8)
    assert await payloads(device, room)
    erasure = await territory.say(territory.id, Kind.ERASE, Erasure(pupil).encode())
    listed = PersonRecord("x", PersonRole.PUPIL).encode()
    for number in range(CLASSES):
        space = await territory.classroom(f"Groupe {number}", room.school)
        await territory.say(space, Kind.PERSON, listed, subject=pupil)
    for _ in range(3):
        await device.session.sync()
    await days(device, room, 8)
    assert not await payloads(device, room)
    assert pupil not in await destroyed_names(device.agent.replica.store), "it goes on elsewhere"
    return erasure.id


async def taken_back(room: Classroom, device: Device, erasure: bytes) -> None:
    """By the copied key, which has all payloads still, as from a stolen disk."""
    await room.territory.say(room.territory.id, Kind.RULING, Ruling((), (erasure,)).encode())
    for _ in range(4):
        await device.session.sync()
    await days(device, room, 3)
    await device.agent.replica.reload()
    await device.session.sync()


@attack(ROW, off=IN_ALL_OR_NOWHERE)
async def test_nor_whoever_has_the_key_lists_who_is_forgotten_in_more_classes_than_go_in_a_day(room: Classroom) -> None:
    teacher, pc, head = await room.teacher(), await room.machine(), await room.head()
    await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher, head) * 2:
        await device.session.sync()
    await taken_back(room, head, await forgotten_on_many_lists(room, head))
    view = await head.agent.replica.view(room.space)
    assert room.pupil_person not in view.roster.persons
    assert not [work for work in view.coursework.hand_ins.values() if work.person == room.pupil_person]
    assert not await payloads(head, room)


@attack(ROW, off=IN_ALL_OR_NOWHERE)
async def test_where_work_was_handed_in_its_key_and_content_go_before_its_author_has_gone_from_all_lists(
    room: Classroom,
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    hand_in = await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher) * 2:
        await device.session.sync()
    stream = (await work_of(pc, room, hand_in)).record.content.stream
    assert await kept_of(pc.agent, hand_in) is not None
    await room.territory.let_in(pc.agent.keys, Role.MACHINE, room.school)
    erasure = await forgotten_on_many_lists(room, pc)
    assert await kept_of(pc.agent, hand_in) is None
    await taken_back(room, pc, erasure)
    assert not await pc.agent.replica.content.known_streams([stream])
    assert await kept_of(pc.agent, hand_in) is None
