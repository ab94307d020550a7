"""The answering side of sync and reconcile: who calls, what comes in, what each side lacks (R7, R10, R13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from blake3 import blake3

from protocol.canonical import encode
from protocol.errors import Code, LocalFailure, PeerFault, Refused, RelaisError, TooLarge
from protocol.identity import AgreementKey
from protocol.limits import CAPABILITY_LIFETIME_S, PAGE_BYTES
from protocol.messages.calls import ReconcileRequest, SyncAnswer, SyncRequest
from protocol.messages.enrollment import parse_chain
from protocol.messages.parts import InlinePack, Offer, Refusal, Wanted
from protocol.messages.wire import Call, Capability
from protocol.model.entry import Entry, Kind
from protocol.model.register import DOMAIN, Health, RegisterKind, compose_register
from protocol.model.structure import Erasure, Revocation
from protocol.model.work import ContentRef
from protocol.reconcile.negentropy import Initiator
from protocol.reconcile.sorted_records import SortedRecords
from protocol.roles import Role
from protocol.trust.envelope import open_answer, seal_request
from tests.harness.caller import cursor_of, pack_files, pack_sealed
from tests.harness.entries import SOME_WORK, bare
from tests.harness.serving_desk import FILES, Desk, entries_of, serving_desk

HEALTH = Health("Renard", "0.1.0", "linux", None, 1, 2, 3).encode()


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with serving_desk(tmp_path) as found:
        yield found


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


# --- what comes in ----------------------------------------------------------------------------------------------------


async def test_what_waits_is_said_to_wait_and_comes_in_later(desk: Desk) -> None:
    clone, entry = desk.machine.successor(desk.room)
    work = clone.say(desk.room, Kind.HAND_IN, SOME_WORK)
    assert (await desk.push(desk.machine, work)).waiting == (work.id,)
    assert (await desk.push(desk.machine, entry)).waiting == ()
    assert work.id in await desk.names()


async def test_a_full_quarantine_lets_the_rest_wait_outside(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quarantine.MAX_WAITING_ENTRIES", 1)
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


def _failing_disk(desk: Desk, monkeypatch: pytest.MonkeyPatch, code: Code) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise LocalFailure(code, "the disk is no good")

    monkeypatch.setattr(desk.territory.replica.content, "ingest", fails)


async def test_a_failing_disk_fails_the_call(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing_disk(desk, monkeypatch, Code.STORAGE_FAILED)
    with pytest.raises(RelaisError) as caught:
        await desk.push(desk.machine, packs=[b"pack"])
    assert caught.value.code is Code.STORAGE_FAILED


async def test_what_finds_no_room_on_a_full_disk_is_told_in_the_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_disk(desk, monkeypatch, Code.DISK_FULL)
    answer = await desk.push(desk.machine, packs=[b"pack"])
    assert answer.refused == (Refusal(blake3(b"pack").digest(), Code.DISK_FULL),)


async def test_registers_are_kept_from_known_devices_about_what_they_may_speak_of(desk: Desk) -> None:
    signing, now_ms = desk.machine.keys.signing, desk.territory.clock()
    stranger = await desk.device(Role.MACHINE, seed=9)

    def register(kind: int, subject: bytes, at_ms: int = now_ms, key: object = None) -> bytes:
        return compose_register(key or signing, kind, subject, at_ms, HEALTH).data  # type: ignore[arg-type]

    huge = encode([0, 2**64 - 1, desk.machine.id, desk.machine.id, now_ms, HEALTH])
    bad = (
        register(RegisterKind.HEALTH, bytes(32)),
        register(2, desk.room),
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


async def test_who_offers_entries_by_their_ids_hears_which_are_lacking_of_whatever_space(desk: Desk) -> None:
    other = await desk.territory.classroom("CM2")
    offered = (bytes(32), *await desk.names(other))
    answer = await desk.machine.reconcile(ReconcileRequest(desk.room, None, offered=offered))
    assert answer.lacks == (bytes(32),)
    assert not answer.entries


async def test_entries_of_other_spaces_are_not_given_and_what_does_not_fit_is_left(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await desk.territory.classroom("CM2")
    foreign = await desk.territory.say(other, Kind.PERSON, b"\x80")
    monkeypatch.setattr("protocol.replica.answering.news.PAGE_BYTES", 700)
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
