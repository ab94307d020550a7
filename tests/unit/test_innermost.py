"""Who goes first of devices that lack one another: those that lack none but who lacks them too (docs/adr/0265)."""

from __future__ import annotations

from random import Random

import pytest

from protocol.limits import MAX_CONFIRMED_AGAIN_STEPS
from protocol.rights.innermost import Walk, innermost
from protocol.rights.vouching import Device


def _named(number: int) -> Device:
    return number.to_bytes(4, "big"), b""


def _by_looking_at_each(walks: list[Walk]) -> set[Device]:
    """The same, said as it is meant."""
    lacks: dict[Device, set[Device]] = {device: set() for walk in walks for device in walk.devices}
    for walk in walks:
        for lacked, bits in walk.lacked.items():
            for place, device in enumerate(walk.devices):
                lacks[device] |= {lacked} if bits >> place & 1 else set()
    through = {device: [device] for device in lacks}
    for found in through.values():
        for one in found:
            found += [each for each in lacks[one] if each not in found]
    return {device for device, found in through.items() if all(device in through[one] for one in found)}


@pytest.mark.parametrize("seed", range(200))
def test_nobody_goes_before_one_that_it_lacks_and_that_does_not_lack_it(seed: int) -> None:
    random = Random(seed)
    devices = [_named(number) for number in range(random.randint(1, MAX_CONFIRMED_AGAIN_STEPS))]
    walks = []
    for _ in range(2):  # a device may have several returns, and some in another walk
        returns = [*devices, *random.choices(devices, k=random.randrange(4))]
        random.shuffle(returns)
        lacked = dict.fromkeys(devices, 0)
        for place, one in enumerate(returns):
            for device in devices:
                lacked[device] |= (1 << place) * (device != one and random.random() < 0.15)
        walks.append(Walk(returns, (1 << len(returns)) - 1, lacked))
    assert innermost(walks) == _by_looking_at_each(walks)


def test_who_is_not_among_those_that_go_counts_for_nothing() -> None:
    first, second = _named(1), _named(2)
    assert innermost([Walk([first, second], 0b01, {first: 0b10})]) == {first}
    assert innermost([Walk([first, second], 0b11, {first: 0b10, second: 0b01})]) == {first, second}
    assert innermost([]) == frozenset()
