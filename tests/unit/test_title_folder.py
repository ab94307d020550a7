"""A published file takes its place in DIR/coursework: what a person saved there by then is never written over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sync_agent.coursework.folder import Lying, TitleFolder

HERS = b"an hour of work"


@pytest.fixture
def title(tmp_path: Path) -> TitleFolder:
    return TitleFolder(tmp_path, tmp_path / "CM1" / "Eau", "tag")


def _there(title: TitleFolder, name: str, data: bytes) -> Lying:
    """A file that lies in the title, as one of ours."""
    place = title.place / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    os.utime(place, ns=(0, 0))
    return Lying(str(place), name, len(data), 0, bytes(32))


def _draft(title: TitleFolder) -> Path:
    draft = title.draft()
    draft.write_bytes(b"published")
    return draft


def _held(title: TitleFolder) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in title.place.iterdir()}


def test_what_is_ours_and_as_it_was_found_makes_way(title: TitleFolder) -> None:
    title.put(_draft(title), "exercice.odt", _there(title, "exercice.odt", b"the version before"))
    assert _held(title) == {"exercice.odt": b"published"}


def test_what_was_saved_since_it_was_looked_at_gets_a_dated_name(title: TitleFolder) -> None:
    before = _there(title, "exercice.odt", b"the version before")
    (title.place / "exercice.odt").write_bytes(HERS)
    title.put(_draft(title), "exercice.odt", before)
    held = _held(title)
    assert held.pop("exercice.odt") == b"published"
    assert list(held.values()) == [HERS]


def test_so_does_what_the_disk_has_there_and_no_listing_told(title: TitleFolder) -> None:
    """A file that is called the same but for its capitals, where disks take these for one."""
    _there(title, "Exercice.odt", HERS)
    title.put(_draft(title), "Exercice.odt", None)
    held = _held(title)
    assert held.pop("Exercice.odt") == b"published"
    assert list(held.values()) == [HERS]


def test_nothing_is_put_where_the_disk_means_a_persons_file_by_its_short_name(
    title: TitleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _there(title, "RÉPONS~1.ODT", HERS)
    draft = _draft(title)
    with monkeypatch.context() as disk:
        disk.setattr(os, "listdir", lambda _: ["Réponse de Léa Martin.odt"])
        with pytest.raises(FileExistsError):
            title.put(draft, "RÉPONS~1.ODT", None)
    assert _held(title) == {"RÉPONS~1.ODT": HERS}
