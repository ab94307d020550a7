"""The command `kit check`: a kit is tried, and nothing comes of it (docs/adr/0313).

A trial that made a server of it, to throw away, would have the root certify keys: whoever finds these later has a
server's rights. Here the seeds are opened and let go, and what is told is public.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from protocol.errors import BadInput, Code, PeerFault, TooLarge
from protocol.replica.console.operation import JSON
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import passphrase_of
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit.root_line import rotations_to


def try_kit(place: Path, passphrase_file: Path | None, tell: Callable[[str], None]) -> JSON:
    """What a kit proves of itself. Raises `BadInput`: BAD_KIT also where nothing in it proves that its root took over.

    Such a one is what `rotate root` leaves that was cut short: by itself it rebuilds nothing.
    """
    found = KitInFile.read(place, passphrase_of(passphrase_file))
    kit = found.kit
    if not _is_complete(kit):
        raise BadInput(
            Code.BAD_KIT,
            f"{place} opens, and nothing in it proves that its root took over: `rotate root` was cut short. Keep the "
            "kit from before it as well, and call the same `rotate root` again with both",
        )
    tell(found.told)
    return {"name": kit.name, "territory": kit.territory.hex(), "fingerprint": kit.fingerprint}


def _is_complete(kit: Kit) -> bool:
    if kit.first_root is None:
        return True
    with suppress(PeerFault, TooLarge):
        return rotations_to(kit.root.public, kit.chain, kit.first_root) is not None
    return False
