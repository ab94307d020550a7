"""What one exchange with another device has done so far; what two exchanges share is the session's, or their content's.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.errors import RelaisError
from protocol.model.entry import Entry
from protocol.replica.interfaces import PackInfo, Position


@dataclass(slots=True)
class Exchange:
    """See the module."""

    received: int = 0
    sent: int = 0
    wishes: set[tuple[bytes, bytes]] = field(default_factory=set)
    offered: set[bytes] = field(default_factory=set)
    lacks: dict[bytes, PackInfo] = field(default_factory=dict)
    grown: set[bytes] = field(default_factory=set)
    """Spaces of which something has come that nobody was told of yet."""
    owed: dict[bytes, Entry] = field(default_factory=dict)
    """What the peer holds the header of alone, and asks for."""
    strange: dict[bytes, Position] = field(default_factory=dict)
    """How far its pages have come, also of spaces that nothing opens here or there: what opens one may stand on any."""
    put_off: dict[bytes, int] = field(default_factory=dict)
    """How much had been received when a page of such a space was put off, as what it brings could not be judged yet."""
    unlike: set[bytes] = field(default_factory=set)
    """Spaces of which this exchange has not compared all: the next one goes on."""
    leaves_some: bool = False
    """Whether content is left to another neighbour that is sending it."""
    failure: RelaisError | None = None

    def may_wait(self, space: bytes) -> bool:
        """Whether a page of a space may be put off, or once more: something has come since, which may change that."""
        before = self.put_off.get(space)
        self.put_off[space] = self.received
        return before != self.received

    def note_failure(self, failure: RelaisError | None) -> None:
        """Keep the first that is no reason to stop."""
        self.failure = self.failure or failure
