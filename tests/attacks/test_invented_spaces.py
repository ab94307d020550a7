"""Spaces that a server, a neighbour or a stick in wrong hands only names: they cost nothing that lasts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.bundles.form import NONCE_BYTES, TRAILER_BYTES, Index, Trailer
from protocol.bundles.writer import BundleWriter
from protocol.errors import PeerFault, RelaisError
from protocol.limits import MAX_SPACES_PER_REQUEST
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.parts import InlinePack, SpacePage, Wanted
from protocol.model.entry import Entry, Kind, unsigned
from protocol.reconcile.checkpoint import Checkpoint, Cursor
from protocol.replica.at_work.replica import Admission
from protocol.replica.at_work.views import SpaceView
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.courier.survey import COURIER
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.sync import cursors
from sync_agent.sync.cursors import cursor_marks, read_cursors
from sync_agent.sync.heads import take_heads
from sync_agent.sync.peer_news import news_marks, unsettled
from sync_agent.sync.run import Run
from sync_agent.sync.session import Session
from tests.harness.attack import attack
from tests.harness.caller import caller
from tests.harness.classroom import SMALL, classroom
from tests.harness.commands import Desk
from tests.harness.couriers import bring, courier_class, know_keys
from tests.harness.lan import listening_device

ROW = "spaces that are only named"


def _invented(many: int, *, more: bool = False) -> list[SpacePage]:
    draw = Random(7).randbytes
    return [SpacePage(Checkpoint(draw(32), 2**40, bytes(8), bytes(16)), (), (), more=more) for _ in range(many)]


async def _all_that_is_named(self: Session, run: Run, _pages: object) -> None:
    marks: dict[str, bytes | None] = {}
    for there in run.said.returning.values():
        marks |= cursor_marks(there)
    await self._store.set_marks(marks)


@attack(ROW, off={"sync_agent.sync.session.Session._note_returned": _all_that_is_named})
async def test_a_machine_keeps_no_place_in_classes_that_a_server_only_names(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        mine = await read_cursors(machine.agent.replica.store)
        real = SyncAnswer

        def lying(**said: Any) -> SyncAnswer:
            return real(**{**said, "pages": (*said.get("pages", ()), *_invented(300))})

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.replica.answering.serving.SyncAnswer", lying)
            patch.setattr("sync_agent.sync.session.MAX_REQUESTS", 4)
            with suppress(RelaisError):
                await machine.session.sync()
        await machine.session.sync()
        assert (await read_cursors(machine.agent.replica.store)).keys() == mine.keys()


@attack(ROW, off={"sync_agent.sync.session._leads_on": lambda *_: True})
@pytest.mark.parametrize("invented", [1, 2])
async def test_a_page_that_a_server_sends_again_and_again_brings_no_sync_forward(tmp_path: Path, invented: int) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        real, turns = SyncAnswer, cycle(_invented(invented, more=True))

        def lying(**said: Any) -> SyncAnswer:
            page = next(turns)
            # where the page before led is called nowhere, so that it is asked for from its beginning
            stale = tuple(each for each in lied if each != page.checkpoint.space)
            lied.add(page.checkpoint.space)
            return real(**{**said, "pages": (*said.get("pages", ()), page), "stale": stale, "more": True})

        lied: set[bytes] = set()

        before = machine.way.traffic.copy()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("protocol.replica.answering.serving.SyncAnswer", lying)
            patch.setattr("sync_agent.sync.session.MAX_REQUESTS", 40)
            with suppress(RelaisError):
                await machine.session.sync()
        assert machine.way.traffic.since(before).round_trips < 5 * invented


@attack(ROW, off={"sync_agent.sync.session.MAX_CLOSED_HERE": 0})
async def test_a_class_that_is_closed_to_a_device_and_open_at_the_server_is_sent_to_it_once(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        head, machine = await room.head(), await room.machine()
        for device in (head, machine):
            await device.session.sync()
        await Desk(head.agent).ask("revoke", device=machine.agent.device.hex())
        cuts = await head.agent.replica.store.scan_kinds([Kind.REVOKE])
        await machine.agent.replica.admit(cuts, source=b"a neighbour", now_ms=room.territory.clock())
        assert room.space not in await machine.agent.spaces()

        async def of_who_said_too_much(entries: Iterable[Entry], _source: bytes) -> set[bytes]:
            return {entry.id for entry in entries if entry.header.kind == Kind.REVOKE}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room.territory.replica, "_beyond_quota", of_who_said_too_much)
            first, *_, last = [await machine.session.sync() for _ in range(3)]
        assert first.bytes_in > 1.5 * last.bytes_in
        # what comes later is sent, and whoever is let in again has all of it
        await room.publish(head, SMALL)
        await head.session.sync()
        await Desk(head.agent).ask("grant", device=machine.agent.device.hex(), space=[room.space.hex()])
        for device in (head, machine, machine):
            await device.session.sync()
        assert room.space in await machine.agent.spaces()
        assert await room.agree()


class _Liar(LanResponder):
    """Answers each request with thousands of classes that there are not, and says that there are more."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.asked = 0
        honest = self._news.pages

        async def pages(*given: Any, **named: Any) -> Any:
            found, stale, more = await honest(*given, **named)
            self.asked += 1
            draw = Random(self.asked).randbytes
            lies = [
                SpacePage(Checkpoint(draw(32), 1, bytes(8), bytes(16)), (), (), more=True)
                for _ in range(MAX_SPACES_PER_REQUEST - 100)
            ]
            return ([*found, *lies], stale, True) if self.asked < 4 else (found, stale, more)

        self._news.pages = pages  # type: ignore[method-assign]


@attack(ROW, off={"sync_agent.sync.cursors.MAX_SPACES_PER_REQUEST": 10**9})
async def test_a_neighbour_that_names_more_classes_than_there_can_be_is_put_aside(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine, neighbour = await room.machine(), await room.device(Role.MACHINE, room.space)
        await machine.session.sync()
        await neighbour.session.sync()
        shown: list[int] = []
        real = cursors.shown_cursors

        def counted(spaces: Sequence[bytes], *rest: Any) -> tuple[Cursor, ...]:
            shown.append(len(spaces))
            return real(spaces, *rest)

        with pytest.MonkeyPatch.context() as patch:
            # the thief's own program does not mind how much it is shown
            patch.setattr("protocol.messages.calls.MAX_SPACES_PER_REQUEST", 10**9)
            patch.setattr("sync_agent.lan.exchange.peer_session.shown_cursors", counted)
            async with listening_device(neighbour.agent, _Liar(neighbour.agent)) as address:
                with pytest.raises(PeerFault):
                    await exchange_once(machine.agent, address)
        assert max(shown) < 2 * MAX_SPACES_PER_REQUEST


def _junk() -> Entry:
    return unsigned(
        author=os.urandom(32),
        space=os.urandom(32),
        kind=Kind.GRANT,
        grant=os.urandom(32),
        at=1 << 40,
        payload=b"\xc0",
        salt=os.urandom(16),
    )


async def _noted_as_named(agent: Agent, entries: Sequence[Entry], *, hold: bool = True) -> Admission:
    marks = news_marks({entry.header.space for entry in entries}, agent.entropy)
    now_ms = agent.now_ms()
    return await agent.replica.admit(entries, source=COURIER, now_ms=now_ms, hold=hold, marks=marks, bounded=True)


@attack(ROW, off={"sync_agent.courier.survey.admit_from_disk": _noted_as_named})
async def test_a_stick_that_names_classes_in_clear_gives_no_sync_anything_to_compare(tmp_path: Path) -> None:
    async with courier_class(tmp_path) as room:
        machine = await room.machine()
        await know_keys(room, machine)
        await machine.session.sync()
        territory = machine.agent.replica.territory
        stick = tmp_path / "stick" / "Relais"
        place = stick / territory[:8].hex()
        place.mkdir(parents=True)
        writer = BundleWriter(
            os.urandom(32),
            territory=territory,
            space=room.space,
            commitment=os.urandom(32),
            nonce=os.urandom(NONCE_BYTES),
            preface=[_junk() for _ in range(50)],
            index=Index(),
        )
        data = bytes(writer.begin()) + bytes(writer.finish())
        (place / f"{Trailer.parse(data[-TRAILER_BYTES:]).name}.rls").write_bytes(data)
        with suppress(RelaisError):
            await bring(machine, stick)
        held = await machine.agent.replica.store.spaces()
        assert (await unsettled(machine.agent.replica.store)).keys() <= held.keys()


def _always(*_: object) -> bool:
    """Whatever is named is a space."""
    return True


@attack(ROW, off={"protocol.rights.door.Door.knows_space": _always})
async def test_what_a_server_only_names_is_neither_folded_nor_taken_for_a_set_that_lies_here(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        replica = machine.agent.replica
        known = set(replica.door.below(replica.territory))
        empty = await replica.fingerprint(bytes(32))
        heads = [Checkpoint(page.checkpoint.space, 1, bytes(8), empty) for page in _invented(5)]
        answer = SyncAnswer(time_ms=1, pages=tuple(SpacePage(head, (), (), more=True) for head in heads))
        await take_heads(machine.agent, None, answer)
        assert (await read_cursors(replica.store)).keys() <= known
        folded: set[bytes] = set()
        view, draw = replica.view, Random(8).randbytes

        async def noted(space: bytes) -> SpaceView:
            folded.add(space)
            return await view(space)

        def lying(**said: Any) -> SyncAnswer:
            lacks = tuple(Wanted(draw(32), draw(32)) for _ in range(5))
            return answer_of(**{**said, "pages": (*said.get("pages", ()), *_invented(5)), "lacks": lacks})

        answer_of = SyncAnswer
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replica, "view", noted)
            patch.setattr("protocol.replica.answering.serving.SyncAnswer", lying)
            patch.setattr("sync_agent.sync.session.MAX_REQUESTS", 2)
            with suppress(RelaisError):
                await machine.session.sync()
        assert folded <= known


def _all_brought(packs: Iterable[InlinePack], _readable: Collection[bytes]) -> set[bytes]:
    return {pack.space for pack in packs}


@attack(ROW, off={"protocol.replica.answering.serving._brought": _all_brought})
async def test_a_server_keeps_no_place_for_classes_that_a_machine_names_with_packs(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        thief = await caller(room.territory, room.frontage.responder, Role.MACHINE, room.space, seed=9)
        await thief.sync(SyncRequest())
        seen = set(room.frontage.responder._receipted)
        draw = Random(5).randbytes
        await thief.sync(SyncRequest(packs=tuple(InlinePack(draw(32), b"x") for _ in range(50))))
        assert room.frontage.responder._receipted == seen


async def _nothing(_store: object) -> None:
    """What was noted stays."""


@attack(ROW, off={"sync_agent.sync.session.forget_unknown": _nothing})
async def test_what_an_earlier_version_noted_of_them_goes_with_the_next_sync(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        machine = await room.machine()
        await machine.session.sync()
        store, strange = machine.agent.replica.store, bytes(range(32))
        before = await store.marks("")
        await store.set_marks({f"{kind}/{strange.hex()}": b"\x01" for kind in ("cursor", "peer-news", "proven-at")})
        await Session(machine.agent, machine.session.transport).sync()
        after = await store.marks("")
        assert not [mark for mark in after if strange.hex() in mark]
        assert {mark for mark in before if mark.startswith(("cursor/", "proven-at/"))} <= after.keys()
