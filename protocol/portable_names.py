"""Names of files that Windows, macOS and Linux all keep as they are (R19; docs/protocol.md, "Portable names").

Rules:
- a path is relative, its components are separated by "/", and it is stored in Unicode normalisation form C: macOS may
  hand out form D, which `portable_form` undoes before anything is compared or hashed;
- what one of the systems refuses, reinterprets or confuses with a neighbour is a `Problem`; publishing refuses the
  whole tree, a reader refuses the whole manifest;
- the rules stand alone: they give the same answer on every system, whatever the file system in use allows.

Sources: Microsoft, "Naming Files, Paths, and Namespaces"; the Unicode Standard, 3.13, D145 (canonical caseless
matching), and UAX #15; NAME_MAX of Linux; Apple's TN1150 for the characters that HFS+ ignores when it compares.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.limits import MAX_FOLDERS_PER_REVISION, MAX_PATH_BYTES, MAX_PATH_COMPONENT_BYTES, MAX_PATH_DEPTH

MAX_TOLD_NAMES: Final = 50


class Why(StrEnum):
    """Stable reasons for which a name is not portable."""

    EMPTY = "empty"
    ABSOLUTE = "absolute"
    DOTS = "dots"
    BACKSLASH = "backslash"
    UNDECODABLE = "undecodable"
    CONTROL_CHARACTER = "control-character"
    UNASSIGNED_CHARACTER = "unassigned-character"
    FORBIDDEN_CHARACTER = "forbidden-character"
    ALTERNATE_STREAM = "alternate-stream"
    RESERVED_NAME = "reserved-name"
    TRAILING_DOT = "trailing-dot"
    OUTER_SPACE = "outer-space"
    COMPONENT_TOO_LONG = "component-too-long"
    PATH_TOO_LONG = "path-too-long"
    PATH_TOO_DEEP = "path-too-deep"
    TOO_MANY_FOLDERS = "too-many-folders"
    DUPLICATE = "duplicate"
    UNICODE_COLLISION = "unicode-collision"
    CASE_COLLISION = "case-collision"
    FILE_AND_FOLDER = "file-and-folder"
    NOT_NORMALISED = "not-normalised"


_SENTENCES: Final[dict[Why, str]] = {
    Why.EMPTY: "a file or folder in this path has no name",
    Why.ABSOLUTE: "the path starts at the root of a disk",
    Why.DOTS: 'a folder cannot be called "." or ".."',
    Why.BACKSLASH: "the name contains a backslash, which separates folders on Windows",
    Why.UNDECODABLE: "the name is not valid text; rename the file",
    Why.CONTROL_CHARACTER: "the name contains an invisible control character",
    Why.UNASSIGNED_CHARACTER: "the name contains a character that no system knows yet",
    Why.FORBIDDEN_CHARACTER: 'the name contains one of < > : " | ? *, which Windows does not accept',
    Why.ALTERNATE_STREAM: "the name contains a colon, which Windows and macOS do not accept",
    Why.RESERVED_NAME: "Windows reserves this name for a device",
    Why.TRAILING_DOT: "the name ends with a dot, which Windows removes",
    Why.OUTER_SPACE: "the name starts or ends with a space, which Windows removes",
    Why.COMPONENT_TOO_LONG: f"a file or folder name is longer than {MAX_PATH_COMPONENT_BYTES} bytes",
    Why.PATH_TOO_LONG: f"the path is longer than {MAX_PATH_BYTES} bytes",
    Why.PATH_TOO_DEEP: f"the file lies in more than {MAX_PATH_DEPTH - 1} nested folders",
    Why.TOO_MANY_FOLDERS: f"there are more than {MAX_FOLDERS_PER_REVISION} folders",
    Why.DUPLICATE: "the same path is given twice",
    Why.UNICODE_COLLISION: "another name in this folder looks the same; only the way its accents are stored differs",
    Why.CASE_COLLISION: "another name in this folder differs only in capital and small letters",
    Why.FILE_AND_FOLDER: "the same name is used for a file and for a folder",
    Why.NOT_NORMALISED: "the name is not in the form in which names are stored",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that not every system would keep. `path` is fit for display: what cannot be shown is escaped."""

    path: str
    why: Why

    @property
    def shown_as(self) -> Why:
        """The reason to tell people: a name like "a:b" begins as a path at a drive does, and has a colon in it."""
        if self.why is Why.ABSOLUTE and _DRIVE.match(self.path) and not _SEPARATOR.search(self.path):
            return Why.FORBIDDEN_CHARACTER if _FORBIDDEN.search(self.path) else Why.ALTERNATE_STREAM
        return self.why

    @property
    def sentence(self) -> str:
        """What is wrong, for a teacher."""
        return _SENTENCES[self.shown_as]


# Controls, line separators, direction overrides (they disguise an extension), byte order mark, noncharacters.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FORBIDDEN: Final = re.compile(r'[<>"|?*]')
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SEPARATOR: Final = re.compile(r"[/\\]")
# Windows looks only at what comes before the first dot, without the spaces before it.
_RESERVED: Final = re.compile(
    r"(?:CON|PRN|AUX|NUL|(?:COM|LPT)[1-9\u00b9\u00b2\u00b3]|CONIN\$|CONOUT\$) *(?:\.|$)", re.IGNORECASE
)
_IGNORED_BY_HFS: Final = re.compile("[\u200c-\u200f\u206a-\u206f]")
# Nearly all real components: nothing more to look at than reserved names and length.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_(\-](?:[A-Za-z0-9_ .,'()\-]*[A-Za-z0-9_)\-])?")


def portable_form(path: str) -> str:
    """The form in which a path is stored and compared: Unicode normalisation form C."""
    return unicodedata.normalize("NFC", path)


def is_portable_form(path: str) -> bool:
    """Whether `path` is what `portable_form` gives."""
    return unicodedata.is_normalized("NFC", path)


def check_portable(paths: Iterable[str], *, known_characters_only: bool = True) -> list[Problem]:
    """What keeps these paths from forming one tree on every system: at most one problem per path, in their order.

    Paths are looked at in their `portable_form`. `known_characters_only` also refuses characters that this Unicode
    version does not know: their normal form and case are not settled, so a publisher must not use them, whereas a
    reader with an older version must accept them.
    """
    return list(portability_problems(paths, known_characters_only=known_characters_only))


def portability_problems(paths: Iterable[str], *, known_characters_only: bool = True) -> Iterator[Problem]:
    """The same, one by one, for a reader that refuses the tree at the first."""
    tree = _Tree(known_characters_only=known_characters_only)
    for path in paths:
        why = tree.add(path)
        if why is not None:
            yield Problem(displayable(path), why)


def displayable(path: str) -> str:
    """`path` with everything that a terminal, a log or JSON could stumble over written as an escape.

    French has a space that does not break before “!” and within « »: those are spaces, whatever Python calls printable.
    """
    return "".join(
        char
        if char.isprintable() or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape", "surrogatepass").decode()
        for char in path
    )


def told(problems: Sequence[Problem]) -> str:
    """All of these in one sentence: the names reason by reason, each once, so that one look at a folder mends them."""
    if len(problems) == 1:
        return f"{problems[0].path}: {problems[0].sentence}"
    by_sentence: dict[str, list[str]] = {}
    for problem in problems[:MAX_TOLD_NAMES]:
        by_sentence.setdefault(problem.sentence, []).append(problem.path)
    reasons = [f"{', '.join(paths)}: {sentence}" for sentence, paths in by_sentence.items()]
    left = len(problems) - MAX_TOLD_NAMES
    return f"{'; '.join(reasons)}{f' (and {left} more)' if left > 0 else ''}"


def portable_name(name: str) -> str:
    """A portable component near to `name`, for folders named after spaces and titles; importers use it as well.

    Forbidden characters become "-"; the result may collide with that of another name, which the caller settles.
    """
    text = portable_form(_SURROGATE.sub("-", name))
    text = _FORBIDDEN.sub("-", _CONTROL.sub("-", text)).translate(_SEPARATORS)
    text = "".join("-" if unicodedata.category(char) == "Cn" else char for char in text)
    text = _shortened(text).strip(" ").rstrip(". ")
    if _RESERVED.match(text):
        text = f"-{_shortened(text, spare_bytes=1)}".rstrip(". ")
    return text or "-"


def compared(name: str) -> str:
    """Equal for two names exactly where some file system takes one for the other, short names of Windows apart."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", _IGNORED_BY_HFS.sub("", name)).casefold()


_SEPARATORS: Final = str.maketrans({"/": "-", "\\": "-", ":": "-"})


def _shortened(text: str, *, spare_bytes: int = 0) -> str:
    return text.encode()[: MAX_PATH_COMPONENT_BYTES - spare_bytes].decode(errors="ignore")


def _component_problem(name: str, *, known_characters_only: bool) -> Why | None:
    if _PLAIN.fullmatch(name) is None:
        found = _unusual_problem(name, known_characters_only=known_characters_only)
        if found is not None:
            return found
    if _RESERVED.match(name):
        return Why.RESERVED_NAME
    if len(name.encode()) > MAX_PATH_COMPONENT_BYTES:
        return Why.COMPONENT_TOO_LONG
    return None


def _unusual_problem(name: str, *, known_characters_only: bool) -> Why | None:
    tests = (
        (not name, Why.EMPTY),
        (name in {".", ".."}, Why.DOTS),
        ("\\" in name, Why.BACKSLASH),
        (_CONTROL.search(name), Why.CONTROL_CHARACTER),
        (_FORBIDDEN.search(name), Why.FORBIDDEN_CHARACTER),
        (":" in name, Why.ALTERNATE_STREAM),
        (name != name.strip(" "), Why.OUTER_SPACE),
        (name.endswith("."), Why.TRAILING_DOT),
        (
            known_characters_only and any(unicodedata.category(char) == "Cn" for char in name),
            Why.UNASSIGNED_CHARACTER,
        ),
    )
    return next((why for found, why in tests if found), None)


def _collision(one: str, other: str) -> Why:
    if one == other:
        return Why.DUPLICATE
    one, other = portable_form(one), portable_form(other)
    return Why.CASE_COLLISION if one != other and one.casefold() == other.casefold() else Why.UNICODE_COLLISION


def _path_problem(path: str) -> Why | None:
    if _SURROGATE.search(path):
        return Why.UNDECODABLE
    if path.startswith("/") or _DRIVE.match(path):
        return Why.ABSOLUTE
    return Why.PATH_TOO_LONG if len(portable_form(path).encode()) > MAX_PATH_BYTES else None


class _Tree:
    """The names met so far. A folder is a number; a name in a folder is (folder, name)."""

    __slots__ = ("_files", "_folders", "_known_characters_only", "_names")

    def __init__(self, *, known_characters_only: bool) -> None:
        self._known_characters_only = known_characters_only
        self._folders: dict[tuple[int, str], int] = {}  # (folder, name as given) -> folder
        self._files: set[tuple[int, str]] = set()  # (folder, caseless name)
        self._names: dict[tuple[int, str], str] = {}  # (folder, caseless name) -> name as given

    def add(self, path: str) -> Why | None:
        problem = _path_problem(path)
        if problem is not None:
            return problem
        *folders, name = path.split("/")
        if len(folders) >= MAX_PATH_DEPTH:
            return Why.PATH_TOO_DEEP
        folder = 0
        for given in folders:
            found = self._folders.get((folder, given)) or self._add_folder(folder, given)
            if isinstance(found, Why):
                return found
            folder = found
        return self._add_file(folder, name)

    def _add_folder(self, parent: int, given: str) -> int | Why:
        key = self._new_name(parent, given, is_folder=True)
        if isinstance(key, Why):
            return key
        if len(self._folders) >= MAX_FOLDERS_PER_REVISION:
            return Why.TOO_MANY_FOLDERS
        number = len(self._folders) + 1
        self._folders[parent, given] = number
        return number

    def _add_file(self, parent: int, given: str) -> Why | None:
        key = self._new_name(parent, given, is_folder=False)
        if isinstance(key, Why):
            return key
        self._files.add(key)
        return None

    def _new_name(self, parent: int, given: str, *, is_folder: bool) -> tuple[int, str] | Why:
        name = portable_form(given)
        problem = _component_problem(name, known_characters_only=self._known_characters_only)
        if problem is not None:
            return problem
        key = (parent, compared(name))
        other = self._names.get(key)
        if other is None:
            self._names[key] = given
            return key
        return Why.FILE_AND_FOLDER if is_folder is (key in self._files) else _collision(other, given)
