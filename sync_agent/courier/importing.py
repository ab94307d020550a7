"""Taking in what a courier disk brings (docs/protocol.md, "Courier disks").

Rules:
- everything goes through the ordinary door, as from a neighbour: the server may hold or lack what a disk brought, so
  that its space is compared with the server's at the next sync (`peer_news`), and nothing of it waits to be sent;
- what an erasure has done away with comes in as a bare header: an old disk brings nothing back;
- a damaged bundle spoils no other, and what was read of it before the damage stays; so does what came out of one that
  lacks something of what its index lists, which counts as damaged;
- what was taken is durable at each step: a disk that is pulled out costs what had not come yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from protocol.bundles.form import Index, PackNote
from protocol.bundles.reader import Entries, Event, PackData, PackEnd, PackStart, Registers
from protocol.errors import Code, PeerFault, RelaisError
from protocol.limits import MAX_CLOCK_LEAD_MS, MiB
from protocol.model.entry import Entry, Kind
from protocol.model.register import is_report, parse_register
from protocol.replica.answering.allowances import Allowance
from protocol.replica.at_work.forgotten import devices_of_forgotten
from protocol.replica.console.operation import FileData, FileEnd, FileStart, Incoming, Restart
from protocol.replica.interfaces import ContentStore, RegisterRow
from protocol.replica.left_due import LeftDue
from protocol.replica.upkeep.orders import DestroyedHere
from sync_agent.app import Agent
from sync_agent.courier.erasures import spare
from sync_agent.courier.opening import OpeningBundle
from sync_agent.courier.survey import COURIER, Wishes, admit_from_disk, keeps_reports
from sync_agent.machine.marks import BROUGHT_MARKS
from sync_agent.machine.write_behind import WriteBehind
from sync_agent.sync.after_news import tend_after_news
from sync_agent.upkeep.erasing import destroy_erased

_AT_ONCE_BYTES: Final = 2 * MiB
"""So much of a pack is written at once: a system writes large parts much faster than small ones."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Taken:
    """What an import brought: entries and packs that were new, bytes read; bundles that were damaged, or not ours."""

    entries: int = 0
    packs: int = 0
    reports: int = 0
    size: int = 0
    damaged: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    unheld: int = 0
    left: list[str] = field(default_factory=list)
    """Bundles of which packs were left, since no entry that is here asks for them."""

    @property
    def is_news(self) -> bool:
        """Whether anything was new."""
        return bool(self.entries or self.packs or self.reports)


async def take_bundles(agent: Agent, incoming: Incoming) -> Taken:
    """Take in whole bundles as they come. Raises `LocalFailure`; what was taken before stays.

    On a full disk that is raised at the end: what finds no room keeps nothing else on a stick from being heard.
    """
    taken, left = Taken(), LeftDue()
    keeps, erased = await keeps_reports(agent), await DestroyedHere.of(agent.replica)
    bundle: _Bundle | None = None
    try:
        async for event in incoming:
            match event:
                case FileStart():
                    bundle = _Bundle(agent, event.path, event.size or 0, taken, erased, left, keeps=keeps)
                case FileData() if bundle is not None:
                    taken.size += len(event.data)
                    await bundle.feed(event.data)
                case FileEnd() if bundle is not None:
                    await bundle.end()
                    bundle = None
                case Restart():
                    raise PeerFault(Code.MALFORMED, "a courier disk changes while it is read")
                case _:
                    pass
        with left.where_there_is_room():
            await destroy_erased(agent)
    finally:
        if bundle is not None:
            await bundle.leave()
        if taken.is_news:
            with left.where_there_is_room():
                await tend_after_news(agent)
            agent.on_change()
    left.tell()
    return taken


class _Bundle:
    """One bundle on its way in. The first fault ends it; the others go on."""

    def __init__(
        self, agent: Agent, name: str, size: int, taken: Taken, erased: DestroyedHere, left: LeftDue, *, keeps: bool
    ) -> None:
        self._agent = agent
        self._left = left
        self._erased = erased
        self._name = name
        self._taken = taken
        self._keeps = keeps
        self._opening = OpeningBundle(agent, size)
        self._over = False
        self._notes: dict[bytes, PackNote] = {}
        self._wishes: Wishes | None = None
        self._room = Allowance(0, 0, 0, 0)
        self._pack: PackStart | None = None
        self._content = _PackIn(agent.replica.content)
        self._finishing: asyncio.Task[None] | None = None
        self._finishing_bytes = 0

    async def feed(self, data: bytes) -> None:
        """The next bytes of the file."""
        if self._over:
            return
        try:
            await self._take(await self._opening.feed(data))
        except PeerFault as fault:
            await self._fail(fault)
        if self._opening.is_passed_over:
            self._over = True
            self._taken.locked.append(self._name)

    async def end(self) -> None:
        """All bytes have come. Raises `LocalFailure`."""
        if self._over:
            return
        try:
            self._opening.finish()
            with self._left.where_there_is_room():
                await self._finished()
        except PeerFault as fault:
            await self._fail(fault)

    async def leave(self) -> None:
        """Keep what has come, where no more does; what fails of that now is told by what ended it."""
        self._over = True
        with contextlib.suppress(RelaisError):
            await self._content.settle()
        with contextlib.suppress(RelaisError):
            await self._finished()

    async def _fail(self, fault: PeerFault) -> None:
        _log.warning("bundle %s: %s", self._name, fault)
        self._taken.damaged.append(self._name)
        await self.leave()

    async def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            with self._left.where_there_is_room():
                await self._take_one(event)
            if self._left.failure is not None:
                self._pack = None  # content has no room by now, and entries may have some

    async def _take_one(self, event: Event) -> None:
        match event:
            case Index():
                self._notes = {note.hash: note for note in event.packs}
            case Entries():
                await self._admit(event.entries)
            case Registers():
                await self._keep(event.data)
            case PackStart() if self._left.failure is None:
                await self._begin_pack(event)
            case PackData() if self._pack is not None:
                await self._content.extend(event.data)
            case PackData():
                pass
            case PackEnd():
                await self._end_pack()

    async def _admit(self, entries: Iterable[Entry]) -> None:
        agent = self._agent
        with self._left.where_there_is_room():
            await self._finished()
        # Entries name the space that they are of; a bundle of one space has no business with another.
        mine = [spare(entry, self._erased) for entry in entries if entry.header.space == self._opening.space]
        admission = await admit_from_disk(agent, mine)
        self._taken.entries += len(admission.admitted) + len(admission.released)
        self._taken.unheld += len(admission.unheld)
        works = [entry for entry in (*admission.admitted, *admission.released) if entry.header.kind == Kind.HAND_IN]
        if works:
            now = agent.now_ms().to_bytes(8, "big")
            with self._left.where_there_is_room():
                await agent.replica.store.set_marks({f"{BROUGHT_MARKS}{work.id.hex()}": now for work in works})
        self._wishes = None
        self._opening.refuse(each.id for each in admission.refused if each.code is Code.BAD_SIGNATURE)
        if admission.refused:
            _log.warning("bundle %s: %d entries that the door refuses", self._name, len(admission.refused))

    async def _keep(self, registers: Iterable[bytes]) -> None:
        if not self._keeps:
            return
        rows = []
        now_ms = self._agent.now_ms()
        for data in registers:
            try:
                register = parse_register(data)
            except PeerFault:
                continue
            own = register.device == self._agent.device
            is_fit = not own and register.at_ms <= now_ms + MAX_CLOCK_LEAD_MS and is_report(register)
            if is_fit and await self._agent.replica.readable(register.device):
                rows.append(RegisterRow(register.kind, register.subject, register.device, register.at_ms, data))
        forgotten = await devices_of_forgotten(self._agent.replica, [row.device for row in rows])
        rows = [row for row in rows if row.device not in forgotten]
        self._taken.reports += len(await self._agent.replica.store.put_registers(rows))

    # --- packs --------------------------------------------------------------------------------------------------------

    async def _begin_pack(self, pack: PackStart) -> None:
        note = self._notes.get(pack.hash)
        if note is None or note.size != pack.size:
            raise PeerFault(Code.MALFORMED, "a bundle brings a pack that its index does not name")
        if self._wishes is None:
            self._wishes = await Wishes.of(self._agent, self._opening.space)
            self._room = await self._agent.carried.of(self._opening.space, COURIER)
        if pack.size > self._room.left - self._finishing_bytes:
            await self._finished()
        if not self._room.lacking or pack.size > self._room.left:
            # nothing asks for it: a stick fills no disk
            self._taken.left.append(self._name)
            return
        content = self._agent.replica.content
        if not self._wishes.wants(note) or await content.pack(pack.hash, self._opening.space) is not None:
            return
        self._pack = pack
        self._content.begin(pack.hash)

    async def _end_pack(self) -> None:
        """Check a pack, and make it visible, while the next one comes."""
        pack, self._pack = self._pack, None
        if pack is None:
            return
        await self._content.settle()
        await self._finished()
        self._finishing_bytes = pack.size
        self._finishing = asyncio.create_task(self._finish_pack(pack))

    async def _finished(self) -> None:
        """Return when the pack that came before is visible. Raises `PeerFault`, `LocalFailure` where it is not."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            try:
                await finishing
            finally:
                self._finishing_bytes = 0

    async def _finish_pack(self, pack: PackStart) -> None:
        content = self._agent.replica.content
        making = self._room.making()
        try:
            await content.finish_part(self._opening.space, pack.hash, pack.size, making=making)
        except PeerFault as fault:
            if fault.code is not Code.OVER_QUOTA:
                raise
            await content.drop_part(pack.hash)
            await self._count(0, making.noted)
            _log.warning("bundle %s: %s", self._name, fault)
            return
        await self._count(making.came(pack.size), making.noted)
        self._taken.packs += 1

    async def _count(self, came: int, noted: int) -> None:
        self._room.left -= came
        self._room.noted -= noted
        await self._agent.carried.note(self._opening.space, COURIER, came, lacking=came, noted=noted)


class _PackIn:
    """A pack on its way into the store: a part of it is written while the next one is opened."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._pack = b""
        self._start = 0
        self._writing = WriteBehind(self._append, least_bytes=_AT_ONCE_BYTES, most_bytes=_AT_ONCE_BYTES)

    def begin(self, pack: bytes) -> None:
        """All that comes is of this pack from now on; what came before is settled."""
        self._pack, self._start = pack, 0

    async def extend(self, data: memoryview) -> None:
        """Add bytes. Raises `PeerFault`, `LocalFailure`, of bytes that were added before too."""
        await self._writing.add(data)

    async def settle(self) -> None:
        """Return when all that came is written. Raises `PeerFault`, `LocalFailure`."""
        await self._writing.settle()

    async def _append(self, data: memoryview) -> None:
        """Add what an earlier try has not left here already."""
        start, self._start = self._start, self._start + len(data)
        have = await self._content.part_size(self._pack)
        if start <= have < start + len(data):
            await self._content.append_part(self._pack, have, data[have - start :])
