"""Courier disks: real folders, which the agent's own code writes and reads, and what happens to a stick in a pocket.

A stick is pulled while it is written (its machine loses power), becomes full, comes back torn (a file was never
flushed, so that its end is missing or zeros), is an old one again, or is lost. What a stick holds excuses nobody: it
counts as no copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from blake3 import blake3

from protocol.bundles.form import TRAILER_BYTES, Trailer
from protocol.errors import Code, NoAnswer, PeerFault
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params
from sync_agent.courier.commands import (
    Run,
    check_here,
    export_here,
    export_to,
    import_from,
    import_here,
    let_in_here,
    survey_here,
)
from sync_agent.courier.disk import ENDING, BundlesOut, trouble_of
from sync_agent.machine.command_names import COURIER_CHECK, COURIER_EXPORT, COURIER_LET_IN, COURIER_SURVEY
from sync_agent.transport.answers import Response
from tests.simulation.machine import SimAgent

STICKS: Final = 3
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 — a folder of our own is made in it

_room: Final[dict[Path, int]] = {}
"""Sticks that are nearly full → how many bytes still fit."""
_PLAIN_APPEND: Final = BundlesOut._append


def append(self: BundlesOut, data: memoryview) -> None:
    """In place of how bytes are written onto a stick: as far as they fit."""
    stick, left = self._disk.folder, _room.get(self._disk.folder, len(data))
    _PLAIN_APPEND(self, data[:left])
    if stick in _room:
        _room[stick] = max(0, left - len(data))
    if left < len(data):
        raise trouble_of(self._disk.place, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


class Sticks:
    """A few sticks. A context: they are gone at its end."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._torn: set[str] = set()
        self.used = False
        """Whether anything was ever written onto one."""

    def close(self) -> None:
        """Throw them away."""
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def folder(self, number: int) -> Path:
        """Where a stick is."""
        if self._folder is None:
            beside = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
            self._folder = Path(tempfile.mkdtemp(prefix="relais-sticks-", dir=beside))
        place = self._folder / str(number % STICKS)
        place.mkdir(exist_ok=True)
        return place

    async def export(self, agent: SimAgent, number: int) -> str:
        """`courier export`."""
        self.used = True
        said = await export_to(self.folder(number), agent.replica.territory, _run(agent), _silent)
        return f"{said['entries']} entries, {said['bytes']} B"

    async def bring(self, agent: SimAgent, number: int) -> str:
        """`courier import`."""
        said = await import_from(self.folder(number), agent.replica.territory, _run(agent), _silent)
        return f"{said['entries']} entries, {said['bytes']} B"

    @contextlib.contextmanager
    def nearly_full(self, number: int, room_bytes: int) -> Iterator[None]:
        """While the context lasts, hardly anything fits onto a stick."""
        stick = self.folder(number)
        _room[stick] = room_bytes
        try:
            yield
        finally:
            _room.pop(stick, None)

    def lies(self) -> list[str]:
        """What bears a bundle's name and is not whole, but for what was torn here."""
        found = []
        for path in [path for number in range(STICKS) for path in self.files(number)] if self.used else ():
            data = path.read_bytes()
            try:
                trailer = Trailer.parse(data[-TRAILER_BYTES:])
                whole = trailer.size == len(data) and trailer.hash == blake3(data[:-TRAILER_BYTES]).digest()
            except PeerFault:
                whole = False
            if not whole and path.name not in self._torn:
                found.append(path.name)
        return found

    def files(self, number: int) -> list[Path]:
        """The bundles on a stick."""
        return sorted(self.folder(number).glob(f"*/*{ENDING}"))

    def tear(self, number: int, random: Random) -> str:
        """One bundle was never flushed, or a bit of it has gone wrong."""
        files = self.files(number)
        if not files:
            return "-"
        path = random.choice(files)
        self._torn.add(path.name)
        data = path.read_bytes()
        kept = random.randrange(len(data))
        match random.randrange(3):
            case 0:
                path.write_bytes(data[:kept])
            case 1:
                path.write_bytes(data[:kept] + bytes(len(data) - kept))
            case _:
                path.write_bytes(data[:kept] + bytes([data[kept] ^ 1 << random.randrange(8)]) + data[kept + 1 :])
        return f"stick {number % STICKS}: {path.name[:8]} at {kept} of {len(data)} B"

    def copy(self, number: int) -> str:
        """Another stick becomes what this one is now: it will be an old one some day."""
        source, target = self.folder(number), self.folder(number + 1)
        shutil.rmtree(target)
        shutil.copytree(source, target)
        return f"stick {number % STICKS} onto {(number + 1) % STICKS}"


def _run(agent: SimAgent) -> Run:
    async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        if name == COURIER_LET_IN:
            return (await let_in_here(agent, params, _nobody))[0]
        if name == COURIER_EXPORT:
            return await export_here(agent, params, incoming, outgoing)
        here = {COURIER_SURVEY: survey_here, COURIER_CHECK: check_here}.get(name, import_here)
        return await here(agent, incoming)

    return run


async def _nobody(path: str, _body: bytes) -> Response:
    raise NoAnswer(Code.UNREACHABLE, f"nobody answers at {path}")


def _silent(_sentence: str) -> None:
    """Nobody reads along."""
