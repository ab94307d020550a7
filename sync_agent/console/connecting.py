"""`--proxy` and `--ca`, and the ways to a server that they and DIR stand for. Loads nothing before it is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from protocol.replica.console.options import Option

if TYPE_CHECKING:
    from sync_agent.network.early import Early
    from sync_agent.network.settings import Network
    from sync_agent.transport.interface import Transport

ProxyOption = Annotated[
    str | None,
    Option(
        "--proxy",
        metavar="URL",
        help="The way to the server: http://[NAME:PASSWORD@]HOST:PORT, pac+URL for a script, direct, or system.",
    ),
]
CaOption = Annotated[
    str | None,
    Option("--ca", metavar="FILE", help="Certificates to trust besides the system's (a school's inspector)."),
]


def network_of(folder: Path, proxy: str | None, ca: str | None) -> Network:
    """How this machine reaches its server: by what was given, by what DIR keeps, by what the system says.

    Raises `BadInput(USAGE)`, `LocalFailure(DAMAGED)`.
    """
    from sync_agent.network.settings import Network  # noqa: PLC0415

    return Network.chosen(folder, proxy, ca, dict(os.environ), Path(os.environ.get("HOME", "")))


class Connecting:
    """Ways to servers over HTTP, by one network. The way to one of them may be begun before it is asked for."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._early: Early | None = None

    def __call__(self, url: str) -> Transport:
        """The way to a server."""
        from sync_agent.transport.over_http import HttpTransport  # noqa: PLC0415

        early, self._early = self._early, None
        return HttpTransport(url, self._network, early=early)

    async def begin(self, url: str) -> None:
        """Begin the way to the server that is asked next."""
        from sync_agent.network.early import Early  # noqa: PLC0415

        self._early = Early(url, self._network)
        await self._early.begin()

    async def close(self) -> None:
        """Let go of what was begun and not asked for."""
        early, self._early = self._early, None
        if early is not None:
            await early.close()
