"""The kit's key to which backups are sealed: the root has named it in the set, and the server notes that word beside.

Rules (docs/adr/0422, 0444):
- what the root has named last counts; where a damaged row no longer says it, what was noted of it: else the next backup
  would be sealed to the kit before, which may be stolen, or to nobody;
- noted is the root's own word, as it signed it: whoever writes into the server's database writes a key there as well;
- where neither is known there is none: a backup waits.

docs/protocol.md, "Backups".
"""

from __future__ import annotations

from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import PeerFault, TooLarge
from protocol.model.entry import Entry, Kind, from_wire, parsed, signature_holds, to_wire
from protocol.model.structure import RecoveryKey
from protocol.replica.at_work.keyring import latest_recovery_key, recovery_keys_said
from protocol.replica.at_work.replica import Replica

KITS_KEY_MARK: Final = "kits-key"
"""The root's word that named the kit's public key last, as it was signed."""
_MAX_MARK_BYTES: Final = 4096


async def kits_key(replica: Replica) -> bytes | None:
    """The key, if it is known, noted for the day on which the row that says it is lost. Raises `LocalFailure`."""
    noted = _read(replica, await replica.store.mark(KITS_KEY_MARK))
    latest = latest_recovery_key(replica, [*await recovery_keys_said(replica), *([] if noted is None else [noted])])
    if latest is None:
        return None
    entry, key = latest
    if noted is None or noted[0].id != entry.id:
        await replica.store.set_marks({KITS_KEY_MARK: encode(to_wire(entry))})
    return key


def _read(replica: Replica, mark: bytes | None) -> tuple[Entry, bytes] | None:
    """What was noted, and the key, where a root of this territory has signed it."""
    try:
        entry = from_wire(decode(mark or b"", max_bytes=_MAX_MARK_BYTES))
    except (PeerFault, TooLarge):
        return None
    is_roots = entry.header.author in replica.door.roots and entry.header.space == replica.territory
    key = parsed(entry, RecoveryKey.parse) if entry.header.kind == Kind.RECOVERY_KEY else None
    return (entry, key.agreement) if key is not None and is_roots and signature_holds(entry) else None
