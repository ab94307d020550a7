"""A request is a few kilobytes that stand for a great deal: nobody reads that for a caller without a right.

docs/attacks.md, "a small request stands for much".
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from protocol.canonical import Value
from protocol.identity import AgreementKey, DeviceKeys
from protocol.limits import MAX_HELD_BYTES, MAX_HELD_NAMES, GiB
from protocol.messages.calls import SyncRequest
from protocol.messages.held_names import HeldNames
from protocol.messages.parts import Held, read_held
from protocol.messages.wire import Call
from protocol.model.entry import Kind
from protocol.replica.answering.serving import Responder
from protocol.roles import Role
from protocol.trust.envelope import seal_request
from sync_agent.lan.exchange.listener import LanResponder
from tests.harness.attack import attack
from tests.harness.caller import caller
from tests.harness.classroom import Classroom
from tests.harness.entries import SOME_RECEIPT
from tests.harness.territory import new_device
from tests.harness.work import counted_work

ROW = "a small request stands for much"
MANY_NAMES = bytes(MAX_HELD_NAMES)
STRANGER = 403


async def cost_of(responder: Responder, public: bytes, keys: DeviceKeys, request: SyncRequest, noise: Random) -> int:
    """The work of refusing a sync request of a device that nobody knows."""
    reply = AgreementKey(noise.randbytes(32))
    ephemeral = noise.randbytes(32)
    body = seal_request(
        Call.SYNC, request.encode(), device=keys.signing, recipient_public=public, reply=reply, ephemeral=ephemeral
    )
    with counted_work() as work:
        assert (await responder.answer(Call.SYNC, body)).status == STRANGER
    return work.lines


@attack(
    ROW, off={"protocol.replica.answering.serving.credentials_in": lambda data: SyncRequest.parse(data).credentials}
)
async def test_of_a_stranger_only_the_proof_of_who_he_is_is_read_by_the_server_and_by_a_neighbour(
    room: Classroom,
) -> None:
    machine, noise = await room.machine(), Random(11)
    author = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    said = [author.say(room.space, Kind.RECEIPT_SAFE, SOME_RECEIPT, target=bytes(32)) for _ in range(500)]
    stranger = new_device(noise.randbytes)
    for responder, public in (
        (room.territory.responder(), room.territory.keys.agreement.public),
        (LanResponder(machine.agent), machine.agent.keys.agreement.public),
    ):
        small, large = SyncRequest(), SyncRequest(push=tuple(said), registers=(bytes(9),) * 5_000)
        _, quiet, loud = [
            await cost_of(responder, public, stranger, request, noise) for request in (small, small, large)
        ]
        assert loud <= 2 * quiet


def read_at_once(rows: Sequence[Value]) -> tuple[Held, ...]:
    """`read_held` that looks into the names of each row."""
    held = read_held(rows)
    for each in held:
        HeldNames.parse(each.names)
    return held


@pytest.fixture
def names_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many names of what callers hold have been read, one number for each set."""
    read: list[int] = []
    parse = HeldNames.parse

    def counted(data: bytes) -> HeldNames:
        names = parse(data)
        read.append(len(names.names))
        return names

    monkeypatch.setattr(HeldNames, "parse", counted)
    return read


@attack(ROW, off={"protocol.messages.calls.read_held": read_at_once})
async def test_what_somebody_holds_of_spaces_that_are_closed_to_him_is_not_read(
    room: Classroom, names_read: list[int]
) -> None:
    machine = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    await machine.sync(SyncRequest(held=(Held(bytes(32), MANY_NAMES),)))
    assert sum(names_read) == 0


@attack(ROW, off={"protocol.messages.parts.MAX_HELD_BYTES": GiB})
async def test_what_a_machine_holds_of_all_its_spaces_is_bounded_together(
    room: Classroom, names_read: list[int]
) -> None:
    machine = await caller(room.territory, room.territory.responder(), Role.MACHINE, room.space, seed=5)
    await machine.sync(SyncRequest(held=(Held(room.space, MANY_NAMES),) * 8))
    assert 0 < sum(names_read) <= MAX_HELD_BYTES
