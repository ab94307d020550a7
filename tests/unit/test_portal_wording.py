"""The words of the portal: every state in every register and language, and catalogues that say the same things."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from string import Formatter

import pytest

import sync_agent.portal
from protocol.folds.coursework import HandInState
from protocol.roles import PersonRole
from sync_agent.machine.progress import Moving
from sync_agent.network.trouble import Seen, Trouble, in_touch
from sync_agent.pacing.budget import OPEN, Hold, Verdict
from sync_agent.portal.each_page.visit import register_of_classes
from sync_agent.portal.shown.standing import Exchange, Standing
from sync_agent.portal.wording import CATALOGUES, Register, Words
from sync_agent.scheduler import Outcome
from sync_server.web.wording import CATALOGUES as SERVERS

PARIS = dt.timezone(dt.timedelta(hours=1))
NOW = int(dt.datetime(2026, 11, 24, 11, 0, tzinfo=PARIS).timestamp() * 1000)
MINUTE, DAY = 60_000, 86_400_000
FACTS = {
    "device": "Renard",
    "by": "clé USB",
    "teacher": "Mme Petit",
    "action": "prévenez la directrice",
}
YOUNG, TEEN, ADULT = Register
REGISTER_ENDINGS = (".young", ".teen", ".adult", ".older")


def plain(text: str) -> str:
    """With ordinary spaces."""
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def say(language: str, register: Register) -> Words:
    return Words(language, register, PARIS)


# --- states -----------------------------------------------------------------------------------------------------------

# state → 6–11, 11–18 and adults, English: the table that the product page fixes
STATES = {
    HandInState.LOCAL: (
        "Gardé sur l'ordinateur Renard",
        "Rendu, encore sur ce poste",
        "Handed in, still on this computer",
    ),
    HandInState.CARRIED: ("En chemin", "En chemin (clé USB)", "On its way (by clé USB)"),
    HandInState.SAFE: ("À l'abri", "À l'abri (copie sur clé USB)", "Safe (copy on clé USB)"),
    HandInState.SERVER: ("À l'abri", "Arrivé et enregistré", "Arrived and recorded"),
    HandInState.TEACHER: ("Mme Petit l'a vu", "Vu par Mme Petit", "Opened by Mme Petit"),
    HandInState.MARKED: ("Regarde ta correction", "Corrigé par Mme Petit", "Marked"),
    HandInState.REDO: ("À reprendre", "À reprendre", "To redo"),
    HandInState.FAILED: (
        "Bien gardé ici. Préviens Mme Petit",
        "Pas encore parti, conservé ici : prévenez la directrice",
        "Not sent yet, kept here: prévenez la directrice",
    ),
}


def test_the_table_has_every_state_that_a_hand_in_can_be_in() -> None:
    assert set(STATES) == set(HandInState)


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_said_in_the_words_of_its_register(state: HandInState) -> None:
    young, older, english = STATES[state]
    assert plain(say("fr", YOUNG)(f"states.{state}", **FACTS)) == young
    assert plain(say("fr", TEEN)(f"states.{state}", **FACTS)) == older
    assert plain(say("fr", ADULT)(f"states.{state}", **FACTS)) == older
    for register in Register:
        assert say("en", register)(f"states.{state}", **FACTS) == english


def test_a_draft_is_begun_for_the_young_and_a_draft_for_others() -> None:
    assert say("fr", YOUNG)("states.draft") == "Commencé"
    assert say("fr", TEEN)("states.draft") == "Brouillon"


@pytest.mark.parametrize(("state", "language", "register"), list(product(STATES, ("fr", "en"), Register)))
def test_every_state_says_what_it_means_for_who_handed_in(
    state: HandInState, language: str, register: Register
) -> None:
    assert say(language, register)(f"states.hint.{state}", **FACTS)


# --- the exchange -----------------------------------------------------------------------------------------------------


def exchange(
    outcome: Outcome | None = Outcome.DONE,
    waiting: int = 0,
    missing: int = 0,
    refused: int = 0,
    held: Verdict = OPEN,
) -> Exchange:
    return Exchange(outcome, waiting, missing, refused, NOW - 48 * MINUTE, held)


@pytest.mark.parametrize(
    ("moving", "french", "english"),
    [
        (
            Moving(False, 1_500_000, 9_000_000, None),
            "Fichiers reçus : 1,5 Mo sur 9 Mo",
            "Files received: 1.5 MB of 9 MB",
        ),
        (
            Moving(False, 1_500_000, 9_000_000, 90),
            "Fichiers reçus : 1,5 Mo sur 9 Mo, encore 90 secondes environ",
            "Files received: 1.5 MB of 9 MB, about 90 seconds left",
        ),
        (
            Moving(True, 1_500_000, 9_000_000, 1_150),
            "Fichiers envoyés : 1,5 Mo sur 9 Mo, encore 19 minutes environ",
            "Files sent: 1.5 MB of 9 MB, about 19 minutes left",
        ),
    ],
)
def test_what_is_on_its_way_is_said_with_the_time_that_is_left(moving: Moving, french: str, english: str) -> None:
    people = [say(language, YOUNG) for language in ("fr", "en")]
    for outcome in (None, Outcome.DONE):
        found = Exchange(outcome, 0, 3, 0, None, moving=moving)
        assert found.standing is Standing.EXCHANGING
        assert [found.sentence(person, "Mme Petit", NOW).replace("\N{NO-BREAK SPACE}", " ") for person in people] == [
            french,
            english,
        ]
    assert Exchange(Outcome.NO_ANSWER, 0, 3, 0, None, moving=moving).standing is Standing.OFFLINE


QUIET = Verdict(Hold.QUIET_HOURS, NOW + 330 * MINUTE)


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (exchange(None), Standing.CHECKING),
        (exchange(None, waiting=3), Standing.CHECKING),
        (exchange(Outcome.NO_ANSWER), Standing.OFFLINE),
        (exchange(Outcome.NO_ANSWER, waiting=3, refused=1), Standing.OFFLINE),
        (exchange(Outcome.BUSY), Standing.BUSY),
        (exchange(Outcome.REFUSED), Standing.BLOCKED),
        (exchange(Outcome.FAILED), Standing.BLOCKED),
        (exchange(refused=1), Standing.BLOCKED),
        (exchange(refused=1, waiting=2), Standing.BLOCKED),
        (exchange(waiting=1), Standing.EXCHANGING),
        (exchange(missing=1), Standing.EXCHANGING),
        (exchange(), Standing.CURRENT),
        (exchange(held=QUIET), Standing.CURRENT),
        (exchange(missing=1, held=QUIET), Standing.HELD),
        (exchange(Outcome.NO_ANSWER, missing=1, held=QUIET), Standing.OFFLINE),
        (exchange(None, held=Verdict(Hold.PAUSED)), Standing.PAUSED),
    ],
)
def test_the_exchange_is_called_current_only_when_nothing_failed_waits_or_lacks(
    found: Exchange, standing: Standing
) -> None:
    assert found.standing is standing


# standing → 6–11, 11–18, adults
EXCHANGES = {
    Standing.PAUSED: (
        "L'échange est en pause. Tu peux travailler.",
        "L'échange est en pause. Tout est conservé ici.",
        "L'échange est en pause. Tout est conservé ici.",
    ),
    Standing.HELD: ("Les gros fichiers attendent la fin des heures calmes, à 16 h 30. Les travaux rendus partent.",)
    * 3,
    Standing.CHECKING: ("On vérifie…",) * 3,
    Standing.OFFLINE: (
        "Pas d'Internet. Tu peux travailler.",
        "Pas d'Internet. Tu peux travailler.",
        "Pas d'Internet. Vous pouvez travailler.",
    ),
    Standing.BUSY: ("Beaucoup d'ordinateurs échangent. On réessaie bientôt.",) * 3,
    Standing.BLOCKED: (
        "L'échange est arrêté. Préviens Mme Petit.",
        "L'échange est bloqué. Ce que tu rends est conservé ici. Préviens Mme Petit.",
        "L'échange est bloqué. Tout est conservé ici. Pour savoir pourquoi : sync-agent doctor",
    ),
    Standing.EXCHANGING: ("Échange en cours",) * 3,
    Standing.CURRENT: ("Tout est à jour",) * 3,
}
OF_STANDING = {
    Standing.PAUSED: exchange(held=Verdict(Hold.PAUSED)),
    Standing.HELD: exchange(missing=1, held=QUIET),
    Standing.CHECKING: exchange(None),
    Standing.OFFLINE: exchange(Outcome.NO_ANSWER),
    Standing.BUSY: exchange(Outcome.BUSY),
    Standing.BLOCKED: exchange(Outcome.FAILED),
    Standing.EXCHANGING: exchange(waiting=1),
    Standing.CURRENT: exchange(),
}


@pytest.mark.parametrize("standing", Standing)
def test_the_strip_says_in_words_how_the_exchange_stands(standing: Standing) -> None:
    found = OF_STANDING[standing]
    assert found.standing is standing
    for register, expected in zip(Register, EXCHANGES[standing], strict=True):
        assert plain(found.sentence(say("fr", register), "Mme Petit", NOW)) == expected
        assert found.sentence(say("en", register), "Mme Petit", NOW)


def test_a_time_of_day_is_written_alike_wherever_a_page_says_it() -> None:
    during = replace(exchange(Outcome.NO_ANSWER), seen=Seen(Trouble.DRILL, "09:05"))
    told = plain(during.sentence(say("fr", ADULT), "Mme Petit", NOW))
    assert told.startswith("Exercice de coupure jusqu'à 9 h 05 :")
    assert "09:05" in during.sentence(say("en", ADULT), "Mme Petit", NOW)


def test_freshness_is_a_time_of_day_and_further_back_a_day() -> None:
    french, english = say("fr", YOUNG), say("en", YOUNG)
    assert plain(exchange().freshness(french, NOW)) == "vérifié à 10 h 12"
    assert exchange().freshness(english, NOW) == "checked at 10:12"
    assert plain(exchange().freshness(french, NOW + DAY)) == "vérifié hier à 10 h 12"
    assert plain(exchange().freshness(french, NOW + 3 * DAY)) == "vérifié le mardi 24 novembre à 10 h 12"
    assert Exchange(Outcome.DONE, 0, 0, 0, None).freshness(french, NOW) == "pas encore vérifié"


# --- days, sizes, languages -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "french", "english"),
    [
        (0, "aujourd'hui", "today"),
        (1, "demain", "tomorrow"),
        (-1, "hier", "yesterday"),
        (7, "le mardi 1er décembre", "Tuesday 1 December"),
        (17, "le vendredi 11 décembre", "Friday 11 December"),
        (60, "le samedi 23 janvier 2027", "Saturday 23 January 2027"),
    ],
)
def test_a_day_is_near_or_has_a_name(days: int, french: str, english: str) -> None:
    assert say("fr", YOUNG).day(NOW + days * DAY, NOW) == french
    assert say("en", YOUNG).day(NOW + days * DAY, NOW) == english


def test_a_time_that_no_calendar_holds_is_still_shown() -> None:
    assert "9999" in say("fr", YOUNG).day(1 << 62, NOW)


@pytest.mark.parametrize(
    ("size", "french", "english"),
    [
        (0, "0 o", "0 B"),
        (999, "999 o", "999 B"),
        (1_000, "1 ko", "1 kB"),
        (1_234_567, "1,2 Mo", "1.2 MB"),
        (123_456_789, "123 Mo", "123 MB"),
        (999_999, "1 Mo", "1 MB"),
        (4_294_967_295, "4,3 Go", "4.3 GB"),
    ],
)
def test_sizes_are_short(size: int, french: str, english: str) -> None:
    assert plain(say("fr", YOUNG).size(size)) == french
    assert plain(say("en", YOUNG).size(size)) == english


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "fr"),
        ("en-GB,en;q=0.9,fr;q=0.8", "en"),
        ("de,en;q=0.5,fr;q=0.7", "fr"),
        ("de", "fr"),
        ("en;q=0", "fr"),
        ("*", "fr"),
        ("en;q=broken,fr", "fr"),
        ("en" * 9_000, "fr"),
    ],
)
def test_the_browser_chooses_among_the_languages_that_there_are(accept: str, language: str) -> None:
    assert CATALOGUES.preferred(accept) == language


@pytest.mark.parametrize(
    ("classes", "register"),
    [
        ([], YOUNG),
        (["CM1-CM2"], YOUNG),
        (["CE1 A", "CP"], YOUNG),
        (["6e B"], TEEN),
        (["4ème 2", "3e A"], TEEN),
        (["Terminale S"], TEEN),
        (["2nde 5"], TEEN),
        (["6e B", "CM2"], YOUNG),
        (["Groupe des 36 enfants"], YOUNG),
    ],
)
def test_a_machine_begins_in_the_register_of_its_classes(classes: list[str], register: Register) -> None:
    assert register_of_classes(classes) is register


# --- catalogues -------------------------------------------------------------------------------------------------------


def base(key: str) -> str:
    """The key without its register."""
    return next((key.removesuffix(ending) for ending in REGISTER_ENDINGS if key.endswith(ending)), key)


def names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


KEYS = {base(key) for key in CATALOGUES.texts("fr")}
TEMPLATES = Path(sync_agent.portal.__file__).parent


@pytest.mark.parametrize("language", CATALOGUES.languages)
def test_every_catalogue_has_every_key_in_every_register(language: str) -> None:
    own = {base(key) for key in CATALOGUES.texts(language)}
    assert own == KEYS
    missing = [(key, register.value) for key in KEYS for register in Register if not say(language, register).has(key)]
    assert missing == []


@pytest.mark.parametrize("language", CATALOGUES.languages)
def test_no_catalogue_asks_for_a_fact_that_the_french_one_does_not_know(language: str) -> None:
    known = {key: set[str]() for key in KEYS}
    for key, text in CATALOGUES.texts("fr").items():
        known.setdefault(base(key), set()).update(names_in(text))
    known["time.clock"] |= {"hour0"}
    known["states.safe"] |= {"by"}
    for key, text in CATALOGUES.texts(language).items():
        assert names_in(text) <= known[base(key)], key


def test_every_key_that_a_template_or_a_module_says_is_in_the_catalogues() -> None:
    said = re.compile(r"""(?:\bsay|visit\.say)(\.count)?\(\s*["']([a-z0-9_.-]+)["'](?!\s*~)""")
    found = 0
    for path in [*TEMPLATES.glob("templates/*.html"), *TEMPLATES.rglob("*.py")]:
        for counted, key in said.findall(path.read_text(encoding="utf-8")):
            for form in (f"{key}_one", f"{key}_other") if counted else (key,):
                assert form in KEYS, (path.name, form)
                found += 1
    assert found > 100


def test_an_unknown_key_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        say("fr", YOUNG)("no.such.key")


def test_without_internet_the_strip_says_how_many_machines_of_the_school_are_in_touch() -> None:
    french = say("fr", YOUNG)
    alone = Exchange(Outcome.NO_ANSWER, 0, 0, 0, None)
    assert alone.sentence(french, "Mme Petit", NOW) == "Pas d'Internet. Tu peux travailler."
    assert alone.sentence(french, "Mme Petit", NOW) in replace(alone, neighbours=3).sentence(french, "Mme Petit", NOW)
    assert plain(replace(alone, neighbours=3).sentence(french, "Mme Petit", NOW)).endswith(" : 3.")


NO_INTERNET, SILENT = "Pas d'Internet", "ne répond pas"


@pytest.mark.parametrize(
    ("outcome", "trouble", "young", "adult"),
    [
        (Outcome.NO_ANSWER, Trouble.OFFLINE, NO_INTERNET, "sur aucun réseau"),
        (Outcome.NO_ANSWER, Trouble.NO_WAY_OUT, NO_INTERNET, "sa ligne est coupée, ou sa box est éteinte"),
        (Outcome.NO_ANSWER, Trouble.NAME_UNKNOWN, NO_INTERNET, "ce réseau ne connaît pas le serveur (Écoles du Cher)"),
        (Outcome.NO_ANSWER, Trouble.NO_SERVER, SILENT, "Le réseau marche, le serveur (Écoles du Cher) ne répond pas"),
        (Outcome.NO_ANSWER, Trouble.GATEWAY, SILENT, "Le réseau marche, le serveur (Écoles du Cher) ne répond pas"),
        (Outcome.NO_ANSWER, Trouble.SILENT, SILENT, "il est arrêté, ou la ligne est coupée"),
        (Outcome.NO_ANSWER, Trouble.STALLED, SILENT, "il est arrêté, ou la ligne est coupée"),
        (Outcome.NO_ANSWER, Trouble.CUT, SILENT, "il est arrêté, ou la ligne est coupée"),
        (
            Outcome.REFUSED,
            None,
            "Préviens Mme Petit",
            "Le serveur (Écoles du Cher) répond, mais n'accepte pas ce poste",
        ),
    ],
)
def test_the_strip_says_what_is_known_of_the_network_and_of_the_server(
    outcome: Outcome, trouble: Trouble | None, young: str, adult: str
) -> None:
    seen = None if trouble is None else Seen(trouble)
    found = replace(exchange(outcome), seen=seen, server="Écoles du Cher", neighbours=2)
    without_server = {Trouble.OFFLINE, Trouble.NO_WAY_OUT}
    without_internet = {Trouble.OFFLINE, Trouble.NAME_UNKNOWN, Trouble.NO_WAY_OUT}
    told = {register: plain(found.sentence(say("fr", register), "Mme Petit", NOW)) for register in Register}
    assert young in told[YOUNG]
    assert adult in told[ADULT]
    for sentence in told.values():
        assert (NO_INTERNET in sentence) <= (trouble in without_internet)
        assert ("en lien avec celui-ci : 2." in sentence) is (outcome is Outcome.NO_ANSWER)
    assert "Écoles du Cher" in found.sentence(say("en", ADULT), "Mme Petit", NOW) or trouble in without_server


def test_nobody_who_exchanges_with_the_school_is_told_to_look_at_their_own_cable() -> None:
    alone, line = Seen(Trouble.OFFLINE), Seen(Trouble.NO_WAY_OUT)
    assert [in_touch(alone, count) for count in (0, 1, 8)] == [alone, line, line]
    assert in_touch(Seen(Trouble.SIGN_IN, "Wi-Fi gratuit"), 3) == Seen(Trouble.SIGN_IN, "Wi-Fi gratuit")


# --- what a family is given -------------------------------------------------------------------------------------------


def test_both_programs_give_a_family_the_same_page_with_words_for_every_state_and_role() -> None:
    for language in CATALOGUES.languages:
        here, there = (
            {key: text for key, text in catalogues.texts(language).items() if key.startswith("family.")}
            for catalogues in (CATALOGUES, SERVERS)
        )
        assert here == there
        assert {f"family.state_{state}" for state in HandInState} <= here.keys()
        assert {f"family.role_{role}" for role in PersonRole} <= here.keys()


def test_the_page_of_a_drill_says_what_a_quarantine_does_and_not_to_cut_the_network() -> None:
    for language, stops, order in (("fr", "la quarantaine arrête", "coupez"), ("en", "the quarantine stops", "switch")):
        said = plain(say(language, ADULT)("drill.quarantine_intro"))
        assert stops in said
        assert order not in said


def test_a_parent_is_called_a_parent_wherever_a_role_is_named() -> None:
    for catalogues in (CATALOGUES, SERVERS):
        for language in catalogues.languages:
            texts = catalogues.texts(language)
            named = [text for key, text in texts.items() if key.endswith("_guardian")]
            assert named
            assert all("parent" in text.casefold() for text in named)
