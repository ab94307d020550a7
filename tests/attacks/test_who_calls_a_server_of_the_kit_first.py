"""A server that is made of its kit alone hears all anew, and first of whoever calls first (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from protocol.clock import DAY_MS, at_from
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey
from protocol.rights.vouching import device_words
from protocol.roles import Role
from sync_agent.keys.confirming import own_device
from tests.attacks.test_what_a_kit_remembers import _all_of, _made_anew
from tests.harness.as_it_came import IN_ITS_ORDER
from tests.harness.attack import attack
from tests.harness.copied_keys import brought, granted, next_class, said_by_copy
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device

ROW = "who calls a server of the kit first says what was first"
_GROUND = {Kind.CERTIFICATE, Kind.RECOVERY_KEY, Kind.GENERATION, Kind.SPACE}


@asynccontextmanager
async def _of_the_kit(here: Town, *forged: Entry) -> AsyncIterator[Office]:
    """The server burns. A PC in wrong hands calls the next one first, with what is forged, and then all machines do."""
    await brought(here, *forged)
    ground = [one for one in await _all_of(here.office.server) if one.header.kind in _GROUND]
    async with _made_anew(here, "recover") as server:
        clock = here.office.clock
        first = await server.replica.admit([*ground, *forged], source=b"a PC in wrong hands", now_ms=clock())
        assert {one.id for one in forged} <= {one.id for one in first.admitted}
        for _ in range(3):
            clock.advance(60_000)
            await here.sync()
        yield Office(server, clock, here.office.space)


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_pc_that_its_first_caller_calls_a_teachers_is_let_in_as_a_pc_and_what_else_it_is_called_is_told(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        pc, alone = (await here.class_at_work()).machine, await here.office.add_person("M. Roy", "teacher")
        await here.sync()
        forged = said_by_copy(here, Kind.GRANT, granted(pc.agent.keys, Role.TEACHER, alone))
        async with _of_the_kit(here, forged) as office:
            made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
            office.said.lines.clear()
            await office.do("grant", device=pc.agent.device.hex(), space=[made["space"]])
            given, space = office.server.replica.door.authorities_of(pc.agent.device), bytes.fromhex(made["space"])
            assert [each.role for each in given if each.space == space] == [Role.MACHINE]
            (told,) = [line for line in office.said.lines if pc.agent.device.hex() in line]
            assert "grants call it teacher as well" in told


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_laptop_that_its_first_caller_calls_hers_comes_along_into_no_class(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, _, person, _, _ = await here.class_at_work()
        await here.sync()
        spy = new_device(os.urandom)
        async with _of_the_kit(here, said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person))) as office:
            space = await next_class(office, person)
            assert space not in await office.server.replica.readable(spy.signing.public)
            told = " ".join(office.said.lines)
            for pair in (own_keys(spy), own_device(laptop.agent)):
                assert device_words(pair) in told, "both are told, with their words"


def _key_said(here: Town, spy: DeviceKeys, grant: bytes, person: bytes) -> Entry:
    """What a device of the thief's says as hers, with its true date."""
    return compose(
        author=spy.signing,
        space=here.space,
        kind=Kind.PERSON_KEY,
        grant=grant,
        at=at_from(here.office.clock()),
        payload=PersonKey(spy.agreement.public).encode(),
        salt=os.urandom(16),
        subject=person,
    )


@attack(ROW, off=IN_ITS_ORDER)
async def test_nor_does_it_speak_for_her_in_what_that_server_counts_and_writes_for_families(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, _, person, _, _ = await here.class_at_work()
        for _ in range(2):
            await here.sync()
        here.office.clock.advance(DAY_MS)
        spy, hers = new_device(os.urandom), bytes.fromhex(person)
        given = said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person))
        async with _of_the_kit(here, given, _key_said(here, spy, given.id, hers)) as office:
            roster = (await office.server.replica.view(here.space)).roster
            assert set(roster.speaking[hers]) == {own_device(laptop.agent)}


async def test_who_has_one_laptop_comes_along_at_a_server_of_the_kit_and_is_told_once(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, _, person, _, _ = await here.class_at_work()
        await here.sync()
        async with _of_the_kit(here) as office:
            told = []
            for _ in range(2):
                space = await next_class(office, person)
                assert space in await office.server.replica.readable(laptop.agent.device)
                told.append(any("comes along" in line for line in office.said.lines))
            assert told == [True, False]
