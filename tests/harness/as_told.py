"""As if a server asked less of whoever counts as having told all: what tests switch off (docs/adr/0340)."""

from __future__ import annotations

from typing import Final


async def _alike(*_: object) -> None:
    """What a caller holds is what lies here, whatever it says."""


def _just_now(*_: object) -> int:
    """Each question was asked when it comes."""
    return 0


HOLDS_THE_SAME: Final = {"protocol.replica.answering.serving.differing": _alike}
ASKED_JUST_NOW: Final = {"protocol.replica.answering.challenges.Challenges.age_ms": _just_now}
