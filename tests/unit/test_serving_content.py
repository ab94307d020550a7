"""The answering side of sync: receipts for work that is whole, and which content goes out, to whom (R7, R13)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from blake3 import blake3

from protocol.errors import PeerFault
from protocol.limits import CAPABILITY_LIFETIME_S, INLINE_PACK_BYTES
from protocol.messages.calls import ReconcileRequest, SyncRequest
from protocol.messages.parts import Wanted
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonKey
from protocol.model.work import Receipt
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.roles import Role
from tests.harness.caller import pack_files, pack_sealed
from tests.harness.serving_desk import Desk, entries_of, serving_desk


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with serving_desk(tmp_path) as found:
        yield found


# --- receipts ---------------------------------------------------------------------------------------------------------


async def test_a_hand_in_that_fits_gets_its_receipt_in_the_same_answer(desk: Desk) -> None:
    item, _ = await desk.publish()
    packed = await pack_sealed(b"s" * 4096)
    work = desk.machine.hand_in(desk.room, item.id, desk.pupil, packed.ref)
    answer = await desk.push(desk.machine, work, packs=packed.packs)
    (receipt,) = await desk.of_kind(Kind.RECEIPT_SERVER)
    assert receipt.id in entries_of(answer)
    assert (receipt.header.target, receipt.header.subject) == (work.id, desk.pupil)
    assert Receipt.parse(receipt.payload or b"").stream == packed.ref.stream


async def test_a_lesson_that_is_handed_in_gets_no_receipt_and_stays_a_lesson(desk: Desk) -> None:
    item, packed = await desk.publish()
    assert (await desk.teacher.sync(SyncRequest())).lacks == ()
    answer = await desk.push(desk.machine, desk.machine.hand_in(desk.room, item.id, desk.pupil, packed.ref))
    assert await desk.of_kind(Kind.RECEIPT_SERVER) == []
    assert answer.lacks == ()
    await desk.territory.replica.content.drop([blake3(pack).digest() for pack in packed.packs])
    await desk.responder.holdings.forget()
    assert [wanted.stream for wanted in (await desk.teacher.sync(SyncRequest())).lacks] == [packed.ref.stream]


async def test_the_same_call_twice_at_once_gets_one_receipt(desk: Desk) -> None:
    item, _ = await desk.publish()
    packed = await pack_sealed(b"s" * 4096)
    work = desk.machine.hand_in(desk.room, item.id, desk.pupil, packed.ref)
    await asyncio.gather(*(desk.push(desk.machine, work, packs=packed.packs) for _ in range(4)))
    assert len(await desk.of_kind(Kind.RECEIPT_SERVER)) == 1


async def test_content_that_comes_before_or_after_its_entry_gets_a_receipt(desk: Desk) -> None:
    item, _ = await desk.publish()
    first, second = await pack_sealed(b"a" * 4096), await pack_sealed(b"b" * 4096)
    await desk.push(desk.machine, packs=first.packs)
    works = [desk.machine.hand_in(desk.room, item.id, desk.pupil, packed.ref) for packed in (first, second)]
    await desk.push(desk.machine, *works)
    assert [entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)] == [works[0].id]
    await desk.territory.replica.content.ingest(desk.room, second.packs[0])
    await desk.responder.received_pack(desk.room)
    assert {entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)} == {work.id for work in works}


async def test_a_hand_in_that_had_waited_gets_its_receipt_when_it_comes_in(desk: Desk) -> None:
    item, _ = await desk.publish()
    school = desk.territory.schools[0]
    relay = await desk.device(Role.RELAY, school, seed=5)
    clone, successor = relay.successor(school)
    packed = await pack_sealed(b"s" * 4096)
    work = clone.hand_in(desk.room, item.id, desk.pupil, packed.ref)
    await desk.push(desk.machine, work, packs=packed.packs)
    assert await desk.of_kind(Kind.RECEIPT_SERVER) == []
    await relay.sync(SyncRequest(push=(successor,)))
    assert [entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)] == [work.id]


async def test_credentials_and_reconciled_entries_bring_receipts_too(desk: Desk) -> None:
    item, _ = await desk.publish()
    clone, successor = desk.machine.successor(desk.room)
    waiting, pushed = await pack_sealed(b"a" * 4096), await pack_sealed(b"b" * 4096)
    work = clone.hand_in(desk.room, item.id, desk.pupil, waiting.ref)
    await desk.push(desk.teacher, work, packs=[*waiting.packs, *pushed.packs])
    await clone.sync(SyncRequest(credentials=(successor,)))
    assert [entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)] == [work.id]
    other = desk.machine.hand_in(desk.room, item.id, desk.pupil, pushed.ref)
    await desk.machine.reconcile(ReconcileRequest(desk.room, None, push=(other,)))
    assert {entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)} == {work.id, other.id}


async def test_a_station_that_writes_no_receipts_writes_none(desk: Desk) -> None:
    desk.responder.station = replace(desk.responder.station, writes_receipts=False)
    item, _ = await desk.publish()
    await desk.hand_in(item)
    assert await desk.of_kind(Kind.RECEIPT_SERVER) == []


# --- what goes out: content -------------------------------------------------------------------------------------------


async def test_small_content_comes_with_its_revision_and_large_content_as_a_link(desk: Desk) -> None:
    _, small = await desk.publish()
    noise = Random(3).randbytes(INLINE_PACK_BYTES + 9_000)
    _, large = await desk.publish({"film": noise})
    answer = await desk.machine.sync()
    assert [pack.data for pack in answer.packs] == small.packs
    (link,) = answer.links
    assert link.pack == blake3(large.packs[0]).digest()
    found = desk.responder.fetch_capability(link.capability)
    assert (found.pack, found.space, found.size) == (link.pack, desk.room, len(large.packs[0]))
    with pytest.raises(PeerFault):
        desk.responder.send_capability(link.capability)
    desk.territory.clock.advance((CAPABILITY_LIFETIME_S + 1) * 1000)
    with pytest.raises(PeerFault):
        desk.responder.fetch_capability(link.capability)


async def test_hundreds_of_tiny_lessons_make_an_answer_that_a_caller_accepts(desk: Desk) -> None:
    for number in range(300):
        packed = await pack_files({"a": b"%d" % number})
        desk.teacher.known.clear()
        entry = desk.teacher.lesson(desk.room, packed.ref)
        await desk.territory.replica.admit([entry], source=b"test", now_ms=desk.territory.clock())
        await desk.territory.replica.content.ingest(desk.room, packed.packs[0])
    answer = await desk.machine.sync()
    assert len(answer.packs) + len(answer.links) == 300
    assert answer.packs


async def test_a_caller_that_has_everything_gets_only_what_a_revision_changed(desk: Desk) -> None:
    noise = Random(3)
    known = MemoryPacks()
    first = await pack_files({"a": noise.randbytes(9_000), "b": b"b"}, known)
    entry = desk.teacher.lesson(desk.room, first.ref)
    second = await pack_files({"a": noise.randbytes(9_000), "b": b"c"}, known)
    quiet = await desk.standing(desk.machine, complete=True)
    edit = desk.teacher.lesson(desk.room, second.ref, entry.id, entry.id)
    await desk.push(desk.teacher, entry, edit, packs=[*first.packs, *second.packs])
    whole = await desk.machine.sync(replace(quiet, cursors=tuple(replace(c, complete=False) for c in quiet.cursors)))
    assert second.packs[0] in [pack.data for pack in whole.packs]
    changed = await desk.machine.sync(quiet)
    assert [pack.data for pack in changed.packs] == second.packs


async def test_withdrawn_and_erased_lessons_send_no_content(desk: Desk) -> None:
    item, packed = await desk.publish()
    await desk.push(desk.teacher, desk.teacher.say(desk.room, Kind.WITHDRAW, b"\x80", target=item.id))
    assert (await desk.machine.sync()).packs == ()
    wanted = SyncRequest(want=(Wanted(desk.room, packed.ref.stream),))
    assert [pack.data for pack in (await desk.machine.sync(wanted)).packs] == packed.packs, "it may be restored"
    await desk.territory.say(desk.room, Kind.ERASE, Erasure(item.id).encode())
    assert (await desk.machine.sync(wanted)).packs == ()


async def test_a_hand_in_goes_to_its_author_to_teachers_and_relays_and_to_nobody_else(desk: Desk) -> None:
    item, _ = await desk.publish()
    _, packed = await desk.hand_in(item)
    school = desk.territory.schools[0]
    callers = {
        "author": (desk.machine, True),
        "teacher": (desk.teacher, True),
        "relay": (await desk.device(Role.RELAY, school, seed=5), True),
        "another machine": (await desk.device(Role.MACHINE, desk.room, seed=6), False),
        "admin": (await desk.device(Role.ADMIN, school, seed=7), False),
    }
    wanted = (Wanted(desk.room, packed.ref.stream),)
    for name, (who, allowed) in callers.items():
        for request in (SyncRequest(), SyncRequest(want=wanted)):
            sent = [pack.data for pack in (await who.sync(request)).packs]
            assert (packed.packs[0] in sent) == allowed, name


async def test_a_thief_who_hands_in_the_same_ciphertext_does_not_get_it(desk: Desk) -> None:
    item, _ = await desk.publish()
    _, packed = await desk.hand_in(item)
    thief = await desk.device(Role.MACHINE, desk.room, seed=6)
    await desk.push(thief, thief.hand_in(desk.room, item.id, desk.pupil, packed.ref))
    answer = await thief.sync(SyncRequest(want=(Wanted(desk.room, packed.ref.stream),)))
    assert packed.packs[0] not in [pack.data for pack in answer.packs]


async def test_feedback_brings_its_files_to_the_class(desk: Desk) -> None:
    item, _ = await desk.publish()
    work, _ = await desk.hand_in(item)
    packed = await pack_files({"corrigé.txt": b"Bien"})
    # a teacher's words count from a device that has a reading key
    key = PersonKey(b"k" * 32).encode()
    await desk.push(desk.teacher, desk.teacher.say(desk.room, Kind.PERSON_KEY, key, subject=desk.adult))
    await desk.push(desk.teacher, desk.teacher.feedback(work, packed.ref), packs=packed.packs)
    other = await desk.device(Role.MACHINE, desk.room, seed=6)
    for request in (SyncRequest(), SyncRequest(want=(Wanted(desk.room, packed.ref.stream),))):
        assert packed.packs[0] in [pack.data for pack in (await other.sync(request)).packs]


async def test_content_is_given_only_where_an_entry_of_a_readable_space_names_it(desk: Desk) -> None:
    _, packed = await desk.publish()
    other = await desk.territory.classroom("CM2")
    foreign = await desk.device(Role.MACHINE, other, seed=6)
    quiet = await desk.standing(foreign)
    for space in (desk.room, other):
        answer = await foreign.sync(replace(quiet, want=(Wanted(space, packed.ref.stream),)))
        assert (answer.packs, answer.links) == ((), ())


async def test_what_is_wished_for_many_times_is_looked_for_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, packed = await desk.publish()
    asked = 0
    packs = desk.responder.holdings.packs

    async def counted(*args: object, **named: object) -> object:
        nonlocal asked
        asked += 1
        return await packs(*args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(desk.responder.holdings, "packs", counted)
    quiet = await desk.standing(desk.machine)
    asked = 0
    wanted = Wanted(desk.room, packed.ref.stream)
    answer = await desk.machine.sync(replace(quiet, want=(wanted,) * 5_000))
    assert [pack.data for pack in answer.packs] == packed.packs
    assert asked == 1
