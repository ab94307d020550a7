"""Whether a caller has told a store all that it knows, and not only called (docs/adr/0322).

A caller takes this store's generation, and cursors that fit it, once it has compared its sets with it to the end
(docs/protocol.md, "Reconcile"); what was found lacking here goes first into its outbox, and from there into what it
pushes. So one that names both, pushes nothing more, holds nothing that this store was not known to take, and whom
nothing sends back to comparing, has told all but for what this store itself has not taken of it (`untaken_of`,
docs/adr/0338): a caller that keeps that, to offer it again later, asks in between without pushing anything.

What was taken from it, and who showed it where this store stands, may have been somebody with a copy of this store's
keys; and the question may be an old one. So all that it holds has to lie here (`differing`), and it has told that since
the challenge was given that it says (docs/adr/0340). A program from before says neither, and has told nothing.

Both sides compare what the caller may read; of what is closed to it, as either knows, it has told nothing, whoever has
closed it; nor of what it asks for and is not let into (`untold_by`, docs/adr/0359, docs/adr/0369).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from protocol.errors import Code
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import Refusal, SpacePage
from protocol.replica.answering.named_cursors import NamedCursors
from protocol.replica.at_work.deserted import but_for_deserted
from protocol.replica.at_work.readers import ever_opened_to
from protocol.replica.at_work.replica import Replica


def has_told_all(
    request: SyncRequest,
    cursors: NamedCursors,
    pages: Iterable[SpacePage],
    *,
    unlike: Collection[bytes],
) -> bool:
    """Whether this request, which names this store's generation, shows that its device has told all.

    `pages` are the news of what it may read, `unlike` the spaces in which it stands elsewhere, or is not let in.
    """
    unknown = (page for page in pages if cursors.of(page.checkpoint.space) is None)
    nothing_left = request.sets is not None and not (request.push or request.untaken or unlike)
    return nothing_left and next(unknown, None) is None


async def differing(
    replica: Replica, request: SyncRequest, cursors: NamedCursors, readable: Iterable[bytes]
) -> dict[bytes, int] | None:
    """None if what the caller holds is what lies here; else how many arrivals of each space it knows of."""
    counts: dict[bytes, int] = {}
    for space in readable:
        cursor = cursors.of(space)
        known = cursor.count if cursor is not None else 0
        counts[space] = known if request.standing is None else (await replica.position(space)).count
    digests = replica.digests
    alike = await digests.sets(counts.items()) == request.sets
    # not by sets of before something was moved aside meanwhile
    return None if alike and digests is replica.digests else counts


async def untold_by(
    replica: Replica, device: bytes, request: SyncRequest, closed: Iterable[bytes], readable: Collection[bytes]
) -> frozenset[bytes]:
    """The spaces into which a device was ever let in, and which are not among those that are compared with it.

    Of a right that came here never it says itself that it has `ended`, or asks for what is `closed` to it; of what it
    knows as ended it tells nothing, though it be readable here. Of what the root has taken back with all that was said
    in it nothing is to be told: a thief's classes by the thousand keep no device from telling of its own.
    """
    untold = ever_opened_to(replica.door, device).difference(readable).union(request.ended, closed)
    return frozenset(await but_for_deserted(replica.door, replica.deserted_by_root, untold))


def untaken_of(
    request: SyncRequest,
    waiting: Iterable[bytes],
    refused: Iterable[Refusal],
    is_its_own: Callable[[bytes], bool],
) -> tuple[bytes, ...]:
    """The ids of what a request pushed in vain; `is_its_own` says so of keys.

    Not what is beyond the quota of somebody else, who is asked for it by itself: whoever floods a class would have
    each machine that carries a part of it named.
    """
    authors = {entry.id: entry.header.author for entry in request.push}
    found = [
        refusal.id
        for refusal in (*request.refused, *refused)
        if refusal.code is not Code.OVER_QUOTA or refusal.id not in authors or is_its_own(authors[refusal.id])
    ]
    return tuple(dict.fromkeys((*waiting, *found)))
