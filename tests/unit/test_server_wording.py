from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

import sync_server.web
from protocol.errors import Code
from protocol.model.entry import kind_name
from sync_server.handlers.by_kit.waiting import MAY_WAIT
from sync_server.handlers.overview.devices import DeviceState, Remark
from sync_server.web.remedies import TOPICS, topic_of
from sync_server.web.wording import CATALOGUES, Words

NOW_MS = 1_795_000_000_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


def spoken(language: str) -> Words:
    return Words(language, NOW_MS, dt.UTC)


def flat(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_every_language_says_everything_with_the_same_facts() -> None:
    first, *others = (CATALOGUES.texts(language) for language in CATALOGUES.languages)
    for other in others:
        assert first.keys() == other.keys()
        for key, text in first.items():
            assert set(re.findall(r"\{\w*\}", text)) == set(re.findall(r"\{\w*\}", other[key])), key


def test_the_templates_ask_for_nothing_that_is_not_there() -> None:
    asked: set[str] = set()
    for template in (Path(sync_server.web.__file__).parent / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        asked |= set(re.findall(r"\bt\('([\w.-]+)'\s*[,)]", text))
        asked |= {f"{key}_one" for key in re.findall(r"\bt\.count\('([\w.-]+)'", text)}
    assert len(asked) > 50
    assert asked <= CATALOGUES.texts("fr").keys()


@pytest.mark.parametrize("language", CATALOGUES.languages)
def test_every_state_remark_and_error_has_its_words_and_what_can_be_done_a_remedy(language: str) -> None:
    texts = CATALOGUES.texts(language)
    for state in DeviceState:
        assert texts[f"state.{state.value}"]
        assert texts[f"state_meaning.{state.value}"]
    for remark in Remark:
        assert texts[f"remark.{remark.value}"]
        assert texts[f"remark_remedy.{remark.value}"]
    assert {topic_of(code.value) for code in Code} == set(TOPICS)
    for topic in TOPICS:
        assert texts[f"trouble.{topic}.title"]
        assert texts[f"trouble.{topic}.remedy"]


@pytest.mark.parametrize("language", CATALOGUES.languages)
def test_whatever_may_wait_for_somebodys_word_has_a_name(language: str) -> None:
    texts = CATALOGUES.texts(language)
    for kind in MAY_WAIT:
        assert texts[f"waiting.kind_{kind_name(kind)}"]


def test_a_code_of_a_later_version_has_a_remedy_too() -> None:
    assert topic_of("captive-dragon") == "unforeseen"


@pytest.mark.parametrize(
    ("ago_ms", "french", "english"),
    [
        (0, "à l'instant", "just now"),
        (59_999, "à l'instant", "just now"),
        (3 * MINUTE_MS, "il y a 3 min", "3 min ago"),
        (2 * HOUR_MS + 5 * MINUTE_MS, "il y a 2 h 05", "2 h 05 ago"),
        (9 * HOUR_MS + 5 * MINUTE_MS, "il y a 9 h", "9 h ago"),
        (DAY_MS, "il y a 1 jour", "1 day ago"),
        (40 * DAY_MS, "il y a 40 jours", "40 days ago"),
        (400 * DAY_MS, "il y a 13 mois", "13 months ago"),
        (-2 * HOUR_MS, "dans 2 h", "in 2 h"),
    ],
)
def test_times_are_said_as_exactly_as_matters(ago_ms: int, french: str, english: str) -> None:
    assert flat(spoken("fr").ago(NOW_MS - ago_ms)) == french
    assert spoken("en").ago(NOW_MS - ago_ms) == english


def test_a_time_that_no_calendar_holds_is_said_somehow() -> None:
    for words in (spoken("fr"), spoken("en")):
        assert words.full(2**63)
        assert words.ago(2**63)


def test_numbers_and_sizes_follow_the_language() -> None:
    assert flat(spoken("fr").number(1_234_567)) == "1 234 567"
    assert spoken("en").number(1_234_567) == "1,234,567"
    assert flat(spoken("fr").size(1_234_567)) == "1,2 Mo"
    assert flat(spoken("en").size(999)) == "999 B"
    assert flat(spoken("fr").count("devices.count", 0)) == "0 poste"
    assert spoken("en").count("devices.count", 0) == "0 devices"
    assert flat(spoken("fr").full(NOW_MS)) == "18 novembre 2026 à 11 h 06"


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "fr"),
        ("en", "en"),
        ("de-DE,de;q=0.9,en-GB;q=0.8,fr;q=0.7", "en"),
        ("en;q=0.3, fr-CA;q=0.5", "fr"),
        ("en;q=0", "fr"),
        ("xx;q=nonsense, *", "fr"),
    ],
)
def test_the_browser_s_wish_is_followed(accept: str, language: str) -> None:
    assert CATALOGUES.preferred(accept) == language
