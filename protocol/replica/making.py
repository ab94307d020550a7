"""How much a delta may make of what is here, and how much is noted of a pack, each with its bound.

Few bytes say much: so it is counted as it is made, and whoever takes one in says how much it may be (docs/protocol.md,
"Deltas").
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import Code, TooLarge


@dataclass(slots=True)
class Making:
    """How many bytes a delta may make, its own beside, and has made; and how many more than a pack has are noted."""

    most_bytes: int
    most_noted: int
    made_bytes: int = 0
    noted_bytes: int = 0

    def came(self, size: int) -> int:
        """What counts of something of this size by now, whether it was kept or not: no more than might be made."""
        return max(size, min(self.made_bytes, self.most_bytes))

    @property
    def noted(self) -> int:
        """What counts of what was noted by now, whether the pack was kept or not: no more than might be."""
        return min(self.noted_bytes, self.most_noted)

    def add(self, size: int) -> None:
        """So many more are made. Raises `TooLarge`."""
        self.made_bytes += size
        if self.made_bytes > self.most_bytes:
            raise TooLarge(Code.OVER_QUOTA, "it makes more than anybody asked for", max=self.most_bytes)

    def note(self, size: int) -> None:
        """So many more are noted. Raises `TooLarge`."""
        self.noted_bytes += size
        if self.noted_bytes > self.most_noted:
            raise TooLarge(Code.OVER_QUOTA, "its lists are longer than anybody asked for", max=self.most_noted)
