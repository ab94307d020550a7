"""What a command of the server is: parameters in, JSON out, over an opened server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from protocol.replica.console.operation import JSON, Outgoing, Params
from sync_server.kit.away import KitAway
from sync_server.opened.app import Server

Command: TypeAlias = Callable[[Server, Params, Outgoing], Awaitable[JSON]]
KitCommand: TypeAlias = Callable[[Server, Params, Outgoing, KitAway | None], Awaitable[JSON]]
"""One that may be given the kit, which stays with who has typed it."""
