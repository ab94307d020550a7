"""Whoever finds a used code shows it where nobody has heard yet that it was used."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.identity import AgreementKey
from protocol.messages.wire import Call
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.held_in_space import grants_not_held_back
from protocol.replica.office.known_codes import KnownCodes
from protocol.rights.door import Authority
from protocol.trust.envelope import OpenedRequest
from sync_agent.school.letting_in import own_answer
from sync_agent.school.office import SchoolOffice
from sync_server.handlers.record.overused_codes import TOLD_MS, overused_notices
from sync_server.opened.app import Server
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.harness.asking import asking_in_clear
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import town
from tests.harness.server_in_process import Member
from tests.harness.territory import new_device

ROW = "a used code is shown to a host that has not heard of it"


async def _nothing_is_counted(*_: object) -> list[Authority]:
    return []


async def _whoever_holds_it_back(server: Server, grants: Collection[Authority]) -> list[Authority]:
    return await grants_not_held_back(server.replica, grants)


UNTOLD = {"sync_server.handlers.record.overused_codes._holding": _nothing_is_counted}


async def _enrols_at(head: Device, code: str) -> bytes:
    """The key of a device that was let in at a head teacher's computer."""
    device = new_device(os.urandom)
    asked = asking_in_clear(device, code, "Portable")
    reply = AgreementKey(os.urandom(32)).public
    opened = OpenedRequest(
        device.signing.public, reply, Call.ENROLL, asked.encode(), os.urandom(32), head.agent.keys.agreement
    )
    assert await own_answer(head.agent, await SchoolOffice.of(head.agent), opened, KnownCodes())
    return device.signing.public


@attack(ROW, off=UNTOLD)
async def test_of_a_code_that_has_let_in_more_than_it_is_for_people_are_told_with_all_whom_it_let_in(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        office = here.office
        substitute = await office.add_person("M. Roy", "teacher")
        paper = await office.invite("teacher", person=substitute, ttl="7d")
        fine = await office.invite("machine", uses=2, ttl="7d")
        await here.sync()
        his: Member = await office.enrol(paper)
        await office.enrol(fine)
        # out of the bin, before she has heard of it
        finder = await _enrols_at(head, paper)
        assert (await office.do("status"))["overused_codes"] == []
        await here.sync()
        rows = (await office.do("status"))["overused_codes"]
        assert len(rows) == 1
        told = rows[0]
        assert (told["uses"], told["role"], told["spaces"]) == (1, "teacher", ["CM2 B"])
        assert {row["device"] for row in told["devices"]} == {his.id, finder.hex()}
        office.said.lines.clear()
        await office.do("devices")
        assert any(finder.hex() in line and his.id in line for line in office.said.lines)
        # whoever cuts off the one that nobody knows has done what there is to do
        await office.do("revoke", device=finder.hex())
        assert (await office.do("status"))["overused_codes"] == []


@attack(
    ROW,
    off={"sync_server.handlers.record.overused_codes.grants_not_held_back_by_this_office": _whoever_holds_it_back},
)
async def test_also_where_a_copied_key_has_cut_one_of_them_off_and_let_it_back_in_one_breath(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        code = await here.office.invite("machine", ttl="7d")
        await here.sync()
        await here.office.enrol(code)
        finder = await _enrols_at(head, code)
        await here.sync()
        server = here.office.server
        (first,) = server.replica.door.authorities_of(finder)
        order = Draft(first.space, Kind.REVOKE, server.grant, Revocation(finder, ()).encode())
        (cut,) = await thief_says(here.office, order)
        again = Grant(finder, first.agreement, first.tls_sha256, first.role, None, None).encode()
        await thief_says(here.office, Draft(first.space, Kind.GRANT, server.grant, again, parents=(cut.id,)))
        assert first.space in await server.replica.readable(finder)
        told = (await here.office.do("status"))["overused_codes"]
        assert finder.hex() in {row["device"] for code in told for row in code["devices"]}


async def test_a_code_that_let_in_too_many_is_told_for_a_while(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        code = await here.office.invite("machine", ttl="7d")
        await here.sync()
        await here.office.enrol(code)
        await _enrols_at(head, code)
        await here.sync()
        here.office.clock.advance(TOLD_MS - DAY_MS)
        assert (await here.office.do("status"))["overused_codes"]
        (notice,) = await overused_notices(here.office.server)
        for language, title in (
            ("en", "A code for 1 has let in 2: CM2 B"),
            ("fr", "Un code prévu pour 1 a fait entrer 2 postes : CM2 B"),
        ):
            shown = notice_of(Words(language, here.office.clock()), notice)
            assert shown.title.replace("\u00a0", " ").replace("\u202f", " ") == title
        here.office.clock.advance(2 * DAY_MS)
        assert not (await here.office.do("status"))["overused_codes"]
