"""What may stand between a machine and its server, as plain data: the words in which a test tells a story."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Portal(StrEnum):
    """How a public Wi-Fi keeps people from the Internet before they have signed in."""

    REDIRECT = "redirect"
    PAGE = "page"
    STATUS_511 = "511"


class Sockets(StrEnum):
    """What becomes of WebSockets: a proxy may refuse the upgrade, hold every frame back, or cut soon after."""

    PASS = "pass"  # noqa: S105  (no password)
    REFUSED = "refused"
    HELD = "held"
    CUT = "cut"


class Shown(StrEnum):
    """Whose certificate is shown: the server's, a school inspector's, or the portal's; or one that is out of date."""

    SERVER = "server"
    INSPECTOR = "inspector"
    PORTAL = "portal"
    EXPIRED = "expired"
    OTHER_NAME = "other-name"


@dataclass(frozen=True)
class Weather:
    """The state of the way. The default is a clear day.

    The line: `latency_s` each way; `bytes_per_s` each way and connection; `stalls`: connections stand, nothing moves,
    and everything goes on afterwards; `forgets`: connections that stand at this moment never move again, new ones do;
    `refuses`: nothing listens; `cut_up`, `cut_down`: so many more bytes pass in this direction over all connections,
    then every connection is aborted.

    What sees HTTP: `portal`; `sockets`; `holds`: an answer leaves only when all of it is here, as a virus scanner's
    does, which reads `scans_per_s` bytes a second; `rewrites` bodies; `strips` these headers in both directions;
    `caches`: the first answer is given again for ever; `blocks`: a filter's page with status 403.

    The forward proxy: `login`: "name:password" that it asks for; `schemes`: what it accepts; `inspects`: it opens TLS
    with a certificate of its own; `refuses_connect`: the status with which it lets nobody through.
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    stalls: bool = False
    forgets: bool = False
    refuses: bool = False
    cut_up: int | None = None
    cut_down: int | None = None
    portal: Portal | None = None
    sockets: Sockets = Sockets.PASS
    holds: bool = False
    scans_per_s: float | None = None
    rewrites: bool = False
    strips: tuple[str, ...] = ()
    caches: bool = False
    blocks: bool = False
    shows: Shown = Shown.SERVER
    login: str | None = None
    schemes: tuple[str, ...] = ("Basic",)
    inspects: bool = False
    refuses_connect: int | None = None


CLEAR = Weather()
STALLED = Weather(stalls=True)
DOWN = Weather(refuses=True)
SATELLITE = Weather(latency_s=0.3, bytes_per_s=60_000)
CAPTIVE = Weather(portal=Portal.REDIRECT)
