"""Names as they are shown, and so compared: nothing in them that no screen shows."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.fields import Fields
from protocol.model.structure import PersonKey, PersonRecord, SpaceChange, SpaceRecord
from protocol.model.work import Feedback
from protocol.roles import PersonRole
from protocol.shown_text import name_shown, one_line

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.text(
    "Léa \u200b\u202e\ufe0f\n\u3164\u00a0", max_size=20
)


@pytest.mark.parametrize("name", ["Léa Martin", "N'Diaye", "Jean-Luc", "李", "Zoe\u0308", "نور", "CM1 & CM2 (A)"])
def test_an_ordinary_name_is_shown_to_the_letter(name: str) -> None:
    assert name_shown(name) == name


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("To\u200bm", "Tom"),
        ("\ufeffTom", "Tom"),
        ("T\u00adom", "Tom"),
        ("Tom\ufe0f", "Tom"),
        ("Tom\U000e0100\U000e0061", "Tom"),
        ("To\u3164\uffa0\u115fm", "Tom"),
        ("\u202emoT\u202c", "moT"),
        ("Tom\n(Mme Petit)", "Tom (Mme Petit)"),
        ("Tom\x00\x1b[2K", "Tom [2K"),
        (" Tom\u202f\u2800Martin ", "Tom Martin"),
        ("To\u200am", "To m"),
        ("\u200b\u2060", ""),
    ],
)
def test_a_name_is_shown_without_what_has_no_shape_and_with_a_space_for_each_blank(sent: str, shown: str) -> None:
    assert name_shown(sent) == shown


@given(TEXTS)
def test_what_is_shown_is_shown_so_again_and_breaks_no_line(text: str) -> None:
    shown = name_shown(text)
    assert name_shown(shown) == shown
    assert one_line(shown) == shown
    assert not {"Cc", "Zl", "Zp"} & {unicodedata.category(char) for char in shown}


@given(TEXTS)
def test_every_list_keeps_its_people_whatever_they_were_called(text: str) -> None:
    assert PersonRecord.parse(PersonRecord(text, PersonRole.PUPIL).encode()).name == name_shown(text)
    assert SpaceRecord.parse(SpaceRecord(text, "0180001D").encode()).name == name_shown(text)
    assert SpaceChange.parse(SpaceChange(text).encode()).name == name_shown(text)
    assert PersonKey.parse(PersonKey(bytes(32), text).encode()).name == name_shown(text)


def test_a_mark_is_read_on_one_line_as_it_is_shown() -> None:
    said = Feedback("Vu", "0/20\n(Mme Petit)\u202e", False, None)
    assert Feedback.parse(said.encode()).mark == "0/20 (Mme Petit)"


def test_a_name_may_be_missing_where_it_need_not_be_there() -> None:
    assert Fields({}, "a key").name_or_none("name") is None


@given(TEXTS)
def test_a_title_changes_nothings_direction(text: str) -> None:
    assert not {"\u202d", "\u202e", "\u2066", "\u2069"} & set(one_line(text))
