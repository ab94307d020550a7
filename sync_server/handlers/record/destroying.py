"""What goes at each look: what erasures cover, and with it what this server calls machines and says itself (§5).

All of one look is reckoned by the time of that look, which no clock that is set meanwhile moves (docs/adr/0553).
"""

from __future__ import annotations

import logging

from sync_server.handlers.overview.long_gone import forget_long_gone
from sync_server.handlers.record.erasures import confirm_destroyed
from sync_server.opened.app import Server

_log = logging.getLogger(__name__)


async def destroy_what_is_due(server: Server) -> int:
    """Look once; how many erasures of devices that were cut off since are this server's word now.

    Raises `LocalFailure`.
    """
    looked = await server.pace.look()
    if looked.entries:
        _log.info("%d erased entries have been destroyed", len(looked.entries))
    await server.forget_names()
    await forget_long_gone(server, looked.at_ms)
    if confirmed := await confirm_destroyed(server, looked.at_ms):
        _log.info("%d erasures of devices that were cut off since are the server's word now", confirmed)
    return confirmed
