"""Where devices of the school were met: what is kept of that, for how long, and where it is worth a try."""

from __future__ import annotations

from protocol.clock import DAY_MS
from sync_agent.lan.finding.places_met import MAX_NAMED, MAX_PLACES, NAMED_MS, Places, with_met, with_named, worth_a_try
from sync_agent.machine.addresses import Address

NOW = 1_790_000_000_000


def at(number: int) -> Address:
    return Address(f"192.168.1.{number}", 8443)


def device(number: int) -> bytes:
    return number.to_bytes(32, "big")


def met(*numbers: int) -> Places:
    places: Places = ()
    for number in numbers:
        places = with_met(places, at(number), device(number), NOW + number)
    return places


def test_of_each_device_the_last_place_is_kept_and_of_all_those_met_last() -> None:
    places = met(*range(1, MAX_PLACES + 10))
    assert len(places) == MAX_PLACES
    assert places[0].address == at(MAX_PLACES + 9)
    moved = with_met(places, at(250), places[3].device, NOW + 300)
    assert moved[0].address == at(250)
    assert places[3].address not in {place.address for place in moved}
    another = with_met(moved, at(250), device(99), NOW + 400)
    assert [place.device for place in another if place.address == at(250)] == [device(99)], "an address is one device's"


def test_who_is_met_again_is_written_down_once_a_day() -> None:
    places = met(1)
    assert with_met(places, at(1), device(1), NOW + DAY_MS // 2) is places
    assert with_met(places, at(1), device(1), NOW + 2 * DAY_MS) != places


def test_an_address_of_the_link_alone_is_not_kept_for_it_means_nothing_at_the_next_start() -> None:
    assert with_met((), Address("fe80::7%2", 8443), device(1), NOW) == ()
    assert with_named((), Address("fe80::7", 8443), NOW) == ()
    assert with_named((), Address("169.254.3.4", 8443), NOW) == ()


def test_what_was_named_in_vain_is_kept_for_a_week_and_little_of_it() -> None:
    places = met(1, 2)
    for number in range(100, 100 + MAX_NAMED + 5):
        places = with_named(places, at(number), NOW)
    assert sum(not place.device for place in places) == MAX_NAMED
    assert {place.address for place in met(1, 2)} <= {place.address for place in places}
    assert set(worth_a_try(places, NOW + NAMED_MS, (), ())) == {at(1), at(2)}
    assert with_named(places, at(1), NOW) == places, "who is known there stays known"
    (found,) = [place for place in with_met(places, at(100), device(9), NOW) if place.address == at(100)]
    assert found.device == device(9)


def test_after_a_summer_nobody_is_looked_for_any_more_and_a_clock_that_was_set_back_makes_nothing_old() -> None:
    places = met(1)
    assert worth_a_try(places, NOW + 90 * DAY_MS, (), ()) == [at(1)]
    assert worth_a_try(places, NOW + 101 * DAY_MS, (), ()) == []
    assert worth_a_try(places, 0, (), ()) == [at(1)]
    assert worth_a_try(places, NOW, {at(1)}, ()) == []
    assert worth_a_try(places, NOW, (), {device(1)}) == []
