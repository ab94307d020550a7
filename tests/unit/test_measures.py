"""Drills and quarantines: what is in force, by the set and by a machine's clock (docs/protocol.md, "Measures")."""

from __future__ import annotations

from random import Random

import pytest

from protocol.canonical import encode
from protocol.folds.measures import Drill, DrillOrder, Measures, QuarantineOrder, fold_measures
from protocol.limits import MAX_DRILL_LEAD_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.rights.door import Door
from protocol.rights.roster import fold_roster
from protocol.roles import Role
from tests.harness.history import World, Writer

START = 1_795_000_000_000
MINUTE = 60_000


def drill(minutes: int = 30, stopped_ms: int | None = None) -> Drill:
    return Drill(b"d" * 32, b"s" * 32, b"k" * 32, START, minutes, stopped_ms)


@pytest.mark.parametrize(
    ("seen", "now", "running"),
    [
        pytest.param(0, 0, True, id="at once"),
        pytest.param(10, 29, True, id="heard of late"),
        pytest.param(10, 30, False, id="over, however late it was heard of"),
        pytest.param(31, 31, False, id="heard of when it was over: it does not begin"),
        pytest.param(3 * 1440, 3 * 1440, False, id="a machine that was off for days"),
        pytest.param(-20, 9, True, id="a clock that is behind: as long as it was to be"),
        pytest.param(-20, 10, False, id="and no longer"),
        pytest.param(-2 * 1440, -2 * 1440, False, id="a clock of another day begins none"),
        pytest.param(-4 * 60, -4 * 60, False, id="ordered for this afternoon: not this morning"),
        pytest.param(5, 4, False, id="a clock that was set back ends it"),
    ],
)
def test_a_drill_ends_by_itself_whatever_the_clock(seen: int, now: int, *, running: bool) -> None:
    assert drill().runs(START + seen * MINUTE, START + now * MINUTE) is running
    assert not drill(stopped_ms=START + 1).runs(START + seen * MINUTE, START + now * MINUTE)
    assert MAX_DRILL_LEAD_MS < 4 * 60 * MINUTE


@pytest.fixture
def world() -> World:
    return World(Random(7))


def order(
    world: World, writer: Writer, kind: Kind, payload: bytes, *, target: bytes | None = None, lifts: Entry | None = None
) -> Entry:
    parents = () if lifts is None else (lifts.id,)
    return world.say(writer, world.school, kind, payload, target=target, parents=parents)


def measures(world: World) -> Measures:
    """What is in force by all that was written, in whatever order it came."""
    door = Door(world.root.key.public)
    for entry in world.entries:
        door.learn(entry)
    own = world.in_space(world.school)
    roster = fold_roster(world.school, own, world.in_space(world.territory), door)
    found, again = fold_measures(own, roster, door), fold_measures(own[::-1], roster, door)
    assert found == again
    return found


ON, OFF = QuarantineOrder(on=True).encode(), QuarantineOrder(on=False).encode()


@pytest.mark.parametrize(
    ("imposed_by", "lifted_by", "lifted"),
    [
        (Role.HEAD, Role.HEAD, True),
        (Role.HEAD, Role.ADMIN, True),
        (Role.ADMIN, Role.HEAD, False),
        (Role.ADMIN, Role.ADMIN, True),
    ],
)
def test_a_quarantine_is_lifted_by_who_ranks_no_lower(
    world: World, imposed_by: Role, lifted_by: Role, *, lifted: bool
) -> None:
    first, second = (world.enrol(role, world.school) for role in (imposed_by, lifted_by))
    imposed = order(world, first, Kind.QUARANTINE, ON)
    assert [each.by for each in measures(world).quarantines] == [first.key.public]
    order(world, second, Kind.QUARANTINE, OFF, lifts=imposed)
    assert (not measures(world).quarantines) is lifted


def test_a_drill_is_ended_by_a_second_order_and_nonsense_is_passed_over(world: World) -> None:
    head = world.enrol(Role.HEAD, world.school)
    begun = order(world, head, Kind.DRILL, DrillOrder(30).encode())
    order(world, head, Kind.DRILL, encode({"minutes": 10_000}))
    order(world, head, Kind.DRILL, DrillOrder().encode())
    order(world, head, Kind.QUARANTINE, encode({"on": 1}))
    (found,) = measures(world).drills
    assert (found.id, found.minutes, found.stopped_ms) == (begun.id, 30, None)
    order(world, head, Kind.DRILL, DrillOrder().encode(), target=begun.id)
    (found,) = measures(world).drills
    assert found.stopped_ms is not None
    assert found.start_ms <= found.end_ms <= found.start_ms + 30 * MINUTE
    assert not measures(world).quarantines


def test_who_was_cut_off_orders_nothing(world: World) -> None:
    head = world.enrol(Role.HEAD, world.school)
    world.say(world.server, world.school, Kind.REVOKE, Revocation(head.key.public, ()).encode())
    order(world, head, Kind.DRILL, DrillOrder(30).encode())
    imposed = order(world, head, Kind.QUARANTINE, ON)
    found = measures(world)
    assert (found.drills, found.quarantines) == ((), ())
    assert [each.id for each in found.doubted] == [imposed.id], "a machine that did not hear of it keeps to it"
