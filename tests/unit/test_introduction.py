from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault
from protocol.introduction import (
    MAX_INTRODUCTION_BYTES,
    TAG_BYTES,
    TAGS_ROUNDED_TO,
    Tags,
    announced,
    announcement,
    introduced,
    introduction,
    is_introduction,
    noise_bytes,
)
from protocol.limits import MAX_INTRODUCTION_TAGS

CERTIFICATE, NONCE, INSTANCE = b"c" * 32, b"n" * 16, b"i" * 8
SECRETS = st.lists(st.binary(min_size=32, max_size=32), unique=True, max_size=20)


def hello(secrets: list[bytes], certificate: bytes = CERTIFICATE, nonce: bytes = NONCE) -> bytes:
    return introduction(secrets, certificate, nonce, os.urandom(noise_bytes(len(secrets))))


@given(mine=SECRETS, theirs=SECRETS, shared=SECRETS)
def test_two_devices_recognise_exactly_the_spaces_that_both_hold(
    mine: list[bytes], theirs: list[bytes], shared: list[bytes]
) -> None:
    known = {secret: b"space " + secret for secret in (*mine, *shared)}
    common = set(mine) & set(theirs) | set(shared)
    assert introduced(hello([*theirs, *shared]), known, CERTIFICATE) == {b"space " + secret for secret in common}
    tags = announcement([*theirs, *shared], INSTANCE, NONCE, b"")
    assert announced(tags, known, INSTANCE) == {b"space " + secret for secret in common}


def test_an_introduction_is_worth_nothing_to_another_listener_and_under_another_name() -> None:
    secret = os.urandom(32)
    assert not introduced(hello([secret]), {secret: b"class"}, b"another certificate".ljust(32))
    assert not announced(announcement([secret], INSTANCE, NONCE, b""), {secret: b"class"}, b"another!")
    said = announcement([secret], INSTANCE, NONCE, b"")
    assert not introduced(b"\x01" + said.encode(), {secret: b"class"}, CERTIFICATE)


def test_nobody_can_follow_a_device_by_its_tags_or_count_its_spaces() -> None:
    secrets = [os.urandom(32) for _ in range(3)]
    one, other = hello(secrets, nonce=b"1" * 16), hello(secrets, nonce=b"2" * 16)
    assert not set(Tags.parse(one[1:]).tags) & set(Tags.parse(other[1:]).tags)
    assert {len(hello(secrets[:count])) for count in (1, 2, 3)} == {1 + 16 + TAGS_ROUNDED_TO * TAG_BYTES}


def test_many_spaces_fit_and_more_are_left_out() -> None:
    secrets = [os.urandom(32) for _ in range(MAX_INTRODUCTION_TAGS + 5)]
    said = hello(secrets)
    assert len(said) == MAX_INTRODUCTION_BYTES
    assert len(introduced(said, {secret: secret for secret in secrets}, CERTIFICATE)) == MAX_INTRODUCTION_TAGS


@pytest.mark.parametrize(
    "data", [b"", b"\x00sealed", b"\x01", b"\x01" + bytes(15), b"\x01" + bytes(17), bytes([1]) * 900]
)
def test_what_is_no_introduction_is_refused(data: bytes) -> None:
    with pytest.raises(PeerFault):
        introduced(data, {}, CERTIFICATE)


def test_a_sealed_request_is_no_introduction() -> None:
    assert not is_introduction(b"\x00" + bytes(200))
