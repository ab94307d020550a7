"""Titles of the readable tree: what it shows of an item, and what one that is brought in step still lacks.

Rules:
- an item's folder keeps its name while the title stays, whoever publishes another one of that name;
- what lies there as it was noted is ours; what is ours and not wanted goes, what is wanted and not there is written.

Pure; the disk is `folder`, the course of things `materializer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from protocol import canonical
from protocol.errors import PeerFault
from protocol.fields import Fields
from protocol.folds.coursework import Item, Version
from protocol.model.entry import ID_BYTES
from sync_agent.coursework.file_notes import FileNote
from sync_agent.coursework.folder import Lying, Notes, TitleFolder
from sync_agent.coursework.rules import Wanted
from sync_agent.coursework.space_folders import folder_name, free_name

_MAX_MARK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Shown:
    """What the tree shows of an item: the manifest `stream`, in the folder `folder` of a space.

    `wish` is the name that the folder would have if nothing else were there.
    """

    space: bytes
    folder: str
    wish: str
    stream: bytes

    def encode(self) -> bytes:
        """As a mark."""
        return canonical.encode({"space": self.space, "folder": self.folder, "wish": self.wish, "stream": self.stream})

    @classmethod
    def read(cls, data: bytes) -> Self | None:
        """From a mark; None for what cannot be read."""
        try:
            fields = Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "a title of the tree")
            folder, wish = (fields.text(key, _MAX_MARK_BYTES) for key in ("folder", "wish"))
            return cls(fields.octets("space", ID_BYTES), folder, wish, fields.octets("stream", ID_BYTES))
        except PeerFault:
            return None


@dataclass(slots=True)
class Title:
    """One title being brought in step: what was noted of it, what is wanted, what lies there, what was written."""

    item: bytes
    folder: TitleFolder
    known: list[Notes]
    changed_ns: int
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    lying: Mapping[str, Lying] = field(default_factory=dict)
    notes: dict[str, FileNote] = field(default_factory=dict)
    places: list[Path] = field(default_factory=list)

    def is_as_noted(self) -> bool:
        """Whether all that was written lies there as it was, and nothing else of ours."""
        ours = {path: file.stream for path, file in self.lying.items() if file.stream is not None}
        return ours == {path: note.stream for path, note in self.known[0].items()}

    def stale(self) -> list[Wanted]:
        """What is wanted and does not lie there."""
        return [file for file in self.wanted.values() if not self._lies(file)]

    def extra(self) -> list[Lying]:
        """What is ours and not wanted any more."""
        return [file for file in self.lying.values() if file.stream is not None and file.path not in self.wanted]

    def fresh(self) -> list[Lying]:
        """What lies there as it is wanted."""
        return [self.lying[file.path] for file in self.wanted.values() if self._lies(file)]

    def _lies(self, file: Wanted) -> bool:
        found = self.lying.get(file.path)
        return found is not None and found.stream == file.stream


def named(item: Item, version: Version, shown: Mapping[bytes, Shown]) -> Shown:
    """What the tree is to show of an item: its folder keeps its name while the title stays."""
    wish = folder_name(version.record.title)
    before = shown.get(item.id)
    if before is not None and (before.space, before.wish) == (item.space, wish):
        folder = before.folder
    else:
        others = [one.folder for other, one in shown.items() if one.space == item.space and other != item.id]
        folder = free_name(wish, others)
    return Shown(item.space, folder, wish, version.record.content.stream)


def noted(files: Iterable[Lying]) -> dict[str, FileNote]:
    """What is noted of those files that are ours."""
    return {
        file.path: FileNote(file.path, file.size, file.changed_ns, 0, file.stream)
        for file in files
        if file.stream is not None
    }
