"""A folder from elsewhere has links in it, or gets them while it is looked at: what they lead to goes nowhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.operation import FileData, Incoming
from sync_agent.console import intake
from sync_agent.console.intake import Intake, files_of
from sync_agent.machine.enclosed import Enclosure
from sync_agent.machine.plain_files import READ, is_link
from sync_agent.watching import files
from sync_agent.watching.files import Look, TitleFiles, look_at
from tests.attacks.test_sticks import as_windows_tells
from tests.harness.attack import attack

ROW: Final = "a package from elsewhere has links in it"
SECRET: Final = b"marks of the whole class"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="made with POSIX calls")


def _wherever_it_leads(self: Enclosure, link: Path) -> str:
    return os.path.relpath(os.path.realpath(link), self.place)


def _by_its_path(self: Enclosure, below: str) -> int:
    return os.open(Path(self.place) / below, READ)


UNASKED: Final = {"sync_agent.machine.enclosed.Enclosure.way_to": _wherever_it_leads}
UNWATCHED: Final = {"sync_agent.machine.enclosed.Enclosure.open": _by_its_path}


@dataclass(frozen=True, slots=True)
class Package:
    """A folder with a lesson in it, and, beside it, what is nobody's business."""

    place: Path
    private: Path

    def swap(self) -> None:
        """Somebody puts a link in the place of its images: it leads to private files."""
        if not self.images.is_symlink():
            self.images.rename(self._aside)
            self.images.symlink_to(self.private)

    def swap_back(self) -> None:
        """As it was."""
        if self.images.is_symlink():
            self.images.unlink()
            self._aside.rename(self.images)

    @property
    def images(self) -> Path:
        return self.place / "images"

    @property
    def _aside(self) -> Path:
        return self.place.with_name("aside")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    found = Package(tmp_path / "Eau", tmp_path / "private")
    found.images.mkdir(parents=True)
    found.private.mkdir()
    (found.place / "index.html").write_bytes(b"<h1>Eau</h1>")
    for folder, data in ((found.images, b"a map"), (found.private, SECRET)):
        (folder / "carte.png").write_bytes(data)
    return found


async def no_pause(_pause_s: float) -> None:
    """Between two tries."""


async def sent_of(incoming: Incoming | TitleFiles) -> bytes:
    return b"".join([event.data async for event in incoming if isinstance(event, FileData)])


# --- what a command is given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["carte.png", ""], ids=["a file", "a folder"])
@attack(ROW, off=UNASKED)
async def test_a_link_in_a_folder_brings_along_nothing_from_outside(package: Package, to: str) -> None:
    (package.images / "b").symlink_to(package.private / to)
    with pytest.raises(BadInput) as refused:
        await sent_of(files_of([str(package.place)]))
    assert (refused.value.code, refused.value.exit_status) == (Code.UNREADABLE_FILE, 2)
    assert str(package.images / "b") in refused.value.message


@attack(ROW, off=UNASKED)
async def test_a_link_leads_out_of_its_folder_by_no_second_one(package: Package) -> None:
    (package.place / "b").symlink_to("images/carte.png")
    (package.images / "carte.png").unlink()
    (package.images / "carte.png").symlink_to("../../private/carte.png")
    with pytest.raises(BadInput):
        await sent_of(files_of([str(package.place)]))


@attack(ROW, off=UNASKED)
async def test_of_two_folders_that_were_named_none_leads_out_of_itself(package: Package) -> None:
    (package.place / "b").symlink_to(package.private)
    with pytest.raises(BadInput):
        await sent_of(files_of([str(package.place), str(package.private / "carte.png")]))


@attack(ROW, off=UNWATCHED)
async def test_a_folder_that_becomes_a_link_while_it_is_looked_at_brings_along_nothing(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = intake._names

    def swapped(place: Path) -> list[str]:
        if place == package.images:
            package.swap()
        return names(place)

    monkeypatch.setattr(intake, "_names", swapped)
    named = [str(package.place)]
    found = intake.survey(named, Path())
    with pytest.raises(BadInput) as refused:
        await sent_of(Intake(named, Path(), found, pause=no_pause))
    assert str(package.images) in refused.value.message


@attack(ROW, off=UNWATCHED)
async def test_a_folder_that_becomes_a_link_again_and_again_is_given_up(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = intake._names

    def swapped(place: Path) -> list[str]:
        package.swap() if place == package.images else package.swap_back()
        return names(place)

    monkeypatch.setattr(intake, "_names", swapped)
    named = [str(package.place)]
    found = intake.survey(named, Path())
    with pytest.raises(LocalFailure) as failed:
        await sent_of(Intake(named, Path(), found, pause=no_pause))
    assert failed.value.code is Code.CHANGING_FILE


@attack(ROW, off={"sync_agent.machine.plain_files.is_reparse_point": lambda _state: False})
async def test_a_junction_of_windows_in_a_folder_is_a_link() -> None:
    folder, leads_on = 0x10, 0x400
    assert is_link(as_windows_tells(folder | leads_on, 0xA0000003))
    assert not is_link(as_windows_tells(folder | leads_on, 0x9000001A)), "a folder of a cloud's, which lies here"


# --- a watched folder -------------------------------------------------------------------------------------------------


@pytest.fixture
def looked(package: Package, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """What a look finds while somebody swaps, and those that follow: each time the folder is one when it is asked."""
    entries = files._Walk._entries

    def swapped(self: files._Walk, place: str, path: str) -> list[os.DirEntry[str]]:
        package.swap() if place == str(package.images) else package.swap_back()
        return entries(self, place, path)

    monkeypatch.setattr(files._Walk, "_entries", swapped)
    found = look_at(package.place)
    assert found is not None
    assert found.obstacle is None
    yield found
    package.swap_back()


@attack(ROW, off=UNWATCHED)
async def test_a_title_that_becomes_a_link_while_it_is_looked_at_is_not_published(
    package: Package, looked: Look
) -> None:
    with pytest.raises(LocalFailure) as failed:
        await sent_of(TitleFiles(package.place, looked, looked.files))
    assert failed.value.code is Code.CHANGING_FILE
