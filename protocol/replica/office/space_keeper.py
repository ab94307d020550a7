"""Keys of spaces at an office: made with a space, given to who comes in, replaced when somebody is let go.

Rules:
- what is due follows from the set, so that a crash between a revocation and the new key leaves nothing undone;
- spaces below first: the key of a school is sealed to the keys of its classes;
- a key that this office cannot open (a server was made anew from its kit) is awaited from the machines that can; when
  somebody is let in meanwhile, the space gets a new one. For one that was said with its own key, or that is said to
  be sealed to it, nobody waits: whoever has a copy of its key has sealed that to nobody, or noise (docs/adr/0560);
- who may make such keys draws a new one of ours with each that is for other revocations, and with each revocation: of
  what others' words make due so many of one space are made in a day at once, and then one an hour, so that a stolen
  laptop costs no more (docs/adr/0151); what somebody orders here waits for nothing;
- a space that was closed gets none any more: what its keys were is hidden with the rest of it;
- nor does one whose making is held back, while nobody is in it by right: a thief makes them by the thousand, and what
  is written into them in this office's name no report takes back (docs/adr/0284);
- of spaces beside one another those into which somebody was let come first.

docs/protocol.md, "Space keys".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Final

from protocol.clock import DAY_MS
from protocol.folds.space_keys import SpaceKeyRecord
from protocol.identity import AgreementKey
from protocol.limits import MAX_SPACE_KEYS_AT_ONCE, SPACE_KEY_PAUSE_MS
from protocol.model.entry import Entry, Kind, parsed
from protocol.replica.at_work.deserted import deserted_among
from protocol.replica.at_work.keyring import CUTTING, Keyring, cuts_of
from protocol.replica.at_work.replica import Draft, Entropy, Replica

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
        now_ms: Callable[[], int],
        entropy: Entropy,
        governs: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self._replica = replica
        self._now_ms = now_ms
        self.take(agreement, grant)
        self._write = write
        self._entropy = entropy
        self._governs = governs
        self.resting = asyncio.Lock()
        """Held during each round; who holds it has none under way."""
        self._seen: dict[bytes, int] = {}
        self._waiting: set[bytes] = set()
        """The spaces whose key is to be replaced, and that have had as many as may be made at once."""

    def take(self, agreement: AgreementKey, grant: bytes) -> None:
        """Go on with another key and grant; whoever changes them keeps this one at rest."""
        self._keyring = Keyring(self._replica, (agreement,))
        self._agreement = agreement.public
        self._grant = grant

    async def tend(self, spaces: Iterable[bytes], *, let_in: bool = False, asked: bool = True) -> int:
        """Make, give out and replace keys where something happened in `spaces`; how many entries that took.

        With `let_in` no more happened than that somebody came in, and waits: what lies above is looked at only where a
        space below has a new key. Where it was `asked` for here, and not by who comes in, no key waits that is due.
        """
        touched = list(spaces)
        near = {other for space in touched for other in (space, *self._replica.door.below(space))}
        written: list[Entry] = []
        async with self.resting:
            for beside in await self._touched(touched):
                made = {entry.header.space for entry in written if entry.header.kind == Kind.SPACE_KEY}
                concerned = [
                    space
                    for space in beside
                    if not let_in or space in near or made.intersection(self._replica.door.children(space))
                ]
                written += await self._tend(concerned, somebody_waits=True, at_once=asked and not let_in)
        return len(written)

    async def tend_grown(self) -> int:
        """The same for the spaces whose set has grown since the last time; who waits for `tend` comes in between."""
        counts = await self._replica.store.spaces()
        written = 0
        grown = [space for space, count in counts.items() if self._seen.get(space) != count or space in self._waiting]
        for beside in await self._touched(grown):
            async with self.resting:
                written += len(await self._tend(beside, somebody_waits=False, at_once=False))
        # what has come meanwhile, and what was written here, is looked at the next time
        self._seen = counts
        return written

    async def _touched(self, spaces: Iterable[bytes]) -> list[list[bytes]]:
        """The spaces whose keys hang on these, children before parents, some at once that lie beside one another."""
        door = self._replica.door
        near = {other for space in spaces for other in (*door.lineage(space), *door.below(space))}
        touched = near - await deserted_among(self._replica, near)
        depths = {space: len(door.lineage(space)) for space in touched}
        rounds = []
        for depth in sorted(set(depths.values()), reverse=True):
            beside = (space for space in touched if depths[space] == depth)
            in_turn = sorted(beside, key=lambda space: (not door.authorities_in(space), space))
            rounds += [in_turn[first : first + _AT_ONCE] for first in range(0, len(in_turn), _AT_ONCE)]
        return rounds

    async def _tend(self, beside: Sequence[bytes], *, somebody_waits: bool, at_once: bool) -> list[Entry]:
        """What is due in spaces of which none lies in another, said in one transaction."""
        door = self._replica.door
        drafts: list[Draft] = []
        revocations = await self._replica.store.scan_kinds(CUTTING) if beside else []
        for space in beside:
            # a territory without a school has nobody to seal anything to
            is_empty = space == door.territory and not door.children(space)
            if door.knows_space(space) and self._governs(space) and not (is_empty or await self._is_closed(space)):
                drafts += await self._due(space, revocations, somebody_waits=somebody_waits, at_once=at_once)
                await asyncio.sleep(0)
        return await self._write(drafts) if drafts else []

    async def _is_closed(self, space: bytes) -> bool:
        return space in (await self._replica.view(space)).roster.erased

    async def _due(
        self, space: bytes, revocations: Sequence[Entry], *, somebody_waits: bool, at_once: bool
    ) -> list[Draft]:
        keyring = self._keyring
        cuts = await cuts_of(self._replica, space, revocations)
        record = (await keyring.keys(space)).current
        self._waiting.discard(space)
        is_due = record is None or record.cuts != cuts
        if not is_due and record is not None and await keyring.current(space) is None:
            missing = await keyring.missing(space)
            is_due = bool(missing and somebody_waits) or await self._is_a_lie(space, record, missing)
        if is_due and (at_once or self._may_make_one(await keyring.entries(space))):
            return await keyring.new_key(space, self._grant, cuts, self._entropy)
        if is_due:
            self._waiting.add(space)
        return await keyring.wraps_due(space, self._grant, self._entropy)

    async def _is_a_lie(self, space: bytes, record: SpaceKeyRecord, missing: Collection[bytes]) -> bool:
        """Whether a key that does not open here should: it is said in this office's name, or to be sealed to it."""
        if self._agreement in (await self._keyring.keys(space)).given.by_makers.get(record.commitment, ()):
            return True
        said = filter(self._is_own, await self._keyring.entries(space) if self._agreement in missing else ())
        return any(parsed(entry, SpaceKeyRecord.parse) == record for entry in said)

    def _is_own(self, entry: Entry) -> bool:
        own = self._replica.door.authority(self._grant)
        return own is not None and entry.header.author == own.key

    def _may_make_one(self, said: Sequence[Entry]) -> bool:
        """Whether this office has made few keys of a space in the last day, or none in the last hour."""
        now_ms = self._now_ms()
        ages_ms = [
            now_ms - entry.timestamp_ms for entry in said if entry.header.kind == Kind.SPACE_KEY and self._is_own(entry)
        ]
        # what a clock has dated more than a day ahead that was set back since says nothing of today
        lately = [age for age in ages_ms if abs(age) < DAY_MS]
        return len(lately) < MAX_SPACE_KEYS_AT_ONCE or min(map(abs, lately)) >= SPACE_KEY_PAUSE_MS
