"""Keys of spaces at an office: made with a space, given to who comes in, replaced when somebody is let go.

Rules:
- what is due follows from the set, so that a crash between a revocation and the new key leaves nothing undone;
- spaces below first: the key of a school is sealed to the keys of its classes;
- a key that this office cannot open (a server was made anew from its kit) is awaited from the machines that can; when
  somebody is let in meanwhile, the space gets a new one;
- a space that was closed gets none any more: what its keys were is hidden with the rest of it.

docs/protocol.md, "Space keys".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

from protocol.entry import Entry, Kind
from protocol.identity import AgreementKey
from protocol.replica.keyring import CUTTING, Keyring, cuts_of
from protocol.replica.replica import Draft, Entropy, Replica

_AT_ONCE: Final = 32
"""So many spaces are looked after in one transaction: who waits while all are looked at waits for no more."""

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
            for beside in self._touched(asked):
                made = {entry.header.space for entry in written if entry.header.kind == Kind.SPACE_KEY}
                concerned = [
                    space
                    for space in beside
                    if not let_in or space in near or made.intersection(self._replica.door.children(space))
                ]
                written += await self._tend(concerned, somebody_waits=True)
        return len(written)

    async def tend_grown(self) -> int:
        """The same for the spaces whose set has grown since the last time; who waits for `tend` comes in between."""
        counts = await self._replica.store.spaces()
        written = 0
        for beside in self._touched([space for space, count in counts.items() if self._seen.get(space) != count]):
            async with self.resting:
                written += len(await self._tend(beside, somebody_waits=False))
        # what has come meanwhile, and what was written here, is looked at the next time
        self._seen = counts
        return written

    def _touched(self, spaces: Iterable[bytes]) -> Iterator[list[bytes]]:
        """The spaces whose keys hang on these, children before parents, some at once that lie beside one another."""
        door = self._replica.door
        touched = {other for space in spaces for other in (*door.lineage(space), *door.below(space))}
        depths = {space: len(door.lineage(space)) for space in touched}
        for depth in sorted(set(depths.values()), reverse=True):
            beside = sorted(space for space in touched if depths[space] == depth)
            for first in range(0, len(beside), _AT_ONCE):
                yield beside[first : first + _AT_ONCE]

    async def _tend(self, beside: Sequence[bytes], *, somebody_waits: bool) -> list[Entry]:
        """What is due in spaces of which none lies in another, said in one transaction."""
        door = self._replica.door
        drafts: list[Draft] = []
        revocations = await self._replica.store.scan_kinds(CUTTING) if beside else []
        for space in beside:
            # a territory without a school has nobody to seal anything to
            is_empty = space == door.territory and not door.children(space)
            if door.knows_space(space) and self._governs(space) and not (is_empty or await self._is_closed(space)):
                drafts += await self._due(space, revocations, somebody_waits=somebody_waits)
                await asyncio.sleep(0)
        return await self._write(drafts) if drafts else []

    async def _is_closed(self, space: bytes) -> bool:
        return space in (await self._replica.view(space)).roster.erased

    async def _due(self, space: bytes, revocations: Sequence[Entry], *, somebody_waits: bool) -> list[Draft]:
        keyring = self._keyring
        cuts = await cuts_of(self._replica, space, revocations)
        record = (await keyring.keys(space)).current
        if record is None or record.cuts != cuts:
            return await keyring.new_key(space, self._grant, cuts, self._entropy)
        missing = await keyring.missing(space)
        if missing and somebody_waits and await keyring.current(space) is None:
            return await keyring.new_key(space, self._grant, cuts, self._entropy)
        return await keyring.wraps_due(space, self._grant, self._entropy)
