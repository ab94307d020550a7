"""The devices of the school around this one, as its network shows them: what a head teacher sees who leads a drill.

Rules:
- only what was seen counts: who is announced, who says that the server is out of reach, who has said what it lacks;
- nothing here is kept or signed: it is for the person at the screen, and gone when the network is.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations


class Around:
    """Nobody: what a device without the school's network sees. `lan.Lan` is the other one."""

    def found(self) -> int:
        """How many other devices of the school are announced on the network."""
        return 0

    def cut(self) -> int:
        """How many of these say that they do not reach the server."""
        return 0

    def holding(self, space: bytes, arrived: int, stream: bytes) -> set[bytes]:
        """The devices in touch that hold some content of a space; the entry that names it arrived here as `arrived`.

        A device that does not say what it lacks is not among them: there may be more.
        """
        del space, arrived, stream
        return set()
