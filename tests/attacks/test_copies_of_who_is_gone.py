"""Who keeps a second copy of work is asked of the roster of now (docs/adr/0582)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protocol.folds.coursework import HandInState, Work
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.rights.roster import Roster
from protocol.roles import READS_HAND_INS, Role
from sync_agent.app import Agent
from sync_agent.hand_ins.copies import Copies, _entrusted_mark
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, assignment, state_at, work_of
from tests.harness.copied_keys import kept_safe

ROW = "a machine says that it keeps what it never had"


def _by_any_grant_ever(agent: Agent, _roster: Roster, work: Work, key: bytes, marks: Collection[str]) -> bool:
    """As it was."""
    if not agent.made(work) or _entrusted_mark(work, key) in marks:
        return True
    return any(said.role in READS_HAND_INS for said in agent.replica.door.authorities_of(key))


OFF = {"sync_agent.hand_ins.copies.vouches": _by_any_grant_ever}


async def _signed(room: Classroom, work: Work, holders: Sequence[Device]) -> list[Entry]:
    """What these say by their grants as machines: that they keep it."""
    said = []
    for holder in holders:
        given = await holder.agent.replica.authorities(holder.agent.device)
        grant = next(each.grant for each in given if each.role is Role.MACHINE)
        said.append(kept_safe(holder.agent.keys.signing, grant, room.space, work))
    return said


async def _hears(room: Classroom, device: Device, *said: Entry) -> None:
    """A neighbour brings these, and what the server said of rights."""
    rights = await room.territory.replica.store.scan_kinds([Kind.GRANT, Kind.REVOKE])
    await device.agent.replica.admit([*rights, *said], source=b"neighbour", now_ms=room.territory.clock())


async def _asks(author: Device, room: Classroom, others: Sequence[Device]) -> list[bool]:
    """Whom of these its device asks to keep a copy, with them alone around it."""
    copies = Copies(author.agent, lambda: {each.agent.device for each in others})
    return [bool(await copies.entrusted(room.space, each.agent.device)) for each in others]


@attack(ROW, off=OFF)
async def test_whom_a_copied_key_called_a_relay_for_a_breath_makes_nothing_safe_that_it_never_had(
    room: Classroom,
) -> None:
    teacher, lea = await room.teacher(), await room.machine()
    liars, honest = [await room.machine(), await room.machine()], await room.machine()
    task = await assignment(room, teacher, lea, *liars, honest)
    work = await work_of(lea, room, await room.hand_in(lea, task, {"a.odt": b"x" * 9_000}))
    for liar in liars:
        (given,) = await room.territory.let_in(liar.agent.keys, Role.RELAY, room.space)
        end = Revocation(liar.agent.device, ()).encode()
        await room.territory.say(room.space, Kind.REVOKE, end, target=given.id)
    await _hears(room, lea, *await _signed(room, work, liars))
    assert len((await work_of(lea, room, work.id)).copies) == len(liars)
    assert await state_at(lea, room, work.id) is HandInState.LOCAL
    assert await _asks(lea, room, [honest]) == [True]


@attack(ROW, off=OFF)
async def test_copies_on_pcs_that_are_reported_stolen_count_no_more_and_others_are_asked(room: Classroom) -> None:
    teacher, lea = await room.teacher(), await room.machine()
    stolen, honest = [await room.machine(), await room.machine()], [await room.machine(), await room.machine()]
    task = await assignment(room, teacher, lea, *stolen, *honest)
    work = await work_of(lea, room, await room.hand_in(lea, task, {"a.odt": b"x" * 9_000}))
    assert await _asks(lea, room, stolen) == [True, True]
    said = await _signed(room, work, stolen)
    await _hears(room, lea, *said)
    assert await state_at(lea, room, work.id) is HandInState.SAFE
    assert await _asks(lea, room, honest) == [False, False]
    now_ms = room.territory.clock()
    await room.territory.replica.admit(said, source=b"neighbour", now_ms=now_ms)
    for pc, receipt in zip(stolen, said, strict=True):  # what they had said stays, as with `lost`
        cut = Revocation(pc.agent.device, (receipt.id,)).encode()
        await room.territory.say(room.space, Kind.REVOKE, cut)
    await _hears(room, lea)
    assert len((await work_of(lea, room, work.id)).copies) == len(stolen)
    assert await state_at(lea, room, work.id) is HandInState.LOCAL
    assert await _asks(lea, room, honest) == [True, True]
