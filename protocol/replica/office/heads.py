"""The heads that a revocation names: what a key had said by then stays (docs/protocol.md, "Roster").

A revocation that names too many counts for nothing. Whoever has the key can write on from nothing over and over, so
that it has more heads than there is room for: it must be cut off all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import chain, islice, zip_longest

from protocol.ancestry import ancestors
from protocol.limits import MAX_REVOKED_HEADS
from protocol.replica.interfaces import EntryStore
from protocol.replica.replica import Tips


async def heads_of(
    key: bytes,
    spaces: Iterable[bytes],
    tips: Tips,
    store: EntryStore,
    successors: Iterable[bytes] = (),
    *,
    most: int = MAX_REVOKED_HEADS,
) -> list[bytes]:
    """The latest entries of a key in `spaces`; if there is not room for all, of each space first what most leads to.

    Those of its `successors` too, which a revocation cuts with it. What leads to none of them is held back, and waits
    for somebody.
    """
    authors = [key, *successors]
    found = {(space, author): await tips(space, author) for space in spaces for author in authors}
    if sum(map(len, found.values())) > most:
        for (space, author), heads in found.items():
            written = {entry.id: entry for entry in await store.authored(space, author)}
            heads.sort(key=lambda head: len(ancestors([head], written)), reverse=True)
    by_weight = chain.from_iterable(zip_longest(*found.values()))
    return list(islice((head for head in by_weight if head is not None), most))


async def heads_by_then(
    keys: Iterable[bytes], spaces: Iterable[bytes], known: Collection[bytes], store: EntryStore
) -> list[bytes]:
    """The latest entries of keys in `spaces` among the `known` ones: what they had said when no more was known."""
    authors, heads = list(keys), []
    for space in spaces:
        for author in authors:
            written = [entry for entry in await store.authored(space, author) if entry.id in known]
            named = {earlier for entry in written for earlier in entry.header.prev}
            heads += [entry.id for entry in written if entry.id not in named]
    return heads[:MAX_REVOKED_HEADS]
