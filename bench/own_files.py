"""Edits of files that nobody chose for us: other containers, other writers, other changes than the eight of `edits`.

Each has a file before and after a change that people make. What is not in the standard library is made by programs of
the distribution (qpdf, ghostscript, librsvg, LibreOffice) and left out where they are not installed.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import random
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

_DATE: Final = (2026, 10, 5, 8, 0, 0)
_CHANGED_LINE: Final = 90
_LINES_PER_PAGE: Final = 60
_PHOTOS: Final = 4
_PHOTO_PIXELS: Final = 340
_NAMES: Final = (("office", "office"), ("text", "text"), ("draw", "drawing"), ("svg", "svg-compatible"))
_FLAT: Final = (
    '<?xml version="1.0" encoding="UTF-8"?><office:document office:version="1.3" '
    + " ".join(f'xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for short, name in _NAMES)
    + ' office:mimetype="application/vnd.oasis.opendocument.text">'
)
_WORDS: Final = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=3 + n * 7 % 8)) for n in range(3_000)]


BY_LIBREOFFICE: Final = frozenset({"libreoffice.odt", "libreoffice.docx"})
"""Documents of 1.5 MB in which a paragraph has changed, exported again."""


def pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """Name, the file before, the file after."""
    yield from _archives()
    yield from _databases()
    yield from _pictures()
    yield from _plain()
    with tempfile.TemporaryDirectory() as folder:
        yield from _printed(Path(folder))
        yield from _written(Path(folder))


def _text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(_WORDS, k=words))


def _archives() -> Iterator[tuple[str, bytes, bytes]]:
    chapters: dict[str, bytes] = {f"word/part{n}.xml": _text(2_000, n).encode() for n in range(12)}
    media = {f"word/media/{n}.jpg": random.Random(n).randbytes(60_000) for n in range(8)}
    changed = chapters | {"word/part7.xml": chapters["word/part7.xml"] + b" une phrase de plus"}
    yield "rapport.docx", _zip(chapters | media, 6), _zip(changed | media, 6)
    # saved by another program: every stream is another one
    yield "rapport-converti.docx", _zip(chapters | media, 9), _zip(changed | media, 1)
    slides = {f"ppt/slide{n}.xml": _text(4_000, n).encode() for n in range(40)}
    photos = {f"ppt/media/{n}.jpg": random.Random(n).randbytes(250_000) for n in range(40)}
    later = slides | {"ppt/slide20.xml": b"nouveau " + slides["ppt/slide20.xml"]}
    yield "exposé.pptx", _zip(slides | photos, 6), _zip(later | photos, 6)
    pages = {f"page{n}.html": f"<p>{_text(1_500, n)}</p>".encode() for n in range(60)}
    edited = pages | {"page20.html": pages["page20.html"].replace(b"<p>", b"<p>ajout ", 1)}
    yield "site.tar.gz", gzip.compress(_tar(pages), 9, mtime=0), gzip.compress(_tar(edited), 9, mtime=0)
    lines = "".join(
        f'<path d="M{n * 7 % 500}.{n % 10} {n * 13 % 500} L{n % 300} {n * 3 % 400}"/>' for n in range(20_000)
    )
    before = f'<svg xmlns="http://www.w3.org/2000/svg">{lines}</svg>'.encode()
    after = before.replace(b"</svg>", b"<text>Legende</text></svg>")
    yield "carte.svgz", gzip.compress(before, 9, mtime=0), gzip.compress(after, 9, mtime=0)


def _databases() -> Iterator[tuple[str, bytes, bytes]]:
    yield "notes.sqlite", _database(12_000, edited=False), _database(12_000, edited=True)
    yield "notes-grand.sqlite", _database(60_000, edited=False), _database(60_000, edited=True)


def _pictures() -> Iterator[tuple[str, bytes, bytes]]:
    width, height = 600, 400
    rows = [bytearray() for _ in range(height)]
    for y, row in enumerate(rows):
        for x in range(width):
            row.extend((x * y >> 6 & 255, x + y >> 1 & 255, (x ^ y) * 3 & 255))
    drawn = [bytes(row) for row in rows]
    for row in rows[200:220]:
        row[600:1_200] = b"\xff\x00\x00" * 200
    painted = [bytes(row) for row in rows]
    for name, level, filtered, idat_bytes in (("paint", 6, False, 65_536), ("gimp", 9, True, 8_192)):
        yield (
            f"dessin-{name}.png",
            _png(width, drawn, level, filtered=filtered, idat_bytes=idat_bytes),
            _png(width, painted, level, filtered=filtered, idat_bytes=idat_bytes),
        )
    photo = random.Random(3).randbytes(460_000)
    yield "photo.jpg", b"\xff\xd8" + photo, b"\xff\xd8\xff\xe1" + struct.pack(">H", 402) + bytes(400) + photo


def _plain() -> Iterator[tuple[str, bytes, bytes]]:
    song, film = random.Random(4).randbytes(1_300_000), random.Random(5).randbytes(2_000_000)
    yield "chant.mp3", b"ID3" + bytes(200) + song, b"ID3" + b"Titre nouveau" * 60 + song
    yield "film.mp4", film, film[:32] + b"moov" * 500 + film[32:-2_000]
    quiz = [{"id": n, "question": _text(12, n), "choix": [_text(2, n + k) for k in range(4)]} for n in range(5_000)]
    before = json.dumps(quiz, indent=1).encode()
    yield "quiz.json", before, before.replace(b'"id": 2500', b'"id": 2500, "aide": "relire"')
    table = [b"%d;%s;%d" % (n, _text(2, n).encode(), n % 20) for n in range(40_000)]
    marked = [line if n % 1_000 else line + b"!" for n, line in enumerate(table)]
    yield "notes.csv", b"\n".join(table), b"\n".join(marked)


def _printed(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """PDFs by several producers."""
    makers: Mapping[str, tuple[str, Callable[[Path, str], bytes]]] = {
        "ghostscript.pdf": ("gs", _by_ghostscript),
        "cairo.pdf": ("rsvg-convert", _by_cairo),
        "qpdf.pdf": ("qpdf", _by_qpdf),
    }
    for name, (program, make) in makers.items():
        if shutil.which(program) and (program != "qpdf" or shutil.which("gs")):
            yield name, make(folder, "lundi"), make(folder, "mardi prochain")


def _by_ghostscript(folder: Path, word: str) -> bytes:
    pages = [
        f"50 {780 - n % _LINES_PER_PAGE * 12} moveto ({_text(8, n) if n != _CHANGED_LINE else word}) show"
        f"{' showpage' if (n + 1) % _LINES_PER_PAGE == 0 else ''}"
        for n in range(3_000)
    ]
    source, made = folder / "page.ps", folder / "page.pdf"
    source.write_text("%!PS\n/Helvetica findfont 12 scalefont setfont\n" + "\n".join(pages) + "\n")
    quietly = ["gs", "-q", "-dBATCH", "-dNOPAUSE", "-sDEVICE=pdfwrite"]
    subprocess.run([*quietly, f"-sOutputFile={made}", source], check=True)
    return made.read_bytes()


def _by_qpdf(folder: Path, word: str) -> bytes:
    _by_ghostscript(folder, word)
    made = folder / "packed.pdf"
    subprocess.run(["qpdf", "--object-streams=generate", folder / "page.pdf", made], check=True)
    return made.read_bytes()


def _by_cairo(folder: Path, word: str) -> bytes:
    lines = [
        f'<text x="20" y="{20 + n * 6}" font-size="6">{_text(14, n) if n != _CHANGED_LINE else word}</text>'
        for n in range(170)
    ]
    source = folder / "page.svg"
    source.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="1100">{"".join(lines)}</svg>')
    return subprocess.run(["rsvg-convert", "-f", "pdf", source], check=True, capture_output=True).stdout


def _written(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Documents by an office program, which writes all of them anew."""
    for name in sorted(BY_LIBREOFFICE) if shutil.which("soffice") else ():
        yield name, _by_libreoffice(folder, name, "lundi"), _by_libreoffice(folder, name, "mardi prochain")


def _by_libreoffice(folder: Path, name: str, word: str) -> bytes:
    suffix = name.rpartition(".")[2]
    paragraphs = [f"<text:p>{_text(60, n) if n != _CHANGED_LINE else word}</text:p>" for n in range(400)]
    for number in range(_PHOTOS):
        photo = base64.b64encode(_photo(number)).decode()
        paragraphs.insert(
            number * 90,
            f'<text:p><draw:frame draw:name="photo {number}" text:anchor-type="as-char" '
            'svg:width="9cm" svg:height="9cm">'
            f"<draw:image><office:binary-data>{photo}</office:binary-data></draw:image></draw:frame></text:p>",
        )
    source = folder / "cours.fodt"
    body = f"<office:body><office:text>{''.join(paragraphs)}</office:text></office:body>"
    source.write_text(f"{_FLAT}{body}</office:document>")
    quietly = ["soffice", "--headless", f"-env:UserInstallation={(folder / 'profile').as_uri()}"]
    subprocess.run(
        [*quietly, "--convert-to", suffix, "--outdir", folder, source], check=True, capture_output=True, timeout=300
    )
    return (folder / f"cours.{suffix}").read_bytes()


def _photo(number: int) -> bytes:
    """Noise, as photographs are to a compressor."""
    noise = random.Random(number)
    rows = [noise.randbytes(3 * _PHOTO_PIXELS) for _ in range(_PHOTO_PIXELS)]
    return _png(_PHOTO_PIXELS, rows, 6, filtered=False, idat_bytes=65_536)


def _zip(members: Mapping[str, bytes], level: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED, level)
    return made.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return made.getvalue()


def _database(rows: int, *, edited: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "notes.sqlite"
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE pupil (id INTEGER PRIMARY KEY, name TEXT, mark REAL, remark TEXT)")
        content = ((n, _text(2, n), n % 40 / 2, _text(30, n + 9)) for n in range(rows))
        connection.executemany("INSERT INTO pupil VALUES (?, ?, ?, ?)", content)
        if edited:
            connection.execute("UPDATE pupil SET mark = 12.5 WHERE id % 997 = 3")
            connection.execute("DELETE FROM pupil WHERE id = 77")
        connection.commit()
        connection.close()
        return file.read_bytes()


def _png(width: int, rows: list[bytes], level: int, *, filtered: bool, idat_bytes: int) -> bytes:
    scan = bytearray()
    above = bytes(3 * width)
    for row in rows:
        scan.append(2 if filtered else 0)
        scan += bytes(one - other & 255 for one, other in zip(row, above, strict=True)) if filtered else row
        above = row
    packed = zlib.compress(bytes(scan), level)
    head = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    parts = [(b"IDAT", packed[at : at + idat_bytes]) for at in range(0, len(packed), idat_bytes)]
    chunks = [(b"IHDR", head), *parts, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
