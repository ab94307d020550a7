"""Whose a word of a list is, by what an office knows: whoever has a copy of a server's key writes every list.

By a word of theirs a pupil who is there seems to have left (docs/adr/0439), to be the same as another (0451), or to be
called like another (0489).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from protocol.model.entry import Entry
from protocol.replica.office.bureau import Office
from protocol.replica.office.known_here import KnownHere
from protocol.replica.office.said_here import leaves_said_here
from protocol.replica.office.said_too_late import said_too_late
from protocol.rights.door import Authority
from protocol.roles import RANK, Role


class Whose(Enum):
    """By whose word somebody is off a list, the same as another, or called something."""

    KIT = "kit"
    OFFICE = "server"
    KNOWN = "device"
    KEY = "server-key"
    """One of a server's, that no command here has said: it may be a copied one's."""
    STRANGE = "unknown-device"


SURE: Final = frozenset({Whose.KIT, Whose.OFFICE, Whose.KNOWN})
"""Whose words nobody says who has no more than a copied key."""


class ListWords:
    """Whose words of lists are. Made by `of`; what is seldom asked is looked up then."""

    def __init__(self, office: Office, is_ours: Callable[[Entry], bool]) -> None:
        self._office, self._is_ours = office, is_ours
        self._known: KnownHere | None = None
        self._too_late: frozenset[bytes] | None = None

    @classmethod
    async def of(cls, office: Office) -> ListWords:
        """As things stand."""
        return cls(office, await leaves_said_here(office))

    async def too_late(self) -> frozenset[bytes]:
        """Those that came under a key that the root had ended (`said_too_late`)."""
        if self._too_late is None:
            self._too_late = await said_too_late(self._office.replica)
        return self._too_late

    @property
    def are_a_servers(self) -> bool:
        """Whether it is a server that asks."""
        return self._office.rank >= RANK[Role.SERVER]

    async def whose(self, said: Entry) -> Whose:
        """Whose this one is."""
        right = self._office.replica.door.authority(said.header.grant or b"")
        if right is None:
            return Whose.KIT
        if self._is_ours(said):
            return Whose.OFFICE
        if right.rank >= RANK[Role.SERVER]:
            return Whose.KEY
        return Whose.KNOWN if await self._knows(right) else Whose.STRANGE

    async def _knows(self, right: Authority) -> bool:
        self._known = self._known or await KnownHere.of(self._office)
        return await self._known.knows(right)
