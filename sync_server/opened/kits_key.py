"""The kit's key to which backups are sealed: the root has named it in the set, and the server notes it beside.

Rules (docs/adr/0422, 0444):
- what the root has named last counts; where a damaged row no longer says it, what was noted of it: else the next backup
  would be sealed to the kit before, which may be stolen, or to nobody;
- where neither is known there is none: a backup waits.

docs/protocol.md, "Backups".
"""

from __future__ import annotations

from typing import Final

from protocol.replica.at_work.keyring import recovery_keys, recovery_keys_ever
from protocol.replica.at_work.replica import Replica

KITS_KEY_MARK: Final = "kits-key"
"""The kit's public key for what is sealed to it, as it was named last."""


async def kits_key(replica: Replica) -> bytes | None:
    """The key, if it is known, noted for the day on which the row that says it is lost. Raises `LocalFailure`."""
    named, noted = await recovery_keys(replica), await replica.store.mark(KITS_KEY_MARK)
    if noted is not None and noted not in await recovery_keys_ever(replica):
        return noted
    if named and named[-1] != noted:
        await replica.store.set_marks({KITS_KEY_MARK: named[-1]})
    return named[-1] if named else None
