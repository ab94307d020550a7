"""What a console says of a drill."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from protocol.replica.console.drill_words import stop_in_words


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
