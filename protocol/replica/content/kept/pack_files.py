"""The files of packs: how they are named, and what is done to them with no look at the database.

`packs/ab/<hash>.pack` holds what is visible, `parts/<hash>.part` what is still fetched, `parts/<hash>-<sender>.part`
what somebody sends, `parts/*.passing` what is being written, `damaged/<hash>.pack` what was found bad,
`deltas/<hash>.delta` deltas kept for others. All that is here waits for the disk: it runs in threads.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final

from blake3 import blake3

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import MiB
from protocol.replica.content.packing.pack_check import check_pack
from protocol.replica.disk import Disk
from protocol.replica.making import Making
from protocol.transfer.delta import DELTA_END, is_delta
from protocol.transfer.pack import FinishedPack

PACKS: Final = "packs"
PARTS: Final = "parts"
DAMAGED: Final = "damaged"
DELTAS: Final = "deltas"
PASSING: Final = ".passing"
_PACK: Final = ".pack"
_PART: Final = ".part"
_DELTA: Final = ".delta"

_DELTA_FILE: Final = rf"{DELTAS}/([0-9a-f]{{64}}){re.escape(_DELTA)}"

_SENT_FILE: Final = rf"{PARTS}/([0-9a-f]{{64}})-((?:[0-9a-f]{{2}})+){re.escape(_PART)}"

_PART_FILE: Final = rf"{PARTS}/([0-9a-f]{{64}})(?:-[0-9a-f]*)?{re.escape(_PART)}"


class PackFiles:
    """The files below one folder."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def tidy_files(self, known: dict[bytes, int]) -> list[bytes]:
        """Bring the folders into line with the rows; returns the packs whose rows must go."""
        for folder in (PACKS, PARTS, DAMAGED, DELTAS):
            self.disk.make_folder(folder)
        for name, _ in list(self.disk.files(PARTS)):
            if name.endswith(PASSING):
                self.disk.remove(name)
        here = set()
        moves = []
        for name, facts in self.disk.files(PACKS):
            named = re.fullmatch(rf"{PACKS}/../([0-9a-f]{{64}}){re.escape(_PACK)}", name)
            if named is None:
                continue
            pack = bytes.fromhex(named[1])
            if pack not in known:
                moves.append((name, part_name(pack)))
            elif facts.st_size != known[pack]:
                moves.append((name, damaged_name(pack)))
            else:
                here.add(pack)
        if moves:
            self.disk.rename_all(moves)
        return [pack for pack in known if pack not in here]

    def tidy_deltas(self, known: dict[bytes, int]) -> list[bytes]:
        """Remove files without rows; returns the deltas whose rows must go."""
        here = set()
        for name, facts in self.disk.files(DELTAS):
            delta = bytes.fromhex(named[1]) if (named := re.fullmatch(_DELTA_FILE, name)) else None
            if delta is not None and known.get(delta) == facts.st_size:
                here.add(delta)
            else:
                self.disk.remove(name)
        return [delta for delta in known if delta not in here]

    def parts_sent(self) -> list[tuple[tuple[bytes, bytes], int]]:
        """Unfinished uploads as pack and sender, with their sizes; those that lay still longest come first."""
        found = [
            (facts.st_mtime_ns, (bytes.fromhex(named[1]), bytes.fromhex(named[2])), facts.st_size)
            for name, facts in self.disk.files(PARTS)
            if (named := re.fullmatch(_SENT_FILE, name))
        ]
        return [(part, size) for _, part, size in sorted(found)]

    def parts(self) -> list[tuple[bytes, int]]:
        """The packs of which at least the beginning lies among the parts, and how much of each."""
        found = []
        for name, facts in self.disk.files(PARTS):
            named = re.fullmatch(rf"{PARTS}/([0-9a-f]{{64}}){re.escape(_PART)}", name)
            if named is not None:
                found.append((bytes.fromhex(named[1]), facts.st_size))
        return found

    def all_parts(self) -> dict[str, int]:
        """Unfinished downloads and uploads: the name of each, and its size."""
        return {name: facts.st_size for name, facts in self.disk.files(PARTS) if re.fullmatch(_PART_FILE, name)}

    def write_whole(self, name: str, data: bytes) -> None:
        """Write a file, durably; what does not fit leaves nothing. Raises `LocalFailure`."""
        try:
            with self.disk.create(name) as file:
                self.disk.write(file, data)
                self.disk.flush(file)
        except LocalFailure:
            # a full disk above all needs its room back
            with contextlib.suppress(LocalFailure):
                self.disk.remove(name)
            raise

    def extend(self, name: str, offset: int, data: bytes | memoryview) -> int:
        """Add to a part at `offset`, which must be its end; its size then. Raises `PeerFault`, `LocalFailure`."""
        have = self.disk.size(name) or 0
        if have != offset:
            raise PeerFault(Code.WRONG_OFFSET, "a pack continues at another place", offset=offset, expected=have)
        with self.disk.append_to(name) as file:
            self.disk.write(file, data)
        return have + len(data)

    def check_hash(self, name: str, delta: bytes, size: int) -> None:
        """See that a file is the delta of that name. Raises `PeerFault`, `LocalFailure`."""
        hashed = blake3()
        for start in range(0, size, MiB):
            hashed.update(self.disk.read(name, start, MiB))
        if hashed.digest() != delta:
            raise PeerFault(Code.BAD_HASH, "a delta is not the one that was asked for", expected=delta.hex())

    def holds_delta(self, name: str, size: int) -> bool:
        """Whether a part is a delta, by either end: the other may be what is damaged."""
        end = self.readable(name, max(0, size - len(DELTA_END)), len(DELTA_END))
        return is_delta(self.readable(name, 0, len(DELTA_END))) or end == DELTA_END

    def readable(self, name: str, start: int, length: int) -> bytes:
        """Bytes of a file; zeros where the disk cannot read it any more."""
        try:
            return self.disk.read(name, start, length)
        except LocalFailure as failure:
            if failure.code is not Code.DAMAGED:
                raise
            return bytes(length)

    def check(self, name: str, pack: bytes, size: int, making: Making | None = None) -> FinishedPack:
        """See that a file is the pack of that name; its index. Raises `PeerFault`, `LocalFailure`."""
        with self.disk.reader(name) as read:
            return check_pack(pack, size, read, making)


def pack_name(pack: bytes) -> str:
    """Where a visible pack lies."""
    return f"{PACKS}/{pack[:1].hex()}/{pack.hex()}{_PACK}"


def delta_name(delta: bytes) -> str:
    """Where a delta lies that is kept for others."""
    return f"{DELTAS}/{delta.hex()}{_DELTA}"


def damaged_name(pack: bytes) -> str:
    """Where a pack lies that was found bad."""
    return f"{DAMAGED}/{pack.hex()}{_PACK}"


def pack_of_part(name: str) -> bytes:
    """The pack of which something lies at such a name."""
    return bytes.fromhex(name.removeprefix(f"{PARTS}/")[:64])


def part_name(pack: bytes, sender: bytes = b"") -> str:
    """Where a pack lies that is still fetched, or sent by `sender`."""
    name = f"{pack.hex()}-{sender.hex()}" if sender else pack.hex()
    return f"{PARTS}/{name}{_PART}"
