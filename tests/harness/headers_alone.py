"""A server in wrong hands shows of some words the headers alone: somebody is erased for a moment, and shown again."""

from __future__ import annotations

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Ruling
from protocol.replica.at_work.bare_entries import BareEntries
from tests.harness.territory import Territory


class _KeptBack(BareEntries):
    """It gives the payload of none, and takes none that it is brought."""

    async def fill(self, _entries: object) -> list[Entry]:
        return []

    async def whole(self, _ids: object, _spaces: object) -> list[Entry]:
        return []


async def show_headers_alone(territory: Territory, space: bytes, covers: bytes, *names: bytes) -> None:
    """Of these entries, which an erasure of `covers` covers; everybody who has none of them is given such a one."""
    gone = await territory.say(space, Kind.ERASE, Erasure(covers).encode())
    await territory.replica.store.erase(list(names), {})
    await territory.say(space, Kind.RULING, Ruling((), (gone.id,)).encode())
    await territory.replica.reload()
    territory.replica.bare.__class__ = _KeptBack
