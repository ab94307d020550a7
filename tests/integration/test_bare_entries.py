"""What lost its payload to an erasure that was taken back comes again from whoever has it, by every way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.bare_entries import Lacking, Rounds, page_of
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import is_erasable
from protocol.roles import PersonRole
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.entries import EntryMaker
from tests.harness.lan import exchange


class Erased:
    """A class in which a pupil was erased, of whom a machine has come to hold the headers alone."""

    def __init__(self, room: Classroom, person: bytes, erasure: Entry, whole: list[Entry]) -> None:
        self.room, self.person, self.erasure, self.whole = room, person, erasure, whole

    async def take_back(self) -> None:
        territory = self.room.territory
        await territory.say(territory.id, Kind.RULING, Ruling((), (self.erasure.id,)).encode())

    async def knows(self, replica: Replica) -> bool:
        return self.person in (await replica.view(self.room.space)).roster.persons

    def bare(self) -> list[Entry]:
        return [replace(each, salt=None, payload=None) if is_erasable(each.header) else each for each in self.whole]


@pytest.fixture
async def erased(tmp_path: Path) -> AsyncIterator[Erased]:
    async with classroom(tmp_path) as room:
        territory = room.territory
        person = await territory.person("Camille", PersonRole.PUPIL, room.space)
        erasure = await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
        yield Erased(room, person, erasure, [stored.entry for stored in await territory.replica.store.scan(room.space)])


async def blind(erased: Erased) -> Device:
    """A machine that holds headers alone, and has heard that the erasure was taken back."""
    territory, machine = erased.room.territory, await erased.room.machine()
    replica = machine.agent.replica
    for space in (territory.id, erased.room.territory.schools[0]):
        above = [stored.entry for stored in await territory.replica.store.scan(space)]
        await replica.admit(above, source=b"x", now_ms=territory.clock())
    await replica.admit(erased.bare(), source=b"x", now_ms=territory.clock())
    return machine


async def test_a_machine_asks_the_server_for_what_it_lacks(erased: Erased) -> None:
    await erased.take_back()
    machine = await blind(erased)
    assert not await erased.knows(machine.agent.replica)
    await machine.session.sync()
    assert await erased.knows(machine.agent.replica)
    assert not await machine.agent.replica.bare.lacking()


async def test_the_server_asks_a_machine_for_what_it_lacks(erased: Erased) -> None:
    machine = await erased.room.machine()
    await machine.agent.replica.admit(erased.whole, source=b"x", now_ms=erased.room.territory.clock())
    await machine.session.sync()
    server = erased.room.territory.replica
    await server.store.erase([entry.id for entry in erased.whole if is_erasable(entry.header)])
    await server.reload()
    await erased.take_back()
    assert not await erased.knows(server)
    await machine.session.sync()
    assert await erased.knows(server)


async def test_a_neighbour_that_is_called_asks_too(erased: Erased) -> None:
    await erased.take_back()
    machine, other = await blind(erased), await erased.room.machine()
    await other.session.sync()
    await exchange(other.agent, machine.agent)
    assert await erased.knows(machine.agent.replica)


async def test_while_an_erasure_is_in_force_nothing_is_asked_for_and_nothing_is_taken(erased: Erased) -> None:
    machine = await blind(erased)
    replica = machine.agent.replica
    assert await replica.bare.lacking() == ()
    admission = await replica.admit(erased.whole, source=b"x", now_ms=erased.room.territory.clock())
    assert admission.filled == ()
    assert not await replica.bare.whole([entry.id for entry in erased.whole], [])
    assert await replica.store.bare()


async def test_another_payload_than_the_signed_one_is_not_taken(erased: Erased) -> None:
    await erased.take_back()
    machine = await blind(erased)
    person = next(entry for entry in erased.whole if entry.header.subject == erased.person)
    forged = replace(person, payload=b"\x80")
    await machine.agent.replica.admit([forged], source=b"x", now_ms=erased.room.territory.clock())
    assert not await erased.knows(machine.agent.replica)


def test_everybody_is_asked_once_and_after_a_while_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.bare_entries.MAX_BARE_IDS", 2)
    rounds, here = Rounds(), bytes(32)
    lacking = tuple((here, bytes([number]) * 32) for number in range(3))
    ids = [name for _, name in lacking]
    assert [rounds.next(b"one", lacking, {here}) for _ in range(3)] == [tuple(ids[:2]), tuple(ids[2:]), ()]
    assert rounds.next(b"other", lacking, {here}) == tuple(ids[:2])
    assert any(rounds.next(b"one", lacking, {here}) for _ in range(50)), "somebody may have it by then"
    assert rounds.next(b"third", lacking, set()) == ()
    late = bytes([9]) * 32
    assert rounds.next(b"one", ((here, late), *lacking), {here}) == (ids[2], late)


def test_whoever_brings_more_each_time_has_nothing_that_lacked_before_left_unasked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.bare_entries.MAX_BARE_IDS", 2)
    rounds, here, elsewhere = Rounds(), bytes(32), bytes([1]) * 32
    lacking: Lacking = tuple((elsewhere, bytes([0, number]) * 16) for number in range(5))
    wanted = tuple((here, bytes([1, number]) * 16) for number in range(5))
    asked: set[bytes] = set()
    for number in range(5):
        lacking = (*lacking, (here, bytes([2, number]) * 16))
        asked.update(rounds.next(b"one", (*lacking, *wanted), {here}))
    assert asked >= {name for _, name in wanted}, "and what no space in common holds ends nothing"


def test_whoever_brings_one_header_more_with_each_call_is_asked_again_all_the_same() -> None:
    rounds, here, first = Rounds(), bytes(32), bytes([9]) * 32
    lacking: Lacking = ((here, first),)
    assert rounds.next(b"one", lacking, {here}) == (first,)
    asked = []
    for number in range(100):
        lacking = (*lacking, (here, number.to_bytes(32, "big")))
        asked.append(first in rounds.next(b"one", lacking, {here}))
    assert any(asked), "it may have it by then"


def test_over_new_links_what_lacks_is_asked_for_from_where_the_last_one_came_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.replica.at_work.bare_entries.MAX_BARE_IDS", 2)
    rounds, here = Rounds(), bytes(32)
    lacking: Lacking = tuple((here, bytes([number]) * 32) for number in range(5))
    asked = []
    for _ in range(4):
        rounds.begin(b"one")
        asked.append(rounds.next(b"one", lacking, {here}))
    ids = [name for _, name in lacking]
    assert asked == [tuple(ids[:2]), tuple(ids[2:4]), tuple(ids[4:]), tuple(ids[:2])]


@pytest.mark.parametrize("copies", [2, 3, 4])
def test_copies_of_a_device_that_call_by_turns_are_all_asked(copies: int) -> None:
    rounds, here = Rounds(), bytes(32)
    asked = {turn % copies for turn in range(40 * copies) if rounds.next(b"one", ((here, here),), {here})}
    assert asked == set(range(copies)), "only one of them may have it"


def test_a_message_takes_as_many_as_have_room_and_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.replica.at_work.bare_entries.PAGE_BYTES", 1)
    entries = EntryMaker().entries(3)
    assert page_of(entries) == tuple(entries[:1])
