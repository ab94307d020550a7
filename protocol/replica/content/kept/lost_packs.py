"""Packs that were found gone or cut short when their folder was opened, until somebody has been told.

Opening makes their content count as missing, so that it is asked for again; without a note nobody would learn why. Each
is told once, by `verify`, unless it has come back by then.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from protocol.replica.interfaces import Damage, EntryStore

_LOST_MARKS: Final = "lost-pack/"


async def note_lost(store: EntryStore, packs: Iterable[bytes]) -> None:
    """Remember that these are lost."""
    marks: dict[str, bytes | None] = {f"{_LOST_MARKS}{pack.hex()}": b"\x01" for pack in packs}
    if marks:
        await store.set_marks(marks)


async def tell_lost(store: EntryStore, here: Container[bytes]) -> list[Damage]:
    """Those that are not `here` again; none of them is told a second time."""
    marks = await store.marks(_LOST_MARKS)
    if not marks:
        return []
    lost = (bytes.fromhex(key.removeprefix(_LOST_MARKS)) for key in marks)
    damages = [Damage("pack", pack, "it was gone or cut short") for pack in lost if pack not in here]
    await store.set_marks(dict.fromkeys(marks))
    return damages
