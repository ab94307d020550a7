"""Entries that lie beside the database: whatever happens to the file, what is whole in it is read."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.replica.storage.second_copy import SecondCopy
from tests.harness.entries import EntryMaker

ENTRIES = EntryMaker().entries(20)


def test_what_was_appended_is_read_again_in_order(tmp_path: Path) -> None:
    copy = SecondCopy(tmp_path / "outbox", of_others=False)
    for entry in ENTRIES:
        copy.append([entry], {f"mark/{entry.id.hex()}": entry.id})
    found = copy.read()
    assert found.entries == tuple(ENTRIES)
    assert set(found.marks.values()) == {entry.id for entry in ENTRIES}
    copy.clear()
    assert copy.read().entries == ()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32), st.sampled_from(["hole", "cut", "insert"]))
def test_damage_costs_the_records_that_it_lies_in_and_no_others(tmp_path: Path, seed: int, kind: str) -> None:
    file = tmp_path / f"outbox-{seed}-{kind}"
    copy = SecondCopy(file, of_others=False)
    for entry in ENTRIES:
        copy.append([entry])
    chance = Random(seed)
    data = bytearray(file.read_bytes())
    size = len(data)
    at = chance.randrange(size)
    if kind == "hole":
        data[at : at + 50] = chance.randbytes(len(data[at : at + 50]))
    elif kind == "cut":
        del data[at:]
    else:
        data[at:at] = chance.randbytes(100)
    file.write_bytes(data)
    found = copy.read().entries
    assert set(found) <= set(ENTRIES)
    whole = at * len(ENTRIES) // size if kind == "cut" else len(ENTRIES)
    assert len(found) >= whole - 2
    file.unlink()
