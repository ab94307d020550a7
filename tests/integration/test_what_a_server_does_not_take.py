"""Syncs between agents and a server that does not take something, or not yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from unittest.mock import AsyncMock

import pytest

from protocol.errors import Code, LocalFailure
from protocol.identity import SigningKey
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.wire import SYNC_PATH
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant
from protocol.roles import PersonRole, Role
from sync_agent.health import last_health
from sync_agent.machine.marks import REFUSED_MARKS
from sync_agent.sync.asking import Asking, Said
from sync_agent.sync.session import Session
from tests.harness.classroom import (
    LARGE,
    Classroom,
    Device,
    classroom,
    faulty,
)
from tests.harness.entries import SOME_RECEIPT, SOME_WORK
from tests.harness.territory import new_device


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


async def forged(room: Classroom, grant: bytes | None) -> bytes:
    """An entry in nobody's name, put into the first device's outbox past its own door."""
    entry = compose(
        author=SigningKey(bytes(range(32))),
        space=room.space,
        kind=Kind.HAND_IN,
        grant=grant,
        at=room.territory.clock() << 16,
        payload=SOME_WORK,
        salt=bytes(16),
    )
    await room.devices[0].agent.replica.store.append([entry], unsent=True)
    return entry.id


async def test_an_entry_that_waits_at_the_server_stays_here_and_is_not_sent_with_every_sync(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    waiting = await forged(room, bytes(32))
    first = await machine.session.sync()
    assert first.sent == 0
    await machine.session.sync()  # tells the health report's new backlog
    assert (await machine.session.sync()).bytes_out < first.bytes_out - 150
    assert [entry.id for entry in await machine.agent.replica.store.unsent(1_000_000)] == [waiting]
    room.territory.clock.advance(61_000)
    assert (await machine.session.sync()).bytes_out >= first.bytes_out - 8


async def test_what_waits_at_the_server_has_nothing_compared_that_is_the_same(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    await forged(room, bytes(32))
    for _ in range(3):
        await machine.session.sync()
    for pause_ms in (61_000, 1_000, 61_000):
        room.territory.clock.advance(pause_ms)
        question = (await Asking(machine.agent).compose(Said())).request
        assert question.sets == await room.territory.replica.digests.sets(
            [(space, (await room.territory.replica.position(space)).count) for space in await machine.agent.spaces()]
        )
        assert (await machine.session.sync(routine=True)).round_trips == 1


async def test_what_waits_at_the_server_is_reported_as_unsent_whenever_it_is_sent_again(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    await forged(room, bytes(32))
    await machine.session.sync()
    reports = _reports_of(machine)
    for _ in range(3):
        room.territory.clock.advance(3_600_000)
        await machine.session.sync(routine=True)
        known = await last_health(machine.agent.replica.store)
        assert known is not None
        assert known.backlog_entries == 1, "an overview would call the machine up to date"
        assert known.backlog_bytes > 0
        assert known.oldest_ms is not None, "nobody would be told that work waits"
        await machine.session.sync(routine=True)
    assert len(reports) == 1, "it is the same as before"


async def test_an_entry_that_waited_and_got_in_by_itself_is_not_sent_again(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    # else this device brings the grant as well, which the server turns out not to have
    monkeypatch.setattr("sync_agent.sync.repair.unseen", AsyncMock(return_value={}))
    monkeypatch.setattr("sync_agent.sync.asking.Asking._sets", AsyncMock(return_value=None))
    machine = await room.machine()
    await machine.session.sync()
    keys = new_device(Random(50).randbytes)
    grant = Grant(keys.signing.public, keys.agreement.public, None, Role.MACHINE, None, None)

    def say(author: SigningKey, kind: Kind, under: bytes, payload: bytes) -> Entry:
        at = room.territory.clock() << 16
        return compose(author=author, space=room.space, kind=kind, grant=under, at=at, payload=payload, salt=bytes(16))

    letting_in = say(room.territory.keys.signing, Kind.GRANT, room.territory.certificate.id, grant.encode())
    written = say(keys.signing, Kind.RECEIPT_SAFE, letting_in.id, SOME_RECEIPT)
    here = machine.agent.replica
    await here.admit([letting_in], source=bytes(32), now_ms=room.territory.clock())
    await here.admit([written], source=bytes(32), now_ms=room.territory.clock(), unsent=True)
    await machine.session.sync()
    assert await here.store.unsent(1_000) == [written]
    await room.territory.replica.admit([letting_in], source=bytes(32), now_ms=room.territory.clock())
    result = await machine.session.sync()
    assert await here.store.unsent(1_000) == []
    assert result.sent == 0
    assert await room.agree()


async def test_an_entry_that_is_refused_leaves_the_outbox_and_is_noted(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    refused = await forged(room, room.territory.certificate.id)
    await machine.session.sync()
    store = machine.agent.replica.store
    assert await store.unsent(1_000_000) == []
    assert await store.mark(f"{REFUSED_MARKS}{refused.hex()}") == Code.FOREIGN_GRANT.encode()
    calls: list[str] = []
    machine.faulty.faults.on_post = calls.append
    await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    await machine.session.sync()
    assert calls == [SYNC_PATH]


async def test_what_is_refused_is_offered_once_a_day_however_often_something_is_refused(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    first = await forged(room, room.territory.certificate.id)
    await machine.session.sync()
    offered = _pushes_of(machine, first)
    for hour in range(50):
        room.territory.clock.advance(3_600_000)
        if hour == 12:
            await forged(room, room.territory.certificate.id)
        await machine.session.sync()
    assert len(offered) == 2
    assert await machine.agent.replica.store.unsent(1_000_000) == []
    report = await last_health(machine.agent.replica.store)
    assert report is not None
    assert report.backlog_entries == 2, "what is refused the server has not got"


def _pushes_of(machine: Device, entry: bytes) -> list[bytes]:
    """Grows with each request that brings the entry."""
    found: list[bytes] = []
    asked = machine.session._calls.sync

    async def sync(request: SyncRequest) -> SyncAnswer:
        found.extend(pushed.id for pushed in request.push if pushed.id == entry)
        return await asked(request)

    machine.session._calls.sync = sync  # type: ignore[method-assign]
    return found


def _reports_of(machine: Device) -> list[bytes]:
    """Grows with each request that brings a report."""
    found: list[bytes] = []
    asked = machine.session._calls.sync

    async def sync(request: SyncRequest) -> SyncAnswer:
        found.extend(request.registers)
        return await asked(request)

    machine.session._calls.sync = sync  # type: ignore[method-assign]
    return found


async def test_what_a_cut_kept_a_teachers_device_from_saying_goes_in_the_sync_after_it(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await room.teacher()
    with monkeypatch.context() as patched:
        patched.setattr(
            "sync_agent.sync.after_news.tend_reading_keys", AsyncMock(side_effect=LocalFailure(Code.INTERNAL, "cut"))
        )
        with pytest.raises(LocalFailure):
            await device.session.sync()
    again = Session(device.agent, device.session.transport)
    await again.sync()
    assert device.agent.reading_keys.newest_of(room.space) is not None
    assert await device.agent.replica.store.unsent(1 << 20) == []
    assert await room.agree()


async def test_a_pack_that_two_bring_at_once_arrives_and_fails_neither(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    content = machine.agent.replica.content
    append = content.append_part
    first: list[int] = []

    async def after_a_neighbour(pack: bytes, offset: int, data: bytes) -> int:
        if not first:
            first.append(await append(pack, offset, data[: len(data) // 2]))
        return await append(pack, offset, data)

    monkeypatch.setattr(content, "append_part", after_a_neighbour)
    await machine.session.sync()
    assert first
    assert await machine.files(item) == LARGE


async def test_a_pack_that_two_send_at_once_arrives_and_neither_is_told_that_nobody_wants_it(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, LARGE)).item
    for device in (teacher, machine):
        await device.session.sync()
    assert await machine.files(item) == LARGE
    room.territory.clock.ms += 3_600_000
    await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
    content = room.territory.replica.content
    append = content.append_part
    first: list[bytes] = []

    async def after_another(pack: bytes, offset: int, data: bytes, sender: bytes = b"") -> int:
        if not first:
            first.append(sender)
            await machine.session.sync()
        return await append(pack, offset, data, sender)

    monkeypatch.setattr(content, "append_part", after_another)
    monkeypatch.setattr("protocol.replica.answering.allowances.SPARE_CONTENT_BYTES", 30_000)
    for device in (teacher, machine):
        await device.session.sync()
    assert first
    for device in (teacher, machine):
        assert not await device.agent.replica.content.unsent_packs()
        assert not await device.agent.missing()
    assert await content.parts_sent() == []


async def test_content_that_goes_up_before_what_names_it_and_is_taken_a_moment_later_fails_no_sync(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    await teacher.session.sync()
    # the first compresses well: once its content has come, nothing is left of the room that its name made
    files = [{f"{number}.txt": b"na" * 90_000 + Random(number).randbytes(40_000 + number)} for number in range(3)]
    items = [(await room.publish(teacher, each)).item for each in files]
    monkeypatch.setattr("sync_agent.sync.asking.FIRST_PUSH_BYTES", 1)
    monkeypatch.setattr("sync_agent.sync.asking.INLINE_PACK_BYTES", 1_000)
    monkeypatch.setattr("sync_agent.sync.transfer.PACKS_AT_ONCE", 1)
    monkeypatch.setattr("protocol.replica.answering.allowances.SPARE_CONTENT_BYTES", 30_000)
    monkeypatch.setattr("protocol.replica.answering.allowances._PER_CONTENT_BYTES", 1_000)
    refused: list[bytes] = []
    drop = room.territory.replica.content.drop_part

    async def counted(pack: bytes, sender: bytes = b"") -> None:
        refused.append(pack)
        await drop(pack, sender)

    monkeypatch.setattr(room.territory.replica.content, "drop_part", counted)
    await teacher.session.sync()
    await machine.session.sync()
    assert [await machine.files(item) for item in items] == files
    assert refused
