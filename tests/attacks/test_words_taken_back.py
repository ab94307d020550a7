"""What a teacher has taken back, and a server that erases the one entry by which she did (docs/adr/0255)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import erasable_names
from sync_agent.app import Agent
from sync_agent.hand_ins.handing_in import give_feedback
from tests.harness.attack import attack
from tests.harness.classroom import Given, work_of
from tests.harness.commands import Desk
from tests.harness.erasures import every_name
from tests.harness.lan import exchange
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "an erasure of one entry puts in force again what its author took back"


@dataclass(frozen=True)
class TakenBack:
    """A mark that was put right, a lesson of two versions, and a lesson that was withdrawn."""

    here: SpiedClass
    lesson: bytes
    first: bytes
    withdrawn: bytes

    async def last(self, kind: Kind, target: bytes) -> Entry:
        """What was said last of a thing."""
        stored = await self.here.room.territory.replica.store.scan(self.here.room.space)
        said = [one.entry for one in stored if one.entry.header.kind == kind and one.entry.header.target == target]
        return max(said, key=lambda entry: entry.header.at)

    async def erase(self, entry: Entry) -> None:
        """With the server's key."""
        await self.here.room.territory.say(self.here.room.space, Kind.ERASE, Erasure(entry.id).encode())

    async def sync(self) -> None:
        for _ in range(2):
            await self.here.sync(self.here.teacher, self.here.machine)

    async def is_shown(self, replica: Replica) -> tuple[str | None, bool, bool]:
        """The mark, whether the lesson is shown as it was put right, and whether the other one is withdrawn."""
        work = (await replica.view(self.here.room.space)).coursework
        note = work.hand_ins[self.here.work].feedback
        is_right = work.items[self.lesson].shown.id != self.first
        return (None if note is None else note.record.mark), is_right, work.items[self.withdrawn].withdrawn


async def answer(agent: Agent, work: bytes, mark: str) -> None:
    await give_feedback(agent, work, "Convocation des parents.", mark, redo=False, incoming=Given({}))


@pytest.fixture
async def said(tmp_path: Path) -> AsyncIterator[TakenBack]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        room, laptop = here.room, here.teacher.agent
        await answer(laptop, here.work, "0/20")
        lesson = (await room.publish(here.teacher, {"lecon.txt": b"faux"})).item
        other = (await room.publish(here.teacher, {"retiree.txt": b"b"})).item
        room.territory.clock.advance(60_000)
        await answer(laptop, here.work, "18/20")
        await room.publish(here.teacher, {"lecon.txt": b"juste"}, item=lesson)
        await Desk(laptop).ask("withdraw", item=other.hex())
        made = TakenBack(here, lesson, lesson, other)
        await made.sync()
        yield made


@attack(ROW, off={"protocol.rights.roster.covering_names": every_name})
async def test_what_a_teacher_took_back_is_not_in_force_again_when_the_server_erases_one_entry(said: TakenBack) -> None:
    here = said.here
    for kind, target in (
        (Kind.FEEDBACK, here.work),
        (Kind.REVISION, said.lesson),
        (Kind.WITHDRAW, said.withdrawn),
    ):
        await said.erase(await said.last(kind, target))
    await said.sync()
    for device in (here.machine, here.teacher):
        assert await said.is_shown(device.agent.replica) == ("18/20", True, True)


@attack(ROW, off={"protocol.replica.at_work.bare_entries.covering_names": erasable_names})
async def test_who_was_brought_the_header_alone_of_what_put_a_mark_right_gets_the_rest_from_a_neighbour(
    said: TakenBack,
) -> None:
    here = said.here
    note = await said.last(Kind.FEEDBACK, here.work)
    await said.erase(note)
    newcomer = await here.room.machine()
    replica, territory = newcomer.agent.replica, here.room.territory
    for space in territory.replica.door.lineage(here.room.space)[::-1]:
        entries = [stored.entry for stored in await territory.replica.store.scan(space)]
        bare = [replace(each, salt=None, payload=None) if each.id == note.id else each for each in entries]
        await replica.admit(bare, source=b"the server", now_ms=territory.clock())
    assert (await said.is_shown(replica))[0] == "0/20"
    await exchange(newcomer.agent, here.teacher.agent)
    assert (await said.is_shown(replica))[0] == "18/20"


@attack(ROW, off={"protocol.rights.roster.covering_names": every_name})
async def test_for_whom_work_was_is_what_its_first_wrap_says_though_the_server_erases_that(said: TakenBack) -> None:
    here = said.here
    before = await work_of(here.machine, here.room, here.work)
    stored = await here.room.territory.replica.store.scan(here.room.space)
    for entry in (one.entry for one in stored if one.entry.header.target == here.work):
        if entry.header.kind == Kind.WRAP:
            await said.erase(entry)
    await said.sync()
    after = await work_of(here.machine, here.room, here.work)
    assert (after.meant_for, after.readers) == (before.meant_for, before.readers)
    assert after.meant_for
