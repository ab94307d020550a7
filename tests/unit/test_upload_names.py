"""Files of a form that have the same name are all kept, under names that differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_agent.portal.files.uploads import _made_portable

MANY = 20_000


def test_thousands_of_files_of_one_name_are_numbered_and_none_tries_what_those_before_it_tried() -> None:
    # trying all numbers anew for each of them takes minutes
    assert _made_portable(["site/index.html"] * MANY) == [
        "index.html",
        *(f"index ({number}).html" for number in range(2, MANY + 1)),
    ]


@given(st.lists(st.sampled_from(["a.png", "A.PNG", "a (2).png", "a (3).png", "a", "a (2)", ".a", "x" * 240 + ".png"])))
def test_names_that_meet_the_numbered_ones_of_others_differ_all_the_same(names: list[str]) -> None:
    made = _made_portable(names)
    assert len({name.casefold() for name in made}) == len(names)
