"""What DIR/coursework shows, and under which names: pure rules (docs/adr/0014).

Rules:
- files of kinds that run as programs, or hide some, are left out and named in a text file: they reach a machine through
  the portal, `cat` and `checkout`, where a person asks for them. The list is data, and the territory's to change later.
  What lies in a folder of such a name is left out too: systems open some folders as programs. `.py` is no such kind:
  pupils are given it to read, and to change;
- with a budget for the disk, copies take what content leaves of it: what was published or opened last is there;
- a person's own version of a file is kept beside the published one, under a name with the date of the edit.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.manifest import ManifestEntry
from sync_agent.coursework.space_folders import free_name, with_suffix

_PROGRAMS: Final = """
    exe com scr pif bat cmd msi msp mst msix msixbundle appx appxbundle appinstaller cpl dll ocx sys drv gadget jar
    jnlp application appref-ms app command run appimage deb rpm pkg dmg apk pyc pyw pyz pyzw terminal tool action
    workflow saver msu ppkg vsto mobileconfig
"""
_SCRIPTS: Final = """
    js jse vbs vbe vb ws wsf wsh wsc sct hta ps1 ps1xml ps2 psc1 psd1 psm1 msh sh bash csh zsh ksh
    ahk au3 scpt scptd applescript
"""
_LINKS_AND_SETTINGS: Final = """
    lnk url website scf desktop webloc fileloc inetloc inf reg settingcontent-ms library-ms search-ms searchconnector-ms
    theme themepack rdp wsb iso img vhd vhdx chm hlp xbap diagcab msc mht mhtml
"""
_MACROS: Final = """
    docm dotm xlsm xltm xlam xlsb xll xla wll pptm potm ppam ppsm sldm mdb mde accdb accde ade adp oxt odb
    slk iqy oqy rqy dqy one
"""
DENIED_EXTENSIONS: Final = frozenset(f"{_PROGRAMS}{_SCRIPTS}{_LINKS_AND_SETTINGS}{_MACROS}".split())

DENIED_NAMES: Final = frozenset({"desktop.ini"})
"""Explorer obeys it as soon as the folder is shown."""

NOTICE_NAME: Final = "Fichiers non copiés.txt"
_BOM: Final = "\ufeff"  # old editors of Windows need it
_NOTICE: Final = """\
Par sécurité, ces fichiers ne sont pas copiés dans ce dossier : ouverts d'un double clic, ils pourraient
exécuter un programme. Ils sont dans la leçon, et s'ouvrent depuis la page du poste.

For safety, these files are not copied into this folder: opened with a double click, they could run a
program. They are in the lesson, and open from this computer's page.

"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a title's folder is to hold. `data` is its content where it does not come from the store."""

    path: str
    size: int
    stream: bytes
    data: bytes | None = None


def fitting(sizes: Mapping[bytes, int], used_ms: Mapping[bytes, int], room_bytes: int | None) -> set[bytes]:
    """Which titles have a readable copy within `room_bytes`, those used last before others; all where it is None."""
    if room_bytes is None:
        return set(sizes)
    found = set()
    for item in sorted(sizes, key=lambda item: (-used_ms[item], item)):
        if sizes[item] <= room_bytes:
            room_bytes -= sizes[item]
            found.add(item)
    return found


def is_denied(path: str) -> bool:
    """Whether a file is left out of the tree, for its own name or that of a folder in which it lies."""
    return any(map(_is_denied_name, path.split("/")))


def _is_denied_name(name: str) -> bool:
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    return ending in DENIED_EXTENSIONS or name.lower() in DENIED_NAMES


def wanted_files(manifest: Sequence[ManifestEntry]) -> dict[str, Wanted]:
    """What the folder of a revision with this manifest is to hold, by path."""
    wanted = {file.path: Wanted(file.path, file.size, file.stream) for file in manifest}
    denied = [path for path in wanted if is_denied(path)]
    for path in denied:
        del wanted[path]
    if denied:
        data = notice(denied)
        path = free_name(NOTICE_NAME, {file.path.partition("/")[0] for file in manifest}, is_file=True)
        wanted[path] = Wanted(path, len(data), stream_id(chunk_list(cut(data))), data)
    return wanted


def notice(paths: Iterable[str]) -> bytes:
    """The text that names what was left out."""
    lines = _NOTICE.splitlines() + [f"  - {path}" for path in sorted(paths)]
    return f"{_BOM}{chr(10).join(lines)}{chr(10)}".replace("\n", "\r\n").encode()


_DATED: Final = re.compile(r" \(modifié le \d{4}-\d\d-\d\d à \d{1,2} h \d\d\)( \(\d+\))?(\.[^.]*)?\Z")


def is_dated(name: str) -> bool:
    """Whether a file has a name that `dated_name` gives."""
    return _DATED.search(name) is not None


def dated_name(name: str, edited: dt.datetime, taken: Iterable[str]) -> str:
    """The name under which a person's own version of the file `name` is kept, apart from all of `taken`."""
    when = f" (modifié le {edited:%Y-%m-%d} à {edited.hour} h {edited.minute:02d})"
    return free_name(with_suffix(name, when, is_file=True), taken, is_file=True)


def local_time(changed_ns: int) -> dt.datetime:
    """The machine's local time at which a file was changed; 1970 for what no calendar holds."""
    try:
        return dt.datetime.fromtimestamp(changed_ns / 1e9).astimezone()
    except (ValueError, OverflowError, OSError):
        return dt.datetime.fromtimestamp(0, dt.UTC)
