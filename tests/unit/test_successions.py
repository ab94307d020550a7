"""What a copy of a device is still worth once its original was let go, or has come back."""

from __future__ import annotations

from random import Random

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation, Successor
from protocol.model.work import ContentRef, HandIn
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.storage.memory import MemoryStore
from protocol.rights.roster import Roster
from protocol.rights.successions import (
    confirmed_keys,
    has_room_for_words,
    line_since_confirmed,
    predecessors_of,
    successors_of,
)
from protocol.roles import Role
from tests.harness.history import NOW_MS, World, Writer


class School:
    """A machine and its copies in one class."""

    def __init__(self) -> None:
        self.world = World(Random(5))
        self.room = self.world.classes[0]
        self.machine = self.world.enrol(Role.MACHINE, self.room)

    def copy_of(self, writer: Writer) -> Writer:
        key = self.world.new_key()
        payload = Successor.agreed(key, self.world.random.randbytes(32), None, self.room, writer.key.public).encode()
        return Writer(key, Role.MACHINE, self.room, self.world.say(writer, self.room, Kind.SUCCESSOR, payload).id)

    def hand_in(self, writer: Writer) -> Entry:
        content = HandIn(ContentRef(bytes(32), 1, 0), None).encode()
        return self.world.say(writer, self.room, Kind.HAND_IN, content, subject=bytes(16), target=bytes(32))

    def grant(self, writer: Writer, *parents: bytes) -> bytes:
        given = Grant(writer.key.public, bytes(32), None, Role.MACHINE, None, None).encode()
        return self.world.say(self.world.server, self.room, Kind.GRANT, given, parents=parents).id

    def cut(self, writer: Writer, *keep: Writer) -> bytes:
        heads = tuple(self.world.tips[self.room, each.key.public][0] for each in keep)
        revocation = Revocation(writer.key.public, heads).encode()
        return self.world.say(self.world.server, self.room, Kind.REVOKE, revocation).id

    async def replica(self) -> Replica:
        replica = await Replica.open(self.world.root.key.public, MemoryStore(), MemoryPacks())
        await replica.admit(self.world.entries, source=b"a carrier", now_ms=NOW_MS)
        return replica

    async def roster(self) -> Roster:
        return (await (await self.replica()).view(self.room)).roster


@pytest.fixture
def school() -> School:
    return School()


async def test_a_copy_that_somebody_confirmed_outlives_its_original_and_so_do_its_copies(school: School) -> None:
    clone = school.copy_of(school.machine)
    further = school.copy_of(clone)
    school.grant(clone)
    school.cut(school.machine, school.machine)
    roster = await school.roster()
    assert [roster.may_read(each.key.public) for each in (school.machine, clone, further)] == [False, True, True]


async def test_a_line_of_keys_is_counted_from_the_last_that_somebody_confirmed(school: School) -> None:
    line = [school.machine]
    for _ in range(3):
        line.append(school.copy_of(line[-1]))
    authorities = (await school.roster()).authorities

    def counted(*confirmed: Writer) -> list[int]:
        keys = {each.key.public for each in confirmed}
        return [line_since_confirmed(each.key.public, authorities, keys) for each in line]

    assert counted(school.machine) == [0, 1, 2, 3]
    assert counted(school.machine, line[2]) == [0, 1, 0, 1]
    assert counted() == [1, 2, 3, 4]


async def test_what_a_copy_had_brought_by_then_counts_and_what_comes_later_waits(school: School) -> None:
    clone = school.copy_of(school.machine)
    before = school.hand_in(clone)
    school.cut(school.machine, school.machine, clone)
    after = school.hand_in(clone)
    later = school.copy_of(clone)
    roster = await school.roster()
    assert before.id not in roster.held_back
    assert {after.id, later.grant} <= roster.held_back
    assert not roster.may_read(clone.key.public)


async def test_who_comes_back_brings_no_earlier_copy_back(school: School) -> None:
    thiefs = school.copy_of(school.machine)
    school.hand_in(thiefs)
    cut = school.cut(school.machine, school.machine, thiefs)
    school.machine.grant = school.grant(school.machine, cut)
    cloned_since = school.copy_of(school.machine)
    roster = await school.roster()
    found = [roster.may_read(each.key.public) for each in (school.machine, thiefs, cloned_since)]
    assert found == [True, False, True]


async def test_a_thief_takes_nobody_along_by_naming_their_keys(school: School) -> None:
    clone = school.copy_of(school.machine)
    thief = school.world.enrol(Role.MACHINE, school.room)
    payload = Successor.agreed(clone.key, bytes(32), None, school.room, thief.key.public).encode()
    school.world.say(thief, school.room, Kind.SUCCESSOR, payload)
    school.cut(thief, thief)
    assert (await school.roster()).may_read(clone.key.public)


async def test_too_many_copies_of_one_machine_keep_no_other_machines_copies_out(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 2)
    other = school.copy_of(school.world.enrol(Role.MACHINE, school.room))
    copies = [school.copy_of(school.machine) for _ in range(2)]
    copies += [school.copy_of(copies[-1]) for _ in range(2)]
    school.hand_in(copies[-1])
    roster = await school.roster()
    assert [roster.may_read(copy.key.public) for copy in copies] == [True, True, False, False]
    assert roster.may_read(other.key.public)
    assert not roster.held_back


async def test_the_line_of_a_key_is_found_to_both_its_ends(school: School) -> None:
    first = school.copy_of(school.machine)
    second = school.copy_of(first)
    known = (await school.replica()).door.authorities()
    assert successors_of(school.machine.key.public, known) == [first.key.public, second.key.public]
    assert predecessors_of(second.key.public, known) == [first.key.public, school.machine.key.public]
    assert predecessors_of(school.machine.key.public, known) == []


async def test_copies_that_somebody_confirmed_take_no_room_from_who_is_told_of_a_twin(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.rights.successions.MAX_SUCCESSORS", 4)
    copies = [school.copy_of(school.machine) for _ in range(2)]

    async def has_room() -> bool:
        replica = await school.replica()
        confirmed = confirmed_keys((await replica.view(school.room)).roster.authorities, ())
        return has_room_for_words(school.machine.grant or b"", list(replica.door.authorities()), confirmed)

    assert not await has_room()
    school.grant(copies[0])
    assert await has_room()
