"""One signed-in pupils' PC keeps the server busy with what costs the PC nothing (docs/attacks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import closing, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest

from protocol.identity import AgreementKey, SigningKey, verify
from protocol.limits import (
    MAX_OFFERS,
    MAX_PHRASES_PER_DEVICE,
    MAX_PROOFS_PER_GRANT,
    MAX_REPORTS_OF_ONE_DEVICE,
    SEALED_CHUNK_BYTES,
)
from protocol.messages.calls import SyncRequest
from protocol.messages.held_names import HeldNames
from protocol.messages.parts import Held, InlinePack, Offer, Wanted
from protocol.messages.wire import ENROLL_PATH, RECONCILE_PATH, Call
from protocol.model.entry import Entry, Kind, compose
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.model.work import ContentRef, HandIn
from protocol.replica.answering.lacks import Lacks
from protocol.replica.answering.outgoing import Outgoing
from protocol.replica.answering.station import Reply
from protocol.replica.content import batches
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.http.calls import CALLS_AT_ONCE, Calls
from protocol.replica.interfaces import PackInfo
from protocol.rights.door import Authority, Door, Verdict
from protocol.rights.vouching import Vouch, drawn_by
from protocol.roles import Role
from protocol.transfer.chunking import ChunkRef, stream_id
from protocol.transfer.pack_writer import PackWriter
from protocol.trust.envelope import seal_request
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey
from sync_agent.coursework.reading import readable_version
from sync_agent.portal.everybody.work_pages import MAX_LISTED_WORKS
from sync_agent.sync.worth import Worths
from sync_agent.transport.sealed_calls import SealedCalls
from tests.attacks.test_filling_up import receipt, with_a_second_key
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller, sealed_sizes
from tests.harness.classroom import Classroom, Device, assignment, work_of
from tests.harness.entries import SOME_RECEIPT
from tests.harness.http_room import http_room
from tests.harness.portal import portal
from tests.harness.work import assert_grows_as_its_entries, counted_work

PATIENCE_S = 10.0
FILES = {f"{number}.bin": Random(number).randbytes(90_000) for number in range(10)}


# --- batches ----------------------------------------------------------------------------------------------------------


async def lesson_and_its_names(room: Classroom) -> tuple[bytes, list[list[bytes]]]:
    """The stream of a lesson at the server; of each of its files the names of what holds it."""
    teacher = await room.teacher()
    item = (await room.publish(teacher, FILES)).item
    await teacher.session.sync()
    stream = (await room.territory.replica.view(room.space)).coursework.items[item].shown.record.content.stream
    lists = await room.territory.holdings.lists(Need(room.space, stream, sealed=False))
    assert lists is not None
    return stream, [[name, *(chunk.hash for chunk in chunks)] for name, chunks in lists.items()]


async def ask_without(room: Classroom, thief: Device, stream: bytes, names: list[list[bytes]], left: int) -> None:
    """Wish for the lesson as somebody who holds all of it but one file."""
    held = HeldNames.of([name for number, some in enumerate(names) if number != left for name in some])
    calls = SealedCalls(thief.agent, thief.way)
    await calls.sync(SyncRequest(want=(Wanted(room.space, stream),), held=(Held(room.space, held.encode()),)))


@attack(
    "one machine keeps the server busy",
    off={"protocol.replica.content.batches.Batches._take_share": lambda *_: True},
)
async def test_who_asks_a_little_differently_each_time_has_few_batches_made(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCHED_BYTES_PER_PERIOD", 250_000)
    stream, names = await lesson_and_its_names(room)
    thief = await room.machine()
    files = [number for number, some in enumerate(names) if some[0] != stream]
    for left in files[:4]:
        await ask_without(room, thief, stream, names, left)
    assert len(await room.territory.replica.content.deltas(room.space)) == 2


async def test_nobody_waits_for_the_batch_of_another(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answered, add = Event(), Event(), batches._add

    def until_the_other_is_answered(*given: Any) -> None:
        begun.set()
        assert answered.wait(PATIENCE_S)
        add(*given)

    monkeypatch.setattr(batches, "_add", until_the_other_is_answered)
    stream, names = await lesson_and_its_names(room)
    one, other = await room.machine(), await room.machine()
    files = [number for number, some in enumerate(names) if some[0] != stream]
    content = room.territory.replica.content
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask_without(room, one, stream, names, files[0]))
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        await ask_without(room, other, stream, names, files[1])
        assert not await content.deltas(room.space), "it has packs"
        answered.set()
    assert len(await content.deltas(room.space)) == 1


# --- content that lacks a part ----------------------------------------------------------------------------------------


CHUNKS_OF_NOTHING = 3_000


async def long_list_of_nothing(room: Classroom, thief: Caller) -> ContentRef:
    """Let the server have a list, in the form of sealed work, of chunks that nobody has."""
    writer = PackWriter(level=3)
    writer.add_chunk(b"x" * 100)
    sizes = sealed_sizes((CHUNKS_OF_NOTHING - 1) * SEALED_CHUNK_BYTES)
    names = tuple(ChunkRef(number.to_bytes(32, "big"), size) for number, size in enumerate(sizes))
    writer.add_stream(names)
    writer.finish()
    await thief.sync(SyncRequest(packs=(InlinePack(room.space, writer.take()),)))
    return ContentRef(stream_id(names), sum(sizes), 0)


async def hand_in_often(room: Classroom, thief: Caller, item: bytes, content: ContentRef, times: int) -> None:
    work = HandIn(content, None).encode()
    said = [thief.say(room.space, Kind.HAND_IN, work, subject=room.pupil_person, target=item) for _ in range(times)]
    await thief.sync(SyncRequest(push=tuple(said)))


async def work_of_a_quiet_sync(device: Device) -> int:
    with counted_work() as work:
        await device.session.sync()
    return work.lines


@attack(
    "one machine keeps the server busy", off={"protocol.replica.content.holdings.Holdings._remember": lambda *_: None}
)
async def test_a_long_list_of_what_nobody_has_is_read_once_however_many_hand_ins_name_it(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await assignment(room, teacher, machine)
    await machine.session.sync()
    before = await work_of_a_quiet_sync(machine)
    thief = await caller(room.territory, room.frontage.responder, Role.MACHINE, room.space, seed=9)
    content = await long_list_of_nothing(room, thief)
    await hand_in_often(room, thief, item, content, 5)
    for _ in range(2):
        await machine.session.sync()
    assert await work_of_a_quiet_sync(machine) < before + CHUNKS_OF_NOTHING


def once_for_each(outgoing: Outgoing, need: Need, _beyond: frozenset[bytes] = frozenset()) -> Awaitable[list[PackInfo]]:
    return outgoing._holdings.packs(need)


@attack(
    "one machine keeps the server busy",
    off={
        "protocol.replica.answering.outgoing.Outgoing._packs": once_for_each,
        "protocol.replica.content.holdings.Holdings._remembered": lambda *_: None,
    },
)
async def test_an_answer_looks_once_for_the_content_that_many_hand_ins_name(room: Classroom) -> None:
    teacher = await room.teacher()
    item = await assignment(room, teacher)
    thief = await caller(room.territory, room.frontage.responder, Role.MACHINE, room.space, seed=9)
    content = await long_list_of_nothing(room, thief)
    costs = []
    for seed, more in ((10, 5), (11, 5)):
        await hand_in_often(room, thief, item, content, more)
        asks = await caller(
            room.territory, room.frontage.responder, Role.TEACHER, room.space, seed=seed, person=room.teacher_person
        )
        with counted_work() as work:
            answer = await asks.sync(SyncRequest())
        assert any(InlinePack(pack.space, pack.data) in answer.packs for pack in answer.packs), "what is here goes out"
        costs.append(work.lines)
    assert costs[1] < costs[0] + CHUNKS_OF_NOTHING


@attack(
    "one machine keeps the server busy", off={"protocol.replica.content.holdings.Holdings._remembered": lambda *_: None}
)
async def test_a_laptop_that_looks_for_room_reads_once_what_many_hand_ins_name(room: Classroom) -> None:
    teacher = await room.teacher()
    item = await assignment(room, teacher)
    thief = await caller(room.territory, room.frontage.responder, Role.MACHINE, room.space, seed=9)
    content = await long_list_of_nothing(room, thief)
    await hand_in_often(room, thief, item, content, 10)
    for _ in range(2):
        await teacher.session.sync()
    with counted_work() as work:
        pieces = await Worths(teacher.agent).pieces()
    assert len([piece for piece in pieces if piece.need.stream == content.stream]) == 10
    assert work.lines < 5 * CHUNKS_OF_NOTHING


# --- places among those who are answered ------------------------------------------------------------------------------


THIEF, SOMEBODY = "127.0.0.66", "127.0.0.1"


def post(url: str, path: str, body: bytes, address: str) -> int:
    """The status of a call from an address of this machine."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=60, source_address=(address, 0))
    with closing(connection):
        connection.request("POST", path, body)
        return connection.getresponse().status


@attack(
    "one machine keeps the server busy",
    off={"protocol.replica.http.calls.Calls._turn_of": lambda *_: nullcontext()},
)
async def test_the_last_place_is_not_for_an_address_that_has_all_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, asked, in_turn = asyncio.Event(), asyncio.Semaphore(0), Calls._in_turn

    async def long_work(_request: object) -> bytes:
        await release.wait()
        return b""

    async def noted(calls: Calls, asker: str, call: Call, body: bytes) -> Reply:
        asked.release()
        return await in_turn(calls, asker, call, body)

    monkeypatch.setattr(Calls, "_in_turn", noted)
    async with http_room(tmp_path) as made:
        thief, server = await made.room.machine(), made.room.territory.keys
        made.responder.add_handler(Call.RECONCILE, long_work)
        random = Random(1)
        body = seal_request(
            Call.RECONCILE,
            b"",
            device=thief.agent.keys.signing,
            recipient_public=server.agreement.public,
            reply=AgreementKey(random.randbytes(32)),
            ephemeral=random.randbytes(32),
        )
        calls = [
            asyncio.create_task(asyncio.to_thread(post, made.url, RECONCILE_PATH, body, THIEF))
            for _ in range(CALLS_AT_ONCE)
        ]
        for _ in calls:
            await asked.acquire()
        good = asyncio.create_task(asyncio.to_thread(post, made.url, ENROLL_PATH, b"", SOMEBODY))
        answered, _ = await asyncio.wait([good], timeout=PATIENCE_S)
        release.set()
        await asyncio.gather(good, *calls)
        assert answered, "a good client was kept waiting"


# --- what the server lacks --------------------------------------------------------------------------------------------


def invented(room: Classroom, thief: Device, grant: bytes, task: bytes, number: int) -> Entry:
    """A hand-in whose content there is not."""
    payload = HandIn(ContentRef(number.to_bytes(32, "big"), 5_000, 0), None).encode()
    return compose(
        author=thief.agent.keys.signing,
        space=room.space,
        kind=Kind.HAND_IN,
        grant=grant,
        at=(1 << 40) + number,
        payload=payload,
        salt=bytes(16),
        subject=room.pupil_person,
        target=task,
    )


async def always_the_first(lacks: Lacks, _device: bytes, readable: Mapping[bytes, Authority]) -> list[Wanted]:
    needs = [need for space in readable for need in await lacks._scope.needs(space)]
    return [Wanted(need.space, need.stream) for need in await lacks._holdings.incomplete(needs, most=200)]


@attack("one machine keeps the server busy", off={"protocol.replica.answering.lacks.Lacks.asked_of": always_the_first})
async def test_invented_work_keeps_the_server_from_asking_for_nothing_that_it_has_lost(room: Classroom) -> None:
    teacher, lea, thief = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, thief)
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    false = [invented(room, thief, grant, task, number) for number in range(250)]
    await room.territory.replica.admit(false, source=thief.agent.device, now_ms=room.territory.clock())
    work = await room.hand_in(lea, task, {"a.odt": Random(8).randbytes(90_000)})
    await lea.session.sync()
    await lea.session.sync()
    need = Need(room.space, (await work_of(lea, room, work)).record.content.stream, sealed=True)
    content, holdings = room.territory.replica.content, room.territory.holdings
    assert await holdings.is_complete(need)
    await content.drop([pack.hash for pack in await holdings.packs(need)])
    await holdings.forget()
    for _ in range(3):
        await lea.session.sync()
        await teacher.session.sync()
    assert await holdings.is_complete(need)


@attack("one machine keeps the server busy", off={"protocol.replica.at_work.quarantine._ROUNDS": 0})
async def test_what_comes_has_tried_again_what_waits_for_it_and_nothing_else(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief, replica, now_ms = await room.machine(), room.territory.replica, room.territory.clock()
    (_, (other, granted)), successor = await with_a_second_key(room, thief)
    never = (Random(number).randbytes(32) for number in range(50))
    waiting = [receipt(room, other.signing, grant, SOME_RECEIPT, at) for at, grant in enumerate((granted, *never))]
    held = await replica.admit(waiting, source=thief.agent.device, now_ms=now_ms)
    assert len(held.waiting) == 51
    judged: list[bytes] = []
    examine = Door.examine

    def noted(door: Door, entry: Entry, *, signed: bool) -> Verdict:
        judged.append(entry.id)
        return examine(door, entry, signed=signed)

    monkeypatch.setattr(Door, "examine", noted)
    admission = await replica.admit([successor], source=thief.agent.device, now_ms=now_ms)
    assert [entry.id for entry in admission.released] == [waiting[0].id]
    assert judged == [successor.id, waiting[0].id]


# --- confirmations by a phrase ----------------------------------------------------------------------------------------


@attack(
    "a teacher's laptop keeps every machine of its class busy",
    off={
        "protocol.rights.voices.MAX_PHRASES_PER_DEVICE": 1_000,
        "protocol.rights.voices.MAX_PROOFS_PER_GRANT": 1_000,
    },
)
async def test_phrases_times_proofs_of_a_stolen_laptop_cost_no_more_than_a_few_signatures(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    responder, space, person, noise = room.territory.responder(), room.space, room.teacher_person, Random(7)
    thief = await caller(room.territory, responder, Role.TEACHER, space, seed=5, person=person)
    signer = SigningKey(noise.randbytes(32))
    device = (thief.keys.signing.public, thief.keys.agreement.public)
    said = []
    for _ in range(30):
        public = AgreementKey(noise.randbytes(32)).public
        drawn = drawn_by(signer, person, device)
        phrase = PhraseKey(public, noise.randbytes(16), Argon2Cost(), signer.public, drawn)
        said.append(thief.say(space, Kind.PHRASE, phrase.encode(), subject=person))
        proof = Vouch(noise.randbytes(64)).encode()
        said.append(thief.say(space, Kind.VOUCH, proof, subject=person, target=thief.grants[space]))
    *before, last = said
    await thief.sync(SyncRequest(push=tuple(before)))
    verified = 0

    def counted(*signature: bytes) -> bool:
        nonlocal verified
        verified += 1
        return verify(*signature)

    monkeypatch.setattr("protocol.rights.vouching.verify", counted)
    await thief.sync(SyncRequest(push=(last,)))
    await room.territory.replica.view(space)
    assert 0 < verified <= 2 * (MAX_PHRASES_PER_DEVICE + MAX_PROOFS_PER_GRANT)


# --- long lists, looked at for each page and at each refresh ----------------------------------------------------------


async def pages_work(room: Classroom, device: Device) -> tuple[int, str]:
    """What a PC does to show a pupil what she has handed in, and the page."""
    async with portal(device.agent) as site:
        site.cookies[site.cookie("relais-who")] = room.pupil_person.hex()
        await site.get("/work")
        with counted_work() as work:
            page = await site.get("/work")
    return work.lines, page.body.decode()


@attack(
    "one machine hands in without end for one pupil",
    off={"sync_agent.portal.everybody.work_pages.MAX_LISTED_WORKS": 100_000},
)
async def test_work_without_end_in_a_pupils_name_makes_her_page_no_slower_than_it_is_long(room: Classroom) -> None:
    teacher, lea = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, lea)
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    await pages_work(room, lea)
    seen = [await pages_work(room, lea)]
    for first in (0, 250):
        contents = [ContentRef(number.to_bytes(32, "big"), 5_000, 0) for number in range(first, first + 250)]
        said = [thief.hand_in(room.space, task, room.pupil_person, content) for content in contents]
        grant = [stored.entry for stored in await room.territory.replica.store.scan(room.space)]
        await lea.agent.replica.admit([*grant, *said], source=thief.id, now_ms=room.territory.clock())
        seen.append(await pages_work(room, lea))
    assert_grows_as_its_entries(*(lines for lines, _ in seen))
    assert seen[2][1].count('href="/work/') == MAX_LISTED_WORKS
    assert "300 rendus plus anciens" in seen[2][1]


async def one_after_the_other(holdings: Holdings, needs: Sequence[Need]) -> int | None:
    for place, need in enumerate(needs):
        if await holdings.is_complete(need):
            return place
    return None


@attack(
    "versions without end of one lesson",
    off={"protocol.replica.content.holdings.Holdings.first_complete": one_after_the_other},
)
async def test_versions_without_end_whose_content_there_is_not_cost_one_look_and_hide_nothing(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, lea = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, lea)
    thief = await caller(room.territory, room.territory.responder(), Role.TEACHER, room.space, seed=5)
    grant = [stored.entry for stored in await room.territory.replica.store.scan(room.space)]
    versions = [task]
    said = []
    for number in range(300):
        said.append(thief.lesson(room.space, ContentRef(number.to_bytes(32, "big"), 5_000, 1), task, versions[-1]))
        versions.append(said[-1].id)
    await lea.agent.replica.admit([*grant, *said], source=thief.id, now_ms=room.territory.clock())
    item = (await lea.agent.replica.view(room.space)).coursework.items[task]
    looked = 0
    parts = Holdings._parts

    async def counted(holdings: Holdings, need: Need, *, all_of_it: bool = True) -> object:
        nonlocal looked
        looked += 1
        return await parts(holdings, need, all_of_it=all_of_it)

    monkeypatch.setattr(Holdings, "_parts", counted)
    readable = await readable_version(lea.agent, item)
    assert readable is not None
    assert readable.id == task
    assert item.shown.id == versions[-1]
    assert looked < 5


# --- what one request lists -------------------------------------------------------------------------------------------


@attack(
    "one request lists thousands of things", off={"protocol.replica.answering.reports.MAX_REPORTS_OF_ONE_DEVICE": 1_000}
)
async def test_of_reports_of_one_device_few_are_verified_and_the_good_one_is_kept(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    other = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=6)
    now, health = room.territory.clock(), Health("x", "1", "l", None, 0, 0, 0).encode()
    good = compose_register(other.keys.signing, RegisterKind.HEALTH, other.id, now, health).data
    false = [
        compose_register(thief.keys.signing, RegisterKind.HEALTH, thief.id, now + number, health).data
        for number in range(200)
    ]
    verified = 0

    def counted(*signature: bytes) -> bool:
        nonlocal verified
        verified += 1
        return verify(*signature)

    monkeypatch.setattr("protocol.model.register.verify", counted)
    await thief.sync(SyncRequest(registers=(*(data[:-1] + bytes([data[-1] ^ 1]) for data in false), good)))
    assert verified <= 2 * MAX_REPORTS_OF_ONE_DEVICE
    kept = await room.territory.replica.store.registers(RegisterKind.HEALTH)
    assert [row.device for row in kept] == [other.id]


@attack("one request lists thousands of things", off={"protocol.replica.answering.serving.MAX_OFFERS": 10_000})
async def test_of_offers_in_one_request_no_more_are_looked_at_than_an_agent_makes(room: Classroom) -> None:
    thief = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    offers = tuple(Offer(room.space, number.to_bytes(32, "big"), 700) for number in range(MAX_OFFERS + 100))
    assert len((await thief.sync(SyncRequest(offers=offers))).uploads) <= MAX_OFFERS
