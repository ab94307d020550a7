"""What a portfolio calls a pupil's files."""

from __future__ import annotations

import pytest

from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.replica.office.whose_words import files_of
from sync_agent.hand_ins.year_end import _named


def test_a_file_of_what_was_said_is_called_after_whose_word_it_is_and_no_two_are_the_same() -> None:
    assert files_of(["Mme Petit", "Mme Petit (2)", "CON", "M. A/B", None, None]) == [
        "Mme Petit",
        "Mme Petit (2)",
        "-CON",
        "M. A-B",
        "Quelqu'un sans nom ici",
        "Quelqu'un sans nom ici [2]",
    ]
    assert files_of([]) == []


def test_of_a_name_too_long_for_a_file_the_number_stays() -> None:
    long = "𝄞" * 200
    first, second, other = files_of([long, f"{long} (2)", f"{long}𝄞"])
    assert second.endswith(" (2)")
    assert other == f"{first} [2]"
    assert all(len(f"{one}.txt".encode()) <= MAX_PATH_COMPONENT_BYTES for one in (first, second, other))


def test_who_is_called_as_a_file_of_anothers_words_takes_neither_its_place_nor_that_name() -> None:
    called = ["Mme Petit.txt", "Mme Petit.TXT. ", "Mme Petit", "Mme Petit-txt"]
    assert files_of(called) == ["Mme Petit-txt", "Mme Petit.TXT.  [2]", "Mme Petit", "Mme Petit-txt [2]"]


@pytest.mark.parametrize("name", ["é" * 200, "Léa " + "𝄞" * 196, "Lé" + "a" * 198])
def test_two_pupils_whose_names_are_too_long_for_a_folder_have_one_each_that_still_says_what_is_to_be_said(
    name: str,
) -> None:
    lea, tom = (_named(name, tag, then=" (plus sur la liste)") for tag in ("01010101", "02020202"))
    assert lea.endswith(" (plus sur la liste) (01010101)")
    assert tom.endswith(" (plus sur la liste) (02020202)")
    assert lea[:20] == name[:20]
    dated = _named(name, "01010101", first="2026-11-29 ")
    assert dated.startswith("2026-11-29 ")
    assert all(len(one.encode()) <= MAX_PATH_COMPONENT_BYTES for one in (lea, tom, dated))
