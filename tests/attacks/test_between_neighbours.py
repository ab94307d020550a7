"""A grant names a thief's TLS certificate beside her keys: nobody stands between neighbours by it (docs/adr/0351)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aiohttp import ClientSession, TCPConnector

from protocol.errors import BadInput, Code, PeerFault
from protocol.identity import DeviceKeys
from protocol.messages.enrollment import encode_chain, parse_chain
from protocol.messages.introduction import NONCE_BYTES, introduction, is_introduction, noise_bytes
from protocol.messages.wire import SYNC_PATH
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.replica.at_work.replica import Replica
from protocol.roles import Role
from sync_agent.lan.exchange.meeting import MISDIRECTED, meet, secrets_of
from sync_agent.lan.exchange.peer_session import PeerSession
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.tls import DiallerContext, listener_context
from sync_agent.machine.addresses import Address, address_of
from tests.attacks.test_carriers import any_certificate
from tests.attacks.test_words_that_look_alike import ROW as LOOK_ALIKE
from tests.attacks.test_words_that_look_alike import Theft, theft
from tests.harness.attack import attack
from tests.harness.between import Between, standing
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.lan import listening_device
from tests.harness.territory import new_device

ROW = "a hostile or broken peer"
SECRET = "Chère Léa, ce que tu m'as confié reste entre nous.".encode() + Random(5).randbytes(300_000)


class BetweenNeighbours(Between):
    """A member of the class: it makes introductions of its own, and shows besides what names its certificate."""

    def __init__(
        self, honest: str, onward: ClientSession, hers: bytes, secrets: Sequence[bytes], chain: Sequence[Entry]
    ) -> None:
        super().__init__(honest, onward)
        self._hers = hers
        self._secrets = secrets
        self._chain = chain

    def request(self, path: str, body: bytes) -> bytes:
        if path != SYNC_PATH or not is_introduction(body):
            return body
        noise = os.urandom(noise_bytes(len(self._secrets)))
        return introduction(list(self._secrets), self._hers, os.urandom(NONCE_BYTES), noise)

    def answer(self, status: int, body: bytes) -> bytes:
        return encode_chain((*parse_chain(body), *self._chain)) if status == MISDIRECTED else body


@asynccontextmanager
async def between(found: Theft, thief: DeviceKeys, said: Entry) -> AsyncIterator[tuple[Address, BetweenNeighbours]]:
    """Where a PC is led to instead of her laptop, and who it is."""
    laptop, pc = found.at_work.teacher.agent, found.at_work.machine.agent
    chain = await pc.replica.credentials([said.id])
    shown = listener_context(thief.tls, found.folder)
    async with (
        listening_device(laptop) as address,
        ClientSession(auto_decompress=False, connector=TCPConnector(ssl=DiallerContext(None))) as onward,
    ):
        hers, secrets = laptop.keys.tls.fingerprint, list(await secrets_of(pc))
        who = BetweenNeighbours(f"https://{address.authority}", onward, hers, secrets, chain)
        async with standing(who, shown) as (url, _):
            yield address_of(url.removeprefix("https://"), "there"), who


async def names_his_certificate(found: Theft, laptop: Device, thief: DeviceKeys) -> Entry:
    """A copy of the server's key has a grant name her laptop, as hers, and the thief's certificate."""
    keys = laptop.agent.keys
    whose = bytes.fromhex(found.at_work.person)
    twin = Grant(keys.signing.public, keys.agreement.public, thief.tls.fingerprint, Role.TEACHER, whose, None)
    return await found.says(Kind.GRANT, twin.encode(), space=found.here.space)


async def gives_back(found: Theft) -> None:
    """Her remark on a pupil's work, with a file that goes behind a link; on her laptop alone."""
    here, laptop, machine = found.here, found.at_work.teacher, found.at_work.machine
    work = await here.work(machine, found.at_work.item, found.pupil)
    for _ in range(2):
        await here.sync()
    given = Given({"mot.txt": SECRET})
    await Desk(laptop.agent).ask("feedback", given, id=work.hex(), text="Lis mon mot", mark=None, redo=False)


def _not_looked_at(*_: object) -> None:
    """As if a device did not care which certificate others were shown for its own."""


UNBOUND = {"protocol.replica.answering.station.Station.check_shown": _not_looked_at}
ANY_CERTIFICATE = {
    "sync_agent.lan.exchange.meeting.check_certificate": any_certificate,
    "sync_agent.lan.exchange.peer_session.check_certificate": any_certificate,
}


@attack(ROW, off=UNBOUND)
async def test_nobody_reads_between_neighbours_by_a_grant_that_counts_and_names_his_certificate(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        thief = new_device(os.urandom)
        said = await names_his_certificate(found, found.at_work.teacher, thief)
        await gives_back(found)
        pc = found.at_work.machine.agent
        async with between(found, thief, said) as (address, who):
            with pytest.raises(PeerFault) as fault:
                await exchange_once(pc, address)
        assert fault.value.code is Code.WRONG_KEY
        assert SECRET not in who.read()
        async with listening_device(found.at_work.teacher.agent) as address:
            await exchange_once(pc, address)
        assert not await pc.missing()


@attack(ROW, off={**UNBOUND, **ANY_CERTIFICATE})
async def test_nor_by_one_that_is_held_back_while_others_of_hers_count(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        thief = new_device(os.urandom)
        said = await names_his_certificate(found, found.at_work.teacher, thief)
        await found.is_found_out()
        await found.here.sync()
        await gives_back(found)
        async with between(found, thief, said) as (address, who):
            with pytest.raises(PeerFault) as fault:
                await exchange_once(found.at_work.machine.agent, address)
        assert fault.value.code is Code.WRONG_KEY
        assert (who.calls, who.packs) == (1, []), "nothing follows the introduction"


@attack(ROW, off={"sync_agent.lan.exchange.peer_session.check_certificate": any_certificate})
async def test_a_line_that_stands_ends_once_what_named_its_certificate_is_held_back(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        laptop, pc, thief = found.at_work.teacher, found.at_work.machine, new_device(os.urandom)
        await names_his_certificate(found, laptop, thief)
        await found.here.sync()
        # as a program of before, which says nothing of whose certificate others were shown
        laptop.agent.keys = replace(laptop.agent.keys, tls=thief.tls)
        async with listening_device(laptop.agent) as address:
            way = PeerTransport(address)
            try:
                session = PeerSession(pc.agent, way, await meet(pc.agent, way))
                await session.exchange()
                await found.is_found_out()
                await found.here.sync()
                with pytest.raises(PeerFault) as fault:
                    await session.exchange()
            finally:
                await way.close()
        assert fault.value.code is Code.WRONG_KEY


async def _as_it_says(_replica: Replica, given: Grant) -> Grant:
    """As if the certificate that an entry names were said again, which no row shows."""
    return given


CERTIFICATE_SAID_AGAIN = {"sync_server.handlers.by_kit.said_again.with_its_certificate": _as_it_says}


@attack(LOOK_ALIKE, off=CERTIFICATE_SAID_AGAIN)
async def test_no_right_is_said_again_with_a_certificate_that_its_row_does_not_show(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        laptop, thief = found.at_work.teacher, new_device(os.urandom)
        said = await names_his_certificate(found, laptop, thief)
        await found.is_found_out()
        await found.accepts(said)
        server = found.here.office.server
        named = {each.grant: each.tls_sha256 for each in server.replica.door.authorities_of(laptop.agent.device)}
        own = await server.store.authored(found.here.space, server.keys.signing.public)
        again = [one for one in own if one.header.kind == Kind.GRANT]
        assert [named[one.id] for one in again] == [laptop.agent.keys.tls.fingerprint]
        assert await found.row_of(said) is None


@attack(LOOK_ALIKE, off={"sync_server.handlers.by_kit.waiting.with_its_certificate": _as_it_says})
async def test_whose_certificate_nothing_tells_is_let_in_anew(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        laptop = await found.here.device("teacher", found.at_work.person)
        said = await names_his_certificate(found, laptop, new_device(os.urandom))
        await found.is_found_out()
        with pytest.raises(BadInput, match="let it in anew"):
            await found.here.office.do("accept", named=[said.id.hex()])
