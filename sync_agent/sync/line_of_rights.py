"""What rights hang on, brought to a server or neighbour that lacks it (R4, R7; docs/protocol.md, "Withdrawn rights").

A revocation names heads: what led to them counts on. A server that was made anew may hold the revocation of the keys
that let this device in (those of a server before it, say, which were replaced), and not yet what led to its heads here:
then it takes the device for one that was cut off, and would never hear the rest of it. So may a neighbour that has
heard less than this device: not what a server's old keys said last, say.

Rules:
- only who may read by its own set brings anything: a device that was cut off believes the revocation that it was shown;
- of what the revoked keys have said it brings what its own fold does not hold back, and what leads from there, or from
  a head, to that: what a thief said with them besides may be without end;
- parents before children, page by page, whatever the answers are; what was cut short goes on where it stopped, and all
  of it is brought once to each that answers;
- what that one makes of that is its door's and its fold's to say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from blake3 import blake3

from protocol.errors import Code, Refused
from protocol.limits import FIRST_PUSH_BYTES
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Entry
from protocol.replica.interfaces import Stored
from protocol.rights.revocations import heads_named
from sync_agent.app import Agent
from sync_agent.machine.marks import LINE_MARKS
from sync_agent.transport.sealed_calls import SealedCalls, beginnings_of

LACKS_RIGHTS: Final = frozenset({Code.REVOKED, Code.CANNOT_READ})
"""What is said by who lacks what rights hang on: the caller's, or those of who answers."""

_COUNT_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class _Line:
    """What the keys have said that are revoked in a space; `mark` says how far it was brought, and to whom.

    `on_the_way` is what of it is held back, and leads to something that is not.
    """

    space: bytes
    keys: Collection[bytes]
    held_back: Collection[bytes]
    on_the_way: Collection[bytes]
    shown: tuple[bytes, ...]
    mark: str

    def leads_through(self, entry: Entry) -> bool:
        """Whether a server needs this entry to see what counts on."""
        is_needed = entry.id not in self.held_back or entry.id in self.on_the_way
        return is_needed and entry.header.author in self.keys


class LineOfRights:
    """Of one agent, towards its server, or a neighbour whose rights it brings too: one may lack both."""

    def __init__(self, agent: Agent, calls: SealedCalls, *others: bytes) -> None:
        """Over the calls to who answers; `others` are devices beside this one whose rights are shown."""
        self._agent = agent
        self._devices = (agent.device, *others)
        self._store = agent.replica.store
        self._calls = calls
        self._brought: set[tuple[bytes, bytes]] = set()
        """The spaces of which it was brought, each with the key of who answered."""

    async def bring(self, spaces: Iterable[bytes]) -> bool:
        """Bring what led to the revocations of those who let this device into `spaces`; whether there was any.

        Raises what `SealedCalls.sync` raises but for `Refused(REVOKED | CANNOT_READ)`.
        """
        server = (await self._calls.server()).key
        due = [space for space in spaces if (server, space) not in self._brought]
        lines = await self._lines(due, server)
        any_of_it = False
        for line in lines:
            any_of_it |= await self._bring(line)
        if lines:
            await self._store.set_marks(dict.fromkeys(line.mark for line in lines))
        self._brought.update((server, space) for space in due)
        return any_of_it

    async def _lines(self, spaces: Collection[bytes], server: bytes) -> list[_Line]:
        """Of these spaces, those in which keys are revoked that let this device in."""
        replica, lines = self._agent.replica, list[_Line]()
        cuts = set[bytes]()
        for device in self._devices if spaces else ():
            cuts.update(await replica.revocations_against(device, spaces))
        for space in spaces:
            roster = (await replica.view(space)).roster
            here = {name: key for name, key in roster.revocations.items() if name in cuts}
            if here:
                # another server, or another revocation, begins anew
                about = blake3(b"".join([server, space, *sorted(here)])).hexdigest()
                keys, mark = frozenset(here.values()), f"{LINE_MARKS}{about}"
                line = _Line(space, keys, roster.held_back, frozenset(), beginnings_of(cuts), mark)
                lines.append(replace(line, on_the_way=await self._on_the_way(line, here)))
        return lines

    async def _on_the_way(self, line: _Line, cuts: Iterable[bytes]) -> set[bytes]:
        """What of a line is held back, by another revocation say, and is what its heads lead through all the same."""
        pending = {head for cut in (await self._store.get(list(cuts))).values() for head in await self._heads(cut)}
        async for each in self._arrivals(line, 0):
            if line.leads_through(each.entry):
                pending.update(each.entry.header.prev)
        found = set[bytes]()
        while pending := {name for name in pending if name in line.held_back and name not in found}:
            found |= pending
            pending = {name for entry in (await self._store.get(list(pending))).values() for name in entry.header.prev}
        return found

    async def _heads(self, cut: Entry) -> Iterable[bytes]:
        """The heads that a revocation names, also in lists."""
        return heads_named(cut, await self._store.get(list(heads_named(cut, {}))))

    async def _bring(self, line: _Line) -> bool:
        """Bring what is left of a line; whether there is any, or was before this was cut short."""
        begun = after = await self._brought_up_to(line)
        async for page, after in self._pages(line, begun):
            try:
                await self._calls.sync(SyncRequest(push=page, withdrawn=line.shown))
            except Refused as refusal:
                # as long as something is lacking there it says so, and has taken what it was brought
                if refusal.code not in LACKS_RIGHTS:
                    raise
            chain = await self._store.chain_at(line.space, after) or b""
            await self._store.set_marks({line.mark: after.to_bytes(_COUNT_BYTES, "big") + chain})
        return after > 0

    async def _brought_up_to(self, line: _Line) -> int:
        """After which arrival in its space a line goes on: none, where the store has been made anew since."""
        noted = await self._store.mark(line.mark) or bytes(_COUNT_BYTES)
        after, chain = int.from_bytes(noted[:_COUNT_BYTES], "big"), noted[_COUNT_BYTES:]
        return after if after and chain == await self._store.chain_at(line.space, after) else 0

    async def _pages(self, line: _Line, after: int) -> AsyncIterator[tuple[tuple[Entry, ...], int]]:
        """What one request takes of a line, and the next; each with the arrival up to which that is all."""
        page: list[Entry] = []
        size = 0
        async for each in self._arrivals(line, after):
            if line.leads_through(each.entry):
                if page and size + each.entry.wire_bytes > FIRST_PUSH_BYTES:
                    yield tuple(page), after
                    page, size = [], 0
                page.append(each.entry)
                size += each.entry.wire_bytes
            after = each.arrival
        if page:
            yield tuple(page), after

    async def _arrivals(self, line: _Line, after: int) -> AsyncIterator[Stored]:
        """What has arrived in the space after a number, a page of it in memory at a time."""
        while stored := await self._store.page(line.space, after, FIRST_PUSH_BYTES):
            for each in stored:
                yield each
            after = stored[-1].arrival
