"""Small private files: whole, or not there under any name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from protocol.errors import Code, LocalFailure
from protocol.replica.private_file import write_private


def test_a_private_file_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    place = tmp_path / "folder" / "kit"
    write_private(place, b"key")
    assert place.read_bytes() == b"key"
    assert os.name != "posix" or stat.S_IMODE(place.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="a bound for files as POSIX knows it")
def test_a_file_for_which_there_is_no_room_leaves_no_part_of_itself_and_the_older_one(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415  (not on every platform)

    place = tmp_path / "kit"
    write_private(place, b"older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(LocalFailure) as raised:
            write_private(place, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.code is Code.DISK_FULL
    assert [each.name for each in tmp_path.iterdir()] == ["kit"]
    assert place.read_bytes() == b"older"
