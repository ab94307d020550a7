"""Who gives up a place among those who wait for news, where all are taken (docs/protocol.md, "Wake-up")."""

from __future__ import annotations

import pytest

from protocol.replica.http.live import gives_way


def room_of(key: bytes) -> bytes:
    """The device as it was let in: keys that differ in their case are of one."""
    return key.upper()


@pytest.mark.parametrize(
    ("held", "caller", "gives"),
    [
        pytest.param({b"t": 24}, b"h", b"t", id="one-has-all"),
        pytest.param({b"t": 8, b"T": 9, b"x": 7}, b"h", b"T", id="with-two-keys-of-its-own"),
        pytest.param({b"t": 12, b"h": 11}, b"h", b"h", id="nearly-as-many-as-the-caller-who-takes-its-own-place"),
        pytest.param({b"t": 1, b"x": 1}, b"h", None, id="all-have-one"),
        pytest.param({b"t": 1, b"h": 1}, b"h", b"h", id="all-have-one-and-the-callers-has-died-unnoticed"),
        pytest.param({b"t": 1, b"T": 1}, b"h", b"t", id="a-room-of-copies-when-somebody-else-comes"),
        pytest.param({b"c": 1, b"C": 8}, b"c", b"C", id="of-a-room-of-copies-the-one-that-has-most"),
        pytest.param({b"c": 1, b"x": 1}, b"C", None, id="a-room-of-copies-that-has-as-many-as-others"),
        pytest.param({}, b"h", None, id="there-are-no-places-at-all"),
    ],
)
def test_who_has_more_than_a_fair_share_gives_a_place_up(
    held: dict[bytes, int], caller: bytes, gives: bytes | None
) -> None:
    assert gives_way(held, caller, room_of) == gives
