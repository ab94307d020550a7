"""A class of a town at work, and short ways to what its office, its teacher and its pupil do in a year."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from sync_agent.coursework.publisher import Wish, publish
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import SMALL, Device, Given
from tests.harness.commands import Desk
from tests.harness.office_devices import Town


@dataclass
class Year:
    """A class with a teacher's laptop and a pupils' machine, a lesson and an assignment."""

    here: Town
    teacher: Device
    machine: Device
    person: str
    pupil: str
    item: bytes
    folder: Path

    async def do(self, command: str, **params: Any) -> Any:
        return await self.here.office.do(command, **params)

    async def with_kit(self, command: str, **params: Any) -> Any:
        kit = kit_in(self.folder / "server" / "kit", None)
        return await self.here.office.with_kit(command, kit, **params)

    async def lesson(self, title: str = "L'eau") -> None:
        wish = Wish(self.here.space, None, ItemKind.LESSON, title, "Sciences")
        await publish(self.teacher.agent, wish, Given(SMALL), Notices())
        await self.here.sync(self.teacher, self.machine)

    async def work(self, *, opened: bool = True) -> str:
        work = (await self.here.work(self.machine, self.item, self.pupil)).hex()
        await self.here.sync(self.machine, self.teacher)
        if opened:
            await Desk(self.teacher.agent).ask("confirm-opened", id=work)
            await Desk(self.teacher.agent).ask("feedback", id=work, text="Très bien.", mark="A", redo=False)
            await self.here.sync(self.teacher, self.machine)
        return work

    async def names(self, device: Device) -> set[str]:
        roster = (await device.agent.replica.view(self.here.space)).roster
        return {person.name for person in roster.persons.values()}
