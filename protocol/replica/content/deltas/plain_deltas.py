"""Deltas for who compresses otherwise: the same versions, said without recipes (docs/protocol.md, "Reflate").

A publisher says a document by its image and the parameters that bring it back. A machine whose zlib gives other bytes
(zlib-ng under the same name, Python 3.14's on Windows) has no use for that, and would get packs: five times as much
as a delta of the files as they are.

Rules:
- made once for a version, by who answers, while the first caller of that kind waits for it, `PATIENCE_S` at most;
- one at a time, and nobody waits for another's: packs bring the same;
- kept among the deltas, in their budget, where it is clearly less than packs; what is not is not tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from protocol.errors import RelaisError
from protocol.replica.interfaces import ContentStore, DeltaInfo, PackInfo
from protocol.transfer.deflate_parameters import NO_LEVELS

PATIENCE_S: Final = 5.0
_WORTH: Final = 0.75
_REMEMBERED: Final = 1_000

_log = logging.getLogger(__name__)


class PlainDeltas:
    """Makes them out of one replica's content."""

    def __init__(self, content: ContentStore) -> None:
        self._content = content
        self._is_making = False
        self._tried: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()

    async def made_like(self, delta: DeltaInfo, tree: bytes, packs_bytes: int) -> PackInfo | None:
        """A delta that brings `tree` from the bases of one with recipes; None where packs are as good, or for now."""
        name = delta.space, tree
        if self._is_making or name in self._tried:
            return None
        self._is_making = True
        try:
            return await self._make(delta, tree, packs_bytes)
        except TimeoutError:
            _log.info("a delta without recipes takes too long here")
            return None
        except RelaisError as failure:
            _log.warning("a delta without recipes could not be made: %s", failure)
            return None
        finally:
            self._is_making = False
            self._tried[name] = None
            while len(self._tried) > _REMEMBERED:
                self._tried.popitem(last=False)

    async def _make(self, delta: DeltaInfo, tree: bytes, packs_bytes: int) -> PackInfo | None:
        from protocol.replica.content.deltas.delta_build import build_delta  # noqa: PLC0415 — few servers ever need it

        async with asyncio.timeout(PATIENCE_S):
            made = await build_delta(self._content, delta.space, tree, delta.bases, allowed=NO_LEVELS)
        if made is None or made[0].size > packs_bytes * _WORTH:
            return None
        finished, data = made
        about = DeltaInfo(finished.hash, finished.size, delta.space, (tree,), finished.index.bases)
        await self._content.keep_delta(about, data)
        return PackInfo(finished.hash, finished.size, delta.space)
