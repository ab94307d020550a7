"""What a caller holds, in three bytes a piece."""

from __future__ import annotations

from random import Random

import pytest

from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_HELD_NAMES
from protocol.messages.held_names import HeldNames

HASHES = [Random(number).randbytes(32) for number in range(5_000)]
HELD = HeldNames.of(HASHES)


def named(*names: int) -> HeldNames:
    return HeldNames.of(name.to_bytes(4, "big") for name in names)


def test_what_was_named_is_known_again_and_nothing_else() -> None:
    again = HeldNames.parse(HELD.encode())
    assert again == HELD
    assert all(map(again.has, HASHES))
    assert not any(again.has(Random(number).randbytes(32)) for number in range(9_000, 9_900))


def test_a_name_takes_three_bytes_among_five_thousand() -> None:
    assert len(HELD.encode()) <= 3.1 * len(HASHES)


def test_the_ends_of_the_range_and_nothing_at_all_can_be_said() -> None:
    for names in ((0, 1, 2**32 - 1), (0,), ()):
        assert HeldNames.parse(named(*names).encode()) == named(*names)
    assert named(0, 1, 130).encode() == bytes([0, 0, 0x80, 0x01])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81", Code.MALFORMED),
        (b"\x80\x00", Code.NOT_CANONICAL),
        (b"\x80\x80\x80\x80\x80\x01", Code.MALFORMED),
        (b"\xff\xff\xff\xff\x7f", Code.MALFORMED),
        (named(2**32 - 1).encode() + b"\x00", Code.MALFORMED),
    ],
)
def test_what_is_no_set_of_names_is_refused(data: bytes, code: Code) -> None:
    with pytest.raises(PeerFault) as caught:
        HeldNames.parse(data)
    assert caught.value.code is code


def test_one_name_too_many_is_refused() -> None:
    assert len(HeldNames.parse(bytes(MAX_HELD_NAMES)).names) == MAX_HELD_NAMES
    with pytest.raises(TooLarge):
        HeldNames.parse(bytes(MAX_HELD_NAMES + 1))
