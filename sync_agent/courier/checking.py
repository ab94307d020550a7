"""Whether bundles on a courier disk hold what their fronts say, before an export counts on them (docs/adr/0249).

Rules:
- who has no key can make a bundle that is whole by its trailer and whose front is another's: its body does not open;
- nothing is taken in: that is an import's;
- what this device has no key for is left as it is.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from protocol.bundles.form import HEAD_BYTES, head_size, parse_head
from protocol.bundles.reader import BundleReader
from protocol.errors import Code, PeerFault
from protocol.replica.console.operation import FileData, FileEnd, FileStart, Incoming, Restart
from sync_agent.app import Agent
from sync_agent.courier.survey import key_of


async def hollow_bundles(agent: Agent, incoming: Incoming) -> list[str]:
    """The names of those bundles, of all that come in, that do not open to their ends. Raises `LocalFailure`."""
    hollow = []
    bundle: _Bundle | None = None
    async for event in incoming:
        match event:
            case FileStart():
                bundle = _Bundle(agent, event.path, event.size or 0)
            case FileData() if bundle is not None:
                await bundle.feed(event.data)
            case FileEnd() if bundle is not None:
                if bundle.is_hollow():
                    hollow.append(bundle.name)
                bundle = None
            case Restart():
                raise PeerFault(Code.MALFORMED, "a courier disk changes while it is read")
            case _:
                pass
    return hollow


class _Bundle:
    """One bundle that is opened as it comes, and of which nothing is kept."""

    def __init__(self, agent: Agent, name: str, size: int) -> None:
        self._agent = agent
        self.name = name
        self._size = size
        self._front = bytearray()
        self._reader: BundleReader | None = None
        self._is_passed_over = False
        self._is_broken = False

    async def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        if self._is_passed_over or self._is_broken:
            return
        try:
            if self._reader is None:
                self._front += data
                await self._begin()
            else:
                self._open(self._reader, data)
        except PeerFault:
            self._is_broken = True

    def is_hollow(self) -> bool:
        """Whether it does not open to its end, once all bytes have come."""
        if self._is_passed_over or self._is_broken or self._reader is None:
            return not self._is_passed_over
        try:
            self._reader.finish()
        except PeerFault:
            return True
        return False

    async def _begin(self) -> None:
        """Once the head is there, find the key."""
        if len(self._front) < HEAD_BYTES or len(self._front) < (size := head_size(bytes(self._front[:HEAD_BYTES]))):
            return
        head = parse_head(bytes(self._front[:size]))
        secret = None if head.territory != self._agent.replica.territory else await key_of(self._agent, head)
        if secret is None:
            self._is_passed_over = True
            return
        self._reader = BundleReader(secret.bundle, head, self._size)
        rest = bytes(self._front[size:])
        self._front.clear()
        self._open(self._reader, rest)

    def _open(self, reader: BundleReader, data: bytes) -> None:
        for _ in reader.feed(data):
            pass
