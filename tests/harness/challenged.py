"""A server in memory that gives challenges, as the real one does (docs/adr/0340, docs/adr/0566)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from protocol.replica.answering.challenges import Challenges
from protocol.replica.answering.serving import Responder


def give_challenges(responder: Responder, clock: Callable[[], int]) -> None:
    """By a clock that is a millisecond further each time it is read: a real one never stands still for long."""
    ticks = count(1)
    responder.challenges = Challenges(bytes(32), lambda: clock() + next(ticks))
