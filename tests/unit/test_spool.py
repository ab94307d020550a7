"""Where the files of a form wait: all of it is read as it came, from any place, and the disk has none of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transfer.crossing import MAX_CROSSING_BYTES, crossing
from sync_agent.portal.files.spool import Spool


def test_what_was_added_is_read_from_any_place_and_two_forms_are_two_noises(tmp_path: Path) -> None:
    data = bytes(range(256)) * 1_000
    raw = []
    for _ in range(2):
        with Spool(tmp_path) as spool:
            for start in range(0, len(data), 7_001):
                spool.add(data[start : start + 7_001])
            for at, size in ((0, 10), (63, 2), (64, 64), (100_001, 70_000), (255_990, 100)):
                assert spool.read(at, size) == data[at : at + size]
            raw.append(os.pread(spool._file.fileno(), len(data), 0))
    assert len({*raw, data}) == 3
    assert list(tmp_path.iterdir()) == []


@given(st.binary(min_size=1, max_size=400), st.integers(0, MAX_CROSSING_BYTES - 400), st.integers(0, 399))
def test_what_is_hidden_is_shown_from_wherever_it_is_read(data: bytes, offset: int, start: int) -> None:
    key, start = bytes(32), min(start, len(data))
    hidden = crossing(key, offset)(data)
    assert crossing(key, offset + start)(hidden[start:]) == data[start:]


def test_no_form_is_longer_than_what_one_key_hides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_agent.portal.files.spool.MAX_CROSSING_BYTES", 100)
    with Spool(tmp_path) as spool:
        spool.add(bytes(100))
        with pytest.raises(OSError, match="large"):
            spool.add(b"1")
