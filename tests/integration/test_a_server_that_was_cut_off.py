"""A machine hears that the server's key was cut off, and not yet which one took its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.model.entry import Kind
from sync_agent.network.proxies import Wish
from sync_agent.network.settings import Network
from sync_agent.sync.session import Session
from sync_agent.sync.withdrawn import take_withdrawals
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.sealed_calls import newest_server
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import Device
from tests.harness.fleet import pages_over
from tests.harness.lan import exchange, is_told_in_the_middle
from tests.harness.office_devices import Town, town


async def with_a_machine_that_heard(here: Town, folder: Path) -> Device:
    """A machine that knows of the revocation alone."""
    server = here.office.server
    pc = await here.device("machine", space=here.office.space)
    await rotate_server(server, kit_in(folder / "server" / "kit", None))
    said = [entry for entry in await server.store.scan_kinds([Kind.REVOKE]) if entry.header.grant is None]
    await take_withdrawals(pc.agent, said, b"a neighbour")
    return pc


async def test_a_machine_that_hears_of_the_revocation_first_asks_for_the_chain_and_goes_on(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pc = await with_a_machine_that_heard(here, tmp_path)
        await pc.session.sync()
        assert here.space in await pc.agent.spaces()


async def test_over_tls_it_takes_the_certificate_of_the_server_that_took_its_place(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pc = await with_a_machine_that_heard(here, tmp_path)
        async with pages_over(here.office, tls=True) as (url, _):
            way = HttpTransport(url, Network(Wish(direct=True)))
            await Session(pc.agent, way).sync()
            await way.close()
        assert await newest_server(pc.agent.replica) is not None


async def test_its_neighbours_are_called_as_before_and_bring_what_it_lacks(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        neighbour = await here.device("machine", space=here.office.space)
        pc = await with_a_machine_that_heard(here, tmp_path)
        await neighbour.session.sync()
        await exchange(pc.agent, neighbour.agent)
        assert await newest_server(pc.agent.replica) is not None


async def test_a_neighbour_that_tells_it_while_it_asks_for_the_chain_stands_in_no_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        neighbour = await here.device("machine", space=here.office.space)
        pc = await with_a_machine_that_heard(here, tmp_path)
        await neighbour.session.sync()
        is_told_in_the_middle(monkeypatch, pc, neighbour)
        await pc.session.sync()
        assert here.space in await pc.agent.spaces()
