"""As if what came to a server that was made anew had come as it says: what tests switch off (docs/adr/0347)."""

from __future__ import annotations

from typing import Final


async def _as_it_came(_store: object) -> bool:
    """As it was: at a server that was made anew, too, what came first was first."""
    return False


IN_ITS_ORDER: Final = {
    "protocol.replica.office.known_here.came_at_once": _as_it_came,
    "protocol.replica.office.called_first.came_at_once": _as_it_came,
}
