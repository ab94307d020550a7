"""Uploads that have begun and are not whole yet: how much of them a device may have lying here at a time.

What is whole is weighed in `allowances`; who stops before the end must not fill a disk either.

Rules:
- a part counts as what it is to become while it arrives, as what has come of it afterwards, and never as less than a
  block of the disk;
- the parts of a device (all keys that it gave itself) in a space are together no more than it may still bring there,
  and few: each upload looks through what lies here;
- where one more does not fit, those of that device that lay still longest make way, and nobody else's: what is wanted
  is offered again, from its beginning;
- for which space a part came is remembered in memory. After a restart what is not offered anew counts in every space.

docs/protocol.md, "Content".
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

from protocol.errors import Code, TooLarge
from protocol.limits import KiB
from protocol.messages.wire import Capability
from protocol.replica.interfaces import ContentStore

_BLOCK_BYTES: Final = 4 * KiB
_KEPT_SPACES: Final = 16_384
_MOST_PARTS: Final = 256

_Part: TypeAlias = tuple[bytes, bytes]
"""A pack, and the beginning of the key of who sends it."""


class OpenParts:
    """The unfinished uploads at one replica."""

    def __init__(self, content: ContentStore, whose: Callable[[bytes], bytes]) -> None:
        """`whose` gives the account of a key, of which at least the beginning is known."""
        self._content = content
        self._whose = whose
        self._arriving: list[Capability] = []
        self._spaces: OrderedDict[_Part, bytes] = OrderedDict()
        self._beginning = asyncio.Lock()

    def offered(self, may: Capability) -> None:
        """A device means to send this, or to go on with it."""
        part = may.pack, may.sender
        self._spaces[part] = may.space
        self._spaces.move_to_end(part)
        while len(self._spaces) > _KEPT_SPACES:
            self._spaces.popitem(last=False)

    @asynccontextmanager
    async def receiving(self, may: Capability, left: int) -> AsyncIterator[None]:
        """While a part arrives of a device that may bring `left` bytes more. Raises `TooLarge(OVER_QUOTA)`."""
        async with self._beginning:
            self.offered(may)
            await self._make_way(may, left)
            self._arriving.append(may)
        try:
            yield
        finally:
            self._arriving.remove(may)

    async def _make_way(self, may: Capability, left: int) -> None:
        mine, account = (may.pack, may.sender), self._whose(may.sender)
        arriving = {(other.pack, other.sender): other.size for other in self._arriving}
        beside = {
            part: max(arriving.get(part, size), _BLOCK_BYTES)
            for part, size in {**dict(await self._content.parts_sent()), **arriving}.items()
            if part != mine and self._spaces.get(part, may.space) == may.space and self._whose(part[1]) == account
        }
        over = sum(beside.values()) + max(may.size, _BLOCK_BYTES) - left
        surplus = len(beside) + 1 - _MOST_PARTS
        for part, size in beside.items():
            if max(over, surplus) > 0 and part not in arriving:
                await self._content.drop_part(*part)
                over -= size
                surplus -= 1
        if max(over, surplus) > 0:
            raise over_quota()


def over_quota() -> TooLarge:
    """More than anybody asked for."""
    return TooLarge(Code.OVER_QUOTA, "this is more than this machine may bring here: nothing asks for it")
