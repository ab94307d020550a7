"""What a root's revocation of a server's key names beside its heads (docs/adr/0184)."""

from __future__ import annotations

from random import Random

import pytest

from protocol.limits import MAX_REVOKED_HEADS
from protocol.model.entry import Entry
from protocol.replica.office.heads import MOST_EARLIER_HEADS, earlier_words, lists_of, with_earlier
from protocol.replica.storage.memory import MemoryStore
from tests.harness.entries import OTHER_SPACE, SPACE, EntryMaker

MAKER = EntryMaker()
KEY = MAKER.authors[0].public


async def _store(*entries: Entry) -> MemoryStore:
    store = MemoryStore()
    await store.append(entries)
    return store


def _some(count: int) -> list[bytes]:
    return [Random(number).randbytes(32) for number in range(count)]


async def test_the_words_closest_to_the_latest_are_named_and_ever_fewer_before() -> None:
    said = MAKER.entries(3 * MOST_EARLIER_HEADS)
    latest = said[-1].id
    named = with_earlier([latest], await earlier_words(KEY, [SPACE], await _store(*said)))
    assert named[0] == latest
    assert len(named) == len(set(named)) == 1 + MOST_EARLIER_HEADS
    steps = [said[-1 - (1 << power)].id for power in range(9)]
    assert set(steps) <= set(named)
    assert {entry.id for entry in said[-200:]} <= set(named)


async def test_a_short_history_is_named_whole_in_each_space_by_turns() -> None:
    here, there = MAKER.entries(40), MAKER.entries(50, OTHER_SPACE)
    found = await earlier_words(KEY, [SPACE, OTHER_SPACE], await _store(*here, *there))
    assert set(with_earlier([here[-1].id, there[-1].id], found)) == {entry.id for entry in (*here, *there)}
    assert found[:4] == [here[-2].id, there[-2].id, here[-3].id, there[-3].id]


async def test_nobody_elses_words_are_named_and_of_a_stolen_key_only_what_was_known_by_then() -> None:
    said = MAKER.entries(20)
    others = [MAKER.entry(author=1) for _ in range(5)]
    known = {entry.id for entry in said[:12]}
    found = await earlier_words(KEY, [SPACE], await _store(*others, *said), known)
    assert set(found) == known


@pytest.mark.parametrize("heads", [MAX_REVOKED_HEADS - 3, MAX_REVOKED_HEADS, MAX_REVOKED_HEADS + 50])
def test_no_head_makes_room_for_an_earlier_word_and_no_list_is_made_for_one(heads: int) -> None:
    latest, earlier = _some(heads), _some(heads + 300)[heads:]
    named = with_earlier(latest, earlier)
    assert named[:heads] == latest
    assert len(named) == max(heads, MAX_REVOKED_HEADS)
    if heads <= MAX_REVOKED_HEADS:
        assert lists_of(bytes(32), named) == []
