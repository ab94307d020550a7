"""What comes while a machine is just destroying what was erased, and what its looks cost (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from protocol.clock import DAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.replica.at_work.replica import Draft
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment


def when_next_content_is_looked_for(device: Device, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """A sweep knows by then what it will destroy, and has destroyed nothing."""
    content = device.agent.replica.content
    spaces_of = content.spaces_of

    async def after(streams: Collection[bytes]) -> set[bytes]:
        content.spaces_of = spaces_of  # type: ignore[method-assign]
        await meanwhile()
        return await spaces_of(streams)

    content.spaces_of = after  # type: ignore[method-assign]


async def days_of_looking(room: Classroom, device: Device, days: int = 7) -> None:
    for _ in range(days):
        await destroy_erased(device.agent)
        room.territory.clock.advance(DAY_MS)


async def about(room: Classroom, device: Device, person: bytes) -> list[Entry]:
    stored = await device.agent.replica.store.scan(room.space)
    return [each.entry for each in stored if each.entry.header.subject == person]


async def says(room: Classroom, device: Device, kind: Kind, payload: bytes) -> None:
    """The kit's word, which comes to a machine at once."""
    territory = room.territory
    said = await territory.replica.write(
        [Draft(territory.id, kind, None, payload)],
        author=territory.keys.root,
        now_ms=territory.clock(),
        entropy=territory.entropy,
        unsent=False,
    )
    await device.agent.replica.admit(said, source=b"kit", now_ms=territory.clock())


async def _whatever_comes(*_: object) -> bool:
    return True


@attack("a stolen server wipes schools", off={"protocol.replica.upkeep.eraser.Eraser._count_still": _whatever_comes})
async def test_the_kits_word_is_heeded_by_a_sweep_that_is_under_way(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher):
        await device.session.sync()
    heads = {
        head
        for space in territory.replica.door.spaces()
        for head in await territory.replica.tips(space, territory.keys.signing.public)
    }
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)

    async def the_kit_cuts_off() -> None:
        cut = Revocation(territory.keys.signing.public, tuple(sorted(heads))).encode()
        await says(room, teacher, Kind.REVOKE, cut)

    when_next_content_is_looked_for(teacher, the_kit_cuts_off)
    swept = await destroy_erased(teacher.agent)
    assert (await teacher.agent.replica.view(room.space)).roster.cut  # it has come
    assert not swept.entries
    assert all(entry.payload for entry in await about(room, teacher, lea))


async def test_words_about_other_things_postpone_no_sweep(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher):
        await device.session.sync()
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    other = await territory.say(territory.id, Kind.ERASE, Erasure(bytes(16)).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)

    async def takes_back_another() -> None:
        await says(room, teacher, Kind.RULING, Ruling((), (other.id,)).encode())
        when_next_content_is_looked_for(teacher, takes_back_another)

    when_next_content_is_looked_for(teacher, takes_back_another)
    assert (await destroy_erased(teacher.agent)).entries
    assert not any(entry.payload for entry in await about(room, teacher, lea))
