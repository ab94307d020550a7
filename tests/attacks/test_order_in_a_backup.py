"""In which order things came a backup says as whoever has written it likes (docs/threat-model.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import Code, Refused
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Invite, SpaceRecord
from protocol.rights.vouching import device_id, device_words
from protocol.roles import Role
from protocol.trust.invitation import SECRET_BYTES, Invitation
from sync_agent.keys.confirming import confirm, own_device
from sync_server.opened.app import opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup, rewritten
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "a backup that somebody else has written"


async def _as_it_came(_store: object) -> None:
    return None


IN_ITS_ORDER = {"sync_server.keeping.backing_up.note_at_once": _as_it_came}


async def _whatever_came_first(*_: object) -> None:
    return None


def _forged(here: Town, kind: Kind, payload: bytes, space: bytes | None = None) -> Entry:
    """What a copy of the server's key says."""
    server = here.office.server
    return compose(
        author=server.keys.signing,
        space=space or here.space,
        kind=kind,
        grant=server.grant,
        at=at_from(here.office.clock()),
        payload=payload,
        salt=os.urandom(16),
    )


def _granted(keys: DeviceKeys, role: Role, person: str | None) -> bytes:
    whose = None if person is None else bytes.fromhex(person)
    return Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, role, whose, None).encode()


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
    await here.office.server.replica.admit(forged, source=b"a PC", now_ms=here.office.clock())
    backup, clock = here.folder / "backup", here.office.clock
    await make_backup(here.office.server, backup)
    swaps = "".join(_exchanged(one, other.id) for one, other in zip(honest, forged, strict=True))
    rewritten(backup, swaps)
    clock.advance(DAY_MS)
    await restore_backup(here.folder / "new", backup, here.folder / "server" / "kit", clock)
    async with opened(here.folder / "new", now_ms=clock, entropy=os.urandom) as new:
        here.frontage.responder = new.responder
        for _ in range(3):
            await here.sync()
        yield Office(new, clock, here.office.space)


async def _grants_of(here: Town, device: Device) -> list[bytes]:
    return [each.grant for each in here.office.server.replica.door.authorities_of(device.agent.device)]


async def _next_class(office: Office, person: str) -> bytes:
    made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
    office.said.lines.clear()
    await office.do("grant", person=person, space=[made["space"]])
    return bytes.fromhex(made["space"])


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_laptop_that_a_backup_calls_hers_before_her_own_comes_along_into_no_class(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, _, person, _, _ = await here.class_at_work()
        spy = new_device(os.urandom)
        forged = _forged(here, Kind.GRANT, _granted(spy, Role.TEACHER, person))
        async with _restored(here, await _grants_of(here, laptop), [forged]) as office:
            space = await _next_class(office, person)
            assert space not in await office.server.replica.readable(spy.signing.public)
            told = " ".join(office.said.lines)
            for pair in ((spy.signing.public, spy.agreement.public), own_device(laptop.agent)):
                assert device_words(pair) in told, "both are told, with their words"


@attack(ROW, off=IN_ITS_ORDER)
async def test_a_pc_that_a_backup_calls_an_administrators_first_is_let_in_as_a_pc(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pc = (await here.class_at_work()).machine
        forged = _forged(here, Kind.GRANT, _granted(pc.agent.keys, Role.ADMIN, None))
        async with _restored(here, await _grants_of(here, pc), [forged]) as office:
            made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
            space = bytes.fromhex(made["space"])
            await office.do("grant", device=pc.agent.device.hex(), space=[made["space"]])
            own = [each for each in office.server.replica.door.authorities_of(pc.agent.device) if each.space == space]
            assert [each.role for each in own] == [Role.MACHINE]


@attack(ROW, off={"protocol.replica.office.enrolment.Enrolment._check_unambiguous": _whatever_came_first})
async def test_a_code_of_before_that_a_backup_has_lead_into_another_class_leads_nowhere(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_at_work()
        server = here.office.server
        code = replace(Invitation.create(server.replica.territory, os.urandom(SECRET_BYTES)), version=1)
        lasts_ms = here.office.clock() + 90 * DAY_MS
        made = _forged(here, Kind.SPACE, SpaceRecord("CM2 B").encode(), here.school)

        def invite(space: bytes) -> Entry:
            said = Invite(code.secret_hash, Role.MACHINE, (space,), None, 28, lasts_ms, None, code.key)
            return _forged(here, Kind.INVITE, said.encode(), here.school)

        honest, forged = invite(here.space), invite(made.id)
        await server.replica.admit([honest, made], source=b"a PC", now_ms=here.office.clock())
        async with _restored(here, [honest.id], [forged]) as office:
            with pytest.raises(Refused) as refused:
                await office.enrol(code.code())
            assert refused.value.code is Code.CODE_WRONG
            assert "two things" in refused.value.message


async def test_who_has_one_laptop_or_whose_laptops_all_lead_to_one_is_asked_nothing_about_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, _, person, _, _ = await here.class_at_work()
        alone = await here.office.add_person("M. Roy", "teacher")
        his, second = await here.device("teacher", alone), await here.device("teacher", person)
        for _ in range(2):
            await here.sync()
        await confirm(laptop.agent, device_id(own_device(second.agent)), shown_as="own")
        for _ in range(2):
            await here.sync()
        async with _restored(here, [], []) as office:
            space = await _next_class(office, alone)
            assert space in await office.server.replica.readable(his.agent.device)
            assert not office.said.lines
            space = await _next_class(office, person)
            assert space in await office.server.replica.readable(second.agent.device), "to which the other one leads"
            assert device_words(own_device(second.agent)) not in " ".join(office.said.lines)
