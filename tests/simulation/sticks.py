"""Courier disks: real folders, which the agent's own code writes and reads, and what happens to a stick in a pocket.

A stick is pulled while it is written (its machine loses power), comes back torn (a file was never flushed, so that its
end is missing or zeros), is an old one again, or is lost. What a stick holds excuses nobody: it counts as no copy.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Final

from protocol.errors import Code, NoAnswer
from protocol.replica.operation import JSON, Incoming, Outgoing, Params
from sync_agent.answers import Response
from sync_agent.command_names import COURIER_EXPORT, COURIER_LET_IN, COURIER_SURVEY
from sync_agent.courier_commands import (
    Run,
    export_here,
    export_to,
    import_from,
    import_here,
    let_in_here,
    survey_here,
)
from sync_agent.courier_disk import ENDING
from tests.simulation.machine import SimAgent

STICKS: Final = 3


class Sticks:
    """A few sticks. A context: they are gone at its end."""

    def __init__(self) -> None:
        self._folder: Path | None = None
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
            self._folder = Path(tempfile.mkdtemp(prefix="relais-sticks-"))
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

    def files(self, number: int) -> list[Path]:
        """The bundles on a stick."""
        return sorted(self.folder(number).glob(f"*/*{ENDING}"))

    def tear(self, number: int, random: Random) -> str:
        """One bundle was never flushed, or a bit of it has gone wrong."""
        files = self.files(number)
        if not files:
            return "-"
        path = random.choice(files)
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
            return await export_here(agent, incoming, outgoing)
        return await (survey_here if name == COURIER_SURVEY else import_here)(agent, incoming)

    return run


async def _nobody(path: str, _body: bytes) -> Response:
    raise NoAnswer(Code.UNREACHABLE, f"nobody answers at {path}")


def _silent(_sentence: str) -> None:
    """Nobody reads along."""
