"""What a server has said with its own commands, and whoever has a copy of its key says likewise: noted as it is said.

Which devices it has cut off, and let back in (docs/adr/0406), whom it has taken off a list, or made another
(docs/adr/0439, 0451), what it has called whom lists had (docs/adr/0489), which words that froze somebody it has
lifted (docs/adr/0446), and which of those that are held back it has refused (docs/adr/0552).

A word and the note of it are one transaction (`Office.say`): no power cut makes an own word somebody else's.
Whoever has a copy of its key says the like in its name, and notes nothing. A root's words nobody says but the root.
What an earlier key of its has said, it says again: `rotate server --since` may end that afterwards (docs/adr/0505).
Where an office asks what counts among all words all the same, a list says why (docs/adr/0506).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from typing import Final

from protocol.model.entry import Entry, Kind
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.bureau import Office, is_ours
from protocol.replica.office.made_anew import came_at_once
from protocol.roles import RANK, Role

CUT_MARKS: Final = "cuts-made/"
"""+ entry in hex: the revocations that this server has said."""
CUTS_SINCE_MARK: Final = "cuts-made-since"
"""Since what arrival revocations are noted (as `EntryStore.latest` says it)."""
BACK_MARKS: Final = "let-back/"
"""+ entry in hex: the grants of this server's that name revocations, and take them back."""

LEAVE_MARKS: Final = "taken-off/"
"""+ entry in hex: the words of this server's that take somebody off a list, make two one, or call somebody anew."""
LEAVES_SINCE_MARK: Final = "taken-off-since"
"""Since what arrival words are noted that take somebody off a list."""

LIFTED_MARKS: Final = "unfrozen/"
"""+ entry in hex: the words of anybody's that freeze somebody, and that `person unfreeze` has lifted at this server."""
REFUSED_MARKS: Final = "refused-here/"
"""+ entry in hex: the words that are held back, and that `refuse` has refused at this server."""
_NUMBER_BYTES: Final = 8


async def noted_cuts(store: EntryStore) -> frozenset[bytes]:
    """The revocations that were noted as said here."""
    return await _noted(store, CUT_MARKS)


async def noted_backs(store: EntryStore) -> frozenset[bytes]:
    """The grants that take revocations back, likewise."""
    return await _noted(store, BACK_MARKS)


async def noted_leaves(store: EntryStore) -> frozenset[bytes]:
    """The words that take somebody off a list, likewise."""
    return await _noted(store, LEAVE_MARKS)


async def noted_lifted(store: EntryStore) -> frozenset[bytes]:
    """The words that froze somebody and were lifted here, likewise."""
    return await _noted(store, LIFTED_MARKS)


async def noted_refused(store: EntryStore) -> frozenset[bytes]:
    """The words that were refused here, likewise."""
    return await _noted(store, REFUSED_MARKS)


def is_said_here(entry: Entry, noted: Container[bytes]) -> bool:
    """Whether what this server has `noted` holds an entry, or a root has said it."""
    return entry.header.grant is None or entry.id in noted


def is_surely_ours(office: Office, entry: Entry, noted: Container[bytes]) -> bool:
    """Whether an entry is an office's own word, or the root's: of a server's those alone that it has `noted`."""
    return is_said_here(entry, noted) if office.rank >= RANK[Role.SERVER] else is_ours(office, entry)


async def cuts_of_others(office: Office) -> list[Entry]:
    """The revocations that came since that is noted, and that neither this server nor a root has said.

    Of an office that is no server's none: it goes by its own key.
    """
    if office.rank < RANK[Role.SERVER]:
        return []
    store = office.replica.store
    since = await noting_since(store, CUTS_SINCE_MARK)
    later = await store.scan_kinds([Kind.REVOKE], 0 if since is None else since[0])
    noted = await noted_cuts(store)
    return [one for one in later if not is_said_here(one, noted)]


async def cuts_of_servers(office: Office) -> list[Entry]:
    """The revocations that this server has said, with its keys of now or of before, or a root: not a copied key's."""
    others = {one.id for one in await cuts_of_others(office)}
    rank_of = office.replica.door.rank_of
    said = await office.replica.store.scan_kinds([Kind.REVOKE])
    return [one for one in said if one.id not in others and rank_of(one.header) >= RANK[Role.SERVER]]


async def leaves_said_here(office: Office) -> Callable[[Entry], bool]:
    """Whether a word that takes somebody off a list, or makes two one, is this office's own, or a root's.

    Of a server's those are that it has noted, or that were here before it did: out of a backup none was.
    """
    if office.rank < RANK[Role.SERVER]:
        return lambda said: is_ours(office, said)
    store, door = office.replica.store, office.replica.door
    since, noted = await noting_since(store, LEAVES_SINCE_MARK), await noted_leaves(store)
    first = 0 if since is None or await came_at_once(store) else since[0]
    later = {one.id for one in await store.scan_kinds([Kind.PERSON], first)}

    def is_said(said: Entry) -> bool:
        return is_said_here(said, noted) or (said.id not in later and door.rank_of(said.header) == RANK[Role.SERVER])

    return is_said


async def said_by_this_key(office: Office, names: Collection[bytes]) -> set[bytes]:
    """Which of these entries an office's present key has said, noted or not, or a root: others go with their keys."""
    said = await office.replica.store.get(list(names))
    return {name for name, each in said.items() if is_ours(office, each)}


async def noting_since(store: EntryStore, mark: str) -> tuple[int, bytes] | None:
    """Since what arrival (as `EntryStore.latest` says it) something is noted, by the mark of that; None if never."""
    value = await store.mark(mark)
    return None if value is None else (int.from_bytes(value[:_NUMBER_BYTES], "big"), value[_NUMBER_BYTES:])


def since_mark(latest: tuple[int, bytes]) -> bytes:
    """What such a mark says."""
    return latest[0].to_bytes(_NUMBER_BYTES, "big") + latest[1]


async def _noted(store: EntryStore, marks: str) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(mark.removeprefix(marks)) for mark in await store.marks(marks))
