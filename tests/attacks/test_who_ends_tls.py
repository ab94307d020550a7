"""Whoever ends TLS by a key that authorities vouch for passes all on, and reads nothing of it (docs/adr/0363)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

from protocol.messages.wire import PACKS_PATH
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.network.proxies import Wish
from sync_agent.network.settings import Network
from sync_agent.sync.session import Session
from sync_agent.transport.over_http import HttpTransport
from tests.attacks.test_between_neighbours import SECRET as FROM_HER_LAPTOP
from tests.attacks.test_between_neighbours import UNBOUND, between, gives_back, names_his_certificate
from tests.attacks.test_tls_of_a_former_server import SECRET, give_back, replace, with_feedback
from tests.attacks.test_words_that_look_alike import theft
from tests.harness.attack import attack
from tests.harness.between import Between, standing
from tests.harness.certificates import Authority
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device
from tests.harness.wire import serve

ROW = "somebody has the key of an official certificate"
IN_CLEAR = {"protocol.messages.wire.Capability.link_key_under": lambda *_: b""}


class WithTheKey(Between):
    """Has the server's official certificate with its key, and notes which links were asked for."""

    def __init__(self, honest: str, onward: ClientSession) -> None:
        super().__init__(honest, onward)
        self.links: list[str] = []

    def request(self, path: str, body: bytes) -> bytes:
        if path.startswith(f"{PACKS_PATH}/"):
            self.links.append(path)
        return body

    async def asks_again(self) -> bytes:
        """What the links bring to him, from where he is."""
        asked = len(self.packs)
        for link in dict.fromkeys(self.links):
            async with self._onward.get(self._honest + link) as answer:
                self.packs.append(await answer.read())
        found = self.read()
        del self.packs[asked:]
        return found


@asynccontextmanager
async def in_between(
    here: Town, authority: Authority, *, expired: bool = False
) -> AsyncIterator[tuple[str, WithTheKey]]:
    """Where the server's name leads on the school's network, and who it is."""
    async with (
        serve(here.frontage) as honest,
        ClientSession(auto_decompress=False) as onward,
        standing(WithTheKey(honest, onward), authority.context(["localhost"], expired=expired)) as (url, thief),
    ):
        yield url.replace("127.0.0.1", "localhost"), thief


async def sync_at(device: Device, url: str, authority: Authority) -> None:
    """As every day: the system trusts the authority."""
    way = HttpTransport(url, Network(Wish(direct=True), authority.file.read_text()))
    try:
        await Session(device.agent, way).sync()
    finally:
        await way.close()


@pytest.mark.parametrize(
    ("remedy", "expired"), [("rotate server", False), ("rotate server", True), ("rotate root", False)]
)
@attack(ROW, off=IN_CLEAR)
async def test_whoever_stole_the_key_of_an_official_certificate_reads_no_feedback(
    tmp_path: Path, remedy: str, expired: bool
) -> None:
    authority = Authority("Autorité publique", tmp_path)
    async with town(tmp_path) as here:
        teacher, machine, work = await with_feedback(here)
        await replace(here, remedy)
        await here.sync()
        await give_back(here, teacher, work)
        async with in_between(here, authority, expired=expired) as (url, thief):
            await sync_at(machine, url, authority)
            assert not await machine.agent.missing(), "the certificate holds: nobody is cut off"
            assert thief.links
            assert SECRET not in thief.read()
            assert SECRET not in await thief.asks_again(), "nor does a link that was seen say more to its bearer"


@attack(ROW, off=IN_CLEAR)
async def test_nor_what_a_teacher_gives_back_through_him(tmp_path: Path) -> None:
    authority = Authority("Autorité publique", tmp_path)
    async with town(tmp_path) as here:
        teacher, machine, work = await with_feedback(here)
        async with in_between(here, authority) as (url, thief):
            await give_back(here, teacher, work, syncs=False)
            await sync_at(teacher, url, authority)
            assert thief.packs
            assert SECRET not in thief.read()
        await here.sync()
        assert not await machine.agent.missing(), "it has come all the same"


@attack("a hostile or broken peer", off=IN_CLEAR)
async def test_nor_between_neighbours_of_whom_one_looks_at_no_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with theft(tmp_path) as found:
        thief = new_device(os.urandom)
        said = await names_his_certificate(found, found.at_work.teacher, thief)
        await gives_back(found)
        for name, as_before in UNBOUND.items():
            monkeypatch.setattr(name, as_before)
        async with between(found, thief, said) as (address, who):
            await exchange_once(found.at_work.machine.agent, address)
        assert not await found.at_work.machine.agent.missing()
        assert FROM_HER_LAPTOP not in who.read()
