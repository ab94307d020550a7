"""Where this device stands for one neighbour: what it tells it, and compares with what it hears (`messages.likeness`).

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protocol.messages.likeness import Told, likeness_of
from protocol.messages.parts import Wanted
from protocol.replica.interfaces import Position
from sync_agent.app import Agent
from sync_agent.lan.exchange.meeting import common_spaces

Entrusted = Callable[[bytes, bytes], Awaitable[frozenset[bytes]]]
"""As `Scope.entrusted`."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the spaces in common have come here, what content of them is lacking, and the hash of both."""

    places: dict[bytes, Position]
    lacking: frozenset[Wanted]
    likeness: bytes

    @property
    def told(self) -> Told:
        """As it is told."""
        return Told(self.likeness, tuple((place.count, place.chain) for _, place in sorted(self.places.items())))

    def is_like(self, told: Told | None) -> bool:
        """Whether whoever told that stands where this device does."""
        return told is not None and told.likeness == self.likeness

    def places_of(self, told: Told) -> dict[bytes, Position]:
        """How far the spaces have come at a neighbour that is alike, in its own order of arrival, if it says so."""
        if len(told.cursors) != len(self.places):
            return {}
        return {space: Position(*cursor) for space, cursor in zip(sorted(self.places), told.cursors, strict=True)}


async def standing_for(agent: Agent, device: bytes, entrusted: Entrusted) -> Standing | None:
    """Where this device stands for another one; None while something is to pass that no set shows.

    That are payloads that are asked for, and work that the other one is to keep a second copy of.
    """
    replica = agent.replica
    spaces = await common_spaces(agent, device)
    if not spaces or await replica.bare.lacking() or any([await entrusted(space, device) for space in spaces]):
        return None
    # places first: what comes in between makes a set say more than its place, never less
    places = {space: await replica.position(space) for space in spaces}
    sets = {space: await replica.fingerprint(space) for space in spaces}
    lacking = frozenset(Wanted(need.space, need.stream) for need in await agent.missing() if need.space in places)
    return Standing(places, lacking, likeness_of(sets, [(want.space, want.stream) for want in lacking]))
