"""Whom a machine knew before, and by whom: what it has noted of its classes (`sync_agent.machine.acquainted`)."""

from __future__ import annotations

from protocol.limits import ACQUAINTANCE_MS
from protocol.rights.speaking import DOUBTED, GONE
from protocol.rights.vouching import device_id
from sync_agent.machine.acquainted import Acquainted, InMind

CM1, CM2, ANOTHER, PETIT = b"1" * 32, b"2" * 32, b"3" * 32, b"p" * 16
HERS, STRANGERS = (b"h" * 32, b"H" * 32), (b"s" * 32, b"S" * 32)
NEXT, LAST = (b"n" * 32, b"N" * 32), (b"l" * 32, b"L" * 32)


def test_who_is_cut_off_where_they_were_met_first_stands_before_whom_nobody_has_met_all_the_same() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}},
        met={CM1: {device_id(HERS): 5}},
        heard={CM1: {PETIT: {HERS: 5}}, CM2: {PETIT: {HERS: 90}}},
        gone={CM1: {PETIT: (HERS,)}},
    )
    assert known.placed(PETIT, but=ANOTHER) == {HERS: 5 + GONE}
    assert known.placed(PETIT, but=CM1) == {HERS: 90 + DOUBTED}, "she was only heard there"


def test_whom_her_first_laptop_has_led_to_stands_right_behind_it_before_whom_this_one_met_meanwhile() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}, CM2: {PETIT: (STRANGERS,)}},
        met={CM1: {device_id(HERS): 5}, CM2: {device_id(STRANGERS): 50}},
        heard={CM1: {PETIT: {HERS: 5, NEXT: 70, LAST: 80}}, CM2: {PETIT: {STRANGERS: 50, NEXT: 1}}},
        gone={CM1: {PETIT: (HERS, LAST)}},
        led={CM1: {PETIT: (LAST, NEXT)}},
    )
    assert known.placed(PETIT, but=ANOTHER) == {NEXT: 7, STRANGERS: 50, HERS: 5 + GONE, LAST: 6 + GONE}
    assert known.placed(PETIT, but=CM1) == {STRANGERS: 50, NEXT: 1 + DOUBTED}, "what led there was said in the other"


def test_nor_is_she_doubted_there_who_was_heard_before_the_one_that_leads_to_her_came() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}, CM2: {PETIT: (HERS,)}},
        met={CM1: {device_id(HERS): 5}, CM2: {device_id(HERS): 90}},
        heard={CM2: {PETIT: {NEXT: 80, STRANGERS: 85}}},
        led={CM2: {PETIT: (NEXT,)}},
    )
    assert known.placed(PETIT, but=ANOTHER) == {HERS: 5, NEXT: 6, STRANGERS: 85 + DOUBTED}


async def test_when_the_week_of_whom_it_heard_before_is_over_it_is_said_that_folds_say_something_else() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}},
        met={CM1: {device_id(HERS): 5}},
        heard={CM1: {PETIT: {STRANGERS: 1, HERS: 5}}},
    )
    now_ms, said = 6, list[int]()

    def again() -> None:
        known.remember(now_ms)
        said.append(now_ms)

    again()
    in_mind = InMind(known, lambda: now_ms, again)
    assert (await in_mind.of(CM1)).heard_on == {PETIT: frozenset({STRANGERS})}
    now_ms += ACQUAINTANCE_MS
    assert (await in_mind.of(CM1)).heard_on == {}
    assert said == [6, now_ms], "once, as it ends"
