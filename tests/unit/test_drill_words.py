"""What a console says of a drill."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from protocol.replica.console.drill_words import stop_in_words
from sync_agent.network.trouble import Seen, Trouble


@pytest.fixture(params=["UTC-14", "UTC+12"])
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_a_drill_that_somebody_dated_at_the_end_of_all_years_is_told_of() -> None:
    assert any("9999" in line for line in stop_in_words({"until": "9999-12-31T23:59:59.999+00:00"}))


def test_a_device_that_rehearses_says_that_there_is_nothing_to_mend_not_that_nothing_is_wrong() -> None:
    remedy = Seen(Trouble.DRILL, "09:05").remedy("https://relais.example.org")
    assert remedy == "there is nothing to mend: it ends by itself, and everything is sent then"
