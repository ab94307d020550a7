"""Whether bundles on a courier disk hold what their fronts say, before an export counts on them (docs/adr/0249).

Rules:
- who has no key can make a bundle that is whole by its trailer and whose front is another's: its body does not open;
- nothing is taken in: that is an import's;
- what this device has no key for is left as it is.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from protocol.errors import Code, PeerFault
from protocol.replica.console.operation import FileData, FileEnd, FileStart, Incoming, Restart
from sync_agent.app import Agent
from sync_agent.courier.opening import OpeningBundle


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
        self.name = name
        self._opening = OpeningBundle(agent, size)
        self._is_broken = False

    async def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        if self._opening.is_passed_over or self._is_broken:
            return
        try:
            for _ in await self._opening.feed(data):
                pass
        except PeerFault:
            self._is_broken = True

    def is_hollow(self) -> bool:
        """Whether it does not open to its end, once all bytes have come."""
        if self._opening.is_passed_over or self._is_broken:
            return self._is_broken
        try:
            self._opening.finish()
        except PeerFault:
            return True
        return False
