"""Whose keys came of a lost computer, and who was let in by name, is named to whoever reports it (docs/adr/0235)."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.identity import three_words
from protocol.replica.office.arrivals import note_arrivals
from tests.harness.commands import Desk
from tests.harness.office_devices import town
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


async def test_a_heads_page_names_the_copies_of_a_lost_computer_that_somebody_has_let_in(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pc, head = await here.office.enrol(await here.office.invite("machine")), await here.head_of_the_school()
        copy = await clone_of(here.office, pc)
        await here.sync(head)
        desk = Desk(head.agent)
        made = await desk.ask("space add", name="CE2", year="2026-2027")
        await desk.ask("grant", device=copy, space=[made["space"]])
        async with portal(head.agent) as surfer:
            page = html.unescape((await surfer.send("/lost", "/lost", {"device": pc.id, "meant": "yes"})).text)
            named = page.partition('id="h-copies"')[2].partition("</section>")[0]
            assert "CE2" in named
            assert three_words(bytes.fromhex(copy)) in named
            assert (await surfer.send("/lost", "/lost", {"device": copy, "meant": "yes"})).status == 200
        assert not await head.agent.replica.readable(bytes.fromhex(copy))


async def test_a_heads_page_names_the_computer_whose_copy_the_lost_one_was(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pc, head = await here.office.enrol(await here.office.invite("machine")), await here.head_of_the_school()
        copy = await clone_of(here.office, pc)
        await here.sync(head)
        async with portal(head.agent) as surfer:
            page = html.unescape((await surfer.send("/lost", "/lost", {"device": copy, "meant": "yes"})).text)
            named = page.partition('id="h-image"')[2].partition("</section>")[0]
            assert three_words(bytes.fromhex(pc.id)) in named
            assert f"sync-server lost {pc.id}" in named
            page = (await surfer.send("/lost", "/lost", {"device": pc.id, "meant": "yes"})).text
            assert 'id="h-image"' not in page
