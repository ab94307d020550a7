"""Whoever has a head teacher's laptop has the server make keys in its own name (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from protocol.folds.space_keys import SpaceSecret
from protocol.limits import SPACE_KEY_PAUSE_MS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.roles import Role
from sync_server.service import SPACE_KEYS_INTERVAL_S
from tests.harness.attack import attack
from tests.harness.server_in_process import Member, Office, office
from tests.harness.territory import new_device
from tests.integration.test_space_keys import ring

ROW = "a stolen laptop has the server make new keys of its classes without end"
MOST = 4
ROUNDS = 12


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    monkeypatch.setattr("protocol.replica.office.space_keeper.MAX_SPACE_KEYS_AT_ONCE", MOST)
    async with office(tmp_path / "server") as made:
        yield made


async def say(here: Office, head: Member, kind: Kind, payload: bytes) -> None:
    draft = Draft(bytes.fromhex(here.space), kind, head.grants[0].id, payload)
    await here.server.replica.write([draft], author=head.keys.signing, now_ms=here.clock(), entropy=os.urandom)


async def a_key_for_other_revocations(here: Office, head: Member, _number: int) -> None:
    epoch = (await ring(here, here.server.keys.agreement).keys(bytes.fromhex(here.space))).next_epoch
    await say(here, head, Kind.SPACE_KEY, SpaceSecret(os.urandom(32)).record(epoch, os.urandom(16)).encode())


async def a_revocation_of_one_pc(here: Office, head: Member, number: int) -> None:
    """Of one that it has let in itself; each of the revocations is in force."""
    spy = new_device(bytes)
    if number == 0:
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.MACHINE, None, None)
        await say(here, head, Kind.GRANT, given.encode())
    await say(here, head, Kind.REVOKE, Revocation(spy.signing.public, ()).encode())


async def keys_of_its_own(here: Office) -> int:
    server, space = here.server.keys.signing.public, bytes.fromhex(here.space)
    said = await here.server.store.scan_kinds([Kind.SPACE_KEY])
    return sum(entry.header.author == server and entry.header.space == space for entry in said)


async def a_round(here: Office) -> None:
    await here.server.space_keeper.tend_grown()
    here.clock.advance(int(SPACE_KEYS_INTERVAL_S * 1000))


@pytest.mark.parametrize("drawn_by", [a_key_for_other_revocations, a_revocation_of_one_pc])
@attack(ROW, off={"protocol.replica.office.space_keeper.SpaceKeeper._may_make_one": lambda *_: True})
async def test_whatever_a_thief_says_the_server_makes_few_keys_of_a_class_in_a_day(
    here: Office, drawn_by: Callable[[Office, Member, int], Awaitable[None]]
) -> None:
    head = await here.enrol(await here.invite("head", "0180001D"))
    for number in range(ROUNDS):
        await drawn_by(here, head, number)
        await a_round(here)
    assert await keys_of_its_own(here) <= MOST
    here.clock.advance(SPACE_KEY_PAUSE_MS)
    await a_round(here)
    await a_round(here)
    assert await keys_of_its_own(here) == MOST + 1, "it is looked at again, though nothing more has come"


async def test_what_somebody_orders_waits_for_no_hour(here: Office) -> None:
    head, pc = await here.enrol(await here.invite("head", "0180001D")), await here.enrol(await here.invite("machine"))
    for number in range(ROUNDS):
        await a_key_for_other_revocations(here, head, number)
        await a_round(here)
    assert await keys_of_its_own(here) == MOST
    await here.do("lost", device=head.id)
    assert await keys_of_its_own(here) == MOST + 1
    space = bytes.fromhex(here.space)
    assert await ring(here, pc.keys.agreement).current(space) is not None
    assert await ring(here, head.keys.agreement).current(space) is None
