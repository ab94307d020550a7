from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.roles import Role
from sync_server.handlers.overview.device_query import (
    PAGE_SIZES,
    DeviceQuery,
    DeviceSort,
    matching,
    plain,
    select,
    tally,
    versions_of,
    worst,
)
from sync_server.handlers.overview.devices import Device, DeviceState, needs_somebody
from sync_server.handlers.overview.schools import SchoolQuery, SchoolSort, class_rows, school_rows, select_schools
from sync_server.handlers.overview.survey import Snapshot
from sync_server.opened.contacts import Heard
from tests.harness.snapshots import CM1, CM2, FINE, FIRST, NOW_MS, SECOND, SIXTH, device, snapshot


def names(devices: object) -> list[str | None]:
    assert isinstance(devices, (list, tuple))
    return [each.name for each in devices]


@st.composite
def fleets(draw: st.DrawFn) -> Snapshot:
    random = Random(draw(st.integers(0, 10_000)))
    count = draw(st.integers(0, 60))
    made = []
    for number in range(count):
        health = (
            None
            if random.random() < 0.2
            else replace(
                FINE,
                name=random.choice(["Renard", "Hibou", "Écureuil", ""]),
                version=random.choice(["0.9.0", "0.10.0", "dev"]),
                backlog_entries=random.randrange(3),
                skew_ms=random.choice([None, 10**9]),
            )
        )
        heard = Heard(seen_ms=random.choice([None, NOW_MS - random.randrange(10**9)]))
        spaces = random.choice([(CM1,), (CM1, CM2), (SIXTH,), (b"a" * 32,), ()])
        lag_ms = random.choice([None, 0, random.randrange(10**9)])
        state = random.choice(list(DeviceState))
        made.append(Device(bytes([number]) * 32, Role.MACHINE, state, heard, health, spaces, lag_ms))
    return snapshot(*made)


queries = st.builds(
    DeviceQuery,
    text=st.sampled_from(["", "renard", "ECUREUIL", "cm1 0.10", "tilleuls", "0101", "nothing of the kind"]),
    states=st.frozensets(st.sampled_from(DeviceState), max_size=3),
    school=st.sampled_from([None, FIRST, SECOND, "0000000Z"]),
    version=st.sampled_from([None, "0.10.0", "1"]),
    needing=st.booleans(),
    sort=st.sampled_from(DeviceSort),
    descending=st.booleans(),
    rows=st.sampled_from(PAGE_SIZES),
)


@given(fleets(), queries)
def test_the_pages_together_are_all_rows_that_match_each_once_in_order(found: Snapshot, query: DeviceQuery) -> None:
    everything = matching(found, query)
    pages = [select(found, replace(query, page=page)) for page in range(1, select(found, query).pages + 1)]
    assert [row for page in pages for row in page.rows] == everything
    assert len({each.id for each in everything}) == len(everything) == pages[0].total


@given(fleets(), queries)
def test_the_counts_of_the_states_are_those_of_the_other_filters_and_add_up(
    found: Snapshot, query: DeviceQuery
) -> None:
    counts = select(found, query).counts
    others = matching(found, replace(query, states=frozenset()))
    assert counts == {state: Counter(each.state for each in others)[state] for state in DeviceState}
    assert sum(tally(found).values()) == len(found.devices)


@given(fleets(), queries)
def test_what_is_not_known_comes_last_whichever_way(found: Snapshot, query: DeviceQuery) -> None:
    rows = matching(found, replace(query, sort=DeviceSort.LAG))
    known = [each.lag_ms for each in rows if each.lag_ms is not None]
    assert [each.lag_ms for each in rows] == known + [None] * (len(rows) - len(known))
    assert known == sorted(known, reverse=query.descending)


def test_a_text_is_found_without_regard_to_case_and_accents_in_whatever_is_shown() -> None:
    owl = replace(device(2, name="Écureuil"), spaces=(SIXTH,))
    found = snapshot(device(1), owl)
    for text in ("ecureuil", "ÉCUREUIL", "6E b", SECOND.lower(), "02020202", "écu 0180002"):
        assert names(matching(found, DeviceQuery(text=text))) == ["Écureuil"], text
    assert names(matching(found, DeviceQuery(text="tilleuls windows"))) == ["Renard"]
    assert matching(found, DeviceQuery(text="renard 6e")) == []


def test_versions_are_sorted_by_their_numbers() -> None:
    made = [device(number, name=f"{number}") for number in range(4)]
    for each, version in zip(made, ("0.9.0", "0.10.0", "0.10.0.dev1", "unknown"), strict=True):
        assert each.health is not None
        made[made.index(each)] = replace(each, health=replace(each.health, version=version))
    assert versions_of(snapshot(*made)) == ["unknown", "0.10.0.dev1", "0.10.0", "0.9.0"]
    assert names(matching(snapshot(*made), DeviceQuery(sort=DeviceSort.VERSION))) == ["0", "1", "2", "3"]


def test_the_default_order_shows_the_worst_first() -> None:
    made = [device(number, name=state.value, state=state) for number, state in enumerate(DeviceState)]
    shown = names(matching(snapshot(*made), DeviceQuery()))
    assert shown[:4] == ["disk-full", "error", "silent", "late"]
    assert shown[-1] == "retired"
    assert names(worst(snapshot(*made), 3)) == ["disk-full", "error", "silent"]


@pytest.mark.parametrize(
    ("changed", "needs"),
    [
        ({}, False),
        ({"state": DeviceState.LATE}, True),
        ({"state": DeviceState.OFFLINE}, False),
        ({"oldest_ms": NOW_MS - 25 * 3600 * 1000}, True),
        ({"oldest_ms": NOW_MS - 23 * 3600 * 1000}, False),
        ({"health": replace(FINE, skew_ms=-11 * 60_000)}, True),
        ({"health": replace(FINE, skew_ms=9 * 60_000)}, False),
        ({"health": replace(FINE, free_bytes=10**8)}, True),
        ({"state": DeviceState.RETIRED, "health": replace(FINE, free_bytes=0)}, False),
    ],
)
def test_who_needs_somebody(changed: dict[str, object], needs: bool) -> None:
    assert needs_somebody(replace(device(1), **changed), NOW_MS) is needs  # type: ignore[arg-type]


def test_a_device_of_two_classes_counts_in_each_and_once_in_their_school() -> None:
    both = replace(device(1, state=DeviceState.LATE), spaces=(CM1, CM2), heard=Heard(current_ms=7))
    found = snapshot(both, replace(device(2), heard=Heard(current_ms=9)), replace(device(3), spaces=(SIXTH,)))
    first, second = school_rows(found)
    assert (first.standing.devices, first.standing.needing, first.standing.freshest_ms) == (2, 1, 9)
    assert (second.uai, second.standing.devices, second.standing.freshest_ms) == (SECOND, 1, None)
    assert [(row.name, row.standing.devices) for row in class_rows(found, FIRST)] == [("CM1", 2), ("CM2", 1)]
    assert first.standing.pending is None, "not looked at yet is not none"


def test_schools_are_found_sorted_and_paged() -> None:
    found = snapshot(replace(device(1, state=DeviceState.ERROR), spaces=(SIXTH,)), device(2))
    rows = school_rows(found)
    assert [row.uai for row in select_schools(rows, SchoolQuery()).rows] == [SECOND, FIRST]
    assert [row.uai for row in select_schools(rows, SchoolQuery(text="ecole")).rows] == [FIRST]
    last = select_schools(rows, SchoolQuery(sort=SchoolSort.NAME, rows=1, page=9))
    assert (last.page, last.pages, last.rows[0].uai) == (2, 2, FIRST)
    assert plain("École") == "ecole"
