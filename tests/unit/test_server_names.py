from __future__ import annotations

import datetime as dt

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.office.names import (
    device_id,
    invited_role,
    lifetime_ms,
    name_of,
    next_year_perhaps,
    person_id,
    person_role,
    school_year,
    year_meant,
)
from protocol.roles import PersonRole, Role


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [("30m", 1_800_000), ("24h", 86_400_000), ("7d", 604_800_000), ("1s", 1_000), ("366d", 31_622_400_000)],
)
def test_a_lifetime_is_a_number_and_a_unit(text: str, lifetime: int) -> None:
    assert lifetime_ms(text) == lifetime


@pytest.mark.parametrize("text", ["", "24", "h", "0h", "-1h", "1.5h", "1 h", "24H", "367d", "9999999999d", "٣h", "1w"])
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        lifetime_ms(text)
    assert refusal.value.code is Code.BAD_DATE


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "a\x00", "\udcff", "x" * 201])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        name_of(text, "a space")
    assert refusal.value.code is Code.BAD_NAME


@pytest.mark.parametrize("text", ["CM2 B", "Léa & Tom", "ÉCOLE « Jules »", "李", "👩 CM1"])
def test_names_of_people_and_classes_are_kept_as_they_are(text: str) -> None:
    assert name_of(f" {text} ", "a space") == text


def test_a_name_that_was_copied_with_what_nobody_sees_is_kept_without_it() -> None:
    assert name_of("\ufeffLé\u00ada\u00a0 Martin\u200b", "a person") == "Léa Martin"
    with pytest.raises(BadInput) as refusal:
        name_of("\u200b\u3164", "a person")
    assert refusal.value.code is Code.BAD_NAME


@pytest.mark.parametrize("text", ["2026", "2026-2028", "2026/2027", "2027-2026", "20262027"])
def test_what_is_no_school_year_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        school_year(text)
    assert refusal.value.code is Code.BAD_DATE
    assert (school_year("2026-2027"), school_year(None)) == ("2026-2027", None)


def test_a_code_gives_only_the_roles_of_devices() -> None:
    assert [invited_role(text) for text in ("machine", "teacher", "relay", "admin")] == [
        Role.MACHINE,
        Role.TEACHER,
        Role.RELAY,
        Role.ADMIN,
    ]
    for text in ("root", "server", "pupil", "Teacher", ""):
        with pytest.raises(BadInput) as refusal:
            invited_role(text)
        assert refusal.value.code is Code.UNKNOWN_ROLE


def test_a_person_is_a_teacher_a_pupil_a_guardian_or_an_admin() -> None:
    assert person_role("guardian") is PersonRole.GUARDIAN
    with pytest.raises(BadInput, match="teacher, pupil, guardian, admin") as refusal:
        person_role("machine")
    assert refusal.value.code is Code.UNKNOWN_ROLE


def test_ids_are_whole_and_hexadecimal() -> None:
    assert device_id("AB" * 32) == b"\xab" * 32
    assert person_id("0f" * 16) == b"\x0f" * 16
    for text in ("ab" * 31, "ab" * 33, "zz" * 32, "", "ab " * 32):
        with pytest.raises(BadInput) as refusal:
            device_id(text)
        assert refusal.value.code is Code.UNKNOWN_DEVICE


@pytest.mark.parametrize(
    ("said", "today", "year"),
    [
        (None, "2026-11-30", "2026-2027"),
        (None, "2027-06-30", "2026-2027"),
        (None, "2027-07-01", "2027-2028"),
        (None, "2027-01-01", "2026-2027"),
        ("2027-2028", "2026-11-30", "2027-2028"),
        ("none", "2026-11-30", None),
        (" None ", "2026-11-30", None),
    ],
)
def test_a_class_is_of_the_year_in_which_it_is_made_unless_somebody_says_another(
    said: str | None, today: str, year: str | None
) -> None:
    assert year_meant(said, int(dt.datetime.fromisoformat(f"{today}T00:00:00Z").timestamp() * 1000)) == year


@pytest.mark.parametrize(
    ("today", "year"),
    [("2027-03-31", None), ("2027-04-01", "2027-2028"), ("2027-06-30", "2027-2028"), ("2027-07-01", None)],
)
def test_in_spring_a_class_may_be_one_for_september(today: str, year: str | None) -> None:
    assert next_year_perhaps(int(dt.datetime.fromisoformat(f"{today}T00:00:00Z").timestamp() * 1000)) == year


def test_what_is_no_year_makes_no_class() -> None:
    with pytest.raises(BadInput) as refusal:
        year_meant("2026", 0)
    assert refusal.value.code is Code.BAD_DATE
