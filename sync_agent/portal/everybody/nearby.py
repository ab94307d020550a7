"""“Autres ordinateurs”: where this one is reached, as text and as QR symbol, who is in touch, and one more.

For networks on which computers do not find each other: somebody carries an address from this screen to another
keyboard. An address gives nothing to whom it is told, and makes nobody trusted: whoever answers there proves who it is.
A teacher's laptop may bear her name, and nobody signs in here: the page shows which computers are in touch, not who.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from protocol.beside_words import beside_words
from protocol.errors import NoAnswer, PeerFault
from sync_agent.lan.peer_commands import own_addresses
from sync_agent.portal.each_page.desk import Desk
from sync_agent.portal.each_page.navigation import see
from sync_agent.portal.shown.proof import picture_of
from sync_agent.school.device_names import key_words

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
            done = "linked" if made["device"] is not None else "later" if made["kept"] else "elsewhere"
        except (NoAnswer, PeerFault):
            done = "stranger"
        return see(f"{ADDRESS}?done={done}")

    def _others(self) -> list[str]:
        """What those are called with which a link stands: of somebody's own computer only the words of its key."""
        others = []
        for row in self._agent.neighbours():
            if isinstance(row, dict) and row["device"] is not None and row["state"] in _STANDING:
                device = bytes.fromhex(str(row["device"]))
                words = key_words(device, self._agent.replica.door)
                others.append(words if self._is_somebodys(device) else beside_words(str(row["name"] or "")) or words)
        return others

    def _is_somebodys(self, device: bytes) -> bool:
        return any(grant.person is not None for grant in self._agent.replica.door.authorities_of(device))
