"""Whether bundles on a courier disk hold what their fronts say, before an export counts on them (docs/adr/0249, 0280).

Rules:
- who has no key can make a bundle that is whole by its trailer and whose front is another's: its body does not open;
- who has the key can seal any index in front of nothing: it opens, and what it lists does not come out. No bad contact
  looks like that, so that it is told apart;
- an entry that is here as well has come out only if it is the same to its signature: no door looks at it now;
- nothing is taken in: that is an import's;
- what this device has no key for is left as it is.

docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.bundles.reader import Entries
from protocol.errors import Code, PeerFault
from protocol.replica.console.operation import FileData, FileEnd, FileStart, Incoming, Restart
from sync_agent.app import Agent
from sync_agent.courier.opening import OpeningBundle


@dataclass(slots=True)
class Checked:
    """The names of bundles on which nobody counts: `lacking` are those of them that open to their ends."""

    hollow: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)


async def check_bundles(agent: Agent, incoming: Incoming) -> Checked:
    """Open all bundles that come in to their ends. Raises `LocalFailure`."""
    checked = Checked()
    bundle: _Bundle | None = None
    async for event in incoming:
        match event:
            case FileStart():
                bundle = _Bundle(agent, event.path, event.size or 0)
            case FileData() if bundle is not None:
                await bundle.feed(event.data)
            case FileEnd() if bundle is not None:
                fault = bundle.finish()
                if fault is not None:
                    checked.hollow.append(bundle.name)
                if fault is Code.INCOMPLETE:
                    checked.lacking.append(bundle.name)
                bundle = None
            case Restart():
                raise PeerFault(Code.MALFORMED, "a courier disk changes while it is read")
            case _:
                pass
    return checked


class _Bundle:
    """One bundle that is opened as it comes, and of which nothing is kept."""

    def __init__(self, agent: Agent, name: str, size: int) -> None:
        self.name = name
        self._agent = agent
        self._opening = OpeningBundle(agent, size)
        self._fault: Code | None = None

    async def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        if self._opening.is_passed_over or self._fault is not None:
            return
        try:
            for event in await self._opening.feed(data):
                if isinstance(event, Entries):
                    await self._compare(event)
        except PeerFault as fault:
            self._fault = fault.code

    async def _compare(self, batch: Entries) -> None:
        """Look whether what came out is what is here."""
        here = await self._agent.replica.store.get([entry.id for entry in batch.entries])
        self._opening.refuse(
            entry.id for entry in batch.entries if entry.id in here and here[entry.id].signature != entry.signature
        )

    def finish(self) -> Code | None:
        """What is wrong with it, once all bytes have come."""
        if self._opening.is_passed_over or self._fault is not None:
            return self._fault
        try:
            self._opening.finish()
        except PeerFault as fault:
            return fault.code
        return None
