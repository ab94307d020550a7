"""Whose keys came of a lost computer, and who was let in by name, is named to whoever reports it (docs/adr/0235)."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.identity import three_words
from protocol.model.entry import Kind
from protocol.model.structure import Grant
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal
from tests.harness.server_in_process import office
from tests.integration.test_server_rights import clone_of


@pytest.mark.parametrize("when", ["it-is-not-known-since", "it-was-taken-a-day-ago"])
async def test_who_reports_a_computer_is_told_which_copies_of_it_somebody_has_let_in(tmp_path: Path, when: str) -> None:
    async with office(tmp_path / "server") as desk:
        pc = await desk.enrol(await desk.invite("machine"))
        earlier = await clone_of(desk, pc)
        await desk.do("confirm", device=earlier)
        await note_arrivals(desk.server.store, desk.clock())
        desk.clock.advance(2 * DAY_MS)
        later, unseen = await clone_of(desk, pc), await clone_of(desk, pc)
        await desk.do("confirm", device=later)
        is_dated = when == "it-was-taken-a-day-ago"
        done = await desk.do("lost", device=pc.id, since="24h" if is_dated else None)
        copies = {later} if is_dated else {earlier, later}
        assert {row["device"] for row in done["copies"]} == copies, "of those from before the theft somebody knows"
        assert {row["name"] for row in done["copies"]} == {"CM2 B"}
        told = "".join(desk.said.lines)
        assert all((f"`lost {copy}` cuts it off too" in told) == (copy in copies) for copy in (earlier, later, unseen))
        await desk.do("lost", device=later)
        assert later not in {row["device"] for row in (await desk.do("lost", device=pc.id))["copies"]}


@pytest.mark.parametrize("by_whom", ["the head's computer, in a class", "somebody above the school"])
async def test_a_heads_page_names_the_copies_of_a_lost_computer_that_somebody_has_let_in(
    tmp_path: Path, by_whom: str
) -> None:
    async with town(tmp_path) as here:
        pc, head = await here.office.enrol(await here.office.invite("machine")), await here.head_of_the_school()
        copy = await clone_of(here.office, pc)
        await here.sync(head)
        desk = Desk(head.agent)
        made = await desk.ask("space add", name="CE2", year="2026-2027")
        is_above = by_whom == "somebody above the school"
        if is_above:
            await _let_in_above(here, copy)
            await here.sync(head)
        else:
            await desk.ask("grant", device=copy, space=[made["space"]])
        async with portal(head.agent) as surfer:
            page = html.unescape((await surfer.send("/lost", "/lost", {"device": pc.id, "meant": "yes"})).text)
            named = page.partition('id="h-copies"')[2].partition("</section>")[0]
            assert ("CE2" in named) == (not is_above)
            assert three_words(bytes.fromhex(copy)) in named
            assert (await surfer.send("/lost", "/lost", {"device": copy, "meant": "yes"})).status == 200
        readable = await head.agent.replica.readable(bytes.fromhex(copy))
        assert readable.keys().isdisjoint(head.agent.replica.door.below(here.school))


@pytest.mark.parametrize("by_a_right", ["in its class", "above the school alone"])
async def test_a_heads_page_names_the_computer_whose_copy_the_lost_one_was(tmp_path: Path, by_a_right: str) -> None:
    async with town(tmp_path) as here:
        pc, head = await here.office.enrol(await here.office.invite("machine")), await here.head_of_the_school()
        copy = await clone_of(here.office, pc)
        if by_a_right == "above the school alone":
            await here.office.do("ungrant", device=pc.id, space=[here.office.space])
            await _let_in_above(here, pc.id)
        await here.sync(head)
        async with portal(head.agent) as surfer:
            page = html.unescape((await surfer.send("/lost", "/lost", {"device": copy, "meant": "yes"})).text)
            named = page.partition('id="h-image"')[2].partition("</section>")[0]
            assert three_words(bytes.fromhex(pc.id)) in named
            assert f"sync-server lost {pc.id}" in named
            page = (await surfer.send("/lost", "/lost", {"device": pc.id, "meant": "yes"})).text
            assert 'id="h-image"' not in page


async def _let_in_above(here: Town, device: str) -> None:
    """Whoever has the server's key says so: a machine's right in the territory."""
    replica = here.office.server.replica
    given = replica.door.authorities_of(bytes.fromhex(device))[0]
    again = Grant(given.key, given.agreement, None, given.role, None, None).encode()
    await thief_says(here.office, Draft(replica.territory, Kind.GRANT, here.office.server.grant, again))
