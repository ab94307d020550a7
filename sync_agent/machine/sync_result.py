"""What a sync did, with the server or with a device."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a sync did: entries received and sent; HTTP bytes and requests, content included; whether content came."""

    received: int = 0
    sent: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    round_trips: int = 0
    brought: bool = False

    def __add__(self, other: SyncResult) -> SyncResult:
        """Two syncs taken together."""
        return SyncResult(
            self.received + other.received,
            self.sent + other.sent,
            self.bytes_in + other.bytes_in,
            self.bytes_out + other.bytes_out,
            self.round_trips + other.round_trips,
            self.brought or other.brought,
        )

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was new on either side; content may come in one answer, long after its entries."""
        return not (self.received or self.sent or self.brought) and self.round_trips <= 1
