"""Of what waits after a theft a thief's is about another child, or another PC, of the same name: no name decides."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Refused
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Grant, Invite, PersonRecord, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.further_words import rename_person
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import Invitation
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.attacks.test_words_that_look_alike import ALL_IS_SAID_AGAIN, ROW, Theft, theft
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.territory import new_device


async def _accepted(found: Theft, kind: str) -> list[str]:
    """The operator accepts all of a kind, as they look like their own; what each is answered."""
    office, told = found.here.office, []
    for row in await office.do("waiting"):
        if row["kind"] == kind:
            try:
                await office.do("accept", named=[row["id"]])
            except (BadInput, Refused) as why:
                told.append(str(why))
    return told


async def _a_day_goes_by(found: Theft) -> None:
    """What was said until now was said before the theft."""
    await found.here.sync()
    await note_arrivals(found.here.office.server.store, found.here.office.clock())
    found.here.office.clock.advance(DAY_MS)


async def _is_refused(found: Theft, device: Device) -> None:
    """By the thief's word, until that counts no more: it does not call meanwhile."""
    found.here.devices.remove(device)
    await device.agent.close()


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_erasure_of_another_child_of_the_same_name_is_accepted_for_the_honest_one(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office = found.here.office
        stays = await office.add_person("Léa", "pupil")
        await _a_day_goes_by(found)
        await office.do("erase", person=[found.pupil])
        await found.says(Kind.ERASE, Erasure(bytes.fromhex(stays)).encode(), space=office.server.replica.territory)
        await found.is_found_out()
        rows = [row for row in await office.do("waiting") if row["kind"] == "erase"]
        assert {(row["person"], row["name"]) for row in rows} == {(found.pupil, "Léa"), (stays, "Léa")}
        told = await _accepted(found, "erase")
        await found.here.sync()
        assert stays in await found.names()
        assert stays in await found.names(found.at_work.machine)
        assert all(any(f"erase --person {one}`" in line for line in told) for one in (stays, found.pupil))
        await office.do("erase", person=[found.pupil])
        assert {row["person"] for row in await office.do("waiting") if row["kind"] == "erase"} == {stays}


async def test_of_whom_an_erasure_that_waits_forgets_every_name_is_said(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office = found.here.office
        await rename_person(office.server, bytes.fromhex(found.pupil), "Tom")
        erasure = Erasure(bytes.fromhex(found.pupil)).encode()
        await found.says(Kind.ERASE, erasure, space=office.server.replica.territory)
        await found.is_found_out()
        (row,) = [row for row in await office.do("waiting") if row["kind"] == "erase"]
        assert row["name"] == "Léa, Tom"
        (told,) = await _accepted(found, "erase")
        assert f"{found.pupil} (“Léa”, then “Tom”; {found.here.space.hex()} (“" in told


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_report_of_another_pc_of_the_same_name_is_accepted_for_the_honest_one(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office, server, honest = found.here.office, found.here.office.server, found.at_work.machine.agent
        stolen = (await office.enrol(await office.invite("machine"), None, "PC 2")).keys.signing.public
        await _a_day_goes_by(found)
        await office.do("lost", device=stolen.hex())
        await found.says(Kind.REVOKE, Revocation(honest.device, ()).encode())
        await _is_refused(found, found.at_work.machine)
        await found.is_found_out()
        told = await _accepted(found, "revoke")
        roster = (await server.replica.view(found.here.space)).roster
        assert roster.may_read(honest.device)
        assert all(any(f"`sync-server lost {one.hex()}`" in line for line in told) for one in (stolen, honest.device))
        await office.do("lost", device=stolen.hex())
        roster = (await server.replica.view(found.here.space)).roster
        assert (roster.may_read(honest.device), roster.may_read(stolen)) == (True, False)
        (row,) = [row for row in await office.do("waiting") if row["kind"] == "revoke"]
        assert honest.device.hex() in row["title"]


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_right_of_another_pc_of_the_same_name_is_accepted_for_the_honest_one(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office, server, his = found.here.office, found.here.office.server, new_device(os.urandom)
        code, until_ms = Invitation.create(server.replica.territory, os.urandom(10)), office.clock() + DAY_MS
        invite = Invite(code.secret_hash, Role.MACHINE, (found.here.space,), None, 9, until_ms)
        await found.says(Kind.INVITE, invite.encode())
        await office.enrol(code.code(), his, "Renard")
        honest = (await office.enrol(await office.invite("machine"), None, "Renard")).keys.signing.public
        await found.is_found_out()
        told = await _accepted(found, "grant")
        roster = (await server.replica.view(found.here.space)).roster
        assert not roster.may_read(his.signing.public)
        assert all(any(key.hex() in line for line in told) for key in (his.signing.public, honest))
        await office.do("grant", device=honest.hex(), space=[found.here.space.hex()])
        roster = (await server.replica.view(found.here.space)).roster
        assert (roster.may_read(his.signing.public), roster.may_read(honest)) == (False, True)
        (row,) = [row for row in await office.do("waiting") if row["kind"] == "grant"]
        assert his.signing.public.hex() in row["title"]


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_right_of_a_known_pc_in_another_class_is_accepted(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office, pc = found.here.office, found.at_work.machine.agent.keys
        school = (await office.do("space list"))[0]["school"]
        cm1 = bytes.fromhex((await office.do("space add", name="CM1", school=school))["space"])
        pair = pc.signing.public, pc.agreement.public
        given = Grant(*pair, pc.tls.fingerprint, Role.MACHINE, None, None, None)
        said = await found.says(Kind.GRANT, given.encode(), space=cm1)
        await found.is_found_out()
        with suppress(BadInput):
            await office.do("accept", named=[said.id.hex()])
        assert not (await office.server.replica.view(cm1)).roster.may_read(pc.signing.public)


async def test_the_page_says_ids_and_classes_and_by_which_command_each_is_said_anew(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office, pc = found.here.office, found.at_work.machine.agent
        record = PersonRecord("Léa", PersonRole.PUPIL, left=True)
        await found.says(Kind.PERSON, record.encode(), found.pupil)
        erasure = Erasure(bytes.fromhex(found.pupil)).encode()
        await found.says(Kind.ERASE, erasure, space=office.server.replica.territory)
        await found.says(Kind.REVOKE, Revocation(pc.device, ()).encode())
        await _is_refused(found, found.at_work.machine)
        pair = new_device(os.urandom)
        given = Grant(pair.signing.public, pair.agreement.public, None, Role.MACHINE, None, None)
        await found.says(Kind.GRANT, given.encode())
        await found.is_found_out()
        await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        async with pages_over(office) as (url, _):
            page = (await ask(url, "/admin/waiting", Cookie=cookie_of(await sign_in(url)))).body.decode()
        space = found.here.space.hex()
        assert page.count('value="accept"') == 1, "the name's"
        assert f'Léa <span class="under">{found.pupil}</span>' in page
        assert re.search(rf">CM2 B <span class=\"under whole\">{space}<", page)
        of_pc, of_right = f"lost {pc.device.hex()}", f"grant --device … --space {space}"
        for command in (f"erase --person {found.pupil}", of_pc, of_right):
            assert f"sync-server {command}" in page
        assert pair.signing.public.hex() in page


@pytest.mark.parametrize("kind", [Kind.ERASE, Kind.REVOKE])
async def test_what_nobody_can_read_is_not_said_anew(tmp_path: Path, kind: Kind) -> None:
    async with theft(tmp_path) as found:
        said = await found.says(kind, b"\xa0")
        await found.is_found_out()
        with pytest.raises(BadInput):
            await found.here.office.do("accept", named=[said.id.hex()])
