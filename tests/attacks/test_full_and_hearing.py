"""On a full disk, here or where it is asked, a machine hears all the same (docs/attacks.md; docs/adr/0587)."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from protocol.canonical import decode, encode
from protocol.clock import DAY_MS
from protocol.errors import Code, RelaisError
from protocol.limits import MiB
from protocol.messages.calls import SyncRequest
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.model.work import ContentRef, ItemKind, Revision
from protocol.replica.answering.serving import Responder
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.lan.exchange.meeting import common_spaces
from tests.attacks.test_full_and_left_due import LEFT_DUE, ROW, kept_ballast
from tests.attacks.test_full_to_the_last_block import hears, kits_word
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, WORK, Classroom, Device, assignment, classroom
from tests.harness.copied_keys import brought, said_by_copy
from tests.harness.couriers import bring, courier_class, export, know_keys
from tests.harness.lan import exchange
from tests.harness.office_devices import town


async def _hears_nothing(*_: object) -> None:
    pass


DEAF = {**LEFT_DUE, "sync_agent.sync.hearing_alone.HearingAlone.hear": _hears_nothing}


async def syncs(device: Device) -> Code | None:
    """With which code a sync ends."""
    try:
        await device.session.sync()
    except RelaisError as error:
        return error.code
    return None


def _refuses_once(responder: Responder, patch: pytest.MonkeyPatch) -> None:
    """Whoever has the server refuses what is brought."""
    answers = responder._handlers[Call.SYNC]

    async def refusing(opened: OpenedRequest) -> bytes:
        pushed = SyncRequest.parse(opened.payload).push
        answer = decode(await answers(opened), max_bytes=1 << 24)
        assert isinstance(answer, dict)
        return encode({**answer, **({"refused": [[each.id, "no-right"] for each in pushed]} if pushed else {})})

    patch.setitem(responder._handlers, Call.SYNC, refusing)


async def _lies_here(device: Device, entry: Entry) -> bool:
    return bool(await device.agent.replica.store.present([entry.id]))


@attack(ROW, off=DEAF)
@pytest.mark.parametrize("is_refused", [False, True], ids=["nothing is due", "what was refused is due again"])
async def test_the_kit_is_heard_by_a_sync_on_a_disk_that_somebody_fills_again_and_again(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, pc)
    with monkeypatch.context() as patch:
        if is_refused:
            _refuses_once(room.frontage.responder, patch)
        await room.hand_in(pc, item, WORK)
        await syncs(pc)
    room.territory.clock.advance(2 * DAY_MS)
    full = kept_ballast(pc.agent.folder, monkeypatch)
    await full.fill_until_notes_fail(pc.agent.replica.store)
    territory = room.territory
    word = await territory.kit_says(territory.id, Kind.REVOKE, Revocation(teacher.agent.device, ()).encode())
    assert await syncs(pc) is Code.DISK_FULL
    assert await _lies_here(pc, word)
    assert room.space not in await pc.agent.replica.readable(teacher.agent.device)


@attack(ROW, off=DEAF)
@pytest.mark.parametrize("brings", ["work", "a report"])
async def test_who_brings_something_to_a_server_whose_disk_is_full_hears_of_a_lost_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brings: str
) -> None:
    async with town(tmp_path) as here:
        at = await here.class_in_step()
        server, pc, laptop = here.office.server, at.machine, at.teacher.agent.device
        for _ in range(3):
            await here.sync()
            here.office.clock.advance(60_000)
        full = kept_ballast(server.folder, monkeypatch)
        full.fill()
        if brings == "work":
            await here.work(pc, at.item, at.pupil)
        else:
            pc.session._asking.trouble = Code.CHANGING_FILE
        await here.office.do("lost", device=laptop.hex())
        full.fill()
        assert await syncs(pc) is (Code.DISK_FULL if brings == "work" else None)
        assert here.space not in await pc.agent.replica.readable(laptop)
        left, _ = await pc.agent.replica.store.unsent_totals()
        assert bool(left) is (brings == "work"), "it is kept, and brought once there is room"
        full.make_room()
        here.office.clock.advance(3_600_000)
        for _ in range(2):
            await pc.session.sync()
        assert (await pc.agent.replica.store.unsent_totals())[0] == 0


@attack(ROW, off=DEAF)
async def test_a_receipt_that_finds_no_room_on_a_server_keeps_nobody_from_hearing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        at = await here.class_in_step()
        other, server, laptop = await here.device("machine"), here.office.server, at.teacher.agent.device
        for _ in range(3):
            await here.sync()
            here.office.clock.advance(60_000)
        hides = said_by_copy(here, Kind.ERASE, Erasure(bytes.fromhex(at.pupil)).encode())
        await brought(here, hides)
        await here.work(at.machine, at.item, at.pupil)
        for _ in range(2):
            await at.machine.session.sync()
        await here.office.do("lost", device=laptop.hex())
        full = kept_ballast(server.folder, monkeypatch)
        full.fill()
        here.office.clock.advance(1000)
        await brought(here, said_by_copy(here, Kind.RULING, Ruling((), (hides.id,)).encode()))
        full.fill()
        assert await syncs(other) is None
        assert here.space not in await other.agent.replica.readable(laptop)


def _lesson(title: str) -> bytes:
    return Revision(ItemKind.LESSON, title, None, None, ContentRef(bytes(32), 1, 1)).encode()


async def _both_classes(room: Classroom) -> tuple[bytes, bytes]:
    """The two classes of a school."""
    door = room.territory.replica.door
    first, second = (space for space in door.spaces() if door.parent(space) == door.parent(room.space))
    return first, second


@attack(ROW, off=DEAF)
@pytest.mark.parametrize("is_full", ["here", "there"])
async def test_neighbours_hear_the_kit_though_the_disk_of_one_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: str
) -> None:
    async with classroom(tmp_path, spaces=2) as room:
        classes, territory = await _both_classes(room), room.territory
        caller, other, gone = [await room.device(Role.MACHINE, *classes) for _ in range(3)]
        for device in (caller, other):
            await device.session.sync()
        await exchange(caller.agent, other.agent)
        common = await common_spaces(caller.agent, other.agent.device)
        first, second = [each for each in common if each in classes]
        word = await territory.kit_says(second, Kind.REVOKE, Revocation(gone.agent.device, ()).encode())
        lesson = await territory.say(first, Kind.REVISION, _lesson("Eau"))
        brings = [word] if is_full == "there" else [lesson, word]
        await other.agent.replica.admit(brings, source=b"a stick", now_ms=territory.clock())
        if is_full == "there":
            await caller.agent.replica.admit([lesson], source=b"a stick", now_ms=territory.clock())
        full = kept_ballast((other if is_full == "there" else caller).agent.folder, monkeypatch)
        full.fill()
        with contextlib.suppress(RelaisError):
            await exchange(caller.agent, other.agent)
        assert await _lies_here(caller, word)


@attack(ROW, off=LEFT_DUE)
async def test_a_stick_on_which_there_is_more_than_the_disk_holds_brings_what_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with courier_class(tmp_path, spaces=2) as room:
        classes = await _both_classes(room)
        there, *all_here = [await room.device(Role.MACHINE, *classes) for _ in range(3)]
        await know_keys(room, there)
        # whichever class comes first on a stick
        for here, (full_of, said_in) in zip(all_here, (classes, classes[::-1]), strict=True):
            await know_keys(room, here)
            await room.territory.say(full_of, Kind.REVISION, _lesson("Eau"))
            await room.territory.person("Léa", PersonRole.PUPIL, said_in)
            said = (await room.territory.replica.store.scan(said_in))[-1].entry
            await there.session.sync()
            stick = tmp_path / said_in.hex()
            stick.mkdir()
            await export(there, stick)
            full = kept_ballast(here.agent.folder, monkeypatch)
            full.fill()
            with contextlib.suppress(RelaisError):
                await bring(here, stick)
            full.make_room()
            assert await _lies_here(here, said)


@attack(ROW, off=LEFT_DUE)
async def test_what_waits_for_its_right_and_finds_no_room_keeps_nobody_from_hearing_what_came_along(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()
    await pc.session.sync()
    late = await room.teacher()
    await late.session.sync()
    await room.publish(late, SMALL)
    unknown = await late.agent.replica.store.unsent(MiB)
    assert unknown
    full = kept_ballast(pc.agent.folder, monkeypatch)
    full.fill()
    word = await kits_word(room)
    assert await hears(pc, [*unknown, *word])
