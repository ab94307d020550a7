from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from enum import IntEnum, StrEnum
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.canonical import Value, decode, decode_known, decode_member, encode
from protocol.errors import Code, PeerFault, TooLarge
from protocol.limits import MAX_DEPTH_LEVELS, MAX_MESSAGE_BYTES, MAX_VALUES_PER_MESSAGE, MiB

MAX_BYTES = 1 << 20

integers = st.integers(min_value=-(2**63), max_value=2**64 - 1)
scalars = st.none() | st.booleans() | integers | st.binary(max_size=300) | st.text(max_size=80)
values: st.SearchStrategy[Value] = st.recursive(
    scalars,
    lambda parts: st.lists(parts, max_size=20) | st.dictionaries(st.text(max_size=8), parts, max_size=20),
    max_leaves=40,
)


def nested(levels: int) -> Value:
    value: Value = 7
    for _ in range(levels):
        value = [value]
    return value


# --- a part of a map ---


@given(st.dictionaries(st.text(max_size=8), values, max_size=6), st.text(max_size=8))
def test_a_part_of_a_map_is_what_it_is_in_the_whole(filled: dict[str, Value], key: str) -> None:
    whole = encode(filled)
    for asked in {key, *filled}:
        assert decode_member(whole, asked, max_values=1_000) == filled.get(asked)


def test_what_comes_after_the_part_that_is_asked_for_is_not_looked_at() -> None:
    whole = encode({"a": 1, "b": [2], "c": [3] * 5_000})
    assert decode_member(whole, "b", max_values=8) == [2]
    assert decode_member(whole[:-4_000] + b"\xc1" * 3, "b", max_values=8) == [2]
    assert decode_member(whole, "aa", max_values=8) is None


@pytest.mark.parametrize("data", [b"", b"\x90", b"\xc1", encode({"b": [2]})[:-1], b"\x81\xc1"])
def test_a_part_of_what_is_no_map_or_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        decode_member(data, "b", max_values=8)
    assert caught.value.code is Code.MALFORMED


def test_a_part_behind_more_values_than_are_allowed_is_refused() -> None:
    with pytest.raises(TooLarge):
        decode_member(encode({"a": [0] * 5_000, "b": 1}), "b", max_values=4_999)
    with pytest.raises(TooLarge):
        decode_member(encode({"b": [0] * 5_000}), "b", max_values=4_999)


# --- one value, one encoding ---


@given(values)
def test_what_is_encoded_is_decoded_again(value: Value) -> None:
    assert decode(encode(value), max_bytes=MAX_BYTES) == value


@given(values)
def test_what_was_judged_before_is_read_as_it_was(value: Value) -> None:
    assert decode_known(encode(value)) == value


@given(st.dictionaries(st.text(max_size=8), scalars, min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_the_order_in_which_a_map_was_filled_leaves_no_trace(filled: dict[str, Value], chance: Random) -> None:
    keys = list(filled)
    chance.shuffle(keys)
    assert encode({key: filled[key] for key in keys}) == encode(filled)


@pytest.mark.parametrize(
    ("value", "hexadecimal"),
    [
        (None, "c0"),
        (False, "c2"),
        (True, "c3"),
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (256, "cd0100"),
        (65_536, "ce00010000"),
        (2**63, "cf8000000000000000"),
        (2**64 - 1, "cfffffffffffffffff"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0df"),
        (-(2**63), "d38000000000000000"),
        (b"", "c400"),
        (b"\x01\x02", "c4020102"),
        ("", "a0"),
        ("été", "a5c3a974c3a9"),
        ("a" * 32, "d920" + "61" * 32),
        ([], "90"),
        ([1, [2]], "9201" + "9102"),
        ((1, 2), "920102"),
        ({}, "80"),
        ({"b": 1, "a": 2, "": 3}, "83" + "a003" + "a16102" + "a16201"),
    ],
)
def test_the_encoding_is_these_very_bytes(value: Value, hexadecimal: str) -> None:
    assert encode(value).hex() == hexadecimal


def test_keys_are_ordered_by_their_utf8_bytes_and_not_as_utf16_would() -> None:
    # U+FFFD sorts after U+1F600 in UTF-16 (surrogates), before it in UTF-8
    assert encode({"😀": 1, "\ufffd": 2}).hex() == "82" + "a3efbfbd02" + "a4f09f988001"


def test_enumerations_travel_as_their_plain_values() -> None:
    class Number(IntEnum):
        SEVEN = 7

    class Word(StrEnum):
        YES = "yes"

    assert encode([Number.SEVEN, Word.YES]) == encode([7, "yes"])


# --- a second encoding of the same value is refused ---


def _integer_forms(value: int) -> list[bytes]:
    """Every msgpack encoding of an integer, the shortest first."""
    forms = []
    if 0 <= value < 128 or -32 <= value < 0:
        forms.append(struct.pack(">b" if value < 0 else ">B", value))
    for tag, layout, low, high in (
        (0xCC, ">B", 0, 2**8),
        (0xD0, ">b", -(2**7), 2**7),
        (0xCD, ">H", 0, 2**16),
        (0xD1, ">h", -(2**15), 2**15),
        (0xCE, ">I", 0, 2**32),
        (0xD2, ">i", -(2**31), 2**31),
        (0xCF, ">Q", 0, 2**64),
        (0xD3, ">q", -(2**63), 2**63),
    ):
        if low <= value < high:
            forms.append(bytes([tag]) + struct.pack(layout, value))
    return forms


def _heads(count: int, fix: int | None, fix_limit: int, tags: tuple[int | None, int, int]) -> list[bytes]:
    """Every way to write a length before the bytes or parts that it counts."""
    forms = [bytes([fix | count])] if fix is not None and count < fix_limit else []
    for tag, layout, limit in zip(tags, (">B", ">H", ">I"), (2**8, 2**16, 2**32), strict=True):
        if tag is not None and count < limit:
            forms.append(bytes([tag]) + struct.pack(layout, count))
    return forms


def _loose(value: Value, choose: Callable[[list[bytes]], bytes], shuffle: Callable[[list[str]], list[str]]) -> bytes:
    """An encoding by a careless writer: any form of each length and integer, keys in any order."""
    if value is None or isinstance(value, bool):
        return encode(value)
    if isinstance(value, int):
        return choose(_integer_forms(value))
    if isinstance(value, bytes):
        return choose(_heads(len(value), None, 0, (0xC4, 0xC5, 0xC6))) + value
    if isinstance(value, str):
        text = value.encode()
        return choose(_heads(len(text), 0xA0, 32, (0xD9, 0xDA, 0xDB))) + text
    if isinstance(value, dict):
        parts = b"".join(
            _loose(key, choose, shuffle) + _loose(value[key], choose, shuffle) for key in shuffle(list(value))
        )
        return choose(_heads(len(value), 0x80, 16, (None, 0xDE, 0xDF))) + parts
    assert isinstance(value, list)
    return choose(_heads(len(value), 0x90, 16, (None, 0xDC, 0xDD))) + b"".join(
        _loose(part, choose, shuffle) for part in value
    )


@given(values, st.data())
def test_a_careless_encoding_is_refused_unless_it_happens_to_be_the_one(value: Value, data: st.DataObject) -> None:
    written = _loose(
        value,
        lambda forms: data.draw(st.sampled_from(forms)),
        lambda keys: data.draw(st.permutations(keys)),
    )
    if written == encode(value):
        assert decode(written, max_bytes=MAX_BYTES) == value
    else:
        with pytest.raises(PeerFault) as refusal:
            decode(written, max_bytes=MAX_BYTES)
        assert refusal.value.code is Code.NOT_CANONICAL


@given(st.binary(max_size=60))
@example(b"\xc0\xc0")
@example(b"\x81\xc4\x01a\x01")
def test_any_bytes_are_either_refused_or_the_only_encoding_of_their_value(data: bytes) -> None:
    try:
        value = decode(data, max_bytes=MAX_BYTES)
    except PeerFault:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("hexadecimal", "code"),
    [
        ("82a16201a16102", Code.NOT_CANONICAL),  # keys in descending order
        ("82a16101a16102", Code.NOT_CANONICAL),  # one key twice
        ("cc07", Code.NOT_CANONICAL),  # 7 in two bytes
        ("d90161", Code.NOT_CANONICAL),  # "a" with a long length
        ("", Code.MALFORMED),  # nothing
        ("c1", Code.MALFORMED),  # the byte that msgpack never uses
        ("9201", Code.MALFORMED),  # cut short
        ("0101", Code.MALFORMED),  # something after the end
        ("a1ff", Code.MALFORMED),  # not UTF-8
        ("a3eda080", Code.MALFORMED),  # a lone surrogate
        ("810102", Code.MALFORMED),  # an integer as a key
        ("81c4016102", Code.MALFORMED),  # bytes as a key
        ("ca3f800000", Code.MALFORMED),  # a float
        ("cb3ff0000000000000", Code.MALFORMED),  # a double
        ("d40100", Code.MALFORMED),  # an extension
        ("d6ff00000000", Code.MALFORMED),  # a timestamp
        ("dfffffffff", Code.MALFORMED),  # four billion pairs announced
        ("91" * 5000 + "c0", Code.MALFORMED),  # deeper than the reader's own stack
    ],
)
def test_what_is_not_canonical_msgpack_is_refused_with_its_reason(hexadecimal: str, code: Code) -> None:
    with pytest.raises(PeerFault) as refusal:
        decode(bytes.fromhex(hexadecimal), max_bytes=MAX_BYTES)
    assert refusal.value.code is code


# --- bounds ---


def test_the_deepest_value_allowed_goes_through_and_one_level_more_does_not() -> None:
    assert decode(encode(nested(MAX_DEPTH_LEVELS)), max_bytes=MAX_BYTES) == nested(MAX_DEPTH_LEVELS)
    with pytest.raises(ValueError, match="deep"):
        encode(nested(MAX_DEPTH_LEVELS + 1))
    with pytest.raises(TooLarge) as refusal:
        decode(b"\x91" * (MAX_DEPTH_LEVELS + 1) + b"\x07", max_bytes=MAX_BYTES)
    assert refusal.value.code is Code.TOO_LARGE


def test_maps_count_as_levels_too() -> None:
    with pytest.raises(TooLarge):
        decode(b"\x81\xa1a" * (MAX_DEPTH_LEVELS + 1) + b"\x07", max_bytes=MAX_BYTES)


def test_a_message_may_have_as_many_bytes_as_allowed_and_not_one_more() -> None:
    data = encode(b"x" * 10)
    assert decode(data, max_bytes=len(data)) == b"x" * 10
    with pytest.raises(TooLarge) as refusal:
        decode(data, max_bytes=len(data) - 1)
    assert refusal.value.facts == {"size": len(data), "max": len(data) - 1}


# --- what we must never try to write ---


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {"\ud800": 1}])
def test_a_value_outside_the_format_is_our_own_error(value: Value) -> None:
    with pytest.raises(ValueError, match=r"range|surrogates"):
        encode(value)


@pytest.mark.parametrize("value", [1.5, {1, 2}, object(), {1: 2}, {b"a": 1}])
def test_a_type_outside_the_format_is_our_own_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)  # type: ignore[arg-type]


# --- what a message may cost its reader -------------------------------------------------------------------------------


def array_of(count: int, value: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + value * count


@pytest.mark.parametrize(
    "data",
    [
        array_of(8_000_000, b"\x90"),
        array_of(8_000_000, b"\x80"),
        array_of(4_000_000, b"\xcd\x01\x01"),
        b"\xdd\x00\x0f\xff\xff" * 900 + bytes(2_000_000),
        b"\x91" * 8_000_000,
        b"\xc7\x01\x05\x00" + b"\x90" * 8_000_000,
        b"\x01" * 8_000_000,
    ],
    ids=["arrays", "maps", "integers", "announced", "deep", "behind an extension", "behind the end"],
)
def test_few_bytes_never_grow_into_many(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PeerFault):
            decode(data, max_bytes=MAX_MESSAGE_BYTES)
        assert tracemalloc.get_traced_memory()[1] < 16 * MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("values", [-1, 0, 1])
def test_a_message_holds_so_many_values_and_not_one_more(values: int) -> None:
    count = MAX_VALUES_PER_MESSAGE - 1 + values
    data = array_of(count, b"\x01")
    if values > 0:
        with pytest.raises(TooLarge):
            decode(data, max_bytes=MAX_MESSAGE_BYTES)
    else:
        assert decode(data, max_bytes=MAX_MESSAGE_BYTES) == [1] * count


def test_every_type_is_passed_over_by_its_own_length_when_values_are_counted() -> None:
    each: list[Value] = [
        None,
        True,
        5,
        -5,
        200,
        60_000,
        2**31,
        2**40,
        -100,
        -30_000,
        -(2**31),
        -(2**40),
        b"b" * 9,
        b"b" * 300,
    ]
    each += [b"b" * 70_000, "s" * 9, "s" * 50, "s" * 300, "s" * 70_000, [1] * 20, [[2]], {"k": 1}]
    each.append({f"{number:05}": number for number in range(70)})
    each.append([None] * 70_000)
    assert decode(encode(each), max_bytes=MAX_MESSAGE_BYTES) == each
