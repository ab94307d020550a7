"""What the words of a key lead to and is not here: whoever cuts the key off says so (docs/adr/0330).

Who has a key signs what they like, shows that to nobody, and signs behind it something harmless whose `prev` names it.
The harmless word stands among the heads of a revocation, or leads to one; what it follows would count with it, whenever
it turned up.

Rules:
- what a word that stays names in `prev`, and was not here, is absent: a revocation names it, and holds it back wherever
  it turns up;
- of a time before, what had not come by then was not here;
- there is room for `MAX_REVOKED_ABSENT`. A word that leads to more, of those that came first, does not stay, nor does
  what leads to it: whoever has the key writes such words without end, and an honest device lacks hardly any of its own.

docs/protocol.md, "Roster".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass

from protocol.limits import MAX_REVOKED_ABSENT, MAX_REVOKED_HEADS
from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Tips
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.heads import heads_by_then, heads_of


@dataclass(frozen=True, slots=True)
class Gaps:
    """What words lead to and is `absent`, in the order in which they came; `beyond` are those that lead to more."""

    absent: tuple[bytes, ...] = ()
    beyond: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Named:
    """What a revocation names of a key: the `heads` of what stays, and the gaps in that."""

    heads: list[bytes]
    gaps: Gaps = Gaps()


def gaps_in(written: Mapping[bytes, Entry], elsewhere: Container[bytes], most: int = MAX_REVOKED_ABSENT) -> Gaps:
    """The gaps in what a key has `written`, in order of arrival; what is `elsewhere` is here, and is none of it."""
    absent: dict[bytes, None] = {}
    following: defaultdict[bytes, list[bytes]] = defaultdict(list)
    pending: list[bytes] = []
    for entry in written.values():
        lacking = dict.fromkeys(
            name for name in entry.header.prev if name not in written and name not in elsewhere and name not in absent
        )
        for name in entry.header.prev:
            following[name].append(entry.id)
        if len(absent) + len(lacking) > most:
            pending.append(entry.id)
        else:
            absent |= lacking
    beyond: set[bytes] = set()
    while pending:
        name = pending.pop()
        if name not in beyond:
            beyond.add(name)
            pending += following[name]
    return Gaps(tuple(absent), frozenset(beyond))


async def gaps_of(
    authors: Collection[bytes], spaces: Iterable[bytes], store: EntryStore, known: Collection[bytes] | None = None
) -> Gaps:
    """The gaps in what these keys have said in `spaces`, as far as it is `known`; all that is here, without that."""
    return await _gaps_of(await _written(authors, spaces, store, known), authors, store, known)


async def _gaps_of(
    written: Mapping[bytes, Entry], authors: Collection[bytes], store: EntryStore, known: Collection[bytes] | None
) -> Gaps:
    names = {name for entry in written.values() for name in entry.header.prev} - written.keys()
    # what is here is none of theirs, or of another space; but of theirs what came later
    here = (await store.get(sorted(names))).values()
    later = () if known is None else authors
    return gaps_in(
        written, {entry.id for entry in here if entry.header.author not in later or entry.id in (known or ())}
    )


async def named_of(
    key: bytes,
    spaces: Collection[bytes],
    tips: Tips,
    store: EntryStore,
    successors: Collection[bytes] = (),
    *,
    known: Collection[bytes] | None = None,
    most: int = MAX_REVOKED_HEADS,
) -> Named:
    """What a revocation of a key names of its words, and those of its successors, in `spaces`, as far as `known`."""
    authors = [key, *successors]
    written = await _written(authors, spaces, store, known)
    gaps = await _gaps_of(written, authors, store, known)
    if known is None and not gaps.beyond:
        return Named(await heads_of(key, spaces, tips, store, successors, most=most), gaps)
    stays = written.keys() - gaps.beyond
    return Named(await heads_by_then(authors, spaces, stays, store, most=most), gaps)


async def _written(
    authors: Iterable[bytes], spaces: Iterable[bytes], store: EntryStore, known: Collection[bytes] | None
) -> dict[bytes, Entry]:
    keys = list(authors)
    said = [entry for space in spaces for key in keys for entry in await store.authored(space, key)]
    return {entry.id: entry for entry in said if known is None or entry.id in known}
