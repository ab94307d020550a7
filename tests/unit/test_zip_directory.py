"""What two archives share, by their directories."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.transfer.zip_directory import members_of, shared_bytes

MEMBERS = {f"page{number}.html": b"text " * (50 + number) for number in range(30)}


def archive(members: Mapping[str, bytes], method: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as target:
        for name, data in members.items():
            target.writestr(name, data)
        target.comment = b"made for a test"
    return made.getvalue()


def test_members_compare_equal_whoever_compressed_them_and_whatever_they_are_called() -> None:
    one = archive(MEMBERS, zipfile.ZIP_STORED)
    renamed = {f"other/{name}": data for name, data in MEMBERS.items()}
    other = archive({**renamed, "more.txt": b"more"}, zipfile.ZIP_DEFLATED)
    shared = shared_bytes(members_of(one, len(one)), members_of(other, len(other)))
    assert shared == sum(map(len, MEMBERS.values()))


def test_the_end_of_an_archive_is_enough_to_know_its_members() -> None:
    data = archive(MEMBERS, zipfile.ZIP_STORED)
    assert members_of(data[-4_000:], len(data)) == members_of(data, len(data))
    assert members_of(data[-300:], len(data)) == {}


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no archive at all" * 100])
def test_what_is_no_archive_has_no_members(data: bytes) -> None:
    assert members_of(data, len(data)) == {}


@given(st.binary(max_size=200), st.integers(0, 3_000))
def test_a_spoiled_directory_ends_early_and_harms_nobody(noise: bytes, at: int) -> None:
    data = archive(MEMBERS, zipfile.ZIP_STORED)
    place = len(data) - 1 - at % len(data)
    spoiled = data[:place] + noise + data[place + len(noise) :]
    assert len(members_of(spoiled, len(spoiled))) <= len(MEMBERS) + 1
