"""How the exchange stands, in one word: a table over what the agent knows.

Rules: what is not known yet is "checking"; nothing is called current while a part of it has failed or is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sync_agent.portal.wording import Words
from sync_agent.scheduler import Outcome


class Standing(StrEnum):
    """What the strip at the head of every page says; each is a key `exchange.…` of the catalogues."""

    CHECKING = "checking"
    OFFLINE = "offline"
    BUSY = "busy"
    BLOCKED = "blocked"
    EXCHANGING = "exchanging"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the agent knows.

    `outcome` of the last sync of this run, None before the first; `waiting` entries to send; `missing` content to
    fetch; `refused` entries that the server will never take; `proven_ms` when it was last proven that everything of
    all classes is here.
    """

    outcome: Outcome | None
    waiting: int
    missing: int
    refused: int
    proven_ms: int | None

    @property
    def standing(self) -> Standing:
        """The first that holds."""
        for holds, standing in (
            (self.outcome is None, Standing.CHECKING),
            (self.outcome is Outcome.NO_ANSWER, Standing.OFFLINE),
            (self.outcome is Outcome.BUSY, Standing.BUSY),
            (self.outcome is not Outcome.DONE or self.refused > 0, Standing.BLOCKED),
            (self.waiting > 0 or self.missing > 0, Standing.EXCHANGING),
        ):
            if holds:
                return standing
        return Standing.CURRENT

    def sentence(self, say: Words, teacher: str) -> str:
        """What is said."""
        return say(f"exchange.{self.standing}", teacher=teacher)

    def freshness(self, say: Words, now_ms: int) -> str:
        """When agreement was last proven: vérifié à 10 h 12."""
        if self.proven_ms is None:
            return say("exchange.never")
        return say("exchange.verified", when=say.when(self.proven_ms, now_ms))
