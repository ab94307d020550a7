"""Where a form of the portal leads to."""

from __future__ import annotations

import pytest

from sync_agent.portal.each_page.navigation import after_misses


@pytest.mark.parametrize(
    ("place", "there"),
    [
        ("/", "/?missed=4"),
        ("/work?sort=name", "/work?sort=name&missed=4"),
        ("/item/00#mine", "/item/00?missed=4#mine"),
        ("/work?a=é &b", "/work?a=é &b&missed=4"),
    ],
)
def test_who_is_told_of_failed_tries_is_led_to_the_page_where_they_wanted_to_be(place: str, there: str) -> None:
    assert after_misses(place, 4) == there
