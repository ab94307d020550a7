from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.limits import (
    MAX_FOLDERS_PER_REVISION,
    MAX_PATH_BYTES,
    MAX_PATH_COMPONENT_BYTES,
    MAX_PATH_DEPTH,
)
from protocol.portable_names import (
    Problem,
    Why,
    check_portable,
    displayable,
    is_portable_form,
    portable_form,
    portable_name,
)

# A code point that no version of Unicode assigns yet (plane 10 is empty).
UNASSIGNED = "\U000a0000"


def reasons(*paths: str) -> list[Why]:
    return [problem.why for problem in check_portable(paths)]


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    "path",
    [
        "cours.odt",
        "Séance 1/Énoncé n°2 (corrigé).pdf",
        "a/b/c.d.e/f",
        ".htaccess",
        "console.txt",
        "COM10",
        "nulle part/auxiliaire.html",
        "écran d'accueil – « été » €.png",
        "数学/练习.pdf",
        "emoji 👩‍🏫.png",
        "~$fiche.docx",
        "x" * MAX_PATH_COMPONENT_BYTES,
        "/".join(["x"] * MAX_PATH_DEPTH),
        "p" * 200 + "/" + "q" * 200 + "/" + "r" * 200 + "/" + "s" * 200 + "/" + "t" * 200,
    ],
)
def test_names_that_every_system_keeps_are_published(path: str) -> None:
    assert check_portable([path]) == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", Why.EMPTY),
        ("a//b", Why.EMPTY),
        ("a/", Why.EMPTY),
        ("/etc/passwd", Why.ABSOLUTE),
        ("//server/share", Why.ABSOLUTE),
        ("C:/x", Why.ABSOLUTE),
        ("c:x", Why.ABSOLUTE),
        ("C:\\x", Why.ABSOLUTE),
        ("..", Why.DOTS),
        ("a/../b", Why.DOTS),
        ("./a", Why.DOTS),
        ("a/.", Why.DOTS),
        ("a\\b", Why.BACKSLASH),
        ("\\\\server\\share", Why.BACKSLASH),
        ("a\nb", Why.CONTROL_CHARACTER),
        ("a\x00b", Why.CONTROL_CHARACTER),
        ("a\x7f", Why.CONTROL_CHARACTER),
        ("a\x85b", Why.CONTROL_CHARACTER),
        ("photo\u202egnp.exe", Why.CONTROL_CHARACTER),
        ("a\u2028b", Why.CONTROL_CHARACTER),
        ("\ufeffa", Why.CONTROL_CHARACTER),
        ("a\uffff", Why.CONTROL_CHARACTER),
        ("a<b", Why.FORBIDDEN_CHARACTER),
        ("a>b", Why.FORBIDDEN_CHARACTER),
        ('a"b', Why.FORBIDDEN_CHARACTER),
        ("a|b", Why.FORBIDDEN_CHARACTER),
        ("quoi ?", Why.FORBIDDEN_CHARACTER),
        ("*.odt", Why.FORBIDDEN_CHARACTER),
        ("fiche.odt:secret", Why.ALTERNATE_STREAM),
        ("fiche.odt::$DATA", Why.ALTERNATE_STREAM),
        ("CON", Why.RESERVED_NAME),
        ("con", Why.RESERVED_NAME),
        ("a/NUL.txt", Why.RESERVED_NAME),
        ("nul.tar.gz", Why.RESERVED_NAME),
        ("aux/b", Why.RESERVED_NAME),
        ("prn .txt", Why.RESERVED_NAME),
        ("COM1", Why.RESERVED_NAME),
        ("lpt9.log", Why.RESERVED_NAME),
        ("COM¹", Why.RESERVED_NAME),
        ("lpt³.txt", Why.RESERVED_NAME),
        ("CONIN$", Why.RESERVED_NAME),
        ("conout$.x", Why.RESERVED_NAME),
        ("fin.", Why.TRAILING_DOT),
        ("fin./b", Why.TRAILING_DOT),
        ("...", Why.TRAILING_DOT),
        ("fin ", Why.OUTER_SPACE),
        (" début", Why.OUTER_SPACE),
        ("a /b", Why.OUTER_SPACE),
        ("x" * (MAX_PATH_COMPONENT_BYTES + 1), Why.COMPONENT_TOO_LONG),
        ("é" * 128, Why.COMPONENT_TOO_LONG),
        ("/".join(["x" * 100] * 11), Why.PATH_TOO_LONG),
        ("é" * (MAX_PATH_BYTES // 2 + 1), Why.PATH_TOO_LONG),
        ("/".join(["x"] * (MAX_PATH_DEPTH + 1)), Why.PATH_TOO_DEEP),
        ("caf\udce9", Why.UNDECODABLE),
        ("a" + UNASSIGNED, Why.UNASSIGNED_CHARACTER),
    ],
)
def test_a_name_that_some_system_would_mangle_is_a_problem(path: str, why: Why) -> None:
    problems = check_portable(["innocent.txt", path])
    assert problems == [Problem(displayable(path), why)]


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("Cours.odt", "cours.odt", Why.CASE_COLLISION),
        ("A/x", "a/y", Why.CASE_COLLISION),
        ("s/É/x", "s/é/y", Why.CASE_COLLISION),
        ("straße", "STRASSE", Why.CASE_COLLISION),
        ("ΟΔΟΣ", "οδος", Why.CASE_COLLISION),
        ("été", nfd("été"), Why.UNICODE_COLLISION),
        ("été/x", nfd("été") + "/y", Why.UNICODE_COLLISION),
        ("É", nfd("é"), Why.CASE_COLLISION),
        ("a\u200db", "ab", Why.UNICODE_COLLISION),
        ("é", "e\u200d\u0301", Why.UNICODE_COLLISION),
        ("\u212b", "\u00c5", Why.UNICODE_COLLISION),
        ("a/b", "a/b", Why.DUPLICATE),
        ("a", "a/b", Why.FILE_AND_FOLDER),
        ("a/b", "a", Why.FILE_AND_FOLDER),
        ("a/b/c", "A", Why.FILE_AND_FOLDER),
        ("a", "A/b", Why.FILE_AND_FOLDER),
        ("x/été", nfd("x/été") + "/y", Why.FILE_AND_FOLDER),
    ],
)
def test_two_names_that_some_system_takes_for_one_are_a_problem(one: str, other: str, why: Why) -> None:
    assert check_portable([one, "other.txt", other]) == [Problem(displayable(other), why)]


def test_the_same_name_in_two_folders_is_no_problem() -> None:
    assert reasons("a/x", "b/x", "b/X2", "a/b/x", "x") == []


def test_every_bad_path_is_named_once_and_in_order() -> None:
    assert reasons("ok", "nul/a", "nul/b", "fin. ", "OK", "b") == [
        Why.RESERVED_NAME,
        Why.RESERVED_NAME,
        Why.OUTER_SPACE,
        Why.CASE_COLLISION,
    ]


def test_a_tree_of_countless_folders_is_refused() -> None:
    paths = [f"{number}/x" for number in range(MAX_FOLDERS_PER_REVISION + 1)]
    assert reasons(*paths[:-1]) == []
    assert reasons(*paths) == [Why.TOO_MANY_FOLDERS]


def test_a_reader_with_an_older_unicode_accepts_characters_that_it_does_not_know() -> None:
    assert check_portable(["a" + UNASSIGNED], known_characters_only=False) == []


def test_a_name_stored_by_a_mac_is_the_name_stored_by_a_pc() -> None:
    assert portable_form(nfd("Séance/Énoncé.odt")) == "Séance/Énoncé.odt"
    assert is_portable_form("Énoncé")
    assert not is_portable_form(nfd("Énoncé"))
    assert check_portable([nfd("Séance/Énoncé.odt"), "Séance 2/Énoncé.odt"]) == []


def test_every_reason_has_a_sentence_for_a_teacher() -> None:
    for why in Why:
        sentence = Problem("a", why).sentence
        assert len(sentence) > 20
        assert not sentence.endswith(".")


def test_what_cannot_be_shown_is_escaped_in_a_message() -> None:
    assert displayable("é\n\x1b[31m\udce9\u202e\u2028") == "é\\n\\x1b[31m\\udce9\\u202e\\u2028"
    assert displayable("«\u202fRaconte\xa0!\u202f»") == "«\u202fRaconte\xa0!\u202f»"


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_names_at_all_are_judged_without_failing_and_shown_without_harm(paths: list[str]) -> None:
    for problem in check_portable(paths):
        assert all(char.isprintable() or unicodedata.category(char) == "Zs" for char in problem.path)
        problem.path.encode()


@given(st.lists(st.text("aAéÉ/. \u0301\u017fß", max_size=6), max_size=8))
def test_what_passes_survives_a_file_system_without_case_or_normal_forms(paths: list[str]) -> None:
    kept = [path for path in paths if check_portable([path]) == []]
    if check_portable(kept) == []:
        stored = [nfd(portable_form(path)) for path in kept]
        assert len({path.casefold() for path in stored}) == len(kept)


# --- names made for folders ---


@pytest.mark.parametrize(
    ("name", "portable"),
    [
        ("6e B", "6e B"),
        ("Français : l'été", "Français - l'été"),
        (" Maths. ", "Maths"),
        ("a/b\\c", "a-b-c"),
        ("CON", "-CON"),
        ("nul.txt", "-nul.txt"),
        ("..", "-"),
        ("", "-"),
        ("???", "---"),
        ("a\nb\udce9", "a-b-"),
        (nfd("été"), "été"),
        ("é" * 200, "é" * 127),
        ("x" + UNASSIGNED, "x-"),
    ],
)
def test_a_title_becomes_a_folder_name_near_to_it(name: str, portable: str) -> None:
    assert portable_name(name) == portable


@example("NUL" + " " * 251 + "x")
@example("x" * 254 + ". ")
@example(" CON")
@example("con" + "." * 300)
@example("con.x" * 60)
@given(st.text(max_size=300) | st.text("CONulx1. :\u0301", max_size=300))
def test_a_name_made_portable_is_portable_and_stays_as_it_is(name: str) -> None:
    made = portable_name(name)
    assert check_portable([made]) == []
    assert is_portable_form(made)
    assert portable_name(made) == made
