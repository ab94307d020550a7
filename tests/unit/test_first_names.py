"""Names in the list of a shared machine: as little as tells pupils apart, and never two that are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import MAX_NAME_CHARS
from protocol.replica.console.by_name import compared
from protocol.replica.office.namesakes import first_and_family
from sync_agent.portal.shown import first_names
from sync_agent.portal.shown.first_names import Pupil, told_apart, whole_names


def pupils(*names: str, room: str = "CM1") -> list[Pupil]:
    return [Pupil(bytes([number]) * 16, name, room) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["Léa Martin", "Tom Petit"], ["Léa", "Tom"]),
        (["Léa Martin", "Léa Durand", "Tom Petit"], ["Léa M.", "Léa D.", "Tom"]),
        (["Léa Martin", "LEA DURAND"], ["Léa M.", "LEA D."]),
        (["MARTIN Léa", "Léa DURAND"], ["Léa M.", "Léa D."]),
        (["Léa Martin", "Léa Marchand"], ["Léa Mart.", "Léa Marc."]),
        (["Léa Martin", "Léa Martinez"], ["Léa Martin", "Léa Martinez"]),
        (["Léa Martin", "Léa Martinez", "Léa Martinet"], ["Léa Martin", "Léa Martinez", "Léa Martinet"]),
        (["Léa Martin", "Léa Martin", "Léa Durand"], ["Léa Martin (1)", "Léa Martin (2)", "Léa D."]),
        (["Léa", "Léa Martin"], ["Léa", "Léa M."]),
        (["DURAND Léa m.", "Léa Martin", "Léa Roy"], ["Léa m. DURAND", "Léa Martin", "Léa R."]),
        (["Léa", "Léa"], ["Léa (1)", "Léa (2)"]),
        (["Léa Martin", "Léa Martin", "Tom"], ["Léa Martin (1)", "Léa Martin (2)", "Tom"]),
        (["Jean-Paul Petit", "Zoé de La Tour", "Zoé Dupont"], ["Jean-Paul", "Zoé De.", "Zoé Du."]),
    ],
)
def test_a_name_shows_no_more_than_tells_pupils_apart(names: list[str], called: list[str]) -> None:
    assert list(told_apart(pupils(*names)).values()) == called


def test_whom_no_name_tells_apart_is_told_by_the_class_first() -> None:
    cm1, cm2 = Pupil(b"a", "Léa", "CM1"), Pupil(b"b", "Léa", "CM2")
    assert told_apart([cm1, cm2]) == {b"a": "Léa (CM1)", b"b": "Léa (CM2)"}
    assert told_apart([Pupil(b"c", "Léa", "CM1"), cm1, cm2])[b"c"] == "Léa (CM1, 2)"


def test_teachers_see_whole_names_and_the_same_numbers() -> None:
    assert list(whole_names(pupils("Léa Martin", "Léa Durand", "Tom")).values()) == ["Léa Martin", "Léa Durand", "Tom"]
    assert list(whole_names(pupils("Léa", "Léa")).values()) == ["Léa (1)", "Léa (2)"]


def test_of_one_name_each_has_the_number_that_it_is_given_and_those_who_have_none_the_next() -> None:
    late, early = Pupil(b"a", "Léa", "CM1", 3), Pupil(b"b", "LEA", "CM1", 1)
    assert told_apart([late, early]) == {b"a": "Léa (3)", b"b": "LEA (1)"}
    assert whole_names([late, early]) == {b"a": "Léa (3)", b"b": "LEA (1)"}
    assert whole_names([Pupil(b"c", "Léa", "CM1"), early])[b"b"] == "LEA (2)"


def test_whichever_part_of_a_name_stands_first_pupils_and_teachers_read_the_same_number() -> None:
    listed = [Pupil(b"a", "MARTIN Léa", "CM1", 2), Pupil(b"b", "Léa Martin", "CM1", 1)]
    assert told_apart(listed) == {b"a": "Léa MARTIN (2)", b"b": "Léa Martin (1)"}
    assert whole_names(listed) == {b"a": "MARTIN Léa (2)", b"b": "Léa Martin (1)"}


def test_capitals_say_which_part_is_the_family_name() -> None:
    assert first_and_family("LE GOFF Marie Anne") == ("Marie Anne", "LE GOFF")
    assert first_and_family("Marie") == ("Marie", "")
    assert first_and_family("ZOÉ") == ("ZOÉ", "")


@given(st.lists(st.text("aé B.(1)", max_size=6), max_size=6), st.permutations(range(6)))
def test_no_two_are_called_alike_and_the_order_of_the_list_changes_nothing(names: list[str], order: list[int]) -> None:
    listed = pupils(*(name for name in names if "(" not in name))
    called = told_apart(listed)
    assert len({compared(name) for name in called.values()}) == len(listed)
    assert told_apart([listed[number] for number in order if number < len(listed)]) == called


_LONG = "A " + "é" * (MAX_NAME_CHARS - 2)


@pytest.mark.parametrize(
    "names",
    [[_LONG] * 2_000, [_LONG[:-3] + f"{number:03}" for number in range(200)], [_LONG[:end] for end in range(3, 200)]],
    ids=["equal", "alike but for the end", "each as another begins"],
)
def test_a_list_of_long_names_is_read_once_a_name_and_not_once_a_letter(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(name: str) -> str:
        read.append(name)
        return compared(name)

    monkeypatch.setattr(first_names, "compared", counted)
    listed = [Pupil(number.to_bytes(16), name, "CM1") for number, name in enumerate(names)]
    assert len(set(told_apart(listed).values())) == len(names)
    assert len(read) <= 3 * len(names)  # a first name, a family name, what is made of them
