"""Where a large file holds what a part of its next version holds too."""

from __future__ import annotations

import tracemalloc
from random import Random

from protocol.limits import KiB, MiB
from protocol.transfer.places import Places


def learnt(data: bytes, at_once: int = MiB) -> Places:
    places = Places(len(data))
    for start in range(0, len(data), at_once):
        places.learn(data[start : start + at_once])
    return places


def test_what_was_moved_and_renumbered_is_found_where_it_stood() -> None:
    objects = [b"%d 0 obj " % number + Random(number).randbytes(4_000) for number in range(900)]
    old = b"".join(objects)
    moved = [b"%d 0 obj " % (number * 7) + objects[number][-4_000:] for number in (880, 3, 451, 452)]
    found = learnt(old).around(b"".join(moved), MiB)
    for number in (880, 3, 451, 452):
        at = old.index(objects[number][-4_000:]) + 2_000
        assert any(first <= at < end for first, end in found)
    assert sum(end - first for first, end in found) < 40 * KiB


def test_where_a_file_arrives_in_other_pieces_the_same_is_found() -> None:
    old = Random(1).randbytes(3 * MiB)
    part = old[MiB : MiB + 50_000]
    assert learnt(old, 70_001).around(part, MiB) == learnt(old).around(part, MiB)


def test_no_more_is_found_than_a_dictionary_holds() -> None:
    old = Random(1).randbytes(2 * MiB)
    found = learnt(old).around(old[:500_000], 100_000)
    assert sum(end - first for first, end in found) <= 100_000


def test_a_file_of_many_megabytes_is_learnt_in_few() -> None:
    data = Random(1).randbytes(40 * MiB)
    tracemalloc.start()
    places = learnt(data)
    held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places.around(data[: 100 * KiB], MiB)
    assert held_bytes < 6 * MiB
    assert peak_bytes < 10 * MiB
