"""In which order things came a backup says as whoever has written it likes (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Invite, SpaceRecord
from protocol.rights.vouching import device_id, device_words
from protocol.roles import Role
from protocol.trust.invitation import SECRET_BYTES, Invitation
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.as_it_came import IN_ITS_ORDER
from tests.harness.attack import attack
from tests.harness.backups import rewritten
from tests.harness.classroom import Device
from tests.harness.copied_keys import back_up, brought, burnt_and_restored, granted, next_class, said_by_copy
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device

ROW = "a backup that somebody else has written"


async def _whatever_came_first(*_: object) -> None:
    return None


def _exchanged(one: bytes, other: bytes) -> str:
    """What has two entries of a database change places in the order of arrival."""
    place = "UPDATE entry SET seq = {} WHERE id = x'{}';"
    swap = "CREATE TEMP TABLE t AS SELECT (SELECT seq FROM entry WHERE id = x'{}') AS a, "
    swap += "(SELECT seq FROM entry WHERE id = x'{}') AS b;"
    return "".join(
        (
            swap.format(one.hex(), other.hex()),
            place.format(9_999_999, one.hex()),
            place.format("(SELECT a FROM t)", other.hex()),
            place.format("(SELECT b FROM t)", one.hex()),
            "DROP TABLE t;",
        )
    )


@asynccontextmanager
async def _restored(here: Town, honest: Sequence[bytes], forged: Sequence[Entry]) -> AsyncIterator[Office]:
    """The server that is made of a backup in which what is forged came before what is honest; all machines call it."""
    await brought(here, *forged)
    await back_up(here)
    swaps = (_exchanged(one, other.id) for one, other in zip(honest, forged, strict=True))
    rewritten(here.folder / "backup", here.folder / "server" / "kit", "".join(swaps))
    async with burnt_and_restored(here) as office:
        yield office


async def _grants_of(here: Town, device: Device) -> list[bytes]:
    return [each.grant for each in here.office.server.replica.door.authorities_of(device.agent.device)]


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_laptop_that_a_backup_calls_hers_before_her_own_comes_along_into_no_class(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, person, _, _)):
        spy = new_device(os.urandom)
        forged = said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person))
        async with _restored(here, await _grants_of(here, laptop), [forged]) as office:
            space = await next_class(office, person)
            assert space not in await office.server.replica.readable(spy.signing.public)
            told = " ".join(office.said.lines)
            for pair in (own_keys(spy), own_device(laptop.agent)):
                assert device_words(pair) in told, "both are told, with their words"


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_pc_that_a_backup_calls_an_administrators_first_is_let_in_as_a_pc(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        pc = at_work.machine
        forged = said_by_copy(here, Kind.GRANT, granted(pc.agent.keys, Role.ADMIN, None))
        async with _restored(here, await _grants_of(here, pc), [forged]) as office:
            made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
            space = bytes.fromhex(made["space"])
            await office.do("grant", device=pc.agent.device.hex(), space=[made["space"]])
            own = [each for each in office.server.replica.door.authorities_of(pc.agent.device) if each.space == space]
            assert [each.role for each in own] == [Role.MACHINE]


@attack(ROW, off={"protocol.replica.office.enrolment.Enrolment._check_unambiguous": _whatever_came_first})
async def test_a_code_of_before_that_a_backup_has_lead_into_another_class_leads_nowhere(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        server = here.office.server
        code = replace(Invitation.create(server.replica.territory, os.urandom(SECRET_BYTES)), version=1)
        lasts_ms = here.office.clock() + 90 * DAY_MS
        made = said_by_copy(here, Kind.SPACE, SpaceRecord("CM2 B").encode(), here.school)

        def invite(space: bytes) -> Entry:
            said = Invite(code.secret_hash, Role.MACHINE, (space,), None, 28, lasts_ms, None, code.key)
            return said_by_copy(here, Kind.INVITE, said.encode(), here.school)

        honest, forged = invite(here.space), invite(made.id)
        await server.replica.admit([honest, made], source=b"a PC", now_ms=here.office.clock())
        async with _restored(here, [honest.id], [forged]) as office:
            with pytest.raises(Refused) as refused:
                await office.enrol(code.code())
            assert refused.value.code is Code.CODE_WRONG
            assert "two things" in refused.value.message


async def test_who_has_one_laptop_comes_along_after_a_restore_and_is_told_once_so_is_whom_her_others_lead_to(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, person, _, _)):
        alone = await here.office.add_person("M. Roy", "teacher")
        his, second = await here.device("teacher", alone), await here.device("teacher", person)
        for _ in range(2):
            await here.sync()
        await confirm(laptop.agent, device_id(own_device(second.agent)), shown_as="own")
        for _ in range(2):
            await here.sync()
        async with _restored(here, [], []) as office:
            for whose, device in ((alone, his), (person, second)):
                words = device_words(own_device(device.agent))
                told = []
                for _ in range(2):
                    space = await next_class(office, whose)
                    assert space in await office.server.replica.readable(device.agent.device)
                    told.append(any(words in line and "comes along" in line for line in office.said.lines))
                assert told == [True, False]
