"""Keys of a server that was replaced open TLS no more: nobody between reads what goes behind links (docs/adr/0318)."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random

import pytest
from aiohttp import ClientSession

from protocol.clock import DAY_MS
from protocol.errors import Code, PeerFault, RelaisError
from protocol.identity import TlsKey
from protocol.messages.enrollment import encode_chain
from protocol.model.entry import Kind
from protocol.replica.http.tls import context_of
from sync_agent.network.proxies import Wish
from sync_agent.network.settings import Network
from sync_agent.sync.session import Session
from sync_agent.sync.withdrawn import take_withdrawals
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.server_chain import IsOurs, KnownServers, Whose, whose_server
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.new_root import NewKit
from tests.harness.attack import attack
from tests.harness.between import Between, standing
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.wire import serve

SECRET = "Chère Léa, ce que tu m'as confié reste entre nous.".encode() + Random(3).randbytes(300_000)


@asynccontextmanager
async def between(here: Town, keys: TlsKey) -> AsyncIterator[tuple[str, Between]]:
    """Where they listen, and who it is."""
    shown = context_of(keys, here.office.server.folder, oldest=ssl.TLSVersion.TLSv1_3)
    async with (
        serve(here.frontage) as honest,
        ClientSession(auto_decompress=False) as onward,
        standing(Between(honest, onward), shown) as there,
    ):
        yield there


def keys_of(here: Town) -> TlsKey:
    """What follows for TLS from the keys of the server that there is: a thief has them from a backup."""
    return here.office.server.keys.tls(encode_chain(here.office.server.responder.station.chain))


async def replace(here: Town, remedy: str) -> None:
    """The server gets new keys, or another root takes over."""
    here.office.clock.advance(DAY_MS)
    folder = here.folder / "server"
    kit = kit_in(folder / "kit", None)
    if remedy == "rotate server":
        await here.office.with_kit(remedy, kit)
    else:
        made = NewKit(folder / "kit", None, here.folder / "kit-2", None, os.urandom)
        await here.office.with_kit(remedy, kit, made.kit)


async def with_feedback(here: Town) -> tuple[Device, Device, bytes]:
    """A teacher's laptop, a pupil's PC, and work of hers on it that the teacher has."""
    teacher, machine, _, pupil, item = await here.class_at_work()
    work = await here.work(machine, item, pupil)
    await here.sync()
    await here.sync()
    return teacher, machine, work


async def give_back(here: Town, teacher: Device, work: bytes, *, syncs: bool = True) -> None:
    """The teacher's remark, with a file too large for an answer, reaches the server, if she `syncs`."""
    given = Given({"mot.txt": SECRET})
    await Desk(teacher.agent).ask("feedback", given, id=work.hex(), text="Lis mon mot", mark=None, redo=False)
    if syncs:
        await here.sync(teacher)


async def sync_at(machine: Device, url: str) -> None:
    """As every day, over the network of the school."""
    way = HttpTransport(url, Network(Wish(direct=True)))
    try:
        await Session(machine.agent, way).sync()
    finally:
        await way.close()


@contextmanager
def refused() -> Iterator[None]:
    """What answers there is not the server any more."""
    with pytest.raises(RelaisError) as raised:
        yield
    assert isinstance(raised.value, PeerFault)
    assert raised.value.code is Code.WRONG_KEY


def _any_that_was_ours(certificate: bytes, is_ours: IsOurs, _known: KnownServers | None) -> Whose:
    """Any server that our root has ever certified."""
    return whose_server(certificate, is_ours, None)


@pytest.mark.parametrize("remedy", ["rotate server", "rotate root"])
@attack("a former server", off={"sync_agent.transport.own_certificate.whose_server": _any_that_was_ours})
async def test_whoever_had_the_server_before_reads_no_file_of_who_has_heard_of_the_new_one(
    tmp_path: Path, remedy: str
) -> None:
    async with town(tmp_path) as here:
        teacher, machine, work = await with_feedback(here)
        stolen = keys_of(here)
        await replace(here, remedy)
        await here.sync()
        await give_back(here, teacher, work)
        async with between(here, stolen) as (url, thief):
            with refused():
                await sync_at(machine, url)
            assert (thief.calls, thief.packs) == (0, []), "not a byte of a request has left"
        async with between(here, keys_of(here)) as (url, _):
            await sync_at(machine, url)
            assert not await machine.agent.missing(), "by the keys of today it comes"


async def _as_at_first(way: HttpTransport) -> KnownServers | None:
    """What was known when the first request began."""
    if not hasattr(way, "known_at_first"):
        knows = way._knows
        way.known_at_first = None if knows is None else await knows()  # type: ignore[attr-defined]
    return way.known_at_first  # type: ignore[attr-defined,no-any-return]


@attack("a former server", off={"sync_agent.transport.over_http.HttpTransport._known": _as_at_first})
async def test_who_hears_of_the_new_server_through_the_former_one_asks_it_for_nothing_more(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, work = await with_feedback(here)
        stolen = keys_of(here)
        await replace(here, "rotate server")
        await give_back(here, teacher, work)
        async with between(here, stolen) as (url, thief):
            with refused():
                await sync_at(machine, url)
            assert (thief.calls, thief.packs) == (1, []), "the one call that brought the news"


@attack(
    "a former server",
    off={"sync_agent.transport.server_chain.KnownServers._is_cut_off": lambda *_: False},
)
async def test_who_has_heard_of_the_revocation_alone_asks_a_former_server_for_nothing(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine, stolen = await here.device("machine"), keys_of(here)
        await replace(here, "rotate server")
        said = await here.office.server.store.scan_kinds([Kind.REVOKE])
        await take_withdrawals(machine.agent, [each for each in said if each.header.grant is None], b"a neighbour")
        async with between(here, stolen) as (url, thief):
            with refused():
                await sync_at(machine, url)
            assert thief.calls == 0
