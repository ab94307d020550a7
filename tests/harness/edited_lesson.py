"""A lesson before and after the edits that teachers make: a paragraph, a renamed folder, a moved sound, a new file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from random import Random

Files = Mapping[str, bytes]


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def archive(members: Files, level: int = 6) -> bytes:
    """A ZIP as a program writes it that compresses with this effort."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as target:
        for name, data in members.items():
            target.writestr(zipfile.ZipInfo(name, (2024, 1, 15, 8, 0, 0)), data, zipfile.ZIP_DEFLATED, level)
    return made.getvalue()


def document(text: str) -> bytes:
    """An office document: text, and a picture that does not change."""
    return archive({"content.xml": text.encode(), "picture.bin": noise(60_000, 9)})


TEXT = " ".join(f"<p>Phrase {number} du chapitre sur le cycle de l'eau.</p>" for number in range(3_000))
BEFORE: Files = {
    "cours.odt": document(TEXT),
    "image.png": noise(90_000, 2),
    "page.html": b"<h1>Leau</h1>" + b"<p>texte</p>" * 900,
    "son.wav": noise(300_000, 3),
    "vide.txt": b"",
}
AFTER: Files = {
    "cours.odt": document(TEXT.replace("Phrase 1500", "Phrase 1500 (corrigée)")),
    "dessins/image.png": BEFORE["image.png"],
    "nouveau.txt": b"du texte neuf " * 40,
    "page.html": BEFORE["page.html"] + b"<p>en plus</p>",
    "son.wav": noise(500, 4) + BEFORE["son.wav"],
    "vide.txt": b"",
}
