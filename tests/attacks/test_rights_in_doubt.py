"""Who is let in by keys that were cut off, and who was cut off, among neighbours (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

from protocol.clock import at_from
from protocol.errors import Refused
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant
from protocol.replica.private_file import write_private
from protocol.rights.door import Authority, Door
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.lan.exchange.listener import LanResponder
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_agent.machine.enrolled import DEVICE_KEYS_FILE, Enrolment
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.lan import exchange, listening_device
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device
from tests.harness.wire import URL


class Asked(LanResponder):
    """A neighbour that notes what it is asked, once who asks has proved itself."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.requests: list[SyncRequest] = []

    async def _sync(self, opened: OpenedRequest) -> bytes:
        self.requests.append(SyncRequest.parse(opened.payload))
        return await super()._sync(opened)


async def calls(caller: Agent, listener: Agent) -> list[SyncRequest]:
    """What a neighbour hears of who calls it, whatever comes of that."""
    asked = Asked(listener)
    async with listening_device(listener, asked) as address:
        with suppress(Refused):
            await exchange_once(caller, address)
    return asked.requests


@asynccontextmanager
async def let_in_by_a_thief(here: Town, near: Agent, folder: Path) -> AsyncIterator[Agent]:
    """A machine to which a thief gives a right in the class, with the keys that the server had before these."""
    server = here.office.server
    stolen, certificate = server.keys.signing, server.grant
    keys = new_device(Random(77).randbytes)
    given = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
    known = await near.replica.credentials([each.grant for each in await near.replica.authorities(near.device)])
    await rotate_server(server, kit_in(here.folder / "server" / "kit", None))
    here.office.clock.advance(60_000)
    await here.sync()
    grant = compose(
        author=stolen,
        space=here.space,
        kind=Kind.GRANT,
        grant=certificate,
        at=at_from(here.office.clock(), 0),
        payload=given.encode(),
        salt=os.urandom(16),
    )
    write_private(folder / DEVICE_KEYS_FILE, keys.to_bytes())
    Enrolment(URL, server.territory.root, server.territory.name, "PC").write(folder)
    agent = await Agent.open(folder, now_ms=here.office.clock, entropy=Random(78).randbytes)
    try:
        await agent.replica.admit((*known, grant), source=b"thief", now_ms=here.office.clock())
        yield agent
    finally:
        await agent.close()


async def every_grant(door: Door, _view: object, key: bytes) -> list[Authority]:
    """`authorities_in_force` for who believes what keys that were cut off go on saying."""
    return list(door.authorities_of(key))


@attack(
    "let in by keys that were cut off",
    off={
        "protocol.replica.at_work.readers.authorities_in_force": every_grant,
        "protocol.rights.roster.without_right": lambda *_: set(),
    },
)
async def test_whom_a_thief_lets_in_with_a_servers_old_keys_learns_nothing_whoever_calls(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        near = (await here.device("machine")).agent
        pupil = bytes.fromhex(await here.office.add_person("Léa", "pupil"))
        async with let_in_by_a_thief(here, near, tmp_path / "thief") as thief:
            with suppress(Refused):
                await exchange(thief, near)
            assert all(_gives_nothing(request) for request in await calls(near, thief))
            assert pupil not in (await thief.replica.view(here.space)).roster.persons


def _gives_nothing(request: SyncRequest) -> bool:
    return not (request.push or request.packs or request.offers or request.registers or request.name)


async def whoever_is_held_back(agent: Agent, device: bytes) -> Collection[Authority]:
    """`grants_in_doubt`, those of who was cut off by name included."""
    return agent.replica.door.authorities_of(device)


@attack(
    "let in by keys that were cut off",
    off={
        "sync_agent.lan.exchange.meeting.grants_in_doubt": whoever_is_held_back,
        "sync_agent.sync.in_doubt.grants_in_doubt": whoever_is_held_back,
    },
)
async def test_a_device_that_was_cut_off_itself_is_not_even_asked(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        near, lost = (await here.device("machine")).agent, (await here.device("machine")).agent
        await exchange(lost, near)
        await here.office.do("revoke", device=lost.device.hex())
        await here.sync(here.devices[0])
        assert not await calls(near, lost)


@attack("let in by keys that were cut off", off={"sync_agent.sync.in_doubt.grants_in_doubt": whoever_is_held_back})
async def test_who_was_cut_off_takes_in_no_more_of_the_class_that_was_closed_to_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        near, lost = (await here.device("machine")).agent, (await here.device("machine")).agent
        await here.office.do("revoke", device=lost.device.hex())
        await here.sync(here.devices[0])
        cuts = await near.replica.revocations_against(lost.device, [here.space])
        await lost.replica.admit(await near.replica.credentials(cuts), source=b"somebody", now_ms=lost.now_ms())
        said = [stored.entry for stored in await near.replica.store.page(here.space, 0, 1 << 16)]
        assert not await LanResponder(lost).scope.wanted(said)
