"""What a thief reported, and the server holds back, is settled at a head teacher's computer by one word of hers."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from tests.harness.commands import Desk
from tests.harness.office_devices import town


@pytest.mark.parametrize("role_of_thief", ["admin", "head"])
async def test_of_what_somebody_of_any_rank_reported_falsely_one_grant_of_the_heads_is_enough(
    tmp_path: Path, role_of_thief: str
) -> None:
    async with town(tmp_path) as here:
        server, clock = here.office.server, here.office.clock
        person = await here.office.add_person("M. Durand", "teacher")
        head, laptop = await here.head_of_the_school(), await here.device("teacher", person)
        if role_of_thief == "admin":
            thief = await here.device("admin")
        else:
            thief = await here.head_of_the_school()
        await here.sync(head, laptop, thief, head)
        await note_arrivals(server.store, clock())
        clock.advance(DAY_MS)
        device = laptop.agent.device
        (right,) = thief.agent.replica.door.authorities_of(thief.agent.device)
        await thief.agent.write(Draft(here.space, Kind.REVOKE, right.grant, Revocation(device, ()).encode()))
        await here.sync(thief, head)
        await here.office.do("revoke", device=thief.agent.device.hex(), since="12h")
        await here.sync(head)
        desk = Desk(head.agent)
        await desk.ask("devices")
        assert f"{device.hex()} was reported" in "".join(desk.told)
        for _ in range(2):
            await desk.ask("grant", device=device.hex(), space=[here.office.space])
        said = await head.agent.replica.store.scan_kinds([Kind.GRANT])
        assert len([grant for grant in said if grant.header.author == head.agent.device]) == 1
        later = Desk(head.agent)
        await later.ask("devices")
        assert not later.told
        made = await later.ask("space add", name="CE2", year="2026-2027")
        await later.ask("grant", person=person, space=[made["space"]])
        assert (await head.agent.replica.view(bytes.fromhex(made["space"]))).roster.may_read(device)
