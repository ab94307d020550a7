"""What each device last reported of itself: the health registers of the store, read once and kept in memory.

A page over a hundred thousand devices must not take a hundred thousand signatures apart: a report was verified when it
came, and is parsed when it comes or when the server starts.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import replace

from protocol.errors import PeerFault
from protocol.model.register import Health, RegisterKind, stored_register
from protocol.replica.interfaces import EntryStore, RegisterRow


class Reports:
    """The newest health report of each device."""

    def __init__(self, store: EntryStore) -> None:
        """Over one replica's registers; `load` reads them."""
        self._store = store
        self._health: dict[bytes, Health] = {}

    async def load(self) -> None:
        """Read what the store holds."""
        for row in await self._store.registers(RegisterKind.HEALTH):
            self.note(row)

    def of(self, device: bytes) -> Health | None:
        """What a device last said of itself."""
        return self._health.get(device)

    def forget(self, devices: Iterable[bytes]) -> None:
        """These are heard of no more."""
        for device in devices:
            self._health.pop(device, None)

    @property
    def devices(self) -> Collection[bytes]:
        """Those that have reported."""
        return self._health.keys()

    def note(self, row: RegisterRow) -> Health | None:
        """A register that is new in the store: the health report in it, if it is one that can be read."""
        if row.kind != RegisterKind.HEALTH or row.subject != row.device:
            return None
        try:
            health = Health.parse(stored_register(row.data).body)
        except PeerFault:
            return None
        # the same few versions and systems are said by everybody
        health = replace(health, version=sys.intern(health.version), system=sys.intern(health.system))
        self._health[row.device] = health
        return health
