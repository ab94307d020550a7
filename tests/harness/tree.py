"""DIR/coursework of a pupils' device, what a teacher publishes into it, and what a person does there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_agent.app import Agent
from sync_agent.coursework.materializer import Materializer
from tests.harness.classroom import Files
from tests.harness.commands import Desk
from tests.harness.enrolled import Class, meet, open_agent

LESSON: Files = {"index.html": b"<h1>Eau</h1>", "images/carte.png": b"\x89PNG" * 1000, "exercice.odt": b"PK\x03\x04 un"}
EDIT = (1_795_515_120, 1_795_515_120)
DATED = "exercice (modifié le 2026-11-24 à 10 h 12).odt"


@dataclass
class Pair:
    """A teacher's and a pupils' device, opened when they are needed."""

    room: Class

    @property
    def tree(self) -> Path:
        return self.room["renard"].folder / "coursework"

    @property
    def cm1(self) -> Path:
        return self.tree / "CM1"

    async def publish(self, files: Files | None, **params: Any) -> dict[str, str]:
        """Publish at the teacher's, and bring it to the pupils' device."""
        async with opened(self.room, "petit") as agent:
            if "item" not in params:
                params = {"space": self.room.space, "title": "Eau", **params}
            published: dict[str, str] = await Desk(agent).publish(files, **params)
        await meet(self.room["petit"], self.room["renard"])
        return published

    async def tell(self, command: str, **params: Any) -> None:
        async with opened(self.room, "petit") as agent:
            await Desk(agent).ask(command, **params)
        await meet(self.room["petit"], self.room["renard"])

    async def refresh(self, *, thorough: bool = True, set_aside: bool = False, reserve_bytes: int = 0) -> None:
        async with opened(self.room, "renard") as agent:
            tree = Materializer(agent, reserve_bytes=reserve_bytes)
            await tree.refresh(thorough=thorough, set_aside=set_aside)


@asynccontextmanager
async def opened(room: Class, name: str) -> AsyncIterator[Agent]:
    agent = await open_agent(room[name])
    try:
        yield agent
    finally:
        await agent.close()


def files_of(place: Path) -> dict[str, bytes]:
    """Every file below a folder; what links name is not looked at."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def likeness(place: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(place).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in place.rglob("*")
        if path.is_file()
    }


def edit(place: Path, data: bytes, *, fresh: bool = False) -> None:
    place.write_bytes(data)
    if not fresh:
        os.utime(place, EDIT)
