"""Keys of spaces at an office: made with a space, given to who comes in, replaced when somebody is let go.

Rules:
- what is due follows from the set, so that a crash between a revocation and the new key leaves nothing undone;
- spaces below first: the key of a school is sealed to the keys of its classes;
- a key that this office cannot open (a server was made anew from its kit) is awaited from the machines that can; when
  somebody is let in meanwhile, the space gets a new one.

docs/protocol.md, "Space keys".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from protocol.entry import Entry, Kind
from protocol.identity import AgreementKey
from protocol.replica.keyring import Keyring, cuts_of
from protocol.replica.replica import Draft, Entropy, Replica

Write = Callable[[Sequence[Draft]], Awaitable[list[Entry]]]


class SpaceKeeper:
    """Looks after the keys of the spaces that one office `governs`, one round at a time.

    `agreement` is its X25519 key, `grant` what it writes under, with `write`.
    """

    def __init__(
        self,
        replica: Replica,
        agreement: AgreementKey,
        grant: bytes,
        write: Write,
        *,
        entropy: Entropy,
        governs: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self._replica = replica
        self.take(agreement, grant)
        self._write = write
        self._entropy = entropy
        self._governs = governs
        self.resting = asyncio.Lock()
        """Held during each round; who holds it has none under way."""
        self._seen: dict[bytes, int] = {}

    def take(self, agreement: AgreementKey, grant: bytes) -> None:
        """Go on with another key and grant; whoever changes them keeps this one at rest."""
        self._keyring = Keyring(self._replica, (agreement,))
        self._grant = grant

    async def tend(self, spaces: Iterable[bytes], *, let_in: bool = False) -> int:
        """Make, give out and replace keys where something happened in `spaces`; how many entries that took.

        With `let_in` no more happened than that somebody came in, and waits: what lies above is looked at only where a
        space below has a new key.
        """
        asked = list(spaces)
        near = {other for space in asked for other in (space, *self._replica.door.below(space))}
        written: list[Entry] = []
        async with self.resting:
            for space in self._touched(asked):
                made = {entry.header.space for entry in written if entry.header.kind == Kind.SPACE_KEY}
                if not let_in or space in near or made.intersection(self._replica.door.children(space)):
                    written += await self._tend(space, somebody_waits=True)
        return len(written)

    async def tend_grown(self) -> int:
        """The same for the spaces whose set has grown since the last time; who waits for `tend` comes in between."""
        counts = await self._replica.store.spaces()
        written = 0
        for space in self._touched([space for space, count in counts.items() if self._seen.get(space) != count]):
            async with self.resting:
                written += len(await self._tend(space, somebody_waits=False))
        # what has come meanwhile, and what was written here, is looked at the next time
        self._seen = counts
        return written

    def _touched(self, spaces: Iterable[bytes]) -> list[bytes]:
        """The spaces whose keys hang on these, children before parents."""
        door = self._replica.door
        touched = {other for space in spaces for other in (*door.lineage(space), *door.below(space))}
        return sorted(touched, key=lambda space: (-len(door.lineage(space)), space))

    async def _tend(self, space: bytes, *, somebody_waits: bool) -> list[Entry]:
        door = self._replica.door
        # a territory without a school has nobody to seal anything to
        if not door.knows_space(space) or not self._governs(space):
            return []
        if space == door.territory and not door.children(space):
            return []
        drafts = await self._due(space, somebody_waits=somebody_waits)
        written = await self._write(drafts) if drafts else []
        await asyncio.sleep(0)
        return written

    async def _due(self, space: bytes, *, somebody_waits: bool) -> list[Draft]:
        keyring = self._keyring
        cuts = await cuts_of(self._replica, space)
        record = (await keyring.keys(space)).current
        if record is None or record.cuts != cuts:
            return await keyring.new_key(space, self._grant, cuts, self._entropy)
        missing = await keyring.missing(space)
        if missing and somebody_waits and await keyring.current(space) is None:
            return await keyring.new_key(space, self._grant, cuts, self._entropy)
        return await keyring.wraps_due(space, self._grant, self._entropy)
