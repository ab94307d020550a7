"""How the exchange stands, in one word: a table over what the agent knows.

Rules: what is not known yet is "checking"; nothing is called current while a part of it has failed or is missing; that
there is no Internet is said only where that was seen, and a server that is silent, or refuses, is named as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.beside_words import beside_words
from sync_agent.machine.progress import Moving
from sync_agent.network.trouble import Seen, Trouble
from sync_agent.pacing.budget import OPEN, Hold, Verdict
from sync_agent.portal.wording import Words
from sync_agent.scheduler import Outcome

_MINUTE_S: Final = 60


class Standing(StrEnum):
    """What the strip at the head of every page says; each is a key `exchange.…` of the catalogues."""

    PAUSED = "paused"
    CHECKING = "checking"
    OFFLINE = "offline"
    BUSY = "busy"
    BLOCKED = "blocked"
    HELD = "held"
    EXCHANGING = "exchanging"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the agent knows.

    `outcome` of the last sync of this run, None before the first; `waiting` entries to send; `missing` content to
    fetch, and entries of which the header alone is here; `refused` entries that the server will never take; `proven_ms`
    when it was last proven that everything of all classes is here; `held` what the budget holds back now; `neighbours`
    the devices of the school in touch now; `seen` what stood between this device and the server; `moving` what is on
    its way; `server` whose it is.
    """

    outcome: Outcome | None
    waiting: int
    missing: int
    refused: int
    proven_ms: int | None
    held: Verdict = OPEN
    neighbours: int = 0
    seen: Seen | None = None
    moving: Moving | None = None
    server: str = ""

    @property
    def standing(self) -> Standing:
        """The first that holds."""
        for holds, standing in (
            (self.held.hold is Hold.PAUSED, Standing.PAUSED),
            (self.outcome is None and self.moving is not None, Standing.EXCHANGING),
            (self.outcome is None, Standing.CHECKING),
            (self.outcome is Outcome.NO_ANSWER, Standing.OFFLINE),
            (self.outcome is Outcome.BUSY, Standing.BUSY),
            (self.outcome is not Outcome.DONE or self.refused > 0, Standing.BLOCKED),
            (self.held.hold is not None and (self.waiting > 0 or self.missing > 0), Standing.HELD),
            (self.waiting > 0 or self.missing > 0 or self.moving is not None, Standing.EXCHANGING),
        ):
            if holds:
                return standing
        return Standing.CURRENT

    def sentence(self, say: Words, teacher: str, now_ms: int) -> str:
        """What is said."""
        if self.standing is Standing.OFFLINE or self.standing is Standing.BLOCKED:
            return self._obstacle(say, teacher)
        if self.standing is Standing.EXCHANGING and self.moving is not None:
            return _progress(self.moving, say)
        key = f"exchange.{self.standing}"
        if self.standing is Standing.HELD:
            key = f"{key}.{self.held.hold}"
        if self.standing is Standing.PAUSED and self.held.until_ms is not None:
            key = f"{key}_until"
        until = "" if self.held.until_ms is None else say.when(self.held.until_ms, now_ms)
        return say(key, teacher=teacher, until=until)

    def _obstacle(self, say: Words, teacher: str) -> str:
        """What keeps this device from the server, as far as that was seen, and who is in touch all the same."""
        offline = self.standing is Standing.OFFLINE
        key = f"exchange.{self.standing}"
        trouble = None if self.seen is None else f"trouble.{self.seen.trouble}"
        if trouble is not None and say.has(trouble):
            key = trouble
        elif self.outcome is Outcome.REFUSED:
            key = "exchange.refused"
        facts = {"teacher": teacher, "about": _about(self.seen, say), "server": beside_words(self.server)}
        said = say(key, **facts).replace(" ()", "")
        drill = self.seen is not None and self.seen.trouble is Trouble.DRILL
        if offline and self.neighbours and not drill:
            said = f"{said} {say('exchange.in_touch', count=self.neighbours)}"
        return said

    def freshness(self, say: Words, now_ms: int) -> str:
        """When agreement was last proven: vérifié à 10 h 12."""
        if self.proven_ms is None:
            return say("exchange.never")
        return say("exchange.verified", when=say.when(self.proven_ms, now_ms))


def _about(seen: Seen | None, say: Words) -> str:
    """Who or what a trouble is about; a time of day as the pages write it."""
    if seen is None or seen.trouble is not Trouble.DRILL:
        return "" if seen is None else seen.about
    hour, _, minute = seen.about.partition(":")
    return say("time.clock", hour=int(hour), hour0=hour, minute=minute)


def _progress(moving: Moving, say: Words) -> str:
    """How far it has come, and how long the rest takes as things are; in minutes as soon as there are two."""
    way = "sending" if moving.sends else "fetching"
    facts = {"done": say.size(moving.moved_bytes), "total": say.size(moving.of_bytes)}
    if moving.seconds_left is None:
        return say(f"exchange.{way}", **facts)
    if moving.seconds_left < 2 * _MINUTE_S:
        left = say.count("exchange.seconds", moving.seconds_left)
    else:
        left = say.count("exchange.minutes", round(moving.seconds_left / _MINUTE_S))
    return say(f"exchange.{way}_left", left=left, **facts)
