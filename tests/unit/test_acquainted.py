"""Whom a machine knew before, and by whom: what it has noted of its classes (`sync_agent.machine.acquainted`)."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import ACQUAINTANCE_MS
from protocol.rights.speaking import DOUBTED, GONE
from protocol.rights.vouching import Device, device_id
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
    assert known.orders().placed(PETIT, but=ANOTHER) == {HERS: 5 + GONE}
    assert known.orders().placed(PETIT, but=CM1) == {HERS: 90 + DOUBTED}, "she was only heard there"


def test_whom_her_first_laptop_has_led_to_stands_right_behind_it_before_whom_this_one_met_meanwhile() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}, CM2: {PETIT: (STRANGERS,)}},
        met={CM1: {device_id(HERS): 5}, CM2: {device_id(STRANGERS): 50}},
        heard={CM1: {PETIT: {HERS: 5, NEXT: 70, LAST: 80}}, CM2: {PETIT: {STRANGERS: 50, NEXT: 1}}},
        gone={CM1: {PETIT: (HERS, LAST)}},
        led={CM1: {PETIT: (LAST, NEXT)}},
    )
    orders = known.orders()
    assert orders.placed(PETIT, but=ANOTHER) == {NEXT: 7, STRANGERS: 50, HERS: 5 + GONE, LAST: 6 + GONE}
    assert orders.placed(PETIT, but=CM1) == {STRANGERS: 50, NEXT: 1 + DOUBTED}, "what led there was said in the other"


def test_nor_is_she_doubted_there_who_was_heard_before_the_one_that_leads_to_her_came() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}, CM2: {PETIT: (HERS,)}},
        met={CM1: {device_id(HERS): 5}, CM2: {device_id(HERS): 90}},
        heard={CM2: {PETIT: {NEXT: 80, STRANGERS: 85}}},
        led={CM2: {PETIT: (NEXT,)}},
    )
    assert known.orders().placed(PETIT, but=ANOTHER) == {HERS: 5, NEXT: 6, STRANGERS: 85 + DOUBTED}


T = TypeVar("T")
DEVICES = [(bytes([number]) * 32, bytes([number + 100]) * 32) for number in range(5)]
CLASSES = [CM1, CM2, ANOTHER, b"4" * 32]


def notes_something(known: Acquainted, space: bytes, random: Random) -> None:
    """What one look may note of a class."""
    some = tuple(random.sample(DEVICES, random.randrange(4)))
    times = {each: random.randrange(1, 9) for each in some}
    what = random.choice([known.first, known.gone, known.led])
    what.setdefault(space, {})[PETIT] = some
    known.met.setdefault(space, {}).update({device_id(each): at_ms for each, at_ms in times.items()})
    if random.random() < 0.5:
        known.heard.setdefault(space, {})[PETIT] = times


def _but(noted: dict[bytes, T], space: bytes) -> dict[bytes, T]:
    return {one: said for one, said in noted.items() if one != space}


@given(random=st.randoms(use_true_random=False))
def test_the_order_by_all_classes_but_one_is_that_of_who_never_saw_that_one_whatever_is_noted_meanwhile(
    random: Random,
) -> None:
    known = Acquainted()
    orders = known.orders()
    for _ in range(12):
        space, other = random.sample(CLASSES, 2)
        notes_something(known, space, random)
        orders.noted(space)
        elsewhere = Acquainted(
            _but(known.first, other),
            _but(known.met, other),
            heard=_but(known.heard, other),
            gone=_but(known.gone, other),
            led=_but(known.led, other),
        )
        assert orders.placed(PETIT, but=other) == elsewhere.orders().placed(PETIT, but=other)


class Counted(dict[bytes, T]):
    """Notes of classes that count how often one is looked up."""

    looked_up = 0

    def get(self, space: bytes, default: Any = None) -> Any:
        self.looked_up += 1
        return super().get(space, default)


def test_who_looks_at_hundreds_of_classes_one_after_the_other_looks_no_class_up_for_each_of_the_others() -> None:
    classes = [number.to_bytes(32) for number in range(300)]
    first: Counted[dict[bytes, tuple[Device, ...]]] = Counted({space: {PETIT: (HERS,)} for space in classes})
    known = Acquainted(first=first, met={space: {device_id(HERS): 5} for space in classes})
    orders = known.orders()
    for space in classes:
        assert orders.placed(PETIT, but=space) == {HERS: 5}
        orders.noted(space)
    assert first.looked_up < 20 * len(classes)


async def test_when_the_week_of_whom_it_heard_before_is_over_it_is_said_that_folds_say_something_else() -> None:
    known = Acquainted(
        first={CM1: {PETIT: (HERS,)}},
        met={CM1: {device_id(HERS): 5}},
        heard={CM1: {PETIT: {STRANGERS: 1, HERS: 5}}},
    )
    now_ms, said = 6, list[int]()

    def again() -> None:
        known.remember(now_ms, lambda space: (space,))
        said.append(now_ms)

    again()
    in_mind = InMind(known, lambda: now_ms, again)
    assert (await in_mind.of(CM1)).heard_on == {PETIT: frozenset({STRANGERS})}
    now_ms += ACQUAINTANCE_MS
    assert (await in_mind.of(CM1)).heard_on == {}
    assert said == [6, now_ms], "once, as it ends"
