"""What one sync has done so far, and what it still has to do (docs/protocol.md, "Sync")."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.errors import RelaisError
from protocol.messages.parts import InlinePack, Link, Upload
from protocol.replica.interfaces import PackInfo
from sync_agent.sync.asking import Said
from sync_agent.sync.sharing import Sharing


@dataclass(slots=True)
class Run:
    """What one sync has done so far, and what it still has to do."""

    routine: bool = False
    told: bool = False
    sharing: Sharing | None = None
    said: Said = field(default_factory=Said)
    received: int = 0
    received_before: int = 0
    rounds_alone: int = 0
    """How often in a row something was due to be said although nothing had come."""
    sent: int = 0
    again: bool = False
    heard_out: bool = False
    """Whether the last answer has said all that there was to be said."""
    links: list[Link] = field(default_factory=list)
    early: list[InlinePack] = field(default_factory=list)
    early_bytes: int = 0
    uploads: list[tuple[Upload, PackInfo]] = field(default_factory=list)
    renewed: bool = False
    reconciled: set[bytes] = field(default_factory=set)
    doubts: dict[bytes, bytes] = field(default_factory=dict)
    lacks_answered: set[tuple[bytes, bytes]] = field(default_factory=set)
    proven: set[bytes] = field(default_factory=set)
    answered_ms: int = 0
    brought: set[bytes] = field(default_factory=set)
    rest_of: set[tuple[bytes, bytes]] = field(default_factory=set)
    rest_settled: bool = False
    withdrawn: set[bytes] = field(default_factory=set)
    recalled: set[bytes] = field(default_factory=set)
    """Spaces of which an earlier sync alone knows how far the server has led."""
    led: dict[bytes, int] = field(default_factory=dict)
    """How far pages have led in each space during this sync: who shows the same again leads nowhere."""
    differing: set[bytes] = field(default_factory=set)
    """Spaces of which the last answer has shown how the server's set looks, and no news: ours is another."""
    unlike: set[bytes] = field(default_factory=set)
    """Spaces whose set is not the one that the server shows, although both were compared, now or within the hour."""
    is_anew: bool = False
    """Whether the store that answers is another one than before, and was not told yet that this was all."""
    unwanted: dict[bytes, RelaisError] = field(default_factory=dict)
    failure: RelaisError | None = None

    def note(self, failure: RelaisError | None) -> None:
        """Remember what went wrong first; the sync goes on with what it can still do."""
        self.failure = self.failure or failure
