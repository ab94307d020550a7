"""The codes that were made and are known here: by what they are recognised, without reading them for each who asks.

Whoever knows where an office listens may try codes that nobody made, and each try has to be held against all that there
are: a veiled secret does not say which one it is (docs/protocol.md, "Enrolment").

Rules:
- a code is read once; afterwards only what has come since is, however long the list;
- the newest are tried first, a few at a time: whoever shows a wrong one keeps nobody waiting meanwhile;
- what a code opens, and whether it still does, is said by its entries as they stand when it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import PeerFault
from protocol.messages.enrollment import EnrollRequest
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Invite
from protocol.replica.office.bureau import Office
from protocol.rights.door import Door

TRIED_AT_ONCE: Final = 64
LATE_ANSWER_MS: Final = 24 * 3600 * 1000


@dataclass(slots=True)
class _Code:
    """The entries that make one code, in order of arrival, the spaces that they open, and when the last is over."""

    entries: list[bytes] = field(default_factory=list)
    spaces: set[bytes] = field(default_factory=set)
    expires_ms: int = 0


class KnownCodes:
    """The codes of one replica, by the hashes of their secrets, in the order in which they came."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._reading = asyncio.Lock()
        self._door: Door | None = None
        self._read_to = 0
        self._codes: dict[bytes, _Code] = {}
        self._hashes: list[bytes] = []

    async def of(self, office: Office) -> list[bytes]:
        """The hashes of those that an office may honour: of its own spaces, and not over for a day.

        Nobody enrols with the others again.
        """
        await self._catch_up(office)
        door, since_ms = office.replica.door, office.now_ms() - LATE_ANSWER_MS
        lively = [(secret, code) for secret, code in self._codes.items() if code.expires_ms > since_ms]
        return [secret for secret, code in lively if all(office.home in door.lineage(space) for space in code.spaces)]

    async def shown(self, office: Office, request: EnrollRequest, device: bytes) -> list[Entry]:
        """The entries of the code that a device shows, in order of arrival; none, where there is no such code."""
        await self._catch_up(office)
        codes, hashes = self._codes, self._hashes
        for end in range(len(hashes), 0, -TRIED_AT_ONCE):
            secret = request.told_of(hashes[max(end - TRIED_AT_ONCE, 0) : end], device)
            if secret is not None:
                found = await office.replica.store.get(codes[secret].entries)
                return [found[entry_id] for entry_id in codes[secret].entries if entry_id in found]
            await asyncio.sleep(0)
        return []

    async def _catch_up(self, office: Office) -> None:
        """Read what has come since; all, where the replica was read anew."""
        async with self._reading:
            store, door = office.replica.store, office.replica.door
            if door is not self._door:
                self._codes, self._hashes, self._door, self._read_to = {}, [], door, 0
            latest = await store.latest()
            if latest is None or latest[0] <= self._read_to:
                return
            for entry in await store.scan_kinds([Kind.INVITE], after=self._read_to):
                self._add(entry)
            self._read_to = latest[0]

    def _add(self, entry: Entry) -> None:
        with contextlib.suppress(PeerFault):
            invite = Invite.parse(entry.payload or b"")
            if invite.secret_hash not in self._codes:
                self._codes[invite.secret_hash] = _Code()
                self._hashes.append(invite.secret_hash)
            code = self._codes[invite.secret_hash]
            if entry.id not in code.entries:
                code.entries.append(entry.id)
                code.spaces |= set(invite.spaces)
                code.expires_ms = max(code.expires_ms, invite.expires_ms)
