"""The notices that pages show are those of docs/privacy.md, and say no more than holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protocol.errors import BadInput
from sync_agent.config import RunConfig
from sync_agent.machine.answerable import Answerable
from sync_agent.portal.everybody.notices import notice_text, paragraphs
from sync_agent.portal.wording import CATALOGUES, Register, Words

PAGE = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text(encoding="utf-8")
TO_FILL_IN = Answerable("[responsable : nom, adresse]", "[délégué : nom ou service, adresse]")
SECTIONS = {
    "Pour les adultes": Register.ADULT,
    "Pour les collégiens et lycéens": Register.TEEN,
    "Pour les enfants": Register.YOUNG,
}
OPEN = ("notice.adults_open", "notice.teens_open", "notice.children_open")


def plain(text: str) -> str:
    """Without quotation marks of the page, and with ordinary spaces between words."""
    return " ".join(re.sub(r"^> ?", "", text, flags=re.MULTILINE).split())


def section(title: str) -> str:
    """What docs/privacy.md hands out under a title."""
    return plain(PAGE.partition(f"### {title}\n")[2].partition("\n### ")[0])


@pytest.mark.parametrize(("title", "register"), SECTIONS.items())
def test_a_page_shows_the_notice_that_is_handed_out_on_paper(title: str, register: Register) -> None:
    assert plain(notice_text(Words("fr", register), TO_FILL_IN, signs_in=True)) == section(title)


def test_teachers_are_shown_the_notice_that_is_handed_out_to_them() -> None:
    assert plain(Words("fr", Register.ADULT)("notice.staff")) == section("Pour les enseignants et la direction")


def test_what_pages_say_where_sign_in_is_off_stands_beside() -> None:
    for key in OPEN:
        assert plain(Words("fr", Register.ADULT)(key)) in plain(PAGE)


@pytest.mark.parametrize("language", CATALOGUES.languages)
@pytest.mark.parametrize("register", Register)
def test_no_notice_promises_what_only_sign_in_keeps(language: str, register: Register) -> None:
    say = Words(language, register)
    shut, ajar = (notice_text(say, Answerable(), signs_in=signs_in) for signs_in in (True, False))
    kept = {Register.YOUNG: "children_shown", Register.TEEN: "teens_shown", Register.ADULT: "adults_shown"}[register]
    assert say(f"notice.{kept}") in shut
    assert say(f"notice.{kept}") not in ajar
    assert "{" not in shut + ajar


@pytest.mark.parametrize("language", CATALOGUES.languages)
@pytest.mark.parametrize("register", [Register.TEEN, Register.ADULT])
def test_who_answers_is_named_or_whom_to_ask_at_the_school(language: str, register: Register) -> None:
    say = Words(language, register)
    named = notice_text(say, Answerable("DASEN du Cher", "dpd@ac.example"), signs_in=True)
    assert "DASEN du Cher" in named
    assert "dpd@ac.example" in named
    unnamed = notice_text(say, Answerable(), signs_in=True)
    assert say("notice.controller_unset") in unnamed
    assert say("notice.dpo_unset") in unnamed


def test_what_is_strong_is_told_from_what_is_not() -> None:
    assert paragraphs("**Un** : a\nb **c**\n") == [[("Un", True), (" : a", False)], [("b ", False), ("c", True)]]


def test_who_answers_is_refused_where_it_cannot_be_shown() -> None:
    RunConfig(controller="DASEN du Cher, 1 rue X", dpo="dpd@ac.example").check()
    for config in (RunConfig(controller=""), RunConfig(dpo="a" * 201), RunConfig(dpo="a\x1b[2Jb")):
        with pytest.raises(BadInput):
            config.check()
