"""What a server prepares for machines that have nothing and a thin line: strong containers, space by space.

Rules:
- a space is looked at once nothing has come into it for a whole round; it is prepared if it is large enough, and again
  when what has come since is a fifth of it, an edit as the delta that brings it: until then deltas and packs bring the
  rest;
- the heavy work is another process's, at the lowest priority; what it has done is kept only as a whole set;
- what is prepared is a cache: it may be thrown away, and a failure costs bytes, nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

from protocol.errors import LocalFailure, RelaisError
from protocol.limits import GiB, MiB
from protocol.model.work import ContentRef
from protocol.replica.answering.outgoing import delta_chain
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.deltas.strong_build import MAX_FILE_BYTES, Effort, build_strong
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.interfaces import DeltaInfo

MIN_PREPARED_BYTES: Final = 2 * MiB
MAX_PREPARED_BYTES: Final = GiB
BUDGET_BYTES: Final = 2 * GiB
_AGAIN_FROM: Final = 0.2

_log = logging.getLogger(__name__)


class StrongKeeper:
    """Keeps the strong containers of all spaces of one server."""

    def __init__(self, replica: Replica, holdings: Holdings) -> None:
        self._replica = replica
        self._holdings = holdings
        self._seen: dict[bytes, int] = {}
        self._settled: dict[bytes, int] = {}

    async def tend(self, effort: Effort, *, is_stopping: Callable[[], bool] = lambda: False) -> list[bytes]:
        """Prepare the spaces for which it is time; which these were. Raises `LocalFailure` of the store only."""
        counts = await self._replica.store.spaces()
        quiet = [
            space
            for space, count in counts.items()
            if self._seen.get(space) == count and self._settled.get(space) != count
        ]
        self._seen = counts
        prepared = []
        for space in quiet:
            if is_stopping():
                break
            content = await self._due(space)
            if content is None:
                continue
            # looked at again when something has come, not every round: a territory has thousands of spaces
            self._settled[space] = counts[space]
            if content and await self._prepare(space, content, effort):
                prepared.append(space)
        return prepared

    async def _due(self, space: bytes) -> list[ContentRef] | None:
        """The content to prepare of a space, if it is time; None while some of it is still on its way here."""
        items = (await self._replica.view(space)).coursework.items.values()
        shown = {item.shown.record.content.stream: item.shown.record.content for item in items if not item.withdrawn}
        total = sum(content.size for content in shown.values())
        if not MIN_PREPARED_BYTES <= total <= MAX_PREPARED_BYTES:
            return []
        leads = [delta for delta in await self._replica.content.deltas(space) if delta.strong and delta.trees]
        if leads and await self._beyond(space, leads, shown.values()) < total * _AGAIN_FROM:
            return []
        needs = [Need(space, stream, sealed=False) for stream in shown]
        if await self._holdings.incomplete(needs, most=1):
            return None
        # what is no list of files is not on its way, and has nothing to be prepared
        here = await self._holdings.complete(needs)
        return [shown[need.stream] for need in needs if need in here and await self._is_fit(shown[need.stream])]

    async def _beyond(self, space: bytes, leads: Sequence[DeltaInfo], shown: Iterable[ContentRef]) -> int:
        """What was not prepared: deltas that bring something on top of it by their size, the rest by its own."""
        known = {tree for lead in leads for tree in lead.trees}
        kept = await self._replica.content.deltas(space)
        deltas = {tree: delta for delta in kept if not delta.strong for tree in delta.trees}
        beyond = 0
        for content in shown:
            if content.stream not in known:
                chain = delta_chain(content.stream, deltas, known)
                beyond += sum(delta.size for delta in chain) if chain else content.size
        return beyond

    async def _is_fit(self, content: ContentRef) -> bool:
        return all(file.size <= MAX_FILE_BYTES for file in await self._holdings.manifest(content.stream))

    async def _prepare(self, space: bytes, content: list[ContentRef], effort: Effort) -> bool:
        store = self._replica.content
        trees = [one.stream for one in content]
        before = [delta.hash for delta in await store.deltas(space) if delta.strong]
        parts: list[DeltaInfo] = []
        total = 0
        try:
            async with aclosing(build_strong(store, space, trees, effort)) as made:
                async for finished, data in made:
                    brings = tuple(trees) if finished.index.brings_manifests else ()
                    beside = tuple(part.hash for part in parts) if brings else ()
                    about = DeltaInfo(
                        finished.hash,
                        finished.size,
                        space,
                        brings,
                        (),
                        strong=True,
                        parts=beside,
                        levels=finished.index.levels(),
                    )
                    await store.keep_delta(about, data)
                    parts.append(about)
                    total += finished.size
        except RelaisError as failure:
            if isinstance(failure, LocalFailure):
                _log.warning("content for first syncs cannot be prepared: %s", failure)
            for part in parts:
                await store.drop_delta(part.hash)
            return False
        for old in set(before) - {part.hash for part in parts}:
            await store.drop_delta(old)
        _log.info("prepared %d bytes for first syncs of space %s", total, space.hex())
        return True
