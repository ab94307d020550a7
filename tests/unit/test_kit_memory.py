"""What a kit remembers, as text behind its own (docs/protocol.md, "Recovery kit")."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.clock import at_from
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_KIT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation
from protocol.trust.kit import Kit, is_protected, parse_kit, write_kit
from protocol.trust.kit_memory import memory_in, room_for_memory, with_memory
from sync_server.kit.memory import encode_memory, parse_memory, with_said

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "kit.json").read_text(encoding="utf-8"))
KIT = Kit("Cher", SigningKey(bytes([1]) * 32), AgreementKey(bytes([2]) * 32))
TEXT = write_kit(KIT, passphrase=None, salt=bytes(16))


def said(kind: Kind, payload: bytes, at_ms: int, *, grant: bytes | None = None) -> Entry:
    return compose(
        author=KIT.root, space=bytes(32), kind=kind, grant=grant, at=at_from(at_ms), payload=payload, salt=bytes(16)
    )


def a_cut(number: int, heads: int = 1) -> Entry:
    names = tuple(bytes([number, head % 256, head // 256]) + bytes(29) for head in range(heads))
    return said(Kind.REVOKE, Revocation(bytes([number]) * 32, names).encode(), 1_000_000 + number)


def an_erasure(number: int) -> Entry:
    return said(Kind.ERASE, Erasure(number.to_bytes(16, "big")).encode(), 2_000_000 + number)


def test_a_kit_that_remembers_is_that_of_the_vectors() -> None:
    known = VECTORS["remembering"]
    assert with_memory(VECTORS["open"], bytes.fromhex(known["memory"])) == known["open"]
    assert memory_in(known["open"]) == bytes.fromhex(known["memory"])
    assert parse_kit(known["open"]).root.seed == parse_kit(VECTORS["open"]).root.seed


@given(st.binary(max_size=400))
def test_what_is_put_into_a_kit_is_read_from_it(memory: bytes) -> None:
    text = with_memory(TEXT, memory)
    assert memory_in(text) == memory
    assert with_memory(text, memory) == text
    assert with_memory(text, b"") == TEXT
    assert memory_in(text.replace("\n", "\r\n")) == memory


def test_a_kit_of_before_remembers_nothing_and_one_that_remembers_is_read_as_before() -> None:
    assert memory_in(TEXT) == b""
    text = with_memory(write_kit(KIT, passphrase=None, salt=bytes(16)), b"words")
    assert (parse_kit(text).root.seed, is_protected(text)) == (KIT.root.seed, False)


@pytest.mark.parametrize(
    "harm", [lambda text: text[:-40], lambda text: text.replace("MEMOIRE ---\n", "MEMOIRE ---\n?")]
)
def test_a_memory_that_is_damaged_is_none_and_takes_nothing_from_the_kit(harm: object) -> None:
    assert callable(harm)
    text = harm(with_memory(TEXT, bytes(range(200))))
    assert memory_in(text) is None
    assert parse_kit(text).root.seed == KIT.root.seed
    assert memory_in(with_memory(text, b"anew")) == b"anew"


def test_only_what_a_root_says_of_keys_and_of_what_is_forgotten_is_remembered() -> None:
    rest = [said(Kind.GENERATION, bytes(8), 5), said(Kind.ERASE, Erasure(bytes(16)).encode(), 6, grant=bytes(32))]
    kept = parse_memory(memory_in(with_said(TEXT, [a_cut(1), an_erasure(1), *rest])) or b"")
    assert {each.id for each in kept} == {a_cut(1).id, an_erasure(1).id}
    assert parse_memory(b"nothing that can be read") == ()


def test_where_there_is_no_room_what_is_oldest_goes_and_cuts_have_half_of_it() -> None:
    cuts, erasures = [a_cut(number, heads=200) for number in range(1, 21)], [an_erasure(n) for n in range(1_000)]
    text = with_said(TEXT, [*erasures, *cuts])
    assert len(text.encode()) <= MAX_KIT_BYTES
    kept = {each.id for each in parse_memory(memory_in(text) or b"")}
    kept_cuts = [each.id in kept for each in cuts]
    kept_erasures = [each.id in kept for each in erasures]
    for each in (kept_cuts, kept_erasures):
        assert each == sorted(each), "the newest stay"
        assert True in each
    sizes = {each.id: each.wire_bytes for each in (*cuts, *erasures)}
    room = room_for_memory(TEXT)
    assert sum(sizes[name] for name in kept) > 0.95 * room
    assert sum(sizes[each.id] for each in cuts if each.id in kept) > 0.4 * room
    # with nothing else to remember they have all of it
    alone = parse_memory(memory_in(with_said(TEXT, cuts)) or b"")
    assert len(alone) > sum(kept_cuts)


def test_a_kit_with_no_room_left_remembers_nothing() -> None:
    assert encode_memory([a_cut(1)], 10) == b""
    full = TEXT + "x" * (MAX_KIT_BYTES - len(TEXT) - 50)
    assert (room_for_memory(full), with_said(full, [a_cut(1)])) == (0, full)
