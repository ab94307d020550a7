"""How a running agent behaves: options of `run`, parsed once."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import BadInput, Code
from sync_agent.app import RoomLimits
from sync_agent.machine.addresses import Address, address_of, loopback_address_of
from sync_agent.machine.answerable import Answerable
from sync_agent.pacing.budget import Limits, Metered, rate_of, size_of, windows_of

POLL_FIRST_S = 4.0
POLL_LAST_S = 8.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Options of `run`. A poll comes `poll_s[0]` to `poll_s[1]` seconds after the last one, drawn evenly."""

    portal: str | None = None
    lan: str | None = None
    peers: tuple[str, ...] = ()
    poll_s: tuple[float, float] = (POLL_FIRST_S, POLL_LAST_S)
    daily_budget: str | None = None
    metered: str = Metered.AUTO
    quiet_hours: tuple[str, ...] = ()
    rate_limit: str | None = None
    full_speed: bool = False
    courier: str | None = None
    disk_budget: str | None = None
    disk_reserve: str | None = None
    controller: str | None = None
    dpo: str | None = None

    def portal_address(self) -> Address | None:
        """Where the portal is to be. Raises `BadInput` (USAGE, NOT_LOOPBACK)."""
        return None if self.portal is None else loopback_address_of(self.portal, "--portal")

    def answerable(self) -> Answerable:
        """Who answers for what is kept here, as the pages name them. Raises `BadInput(BAD_NAME)`."""
        return Answerable.typed(self.controller, self.dpo)

    def limits(self) -> Limits:
        """When content may travel, and how fast. Raises `BadInput(USAGE)`."""
        if self.metered not in list(Metered):
            raise BadInput(Code.USAGE, f"--metered: “{self.metered}” is none of: {', '.join(Metered)}")
        return Limits(
            None if self.daily_budget is None else size_of(self.daily_budget, "--daily-budget"),
            Metered(self.metered),
            windows_of(self.quiet_hours),
            None if self.rate_limit is None else rate_of(self.rate_limit, "--rate-limit"),
            yields=not self.full_speed,
        )

    def check(self) -> None:
        """Raise `BadInput` for what `run` could not do, before anything is opened."""
        self.portal_address()
        self.answerable()
        self.limits()
        self.room()
        self.lan_address()
        self.peer_addresses()

    def lan_address(self) -> Address | None:
        """Where other devices of the school may call. Raises `BadInput(USAGE)`."""
        return None if self.lan is None else address_of(self.lan, "--lan")

    def peer_addresses(self) -> tuple[Address, ...]:
        """The devices with which to keep a link, each once. Raises `BadInput(USAGE)`."""
        return tuple(dict.fromkeys(address_of(peer, "--peer") for peer in self.peers))

    def room(self) -> RoomLimits:
        """What content may take of the disk, and what it leaves free. Raises `BadInput(USAGE)`."""
        return RoomLimits(
            None if self.disk_budget is None else size_of(self.disk_budget, "--disk-budget"),
            None if self.disk_reserve is None else size_of(self.disk_reserve, "--disk-reserve"),
        )
