"""What may be tried by whoever carries: a server, a proxy, a neighbour, a stick (docs/attacks.md)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace

import pytest
import zstandard
from blake3 import blake3

from protocol.clock import DAY_MS
from protocol.errors import Code, NoAnswer, PeerFault, RelaisError, TooLarge
from protocol.identity import AgreementKey
from protocol.limits import MAX_REQUEST_BYTES
from protocol.messages.lives import Lives, Twin
from protocol.messages.wire import SYNC_PATH, Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.rights.door import Authority
from protocol.rights.revocations import Cuts
from protocol.roles import Role
from protocol.transfer.pack import Codec, Frame, PackReceiver, open_frame
from sync_agent.app import Agent
from sync_agent.keys.succession import TELLINGS, Place, Told
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.sync.session import Session
from sync_agent.transport.answers import Response
from sync_agent.transport.sealed_calls import SealedCalls
from tests.harness.attack import attack
from tests.harness.caller import pack_files
from tests.harness.classroom import SMALL, Classroom
from tests.harness.lan import exchange, listening_device
from tests.harness.wire import MemoryTransport


class Replaying(MemoryTransport):
    """Keeps the server's first answer, and gives it again from then on."""

    kept: Response | None = None

    async def post(self, path: str, body: bytes) -> Response:
        if path != SYNC_PATH:
            return await super().post(path, body)
        if self.kept is None:
            self.kept = await super().post(path, body)
        return self.kept


@attack(
    "freeze, withholding",
    off={
        "protocol.trust.envelope.request_hash": lambda _request: bytes(32),
        "sync_agent.transport.sealed_calls.AgreementKey": lambda _seed: AgreementKey(bytes(32)),
    },
)
async def test_an_old_answer_given_again_is_no_answer(room: Classroom) -> None:
    machine = await room.machine()
    await machine.session.sync()
    frozen = Session(machine.agent, Replaying(room.frontage))
    await frozen.sync()
    room.territory.clock.advance(3 * DAY_MS)
    with pytest.raises(RelaisError):
        await frozen.sync()


@attack("endless data", off={"protocol.trust.envelope.MAX_REQUEST_BYTES": 2**40})
async def test_a_message_beyond_the_bound_is_not_even_opened(room: Classroom) -> None:
    with pytest.raises(TooLarge):
        await room.territory.responder().answer(Call.SYNC, b"\x00" * (MAX_REQUEST_BYTES + 1))


@attack("endless data", off={"protocol.transfer.pack.zstandard.get_frame_parameters": lambda _data: _Claimed})
async def test_a_frame_that_would_grow_beyond_what_it_declares_is_not_unfolded() -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * 1024 * 1024))
    frame = Frame(0, len(bomb), 1_000, Codec.ZSTD, blake3(bomb).digest(), (1_000,))
    with pytest.raises(PeerFault, match="declares a wrong size"):
        open_frame(frame, bomb)


class _Claimed:
    content_size = 1_000


@attack("mix-and-match, wrong item", off={"protocol.transfer.pack.PackReceiver.finish": lambda _receiver: None})
async def test_another_pack_than_the_one_that_was_asked_for_is_not_taken(room: Classroom) -> None:
    wanted = (await pack_files(SMALL)).packs[0]
    other = (await pack_files({"lecon.html": b"<h1>Autre chose</h1>", "notes/memo.txt": b"un deux trois"})).packs[0]
    receiver = PackReceiver(blake3(wanted).digest(), len(other))
    receiver.feed(other)
    with pytest.raises(PeerFault):
        receiver.finish()


@attack("mix-and-match, wrong item", off={"protocol.transfer.pack.blake3": lambda data=b"": _Yes(data)})
async def test_a_changed_byte_in_a_pack_is_found_before_it_is_seen() -> None:
    honest = zstandard.ZstdCompressor().compress(b"2 + 2 = 4")
    frame = Frame(0, len(honest), 9, Codec.ZSTD, blake3(honest).digest(), (9,))
    with pytest.raises(PeerFault):
        open_frame(frame, zstandard.ZstdCompressor().compress(b"2 + 2 = 5"))


class _Yes:
    """A hash that every content has."""

    def __init__(self, data: bytes) -> None:
        del data

    def digest(self) -> _Yes:
        return self

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


async def _whatever_certificate(agent: Agent, shown: bytes, entries: Sequence[Entry], _way: object) -> Authority:
    """The first device that the chain names, whoever shows it."""
    door = agent.replica.door
    named = next(found for entry in entries if (found := door.authority(entry.id)) and found.tls_sha256)
    return replace(named, tls_sha256=shown)


async def any_certificate(_replica: object, _device: object) -> None:
    """As if whoever was met went on being who they were."""


class TellsOfATwin(Lives):
    """Says of every caller that another lives with its key, and came before it."""

    def hear(self, device: bytes, life: bytes | None, given_ms: int | None = None, now_ms: int = 0) -> Twin:
        del device, life, given_ms, now_ms
        return Twin.LATER


def _due_when_told(role: Role | None, *, elsewhere: bool, told: Told, **_: bool) -> bool:
    """Whoever has rights gives their keys up when told so often enough."""
    return role is not None and (elsewhere or told.times >= TELLINGS)


@attack(
    "a hostile or broken peer",
    off={
        "sync_agent.lan.exchange.peer_calls.PeerCalls._heard": SealedCalls._heard,
        "sync_agent.keys.succession.is_due": _due_when_told,
    },
)
async def test_a_neighbour_that_tells_of_a_twin_takes_nobodys_rights(room: Classroom) -> None:
    teacher, evil = await room.teacher(), await room.machine()
    place, folder, now_ms = Place({}), teacher.agent.folder, room.territory.clock
    room.devices.remove(teacher)
    await teacher.close()
    responder = LanResponder(evil.agent)
    responder.lives = TellsOfATwin()
    async with listening_device(evil.agent, responder) as address:
        agent = await place.open(folder, now_ms, room.territory.entropy)
        for _ in range(TELLINGS):
            await exchange_once(agent, address)
        await agent.close()
    again = await place.open(folder, now_ms, room.territory.entropy)
    role = await again.role()
    await again.close()
    assert role is Role.TEACHER


def _believes_any_copy(place: Place, told: Twin) -> bool:
    """A copy of the key is believed on whatever machine this is."""
    place._hear(told)
    return place.gives_way.is_set()


@attack(
    "a hostile or broken peer",
    off={
        "sync_agent.keys.succession.Place._hear_nearby": _believes_any_copy,
        "sync_agent.keys.succession.is_due": _due_when_told,
    },
)
async def test_a_stolen_copy_of_a_teachers_disk_takes_the_teacher_no_right_where_no_server_answers(
    room: Classroom,
) -> None:
    device = await room.teacher()
    place, folder, now_ms = Place({}), device.agent.folder, room.territory.clock
    room.devices.remove(device)
    await device.close()
    shutil.copytree(folder, room.folder / "stolen")
    teacher = await place.open(folder, now_ms, room.territory.entropy)
    thief = await Place({}).open(room.folder / "stolen", now_ms, room.territory.entropy)
    thief.life.nonce = bytes(len(thief.life.nonce))
    for _ in range(TELLINGS):
        for caller, called in ((thief, teacher), (teacher, thief)):
            async with listening_device(called) as address:
                with pytest.raises(NoAnswer, match="a copy of this device"):
                    await exchange_once(caller, address)
    await thief.close()
    await teacher.close()
    assert not place.gives_way.is_set()


@attack(
    "a hostile or broken peer",
    off={
        "sync_agent.lan.exchange.meeting._device_with": _whatever_certificate,
        "sync_agent.lan.exchange.peer_session.check_certificate": any_certificate,
    },
)
async def test_a_machine_between_two_others_passes_for_neither(room: Classroom) -> None:
    teacher, between, caller = await room.teacher(), await room.machine(), await room.machine()
    await caller.session.sync()
    await room.publish(teacher, SMALL)
    teacher.agent.keys = replace(teacher.agent.keys, tls=between.agent.keys.tls)
    with pytest.raises(PeerFault) as fault:
        await exchange(caller.agent, teacher.agent)
    assert fault.value.code is Code.WRONG_KEY


@attack("a hostile or broken peer", off={"protocol.rights.roster.cuts_of": lambda *_: Cuts()})
async def test_a_device_that_was_let_go_learns_nothing_from_a_neighbour(room: Classroom) -> None:
    teacher, lost = await room.teacher(), await room.machine()
    await exchange(lost.agent, teacher.agent)
    await room.territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, ()).encode())
    await teacher.session.sync()
    item = (await room.publish(teacher, SMALL)).item
    with pytest.raises(RelaisError):
        await exchange(lost.agent, teacher.agent)
    assert item not in (await lost.agent.replica.view(room.space)).coursework.items
