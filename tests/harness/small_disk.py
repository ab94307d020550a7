"""A disk of which little is free, as a device's folder fills it: every file and folder takes whole blocks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from protocol.replica.content.kept.packs import PackFolder

_BLOCK_BYTES = 4096


def takes(folder: Path) -> int:
    """What all below a folder takes of a disk as most are made."""
    blocks = 0
    for path, folders, names in os.walk(folder):
        blocks += len(folders)
        for name in names:
            blocks += max(1, -(-(Path(path) / name).lstat().st_size // _BLOCK_BYTES))
    return blocks * _BLOCK_BYTES


class SmallDisk:
    """The disk that holds `folder`, of which `free_bytes` are free at first; whatever is below fills it."""

    def __init__(self, folder: Path, free_bytes: int) -> None:
        self._folder = folder
        self._bytes = takes(folder) + free_bytes

    @property
    def free_bytes(self) -> int:
        """What is free now."""
        return self._bytes - takes(self._folder)

    def mount(self, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
        """Let programs find this much free."""

        async def free_bytes(_: Any) -> int:
            return self.free_bytes

        monkeypatch.setattr(PackFolder, "free_bytes", free_bytes)
        return self
