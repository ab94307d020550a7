"""A neighbour brings what it was not asked for, where nobody looks for it (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from protocol.clock import at_from
from protocol.folds.space_keys import SpaceSecret
from protocol.messages.calls import ReconcileAnswer, SyncAnswer
from protocol.model.entry import Entry, Kind, compose, encode_header
from protocol.model.structure import Erasure, Ruling
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.courier.exporting import _preface
from sync_agent.courier.survey import IN_CLEAR
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.meeting import chain_for
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.transport.sealed_calls import SealedCalls
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.couriers import bring, courier_class, export, know_keys
from tests.harness.entries import SOME_RECEIPT
from tests.harness.lan import exchange, listening_device

MANY_REQUESTS = 200


def _all_of_it(entries: Sequence[Entry], *_: object) -> list[Entry]:
    return list(entries)


async def _brought(machine: Device, space: bytes) -> set[int]:
    """The kinds of what a machine holds of a space."""
    return {stored.entry.header.kind for stored in await machine.agent.replica.store.scan(space)}


class Smuggler(LanResponder):
    """Answers whoever asks about a class with all that it holds of another as well."""

    def __init__(self, agent: Agent, other: bytes) -> None:
        super().__init__(agent)
        honest = self._news.entries

        async def entries(space: bytes, wanted: Sequence[bytes]) -> Any:
            found, left = await honest(space, wanted)
            return (*found, *(stored.entry for stored in await agent.replica.store.scan(other))), left

        self._news.entries = entries  # type: ignore[method-assign]


@attack("a hostile or broken peer", off={"sync_agent.sync.reconciling._asked_for": _all_of_it})
async def test_a_neighbour_that_is_asked_about_one_class_brings_nothing_of_another(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        other = await room.territory.classroom("CM2")
        await room.territory.crowd(3, other)
        machine, neighbour = await room.machine(), await room.device(Role.MACHINE, room.space, other)
        await neighbour.session.sync()
        async with listening_device(neighbour.agent, Smuggler(neighbour.agent, other)) as address:
            await exchange_once(machine.agent, address)
        assert (await machine.agent.replica.position(room.space)).count > 1, "what it was asked for it has brought"
        assert await _brought(machine, other) <= {Kind.GRANT}, "but for the right by which it shows who it is"


class Miser(LanResponder):
    """Gives one entry at a time of those that it is asked for, and says that it left all."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.asked = 0

    async def _reconcile(self, opened: OpenedRequest) -> bytes:
        self.asked += 1
        answer = ReconcileAnswer.parse(await super()._reconcile(opened))
        if self.asked > MANY_REQUESTS:
            return answer.encode()
        left = tuple(entry.id for entry in answer.entries)
        return replace(answer, entries=answer.entries[:1], left=left).encode()


def _whatever_is_said(left: Collection[bytes], _came: object) -> set[bytes]:
    return set(left)


@attack("a hostile or broken peer", off={"sync_agent.sync.reconciling._still_left": _whatever_is_said})
async def test_a_neighbour_that_says_of_what_it_gives_that_it_left_it_is_not_asked_without_end(room: Classroom) -> None:
    machine, neighbour = await room.machine(), await room.machine()
    await room.territory.crowd(3, room.space)
    await neighbour.session.sync()
    miser = Miser(neighbour.agent)
    async with listening_device(neighbour.agent, miser) as address:
        await exchange_once(machine.agent, address)
    assert miser.asked < MANY_REQUESTS
    assert await machine.agent.replica.fingerprint(room.space) == await neighbour.agent.replica.fingerprint(room.space)


def _anything(entries: Sequence[Entry], _asked: object) -> list[Entry]:
    return list(entries)


@attack("a hostile or broken peer", off={"sync_agent.sync.payloads._asked_for": _anything})
async def test_a_neighbour_that_is_asked_for_a_payload_brings_nothing_else(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory = room.territory
        other = await territory.classroom("CM2")
        await territory.crowd(3, other)
        pupil = await territory.person("Camille", PersonRole.PUPIL, room.space)
        machine, neighbour = await room.machine(), await room.device(Role.MACHINE, room.space, other)
        for device in (machine, neighbour):
            await device.session.sync()
        erasure = await territory.say(territory.id, Kind.ERASE, Erasure(pupil).encode())
        replica = machine.agent.replica
        lost = [each.entry.id for each in await replica.store.scan(room.space) if each.entry.header.subject == pupil]
        await replica.store.erase(lost)
        await replica.reload()
        await territory.say(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
        await neighbour.session.sync()
        bare = neighbour.agent.replica.bare
        honest = bare.whole

        async def whole(ids: Sequence[bytes], spaces: Iterable[bytes]) -> list[Entry]:
            found = await honest(ids, spaces)
            return [*found, *(each.entry for each in await neighbour.agent.replica.store.scan(other))]

        bare.whole = whole  # type: ignore[method-assign]
        async with listening_device(neighbour.agent) as address:
            for _ in range(2):
                await exchange_once(machine.agent, address)
        assert pupil in (await replica.view(room.space)).roster.persons, "what it was asked for it has brought"
        assert await _brought(machine, other) <= {Kind.GRANT}


class Flooder(LanResponder):
    """Shows proofs of what it likes."""

    shown: tuple[Entry, ...] = ()

    async def _sync(self, opened: OpenedRequest) -> bytes:
        return replace(SyncAnswer.parse(await super()._sync(opened)), withdrawn=self.shown).encode()


@attack(
    "one machine floods a class with entries", off={"protocol.replica.at_work.quotas.Quotas._counts": lambda *_: False}
)
@pytest.mark.parametrize("shown_as", ["withdrawn", "chain"])
async def test_what_a_neighbour_shows_to_prove_something_counts_as_all_that_it_says(
    room: Classroom, monkeypatch: pytest.MonkeyPatch, shown_as: str
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 5)
    machine, neighbour = await room.machine(), await room.machine()
    await machine.session.sync()
    grant = next(iter(await neighbour.agent.replica.authorities(neighbour.agent.device)))
    flood = tuple(
        compose(
            author=neighbour.agent.keys.signing,
            space=room.space,
            kind=Kind.RECEIPT_SAFE,
            grant=grant.grant,
            at=at_from(room.territory.clock(), number),
            payload=SOME_RECEIPT,
            salt=bytes(16),
            target=bytes(32),
        )
        for number in range(8)
    )
    flooder = Flooder(neighbour.agent)
    if shown_as == "withdrawn":
        flooder.shown = flood
    else:

        async def chain(agent: Agent, common: Collection[bytes]) -> tuple[Entry, ...]:
            return (*await chain_for(agent, common), *flood)

        monkeypatch.setattr("sync_agent.lan.exchange.listener.chain_for", chain)
    async with listening_device(neighbour.agent, flooder) as address:
        await exchange_once(machine.agent, address)
    said = await machine.agent.replica.store.authored(room.space, neighbour.agent.device)
    assert 1 <= len(said) <= 5


@attack(
    "a hostile or broken peer",
    off={"sync_agent.lan.exchange.peer_calls.PeerCalls._grants_to_show": SealedCalls._grants_to_show},
)
async def test_a_teacher_of_two_schools_tells_a_neighbour_of_one_no_name_of_the_others_classes(room: Classroom) -> None:
    territory = room.territory
    elsewhere = await territory.classroom("CB", await territory.school("École B", uai="0180002Y"))
    teacher = await room.device(Role.TEACHER, room.space, elsewhere, person=room.teacher_person)
    far = await room.device(Role.MACHINE, elsewhere)
    await teacher.session.sync()
    await exchange(teacher.agent, far.agent)
    assert teacher.agent.device in {each.key for each in far.agent.replica.door.authorities()}
    assert Kind.SPACE not in await _brought(far, room.school)


@attack("a hostile stick", off={"sync_agent.courier.survey._PROVES": IN_CLEAR})
async def test_the_front_of_a_bundle_brings_no_keys_of_a_class_that_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with courier_class(tmp_path / "class") as room:
        other = await room.territory.classroom("CM2")
        machine, thief = await room.machine(), await room.device(Role.MACHINE, room.space, other)
        await know_keys(room, machine, thief)
        mine = next(iter(await machine.agent.replica.authorities(machine.agent.device)))
        stored = (await machine.agent.replica.store.get([mine.grant]))[mine.grant]
        header = replace(stored.header, space=other)
        data = encode_header(header)
        moved = replace(stored, header=header, header_bytes=data, id=blake3(data).digest())
        keys = [
            each.entry for each in await thief.agent.replica.store.of_kinds(other, [Kind.SPACE_KEY, Kind.SPACE_WRAP])
        ]

        async def front(agent: Agent, space: bytes, secret: SpaceSecret) -> tuple[Entry, ...]:
            return (*await _preface(agent, space, secret), *keys, moved)

        monkeypatch.setattr("sync_agent.courier.exporting._preface", front)
        await export(thief, tmp_path / "stick")
        await bring(machine, tmp_path / "stick")
        assert keys
        assert await _brought(machine, other) <= {Kind.GRANT}
