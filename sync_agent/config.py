"""How a running agent behaves: options of `run`, parsed once."""

from __future__ import annotations

from dataclasses import dataclass

from sync_agent.addresses import Address, loopback_address_of

POLL_FIRST_S = 4.0
POLL_LAST_S = 8.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Options of `run`. A poll comes `poll_s[0]` to `poll_s[1]` seconds after the last one, drawn evenly."""

    portal: str | None = None
    lan: str | None = None
    peers: tuple[str, ...] = ()
    poll_s: tuple[float, float] = (POLL_FIRST_S, POLL_LAST_S)

    def portal_address(self) -> Address | None:
        """Where the portal is to be. Raises `BadInput` (USAGE, NOT_LOOPBACK)."""
        return None if self.portal is None else loopback_address_of(self.portal, "--portal")

    def later(self) -> tuple[str, ...]:
        """One sentence for each option that is accepted and does nothing yet."""
        asked = (
            (self.lan is not None, "--lan: exchange with other devices of the school comes in a later version"),
            (bool(self.peers), "--peer: exchange with other devices of the school comes in a later version"),
        )
        return tuple(sentence for given, sentence in asked if given)
