"""A bundle that is opened as its bytes come: its head, then its key, then what it holds.

Rules:
- what this device has no key for is passed over;
- the first byte that is wrong is told, and nothing that follows it comes out;
- at its end it is told, where something that its index lists has not come out: whoever has the key seals an index in
  front of nothing (docs/adr/0280).

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from protocol.bundles.form import HEAD_BYTES, head_size, parse_head
from protocol.bundles.listed import Listed
from protocol.bundles.reader import BundleReader, Event
from protocol.errors import Code, PeerFault
from sync_agent.app import Agent
from sync_agent.courier.survey import key_of


class OpeningBundle:
    """See the module. `size` is that of the whole file."""

    def __init__(self, agent: Agent, size: int) -> None:
        self._agent = agent
        self._size = size
        self._front = bytearray()
        self._reader: BundleReader | None = None
        self._listed = Listed()
        self.space = b""
        """The one that it is of, once it opens."""
        self.is_passed_over = False
        """Whether there is no key here for it."""

    async def feed(self, data: bytes) -> Iterable[Event]:
        """What the next bytes bring. Raises `PeerFault`, also as that is gone through."""
        if self._reader is not None:
            return self._noted(self._reader.feed(data))
        self._front += data
        if len(self._front) < HEAD_BYTES or len(self._front) < (size := head_size(bytes(self._front[:HEAD_BYTES]))):
            return ()
        head = parse_head(bytes(self._front[:size]))
        secret = None if head.territory != self._agent.replica.territory else await key_of(self._agent, head)
        if secret is None:
            self.is_passed_over = True
            return ()
        self.space = head.space
        self._reader = BundleReader(secret.bundle, head, self._size)
        rest = bytes(self._front[size:])
        self._front.clear()
        return self._noted(self._reader.feed(rest))

    def refuse(self, ids: Iterable[bytes]) -> None:
        """What came out as these entries are not the entries."""
        self._listed.refuse(ids)

    def finish(self) -> None:
        """All bytes have come. Raises `PeerFault`: INCOMPLETE where it opens to its end, and lacks something."""
        if self._reader is None:
            raise PeerFault(Code.CUT_OFF, "a bundle is cut off")
        self._reader.finish()
        self._listed.check()

    def _noted(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            self._listed.came(event)
            yield event
