"""What a device tells of its own words that are held back, and until when (docs/adr/0273)."""

from __future__ import annotations

from html import unescape
from pathlib import Path

from protocol.model.entry import Kind
from protocol.model.structure import Ruling
from tests.harness.commands import Desk
from tests.harness.last_word import AFTER, NOTICE, her_last_word, told_by_status, undone
from tests.harness.lost_laptop import another_laptop
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class


async def test_what_was_accepted_is_news_no_more(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        territory, space = here.room.territory, here.room.space
        held = await her_last_word(here)
        await territory.say(space, Kind.RULING, Ruling((held,), ()).encode())
        await here.sync(here.teacher)
        assert (await told_by_status(here))["count"] == 0


async def test_what_she_has_seen_leaves_her_first_page_and_status_counts_it_on(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        await undone(here)
        async with portal(here.teacher.agent) as surfer:
            await surfer.send("/held-back", "/held-back/seen", {"words": (await her_last_word(here)).hex()})
            assert NOTICE not in await surfer.page("/")
            assert AFTER in unescape(await surfer.page("/held-back"))
        assert (await told_by_status(here))["count"] == 1


async def test_another_laptop_of_hers_tells_of_its_own_words_alone(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        second = await another_laptop(here, here.teacher)
        await undone(here)
        await here.sync(second)
        assert (await Desk(second.agent).ask("status"))["held_back"]["count"] == 0
