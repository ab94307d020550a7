"""Since when an erasure holds here without a break."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from protocol.errors import Code, LocalFailure
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling, SpaceRecord
from protocol.replica.at_work.destroyed import DONE_MARKS, Done
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.roster import Roster
from protocol.roles import PersonRole
from tests.harness.history import NOW_MS, World

DAY_MS = 24 * 3_600_000


class School:
    """A territory whose server erases, and a replica of it."""

    def __init__(self) -> None:
        self.world, self.store = World(Random(11)), MemoryStore()
        self.lea = self.world.person(self.world.classes[0], PersonRole.PUPIL, "Léa")

    async def open(self) -> None:
        self.replica = await Replica.open(self.world.root.key.public, self.store, MemoryPacks())
        await self.bring()

    async def bring(self) -> None:
        await self.replica.admit(self.world.entries, source=b"somebody", now_ms=NOW_MS)

    def erased_in(self, space: bytes) -> Entry:
        return self.world.say(self.world.server, space, Kind.ERASE, Erasure(self.lea).encode())

    async def refuse(self, erasure: Entry) -> None:
        self.world.say(self.world.server, erasure.header.space, Kind.RULING, Ruling((), (erasure.id,)).encode())
        await self.bring()

    async def something_comes(self, space: bytes) -> None:
        self.world.person(space, PersonRole.PUPIL, "Tom")
        await self.bring()

    async def looked_at(self, *spaces: bytes) -> tuple[list[bytes], Sequence[str]]:
        """Of which spaces it is looked what holds when something comes into these; the marks that go."""
        asked = []

        async def roster_of(space: bytes) -> Roster:
            asked.append(space)
            return (await self.replica.view(space)).roster

        marks = await self.replica.weeks.broken(frozenset(spaces), self.replica.door, roster_of)
        return asked, list(marks)


@pytest.fixture
async def school() -> School:
    made = School()
    await made.open()
    return made


async def test_what_was_taken_back_for_a_moment_has_no_week_once_more_comes_there_or_above(school: School) -> None:
    territory, room = school.world.territory, school.world.classes[0]
    above, below = school.erased_in(territory), school.erased_in(room)
    await school.bring()
    await school.replica.weeks.look([above, below], NOW_MS)
    await school.refuse(below)
    assert await school.replica.weeks.noted() == {above.id: NOW_MS, below.id: NOW_MS}
    await school.something_comes(territory)
    assert await school.replica.weeks.noted() == {above.id: NOW_MS}
    assert await school.replica.weeks.look([above, below], NOW_MS + DAY_MS) == {
        above.id: NOW_MS,
        below.id: NOW_MS + DAY_MS,
    }


async def test_nor_where_it_could_not_be_noted_at_first_or_the_program_was_killed(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory = school.world.territory
    erasure = school.erased_in(territory)
    await school.bring()
    await school.replica.weeks.look([erasure], NOW_MS)
    await school.refuse(erasure)

    async def is_full(*_: object, **__: object) -> list[Entry]:
        raise LocalFailure(Code.STORAGE_FAILED, "no room")

    with monkeypatch.context() as patched:
        patched.setattr(school.store, "append", is_full)
        with pytest.raises(LocalFailure):
            await school.something_comes(territory)
    assert await school.replica.weeks.noted()
    school.replica = await Replica.open(school.world.root.key.public, school.store, MemoryPacks())
    await school.something_comes(territory)
    assert await school.replica.weeks.noted() == {}


async def test_what_comes_into_a_class_has_no_fold_made_for_erasures_above_it(school: School) -> None:
    erasure = school.erased_in(school.world.territory)
    await school.bring()
    await school.replica.weeks.look([erasure], NOW_MS)
    assert await school.looked_at(*school.world.classes) == ([], [])
    assert await school.looked_at(school.world.territory) == ([school.world.territory], [])


async def test_nor_for_one_that_was_obeyed(school: School) -> None:
    erasure = school.erased_in(school.world.territory)
    await school.bring()
    await school.store.set_marks({DONE_MARKS + school.lea.hex(): Done(1, frozenset([erasure.id])).encode()})
    await school.replica.weeks.look([erasure], NOW_MS)
    assert await school.looked_at(school.world.territory) == ([], [])


async def test_of_very_many_spaces_with_erasures_the_nearest_are_looked_at_and_elsewhere_weeks_begin_anew(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.weeks._MOST_SPACES", 16)
    world = school.world
    rooms = [
        world.say(world.server, world.school, Kind.SPACE, SpaceRecord(f"CM{number}", year="2026-2027").encode()).id
        for number in range(20)
    ]
    erasures = [school.erased_in(space) for space in (*rooms, world.school, world.territory)]
    await school.bring()
    await school.replica.weeks.look(erasures, NOW_MS)
    asked, over = await school.looked_at(world.territory)
    assert asked[:2] == [world.territory, world.school]
    assert (len(asked), len(over)) == (16, 6)
    assert await school.looked_at(world.territory) == (asked, [])
