"""A school's catalogue to measure with: 300 MB in 6,000 files, made here, the same bytes from the same seed.

Two dozen courses: pages of HTML with their style sheet, pictures (PNG, of photographs and of diagrams), recordings
(WAV, and frames that no compressor shortens), handouts (PDF-like: compressed streams between plain objects), office
documents and packaged lessons (ZIP). Text is drawn from a vocabulary by Zipf's law, so that it compresses like text;
pictures are gradients under noise, so that they compress like pictures. Nothing is downloaded.

The bytes also follow from Python's `random`, `zipfile` and the zlib beneath them: another zlib may deflate differently.

usage: corpus.py DIR [--megabytes 300] [--seed 1]
"""

from __future__ import annotations

import argparse
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from random import Random

VERSION = "relais-corpus-1"
COURSES = 24
MARKER = ".corpus"

_SYLLABLES = re.findall(
    "[^ ]+",
    "a an ba bi bla cha ci col con cou da de des du e é en er es fi fleu for ga gi gra i il in ja la le lo ma mé men "
    "mi mon na ne no o ou pa pe pla por qua ra re ri ro sa se si so ta te ti tion tou tra u va ve vi voi vou",
)
_DATE = (2026, 9, 1, 8, 0, 0)
_NOISE = bytes(min(31, value * value // 2048) for value in range(256))
_STYLE = "body { font-family: serif; max-width: 46rem; margin: 2rem auto; line-height: 1.5 }\n"


@dataclass(frozen=True, slots=True)
class Share:
    """One sort of file: where in a course it lies, how many there are in 300 MB, how it is made."""

    pattern: str
    count: int
    make: Callable[[Maker], bytes]


class Maker:
    """Draws files from one seeded source."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        draw = self.random
        self.words = ["".join(draw.choices(_SYLLABLES, k=draw.choice((1, 2, 2, 3, 3, 4)))) for _ in range(6_000)]
        self.weights = list(accumulate(1 / rank for rank in range(1, len(self.words) + 1)))
        self.second = struct.pack(
            "<44100h", *(int(9_000 * ((step * 440 % 44_100) / 22_050 - 1)) for step in range(44_100))
        )

    def text(self, size: int) -> str:
        """About `size` bytes of sentences."""
        drawn = self.random.choices(self.words, cum_weights=self.weights, k=size // 6)
        sentences = [" ".join(drawn[at : at + 14]).capitalize() for at in range(0, len(drawn), 14)]
        return ". ".join(sentences)[:size]

    def page(self) -> bytes:
        """A page of a course."""
        parts = [
            f'<section id="s{number}"><h2>{self.text(40)}</h2>\n<p>{self.text(2_200)}</p>\n'
            f'<figure><img src="images/{self.random.randrange(60)}.png" alt=""></figure></section>\n'
            for number in range(self.random.randrange(6, 15))
        ]
        head = f'<!doctype html>\n<html lang="fr"><head><meta charset="utf-8"><title>{self.text(30)}</title>\n'
        head += '<link rel="stylesheet" href="style.css"></head><body>\n'
        return "".join((head, *parts, "</body></html>\n")).encode()

    def style(self) -> bytes:
        """A style sheet, the same in every course but for its title."""
        return (f"/* {self.text(30)} */\n" + _STYLE * 12).encode()

    def drawing(self) -> bytes:
        """An SVG of lines."""
        lines = "".join(
            f'<line x1="{self.random.randrange(800)}" y1="{self.random.randrange(600)}" '
            f'x2="{self.random.randrange(800)}" y2="{self.random.randrange(600)}" stroke="#345"/>\n'
            for _ in range(120)
        )
        return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 600">\n{lines}</svg>\n'.encode()

    def photograph(self) -> bytes:
        """A PNG of 8-bit RGB: a gradient under noise."""
        width, height = self.random.randrange(120, 200), self.random.randrange(90, 150)
        noise = self.random.randbytes(width * height * 3).translate(_NOISE)
        stride = width * 3
        rows = b"".join(
            b"\x00" + bytes(byte + (row & 0x7F) for byte in noise[row * stride : (row + 1) * stride])
            for row in range(height)
        )
        return _png(width, height, rows)

    def diagram(self) -> bytes:
        """A PNG with large areas of one colour."""
        width, height = 640, 360
        lines = [bytes(self.random.choices((0, 255, 128, 90), (1, 9, 2, 2), k=3)) * width for _ in range(40)]
        return _png(width, height, b"".join(b"\x00" + self.random.choice(lines) for _ in range(height)))

    def recording(self) -> bytes:
        """Compressed sound: small frames that no compressor shortens."""
        frames = range(self.random.randrange(4, 10))
        return b"".join(b"OggS\x00\x00" + struct.pack("<I", frame) + self.random.randbytes(4_080) for frame in frames)

    def sound(self) -> bytes:
        """Ten megabytes of WAV: a tone under noise."""
        seconds = 120
        plain = int.from_bytes(self.second * seconds, "little")
        noise = int.from_bytes(self.random.randbytes(len(self.second) * seconds), "little")
        mask = int.from_bytes(b"\x3f\x00" * 44_100 * seconds, "little")
        samples = (plain ^ (noise & mask)).to_bytes(len(self.second) * seconds, "little")
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 44_100, 88_200, 2, 16)
        size = struct.pack("<I", len(samples))
        return b"".join((b"RIFF", struct.pack("<I", 36 + len(samples)), b"WAVE", form, b"data", size, samples))

    def handout(self) -> bytes:
        """A PDF-like file of a dozen pages."""
        parts = [b"%PDF-1.5\n"]
        for number in range(self.random.randrange(10, 24)):
            content = self.random.randbytes(20_000) if number % 2 else zlib.compress(self.text(14_000).encode(), 6)
            parts.append(b"%d 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n" % (number + 1, len(content)))
            parts += [content, b"\nendstream\nendobj\n"]
        return b"".join([*parts, b"trailer\n<< /Size %d >>\n%%%%EOF\n" % len(parts)])

    def document(self) -> bytes:
        """An office document: XML and a few pictures in a ZIP."""
        paragraphs = "".join(f'<text:p text:style-name="P1">{self.text(900)}</text:p>\n' for _ in range(60))
        styles = "".join(f'<style:style style:name="P{n}" style:family="paragraph"/>\n' for n in range(200))
        members = {
            "mimetype": b"application/vnd.oasis.opendocument.text",
            "content.xml": paragraphs.encode(),
            "styles.xml": styles.encode(),
        }
        return _zip(members | {f"Pictures/{n}.png": self.photograph() for n in range(self.random.randrange(2, 7))})

    def lesson(self) -> bytes:
        """A packaged lesson: pages, pictures and recordings in a ZIP."""
        pages = {f"page{n}.html": self.page() for n in range(20)}
        images = {f"images/{n}.png": self.photograph() for n in range(20)}
        return _zip(pages | images | {f"sound/{n}.ogg": self.recording() for n in range(140)})


SHARES = (
    Share("chapter{:03}.html", 2_250, Maker.page),
    Share("style.css", COURSES, Maker.style),
    Share("images/drawing{:03}.svg", 300, Maker.drawing),
    Share("images/{:03}.png", 1_260, Maker.photograph),
    Share("images/diagram{:03}.png", 300, Maker.diagram),
    Share("audio/{:03}.ogg", 1_300, Maker.recording),
    Share("audio/listening{:03}.wav", 3, Maker.sound),
    Share("handouts/{:03}.pdf", 300, Maker.handout),
    Share("office/{:03}.odt", 260, Maker.document),
    Share("lessons/{:03}.zip", 3, Maker.lesson),
)


def write_corpus(folder: Path, *, megabytes: int = 300, seed: int = 1) -> None:
    """Make the catalogue in `folder`, one folder per course, unless it is already there."""
    stamp = f"{VERSION} {megabytes} {seed}\n"
    marker = folder.with_name(folder.name + MARKER)
    if marker.exists() and marker.read_text() == stamp:
        return
    maker = Maker(seed)
    for share in SHARES:
        for number in range(max(1, share.count * megabytes // 300)):
            course = folder / f"course-{number % COURSES:02}"
            file = course / share.pattern.format(number // COURSES)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(share.make(maker))
    marker.write_text(stamp)


def measure(folder: Path) -> tuple[int, int]:
    """How many files lie under `folder`, and their bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return len(sizes), sum(sizes)


def _png(width: int, height: int, rows: bytes) -> bytes:
    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows, 6)) + part(b"IEND", b"")


def _zip(members: dict[str, bytes]) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = (
                zipfile.ZIP_STORED if name.endswith((".png", ".ogg", "mimetype")) else zipfile.ZIP_DEFLATED
            )
            archive.writestr(info, data)
    return target.getvalue()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    write_corpus(chosen.folder, megabytes=chosen.megabytes, seed=chosen.seed)
    files, size = measure(chosen.folder)
    print(f"{files} files, {size / 1e6:.1f} MB in {chosen.folder}")


if __name__ == "__main__":
    main()
