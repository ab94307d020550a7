"""The folders that are watched: one in DIR/publish for each space of a teacher's device, and those that were added.

DIR's own path is kept nowhere: the folders in DIR/publish are known by their space.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from blake3 import blake3

from protocol import canonical
from protocol.canonical import Value
from protocol.errors import BadInput, PeerFault, Refused
from protocol.fields import Fields
from protocol.model.entry import ID_BYTES, Kind
from protocol.replica.interfaces import EntryStore
from sync_agent.app import Agent
from sync_agent.coursework.space_folders import PUBLISH_FOLDER, publish_folders
from sync_agent.machine.marks import WATCHED_FOLDER_MARKS
from sync_agent.watching.rules import may_be_a_title

_ID_BYTES: Final = 16
_MAX_MARK_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class WatchedFolder:
    """A folder whose entries are titles of a space.

    `id` is the space's in hex for its folder in DIR/publish; `own` folders are the teacher's, and nothing in them is
    published before it is ticked.
    """

    id: str
    place: Path
    space: bytes
    own: bool

    @classmethod
    def added(cls, place: Path, space: bytes) -> Self:
        """A folder of the teacher's."""
        return cls(blake3(os.fsencode(place)).hexdigest(length=_ID_BYTES), place, space, own=True)

    def mark(self) -> dict[str, bytes | None]:
        """To be set in the store."""
        value: dict[str, Value] = {"path": os.fsencode(self.place), "space": self.space}
        return {WATCHED_FOLDER_MARKS + self.id: canonical.encode(value)}


async def added_folders(store: EntryStore) -> list[WatchedFolder]:
    """The teacher's own folders that are watched, by their paths."""
    found = []
    for data in (await store.marks(WATCHED_FOLDER_MARKS)).values():
        try:
            fields = Fields(canonical.decode(data, max_bytes=_MAX_MARK_BYTES), "a watched folder")
            place, space = Path(os.fsdecode(fields.octets("path"))), fields.octets("space", ID_BYTES)
        except PeerFault:
            continue
        found.append(WatchedFolder.added(place, space))
    return sorted(found, key=lambda folder: os.fsencode(folder.place))


async def publishing_folders(agent: Agent) -> list[WatchedFolder]:
    """The folders in DIR/publish: one for each space in which this device may publish, made where it is not there."""
    spaces = []
    for space in await agent.spaces():
        if space == agent.replica.territory:
            continue
        try:
            await agent.right(space, Kind.REVISION)
        except (Refused, BadInput):
            continue
        spaces.append(space)
    publish = agent.folder.absolute() / PUBLISH_FOLDER
    folders = await publish_folders(agent, spaces)
    return [WatchedFolder(space.hex(), publish / folders[space], space, own=False) for space in spaces]


def entries_of(place: Path) -> list[str]:
    """The names of what may be titles in a folder; none if it cannot be read."""
    try:
        return sorted(path.name for path in place.iterdir() if may_be_a_title(path.name))
    except OSError:
        return []
