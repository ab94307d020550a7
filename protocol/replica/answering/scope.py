"""What one side of an exchange shares with a caller, and what it takes from them: all of it, at a server (R1, R11).

A device on the LAN narrows this to the spaces that it holds itself (`sync_agent.lan.exchange.scope`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from protocol.folds.coursework import live_content, sealed_content
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Need
from protocol.rights.door import Authority


class Scope:
    """A server's: it holds everything, and takes whatever the door lets in."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    async def shared(self, readable: Mapping[bytes, Authority]) -> dict[bytes, Authority]:
        """Of the spaces that a caller may read, those that are exchanged with them."""
        return dict(readable)

    async def wanted(self, entries: Iterable[Entry]) -> set[bytes]:
        """Of the spaces of these entries, those of which entries are taken in."""
        return {entry.header.space for entry in entries}

    def marks(self, spaces: Iterable[bytes]) -> Mapping[str, bytes | None]:
        """What to note in the transaction that takes what a caller brought of these spaces in."""
        del spaces
        return {}

    async def needs(self, space: bytes) -> list[Need]:
        """The content that should lie here of a space."""
        coursework = (await self.replica.view(space)).coursework
        needs = [Need(space, ref.stream, sealed=False) for ref in live_content(coursework)]
        return needs + [Need(space, ref.stream, sealed=True) for ref in sealed_content(coursework)]

    async def takes(self, space: bytes, size: int) -> bool:
        """Whether a pack of `size` bytes may come in for this space."""
        del space, size
        return True

    async def lets_send(self, pack: bytes, sender: bytes) -> bool:
        """Whether a sender that offers a pack, which may come in, is to send it now."""
        del pack, sender
        return True

    async def keeps_reports(self) -> bool:
        """Whether reports of how devices are end here, or are passed on from here."""
        return True

    async def let_in(self, entries: Sequence[Entry]) -> None:
        """These have come in from a caller; what lay here as a header alone is not among them."""
        del entries

    async def brought_back(self, entries: Sequence[Entry], device: bytes) -> None:
        """A device asked for these, because it does not hold them; some may be its own."""
        del entries, device

    async def entrusted(self, space: bytes, device: bytes) -> frozenset[bytes]:
        """The sealed streams of this space that the device is asked to keep for others until the server has them."""
        del space, device
        return frozenset()
