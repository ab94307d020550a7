"""A copied key has written one child of each class under one id, and erases that one id (docs/adr/0454)."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from protocol.clock import DAY_MS
from protocol.folds.erasing import Order, Place, day_of
from protocol.limits import MAX_ERASED_PER_DAY
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.replica.at_work.destroyed import PLACE_MARKS, carried_out, destroyed_names, places_taken
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.passing_days import pass_days

ROW = "one id is a child of each class"
CLASSES = 7


class OneId:
    """A territory in which the lists of seven classes have one id, and what is left of that at its server."""

    def __init__(self, room: Classroom, classes: list[bytes], id_: bytes) -> None:
        self.territory, self.classes, self.id = room.territory, classes, id_
        self.store, self.clock = room.territory.replica.store, room.territory.clock

    async def erase(self) -> Entry:
        """At the word of whoever has the key."""
        return await self.territory.say(self.territory.id, Kind.ERASE, Erasure(self.id).encode())

    async def lists(self, space: bytes) -> None:
        """One more word about the child there."""
        said = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await self.territory.say(space, Kind.PERSON, said, subject=self.id)

    async def left(self) -> int:
        """In how many classes anything of the child there is left."""
        said = await self.store.scan_kinds([Kind.PERSON])
        return len({one.header.space for one in said if one.header.subject == self.id and one.payload is not None})

    async def shown(self) -> int:
        """On how many lists it stands."""
        lists = [(await self.territory.replica.view(space)).roster.persons.keys() for space in self.classes]
        return sum(self.id in persons for persons in lists)

    async def look(self) -> int:
        """The server's, for what is to be destroyed; how many names it says that it has destroyed."""
        return (await Eraser(self.territory.replica, self.territory.holdings).sweep(self.clock())).names

    async def days(self, count: int) -> list[int]:
        """What is left after the look of each of these days."""
        found = []
        for _ in range(count):
            self.clock.advance(DAY_MS)
            await self.look()
            found.append(await self.left())
        return found

    async def is_noted(self) -> bool:
        """Whether the id counts as destroyed there."""
        return self.id in await destroyed_names(self.store) or bool(await carried_out(self.store))


@pytest.fixture
async def one(room: Classroom) -> OneId:
    classes = [await room.territory.classroom(f"Classe {number}") for number in range(CLASSES)]
    found = OneId(room, classes, await room.territory.person("Léa", PersonRole.PUPIL, *classes))
    await pass_days(room.territory, 1)
    return found


ONE_FOR_ALL: dict[str, object] = {
    "protocol.folds.erasing.Order.place": property(lambda order: Place(order.covers, b"")),
}


@attack(ROW, off=ONE_FOR_ALL)
async def test_one_erasure_of_a_child_of_each_class_destroys_five_of_them_a_day(one: OneId) -> None:
    await one.erase()
    await one.look()
    assert await one.days(6) == [CLASSES] * 6
    assert await one.days(1) == [CLASSES - MAX_ERASED_PER_DAY]
    assert await one.look() == 0
    assert await one.left() == CLASSES - MAX_ERASED_PER_DAY, "nor at any other look of that day"
    assert await one.days(1) == [0]


def _whatever_is_left(_orders: object, obeyed: Collection[object]) -> list[object]:
    return list(obeyed)


@attack(ROW, off={"protocol.replica.upkeep.eraser.carried_out_whole": _whatever_is_left})
async def test_whose_work_has_gone_in_some_classes_is_taken_back_in_the_others(one: OneId) -> None:
    erasure = await one.erase()
    await one.look()
    await one.days(7)
    assert not await one.is_noted()
    await one.territory.say(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    for space in one.classes:
        await one.lists(space)
    assert await one.days(3) == [CLASSES - MAX_ERASED_PER_DAY] * 3, "where it had gone it goes again"
    assert await one.shown() == CLASSES - MAX_ERASED_PER_DAY
    places = [taken.day for place, taken in (await places_taken(one.store)).items() if place.name == one.id]
    assert day_of(one.clock(), 0) not in places, "and takes no place"


async def test_whose_work_has_gone_in_some_classes_is_shown_there_again_by_the_kits_word(one: OneId) -> None:
    erasure = await one.erase()
    await one.look()
    await one.days(7)
    await one.territory.say(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await one.days(1)
    await one.territory.kit_says(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    for space in one.classes:
        await one.lists(space)
    assert await one.days(8) == [CLASSES] * 8
    assert await one.shown() == CLASSES


async def test_once_it_has_gone_in_the_last_class_it_is_destroyed_in_all(one: OneId) -> None:
    erasure = await one.erase()
    await one.look()
    await one.days(7)
    one.clock.advance(DAY_MS)
    assert await one.look() == 1
    assert await carried_out(one.store) == {erasure.id}
    await one.territory.say(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    for space in one.classes:
        await one.lists(space)
    await one.look()
    assert await one.left() == 0, "whatever comes back goes, and is not counted"


async def test_what_comes_back_where_it_had_gone_goes_again_and_keeps_nobody_waiting(one: OneId) -> None:
    await one.erase()
    await one.look()
    await one.days(7)
    for space in one.classes:
        await one.lists(space)
    assert await one.left() == CLASSES
    await one.look()
    assert await one.left() == CLASSES - MAX_ERASED_PER_DAY
    assert await one.days(1) == [0]


async def test_who_is_erased_anew_after_being_taken_back_half_way_waits_where_nothing_had_gone(one: OneId) -> None:
    erasure = await one.erase()
    await one.look()
    await one.days(7)
    await one.territory.say(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await one.look()
    await one.erase()
    for space in one.classes:
        await one.lists(space)
    assert await one.days(7) == [CLASSES - MAX_ERASED_PER_DAY] * 7, "and its week is its own"
    assert await one.days(1) == [0]


@pytest.mark.parametrize("killed_after", [0, 3])
async def test_a_program_that_is_killed_half_way_destroys_no_sixth_that_day_and_goes_on_the_next(
    one: OneId, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    await one.erase()
    await one.look()
    await one.days(6)
    one.clock.advance(DAY_MS)
    erase, calls = one.store.erase, list[int]()

    async def killed(names: Collection[bytes], marks: dict[str, bytes | None]) -> None:
        if names:
            calls.append(len(calls))
            if len(calls) > killed_after:
                raise KeyboardInterrupt
        await erase(names, marks)

    with monkeypatch.context() as patched:
        patched.setattr(one.store, "erase", killed)
        with pytest.raises(KeyboardInterrupt):
            await one.look()
    assert not await one.is_noted()
    for _ in range(3):
        await one.look()
        assert await one.left() == CLASSES - MAX_ERASED_PER_DAY
    assert await one.days(1) == [0]
    assert await one.is_noted()


async def test_who_stands_on_two_lists_takes_two_places_and_goes_on_one_day(one: OneId) -> None:
    twice = [await one.territory.person(f"P{number}", PersonRole.PUPIL, *one.classes[:2]) for number in range(3)]
    for person in twice:
        await one.territory.say(one.territory.id, Kind.ERASE, Erasure(person).encode())
    await one.look()
    one.clock.advance(8 * DAY_MS)
    assert await one.look() == 2
    assert len(await places_taken(one.store)) == MAX_ERASED_PER_DAY
    one.clock.advance(DAY_MS)
    assert await one.look() == 1
    assert await destroyed_names(one.store) == {*twice}


async def test_a_place_that_an_earlier_version_noted_for_the_name_is_one_of_that_day(one: OneId) -> None:
    await one.erase()
    await one.look()
    await one.days(6)
    one.clock.advance(DAY_MS)
    today = day_of(one.clock(), 0)
    await one.store.set_marks({PLACE_MARKS + bytes(16).hex(): today.to_bytes(4, "big")})
    await one.look()
    assert await one.left() == CLASSES - MAX_ERASED_PER_DAY + 1
    assert await one.days(1) == [0]
    assert PLACE_MARKS + bytes(16).hex() not in await one.store.marks(PLACE_MARKS)


def _everywhere(order: Order, *_: object) -> bool:
    """As it was: a name that was destroyed is so wherever it comes, in whichever class."""
    return order.is_done


async def _of_one_class(one: OneId) -> Entry:
    """A child of the first class alone, who is destroyed; then the erasure is taken back. What erased them."""
    one.id = await one.territory.person("Tom", PersonRole.PUPIL, one.classes[0])
    erasure = await one.erase()
    await one.look()
    await one.days(8)
    assert await one.is_noted()
    await one.territory.say(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    return erasure


@attack(ROW, off={"protocol.replica.upkeep.eraser._is_done_at": _everywhere})
async def test_children_of_other_classes_who_are_listed_later_under_a_destroyed_id_go_five_a_day(one: OneId) -> None:
    await _of_one_class(one)
    for space in one.classes:
        await one.lists(space)
    await one.look()
    await one.look()
    assert await one.left() == CLASSES - 1 - MAX_ERASED_PER_DAY, "without the class in which it had gone before"
    assert await one.days(1) == [0]


async def test_where_it_had_gone_is_noted_for_as_long_as_the_id_is_and_counted_no_more(one: OneId) -> None:
    erasure = await _of_one_class(one)
    await one.days(3)
    await one.lists(one.classes[0])
    assert await one.days(1) == [0]
    taken = await places_taken(one.store)
    assert taken[Place(one.id, one.classes[0])].day < day_of(one.clock(), 0)
    await one.territory.kit_says(one.territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    await one.days(2)
    assert not [place for place in await places_taken(one.store) if place.name == one.id]


async def test_where_an_earlier_version_had_destroyed_an_id_is_where_anything_of_it_is_now(one: OneId) -> None:
    await _of_one_class(one)
    marks = await one.store.marks(PLACE_MARKS)
    await one.store.set_marks(dict.fromkeys(marks))
    await one.look()
    assert {place.space for place in await places_taken(one.store) if place.name == one.id} == {one.classes[0]}
    for space in one.classes:
        await one.lists(space)
    await one.look()
    assert await one.left() == CLASSES - 1 - MAX_ERASED_PER_DAY
