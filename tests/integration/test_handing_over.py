"""Whoever has an archive or portfolios written is told that they lie in clear, and so is the family."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.machines import School, school


@pytest.fixture
def here(tmp_path: Path) -> Iterator[School]:
    with school(tmp_path) as found:
        yield found


def test_an_archive_is_its_owners_alone_and_says_that_it_is_not_encrypted(here: School, tmp_path: Path) -> None:
    laptop = here.enrol("laptop", "teacher")
    laptop.ok("sync")
    for machine in (here.server, laptop):
        place = tmp_path / f"{machine.name}.zip"
        done = machine.run("export-person", here.pupil, str(place))
        assert (done.status, done.json["hand_ins"]) == (0, 0), done.err
        assert f"{place} is not encrypted: hand it over in person" in done.err
        assert os.name == "nt" or stat.S_IMODE(place.stat().st_mode) == 0o600
        with zipfile.ZipFile(place) as archive:
            assert "pas chiffré" in archive.read("index.html").decode()


def test_portfolios_are_said_to_lie_in_clear_where_there_are_any(here: School, tmp_path: Path) -> None:
    laptop, pc = here.enrol("laptop", "teacher"), here.enrol("renard")
    (tmp_path / "recit.txt").write_text("Il était une fois", encoding="utf-8")
    task = ("--space", here.space, "--title", "Conte", "--kind", "assignment")
    item = laptop.ok("publish", str(tmp_path / "recit.txt"), *task)["item"]
    for machine in (laptop, pc):
        machine.ok("sync")
    place = tmp_path / "familles"
    assert "not encrypted" not in laptop.run("portfolio", str(place), "--space", here.space).err
    pc.ok("hand-in", item, str(tmp_path / "recit.txt"), "--person", here.pupil)
    for machine in (pc, laptop):
        machine.ok("sync")
    done = laptop.run("portfolio", str(place), "--space", here.space)
    assert done.status == 0
    assert f"{place} is not encrypted: hand it over in person" in done.err
