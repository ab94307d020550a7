"""What lies in files of DIR and in no database: keys above all. Files that hold a secret are this account's alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from protocol.replica.disk import Disk
from protocol.replica.private_file import write_private


class Secrets(Protocol):
    """Small files, by the names that `enrolled` gives them."""

    def read(self, name: str) -> bytes:
        """What a file holds; nothing where there is none."""

    def is_there(self, name: str) -> bool:
        """Whether there is such a file, if only an empty one."""

    def keep(self, name: str, data: bytes) -> None:
        """Make a file durable. Raises `LocalFailure`."""

    def overwrite(self, name: str, pieces: Mapping[int, bytes]) -> None:
        """Write pieces over what lies at these places of a file, or at its end, durably. Raises `LocalFailure`."""

    def drop(self, name: str) -> None:
        """Remove a file, as far as that can be done."""


class SecretsOfFolder:
    """Those of DIR."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._within = os.path.join(folder, "")  # noqa: PTH118 — a text: these are read with each look at the set

    def read(self, name: str) -> bytes:
        """See `Secrets`."""
        try:
            with open(self._within + name, "rb") as file:  # noqa: PTH123
                return file.read()
        except FileNotFoundError:
            return b""

    def is_there(self, name: str) -> bool:
        """See `Secrets`."""
        return os.path.exists(self._within + name)  # noqa: PTH110

    def keep(self, name: str, data: bytes) -> None:
        """See `Secrets`."""
        write_private(self._folder / name, data)

    def overwrite(self, name: str, pieces: Mapping[int, bytes]) -> None:
        """See `Secrets`."""
        Disk(self._folder).write_over(name, pieces)

    def drop(self, name: str) -> None:
        """See `Secrets`."""
        with contextlib.suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)
