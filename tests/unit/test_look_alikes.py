"""Which names look alike, and which do not."""

from __future__ import annotations

import pytest

from protocol.replica.office.look_alikes import READINGS, seen
from protocol.replica.office.people import spoken

ALIKE = [
    ("Mme Blanc", "Mme BIanc"),
    ("Mme Blanc", "Mme B1anc"),
    ("Mme Blanc", "Mme B|anc"),
    ("M. Millot", "M. MiIIot"),
    ("Mme Arnaud", "Mme Amaud"),
    ("Wanda", "vvanda"),
    ("Alice", "AIice"),
    ("ALICE", "ALlCE"),
    ("Inès", "lnès"),
    ("Ilyes", "1lyes"),
    ("Lucas", "|ucas"),
    ("Zoé", "Z0é"),
    ("Olivier", "0livier"),
    ("Iris MARTIN", "lris MARTIN"),
    ("Mme Petit", "\u041cme \u0420\u0435tit"),
    ("Mme Petit", "Mme Pet\u03b9t"),
    ("Mme Petit", "Mme Pet\u0131t"),
]
UNLIKE = [
    ("Elia", "Ella"),
    ("Iana", "Lana"),
    ("Iara", "lara"),
    ("Ian", "Lan"),
    ("Mila", "Milla"),
    ("Léa", "Léo"),
    ("Jade", "Jude"),
    ("Élève 1", "Élève 10"),
    ("Élève 1", "Élève 2"),
    ("CE1", "CE2"),
    ("Marie", "Marie-Lou"),
    ("Анна", "Аnna"),  # noqa: RUF001
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_alike_are_read_alike(one: str, other: str) -> None:
    assert seen(one) == seen(other)
    assert spoken(one) != spoken(other)


@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_names_of_two_children_are_not(one: str, other: str) -> None:
    assert not any(as_(one) == as_(other) for as_ in READINGS)


@pytest.mark.parametrize("name", ["Léa Martin", "MARTIN Léa", "CM2 A", "Œuvrard, d'Ornano", "Анна", "!", ""])
def test_a_name_looks_like_itself_whatever_its_order(name: str) -> None:
    assert seen(name) == seen(" ".join(reversed(name.split())))
