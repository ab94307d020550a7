"""A database that somebody else may have written: what of it a restored server goes on from (docs/adr/0102).

Rules:
- its tables and indexes are those that this program makes, and there is nothing else: a trigger or a view of somebody
  else's would go on working in the server, and swallow revocations say;
- each entry goes through the door again, its signature and right; what does not pass is moved aside;
- what waited in quarantine is let go: others bring it again;
- reports of devices count as far as their devices have signed them;
- of what the store remembers, its marks, those stay that are listed here, and all others are let go, whatever is added
  to them one day (docs/adr/0331). So goes what gives a right by merely standing there: who may sign in, whom the
  command names, and that there is a backup, on whose word machines let go of work; and what nobody can check: which
  content is complete; who was destroyed, and since when that was meant to be, for which an erasure in force has its
  week again; who has brought how much; which keys were its own and which revocations it has said; of
  which devices it knew whose they are (docs/adr/0316). Nor does it say which of several came first (docs/adr/0329);
- its clock goes on from what the door has let in, as far as that moves clocks;
- what packs hold is read out of the packs, and to which spaces they belong counts as far as entries bear it out: the
  index of a backup proves nothing, and what no pack holds is lacking, and asked for (docs/adr/0108).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocol.errors import Code, LocalFailure, PeerFault
from protocol.limits import PAGE_BYTES, GiB
from protocol.messages.enrollment import parse_chain
from protocol.model.register import parse_register
from protocol.replica.at_work.replica import CLOCK_MARK, Replica
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.content.kept.sqlite_rebuild import RebuiltRows
from protocol.replica.interfaces import RegisterRow
from protocol.replica.storage.database import is_made_like_ours
from protocol.replica.storage.memory import MemoryStore
from protocol.replica.storage.sqlite import DATABASE, SqliteStore
from protocol.replica.storage.sqlite_verify import move_aside
from protocol.trust.kit import Kit
from sync_server.opened.contacts import CONTACT_MARKS

_STAY: Final = (CONTACT_MARKS,)
"""Of the marks of a store those that stay: people read in them when each device was last heard of."""
_TELL_EACH_BYTES: Final = GiB


async def check_made_by_us(folder: Path) -> None:
    """Raise `LocalFailure(DAMAGED)` for an unpacked database that holds more, or less, than ours do."""
    if not await asyncio.to_thread(is_made_like_ours, folder / DATABASE):
        raise LocalFailure(
            Code.DAMAGED,
            "the database in this backup has parts that no server of this version makes: somebody else has written it, "
            "or a newer version; use another backup",
        )


async def keep_what_is_proven(store: SqliteStore, root: bytes, kit: Kit, now_ms: Callable[[], int]) -> None:
    """Let go of all that nobody has signed who may say it."""
    clock = await _keep_what_the_door_lets_in(store, root, kit, now_ms)
    await _forget_what_waits(store)
    await _keep_reports_of_devices(store)
    await _keep_marks_that_stay(store)
    await store.set_marks({CLOCK_MARK: clock})


async def packs_read_anew(folder: Path, store: SqliteStore, tell: Callable[[str], None]) -> PackFolder:
    """The packs of an unpacked backup, opened, with an index that was read out of them. Raises `LocalFailure`."""
    rows = RebuiltRows(store.database)
    named = len(await rows.sizes())
    # before anything else is asked of them: of rows that nobody wrote, few are found by their pack
    await rows.forget_content()
    content = await PackFolder.open(folder, store)
    rebuild = content.rebuild()
    lacking = named - len(await rows.sizes()) + await rebuild.read_anew(_Progress(tell))
    await rebuild.look_at_entries(store, content)
    await rebuild.keep_homes()
    if lacking:
        tell(f"{lacking} packs that the backup names are missing in it or bad; what they held is asked of the agents")
    return content


class _Progress:
    """Says how far it is, now and then."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        if done - self._told >= _TELL_EACH_BYTES:
            self._told = done
            self._tell(f"packs are read: {done / GiB:.0f} of {total / GiB:.0f} GiB")


async def _keep_what_the_door_lets_in(
    store: SqliteStore, root: bytes, kit: Kit, now_ms: Callable[[], int]
) -> bytes | None:
    """Move aside what bears no signature, or nobody's who might say it; the clock that the rest makes.

    Everything goes through the door of a second replica, in memory; of a server's own backup it lets all in.
    """
    await store.verify()
    judge = await Replica.open(root, MemoryStore(), MemoryPacks())
    if kit.chain:
        await judge.admit(parse_chain(kit.chain), source=root, now_ms=now_ms())
    listed = await store.spaces()
    left = set(listed)
    while left:
        # the territory, then its schools, then their classes, as each becomes known
        ready = sorted(left & set(judge.door.spaces())) or sorted(left)
        for space in ready:
            after = 0
            while page := await store.page(space, after, PAGE_BYTES):
                after = page[-1].arrival
                await judge.admit([stored.entry for stored in page], source=root, now_ms=now_ms())
        left.difference_update(ready)
    why: dict[bytes, str] = {}
    for space in listed:
        names = [stored.entry.id for stored in await store.scan(space)]
        why |= dict.fromkeys(set(names) - await judge.store.present(names), "nobody who may say it has signed it")
    await move_aside(store.database, why)
    return await judge.store.mark(CLOCK_MARK)


async def _forget_what_waits(store: SqliteStore) -> None:
    await store.database.write(lambda connection: connection.execute("DELETE FROM held").close())


async def _keep_reports_of_devices(store: SqliteStore) -> None:
    rows = await store.registers()
    await store.database.write(lambda connection: connection.execute("DELETE FROM register").close())
    await store.put_registers([row for row in rows if _is_signed(row)])


def _is_signed(row: RegisterRow) -> bool:
    try:
        said = parse_register(row.data)
    except (PeerFault, TypeError):
        return False
    return (said.kind, said.subject, said.device, said.at_ms) == (row.kind, row.subject, row.device, row.at_ms)


async def _keep_marks_that_stay(store: SqliteStore) -> None:
    await store.set_marks({mark: None for mark in await store.marks("") if not mark.startswith(_STAY)})
