"""A neighbour that is called says that it lacks what it may not have (docs/attacks.md, "chunk as an oracle")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio

from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.parts import InlinePack, Refusal, Wanted
from protocol.model.entry import Entry, Kind
from protocol.model.work import ItemKind
from protocol.replica.answering.lacks import Lacks
from protocol.replica.answering.serving import _Taken
from protocol.replica.at_work.bare_entries import Lacking, Rounds
from protocol.replica.console.frame import Notices
from protocol.replica.content.holdings import Need
from protocol.replica.interfaces import PackInfo
from protocol.rights.door import Authority
from protocol.roles import Role
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_content import PeerContent
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.lan.exchange.progress import Exchange
from sync_agent.sync.payloads import Payloads
from tests.harness.attack import attack
from tests.harness.classroom import Given, classroom
from tests.harness.lan import listening_device

LOGO = b"<svg>le logo de l'ecole</svg>" * 20
TEST = b"Sujet du controle de demain : 1) ..." * 50


class Curious(LanResponder):
    """A neighbour that asks for what it likes, and notes what it is brought."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self._rounds = AsksFor()
        self._lacks = self.lacking = AsksForContent(agent.replica, agent.holdings, self.scope)
        self.packs: list[InlinePack] = []
        self.entries: list[Entry] = []

    async def _keep_packs(
        self, device: bytes, packs: Sequence[InlinePack], readable: Mapping[bytes, Authority]
    ) -> tuple[frozenset[bytes], list[Refusal]]:
        del device, readable
        self.packs += packs
        return frozenset(), []

    async def _bring(self, opened: OpenedRequest, now_ms: int) -> tuple[SyncRequest, _Taken, Mapping[bytes, Authority]]:
        self.entries += SyncRequest.parse(opened.payload).push
        return await super()._bring(opened, now_ms)


class AsksForContent(Lacks):
    """Content, by whatever names."""

    names: Sequence[Wanted] = ()

    async def asked_of(self, device: bytes, readable: Mapping[bytes, Authority]) -> list[Wanted]:
        del device, readable
        return list(self.names)


class AsksFor(Rounds):
    """For the payloads of just these entries, once."""

    ids: tuple[bytes, ...] = ()

    def next(self, asked: bytes, lacking: Lacking, spaces: Collection[bytes]) -> tuple[bytes, ...]:
        del asked, lacking, spaces
        ids, self.ids = self.ids, ()
        return ids


@dataclass
class Here:
    """Mme Petit teaches two classes; a PC of the first is in a thief's hands. In the other there is a test tomorrow."""

    teacher: Agent
    thief: Curious
    other: bytes
    test: bytes

    async def exchange(self) -> None:
        """She calls the PC."""
        async with listening_device(self.thief._agent, self.thief) as address:
            await exchange_once(self.teacher, address)


@pytest_asyncio.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path, spaces=2) as room:
        one, other = room.territory.classes[:2]
        teacher = await room.device(Role.TEACHER, one, other, person=room.teacher_person)
        pc = await room.device(Role.MACHINE, one)
        for device in (teacher, pc, teacher):
            await device.session.sync()
        files = {"logo.svg": LOGO, "sujet.txt": TEST}
        test = await publish(teacher.agent, Wish(other, None, ItemKind.LESSON, "Contrôle"), Given(files), Notices())
        yield Here(teacher.agent, Curious(pc.agent), other, test.item)


async def whatever_it_names(content: PeerContent, done: Exchange, lacks: Sequence[Wanted], _common: object) -> None:
    """`find_lacking` without a look at who may have it."""
    found: list[PackInfo] = []
    for lack in lacks:
        found += await content._agent.holdings.packs(Need(lack.space, lack.stream, sealed=False))
    done.lacks.update({pack.hash: pack for pack in found})


@attack("chunk as an oracle", off={"sync_agent.lan.exchange.peer_content.PeerContent.find_lacking": whatever_it_names})
async def test_a_neighbour_that_lacks_a_file_of_another_class_is_not_sent_the_pack_that_it_lies_in(here: Here) -> None:
    coursework = (await here.teacher.replica.view(here.other)).coursework
    tree = coursework.items[here.test].shown.record.content.stream
    here.thief.lacking.names = [Wanted(here.other, stream) for stream in (stream_id(chunk_list(cut(LOGO))), tree)]
    await here.exchange()
    assert [pack for pack in here.thief.packs if pack.space == here.other] == []


owed = Payloads.owed


async def owed_of_all(payloads: Payloads, answer: SyncAnswer, _spaces: Sequence[bytes]) -> list[Entry]:
    """Of whatever space of this device's."""
    return await owed(payloads, answer, await payloads._agent.spaces())


@attack("chunk as an oracle", off={"sync_agent.sync.payloads.Payloads.owed": owed_of_all})
async def test_a_neighbour_that_asks_for_the_payload_of_an_entry_of_another_class_gets_none(here: Here) -> None:
    asks = AsksFor()
    asks.ids = (here.test,)
    here.thief._rounds = asks
    await here.exchange()
    assert [entry for entry in here.thief.entries if entry.header.kind == Kind.REVISION] == []
