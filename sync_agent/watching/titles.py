"""What is remembered of watched folders: which there are, their titles with their items, and the state of the brake.

Everything is a mark in the store. A title is keyed by its folder and its own name; the number of its folder on the disk
lets a renamed one be known again. DIR's own path is kept nowhere: folders in DIR/publish are known by their space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.clock import rfc3339
from protocol.errors import Code, PeerFault
from protocol.fields import Fields
from protocol.model.entry import ID_BYTES
from protocol.portable_names import displayable, portable_form
from protocol.replica.console.operation import JSON
from protocol.replica.interfaces import EntryStore
from sync_agent.machine.marks import BRAKE_MARK, WATCHED_FILES_MARKS, WATCHED_TITLE_MARKS
from sync_agent.watching.files import Obstacle
from sync_agent.watching.rules import title_of

_NAME_HASH_BYTES: Final = 16
_MAX_MARK_BYTES: Final = 64 * 1024
_MAX_CHARS: Final = 4096
_MAX_NAMED: Final = 20
MAX_FOUND: Final = 256
"""Of so many titles the brake notes what was found in them; the others are asked about once these are published."""


@dataclass(frozen=True, slots=True)
class Title:
    """An entry of a watched folder.

    `name` is the entry's on the disk. `item` is what it is published as, if it is; `ticked` says whether it may be,
    `inode` is the number of its folder or file. `likeness` is that of the look which found it as it was published,
    `files` the number of files then. `obstacle` is why its present state is not published.
    """

    folder: str
    name: str
    is_file: bool = False
    ticked: bool = False
    item: bytes | None = None
    inode: int = 0
    likeness: bytes = b""
    files: int = 0
    obstacle: Obstacle | None = None

    @property
    def key(self) -> str:
        """What its marks are called, after their prefix."""
        name = portable_form(self.name).encode(errors="surrogatepass")
        return f"{self.folder}/{blake3(name).hexdigest(length=_NAME_HASH_BYTES)}"

    @property
    def shown(self) -> str:
        """What people see, fit for display."""
        return displayable(title_of(portable_form(self.name), is_file=self.is_file))

    def mark(self) -> dict[str, bytes | None]:
        """To be set in the store."""
        value: dict[str, Value] = {
            "name": self.name.encode(errors="surrogatepass"),
            "file": self.is_file,
            "ticked": self.ticked,
            "item": self.item,
            "inode": self.inode & (2**63 - 1),
            "likeness": self.likeness,
            "files": self.files,
        }
        if self.obstacle is not None:
            sentence = self.obstacle.sentence
            value["obstacle"] = {"code": self.obstacle.code.value, "path": self.obstacle.path, "sentence": sentence}
        return {WATCHED_TITLE_MARKS + self.key: canonical.encode(value)}

    def no_mark(self) -> dict[str, bytes | None]:
        """To forget it."""
        return {WATCHED_TITLE_MARKS + self.key: None, WATCHED_FILES_MARKS + self.key: None}

    @classmethod
    def read(cls, key: str, data: bytes) -> Self | None:
        """From the store; None for what cannot be read."""
        fields = _fields(data)
        if fields is None:
            return None
        try:
            hindrance = fields.inner("obstacle")
            return cls(
                folder=key.removeprefix(WATCHED_TITLE_MARKS).partition("/")[0],
                name=fields.octets("name").decode(errors="surrogatepass"),
                is_file=fields.flag("file"),
                ticked=fields.flag("ticked"),
                item=fields.octets_or_none("item", ID_BYTES),
                inode=fields.count("inode"),
                likeness=fields.octets("likeness"),
                files=fields.count("files"),
                obstacle=None if hindrance is None else _obstacle(hindrance),
            )
        except (PeerFault, UnicodeDecodeError, ValueError):
            return None


async def titles(store: EntryStore, folder: str | None = None) -> dict[str, Title]:
    """What is remembered of all titles, or of those of one folder, by key."""
    prefix = WATCHED_TITLE_MARKS if folder is None else f"{WATCHED_TITLE_MARKS}{folder}/"
    read = [Title.read(key, data) for key, data in (await store.marks(prefix)).items()]
    return {title.key: title for title in read if title is not None}


@dataclass(frozen=True, slots=True)
class Brake:
    """Whether publishing from watched folders is paused.

    `at_ms` says since when, `files` how many published files were found destroyed or rewritten, in `names`, the first
    titles of them. `found` has, by the keys of titles, as what each was found (`Look.likeness`): while the brake holds
    it grows. With `let_through` a person has said that this is meant: as that, and no other, it is published once.
    """

    at_ms: int
    files: int
    names: tuple[str, ...]
    let_through: bool = False
    found: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    async def read(cls, store: EntryStore) -> Self | None:
        """The brake, if it was pulled and what pulled it is not over."""
        fields = _fields(await store.mark(BRAKE_MARK))
        if fields is None:
            return None
        try:
            names = tuple(str(name) for name in fields.rows("titles", _MAX_NAMED))
            found = dict(_found_in(row) for row in fields.rows("found", MAX_FOUND))
            return cls(fields.count("at"), fields.count("files"), names, fields.flag("let-through"), found)
        except PeerFault:
            return None

    @property
    def told(self) -> str:
        """What a page has told of it: another once anything more is found."""
        (mark,) = self.mark().values()
        return blake3(mark or b"").hexdigest(length=_NAME_HASH_BYTES)

    def with_more(self, key: str, likeness: bytes, name: str, files: int) -> Self:
        """With what was found in one more title, or in one of them since."""
        files = 0 if key in self.found else files
        names = tuple(sorted({*self.names, name})[:_MAX_NAMED])
        return replace(self, files=self.files + files, names=names, found={**self.found, key: likeness})

    def mark(self) -> dict[str, bytes | None]:
        """To be set in the store."""
        value: dict[str, Value] = {
            "at": self.at_ms,
            "files": self.files,
            "titles": list(self.names[:_MAX_NAMED]),
            "let-through": self.let_through,
            "found": [[key, likeness] for key, likeness in sorted(self.found.items())[:MAX_FOUND]],
        }
        return {BRAKE_MARK: canonical.encode(value)}

    @property
    def holds(self) -> bool:
        """Whether nothing is published."""
        return not self.let_through


@dataclass(frozen=True, slots=True)
class Hindered:
    """What a teacher is told of watched folders: the brake while it holds, and the titles that are not published."""

    brake: Brake | None = None
    titles: tuple[Title, ...] = ()

    @property
    def stamp(self) -> int:
        """Changes when what is told does."""
        told = None if self.brake is None else self.brake.told
        return hash((told, tuple((title.shown, title.obstacle) for title in self.titles)))


NOTHING_HINDERED: Final = Hindered()


async def hindered(store: EntryStore) -> Hindered:
    """What keeps something from being published now, in the order of folders and names."""
    brake = await Brake.read(store)
    found = [title for title in (await titles(store)).values() if title.obstacle is not None]
    found.sort(key=lambda title: (title.folder, title.name))
    return Hindered(brake if brake is not None and brake.holds else None, tuple(found))


async def watch_status(store: EntryStore) -> Mapping[str, JSON]:
    """What `status` says of watched folders: whether publishing is paused, and what cannot be published."""
    now = await hindered(store)
    paused: JSON = None
    if now.brake is not None:
        paused = {"at": rfc3339(now.brake.at_ms), "files": now.brake.files, "titles": list(now.brake.names)}
    return {
        "paused": paused,
        "problems": [
            {"title": title.shown, "path": title.obstacle.path, "problem": title.obstacle.sentence}
            for title in now.titles
            if title.obstacle is not None
        ],
    }


def _obstacle(fields: Fields) -> Obstacle:
    return Obstacle(
        Code(fields.text("code", _MAX_CHARS)), fields.text("path", _MAX_CHARS), fields.text("sentence", _MAX_CHARS)
    )


def _found_in(row: Value) -> tuple[str, bytes]:
    match row:
        case [str(key), bytes(likeness)]:
            return key, likeness
        case _:
            raise PeerFault(Code.MALFORMED, "what the brake found cannot be read")


def _fields(data: bytes | None) -> Fields | None:
    try:
        return None if data is None else Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "a watched folder")
    except PeerFault:
        return None
