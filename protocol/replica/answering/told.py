"""Whether a caller has told a store all that it knows, and not only called (docs/adr/0322).

A caller takes this store's generation, and cursors that fit it, once it has compared its sets with it to the end
(docs/protocol.md, "Reconcile"); what was found lacking here goes first into its outbox, and from there into what it
pushes. So one that names both, pushes nothing more, and whom nothing sends back to comparing, has told all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from protocol.messages.calls import SyncRequest
from protocol.messages.parts import SpacePage
from protocol.replica.answering.named_cursors import NamedCursors


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
    return not request.push and not unlike and next(unknown, None) is None
