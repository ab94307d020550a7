"""What a portfolio calls a pupil's files."""

from __future__ import annotations

from protocol.trust.sealing import SealedFile
from sync_agent.hand_ins.year_end import SAID_FILE, _beside_what_is_said


def test_no_file_of_a_pupil_passes_for_the_teachers_word() -> None:
    paths = ("Correction.TXT", "Correction (2).TXT", "copie.odt", "notes/correction.txt")
    files = [SealedFile(path, 1) for path in paths]
    given = [_beside_what_is_said(path, files) for path in paths]
    assert given == ["Correction (3).TXT", "Correction (2).TXT", "copie.odt", "notes/correction.txt"]
    inside = [SealedFile(f"{SAID_FILE}/a.odt", 1)]
    assert _beside_what_is_said(inside[0].path, inside) == f"{SAID_FILE} (2)/a.odt"
