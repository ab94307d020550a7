"""What a command of the server is: parameters in, JSON out, over an opened server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from protocol.replica.operation import JSON, Outgoing, Params
from sync_server.app import Server

Command: TypeAlias = Callable[[Server, Params, Outgoing], Awaitable[JSON]]
