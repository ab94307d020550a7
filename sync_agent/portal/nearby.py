"""“Autres ordinateurs”: where this one is reached, as text and as QR symbol, who is in touch, and one more.

For networks on which computers do not find each other: somebody carries an address from this screen to another
keyboard. An address gives nothing to whom it is told, and makes nobody trusted: whoever answers there proves who it is.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from protocol.errors import NoAnswer, PeerFault
from sync_agent.device_names import key_words
from sync_agent.peer_commands import own_addresses
from sync_agent.portal.desk import Desk
from sync_agent.portal.navigation import see
from sync_agent.proof import picture_of

ADDRESS: Final = "/nearby"
_STANDING: Final = ("live", "resting")
"""As `status` says it of a link: with the neighbour a conversation stands."""


class Nearby:
    """Handlers; everybody at this computer may link it with another of the school."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._agent = desk.shelf.agent

    async def show(self, request: web.Request) -> web.Response:
        """Where this computer is, and who is in touch."""
        visit = await self._desk.visit(request)
        addresses = await own_addresses(self._agent)
        return self._desk.page(
            visit,
            "nearby.html",
            addresses=[(address, picture_of(address)) for address in addresses],
            others=self._others(),
            done=request.query.get("done"),
        )

    async def add(self, request: web.Request) -> web.Response:
        """Link this computer with one whose address somebody has carried here."""
        fields = await self._desk.fields(request)
        try:
            made = await self._desk.do("peer-add", {"address": fields.get("address", "")})
            done = "later" if made["device"] is None else "linked"
        except (NoAnswer, PeerFault):
            done = "stranger"
        return see(f"{ADDRESS}?done={done}")

    def _others(self) -> list[str]:
        """What those are called with which a link stands."""
        return [
            str(row["name"] or key_words(bytes.fromhex(str(row["device"]))))
            for row in self._agent.neighbours()
            if isinstance(row, dict) and row["device"] is not None and row["state"] in _STANDING
        ]
