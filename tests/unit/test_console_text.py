"""What people read: tables that fit, ids that can be typed, nothing that a terminal would obey."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from protocol.errors import BadInput, Code
from protocol.replica.console.abbreviations import is_beginning, whole
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import many_of, readable

ITEM = "ab" * 32
OTHER = "abab" + "cd" * 30
PERSON = "12" * 16


def row(title: str) -> dict[str, JSON]:
    return {
        "item": ITEM,
        "title": title,
        "due": None,
        "withdrawn": False,
        "complete": True,
        "heads": [ITEM],
        "files": [{}],
    }


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_table_fits_the_terminal_whatever_stands_in_it(width: int) -> None:
    rows = [{**row("Le cycle de l'eau " * 12), "subject": "Sciences et technologie " * 5, "person": PERSON}]
    lines = readable(rows, width).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" in lines[1]


def test_words_that_people_compare_are_whole_in_the_narrowest_terminal() -> None:
    words = "désert drapeau pélican fromage image brosse"
    rows: JSON = [{"id": ITEM, "teacher": "Mme Petit-Lavandière", "name": "Portable de Mme Petit", "words": words}]
    for width in (60, 80, 120):
        assert readable(rows, width).splitlines()[1].endswith(words)
    assert "…" in readable(rows, 80), "what is only read gives way"


def test_what_is_wrong_with_something_is_said_whole_in_the_narrowest_terminal() -> None:
    problem = "another name in this folder looks the same; only the way its accents are stored differs"
    rows: JSON = [{"folder": "/home/petit/leçons de sciences", "title": "Le cycle de l'eau", "problem": problem}]
    assert readable(rows, 60).splitlines()[1].endswith(problem)


def test_names_give_way_before_ids_and_times() -> None:
    seen = "2026-11-28T08:11:30.000Z"
    rows: JSON = [{"device": ITEM, "name": "Portable de Mme Petit-Lavandière", "last_seen": seen, "title": "Eau " * 20}]
    line = readable(rows, 80, now=datetime(2026, 11, 28, 9, tzinfo=UTC)).splitlines()[1]
    assert line.startswith(ITEM[:12] + " ")
    assert re.search(r"today \d\d:\d\d  ", line)


def test_a_table_shortens_ids_and_leaves_out_columns_in_which_nothing_stands() -> None:
    head, line = readable([row("Eau")]).splitlines()
    assert head.split() == ["item", "title", "complete", "heads", "files"]
    assert line.split() == [ITEM[:12], "Eau", "yes", "1", "1"]


def test_a_table_says_so_when_nothing_in_it_is_complete() -> None:
    rows: JSON = [{"title": "Eau", "complete": False, "withdrawn": False}]
    assert readable(rows).split() == ["title", "complete", "Eau", "no"]


def test_a_table_shows_people_only_the_columns_that_are_for_them() -> None:
    head, line = readable([row("Eau")], columns={"title": "lesson", "item": "id"}).splitlines()
    assert head.split() == ["lesson", "id"], "in their order, under their own headings"
    assert line.split() == ["Eau", ITEM[:12]]


def test_a_problem_is_told_whole_with_what_to_do() -> None:
    long = "everybody on this machine may read a file " * 5
    shown = readable(
        {"ok": False, "problems": [{"code": "no-right", "message": long, "remedy": "take that right away"}]}, 80
    )
    assert shown.splitlines() == ["ok        no", "problems", f"  - {long} (no-right)", "    → take that right away"]


def test_a_fact_that_is_there_to_be_copied_is_whole() -> None:
    assert ITEM in readable({"item": ITEM, "revision": OTHER})


NOW = datetime(2026, 11, 27, 12, tzinfo=UTC).astimezone().replace(hour=12)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (NOW, "today 12:00"),
        (NOW - timedelta(hours=13), "yesterday 23:00"),
        (NOW + timedelta(days=1, minutes=5), "tomorrow 12:05"),
        (NOW + timedelta(days=7), "Fri 4 Dec 12:00"),
        (NOW + timedelta(days=60), "26 Jan 2027 12:00"),
    ],
)
def test_a_time_in_a_table_is_said_in_words_to_the_minute(at: datetime, said: str) -> None:
    written = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.123Z}"
    head, line = readable([{"at": written, "name": "x"}], now=NOW).splitlines()
    assert head.split() == ["at", "name"]
    assert line.split("  ")[0] == said


def test_without_knowing_what_today_is_a_time_has_its_year() -> None:
    written = f"{NOW.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert readable([{"at": written}]).splitlines()[1] == "27 Nov 2026 12:00"


def test_among_other_facts_every_time_is_said_in_words_and_alike() -> None:
    written = f"{NOW.astimezone(UTC):%Y-%m-%dT%H:%M:%S.123Z}"
    shown = readable(
        {
            "server": {"reachable": True, "last_sync": written},
            "budget": {"until": written, "held": {"fetch": 0}},
            "spaces": [{"name": "CM1", "proven_at": written}],
        },
        now=NOW,
    )
    assert written not in shown
    assert shown.splitlines() == [
        "server  reachable=yes last_sync=today 12:00",
        "budget",
        "  until  today 12:00",
        "  held   fetch=0",
        "spaces",
        "  name  proven_at",
        "  CM1   today 12:00",
    ]


def test_a_time_alone_is_said_in_words_and_whole() -> None:
    written = f"{NOW.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert readable({"expires": written}, now=NOW) == f"expires  today 12:00 ({written})\n"


def test_a_part_in_which_nothing_stands_is_left_out_of_a_cell() -> None:
    rows: JSON = [{"backlog": {"entries": 3, "bytes": 0}}, {"backlog": {"entries": None, "bytes": None}}]
    assert readable(rows).splitlines()[1:] == ["entries=3", "-"]


def test_the_beginning_of_an_id_is_enough_where_only_one_has_it() -> None:
    known = [bytes.fromhex(ITEM), bytes.fromhex(OTHER)]
    assert whole("ababab", known, Code.UNKNOWN_ITEM, "item") == ITEM
    assert whole("ABABCD", known, Code.UNKNOWN_ITEM, "item") == OTHER
    assert whole("ffffffff", known, Code.UNKNOWN_ITEM, "item") == "ffffffff", (
        "whoever parses ids says that it is unknown"
    )
    with pytest.raises(BadInput) as raised:
        whole("abab", known, Code.UNKNOWN_ITEM, "item")
    assert raised.value.code is Code.UNKNOWN_ITEM
    assert ITEM in raised.value.message
    assert OTHER in raised.value.message


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("abcdef12", True), ("abcdef1", False), ("abcdefgh", False), (ITEM, False), (ITEM[:63], True), ("", False)],
)
def test_eight_digits_are_a_beginning_and_a_whole_id_is_none(text: str, is_one: bool) -> None:
    assert is_beginning(text, 32) is is_one


def test_what_is_counted_is_one_or_several() -> None:
    assert [many_of(many, "hand-in") for many in (0, 1, 2)] == ["0 hand-ins", "1 hand-in", "2 hand-ins"]


def test_an_object_shows_people_headings_in_the_place_of_keys_and_leaves_nothing_out() -> None:
    told = readable(
        {"on": True, "written": 0, "people": [{"name": "Léa", "lost": "Zoé"}]},
        columns={"written": "said by them", "name": "pupil", "lost": "may stand in the place of"},
    )
    assert told.splitlines() == [
        "on            yes",
        "said by them  0",
        "people",
        "  pupil  may stand in the place of",
        "  Léa    Zoé",
    ]
