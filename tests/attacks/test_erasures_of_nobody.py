"""Names that somebody made up, or of other schools, are erased without end (docs/adr/0264)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import pytest

from protocol.folds.erasing import Order, Place
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.replica.at_work import views
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.classroom import Classroom
from tests.harness.passing_days import pass_days, sweep
from tests.harness.territory import Territory
from tests.harness.what_is_left import left
from tests.harness.work import counted_work

T = TypeVar("T")
ROW = "erasures of nobody, without end"


async def _nobody_stood(*_: object) -> dict[Place, int]:
    return {}


async def _all_are_here(_eraser: Eraser, orders: list[Order], _now_ms: int) -> list[Order]:
    return orders


@attack(
    ROW,
    off={
        "protocol.replica.upkeep.eraser.Eraser._with_presence": _all_are_here,
        "protocol.replica.upkeep.eraser.stood": _nobody_stood,
    },
)
async def test_erasures_of_people_who_are_not_here_keep_nobody_from_being_forgotten(room: Classroom) -> None:
    territory = room.territory
    for number in range(40):
        await territory.say(territory.id, Kind.ERASE, Erasure(bytes([number]) * 16).encode())
    await sweep(territory, 1)
    await territory.say(territory.schools[0], Kind.ERASE, Erasure(room.pupil_person).encode())
    await sweep(territory, 7)
    assert await left(territory, room.space, room.pupil_person) == 0


LISTED: Final = PersonRecord("x", PersonRole.PUPIL)


async def make_up(territory: Territory, space: bytes, names: Iterable[bytes], *said: PersonRecord) -> None:
    """List names, as whoever has the server's key may, one version of each after the other."""
    right = territory.certificate.id
    drafts = [Draft(space, Kind.PERSON, right, one.encode(), subject=name) for name in names for one in said]
    await say_all(territory, drafts)


async def erase_all(territory: Territory, names: Iterable[bytes]) -> list[bytes]:
    """Have them erased in the school; the erasures' ids."""
    school, right = territory.schools[0], territory.certificate.id
    return await say_all(territory, [Draft(school, Kind.ERASE, right, Erasure(name).encode()) for name in names])


async def say_all(territory: Territory, drafts: Sequence[Draft]) -> list[bytes]:
    said = await territory.replica.write(
        drafts, author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )
    return [entry.id for entry in said]


def made_up(territory: Territory, number: int = 40) -> list[bytes]:
    return [territory.entropy(16) for _ in range(number)]


async def is_forgotten_in_a_week(room: Classroom) -> bool:
    """Whether the class's pupil is, once somebody asks for it."""
    await room.territory.say(room.territory.schools[0], Kind.ERASE, Erasure(room.pupil_person).encode())
    await pass_days(room.territory, 8)
    return await left(room.territory, room.space, room.pupil_person) == 0


@attack(ROW, off={"protocol.replica.upkeep.eraser.stood": _nobody_stood})
async def test_names_that_never_stood_on_a_list_come_after_who_did(room: Classroom) -> None:
    territory, names = room.territory, made_up(room.territory)
    await pass_days(territory, 7)
    await make_up(territory, room.space, names, LISTED)
    await erase_all(territory, names)
    await sweep(territory, 1)
    assert await is_forgotten_in_a_week(room)


async def _all_that_were_ever_listed(replica: Replica, _names: Collection[bytes]) -> dict[Place, int]:
    said = await replica.store.scan_kinds([Kind.PERSON])
    return {Place(one.header.subject or b"", one.header.space): 7 for one in said}


@pytest.mark.parametrize("how", ["left", "the same", "no record", "above", "for a breath", "held back"])
@attack(ROW, off={"protocol.replica.upkeep.eraser.stood": _all_that_were_ever_listed})
async def test_names_that_no_list_ever_showed_come_after_who_stood_on_one(room: Classroom, how: str) -> None:
    territory, names = room.territory, made_up(room.territory)
    left_by_now = replace(LISTED, left=True)
    said = {
        "left": [left_by_now],
        "the same": [replace(LISTED, same_as=room.pupil_person)],
        "for a breath": [LISTED, left_by_now],
    }
    await pass_days(territory, 1)
    if how == "no record":
        right = territory.certificate.id
        await say_all(territory, [Draft(room.space, Kind.PERSON, right, b"\xa0", subject=name) for name in names])
    elif how == "held back":
        head = await room.head()
        await head.session.sync()
        right = (await head.agent.right(room.space, Kind.PERSON)).grant
        for name in names:
            await head.agent.write(Draft(room.space, Kind.PERSON, right, LISTED.encode(), subject=name))
        await head.session.sync()
        await territory.say(territory.schools[0], Kind.REVOKE, Revocation(head.agent.device, ()).encode())
    else:
        await make_up(
            territory, territory.schools[0] if how == "above" else room.space, names, *said.get(how, [LISTED])
        )
    await pass_days(territory, 8)
    await erase_all(territory, names)
    await sweep(territory, 1)
    assert await is_forgotten_in_a_week(room)


async def test_whom_a_list_has_shown_for_a_week_is_forgotten_in_turn_though_they_have_left_or_were_taken_back(
    room: Classroom,
) -> None:
    territory, (gone, back, *names) = room.territory, made_up(room.territory)
    await make_up(territory, room.space, [gone, back], LISTED)
    (erasure,) = await erase_all(territory, [back])
    await pass_days(territory, 1)
    await territory.say(territory.schools[0], Kind.RULING, Ruling((), (erasure,)).encode())
    await pass_days(territory, 8)
    await make_up(territory, room.space, [gone], replace(LISTED, left=True))
    await make_up(territory, room.space, names, LISTED)
    await erase_all(territory, names)
    await pass_days(territory, 1)
    await erase_all(territory, [gone, back])
    assert await is_forgotten_in_a_week(room)
    for name in (gone, back):
        assert await left(territory, room.space, name) == 0


@attack(ROW, off={"protocol.replica.upkeep.stood.FULL_DAYS": 0})
async def test_names_that_stood_hidden_come_no_earlier_once_they_are_erased_anew(room: Classroom) -> None:
    territory, names = room.territory, made_up(room.territory)
    await pass_days(territory, 6)
    await make_up(territory, room.space, names, LISTED)
    said = await erase_all(territory, names)
    await pass_days(territory, 6)
    await say_all(
        territory,
        [Draft(territory.schools[0], Kind.RULING, territory.certificate.id, Ruling((), tuple(said)).encode())],
    )
    await sweep(territory, 1)
    await erase_all(territory, names)
    await sweep(territory, 1)
    assert await is_forgotten_in_a_week(room)


def _as_they_came(each: Iterable[T], _space_of: object) -> list[T]:
    return list(each)


@attack(
    ROW,
    off={
        "protocol.replica.upkeep.orders.by_space": _as_they_came,
        "protocol.replica.at_work.bare_entries.by_space": _as_they_came,
    },
)
async def test_a_look_folds_each_class_once_however_many_erasures_were_said_by_turns(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory = room.territory
    classes = [room.space, await territory.classroom("CE1"), await territory.classroom("CE2")]
    for space in classes:
        await territory.crowd(100, space)
    monkeypatch.setattr(views, "KEPT_BYTES", 0)
    costs = []
    for _ in range(3):
        with counted_work() as work:
            await Eraser(territory.replica, territory.holdings).sweep(territory.clock())
            await territory.replica.bare.lacking()
        costs.append(work.lines)
        for space in classes * 4:
            await territory.say(space, Kind.ERASE, Erasure(territory.entropy(16)).encode())
    assert costs[2] < 1.5 * costs[1]


async def _never_alike(*_: object) -> bool:
    return False


@attack(ROW, off={"protocol.replica.upkeep.eraser.judge_alike": _never_alike})
async def test_a_look_reads_all_that_was_ever_erased_once_however_much_comes_meanwhile(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory = room.territory
    classes = [room.space, *[await territory.classroom(name) for name in ("CE1", "CE2", "CM1")]]
    pupil = await territory.person("Léa", PersonRole.PUPIL, *classes)
    await territory.say(territory.id, Kind.ERASE, Erasure(pupil).encode())
    await erase_all(territory, made_up(territory, 100))
    await pass_days(territory, 8)
    sweep_space = Eraser._sweep_space

    async def while_somebody_is_listed(eraser: Eraser, space: bytes, *sought: object) -> list[bytes]:
        await territory.person("Tom", PersonRole.PUPIL, room.space)
        return await sweep_space(eraser, space, *sought)  # type: ignore[arg-type]

    costs = []
    for step in (sweep_space, while_somebody_is_listed):
        monkeypatch.setattr(Eraser, "_sweep_space", step)
        for space in classes:
            await territory.person("Zoé", PersonRole.PUPIL, space)
        with counted_work() as work:
            await Eraser(territory.replica, territory.holdings).sweep(territory.clock())
        costs.append(work.lines)
    assert costs[1] < 1.4 * costs[0]
