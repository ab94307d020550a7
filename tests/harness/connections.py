"""Connections without a network: what a listener's `Guards` see of them, at the times that a test says."""

# ruff: noqa: ARG002  (the methods are those of asyncio)

from __future__ import annotations

import asyncio
from typing import Any

from protocol.replica.http.connections import Bounds, Guarded, Guards


class Wire(asyncio.Transport):
    """A transport on which nothing happens but what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.cut = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.cut = True


class Heard(asyncio.Protocol):
    """A protocol that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        return True

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")


class Many:
    """Connections of a listener with small bounds; `from_` makes one of an address."""

    def __init__(self, **bounds: Any) -> None:
        self.guards = Guards(Bounds(**bounds))

    def from_(self, address: str) -> tuple[Guarded, Wire]:
        guarded, wire = Guarded(Heard(), self.guards, address, 0.0), Wire()
        wire.cut = not self.guards.admit(guarded)
        guarded.connection_made(wire)
        return guarded, wire
