"""What came for a class after the kit had closed it here (docs/adr/0323; docs/operate.md, "The end of a year").

A machine that nobody could reach brings what was handed in or said on it before it learns that the class is closed, or
with that. Nobody has seen it, and a week after that machine's first contact it is destroyed there too: whoever closed
the class is told meanwhile, and can still take that back.

Rules:
- what is counted came to this store after the class was closed at it: how many entries the class had then is noted;
- it is told for a week and a day from its arrival on, as far as arrivals were noted; of a store that knows nothing of
  that, all is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protocol.clock import DAY_MS
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Kind
from protocol.replica.console.operation import JSON
from protocol.replica.office.arrivals import authored_by
from protocol.replica.office.erasures import in_force
from protocol.replica.office.spaces import space_records
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server
from sync_server.opened.losses import CLOSED_MARKS

TOLD_MS: Final = ERASURE_DELAY_MS + DAY_MS
_COUNT_BYTES: Final = 8
_COUNTED: Final = (Kind.HAND_IN, Kind.FEEDBACK, Kind.REVISION)


@dataclass(frozen=True, slots=True)
class CameAfter:
    """A class that was closed, what it is called, what came since, and from whose machines (ids).

    That is how many hand-ins, and of what teachers said how many answers and versions of lessons.
    """

    space: bytes
    name: str
    hand_ins: int
    said: int
    devices: tuple[bytes, ...]

    def row(self) -> JSON:
        """As `status` has it."""
        devices: list[JSON] = [device.hex() for device in self.devices]
        counts: dict[str, JSON] = {"hand_ins": self.hand_ins, "said": self.said}
        return {"space": self.space.hex(), "name": self.name, **counts, "devices": devices}


async def closed_mark(server: Server, space: bytes) -> Mapping[str, bytes | None]:
    """The mark that a class is closed as it is here now."""
    count = (await server.replica.position(space)).count
    return {CLOSED_MARKS + space.hex(): count.to_bytes(_COUNT_BYTES, "big")}


async def came_after_closing(server: Server) -> list[CameAfter]:
    """What is to be told, for classes that are closed still."""
    closed = await server.store.marks(CLOSED_MARKS)
    if not closed:
        return []
    standing = {covers for _, covers in await in_force(server.replica)}
    now_ms, found, names = server.now_ms(), [], await space_records(server)
    for mark, count in closed.items():
        space = bytes.fromhex(mark.removeprefix(CLOSED_MARKS))
        if space not in standing:
            continue
        came = await server.store.of_kinds(space, _COUNTED, after=int.from_bytes(count, "big"))
        late = [one.entry for one in came]
        authors = {entry.header.author for entry in late}
        before = await authored_by(server.store, authors, now_ms - TOLD_MS, now_ms) if late else None
        late = [entry for entry in late if entry.id not in (before or ())]
        if late:
            devices = tuple(dict.fromkeys(entry.header.author for entry in late))
            name = names[space].name if space in names else space.hex()
            hand_ins = sum(entry.header.kind == Kind.HAND_IN for entry in late)
            found.append(CameAfter(space, name, hand_ins, len(late) - hand_ins, devices))
    return found


async def closing_notices(server: Server) -> list[Notice]:
    """One for each such class, as the overview has it."""
    return [
        Notice(
            "came-after-closing",
            {"count": each.hand_ins, "said": each.said, "name": each.name, "space": each.space.hex()},
        )
        for each in await came_after_closing(server)
    ]
