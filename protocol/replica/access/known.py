"""How much of a class was known where an archive was written, as the archive says it (docs/adr/0380, 0381).

A server says which machines have not told it all of late: names of computers, which may be people's, are for whoever
writes the archive, and not in it. A device knows nothing of that; it says as of when it agreed with its server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from protocol.clock import rfc3339
from protocol.replica.console.operation import JSON


@dataclass(frozen=True, slots=True)
class Known:
    """A class as it was known at `as_of_ms` (None: no server has ever proven that this was all).

    `silent` are the machines that had not told all, by when each last had; None where that is not known.
    """

    space: bytes
    as_of_ms: int | None
    silent: Mapping[bytes, int | None] | None = None
    are_others_unknown: bool = False
    """Whether there may be machines of which nobody knew there."""

    def as_json(self, name: str | None) -> JSON:
        """`name` is what the class is called."""
        silent: JSON = None
        if self.silent is not None:
            silent = [{"device": key.hex(), "told": rfc3339(told_ms)} for key, told_ms in self.silent.items()]
        return {
            "space": self.space.hex(),
            "space_name": name,
            "as_of": rfc3339(self.as_of_ms),
            "not_told": silent,
            "others_unknown": self.are_others_unknown,
        }
