"""“That was me” is said of what a page names: harm that comes meanwhile is asked about by itself (docs/adr/0583)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from random import Random

import pytest

from protocol.replica.console.frame import Notices
from sync_agent.coursework.file_notes import FileNote
from sync_agent.watching.brake import Change
from sync_agent.watching.commands import resume
from sync_agent.watching.files import Look
from sync_agent.watching.folders import publishing_folders
from sync_agent.watching.publishing import truly_changed
from sync_agent.watching.titles import Brake, hindered
from sync_agent.watching.watcher import Watcher
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.portal import portal

ROW = "ransomware in a watched folder"
FILES = {"Cartes": 22, "Volcans": 8}
TEXT = "Les volcans sont des montagnes. " * 40
PICTURE = b"\x89PNG\r\n\x1a\n"
TURNS = 200


class Folder:
    """A teacher's folder with two lessons, and the program that watches it, turn by turn."""

    def __init__(self, room: Classroom, teacher: Device, place: Path) -> None:
        self.agent, self.place, self._room = teacher.agent, place, room
        self._noise, self._now_s = Random(7), 0.0
        self._watcher = Watcher(teacher.agent, monotonic=lambda: self._now_s)
        teacher.agent.on_watch = lambda: self._watcher.wake(everything=True)

    def write(self, title: str, data: Callable[[int], bytes]) -> None:
        """All files of a title anew."""
        (self.place / title).mkdir(parents=True, exist_ok=True)
        for number in range(FILES[title]):
            (self.place / title / f"{number}.txt").write_bytes(data(number))

    def encrypt(self, title: str, begins: bytes = b"") -> None:
        """What is in it is something else now."""
        self.write(title, lambda _: begins + self._noise.randbytes(3_000))

    async def revisions(self) -> dict[str, bytes]:
        """What is shown of each title."""
        items = (await self.agent.replica.view(self._room.space)).coursework.items.values()
        return {item.shown.record.title: item.shown.id for item in items}

    async def brake(self) -> Brake | None:
        """What a page tells of."""
        return (await hindered(self.agent.replica.store)).brake

    async def turns(self) -> None:
        """All that the program does by itself within some minutes."""
        self._watcher.wake(everything=True)
        for _ in range(TURNS):
            self._now_s += min(max(await self._watcher._turn(), 0.1), 5.0)

    async def close(self) -> None:
        if self._watcher._events is not None:
            await asyncio.to_thread(self._watcher._events.close)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await teacher.session.sync()
        (own,) = [each for each in await publishing_folders(teacher.agent) if each.space == room.space]
        made = Folder(room, teacher, own.place)
        for title in FILES:
            made.write(title, lambda number: f"{number}: {TEXT}".encode())
        await made.turns()
        assert (await made.revisions()).keys() == FILES.keys()
        yield made
        await made.close()


@attack(ROW, off={"sync_agent.watching.titles.Brake.told": property(lambda _brake: "anything")})
async def test_a_yes_to_a_page_lets_nothing_through_that_it_did_not_name(folder: Folder) -> None:
    before = await folder.revisions()
    folder.encrypt("Cartes", PICTURE)  # meant
    await folder.turns()
    brake = await folder.brake()
    assert brake is not None
    assert brake.names == ("Cartes",)
    async with portal(folder.agent) as surfer:
        fields = await surfer.hidden("/folders")
        folder.encrypt("Volcans")  # while she reads it, by another program
        await folder.turns()
        sent = {name: fields[name] for name in ("token", "told")}
        assert (await surfer.ask("POST", "/folders/resume", sent, Origin=surfer.origin)).status == 303
        await folder.turns()
        assert await folder.revisions() == before
        assert "Cartes, Volcans" in await surfer.page("/folders"), "both are asked about by now"
        assert (await surfer.send("/folders", "/folders/resume", {})).status == 303
    await folder.turns()
    after = await folder.revisions()
    assert [title for title in FILES if after[title] == before[title]] == []
    assert await folder.brake() is None


def _by_number_alone(watcher: Watcher, *_: object) -> bool:
    return watcher._burst()


@attack(ROW, off={"sync_agent.watching.watcher.Watcher._pulls": _by_number_alone})
async def test_nor_does_what_is_harmed_right_after_it_go_out_with_what_she_meant(folder: Folder) -> None:
    before = await folder.revisions()
    folder.encrypt("Cartes", PICTURE)
    await folder.turns()
    await resume(folder.agent, Notices())
    folder.encrypt("Volcans")
    await folder.turns()
    after = await folder.revisions()
    assert after["Cartes"] != before["Cartes"]
    assert after["Volcans"] == before["Volcans"]
    brake = await folder.brake()
    assert brake is not None
    assert brake.names == ("Volcans",)


async def test_a_yes_that_is_said_while_another_title_is_looked_at_is_heard(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await folder.revisions()
    folder.encrypt("Cartes", PICTURE)
    await folder.turns()
    folder.encrypt("Volcans")
    with monkeypatch.context() as patch:

        async def and_yes(
            look: Look, notes: Mapping[str, FileNote], changes: Mapping[str, Change]
        ) -> dict[str, Change]:
            patch.undo()
            await resume(folder.agent, Notices())
            return await truly_changed(look, notes, changes)

        patch.setattr("sync_agent.watching.watcher.truly_changed", and_yes)
        await folder.turns()
    after = await folder.revisions()
    assert after["Cartes"] != before["Cartes"]
    assert after["Volcans"] == before["Volcans"]
