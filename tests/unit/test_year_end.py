"""What a portfolio calls a pupil's files."""

from __future__ import annotations

import pytest

from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.trust.sealing import SealedFile
from sync_agent.hand_ins.year_end import SAID_FILE, _beside_what_is_said, _named


def test_no_file_of_a_pupil_passes_for_the_teachers_word() -> None:
    paths = ("Correction.TXT", "Correction (2).TXT", "copie.odt", "notes/correction.txt")
    files = [SealedFile(path, 1) for path in paths]
    given = [_beside_what_is_said(path, files) for path in paths]
    assert given == ["Correction (3).TXT", "Correction (2).TXT", "copie.odt", "notes/correction.txt"]
    inside = [SealedFile(f"{SAID_FILE}/a.odt", 1)]
    assert _beside_what_is_said(inside[0].path, inside) == f"{SAID_FILE} (2)/a.odt"


@pytest.mark.parametrize("name", ["é" * 200, "Léa " + "𝄞" * 196, "Lé" + "a" * 198])
def test_two_pupils_whose_names_are_too_long_for_a_folder_have_one_each_that_still_says_what_is_to_be_said(
    name: str,
) -> None:
    lea, tom = (_named(name, one * 16, then=" (plus sur la liste)") for one in (b"\1", b"\2"))
    assert lea.endswith(" (plus sur la liste) (01010101)")
    assert tom.endswith(" (plus sur la liste) (02020202)")
    assert lea[:20] == name[:20]
    dated = _named(name, b"\1" * 16, first="2026-11-29 ")
    assert dated.startswith("2026-11-29 ")
    assert all(len(one.encode()) <= MAX_PATH_COMPONENT_BYTES for one in (lea, tom, dated))
