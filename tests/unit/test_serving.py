"""The answering side of sync and reconcile: what comes in, what goes out, to whom (R7, R10, R12, R13)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from blake3 import blake3

from protocol.canonical import encode
from protocol.checkpoint import Cursor, standing_of
from protocol.enrollment_messages import parse_chain
from protocol.entry import Entry, Kind
from protocol.envelope import open_answer, seal_request
from protocol.errors import Code, LocalFailure, PeerFault, Refused, RelaisError, TooLarge
from protocol.identity import AgreementKey
from protocol.limits import CAPABILITY_LIFETIME_S, INLINE_PACK_BYTES, PAGE_BYTES
from protocol.message_parts import InlinePack, Offer, SpacePage, Wanted
from protocol.messages import ReconcileRequest, SyncAnswer, SyncRequest
from protocol.reconcile import Initiator
from protocol.register import DOMAIN, Health, RegisterKind, compose_register
from protocol.replica.interfaces import Stored
from protocol.replica.memory import MemoryPacks
from protocol.replica.named_cursors import NamedCursors
from protocol.replica.serving import Responder
from protocol.replica.station import Contact
from protocol.roles import PersonRole, Role
from protocol.sorted_records import SortedRecords
from protocol.structure import Erasure, PersonKey, PersonRecord, Revocation
from protocol.wire import Call, Capability
from protocol.work import ContentRef, Receipt
from tests.harness.caller import Caller, Packed, caller, cursor_of, pack_files, pack_sealed
from tests.harness.entries import SOME_WORK, bare
from tests.harness.territory import Territory

HEALTH = Health("Renard", "0.1.0", "linux", None, 1, 2, 3).encode()
FILES = {"leçon.txt": b"Le cycle de l'eau. " * 20}


@dataclass
class Desk:
    """A territory, who answers for it, a class, its people and devices."""

    territory: Territory
    responder: Responder
    room: bytes
    pupil: bytes
    adult: bytes
    teacher: Caller
    machine: Caller
    contacts: list[Contact]

    async def device(self, role: Role, *spaces: bytes, seed: int) -> Caller:
        return await caller(self.territory, self.responder, role, *spaces, seed=seed)

    async def names(self, space: bytes | None = None) -> list[bytes]:
        """The ids of a space's entries, in order of arrival."""
        return [stored.entry.id for stored in await self.territory.replica.store.scan(space or self.room)]

    async def of_kind(self, kind: Kind) -> list[Entry]:
        return await self.territory.replica.store.scan_kinds([kind])

    async def publish(self, files: dict[str, bytes] | None = None) -> tuple[Entry, Packed]:
        """A lesson that the server has, content included."""
        packed = await pack_files(files or FILES)
        entry = self.teacher.lesson(self.room, packed.ref)
        await self.push(self.teacher, entry)
        for pack in packed.packs:
            await self.territory.replica.content.ingest(self.room, pack)
        return entry, packed

    async def hand_in(self, item: Entry, data: bytes = b"s" * 4096, by: Caller | None = None) -> tuple[Entry, Packed]:
        """A work that the server has, content included."""
        packed = await pack_sealed(data)
        entry = (by or self.machine).hand_in(self.room, item.id, self.pupil, packed.ref)
        await self.push(by or self.machine, entry, packs=packed.packs)
        return entry, packed

    async def push(self, who: Caller, *entries: Entry, packs: list[bytes] | None = None) -> SyncAnswer:
        return await who.sync(
            SyncRequest(push=entries, packs=tuple(InlinePack(self.room, pack) for pack in packs or ()))
        )

    async def standing(self, who: Caller, *, complete: bool = False, prefix: bool = False) -> SyncRequest:
        """A quiet request of somebody who has everything."""
        answers = await who.catch_up()
        assert not answers[-1].more
        cursors = tuple(
            replace(cursor, space=cursor.space[:4] if prefix else cursor.space, complete=complete)
            for cursor in who.cursors.values()
        )
        return SyncRequest(generation=who.generation, cursors=cursors)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    territory = await Territory.create(tmp_path / "server")
    room = await territory.classroom()
    pupil = await territory.person("Léa", PersonRole.PUPIL, room)
    adult = await territory.person("Mme Petit", PersonRole.TEACHER, room)
    responder = territory.responder()
    contacts: list[Contact] = []
    responder.on_contact = contacts.append
    teacher = await caller(territory, responder, Role.TEACHER, room, seed=1, person=adult)
    machine = await caller(territory, responder, Role.MACHINE, room, seed=2)
    yield Desk(territory, responder, room, pupil, adult, teacher, machine, contacts)
    await territory.close()


def entries_of(answer: SyncAnswer) -> list[bytes]:
    return [entry.id for page in answer.pages for entry in page.entries]


def page_of(answer: SyncAnswer, space: bytes) -> SpacePage | None:
    return next((page for page in answer.pages if page.checkpoint.space == space), None)


# --- who calls --------------------------------------------------------------------------------------------------------


async def test_a_request_sealed_to_another_key_gets_the_chain_in_clear(desk: Desk) -> None:
    request = seal_request(
        Call.SYNC, b"\x80", device=desk.machine.keys.signing, recipient_public=AgreementKey(bytes(31) + b"1").public,
        reply=AgreementKey(bytes(31) + b"2"), ephemeral=bytes(31) + b"3",
    )  # fmt: skip
    reply = await desk.responder.answer(Call.SYNC, request)
    assert reply.status == 421
    assert parse_chain(reply.body) == (desk.territory.certificate,)
    with pytest.raises(PeerFault):
        await desk.responder.answer(Call.SYNC, b"\x00" + request[1:40])


async def test_a_call_on_the_path_of_another_is_refused_under_seal(desk: Desk) -> None:
    failures: list[RelaisError] = []
    desk.responder.on_failure = failures.append
    reply = AgreementKey(bytes(31) + b"2")
    server = desk.territory.keys
    request = seal_request(
        Call.RECONCILE, b"\x80", device=desk.machine.keys.signing, recipient_public=server.agreement.public,
        reply=reply, ephemeral=bytes(31) + b"3",
    )  # fmt: skip
    answer = await desk.responder.answer(Call.SYNC, request)
    assert answer.status == 400
    payload = open_answer(answer.body, request, reply=reply, server_public=server.signing.public)
    with pytest.raises(PeerFault) as caught:
        SyncAnswer.parse(payload)
    assert caught.value.code is Code.MALFORMED
    assert [failure.code for failure in failures] == [Code.MALFORMED]


async def test_a_stranger_leaves_nothing_behind(desk: Desk) -> None:
    stranger = await desk.device(Role.MACHINE, seed=9)
    stranger.grants[desk.room] = bytes(32)
    entries = tuple(stranger.say(desk.room, Kind.HAND_IN, SOME_WORK) for _ in range(3))
    for request in (SyncRequest(push=entries), SyncRequest(credentials=entries, push=entries)):
        with pytest.raises(Refused) as caught:
            await stranger.sync(request)
        assert caught.value.code is Code.UNKNOWN_DEVICE
    assert await desk.territory.replica.store.held() == []
    with pytest.raises(Refused):
        await stranger.reconcile(ReconcileRequest(desk.room, None, push=entries))
    assert await desk.territory.replica.store.held() == []


async def test_a_stranger_with_credentials_is_nobodys_stranger(tmp_path: Path, desk: Desk) -> None:
    reborn = await desk.territory.reborn(tmp_path / "reborn")
    shown = await desk.territory.replica.credentials([desk.machine.grants[desk.room]])
    work = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK)
    desk.machine.territory, desk.machine.responder = reborn, reborn.responder()
    with pytest.raises(Refused) as caught:
        await desk.machine.sync(SyncRequest(push=(work,)))
    assert caught.value.code is Code.UNKNOWN_DEVICE
    answer = await desk.machine.sync(SyncRequest(credentials=shown, push=(work,)))
    assert (answer.waiting, answer.refused) == ((), ())
    assert answer.generation == reborn.keys.generation
    assert set(entries_of(answer)) >= {entry.id for entry in shown}
    await reborn.close()


async def test_a_device_that_was_let_go_is_told_so_and_what_it_brings_is_judged(desk: Desk) -> None:
    work = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK)
    await desk.territory.say(desk.room, Kind.REVOKE, Revocation(desk.machine.id, ()).encode())
    with pytest.raises(Refused) as caught:
        await desk.push(desk.machine, work)
    assert caught.value.code is Code.REVOKED
    assert work.id in await desk.names()


async def test_a_call_tells_who_is_current(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine, complete=True)
    await desk.machine.sync(quiet)
    await desk.machine.sync(replace(quiet, want=(Wanted(desk.room, bytes(32)),)))
    assert [contact.current for contact in desk.contacts[-2:]] == [True, False]
    assert desk.contacts[-1].device == desk.machine.id


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_pages_bring_every_entry_once_in_order_of_arrival_parents_first(desk: Desk) -> None:
    for number in range(40):
        record = PersonRecord("é" * 190, PersonRole.PUPIL).encode()
        await desk.territory.say(desk.room, Kind.PERSON, record, subject=bytes([number]) * 16)
    answers = await desk.machine.catch_up()
    school = desk.territory.schools[0]
    expected = [*await desk.names(desk.territory.id), *await desk.names(school), *await desk.names()]
    assert [name for answer in answers for name in entries_of(answer)] == expected


@pytest.mark.parametrize("room", [1, 700, 2_000])
async def test_whatever_a_page_holds_nothing_is_skipped_and_nothing_comes_twice(
    desk: Desk, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.news.PAGE_BYTES", room)
    answers: list[SyncAnswer] = []
    arrived = 0
    while not answers or answers[-1].more:
        answer = await desk.machine.sync(
            SyncRequest(generation=desk.machine.generation, cursors=tuple(desk.machine.cursors.values()))
        )
        desk.machine.take(answer)
        answers.append(answer)
        if answer.more and arrived < 5:
            arrived += 1
            await desk.territory.say(desk.territory.id if arrived % 2 else desk.room, Kind.PERSON, b"\x80")
    names = [name for answer in answers for name in entries_of(answer)]
    spaces = (desk.territory.id, desk.territory.schools[0], desk.room)
    assert sorted(names) == sorted([name for space in spaces for name in await desk.names(space)])
    assert len(answers) > 1
    for answer in answers:
        assert answer.more or not any(page.more for page in answer.pages)


async def test_what_was_just_pushed_does_not_come_back_and_the_cursor_counts_it(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    work = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK)
    answer = await desk.machine.sync(replace(quiet, push=(work,)))
    page = page_of(answer, desk.room)
    assert page is not None
    assert page.entries == ()
    assert page.checkpoint.count == len(await desk.names())
    desk.machine.take(answer)
    assert await desk.machine.sync(replace(quiet, cursors=tuple(desk.machine.cursors.values()))) == SyncAnswer(
        time_ms=desk.territory.clock()
    )


@pytest.mark.parametrize("prefix", [True, False])
async def test_a_quiet_sync_says_nothing_but_the_time(desk: Desk, prefix: bool) -> None:
    quiet = await desk.standing(desk.machine, prefix=prefix)
    assert await desk.machine.sync(quiet) == SyncAnswer(time_ms=desk.territory.clock())


async def test_who_stands_where_this_replica_stands_hears_nothing_but_the_time(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    stands = replace(
        quiet, cursors=(), standing=await standing_in(desk, *desk.territory.replica.door.lineage(desk.room))
    )
    assert await desk.machine.sync(stands) == SyncAnswer(time_ms=desk.territory.clock())


async def test_who_stands_elsewhere_is_asked_for_cursors_and_hears_nothing_else(desk: Desk) -> None:
    quiet = await desk.standing(desk.machine)
    right = await standing_in(desk, *desk.territory.replica.door.lineage(desk.room))
    fewer = await standing_in(desk, desk.room)
    unlike = SyncAnswer(time_ms=desk.territory.clock(), unlike=True)
    for standing, generation in ((fewer, quiet.generation), (bytes(16), quiet.generation), (right, bytes(8))):
        asked = SyncRequest(generation=generation, standing=standing)
        assert await desk.machine.sync(asked) == unlike
    await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
    assert await desk.machine.sync(SyncRequest(generation=quiet.generation, standing=right)) == unlike


async def standing_in(desk: Desk, *spaces: bytes) -> bytes:
    places = [(space, await desk.territory.replica.position(space)) for space in spaces]
    return standing_of((space, position.count, position.chain) for space, position in places)


async def test_a_page_leads_to_the_set_whose_fingerprint_it_shows(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    store = desk.territory.replica.store
    page = store.page

    async def page_then_news(space: bytes, after: int, max_bytes: int) -> list[Stored]:
        found = await page(space, after, max_bytes)
        if space == desk.room:
            await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
        return found

    monkeypatch.setattr(store, "page", page_then_news)
    answer = await desk.machine.sync()
    found = page_of(answer, desk.room)
    assert found is not None
    assert found.more, "what came meanwhile is announced"
    assert answer.more
    monkeypatch.undo()
    desk.machine.take(answer)
    (rest,) = await desk.machine.catch_up()
    last = page_of(rest, desk.room)
    assert last is not None
    assert not last.more
    assert last.checkpoint.fingerprint == await desk.territory.replica.fingerprint(desk.room)


# --- cursors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generation", "count", "chain"),
    [(bytes(8), 0, None), (None, 0, bytes(8)), (None, 1_000, None), (None, 2**63, None)],
)
async def test_a_cursor_that_this_store_did_not_give_is_stale(
    desk: Desk, generation: bytes | None, count: int, chain: bytes | None
) -> None:
    quiet = await desk.standing(desk.machine)
    cursors = tuple(
        replace(cursor, count=cursor.count + count, chain=chain or cursor.chain)
        if cursor.space == desk.room or generation
        else cursor
        for cursor in quiet.cursors
    )
    request = replace(quiet, generation=generation or quiet.generation, cursors=cursors)
    if count >= 2**63 - 1:
        with pytest.raises(PeerFault):
            await desk.machine.sync(request)
        return
    answer = await desk.machine.sync(request)
    expected = [desk.territory.id, desk.territory.schools[0], desk.room] if generation else [desk.room]
    assert list(answer.stale) == expected
    assert not any(page.checkpoint.space in expected for page in answer.pages)


async def test_a_space_that_the_caller_lost_is_closed_and_the_others_go_on(desk: Desk) -> None:
    other = await desk.territory.classroom("CM2")
    await desk.machine.enter(Role.MACHINE, other)
    for prefix in (True, False):
        quiet = await desk.standing(desk.machine, prefix=prefix)
        if not prefix:
            break
        await desk.territory.say(other, Kind.REVOKE, Revocation(desk.machine.id, ()).encode())
        answer = await desk.machine.sync(quiet)
        assert answer.closed == (other,)
        assert page_of(answer, other) is None
    whole = replace(quiet, cursors=(*quiet.cursors, Cursor(other, 1, bytes(8), complete=False)))
    await desk.territory.say(desk.room, Kind.PERSON, b"\x80")
    answer = await desk.machine.sync(whole)
    assert answer.closed == (other,)
    assert page_of(answer, desk.room) is not None


async def test_nobody_learns_of_spaces_that_it_does_not_name(desk: Desk) -> None:
    await desk.territory.classroom("CM2")
    unknown = (Cursor(bytes(32), 1, bytes(8), complete=True), Cursor(bytes(4), 1, bytes(8), complete=True))
    answer = await desk.machine.sync(SyncRequest(cursors=unknown))
    assert answer.closed == ()
    assert {page.checkpoint.space for page in answer.pages} == {
        desk.territory.id,
        desk.territory.schools[0],
        desk.room,
    }


async def test_many_cursors_and_many_spaces_are_matched_without_comparing_each_with_each(desk: Desk) -> None:
    made = Random(4)
    cursors = tuple(_CountedCursor(made.randbytes(32), 1, bytes(8), complete=True) for _ in range(500))
    for number in range(60):
        await desk.territory.classroom(f"CE{number}")
    readable = await desk.territory.replica.readable(desk.machine.id)
    _CountedCursor.looks = 0
    desk.responder._closed(NamedCursors(cursors), readable)
    assert _CountedCursor.looks < 4 * len(cursors)


class _CountedCursor(Cursor):
    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name == "space":
            _CountedCursor.looks += 1
        return super().__getattribute__(name)


# --- what comes in ----------------------------------------------------------------------------------------------------


async def test_what_waits_is_said_to_wait_and_comes_in_later(desk: Desk) -> None:
    clone, entry = desk.machine.successor(desk.room)
    work = clone.say(desk.room, Kind.HAND_IN, SOME_WORK)
    assert (await desk.push(desk.machine, work)).waiting == (work.id,)
    assert (await desk.push(desk.machine, entry)).waiting == ()
    assert work.id in await desk.names()


async def test_a_full_quarantine_lets_the_rest_wait_outside(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.replica.MAX_WAITING_ENTRIES", 1)
    clone, entry = desk.machine.successor(desk.room)
    works = [clone.say(desk.room, Kind.HAND_IN, SOME_WORK) for _ in range(3)]
    answer = await desk.push(desk.machine, *works)
    assert (set(answer.waiting), answer.refused) == ({work.id for work in works}, ())
    assert (await desk.push(desk.machine, entry, *works)).waiting == ()


async def test_one_bad_entry_pack_or_register_does_not_spoil_the_rest(desk: Desk) -> None:
    item, _ = await desk.publish()
    packed = await pack_sealed(b"s" * 4096)
    work = desk.machine.hand_in(desk.room, item.id, desk.pupil, packed.ref)
    forged = replace(desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK), signature=bytes(64))
    health = compose_register(desk.machine.keys.signing, RegisterKind.HEALTH, desk.machine.id, 5, HEALTH)
    answer = await desk.machine.sync(
        SyncRequest(
            push=(forged, work),
            packs=(InlinePack(desk.room, b"no pack"), InlinePack(desk.room, packed.packs[0])),
            registers=(b"no register", health.data),
        )
    )
    assert [(refusal.id, refusal.code) for refusal in answer.refused] == [(forged.id, Code.BAD_SIGNATURE)]
    assert [entry.header.target for entry in await desk.of_kind(Kind.RECEIPT_SERVER)] == [work.id]
    assert [row.data for row in await desk.territory.replica.store.registers()] == [health.data]


async def test_a_failing_disk_fails_the_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise LocalFailure(Code.DISK_FULL, "full")

    monkeypatch.setattr(desk.territory.replica.content, "ingest", full)
    with pytest.raises(RelaisError) as caught:
        await desk.push(desk.machine, packs=[b"pack"])
    assert caught.value.code is Code.DISK_FULL


async def test_registers_are_kept_from_known_devices_about_what_they_may_speak_of(desk: Desk) -> None:
    signing, now_ms = desk.machine.keys.signing, desk.territory.clock()
    stranger = await desk.device(Role.MACHINE, seed=9)

    def register(kind: int, subject: bytes, at_ms: int = now_ms, key: object = None) -> bytes:
        return compose_register(key or signing, kind, subject, at_ms, HEALTH).data  # type: ignore[arg-type]

    huge = encode([0, 2**64 - 1, desk.machine.id, desk.machine.id, now_ms, HEALTH])
    bad = (
        register(RegisterKind.HEALTH, bytes(32)),
        register(RegisterKind.ARRIVED, desk.room),
        compose_register(signing, RegisterKind.HEALTH, desk.machine.id, now_ms + 1, bytes(7_000)).data,
        register(7, desk.machine.id),
        register(RegisterKind.HEALTH, desk.machine.id, now_ms + 25 * 3600 * 1000),
        register(RegisterKind.HEALTH, stranger.id, key=stranger.keys.signing),
        encode([huge, signing.sign(DOMAIN, huge)]),
    )
    good = (register(RegisterKind.HEALTH, desk.machine.id),)
    await desk.teacher.sync(SyncRequest(registers=bad + good))
    assert {row.data for row in await desk.territory.replica.store.registers()} == set(good)
    older = register(RegisterKind.HEALTH, desk.machine.id, now_ms - 1)
    await desk.teacher.sync(SyncRequest(registers=(older,)))
    assert {row.data for row in await desk.territory.replica.store.registers()} == set(good)


async def test_packs_for_a_space_that_the_caller_does_not_read_are_passed_over(desk: Desk) -> None:
    other = await desk.territory.classroom("CM2")
    packed = await pack_files(FILES)
    pack = packed.packs[0]
    await desk.machine.sync(SyncRequest(packs=(InlinePack(other, pack),), offers=(Offer(other, bytes(32), 1),)))
    assert await desk.territory.replica.content.totals() == (0, 0, 0)


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


# --- what is lacking here, and offers ---------------------------------------------------------------------------------


async def test_what_is_lacking_is_named_until_it_has_come(desk: Desk) -> None:
    packed, sealed = await pack_files(FILES), await pack_sealed(b"s" * 4096)
    item = desk.teacher.lesson(desk.room, packed.ref)
    await desk.push(desk.teacher, item)
    await desk.push(desk.machine, desk.machine.hand_in(desk.room, item.id, desk.pupil, sealed.ref))
    answer = await desk.machine.sync()
    assert {lack.stream for lack in answer.lacks} == {packed.ref.stream, sealed.ref.stream}
    answer = await desk.push(desk.teacher, packs=[*packed.packs, *sealed.packs])
    assert answer.lacks == ()


async def test_thousands_of_empty_promises_cost_a_call_little(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Random(8)
    item = desk.teacher.lesson(desk.room, ContentRef(made.randbytes(32), 1, 1))
    await desk.push(desk.teacher, item)
    works = [
        desk.machine.hand_in(desk.room, item.id, desk.pupil, ContentRef(made.randbytes(32), 1, 0)) for _ in range(900)
    ]
    await desk.territory.replica.admit(works, source=b"test", now_ms=desk.territory.clock())
    quiet = await desk.standing(desk.machine)
    content = desk.territory.replica.content
    asked = 0
    for name in ("chunk_list", "chunk_lists", "known_streams", "missing_chunks"):

        async def counted(*args: object, call: object = getattr(content, name)) -> object:
            nonlocal asked
            asked += 1
            return await call(*args)  # type: ignore[operator]

        monkeypatch.setattr(content, name, counted)
    answer = await desk.machine.sync(quiet)
    assert len(answer.lacks) == 200
    assert asked < 20


async def test_what_is_lacking_is_looked_up_once_in_a_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Random(9)
    item = desk.teacher.lesson(desk.room, ContentRef(made.randbytes(32), 1, 1))
    await desk.push(desk.teacher, item)
    other = await desk.device(Role.MACHINE, desk.room, seed=3)
    works = [
        who.hand_in(desk.room, item.id, desk.pupil, ContentRef(made.randbytes(32), 1, 0))
        for who in (desk.machine, other)
        for _ in range(300)
    ]
    await desk.territory.replica.admit(works, source=b"test", now_ms=desk.territory.clock())
    quiet = await desk.standing(desk.machine)
    content = desk.territory.replica.content
    looked_up: Counter[bytes] = Counter()
    known_streams = content.known_streams

    async def counted(streams: Sequence[bytes]) -> set[bytes]:
        looked_up.update(streams)
        return await known_streams(streams)

    monkeypatch.setattr(content, "known_streams", counted)
    named: set[bytes] = set()
    for _ in range(4):
        looked_up.clear()
        answer = await desk.machine.sync(quiet)
        assert len({lack.stream for lack in answer.lacks}) == 200
        assert set(looked_up.values()) == {1}
        named |= {lack.stream for lack in answer.lacks}
    # the caller's own come first, those of others in turn
    assert len(named) > 400


async def test_offers_are_taken_up_with_a_capability_to_send_from_where_the_last_try_ended(desk: Desk) -> None:
    packed = await pack_files({"film": Random(3).randbytes(90_000)})
    (data,) = packed.packs
    name = blake3(data).digest()
    offer = Offer(desk.room, name, len(data))
    (upload,) = (await desk.teacher.sync(SyncRequest(offers=(offer,)))).uploads
    assert (upload.pack, upload.offset) == (name, 0)
    capability = desk.responder.send_capability(upload.capability)
    expires_s = desk.territory.clock() // 1000 + CAPABILITY_LIFETIME_S
    assert capability == Capability.to_send(desk.room, name, len(data), expires_s, desk.teacher.keys.signing.public)
    with pytest.raises(PeerFault):
        desk.responder.fetch_capability(upload.capability)
    content = desk.territory.replica.content
    await content.append_part(name, 0, data[:1_000], capability.sender)
    (upload,) = (await desk.teacher.sync(SyncRequest(offers=(offer,)))).uploads
    assert upload.offset == 1_000
    await content.append_part(name, 1_000, data[1_000:], capability.sender)
    await content.finish_part(desk.room, name, len(data), sender=capability.sender)
    (upload,) = (await desk.teacher.sync(SyncRequest(offers=(offer,)))).uploads
    assert (upload.offset, upload.capability) == (len(data), ""), "held already"


# --- reconcile --------------------------------------------------------------------------------------------------------


async def test_a_reconcile_brings_what_each_side_lacks(desk: Desk) -> None:
    own = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK)
    initiator = Initiator(SortedRecords([(own.timestamp_ms, own.id)]))  # type: ignore[list-item]
    answer = await desk.machine.reconcile(ReconcileRequest(desk.room, initiator.open()))
    assert answer.message is not None
    step = initiator.answer(answer.message)
    assert step.have == [own.id] or list(step.have) == [own.id]
    assert set(step.need) == set(await desk.names())
    before = answer.checkpoint.count
    more = await desk.machine.reconcile(ReconcileRequest(desk.room, None, push=(own,), need=tuple(step.need)))
    assert {entry.id for entry in more.entries} == set(step.need)
    assert more.message is None
    assert more.checkpoint.count == before + 1
    assert more.checkpoint.fingerprint == await desk.territory.replica.fingerprint(desk.room)


async def test_a_space_that_is_not_the_callers_is_not_reconciled(desk: Desk) -> None:
    other = await desk.territory.classroom("CM2")
    with pytest.raises(Refused) as caught:
        await desk.machine.reconcile(ReconcileRequest(other, None, need=tuple(await desk.names(other))))
    assert caught.value.code is Code.CANNOT_READ


async def test_entries_of_other_spaces_are_not_given_and_what_does_not_fit_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await desk.territory.classroom("CM2")
    foreign = await desk.territory.say(other, Kind.PERSON, b"\x80")
    monkeypatch.setattr("protocol.replica.news.PAGE_BYTES", 700)
    here = await desk.names()
    wanted = [foreign.id, bytes(32), *here]
    got: list[bytes] = []
    calls = 0
    while wanted:
        answer = await desk.machine.reconcile(ReconcileRequest(desk.room, None, need=tuple(wanted)))
        got += [entry.id for entry in answer.entries]
        assert answer.entries
        assert len(answer.left) < len(wanted)
        wanted = list(answer.left)
        calls += 1
    assert got == here
    assert calls > 1


async def test_asking_for_a_thousand_large_entries_does_not_load_them_all(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(60):
        await desk.territory.say(desk.room, Kind.PERSON, bytes(60_000))
    loaded = 0
    store = desk.territory.replica.store
    get = store.get

    async def counted(ids: list[bytes]) -> dict[bytes, Entry]:
        nonlocal loaded
        found = await get(ids)
        loaded += sum(entry.wire_bytes for entry in found.values())
        return found

    monkeypatch.setattr(store, "get", counted)
    answer = await desk.machine.reconcile(ReconcileRequest(desk.room, None, need=tuple(await desk.names())))
    assert answer.left
    assert loaded < 3 * PAGE_BYTES


async def test_a_bare_header_is_sent_as_it_is(desk: Desk) -> None:
    await desk.territory.say(desk.room, Kind.ERASE, Erasure(bytes(16)).encode())
    work = desk.machine.say(desk.room, Kind.HAND_IN, SOME_WORK, subject=bytes(16))
    await desk.push(desk.machine, bare(work))
    other = await desk.device(Role.MACHINE, desk.room, seed=6)
    await other.catch_up()
    assert other.known[work.id].payload is None


async def test_the_cursor_of_a_page_is_recognised(desk: Desk) -> None:
    answer = await desk.machine.sync()
    cursors = tuple(cursor_of(page, prefix=True) for page in answer.pages)
    again = await desk.machine.sync(SyncRequest(generation=answer.generation, cursors=cursors))
    assert (again.stale, again.pages) == ((), ())
    with pytest.raises(TooLarge):
        SyncRequest.parse(SyncRequest(packs=(InlinePack(desk.room, bytes(600_000)),)).encode())
