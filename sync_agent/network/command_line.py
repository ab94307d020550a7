"""`--proxy` and `--ca`, and the ways to a server that they and DIR stand for. Loads nothing before it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from protocol.replica.console_options import Option

if TYPE_CHECKING:
    from sync_agent.network.settings import Network
    from sync_agent.transport import Transport

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


def connecting(network: Network) -> Callable[[str], Transport]:
    """Ways to servers over HTTP, by this network."""
    from sync_agent.http_transport import HttpTransport  # noqa: PLC0415

    return lambda url: HttpTransport(url, network)
