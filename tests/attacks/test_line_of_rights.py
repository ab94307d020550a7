"""What a server made anew is brought by devices that it takes for cut off (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import at_from
from protocol.errors import Code, NoAnswer, Refused
from protocol.identity import SigningKey
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import heads
from protocol.roles import PersonRole
from sync_agent.sync.line_of_rights import LineOfRights
from sync_agent.sync.session import Session
from sync_agent.transport.sealed_calls import SealedCalls
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.beginning import begin
from sync_server.opened.app import Server, opened
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.wire import Faulty, MemoryTransport

FLOOD = 40


@pytest.fixture(autouse=True)
def _room_for_heads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a territory of a thousand classes: elsewhere nearly nothing is left to be brought (docs/adr/0184)."""
    monkeypatch.setattr(heads, "MOST_EARLIER_HEADS", 0)


def flood(here: Town, stolen: SigningKey, grant: bytes, *after: bytes) -> list[Entry]:
    """What a thief says with a server's key, one after the other, into the class."""
    said = list[Entry]()
    for _ in range(FLOOD):
        said.append(
            compose(
                author=stolen,
                space=here.space,
                kind=Kind.PERSON,
                grant=grant,
                at=at_from(here.office.clock(), len(said)),
                payload=PersonRecord("Élève", PersonRole.PUPIL).encode(),
                salt=os.urandom(16),
                subject=os.urandom(16),
                prev=(said[-1].id,) if said else after,
            )
        )
    return said


async def take(device: Device, entries: Iterable[Entry]) -> None:
    await device.agent.replica.admit(tuple(entries), source=b"somebody", now_ms=device.agent.now_ms())


async def rotate(here: Town, folder: Path) -> None:
    """New keys for the server."""
    await rotate_server(here.office.server, kit_in(folder / "server" / "kit", None))
    here.office.clock.advance(60_000)


@asynccontextmanager
async def refused_by_a_server_made_anew(here: Town, folder: Path, device: Device) -> AsyncIterator[Server]:
    """A server from the kit alone, at the address of the one before, which has heard only who is cut off."""
    clock = here.office.clock
    given = {"kit": None, "passphrase_file": None, "recover": folder / "server" / "kit"}
    await begin(folder / "anew", None, **given, now_ms=clock, entropy=os.urandom, tell=lambda _: None)
    async with opened(folder / "anew", now_ms=clock, entropy=os.urandom) as server:
        here.frontage.responder = server.responder
        replica = device.agent.replica
        cuts = await replica.revocations_against(device.agent.device, await device.agent.spaces())
        await server.replica.admit(await replica.credentials(cuts), source=b"somebody", now_ms=clock())
        with pytest.raises(Refused) as caught:
            await SealedCalls(device.agent, MemoryTransport(here.frontage)).sync(SyncRequest())
        assert caught.value.code is Code.REVOKED
        yield server


async def held_by(server: Server, entries: Iterable[Entry]) -> int:
    return len(await server.store.present([entry.id for entry in entries]))


async def requests_to_bring(here: Town, device: Device, most: int | None = None) -> int:
    """In how many requests a program that has just started brings its line, on a way that bears so many."""
    way, asked = Faulty(MemoryTransport(here.frontage)), 0

    def counted(_path: str) -> None:
        nonlocal asked
        way.faults.down = asked == most
        asked += not way.faults.down

    way.faults.on_post = counted
    with suppress(NoAnswer):
        await LineOfRights(device.agent, SealedCalls(device.agent, way)).bring(await device.agent.spaces())
    return asked


@attack(
    "a flood under a key that was cut off since, and a server made anew",
    off={"sync_agent.sync.line_of_rights._Line.leads_through": lambda line, entry: entry.header.author in line.keys},
)
async def test_of_what_a_stolen_servers_key_said_only_what_counts_on_is_brought_to_the_next(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pupil = await here.office.add_person("Léa", "pupil")
        far = await here.device("machine")
        stolen, grant = here.office.server.keys.signing, here.office.server.grant
        await rotate(here, tmp_path)
        await here.sync(far)
        thief = flood(here, stolen, grant)
        await take(far, thief)
        async with refused_by_a_server_made_anew(here, tmp_path, far) as server:
            line = LineOfRights(far.agent, SealedCalls(far.agent, MemoryTransport(here.frontage)))
            assert await line.bring(await far.agent.spaces())
            assert here.space in await server.replica.readable(far.agent.device)
            assert bytes.fromhex(pupil) in (await server.replica.view(here.space)).roster.persons
            assert await held_by(server, thief) == 0


async def test_what_is_brought_goes_on_where_the_line_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.sync.line_of_rights.FIRST_PUSH_BYTES", 1_000)
    async with town(tmp_path) as here:
        for number in range(12):
            await here.office.add_person(f"Élève {number}", "pupil")
        far = await here.device("machine")
        await rotate(here, tmp_path)
        await here.sync(far)
        async with refused_by_a_server_made_anew(here, tmp_path, far) as server:
            assert await requests_to_bring(here, far, most=3) == 3
            assert here.space not in await server.replica.readable(far.agent.device)
            left = await requests_to_bring(here, far)
            assert here.space in await server.replica.readable(far.agent.device)
            assert await requests_to_bring(here, far) == 3 + left > 6


async def test_what_one_revocation_leaves_and_another_takes_is_brought_where_it_lies_between(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        far = await here.device("machine")
        server, kit = here.office.server, kit_in(tmp_path / "server" / "kit", None)
        stolen, grant, territory = server.keys.signing, server.grant, server.replica.territory
        honest = {space: await server.replica.tips(space, stolen.public) for space in server.replica.door.spaces()}
        thief = flood(here, stolen, grant, *honest[here.space])
        await server.replica.admit(thief, source=b"somebody", now_ms=here.office.clock())
        await rotate(here, tmp_path)
        earlier = Revocation(stolen.public, tuple(tip for tips in honest.values() for tip in tips))
        draft = Draft(territory, Kind.REVOKE, None, earlier.encode())
        await server.replica.write([draft], author=kit.root, now_ms=here.office.clock(), entropy=os.urandom)
        await here.sync(far)
        async with refused_by_a_server_made_anew(here, tmp_path, far) as anew:
            await requests_to_bring(here, far)
            assert here.space in await anew.replica.readable(far.agent.device)


async def _has_a_header_alone(here: Town, device: Device, stolen: SigningKey, grant: bytes) -> None:
    """With a server's key somebody made up is erased, and named by a header alone."""

    def said(number: int, kind: Kind, payload: bytes, subject: bytes | None = None) -> Entry:
        at, salt = at_from(here.office.clock(), number), os.urandom(16)
        return compose(
            author=stolen, space=here.space, kind=kind, grant=grant, at=at, payload=payload, salt=salt, subject=subject
        )

    nobody = os.urandom(16)
    await take(device, [said(0, Kind.ERASE, Erasure(nobody).encode())])
    named = said(1, Kind.PERSON, PersonRecord("Élève", PersonRole.PUPIL).encode(), nobody)
    await take(device, [replace(named, salt=None, payload=None)])


async def _goes_through(device: Device) -> bool:
    with suppress(Refused):
        await device.session.sync()
        return True
    return False


@attack(
    "a header alone is asked for before a server made anew is brought what it lacks",
    off={"sync_agent.sync.session.Session._run": Session._say_all},
)
async def test_who_lacks_a_payload_brings_a_server_made_anew_what_it_lacks_all_the_same(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.office.add_person("Léa", "pupil")
        far = await here.device("machine")
        await _has_a_header_alone(here, far, here.office.server.keys.signing, here.office.server.grant)
        await rotate(here, tmp_path)
        await here.sync(far)
        assert await far.agent.replica.bare.lacking()
        async with refused_by_a_server_made_anew(here, tmp_path, far) as server:
            await far.starts_again()
            assert await _goes_through(far)
            assert here.space in await server.replica.readable(far.agent.device)
