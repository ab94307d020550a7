"""A backup that somebody else may have written: what of it a restored server goes on from (docs/adr/0102, 0365).

Rules:
- nothing goes on from the database that lies in it: it is read, and what counts is written into a new one. So nothing
  of it is where the ordinary door would not have put it: no row out of sight that keeps a word from ever coming in, no
  trigger, no note that nobody has thought of;
- each entry goes through the door again, its signature and right; what does not pass is left behind, and what waits for
  something that is not there: others bring it again;
- reports of devices count as far as their devices have signed them;
- of what the store remembers, its marks, those are taken over that are listed here, and no others, whatever is added to
  them one day (docs/adr/0331). So goes what gives a right by merely standing there: who may sign in, whom the
  command names, and that there is a backup, on whose word machines let go of work; and what nobody can check: which
  content is complete; who was destroyed, and since when that was meant to be, for which an erasure in force has its
  week again; who has brought how much; which keys were its own and which revocations it has said; of
  which devices it knew whose they are (docs/adr/0316). Nor does it say which of several came first (docs/adr/0329);
- of who did what at the server of then the lines stay (`office.acts`): people read them, and nothing goes by them;
- its clock goes on from what the door has let in, as far as that moves clocks;
- what packs hold is read out of the packs, and to which spaces they belong counts as far as entries bear it out: the
  index of a backup proves nothing, and what no pack holds is lacking, and asked for (docs/adr/0108).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from protocol.limits import GiB
from protocol.messages.enrollment import parse_chain
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.office.acts import ACT_MARKS, taken_over
from protocol.replica.storage.foreign_file import ForeignFile, Numbered, read_foreign
from protocol.replica.storage.sqlite import SqliteStore
from protocol.trust.kit import Kit
from sync_server.handlers.accounts.administrators import ACCOUNT_MARKS, Administrator, accounts_in
from sync_server.opened.contacts import CONTACT_MARKS
from sync_server.opened.data_folder import COPY_FILE

_STAY: Final = (CONTACT_MARKS,)
"""Of the marks of a store those that are taken over: people read in them when each device was last heard of."""
_ROUNDS: Final = 10
"""So often what waited is tried again: what was destroyed came before its erasure, what was bad once after what it let
in. An honest backup needs two or three; one that somebody has put in another order loses what deleting would lose it.
"""
_TELL_EACH_BYTES: Final = GiB


async def take_over(
    folder: Path, root: bytes, kit: Kit, now_ms: Callable[[], int], tell: Callable[[str], None]
) -> tuple[Replica, list[Administrator]]:
    """A new replica in `folder`, where a backup was unpacked, of what is proven in it; and who could sign in.

    Raises `LocalFailure`; nothing is open then.
    """
    store = await SqliteStore.open(folder)
    try:
        content = await PackFolder.open(folder, store)
        replica = await Replica.open(root, store, content)
        with read_foreign(folder / COPY_FILE) as foreign:
            left = await _let_in(foreign, replica, kit, now_ms)
            await store.put_registers(await asyncio.to_thread(foreign.registers))
            await store.set_marks({key: data for each in _STAY for key, data in foreign.marks(each).items()})
            await store.set_marks(taken_over(foreign.marks(ACT_MARKS)))
            accounts = accounts_in(foreign.marks(ACCOUNT_MARKS))
            await _take_in_packs(foreign, store, content, tell)
    except BaseException:
        await store.close()
        raise
    if left:
        tell(
            f"{left} entries in the backup were left behind: nobody who may say them has signed them, or what they "
            "need is not in it; agents bring what is lacking"
        )
    return replica, accounts


async def _let_in(foreign: ForeignFile, replica: Replica, kit: Kit, now_ms: Callable[[], int]) -> int:
    """Let in by the ordinary door all that passes it; how many entries do not."""
    source = replica.door.root
    if kit.chain:
        await replica.admit(parse_chain(kit.chain), source=source, now_ms=now_ms())
    refused: set[bytes] = set()
    waiting: dict[bytes, int] = {}
    pages = foreign.entries()
    for _ in range(_ROUNDS):
        came, waiting = 0, {}
        while (page := await asyncio.to_thread(_next, pages)) is not None:
            entries = [entry for _, entry in page]
            admission = await replica.admit(entries, source=source, now_ms=now_ms(), hold=False)
            came += len(admission.admitted)
            refused |= {refusal.id for refusal in admission.refused}
            waits = set(admission.unheld)
            waiting |= {entry.id: number for number, entry in page if entry.id in waits}
        if not came or not waiting:
            break
        pages = foreign.again(sorted(waiting.values()))
    return len(refused | waiting.keys())


async def _take_in_packs(
    foreign: ForeignFile, store: SqliteStore, content: PackFolder, tell: Callable[[str], None]
) -> None:
    """The index of the unpacked packs, read out of them."""
    homes = await asyncio.to_thread(foreign.homes)
    rebuild = content.rebuild()
    await rebuild.take_in_parts(_Progress(tell))
    lacking = len(homes.keys() - await content.pack_sizes())
    await rebuild.look_at_entries(store, content)
    await rebuild.take_homes(homes)
    if lacking:
        tell(f"{lacking} packs that the backup names are missing in it or bad; what they held is asked of the agents")


class _Progress:
    """Says how far it is, now and then."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        if done - self._told >= _TELL_EACH_BYTES:
            self._told = done
            self._tell(f"packs are read: {done / GiB:.0f} of {total / GiB:.0f} GiB")


def _next(pages: Iterator[Numbered]) -> Numbered | None:
    return next(pages, None)
