"""The edits that teachers make, one at a time, to a catalogue: what a change costs depends on the change.

Each takes the folder and changes files in it as an authoring program does: an office document is written anew, every
member deflated again; a handout is exported again with a page more. Files are replaced, never written into. Beside what
was done, an edit says what the change weighs at least by zstd's own patch mode, where that says something.
"""

from __future__ import annotations

import io
import random
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

from bench.corpus import Maker

_DATE: Final = (2026, 10, 5, 8, 0, 0)
_ONE_IN: Final = 5
_SENTENCE: Final = b" Relisez ce passage, puis repondez aux trois questions ci-dessous. "


@dataclass(frozen=True, slots=True)
class Edit:
    """What it is called, how it is made, and what both ways may cost at most (bytes), if that does not depend on it."""

    name: str
    make: Callable[[Path], int | None]
    goal_bytes: float | None = None
    goal_times: float | None = None


def change_document(folder: Path) -> None:
    """One sentence more in the largest office document."""
    file = _largest(folder, "*.odt")
    members = _members(file)
    text = members["content.xml"]
    at = text.find(b"</text:p>", len(text) // 3)
    members["content.xml"] = text[:at] + _SENTENCE + text[at:]
    _replace(file, _archive(members))


def replace_picture(folder: Path) -> int:
    """The largest picture becomes another one."""
    data = Maker(97).photograph()
    _replace(_largest(folder, "*.png"), data)
    return len(data)


def add_page(folder: Path) -> int:
    """The largest handout is exported again, with a page more; what zstd's patch mode makes of it."""
    file = _largest(folder, "*.pdf")
    before = file.read_bytes()
    content = zlib.compress(Maker(98).text(9_000).encode(), 6)
    page = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream\nendobj\n" % (len(content), content)
    at = before.rfind(b"trailer")
    after = before[:at] + b"9999 0 obj\n" + page + before[at:].replace(b"/Size ", b"/Size 1")
    _replace(file, after)
    return patched_bytes(before, after)


def lengthen_sound(folder: Path) -> None:
    """A kilobyte is inserted at the head of the largest sound."""
    file = _largest(folder, "*.wav")
    _replace(file, random.Random(1).randbytes(1024) + file.read_bytes())


def rename_pictures(folder: Path) -> None:
    """The folder with most pictures gets another name."""
    counts: dict[Path, int] = {}
    for picture in folder.rglob("*.png"):
        counts[picture.parent] = counts.get(picture.parent, 0) + 1
    most = max(sorted(counts), key=lambda place: counts[place])
    most.rename(most.with_name(f"{most.name}-2"))


def share_members(folder: Path) -> int:
    """A new lesson that has four fifths of another one's members; what the others are once compressed."""
    file = _largest(folder, "*.zip")
    members = _members(file)
    names = sorted(members)
    leaving = [name for number, name in enumerate(names) if number % _ONE_IN == 0]
    for name in leaving:
        del members[name]
    fresh = Maker(99)
    new = {f"neuf/{number}.ogg": fresh.recording() for number in range(len(leaving))}
    _replace(file.with_name("nouvelle-lecon.zip"), _archive(members | new))
    return len(zstandard.ZstdCompressor(level=19).compress(b"".join(new.values())))


def correct_pages(folder: Path) -> None:
    """Two hundred pages with a few words more in each."""
    pages = sorted(folder.rglob("*.html"))
    random.Random(7).shuffle(pages)
    for file in pages[:200]:
        text = file.read_bytes()
        at = max(text.find(b"</p>", len(text) // 2), 0)
        _replace(file, text[:at] + b" (corrected in week 3)" + text[at:])


EDITS: Final = (
    Edit("nothing", lambda _: None, 1_000),
    Edit("a sentence more in an office document", change_document, 3_000),
    Edit("a picture replaced by another", replace_picture),
    Edit("a handout exported again with a page more", add_page, goal_times=1.1),
    Edit("1 kB at the head of a 10 MB sound", lengthen_sound, 30_000),
    Edit("a folder of pictures renamed", rename_pictures, 40_000),
    Edit("a new lesson that shares 80 % of another's members", share_members, goal_times=1.05),
    Edit("200 pages with a small edit each", correct_pages, 40_000),
)


def patched_bytes(before: bytes, after: bytes) -> int:
    """What `zstd -19 --patch-from` makes of a change."""
    known = zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    window = max(10, (len(before) + len(after)).bit_length())
    rules = zstandard.ZstdCompressionParameters.from_level(
        19, source_size=len(after), dict_size=len(before), window_log=window
    )
    return len(zstandard.ZstdCompressor(dict_data=known, compression_params=rules).compress(after))


def copy_for_editing(source: Path, target: Path) -> None:
    """A copy whose files may be replaced while those of the source stay."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def _largest(folder: Path, pattern: str) -> Path:
    return max(sorted(folder.rglob(pattern)), key=lambda file: file.stat().st_size)


def _members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def _archive(members: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return made.getvalue()


def _replace(file: Path, data: bytes) -> None:
    written = file.with_name(f"{file.name}.new")
    written.write_bytes(data)
    written.replace(file)
