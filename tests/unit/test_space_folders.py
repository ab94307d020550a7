"""What a remembered folder of a space may be called (`sync_agent.coursework.space_folders`)."""

from __future__ import annotations

import pytest

from sync_agent.coursework.space_folders import folder_in


@pytest.mark.parametrize("name", ["../keys", "a/b", "/etc", "..", ".", "", "a\\b", "C:"])
def test_what_leads_out_of_the_folder_of_folders_is_no_spaces_folder(name: str) -> None:
    assert folder_in(name.encode()) is None


@pytest.mark.parametrize("name", ["CM1-CM2", "CM1 (2)", "Toute l'école (0180001D)", "\U000cf000 of a later Unicode"])
def test_a_name_stays_that_spaces_whichever_characters_are_known(name: str) -> None:
    assert folder_in(name.encode()) == name
