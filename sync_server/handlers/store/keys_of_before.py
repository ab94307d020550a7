"""The keys of servers before this one: which count still, and since when what is brought under them is an alarm.

Rules:
- what a backup lacks comes back with machines, under the keys of before: as long as they are waited for (`restored`),
  that is no sign of anything;
- once all have told, or nobody waits any more, whatever else is brought under a key that counts still somebody else has
  said who has that key; or a machine that was away has told late, and that is said beside it;
- that is looked at at each start and every ten minutes, and noted: a key that was heeded once is heeded until nobody
  goes by it any more. Whoever has it names machines that never tell, and the server waits again.

docs/protocol.md, "Sync"; docs/operate.md, "If something is wrong"; docs/adr/0547.
"""

from __future__ import annotations

from typing import Final

from sync_server.handlers.store.restored import restored
from sync_server.opened.app import Server

HEEDED_MARKS: Final = "heeded-of-before/"
"""+ hex of a key of a server before this one: what is brought under it is an alarm."""


def old_keys(server: Server) -> list[bytes]:
    """The keys of servers before this one."""
    return [key for key in server.replica.door.server_keys() if key != server.keys.signing.public]


async def keys_that_still_count(server: Server) -> list[bytes]:
    """Those of the old keys that nobody has cut off: `restore` and `init --recover` end none by themselves."""
    cut = (await server.replica.view(server.replica.door.territory)).roster.cut
    return [key for key in old_keys(server) if key not in cut]


async def heed_keys_of_before(server: Server) -> None:
    """Have the alarm of a key that speaks elsewhere heed the keys of servers before this one, or no longer."""
    before = frozenset(await keys_that_still_count(server)).difference(server.own_keys)
    noted = {bytes.fromhex(mark.removeprefix(HEEDED_MARKS)) for mark in await server.store.marks(HEEDED_MARKS)}
    is_due = bool(before - noted) and await restored(server) is None
    heeded = before if is_due else before & noted
    server.elsewhere.of_before = heeded  # from now on, whether there is room to note it or not
    if heeded != noted:
        changed = heeded.symmetric_difference(noted)
        await server.store.set_marks({HEEDED_MARKS + key.hex(): b"" if key in heeded else None for key in changed})
