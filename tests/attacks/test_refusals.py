"""What a server in wrong hands refuses, and what becomes of it afterwards (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random

from protocol.errors import Code
from protocol.limits import SALT_BYTES
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Refusal
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonKey
from protocol.model.work import Receipt
from protocol.replica.answering.serving import _Taken
from protocol.replica.content.holdings import work_need
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.lan.exchange.to_peer import ToPeer
from sync_agent.machine.marks import REFUSED_MARKS
from sync_agent.machine.refusals import refused_ids
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, work_of
from tests.harness.couriers import bring, courier_class, export, know_keys
from tests.harness.lan import exchange
from tests.harness.territory import new_device


async def nothing(_repair: object) -> None:
    """What was refused once is refused."""


ROW = "a server that refuses everything"
BARELY_OPENED = {"sync_agent.hand_ins.for_good.is_opened_for_good": lambda work, *_: work.opened}


async def _opened_by_nobody(room: Classroom, author: Device, hand_in: bytes) -> None:
    """The server tells the machine that handed it in that a teacher of its own has opened it."""
    territory, spy, person = room.territory, new_device(Random(666).randbytes), bytes([7] * 16)
    (grant,) = await territory.let_in(spy, Role.TEACHER, room.space, person=person)
    at = territory.clock() << 16
    say = partial(compose, author=spy.signing, space=room.space, grant=grant.id, salt=bytes(SALT_BYTES))
    stream = (await work_of(author, room, hand_in)).record.content.stream
    said = [
        grant,
        say(kind=Kind.PERSON_KEY, at=at + 1, payload=PersonKey(spy.agreement.public).encode(), subject=person),
        say(
            kind=Kind.RECEIPT_TEACHER,
            at=at + 2,
            payload=Receipt(stream).encode(),
            subject=room.pupil_person,
            target=hand_in,
        ),
    ]
    await author.agent.replica.admit(said, source=territory.keys.signing.public, now_ms=territory.clock())
    assert (await work_of(author, room, hand_in)).opened


@attack(ROW, off=BARELY_OPENED)
async def test_what_a_teacher_of_nobodys_says_was_opened_is_left_off_no_stick(tmp_path: Path) -> None:
    async with courier_class(tmp_path / "room") as room:
        teacher, lea, hibou = await room.teacher(), await room.machine(), await room.machine()
        task = await assignment(room, teacher, lea, hibou)
        await know_keys(room, teacher, lea, hibou)
        hand_in = await room.hand_in(lea, task, WORK)
        await _opened_by_nobody(room, lea, hand_in)
        stick, other = tmp_path / "stick", tmp_path / "other"
        stick.mkdir()
        other.mkdir()
        await export(lea, stick)
        await bring(hibou, stick)
        need = work_need(await work_of(lea, room, hand_in))
        assert await hibou.agent.holdings.is_complete(need), "a machine on the way keeps it"
        await export(hibou, other)
        await bring(teacher, other)
        assert await teacher.agent.holdings.is_complete(need)


@attack(ROW, off=BARELY_OPENED)
async def test_what_a_teacher_of_nobodys_says_was_opened_has_second_copies(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, lea, hibou = await room.teacher(), await room.machine(), await room.machine()
        task = await assignment(room, teacher, lea, hibou)
        hand_in = await room.hand_in(lea, task, WORK)
        await _opened_by_nobody(room, lea, hand_in)
        for _ in range(2):
            await exchange(lea.agent, hibou.agent)
        work = await work_of(lea, room, hand_in)
        assert await hibou.agent.holdings.is_complete(work_need(work))


async def _refuses(room: Classroom, device: Device, work: bytes) -> None:
    """The server refuses all that it is brought, that work for one."""

    async def refusing(opened: OpenedRequest, _parse: object, _now_ms: int) -> tuple[SyncRequest, _Taken]:
        request = SyncRequest.parse(opened.payload)
        refused = tuple(Refusal(entry.id, Code.NO_RIGHT) for entry in request.push)
        return request, _Taken((), refused, frozenset())

    room.frontage.responder._take_in = refusing  # type: ignore[assignment, method-assign]
    await device.session.sync()
    assert f"{REFUSED_MARKS}{work.hex()}" in await device.agent.replica.store.marks(REFUSED_MARKS)


async def _but_for_what_a_server_refused(to_peer: ToPeer, have: Sequence[bytes]) -> int:
    refused = await refused_ids(to_peer.agent.replica.store)
    giving = [given for given in have if given not in refused]
    to_peer.waiting += giving
    return len(giving)


@attack(ROW, off={"sync_agent.lan.exchange.to_peer.ToPeer.give": _but_for_what_a_server_refused})
async def test_what_a_server_in_wrong_hands_refuses_is_brought_to_the_neighbours(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, lea, hibou = await room.teacher(), await room.machine(), await room.machine()
        task = await assignment(room, teacher, lea, hibou)
        work = await room.hand_in(lea, task, WORK)
        await _refuses(room, lea, work)
        for neighbour in (teacher, hibou):
            await exchange(lea.agent, neighbour.agent)
            assert work in (await neighbour.agent.replica.view(room.space)).coursework.hand_ins


@attack(ROW, off={"sync_agent.sync.repair.SyncRepair.ask_again": nothing})
async def test_what_a_server_in_wrong_hands_refused_reaches_the_one_that_the_kit_makes(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher, lea = await room.teacher(), await room.machine()
        task = await assignment(room, teacher, lea)
        work = await room.hand_in(lea, task, WORK)
        await _refuses(room, lea, work)
        old = room.territory
        old.clock.advance(60_000)
        new = await old.reborn(tmp_path / "reborn")
        for space in old.replica.door.spaces():
            told = [scanned.entry for scanned in await old.replica.store.scan(space)]
            await new.replica.admit(told, source=b"old", now_ms=new.clock())
        await room.replace_server(new)
        for _ in range(3):
            await lea.session.sync()
        assert work in (await new.replica.view(room.space)).coursework.hand_ins
        assert not await lea.agent.replica.store.marks(REFUSED_MARKS)
