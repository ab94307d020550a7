from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault
from protocol.limits import MAX_INTRODUCTION_TAGS
from protocol.messages.introduction import (
    MAX_INTRODUCTION_BYTES,
    TAG_BYTES,
    TAGS_ROUNDED_TO,
    Place,
    Tags,
    announced,
    announced_at,
    announcement,
    announcement_at,
    introduced,
    introduction,
    is_introduction,
    noise_bytes,
)

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


@pytest.mark.parametrize(
    "elsewhere",
    [{"instance": b"another!"}, {"address": bytes(16)}, {"address": b"\x0a\0\0\2"}, {"port": 2}, {"said": b"r=\1\1"}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_announcement_names_its_spaces_where_it_was_made_and_nowhere_else(elsewhere: dict[str, Any]) -> None:
    secret, here = os.urandom(32), Place(INSTANCE, b"\x0a\0\0\1", 1, b"r=\1\0")
    tags = announcement_at([secret], here, NONCE, b"")
    assert announced_at(tags, {secret: b"class"}, here) == {b"class"}
    assert not announced_at(tags, {secret: b"class"}, replace(here, **elsewhere))
    assert not announced(tags, {secret: b"class"}, INSTANCE), "nor as a hint"


def test_parts_of_a_place_do_not_run_into_each_other() -> None:
    places = [Place(b"ab", b"cdef", 1, b"x"), Place(b"abc", b"defx", 1, b""), Place(b"ab", b"cdef", 256, b"x")]
    assert len({place.context for place in places}) == 3
