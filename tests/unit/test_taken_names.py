"""When somebody's name is one that was another's, and when it only looks so."""

from __future__ import annotations

import pytest

from protocol.replica.office.mentioned import Mentioned
from protocol.replica.office.taken_names import called_otherwise, is_taken, several_names


@pytest.mark.parametrize(
    ("now", "own", "other"),
    [
        ("Léa", ["Tom", "Léa"], "Léa"),
        ("LEA", ["Tom"], "Léa"),
        ("MARTIN Léa", ["Tom Petit"], "Léa Martin"),
        ("Léa M.", ["Tom"], "Léa"),
        ("Léa", ["Tom Petit"], "Léa Martin"),
        ("Léa M.", ["Léa D."], "Léa M."),
        ("Léa Martin", ["Léo Martin"], "Léa Martin"),
        ("CM2 de l'an passé", ["CM2"], "CM2 de l'an passé"),
        ("Léa", ["Léa", "Tom", "Léa"], "Léa"),
        ("Lucas", ["Lucs"], "Lucas M."),
        ("Adam J. Rousseau", ["Jade Rousseau"], "Adam Rousseau"),
        ("Marie-Lou D.", ["Marie"], "Marie-Lou"),
        ("Marie D.", ["Marie-Lou D."], "Marie"),
        ("Léa", ["Léa M."], "Léa"),
        ("Léa", ["Léa M."], "Léa D."),
        ("Léa Martin", ["Léa M."], "Léa"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_a_name_that_was_anothers_is_asked_about(now: str, own: list[str], other: str) -> None:
    assert is_taken(now, own, ["Zoé", other])


@pytest.mark.parametrize(
    ("now", "own", "other"),
    [
        ("Léa", ["Léa"], "Léa"),
        ("Léa", ["Lea", "LÉA"], "Léa"),
        ("Léa", ["Léaa", "Léa"], "Tom"),
        ("Lucas", ["Lucs"], "Louis M."),
        ("Lea-Marie", ["Léa Marie", "MARIE, Léa"], "Léa"),
        ("Léa M.", ["Léa"], "Léa"),
        ("Léa M.", ["Léa"], "Léa D."),
        ("Mme Durand", ["Mme Petit"], "Mme Roy"),
        ("CM2 2025-2026", ["CM2"], "CM2"),
        ("Zoé", ["Tom"], "!"),
        ("?", ["Tom"], "Léa"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_nothing_is_asked_about_who_was_always_called_so_or_whose_name_was_corrected(
    now: str, own: list[str], other: str
) -> None:
    assert not is_taken(now, own, [other])


def test_another_name_is_one_of_other_words() -> None:
    said = ["Tom", "Léa", "Léo Martin", "LEA", "MARTIN Lea", "Léa M.", "Zoé"]
    assert called_otherwise("Léa Martin", said) == ["Tom", "Léa", "Léo Martin", "LEA", "Léa M.", "Zoé"]


def test_a_line_says_every_name_since_when_in_the_order_in_which_they_came() -> None:
    day = 24 * 3600 * 1000
    said = Mentioned(("Tom", "Zoé", "Léa"), (), (0, 5 * day, 9 * day)).called("Léa")
    assert said.startswith("“Léa” (called so since 10 Jan 1970 ")
    assert said.index("“Tom” since 1 Jan 1970") < said.index("“Zoé” since 6 Jan 1970")
    assert Mentioned(("Léa",), (), (0,)).called("Léa") == "“Léa”"
    assert "called so now" in Mentioned(("Tom",), (), (0,)).called("Léa")


@pytest.mark.parametrize(
    ("names", "are_several"),
    [
        (["Léa"], False),
        (["Léa", "LEA"], False),
        (["Léa", "Léa Martin"], False),
        (["MARTIN Léa", "Léa M. Martin"], False),
        (["Léa", "Tom"], True),
        (["Léa Martin", "Léa Petit"], True),
        (["Léa", "Léa Martin", "Léa Petit"], True),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, list) else str(value),
)
def test_an_id_has_several_names_where_none_of_two_is_the_other_and_more(
    names: list[str], *, are_several: bool
) -> None:
    person = b"p"
    assert several_names({person: frozenset(names)}) == ({person: sorted(names)} if are_several else {})
