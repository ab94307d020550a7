"""How long work that is done again and again leaves the time to others, once it has taken more than its share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FREE_S: Final = 3.0
"""What may be owed in rest without any: one piece now and then is shown at once."""
SHARE: Final = 3.0
"""Work is followed by so many times as much rest."""
MOST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Rest:
    """How much rest may still be owed, as it stood at `at_s` of a monotonic clock."""

    left_s: float = FREE_S
    at_s: float = 0.0

    def after(self, began_s: float, ended_s: float) -> tuple[Rest, float]:
        """After work from one time to another, and for how many seconds to rest now."""
        left_s = min(FREE_S, self.left_s + began_s - self.at_s) - SHARE * (ended_s - began_s)
        left_s = max(left_s, -MOST_S)
        return Rest(left_s, ended_s), max(0.0, -left_s)
