"""What goes into one bundle of a courier disk: its index can be read, whatever the words of a class name."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from protocol.bundles.form import Index, PackNote
from protocol.limits import MAX_BUNDLE_INDEX_BYTES, MAX_BUNDLE_PACKS, MAX_ENTRIES_PER_DEVICE
from sync_agent.courier.exporting import portions

BESIDE = Index(entries=tuple(number.to_bytes(32, "big") for number in range(8_192)))
WORKS = tuple(number.to_bytes(32, "big") for number in range(MAX_ENTRIES_PER_DEVICE))


def notes(count: int, size: int, works: Sequence[bytes]) -> list[PackNote]:
    return [PackNote(number.to_bytes(32, "big"), size, tuple(works)) for number in range(count)]


@pytest.mark.parametrize(
    "packs",
    [
        pytest.param(notes(9, 5_000, WORKS), id="all works of a PC name the same few packs"),
        pytest.param(notes(MAX_BUNDLE_PACKS + 1_000, 100, WORKS[:1]), id="more packs than a bundle may hold"),
    ],
)
def test_a_bundle_lists_no_more_than_its_readers_take(packs: list[PackNote]) -> None:
    found = portions(packs)
    assert [pack for some in found for pack in some] == packs
    for some in found:
        index = Index(BESIDE.entries, packs=tuple(some))
        assert Index.parse(index.encode()) == index
        assert len(index.encode()) < MAX_BUNDLE_INDEX_BYTES
