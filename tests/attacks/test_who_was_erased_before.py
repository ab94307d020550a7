"""Who was erased before, or elsewhere, is erased further, again, or by somebody else (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protocol.clock import DAY_MS
from protocol.folds.erasing import Order
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Revocation, Ruling
from protocol.replica.at_work.destroyed import DONE_MARKS, destroyed
from protocol.replica.at_work.replica import Draft
from protocol.replica.interfaces import EntryStore
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device
from tests.harness.passing_days import sweep
from tests.harness.territory import Territory
from tests.harness.what_is_left import left

ROW = "who was erased before"


async def _nothing_is_in_doubt(*_: object) -> bool:
    return False


async def said_by(room: Classroom, head: Device, payload: bytes) -> Entry:
    """An erasure by a head teacher's computer, which the server hears of."""
    replica, school = head.agent.replica, room.territory.schools[0]
    (grant,) = await replica.authorities(head.agent.device)
    (said,) = await replica.write(
        [Draft(school, Kind.ERASE, grant.grant, payload)],
        author=head.agent.keys.signing,
        now_ms=room.territory.clock(),
        entropy=room.territory.entropy,
    )
    await room.territory.replica.admit([said], source=head.agent.device, now_ms=room.territory.clock())
    return said


@asynccontextmanager
async def erased_in_one_of_two_schools(folder: Path) -> AsyncIterator[tuple[Territory, Eraser, bytes, bytes]]:
    """Léa is in two schools: in the first she is destroyed, and in the other somebody else is."""
    territory = await Territory.create(folder / "server")
    one, other = await territory.school("A", "0180001X"), await territory.school("B", "0180002A")
    classes = await territory.classroom("CM1 A", one), await territory.classroom("CM1 B", other)
    lea, tom = [await territory.person(name, PersonRole.PUPIL, *classes) for name in ("Léa", "Tom")]
    eraser = Eraser(territory.replica, territory.holdings)
    await territory.say(one, Kind.ERASE, Erasure(lea).encode())
    await territory.say(territory.id, Kind.ERASE, Erasure(tom).encode())
    for _ in range(2):
        await eraser.sweep(territory.clock())
        territory.clock.advance(8 * DAY_MS)
    assert await left(territory, classes[0], lea) == 0
    try:
        yield territory, eraser, lea, classes[1]
    finally:
        await territory.close()


async def _no_second_look(_eraser: Eraser, _space: bytes, _sought: bytes, noted: bytes | None) -> int:
    return int.from_bytes((noted or b"")[:8], "big")


def _done_is_done(_order: object, record: object, _now_ms: int) -> bool:
    return record is not None


def _everywhere(order: Order, *_: object) -> bool:
    return order.is_done


DONE_IS_DONE: dict[str, object] = {
    "protocol.replica.upkeep.orders._is_done": _done_is_done,
    "protocol.replica.upkeep.eraser._is_done_at": _everywhere,
}


@attack(ROW, off={"protocol.replica.upkeep.eraser.Eraser._looked_at": _no_second_look})
async def test_who_is_erased_in_one_school_and_then_everywhere_is_destroyed_everywhere(tmp_path: Path) -> None:
    async with erased_in_one_of_two_schools(tmp_path) as (territory, eraser, lea, elsewhere):
        await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
        await eraser.sweep(territory.clock())
        territory.clock.advance(8 * DAY_MS)
        await eraser.sweep(territory.clock())
        assert await left(territory, elsewhere, lea) == 0


@attack(ROW, off=DONE_IS_DONE)
async def test_a_thief_who_erases_more_widely_who_was_erased_in_a_school_waits_the_seven_days(tmp_path: Path) -> None:
    async with erased_in_one_of_two_schools(tmp_path) as (territory, eraser, lea, elsewhere):
        await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
        for _ in range(6):
            await eraser.sweep(territory.clock())
            territory.clock.advance(DAY_MS)
        assert await left(territory, elsewhere, lea) == 1


@attack(ROW, off=DONE_IS_DONE)
async def test_who_is_shown_again_and_erased_again_is_destroyed_after_another_week(room: Classroom) -> None:
    territory, person = room.territory, room.pupil_person
    eraser = Eraser(territory.replica, territory.holdings)
    erasure = await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await sweep(territory, 8)
    await territory.kit_says(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    listed = PersonRecord("Léa", PersonRole.PUPIL).encode()
    await territory.say(room.space, Kind.PERSON, listed, subject=person)
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    for days in (6, 2):
        await eraser.sweep(territory.clock())
        territory.clock.advance(days * DAY_MS)
        assert await left(territory, room.space, person) == 1
    await eraser.sweep(territory.clock())
    assert await left(territory, room.space, person) == 0


async def _names_too(store: EntryStore) -> frozenset[bytes]:
    """As it was: what an earlier version had noted counted by the name alone, for whatever erasure."""
    found: set[bytes] = set()
    for name, record in (await destroyed(store)).items():
        found |= {name} if record.by is None else record.by
    return frozenset(found)


def _by_name(said: Mapping[bytes, Any], done: frozenset[bytes], *_: object) -> frozenset[bytes]:
    return frozenset(one for one, each in said.items() if one in done or each.erasure.covers in done)


@attack(
    ROW,
    off={
        "protocol.replica.at_work.replica.carried_out": _names_too,
        "protocol.rights.erasures._carried_out": _by_name,
        "protocol.replica.upkeep.orders._that_hold": lambda done, _ended: dict(done),
    },
)
async def test_whom_a_thief_had_erased_and_somebody_brought_back_no_upgrade_destroys(room: Classroom) -> None:
    territory, person = room.territory, room.pupil_person
    erasure = await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await sweep(territory, 3)
    await territory.say(territory.id, Kind.RULING, Ruling((), (erasure.id,)).encode())
    # as after an earlier version: it had destroyed, and taken back from others, and noted the name alone
    store = territory.replica.store
    await store.set_marks({f"{DONE_MARKS}{person.hex()}": (700_000).to_bytes(4, "big")})
    await territory.replica.reload()
    kept = await left(territory, room.space, person)
    assert kept
    territory.clock.advance(8 * DAY_MS)
    await sweep(territory, 1)
    assert await left(territory, room.space, person) == kept


async def _nothing_is_broken(*_: object) -> dict[str, bytes | None]:
    return {}


NOTHING_IS_IN_DOUBT: dict[str, object] = {
    "protocol.replica.upkeep.orders.is_in_doubt": _nothing_is_in_doubt,
    "protocol.replica.at_work.weeks.Weeks.broken": _nothing_is_broken,
}


@attack(ROW, off=NOTHING_IS_IN_DOUBT)
async def test_what_a_thief_ordered_before_the_report_ends_no_week_of_an_honest_word(room: Classroom) -> None:
    territory, person = room.territory, room.pupil_person
    thief = await room.head()
    erasure = await said_by(room, thief, Erasure(person).encode())
    await sweep(territory, 3)
    cut = Revocation(thief.agent.device, (erasure.id,)).encode()
    await territory.say(territory.schools[0], Kind.REVOKE, cut)
    kept = await left(territory, room.space, person)
    await sweep(territory, 3)
    await territory.say(territory.schools[0], Kind.ERASE, Erasure(person).encode())
    await sweep(territory, 6)
    assert await left(territory, room.space, person) == kept, "somebody may still see that it is wrong"
    await sweep(territory, 2)
    assert await left(territory, room.space, person) == 0
