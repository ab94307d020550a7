"""LISEZ-MOI.txt on a courier disk: what it is, for whoever finds it or is handed it.

Rules:
- it names nobody: no pupil, no class, no school, no territory; a disk that is found in the street shows sizes and ids;
- it is written after all that counts, into the folder that Relais was given, and hinders nothing: a full or locked
  disk goes without;
- a file of that name that we have not written is somebody's, and stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

NOTE_NAME: Final = "LISEZ-MOI.txt"
_BOM: Final = "\ufeff"  # old editors of Windows need it
_FIRST_LINE: Final = "CETTE CLÉ APPARTIENT À UNE ÉCOLE · THIS STICK BELONGS TO A SCHOOL"
_MOST_BYTES: Final = 16 * 1024
_NOTE: Final = f"""\
{_FIRST_LINE}

Français

Cette clé USB (ou ce disque) porte les cours et les travaux d'élèves d'une école à l'autre, ou d'un ordinateur
à l'autre, quand il n'y a pas d'Internet. C'est le logiciel Relais qui la remplit.

Vous l'avez trouvée ? Merci de la rapporter à l'école la plus proche, ou à la mairie. Donnez-leur le nom du
dossier qui est à côté de ce texte : c'est un numéro, qui dit de quel réseau d'écoles elle vient.

Tout y est scellé : sans les ordinateurs de l'école, personne ne peut lire ce qu'elle contient. Aucun nom n'y est
écrit. Inutile d'ouvrir ces fichiers ; ne les renommez pas, ne les effacez pas : ils ne peuvent pas abîmer votre
ordinateur, et quelqu'un les attend peut-être.

Vous travaillez à l'école ? Branchez-la sur un ordinateur où Relais tourne : il prend ce qu'elle apporte, et la
remplit. S'il ne se passe rien : sync-agent courier import, puis sync-agent courier export.

English

This USB stick (or disk) carries lessons and pupils' work from one computer of a school to another, or between
schools, when there is no Internet. A program called Relais fills it.

You found it? Please bring it to the nearest school, or to the town hall. Tell them the name of the folder beside
this text: it is a number, which says from which network of schools it comes.

Everything on it is sealed: nobody can read it without the school's computers. No name is written on it. There is
no use in opening these files; please do not rename or delete them. They cannot harm your computer, and somebody
may be waiting for them.

You work at the school? Plug it into a computer on which Relais runs: it takes what the stick brings, and fills it.
If nothing happens: sync-agent courier import, then sync-agent courier export.
"""


def note() -> bytes:
    """The text, as old editors read it."""
    return f"{_BOM}{_NOTE}".replace("\n", "\r\n").encode()


def leave_note(folder: Path, passing: Path) -> None:
    """Write the text into `folder`, by way of the file `passing` on the same disk, where it can be written."""
    target = folder / NOTE_NAME
    with contextlib.suppress(OSError):
        found = _read(target)
        if found == note() or (found is not None and not _is_ours(found)):
            return
        try:
            with passing.open("xb", buffering=0) as file:
                file.write(note())
                os.fsync(file.fileno())
            passing.replace(target)
        finally:
            passing.unlink(missing_ok=True)


def _read(target: Path) -> bytes | None:
    """What lies there, as far as our text is long; None for nothing at all. What is no file reads as nobody's text."""
    try:
        if not stat.S_ISREG(target.lstat().st_mode):
            return b""
        with target.open("rb") as file:
            return file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None


def _is_ours(found: bytes) -> bool:
    return found.removeprefix(_BOM.encode()).startswith(_FIRST_LINE.encode())
