"""How fast the line is, as far as a transfer shows, and when it counts as thin (R16; docs/protocol.md, "Sync").

Over a thin line a first sync takes strong containers instead of packs: an eighth fewer bytes for more time of the CPU.
Measured on 22 MB of course material: 2.3 MB less for 0.8 s of a core of today, so that it pays below 3 MB/s; on a PC
four times slower below 0.7 MB/s. `THIN_BYTES_PER_S` is what pays on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.limits import KiB, MiB

THIN_BYTES_PER_S: Final = 512 * KiB
MEASURED_S: Final = 2.0
WORTH_BYTES: Final = 2 * MiB


@dataclass(slots=True)
class Gauge:
    """Watches one batch of transfers; `began_s` is when its first bytes came, by a clock that never goes back."""

    began_s: float | None = None
    moved_bytes: int = 0
    is_thin: bool = False

    def note(self, moved_bytes: int, now_s: float) -> bool:
        """That bytes have come; whether the line has turned out to be thin."""
        if self.began_s is None:
            self.began_s = now_s
            return False
        self.moved_bytes += moved_bytes
        elapsed_s = now_s - self.began_s
        self.is_thin = elapsed_s >= MEASURED_S and self.moved_bytes < THIN_BYTES_PER_S * elapsed_s
        return self.is_thin
