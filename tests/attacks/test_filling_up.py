"""One signed-in pupils' PC fills, poisons or tires out what all of a class share (docs/attacks.md)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest
from blake3 import blake3

from protocol.errors import Code, PeerFault
from protocol.folds.coursework import HandInState
from protocol.identity import DeviceKeys, SigningKey
from protocol.limits import (
    ALLOWANCE_PERIOD_MS,
    MAX_HEALTH_BYTES,
    MAX_LACKING_BYTES_PER_DEVICE,
    MAX_PACK_BYTES,
    SPARE_CONTENT_BYTES,
    GiB,
    KiB,
    MiB,
)
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack, Offer, Wanted
from protocol.model.entry import Entry, Kind, compose
from protocol.model.register import RegisterKind, compose_register
from protocol.model.structure import Grant, Successor
from protocol.model.work import ContentRef, HandIn, Receipt
from protocol.replica.answering.allowances import Allowances
from protocol.replica.answering.outgoing import NamedStreams, Outgoing
from protocol.replica.content.holdings import Need
from protocol.replica.interfaces import PackInfo
from protocol.roles import READS_HAND_INS, Role
from protocol.transfer.crossing import crossing
from protocol.transfer.delta import Own, Spliced
from protocol.transfer.delta_writer import DeltaWriter
from sync_agent.app import RoomLimits
from sync_agent.hand_ins.copies import Copies
from sync_agent.sync.room import Room
from sync_agent.transport.sealed_calls import SealedCalls
from tests.harness.attack import attack
from tests.harness.caller import caller, pack_files
from tests.harness.classroom import LARGE, Classroom, Device, assignment, state_at, work_of
from tests.harness.copied_keys import kept_safe
from tests.harness.entries import SOME_RECEIPT
from tests.harness.territory import new_device


async def begin_with_junk(room: Classroom, device: Device, pack: PackInfo) -> None:
    """Send all bytes of a pack but the last, all of them wrong."""
    answer = await SealedCalls(device.agent, device.way).sync(
        SyncRequest(offers=(Offer(room.space, pack.hash, pack.size),))
    )

    async def junk(length: int) -> AsyncIterator[bytes]:
        yield Random(7).randbytes(length)

    for upload in answer.uploads:
        length = pack.size - 1 - upload.offset
        await device.way.send(upload.capability, upload.offset, length, junk(length))


@attack(
    "somebody else's bytes under a pack's name",
    off={"protocol.replica.content.kept.packs.part_name": lambda pack, _sender=b"": f"parts/{pack.hex()}.part"},
)
async def test_junk_under_the_name_of_a_pupils_work_does_not_keep_the_work_from_arriving(room: Classroom) -> None:
    teacher, lea, thief = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, thief)
    work = await room.hand_in(lea, task, {"a.odt": Random(1).randbytes(90_000)})
    said = await lea.agent.replica.store.unsent(1 << 20)
    await room.territory.replica.admit(said, source=lea.agent.device, now_ms=room.territory.clock())
    (pack,) = await lea.agent.replica.content.unsent_packs()
    await begin_with_junk(room, thief, pack)
    try:
        await lea.session.sync()
    except Exception as failure:  # noqa: BLE001  (any failure is the attacker's success)
        pytest.fail(str(failure))
    assert (await room.territory.replica.view(room.space)).coursework.hand_ins[work].at_server


async def with_a_second_key(room: Classroom, device: Device) -> tuple[list[tuple[DeviceKeys, bytes]], Entry]:
    """A device's own keys, and others that it gives itself, each with a grant; and what says so."""
    grant = (await device.agent.replica.authorities(device.agent.device))[0].grant
    other = new_device(Random(5).randbytes)
    payload = Successor.agreed(
        other.signing, other.agreement.public, other.tls.fingerprint, room.space, device.agent.device
    ).encode()
    said = compose(
        author=device.agent.keys.signing,
        space=room.space,
        kind=Kind.SUCCESSOR,
        grant=grant,
        at=1 << 17,
        payload=payload,
        salt=bytes(16),
    )
    return [(device.agent.keys, grant), (other, said.id)], said


@attack("a machine says that it keeps what it never had", off={"sync_agent.hand_ins.copies.vouches": lambda *_: True})
async def test_who_signs_for_work_that_it_was_not_given_makes_nothing_safe_and_takes_no_place(room: Classroom) -> None:
    teacher, lea, liar, honest = await room.teacher(), await room.machine(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, liar, honest)
    work = await work_of(lea, room, await room.hand_in(lea, task, {"a.odt": b"x" * 9_000}))
    keys, successor = await with_a_second_key(room, liar)
    receipts = [kept_safe(key.signing, grant, room.space, work) for key, grant in keys]
    await lea.agent.replica.admit([successor, *receipts], source=liar.agent.device, now_ms=room.territory.clock())
    assert len((await work_of(lea, room, work.id)).copies) == 2
    assert await state_at(lea, room, work.id) is HandInState.LOCAL
    copies = Copies(lea.agent, lambda: {liar.agent.device, honest.agent.device})
    assert await copies.entrusted(room.space, honest.agent.device)


@attack(
    "a machine says that it keeps what it never had",
    off={"protocol.rights.door.Door.origin": lambda _door, key: key},
)
async def test_keys_that_a_machine_gave_itself_take_the_place_of_no_other_machine(room: Classroom) -> None:
    teacher, lea, liar, honest = await room.teacher(), await room.machine(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, liar, honest)
    machines = [liar.agent.device, honest.agent.device]
    grant = (await liar.agent.replica.authorities(liar.agent.device))[0].grant
    for number in range(40):
        other = new_device(Random(number).randbytes)
        said = compose(
            author=liar.agent.keys.signing,
            space=room.space,
            kind=Kind.SUCCESSOR,
            grant=grant,
            at=(1 << 17) + number,
            payload=Successor.agreed(
                other.signing, other.agreement.public, other.tls.fingerprint, room.space, liar.agent.device
            ).encode(),
            salt=bytes(16),
        )
        await lea.agent.replica.admit([said], source=liar.agent.device, now_ms=room.territory.clock())
        machines.append(other.signing.public)
    await room.hand_in(lea, task, {"a.odt": b"x" * 9_000})
    copies = Copies(lea.agent, lambda: set(machines))
    assert await copies.entrusted(room.space, honest.agent.device)


UNBOUNDED = {"protocol.replica.answering.allowances.Allowance.most": property(lambda _allowance: 1 << 60)}


@attack("content that nobody asked for", off=UNBOUNDED)
async def test_packs_that_no_entry_names_are_not_asked_for(room: Classroom) -> None:
    teacher, thief = await room.teacher(), await room.machine()
    await assignment(room, teacher, thief)
    calls = SealedCalls(thief.agent, thief.way)
    offers = tuple(Offer(room.space, bytes([number]) * 32, MAX_PACK_BYTES) for number in range(40))
    assert not (await calls.sync(SyncRequest(offers=offers))).uploads


@attack("content that nobody asked for", off=UNBOUNDED)
async def test_who_has_brought_what_nobody_asked_for_brings_no_more_of_it_with_any_key(room: Classroom) -> None:
    teacher, thief = await room.teacher(), await room.machine()
    await assignment(room, teacher, thief)
    _, successor = await with_a_second_key(room, thief)
    now_ms = room.territory.clock()
    await room.territory.replica.admit([successor], source=thief.agent.device, now_ms=now_ms)
    other = Successor.parse(successor.payload or b"").signing
    allowances = room.frontage.responder.allowances
    await allowances.note(room.space, other, SPARE_CONTENT_BYTES - 1_000, lacking=0)
    packed = await pack_files({"rien.bin": Random(2).randbytes(20_000)})
    calls = SealedCalls(thief.agent, thief.way)
    before = await room.territory.replica.content.totals()
    await calls.sync(SyncRequest(packs=(InlinePack(room.space, packed.packs[0]),)))
    assert await room.territory.replica.content.totals() == before


@attack("content that nobody asked for", off={"protocol.replica.answering.allowances._SAVED_BYTES": 1 << 60})
async def test_what_a_machine_has_brought_counts_for_a_month_however_often_the_server_starts(room: Classroom) -> None:
    territory, device = room.territory, (await room.machine()).agent.device

    def begun() -> Allowances:
        return Allowances(territory.replica, territory.holdings, territory.clock)

    full = await begun().of(room.space, device)
    for _ in range(4):
        await begun().note(room.space, device, SPARE_CONTENT_BYTES // 4, lacking=0)
    assert (await begun().of(room.space, device)).most == 0
    territory.clock.advance(ALLOWANCE_PERIOD_MS)
    assert (await begun().of(room.space, device)).most == full.most


@attack("content that nobody asked for", off=UNBOUNDED)
async def test_a_delta_makes_no_more_than_what_is_wanted(room: Classroom) -> None:
    teacher, thief = await room.teacher(), await room.machine()
    await assignment(room, teacher, thief)
    data = delta_bomb()
    calls = SealedCalls(thief.agent, thief.way)
    offer = Offer(room.space, blake3(data).digest(), len(data))
    (upload,) = (await calls.sync(SyncRequest(offers=(offer,)))).uploads
    before = await room.territory.replica.content.totals()

    async def bytes_of_it() -> AsyncIterator[bytes]:
        hidden = crossing(upload.key, 0)
        for at in range(0, len(data), 262_144):
            yield hidden(data[at : at + 262_144])

    with suppress(PeerFault):
        await thief.way.send(upload.capability, 0, len(data), bytes_of_it())
    assert await room.territory.replica.content.totals() == before


def delta_bomb() -> bytes:
    """A delta of 2 MB that makes 12 MB of files, no two of which share a chunk."""
    writer, base, random = DeltaWriter(()), Random(3).randbytes(2 * MiB), Random(1)
    writer.add_frame(base, (), b"")
    writer.add_target(Spliced((len(base),)))
    for _ in range(5):
        starts = [random.randrange(0, len(base) - 8 * KiB) for _ in range(256)]
        writer.add_target(Spliced(tuple(Own(start, 8 * KiB) for start in starts)))
    data = writer.take()
    writer.finish()
    return data + writer.take()


@attack(
    "content that nobody asked for",
    off={"protocol.replica.answering.allowances.MAX_LACKING_BYTES_PER_DEVICE": 1 << 60},
)
async def test_sizes_that_somebody_invents_open_no_door(room: Classroom) -> None:
    teacher, thief = await room.teacher(), await room.machine()
    task = await assignment(room, teacher, thief)
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    invented = [
        compose(
            author=thief.agent.keys.signing,
            space=room.space,
            kind=Kind.HAND_IN,
            grant=grant,
            at=number << 16,
            payload=HandIn(ContentRef(bytes([number]) * 32, 4 * GiB, 0), None).encode(),
            salt=bytes(16),
            subject=room.pupil_person,
            target=task,
        )
        for number in range(20)
    ]
    await room.territory.replica.admit(invented, source=thief.agent.device, now_ms=room.territory.clock())
    allowance = await room.frontage.responder.allowances.of(room.space, thief.agent.device)
    assert allowance.lacking <= MAX_LACKING_BYTES_PER_DEVICE


def receipt(room: Classroom, writer: SigningKey, grant: bytes, payload: bytes, number: int = 0) -> Entry:
    return compose(
        author=writer,
        space=room.space,
        kind=Kind.RECEIPT_SAFE,
        grant=grant,
        at=(room.territory.clock() << 16) + number,
        payload=payload,
        salt=bytes(16),
        subject=room.pupil_person,
        target=bytes(32),
    )


@attack("one machine floods a class with entries", off={"protocol.rights.door.fault_of": lambda _entry: None})
@pytest.mark.parametrize("noise", [b"\x80", bytes(60_000)])
async def test_noise_in_the_place_of_a_receipt_goes_nowhere(room: Classroom, noise: bytes) -> None:
    thief = await room.machine()
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    entry = receipt(room, thief.agent.keys.signing, grant, noise)
    replica = room.territory.replica
    admission = await replica.admit([entry], source=thief.agent.device, now_ms=room.territory.clock(), bounded=True)
    assert not admission.admitted


@attack(
    "one machine floods a class with entries",
    off={"protocol.replica.at_work.quotas.Quotas._counts": lambda *_: False},
)
@pytest.mark.parametrize(
    ("bound", "most"), [("MAX_ENTRIES_PER_KEY", 5), ("MAX_ENTRIES_PER_DEVICE", 10), ("MAX_ENTRY_BYTES_PER_DEVICE", 400)]
)
async def test_nobody_carries_all_that_a_machine_says_without_end(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(f"protocol.replica.at_work.quotas.{bound}", most)
    thief = await room.machine()
    keys, successor = await with_a_second_key(room, thief)
    now_ms, replica = room.territory.clock(), room.territory.replica
    await replica.admit([successor], source=thief.agent.device, now_ms=now_ms, bounded=True)
    flood = [
        receipt(room, key.signing, grant, Receipt(bytes(32)).encode(), number)
        for number in range(8)
        for key, grant in keys
    ]
    came = 0
    for some in (flood[:9], flood[9:]):
        admission = await replica.admit(some, source=thief.agent.device, now_ms=now_ms, bounded=True)
        came += len(admission.admitted)
        refused = {refusal.code for refusal in admission.refused}
    assert came < len(flood)
    assert refused == {Code.OVER_QUOTA}


@attack("one machine floods a class with entries", off={"protocol.rights.door.Door.origin": lambda _door, key: key})
async def test_keys_that_a_machine_gave_itself_share_one_place_in_quarantine(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quarantine.MAX_WAITING_ENTRIES", 4)
    thief = await room.machine()
    keys, successor = await with_a_second_key(room, thief)
    now_ms, replica = room.territory.clock(), room.territory.replica
    await replica.admit([successor], source=thief.agent.device, now_ms=now_ms)
    for number, (key, _) in enumerate(keys):
        waiting = [receipt(room, key.signing, bytes([9]) * 32, SOME_RECEIPT, number * 4 + other) for other in range(4)]
        await replica.admit(waiting, source=key.signing.public, now_ms=now_ms)
    assert len(await replica.store.held()) == 4


@attack(
    "one machine fills a store with reports",
    off={"protocol.replica.answering.reports.is_report": lambda _register: True},
)
async def test_keys_that_a_machine_gave_itself_and_noise_fill_no_store_with_reports(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 1)
    thief = await room.machine()
    keys, successor = await with_a_second_key(room, thief)
    now_ms, territory = room.territory.clock(), room.territory
    await territory.replica.admit([successor], source=thief.agent.device, now_ms=now_ms)
    rows = [
        compose_register(key.signing, kind, subject, now_ms + 1, bytes(7_000)).data
        for key, _ in keys
        for kind, subject in (
            (RegisterKind.HEALTH, key.signing.public),
            *((2, space) for space in territory.replica.door.lineage(room.space)),
        )
    ]
    await SealedCalls(thief.agent, thief.way).sync(SyncRequest(registers=tuple(rows)))
    assert sum(len(row.data) for row in await territory.replica.store.registers()) <= len(keys) * MAX_HEALTH_BYTES


def only_a_sole_author(outgoing: Outgoing, _streams: NamedStreams, sealed: Wanted) -> bool:
    """Who fetches sealed work, if whoever names it too takes it from its author."""
    return outgoing._readable[sealed.space].role in READS_HAND_INS


def hand_in_of(room: Classroom, device: Device, grant: bytes, task: bytes, content: ContentRef, at: int) -> Entry:
    return compose(
        author=device.agent.keys.signing,
        space=room.space,
        kind=Kind.HAND_IN,
        grant=grant,
        at=at,
        payload=HandIn(content, None).encode(),
        salt=bytes(16),
        subject=room.pupil_person,
        target=task,
    )


@attack(
    "somebody else names a pupil's sealed work",
    off={"protocol.replica.answering.outgoing.Outgoing._may_fetch": only_a_sole_author},
)
async def test_who_names_a_pupils_sealed_work_too_does_not_keep_it_from_its_author(room: Classroom) -> None:
    teacher, lea, thief = await room.teacher(), await room.machine(), await room.machine()
    task = await assignment(room, teacher, lea, thief)
    work = await room.hand_in(lea, task, {"a.odt": b"x" * 9_000})
    await lea.session.sync()
    content = (await work_of(lea, room, work)).record.content
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    now_ms = room.territory.clock()
    false = hand_in_of(room, thief, grant, task, content, now_ms << 16)
    await room.territory.replica.admit([false], source=thief.agent.device, now_ms=now_ms)
    answer = await SealedCalls(lea.agent, lea.way).sync(SyncRequest(want=(Wanted(room.space, content.stream),)))
    (pack,) = await lea.agent.holdings.packs(Need(room.space, content.stream, sealed=True))
    assert pack.hash in {blake3(brought.data).digest() for brought in answer.packs}


@attack("hand-ins of invented size that never come", off={"sync_agent.sync.room.FAIR_SHARE_BYTES": 1 << 60})
async def test_work_of_invented_size_keeps_no_place_from_what_is_real(room: Classroom) -> None:
    teacher, relay, thief = await room.teacher(), await room.device(Role.RELAY), await room.machine()
    task = await assignment(room, teacher, relay, thief)
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    in_2040 = 2_208_988_800_000 << 16
    sizes = [1 << 20] * (GiB >> 20)  # the smallest of an author's come first: all alike they leave no place
    invented = [
        hand_in_of(room, thief, grant, task, ContentRef(number.to_bytes(32, "big"), size, 0), in_2040 + number)
        for number, size in enumerate(sizes)
    ]
    real = await room.publish(teacher, LARGE)
    await teacher.session.sync()
    relay.agent.room_limits = RoomLimits(GiB, 0)
    said = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
    await relay.agent.replica.admit([*invented, *said], source=b"neighbour", now_ms=room.territory.clock())
    item = (await relay.agent.replica.view(room.space)).coursework.items[real.item]
    fitting = await Room(relay.agent).fitting(await relay.agent.missing())
    assert Need(room.space, item.shown.record.content.stream, sealed=False) in fitting
    assert not relay.agent.is_disk_full


def claim(room: Classroom, by: Device, grant: bytes, victim: bytes, keys: DeviceKeys, number: int = 0) -> Entry:
    """A successor that a device writes, which gives its own agreement and TLS keys to somebody else's signing key."""
    agreed = Successor.agreed(keys.signing, keys.agreement.public, keys.tls.fingerprint, room.space, by.agent.device)
    return compose(
        author=by.agent.keys.signing,
        space=room.space,
        kind=Kind.SUCCESSOR,
        grant=grant,
        at=(1 << 17) + number,
        payload=replace(agreed, signing=victim).encode(),
        salt=bytes(16),
    )


@attack(
    "a machine calls somebody else's key its own", off={"protocol.model.structure.Successor.holds": lambda *_: True}
)
async def test_nobody_makes_somebody_elses_key_one_of_its_own(room: Classroom) -> None:
    thief, relay = await room.machine(), await room.device(Role.RELAY)
    replica = room.territory.replica
    grant = (await thief.agent.replica.authorities(thief.agent.device))[0].grant
    claims = [
        claim(room, thief, grant, relay.agent.device, new_device(Random(number).randbytes), number)
        for number in range(8)
    ]
    admission = await replica.admit(claims, source=thief.agent.device, now_ms=room.territory.clock())
    assert not admission.admitted
    # it stays what it is, and the next grant is for its own keys
    (mine,) = replica.door.authorities_of(relay.agent.device)
    assert (mine.role, mine.agreement) == (Role.RELAY, relay.agent.keys.agreement.public)


async def test_a_line_of_thousands_of_keys_is_no_longer_to_follow_than_one(room: Classroom) -> None:
    thief = await room.machine()
    grant, by = (await thief.agent.replica.authorities(thief.agent.device))[0].grant, thief.agent.keys
    line = []
    for number in range(600):
        keys = new_device(Random(number).randbytes)
        payload = Successor.agreed(keys.signing, keys.agreement.public, None, room.space, by.signing.public).encode()
        line.append(
            compose(
                author=by.signing,
                space=room.space,
                kind=Kind.SUCCESSOR,
                grant=grant,
                at=(1 << 17) + number,
                payload=payload,
                salt=bytes(16),
            )
        )
        grant, by = line[-1].id, keys
    replica = room.territory.replica
    assert len((await replica.admit(line, source=thief.agent.device, now_ms=room.territory.clock())).admitted) == 600
    assert replica.door.origin(by.signing.public) == thief.agent.device
    calls = 0

    def counting(_frame: object, event: str, _about: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(counting)
    replica.door.origin(by.signing.public)
    sys.setprofile(None)
    assert calls == 1


# --- PCs that were cloned from one image ------------------------------------------------------------------------------


@attack(
    "one cloned PC uses up what all of its image may say",
    off={"protocol.rights.door.Door.origin": lambda *_: b"one image"},
)
async def test_a_clone_that_was_confirmed_has_a_quota_of_its_own(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_DEVICE", 10)
    territory, responder = room.territory, room.territory.responder()
    task = await assignment(room, await room.teacher())
    image = await caller(territory, responder, Role.MACHINE, room.space, seed=5)
    (lea, lea_said), (thief, thief_said) = image.successor(room.space), image.successor(room.space)
    replica, now_ms = territory.replica, territory.clock()
    await replica.admit([lea_said, thief_said], source=image.id, now_ms=now_ms, bounded=True)
    flood = [thief.say(room.space, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)) for _ in range(10)]
    await replica.admit(flood, source=thief.id, now_ms=now_ms, bounded=True)
    content = ContentRef(bytes(32), 1, 0)

    async def codes() -> list[Code]:
        work = lea.hand_in(room.space, task, room.pupil_person, content)
        return [no.code for no in (await replica.admit([work], source=lea.id, now_ms=now_ms, bounded=True)).refused]

    assert await codes() == [Code.OVER_QUOTA]
    right = Grant(lea.id, lea.keys.agreement.public, None, Role.MACHINE, None, None)
    lea.grants[room.space] = (await territory.say(room.space, Kind.GRANT, right.encode())).id
    assert await codes() == []
