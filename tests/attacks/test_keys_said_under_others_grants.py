"""Attacks: whoever has the server grants a laptop once more, with an X25519 key of their own; or a PC."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.errors import PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import own_device
from tests.harness.attack import attack
from tests.harness.lan import exchange
from tests.harness.spied_class import spied_class

ROW = "a server grants a laptop with another key before it has said its own"
AT_SCHOOL = "a server grants a PC with another key beside its own"


async def _all_of_them(agent: Agent) -> list[Authority]:
    """As if every grant that names the key that signs were the device's own."""
    return await agent.replica.authorities(agent.device)


async def _the_last(agent: Agent, rights: Iterable[Authority], space: bytes) -> list[Authority]:
    return [right for right in rights if agent.replica.door.covers(right, space)][::-1]


ANY_PAIR = {"sync_agent.app.Agent.own_rights": _all_of_them, "sync_agent.app.Agent.counting_first": _the_last}


@pytest.mark.parametrize("who", ["the-laptop-itself", "a-pc-of-the-pupils"])
@attack(ROW, off=ANY_PAIR)
async def test_a_new_laptop_speaks_by_its_own_pair_of_keys_whatever_the_server_grants_beside_it(
    tmp_path: Path, who: str
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        person = await here.room.territory.person("Mme Neuve", PersonRole.TEACHER, here.room.space)
        laptop = await here.room.device(Role.TEACHER, person=person)
        keys = laptop.agent.keys
        pair = keys.signing.public, here.spy.agreement.public
        false = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, person, None, None)
        await here.room.territory.say(here.room.space, Kind.GRANT, false.encode())
        await here.sync(laptop, here.machine, laptop)
        asked = laptop if who == "the-laptop-itself" else here.machine
        roster = (await asked.agent.replica.view(here.room.space)).roster
        own = laptop.agent.reading_keys.newest_of(here.room.space)
        assert own is not None
        assert own.public in roster.reading_keys.get(person, ())
        assert roster.speaking.get(person) == frozenset({own_device(laptop.agent)})


async def _every_grant(agent: Agent, _common: Collection[bytes]) -> tuple[Entry, ...]:
    """A device proves itself to its neighbours by whatever names the key that signs."""
    return await agent.replica.credentials([each.grant for each in await agent.replica.authorities(agent.device)])


@attack(AT_SCHOOL, off={"sync_agent.lan.exchange.listener.chain_for": _every_grant})
async def test_neighbours_go_on_with_a_pc_that_the_server_grants_with_another_key_beside_its_own(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        machine = await here.room.machine()
        keys, territory = machine.agent.keys, here.room.territory
        pair = keys.signing.public, here.spy.agreement.public
        false = Grant(*pair, keys.tls.fingerprint, Role.MACHINE, None, None, None)
        granted = await territory.say(here.room.space, Kind.GRANT, false.encode())
        near = here.machine.agent
        await near.replica.admit([granted], source=b"a stick", now_ms=near.now_ms())
        await here.sync(machine, here.machine)
        work = await here.room.hand_in(machine, here.item, {"a.odt": b"kept here"})
        with suppress(PeerFault):
            await exchange(near, machine.agent)
        assert work in (await near.replica.view(here.room.space)).coursework.hand_ins
