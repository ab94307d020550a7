"""Names where ids are asked for: compared as people say them, never guessed, and helped along."""

from __future__ import annotations

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.console.by_name import Named, by_name, compared
from protocol.replica.office.people import spoken

LEA, LEO, ZOE = (Named(bytes([number]) * 16, name, "pupil, CM1") for number, name in enumerate(("Léa", "Léo", "Zoé")))
CLASS = [LEA, LEO, ZOE, Named(b"\x09" * 16, None)]


@pytest.mark.parametrize("text", ["Léa", "léa", "LEA", "  lea ", "Le\N{COMBINING ACUTE ACCENT}a", "\ufeffLé\u200ba"])
def test_case_accents_white_space_and_what_no_screen_shows_make_no_difference(text: str) -> None:
    assert by_name(text, CLASS, Code.UNKNOWN_PERSON, "person") is LEA


@pytest.mark.parametrize("text", ["", " ", "L", "Lé", "Léa Martin", "09090909"])
def test_a_part_of_a_name_or_more_than_it_is_nobodys_name(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        by_name(text, CLASS, Code.UNKNOWN_PERSON, "person")
    assert (raised.value.code, raised.value.exit_status) == (Code.UNKNOWN_PERSON, 2)
    for name, number in (("Léa", "00"), ("Léo", "01"), ("Zoé", "02")):
        assert f"{name} (pupil, CM1, {number * 16})" in raised.value.message


def test_of_two_with_one_name_none_is_taken_and_both_are_shown() -> None:
    other = Named(b"\x07" * 16, "LÉA", "pupil, CM2")
    with pytest.raises(BadInput, match="2 persons here are called “lea”") as raised:
        by_name("lea", [*CLASS, other], Code.UNKNOWN_PERSON, "person")
    assert f"Léa (pupil, CM1, {'00' * 16}), LÉA (pupil, CM2, {'07' * 16})" in raised.value.message
    assert by_name("lea", [LEA, LEA], Code.UNKNOWN_PERSON, "person") is LEA


def test_a_class_that_is_over_is_meant_only_where_no_other_has_its_name() -> None:
    old, new = Named(b"\x01" * 32, "CM1", "closed", is_over=True), Named(b"\x02" * 32, "CM1")
    assert by_name("cm1", [old, new], Code.UNKNOWN_SPACE, "space") is new
    assert by_name("cm1", [old, Named(b"\x03" * 32, "CM2")], Code.UNKNOWN_SPACE, "space") is old
    with pytest.raises(BadInput, match=rf"CM2 \({'03' * 32}\), CM1 \(closed, {'01' * 32}\)$"):
        by_name("CE1", [old, Named(b"\x03" * 32, "CM2")], Code.UNKNOWN_SPACE, "space")
    with pytest.raises(BadInput, match="2 spaces here are called “cm1”"):
        by_name("cm1", [old, Named(b"\x04" * 32, "CM1", is_over=True)], Code.UNKNOWN_SPACE, "space")


def test_of_many_those_are_listed_first_that_were_probably_meant() -> None:
    many = [Named(number.to_bytes(16, "big"), f"Poste {number:02}") for number in range(30)]
    with pytest.raises(BadInput) as raised:
        by_name("renrad", [*many, Named(b"\xff" * 16, "Renard")], Code.UNKNOWN_DEVICE, "device")
    listed = raised.value.message.partition("is asked for: ")[2]
    assert listed.startswith(f"Renard ({'ff' * 16}), ")
    assert listed.endswith("and 23 more")


def test_where_nothing_has_a_name_the_answer_says_what_to_type() -> None:
    with pytest.raises(BadInput, match=r"a name, an id or its first eight digits is asked for$"):
        by_name("CM1", [], Code.UNKNOWN_SPACE, "space")


def test_letters_of_several_signs_are_compared_as_they_are_said() -> None:
    assert compared("Cœur  de Straße") == compared("CŒUR DE STRASSE")
    assert compared("Nœlle") == compared("noelle") == compared("NOËLLE")
    assert compared("Lætitia") == compared("laetitia")


def test_who_was_added_twice_is_found_whatever_keyboard_wrote_their_ligatures() -> None:
    assert spoken("Nœlle Bœuf") == spoken("BOEUF Noelle")
