"""When two names of classes are one (`protocol.replica.office.space_namesakes`)."""

from __future__ import annotations

import pytest

from protocol.replica.office.space_namesakes import readings


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("CM2 B", "cm2-b", True),
        ("CM2 B", "CM2B", True),
        ("CM1", "CMl", True),
        ("CM1", "\u0421\u041c1", True),
        ("Élèves de CP", "CP, eleves de", True),
        ("\U0001f98a", "\U0001f98a", True),
        ("CM1", "CM2", False),
        ("\U0001f98a", "\U0001f43b", False),
    ],
)
def test_names_of_classes_are_one_where_people_read_them_so_and_pictures_where_they_are_the_same(
    one: str, other: str, are_one: bool
) -> None:
    assert bool(readings(one) & readings(other)) is are_one
