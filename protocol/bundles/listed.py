"""What the index of a bundle lists, held against what comes out of it (docs/adr/0280).

Rules:
- an entry that is listed as whole has come with its payload, one that is listed as bare in either form, a report with
  a signature that holds, a pack with all of its bytes;
- what has a form that this version does not know has come, if its header is the one that is listed;
- whoever finds out more (that a door refuses an entry's signature, say) tells it: that has not come;
- what comes and is not listed is nobody's loss.

docs/protocol.md, "Bundles".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from blake3 import blake3

from protocol.bundles.form import Index
from protocol.bundles.reader import Entries, Event, PackData, PackEnd, PackStart, Registers
from protocol.errors import Code, PeerFault
from protocol.model.register import parse_register, stored_register


class Listed:
    """What one bundle lists and has not brought yet, as its events come."""

    def __init__(self) -> None:
        self._whole: set[bytes] = set()
        self._bare: set[bytes] = set()
        self._packs: set[tuple[bytes, int]] = set()
        self._reports: set[tuple[bytes, int]] = set()
        self._refused: set[bytes] = set()
        self._pack = (b"", 0)
        self._hash = blake3()

    def came(self, event: Event) -> None:
        """The next that comes out of the bundle."""
        match event:
            case Index():
                self._begin(event)
            case Entries():
                self._whole.difference_update(entry.id for entry in event.entries if entry.payload is not None)
                self._bare.difference_update(entry.id for entry in event.entries)
                self._whole -= event.unknown
                self._bare -= event.unknown
            case Registers():
                self._take_reports(event.data)
            case PackStart():
                self._pack, self._hash = (event.hash, event.size), blake3()
            case PackData():
                self._hash.update(event.data)
            case PackEnd():
                if self._hash.digest() == self._pack[0]:
                    self._packs.discard(self._pack)

    def refuse(self, ids: Iterable[bytes]) -> None:
        """What came as these entries are not the entries."""
        self._refused.update(ids)

    def check(self) -> None:
        """All has come out. Raises `PeerFault(INCOMPLETE)` where something that is listed has not."""
        missing = len(self._whole) + len(self._bare) + len(self._packs) + len(self._reports) + len(self._refused)
        if missing:
            raise PeerFault(Code.INCOMPLETE, "a bundle does not hold what its index lists", missing=missing)

    def _begin(self, index: Index) -> None:
        self._whole, self._bare = set(index.entries), set(index.bare) - set(index.entries)
        self._packs = {(pack.hash, pack.size) for pack in index.packs}
        self._reports = {(note.device, note.at_ms) for note in index.registers}

    def _take_reports(self, registers: Iterable[bytes]) -> None:
        for data in registers:
            with contextlib.suppress(PeerFault):
                said = stored_register(data)
                if (said.device, said.at_ms) in self._reports:
                    parse_register(data)
                    self._reports.remove((said.device, said.at_ms))
