"""What a kit remembers, as text behind its own (docs/protocol.md, "Recovery kit")."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.clock import at_from
from protocol.identity import AgreementKey, SigningKey
from protocol.limits import MAX_KIT_BYTES, MAX_KIT_NAME_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.rights.root_rotation import RootAccount
from protocol.trust.kit import Kit, is_protected, parse_kit, write_kit
from protocol.trust.kit_memory import memory_in, room_for_memory, with_memory
from sync_server.kit.memory import encode_memory, parse_memory, with_said, without_room

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
    kept = parse_memory(memory_in(with_said(TEXT, KIT, [a_cut(1), an_erasure(1), *rest])) or b"")
    assert {each.id for each in kept} == {a_cut(1).id, an_erasure(1).id}
    assert parse_memory(b"nothing that can be read") == ()


def test_where_there_is_no_room_what_is_oldest_goes_and_each_kind_of_words_has_a_part_of_it() -> None:
    servers, erasures = [a_cut(number, heads=200) for number in range(1, 21)], [an_erasure(n) for n in range(1_000)]
    devices = [a_cut(number) for number in range(21, 221)]
    text = with_said(TEXT, KIT, [*servers, *devices, *erasures])
    assert len(text.encode()) <= MAX_KIT_BYTES
    kept = {each.id for each in parse_memory(memory_in(text) or b"")}
    for each in (servers, devices, erasures):
        is_kept = [word.id in kept for word in each]
        assert is_kept == sorted(is_kept), "the newest stay"
        assert sum(is_kept) > 1
    sizes = {each.id: each.wire_bytes for each in (*servers, *devices, *erasures)}
    assert sum(sizes[name] for name in kept) > 0.95 * room_for_memory(TEXT)
    # with nothing else to remember they have all of it
    alone = parse_memory(memory_in(with_said(TEXT, KIT, servers)) or b"")
    assert len(alone) > 3 * sum(each.id in kept for each in servers)


NAMES = st.integers(1, 255)
FLOOD = st.lists(
    st.tuples(st.sampled_from(["cut", "list", "listed", "ruling"]), st.integers(0, 600)), min_size=1, max_size=20
)


def a_flood(number: int, wishes: list[tuple[str, int]]) -> list[Entry]:
    """What a server may have the kit sign where one device was typed, some of it a thousand times."""
    found = list[Entry]()
    for at, (what, size) in enumerate(wishes):
        names, at_ms = tuple(at.to_bytes(2) + head.to_bytes(2) + bytes(28) for head in range(size)), 3_000_000 + at
        match what:
            case "cut":
                found.append(said(Kind.REVOKE, Revocation(bytes([number]) * 32, names).encode(), at_ms))
            case "list":
                found.append(said(Kind.ROOT_ACCOUNT, RootAccount(names).encode(), at_ms))
            case "listed":
                lists = [said(Kind.ROOT_ACCOUNT, RootAccount((name,)).encode(), at_ms) for name in names[:16]]
                ids = tuple(each.id for each in lists)
                cut = said(Kind.REVOKE, Revocation(bytes([number]) * 32, ids, ids).encode(), at_ms)
                found += [*lists, cut]
            case _:
                found.append(said(Kind.RULING, Ruling(names[:256], ()).encode(), at_ms))
    return found


@settings(max_examples=20)
@given(NAMES, FLOOD, st.integers(0, 60), st.integers(0, 60))
def test_what_was_typed_once_is_put_out_by_nothing_that_a_server_asks_for(
    number: int, wishes: list[tuple[str, int]], devices: int, persons: int
) -> None:
    others = [each for each in range(1, devices + 1) if each != number]
    before = [*map(a_cut, others), *map(an_erasure, range(persons))]
    text = with_said(TEXT, KIT, before)
    for _ in range(2):
        text = with_said(text, KIT, [*parse_memory(memory_in(text) or b""), *a_flood(number, wishes * 10)])
    assert {each.id for each in before} <= {each.id for each in parse_memory(memory_in(text) or b"")}


def test_in_a_full_kit_what_is_sure_of_its_place_stays_whatever_is_said_of_one_name() -> None:
    devices, persons = [a_cut(number) for number in range(1, 256)], [an_erasure(number) for number in range(400)]
    before = parse_memory(memory_in(with_said(TEXT, KIT, [*devices, *persons])) or b"")
    flood = [*(a_cut(0, heads) for heads in range(300)), *a_flood(0, [("list", 9), ("ruling", 9)] * 200)]
    after = parse_memory(memory_in(with_said(TEXT, KIT, [*before, *flood])) or b"")
    share = 5 * room_for_memory(TEXT) // 16 - MAX_KIT_NAME_BYTES
    for words in (devices, persons):
        assert without_room(words[-(share // words[-1].wire_bytes) + 1 :], after) == []


def test_a_list_is_kept_with_the_revocation_that_names_it_and_alone_for_nothing() -> None:
    lists = [said(Kind.ROOT_ACCOUNT, RootAccount((bytes([n]) * 32,)).encode(), n) for n in range(3)]
    cut = said(Kind.REVOKE, Revocation(bytes(32), (lists[0].id,), (lists[0].id, lists[1].id)).encode(), 9)
    kept = parse_memory(memory_in(with_said(TEXT, KIT, [*lists, cut])) or b"")
    assert [each.id for each in kept] == [lists[0].id, lists[1].id, cut.id]
    assert [each.id for each in parse_memory(encode_memory(lists, 10_000, [lists[2].id]))] == [lists[2].id]


def test_a_kit_with_no_room_left_remembers_nothing() -> None:
    assert encode_memory([a_cut(1)], 10) == b""
    full = TEXT + "x" * (MAX_KIT_BYTES - len(TEXT) - 50)
    assert (room_for_memory(full), with_said(full, KIT, [a_cut(1)])) == (0, full)
