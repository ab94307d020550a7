"""Whoever has the server's key holds back what a teacher said last, and lets her in again in the same breath (0273)."""

from __future__ import annotations

from html import unescape
from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Ruling
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.last_word import AFTER, NOTICE, her_last_word, told_by_status, undone
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class

ROW = "a teacher's last word is undone"


async def _nothing(_agent: object) -> list[object]:
    return []


async def _none_waits(*_: object) -> dict[bytes, int]:
    return {}


OFF = {
    "sync_agent.portal.pages.own_held_back": _nothing,
    "sync_agent.school.held_back.own_held_back": _nothing,
}


@attack(ROW, off=OFF)
async def test_her_first_page_and_status_say_that_her_last_word_is_held_back_until_she_says_it_again(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path) as here:
        await undone(here)
        told = await told_by_status(here)
        assert told["kinds"] == {"feedback": 1}
        assert "sync-server accept" in told["message"]
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE in await surfer.page("/")
            assert AFTER in (page := unescape(await surfer.page("/held-back")))
            assert f"/work/{here.work.hex()}" in page
        await Desk(here.teacher.agent).ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
        assert (await told_by_status(here))["count"] == 0
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE not in await surfer.page("/")


@attack(ROW, off=OFF)
async def test_that_whoever_holds_it_back_refuses_it_too_is_told(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        await undone(here)
        territory, space = here.room.territory, here.room.space
        held = await her_last_word(here)
        await territory.say(space, Kind.RULING, Ruling((), (held,)).encode())
        await here.sync(here.teacher)
        assert (await told_by_status(here))["refused"] == 1
        async with portal(here.teacher.agent) as surfer:
            assert NOTICE in await surfer.page("/")


@attack(ROW, off={"sync_agent.portal.head.school.held_back_in_school": _none_waits})
async def test_the_heads_page_tells_whose_words_wait(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        head = await here.room.head()
        await undone(here)
        await here.sync(head)
        async with portal(head.agent) as surfer:
            page = await surfer.page("/school")
            assert NOTICE in page
            assert "Mme Petit" in page.partition(NOTICE)[2].partition("</p>")[0]
