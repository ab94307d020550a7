"""The heads that a revocation names: what a key had said by then stays (docs/protocol.md, "Roster").

A revocation that names too many counts for nothing. Whoever has the key can write on from nothing over and over, so
that it has more heads than there is room for: it must be cut off all the same. Then those are named that lead to the
most, each for what those before it do not lead to: a thief who wants an honest line left out has to write as many lines
as there is room for, each longer than that one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import chain, islice, zip_longest
from typing import Final

from protocol.limits import MAX_REVOCATION_LISTS, MAX_REVOKED_HEADS, MAX_ROOT_ACCOUNT_IDS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft, Tips
from protocol.replica.interfaces import EntryStore
from protocol.rights.root_rotation import RootAccount

MOST_LISTED_HEADS: Final = MAX_REVOKED_HEADS + MAX_REVOCATION_LISTS * (MAX_ROOT_ACCOUNT_IDS - 1)
"""Heads that a root's revocation names, by itself and in lists: more than a territory has spaces."""
MOST_EARLIER_HEADS: Final = 256
"""Earlier words of a key that the root's revocation of it names beside the heads, where that leaves room for them."""


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

    Those of its `successors` too, which a revocation cuts with it, as far as its own leave room: it may have made them
    by the thousand. What leads to none of them is held back, and waits for somebody.
    """
    authors = [key, *successors]
    found = {(space, author): await tips(space, author) for space in spaces for author in authors}
    if sum(map(len, found.values())) > most:
        for (space, author), heads in found.items():
            written = {entry.id: entry for entry in await store.authored(space, author)}
            found[space, author] = list(islice(by_weight(heads, written), most))
    own = _in_turn((heads for (_, author), heads in found.items() if author == key), most)
    others = _in_turn((heads for (_, author), heads in found.items() if author != key), most)
    return [*own, *others][:most]


def lists_of(territory: bytes, heads: Sequence[bytes]) -> list[Draft]:
    """Lists, for the root to sign, of those heads for which a revocation has no room."""
    return accounts_of(territory, heads[_named_by_itself(heads) :])


def accounts_of(territory: bytes, names: Sequence[bytes]) -> list[Draft]:
    """Lists, for the root to sign, of entries, each as long as one may be."""
    lists = [names[start : start + MAX_ROOT_ACCOUNT_IDS] for start in range(0, len(names), MAX_ROOT_ACCOUNT_IDS)]
    return [Draft(territory, Kind.ROOT_ACCOUNT, None, RootAccount(tuple(listed)).encode()) for listed in lists]


def cut_by_root(key: bytes, heads: Sequence[bytes], lists: Sequence[Entry], absent: Sequence[bytes] = ()) -> Revocation:
    """The root's revocation of a key with so many heads: those of which `lists` hold the rest.

    The lists stand among its heads too: earlier programs look for them there alone.
    """
    named = tuple(listed.id for listed in lists)
    return Revocation(key, (*heads[: _named_by_itself(heads)], *named), named, tuple(absent))


def _named_by_itself(heads: Sequence[bytes]) -> int:
    """How many heads a root's revocation names by itself: where there are lists, they take the places of some."""
    return len(heads) if len(heads) <= MAX_REVOKED_HEADS else max(0, MAX_REVOKED_HEADS - MAX_REVOCATION_LISTS)


async def heads_by_then(
    keys: Iterable[bytes],
    spaces: Iterable[bytes],
    known: Collection[bytes],
    store: EntryStore,
    *,
    most: int = MAX_REVOKED_HEADS,
) -> list[bytes]:
    """The latest entries of keys in `spaces` among the `known` ones: what they had said when no more was known."""
    authors, found = list(keys), []
    for space in spaces:
        for author in authors:
            written = {entry.id: entry for entry in await store.authored(space, author) if entry.id in known}
            named = {earlier for entry in written.values() for earlier in entry.header.prev}
            heads = [entry for entry in written if entry not in named]
            found.append(list(islice(by_weight(heads, written), most)))
    return _in_turn(found, most)


async def earlier_words(
    key: bytes, spaces: Iterable[bytes], store: EntryStore, known: Collection[bytes] | None = None
) -> list[bytes]:
    """What a key had said before its latest entries: of each space by turns that 1, 2, 4, 8 … places before, then all.

    Only of what is `known`, where that is given. The latest entries of each space are among them too.
    """
    found = []
    for space in spaces:
        said = [entry.id for entry in await store.authored(space, key) if known is None or entry.id in known]
        newest_first = said[: -MOST_EARLIER_HEADS - 1 : -1]
        doubling = [said[-1 - (1 << power)] for power in range(len(said).bit_length()) if 1 << power < len(said)]
        found.append(list(dict.fromkeys([*doubling, *newest_first])))
    return _in_turn(found, MOST_EARLIER_HEADS + MAX_REVOKED_HEADS)


def with_earlier(heads: Sequence[bytes], earlier: Iterable[bytes]) -> list[bytes]:
    """All heads of a key, and of its `earlier` words as many as one revocation has room for without lists.

    These lead nowhere where the heads do not. But the latest words may have burnt with the only machine that had them:
    a replica that lacks a head goes by the latest that it has, instead of holding back all that the key had said.
    """
    room = max(0, min(MOST_EARLIER_HEADS, MAX_REVOKED_HEADS - len(heads)))
    named = set(heads)
    return [*heads, *islice((word for word in earlier if word not in named), room)]


def by_weight(heads: Iterable[bytes], written: Mapping[bytes, Entry]) -> Iterator[bytes]:
    """Heads of one author, each time the one that leads to the most of `written` that those before do not lead to."""
    bounds = _bounds(written)
    queue = [(-bounds.get(head, 1), place, head) for place, head in enumerate(heads)]
    heapify(queue)
    covered: set[bytes] = set()
    while queue:
        _, place, head = queue[0]
        gain = _not_covered(head, written, covered)
        # what was reckoned before may be less by now: another is first then
        if len(queue) > 1 and len(gain) < -min(queue[1:3])[0]:
            heapreplace(queue, (-len(gain), place, head))
            continue
        heappop(queue)
        covered |= gain
        yield head


def _bounds(written: Mapping[bytes, Entry]) -> dict[bytes, int]:
    """To how many entries each leads, at most: what two lines share is counted twice."""
    found: dict[bytes, int] = {}
    for start in written:
        pending = [start]
        while pending:
            entry = pending[-1]
            earlier = [name for name in written[entry].header.prev if name in written]
            missing = [name for name in earlier if name not in found]
            if missing:
                pending.extend(missing)
            else:
                found[entry] = min(len(written), 1 + sum(found[name] for name in earlier))
                pending.pop()
    return found


def _not_covered(head: bytes, written: Mapping[bytes, Entry], covered: Collection[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    pending = [head]
    while pending:
        name = pending.pop()
        if name in written and name not in found and name not in covered:
            found.add(name)
            pending.extend(written[name].header.prev)
    return found


def _in_turn(found: Iterable[Sequence[bytes]], most: int) -> list[bytes]:
    """One of each list after the other."""
    in_turn = chain.from_iterable(zip_longest(*found))
    return list(islice((head for head in in_turn if head is not None), most))
