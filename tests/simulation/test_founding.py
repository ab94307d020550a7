"""What histories begin with."""

from __future__ import annotations

from protocol.replica.interfaces import EntryStore
from protocol.replica.office.arrivals import ARRIVAL_MARKS
from tests.simulation.quick import quickly
from tests.simulation.run import _crowded
from tests.simulation.virtual_time import run


def test_no_clock_has_shown_a_later_time_than_that_at_which_a_history_begins() -> None:
    with quickly():
        begun = _crowded()
    disks = [begun.server.disk, *(birth.disk for birth in begun.machines)]
    said = [entry.timestamp_ms for disk in disks for entry in disk.store._entries.values()]
    noted = [at_ms for at_ms, _ in begun.server.disk.noted]
    known = run(_noted_at(begun.server.disk.store))
    assert noted
    assert known
    assert max(*said, *noted, *known) <= begun.begins_ms


async def _noted_at(store: EntryStore) -> list[int]:
    return [int(mark.removeprefix(ARRIVAL_MARKS)) for mark in await store.marks(ARRIVAL_MARKS)]
