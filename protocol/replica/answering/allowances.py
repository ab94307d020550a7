"""How much content a device may bring into a space: what entries name and is lacking here, once or twice, and a little.

Rules:
- what a device brings is weighed against the declared sizes of what is lacking in the space, and all that it has ever
  brought there against twice what the space's entries name: so that nobody fills a disk with what nobody asked for;
- `SPARE_CONTENT_BYTES` may come before the entries that name it, so that a small publication goes up in one request;
- what a delta makes counts, not what it weighs, and no more is made than may be brought, whether it is kept or not;
- what is noted of packs beyond their sizes, kept or not, has an account of its own: their lists may name chunks over
  and over, and who made them is not who carries them. Once it is spent, packs come that weigh what is noted of them;
- of hand-ins by one device so much counts as lacking, and so much in all, as a class's busiest PC may ever need: sizes
  that somebody invents open no door;
- the keys that a device gave itself share one account; where it is kept (at a server) it counts for a month, whatever
  restarts, but for the last `_SAVED_BYTES`; elsewhere it lies in memory and begins anew with the program, as machines
  that make room fetch the same again.

docs/protocol.md, "Content".
"""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from protocol.errors import LocalFailure, PeerFault
from protocol.folds.coursework import Coursework
from protocol.limits import (
    ALLOWANCE_PERIOD_MS,
    MAX_HAND_IN_BYTES_PER_DEVICE,
    MAX_LACKING_BYTES_PER_DEVICE,
    SPARE_CONTENT_BYTES,
    KiB,
    MiB,
)
from protocol.messages.wire import Capability
from protocol.model.work import ContentRef
from protocol.replica.at_work.replica import Replica
from protocol.replica.content.holdings import Holdings, Need
from protocol.replica.content.kept.open_parts import OpenParts, over_quota
from protocol.replica.interfaces import ContentStore
from protocol.replica.making import Making
from protocol.replica.recently_used import shorten

ACCOUNT_MARKS: Final = "brought/"
"""+ space in hex / first key of a line in hex → when the account was begun, what has come, what nobody asked for, what
was noted beyond that (not in those of earlier versions)."""
_SAVED_BYTES: Final = MiB
_NUMBER_BYTES: Final = 8
_KEPT_ACCOUNTS: Final = 100_000
_KEPT_SPACES: Final = 64
_PER_FILE_BYTES: Final = 2 * KiB
_PER_CONTENT_BYTES: Final = 64 * KiB
_TIMES: Final = 2
_NOTED_SHARE: Final = 8
"""What is noted of packs beyond their sizes may be the spare, and one part in so many of what entries name."""


@dataclass(slots=True)
class Allowance:
    """What a device may bring into a space at this moment, in bytes: `lacking` there, `spare`, and `left` in all.

    `noted` is what may be noted of packs beyond that.
    """

    lacking: int
    spare: int
    left: int
    noted: int

    @property
    def most(self) -> int:
        """The largest thing that may come."""
        return max(0, min(self.left, max(self.lacking, self.spare)))

    def making(self) -> Making:
        """For the next thing that comes."""
        return Making(self.most, max(0, self.noted))

    def take(self, size: int) -> bool:
        """Whether `size` bytes may come; what is left is less by them."""
        if size > self.most:
            return False
        self.left -= size
        if size <= self.lacking:
            self.lacking -= size
        else:
            self.spare -= size
        return True


@dataclass(frozen=True, slots=True)
class _Named:
    """Content that an entry names: its need, its size with all that lies around it, and whose hand-in it is."""

    need: Need
    size: int
    author: bytes | None


@dataclass(slots=True)
class _Account:
    """What has come since a time, in bytes, what of it nothing had asked for, and what was noted beyond it.

    `saved` is as much of that as was kept.
    """

    since_ms: int
    came: int = 0
    spared: int = 0
    noted: int = 0
    saved: int = 0

    @classmethod
    def parse(cls, mark: bytes | None, now_ms: int) -> Self:
        """From the store, or a new one."""
        if mark is None or len(mark) not in (3 * _NUMBER_BYTES, 4 * _NUMBER_BYTES):
            return cls(now_ms)
        numbers = [int.from_bytes(mark[at : at + _NUMBER_BYTES], "big") for at in range(0, len(mark), _NUMBER_BYTES)]
        account = cls(*numbers)
        account.saved = account.total
        return account

    @property
    def total(self) -> int:
        """What has come and was noted, together."""
        return self.came + self.noted

    def encode(self) -> bytes:
        """For the store."""
        numbers = (self.since_ms, self.came, self.spared, self.noted)
        return b"".join(each.to_bytes(_NUMBER_BYTES, "big") for each in numbers)


class Allowances:
    """The accounts of the devices that call one replica."""

    def __init__(self, replica: Replica, holdings: Holdings, now_ms: Callable[[], int] | None = None) -> None:
        """With a clock accounts are kept in the store, and begin anew each `ALLOWANCE_PERIOD_MS`."""
        self._now_ms = now_ms
        self._replica = replica
        self._holdings = holdings
        self._accounts: OrderedDict[tuple[bytes, bytes], _Account] = OrderedDict()
        self._named: OrderedDict[bytes, tuple[Coursework, list[_Named], int]] = OrderedDict()
        self._devices: OrderedDict[bytes, bytes] = OrderedDict()
        self.open_parts = OpenParts(replica.content, self._whose)

    async def of(self, space: bytes, device: bytes) -> Allowance:
        """What may come from a device, of which at least the beginning of the key is known."""
        named, declared = await self._content(space)
        lacking = set(await self._holdings.incomplete([each.need for each in named]))
        awaited = _sum([each for each in named if each.need in lacking], MAX_LACKING_BYTES_PER_DEVICE)
        account = await self._account((space, self._whose(device)))
        noted = SPARE_CONTENT_BYTES + declared // _NOTED_SHARE - account.noted
        return Allowance(awaited, SPARE_CONTENT_BYTES - account.spared, _left(declared, account), noted)

    async def note(self, space: bytes, device: bytes, size: int, *, lacking: int, noted: int = 0) -> None:
        """So much has come from a device, while so much was lacking; `noted` was noted beyond that."""
        key = space, self._whose(device)
        account = await self._account(key)
        account.came += size
        account.noted += noted
        if size > lacking:
            account.spared += size
        if self._now_ms is not None and account.total - account.saved >= _SAVED_BYTES:
            # what does not get to a full disk is counted all the same while the program runs
            with contextlib.suppress(LocalFailure):
                total = account.total
                await self._replica.store.set_marks({_mark(key): account.encode()})
                account.saved = total

    @asynccontextmanager
    async def receiving(self, may: Capability) -> AsyncIterator[None]:
        """While a part arrives that was let in with a capability. Raises `TooLarge(OVER_QUOTA)`."""
        _, declared = await self._content(may.space)
        left = _left(declared, await self._account((may.space, self._whose(may.sender))))
        async with self.open_parts.receiving(may, left):
            yield

    async def _account(self, key: tuple[bytes, bytes]) -> _Account:
        now_ms = 0 if self._now_ms is None else self._now_ms()
        if key not in self._accounts:
            kept = None if self._now_ms is None else await self._replica.store.mark(_mark(key))
            self._accounts.setdefault(key, _Account.parse(kept, now_ms))
        if not 0 <= now_ms - self._accounts[key].since_ms < ALLOWANCE_PERIOD_MS:
            self._accounts[key] = _Account(now_ms)
        shorten(self._accounts, key, _KEPT_ACCOUNTS)
        return self._accounts[key]

    async def ingest(self, space: bytes, device: bytes, data: bytes, allowance: Allowance) -> bool:
        """Take in a pack that came inside a message, if it may come. Raises as `ContentStore.ingest`."""
        lacking, making = allowance.lacking, allowance.making()
        if not allowance.take(len(data)):
            return False
        try:
            await self._replica.content.ingest(space, data, making=making)
        finally:
            came = making.came(len(data))
            allowance.take(came - len(data))
            allowance.noted -= making.noted
            await self.note(space, device, came, lacking=lacking, noted=making.noted)
        return True

    async def finish(self, may: Capability) -> None:
        """Make a pack or delta visible that has been sent with a capability; a bad or an unwanted one is thrown away.

        Nobody is refused what somebody else has brought while it was on its way. Raises `PeerFault`,
        `TooLarge(OVER_QUOTA)`, `LocalFailure`.
        """
        content: ContentStore = self._replica.content
        if await content.pack(may.pack, may.space) is not None:
            await content.drop_part(may.pack, may.sender)
            await self.note(may.space, may.sender, may.size, lacking=may.size)
            return
        allowance = await self.of(may.space, may.sender)
        making = allowance.making()
        try:
            if may.size > allowance.most:
                raise over_quota()
            await content.finish_part(may.space, may.pack, may.size, sender=may.sender, making=making)
        except PeerFault:
            # a delta whose base is not here is of no use later either
            await content.drop_part(may.pack, may.sender)
            await self._note_made(may, making, 0, allowance)
            raise
        await self._note_made(may, making, may.size, allowance)

    async def _note_made(self, may: Capability, making: Making, size: int, allowance: Allowance) -> None:
        came, lacking = making.came(size), allowance.lacking
        await self.note(may.space, may.sender, came, lacking=lacking, noted=making.noted)

    def _whose(self, device: bytes) -> bytes:
        """The account of a device: that of the first key of its line, where its key is known as a whole."""
        beginning = Capability.sender_of(device)
        if device != beginning:
            self._devices[beginning] = self._replica.door.origin(device)
            shorten(self._devices, beginning, _KEPT_ACCOUNTS)
        return self._devices.get(beginning, device)

    async def _content(self, space: bytes) -> tuple[list[_Named], int]:
        """All content that entries of the space name, and the sum of the sizes that count."""
        coursework = (await self._replica.view(space)).coursework
        known = self._named.get(space)
        if known is None or known[0] is not coursework:
            named = self._all_named(space, coursework)
            known = self._named[space] = coursework, named, _sum(named, MAX_HAND_IN_BYTES_PER_DEVICE)
        shorten(self._named, space, _KEPT_SPACES)
        return known[1], known[2]

    def _all_named(self, space: bytes, coursework: Coursework) -> list[_Named]:
        """Of every version, not only those that are shown: packs of an older one may hold what a newer one shares."""
        named: dict[Need, _Named] = {}

        def add(ref: ContentRef | None, author: bytes | None = None) -> None:
            if ref is not None:
                need = Need(space, ref.stream, sealed=author is not None)
                size = ref.size + ref.size // 32 + _PER_FILE_BYTES * ref.files + _PER_CONTENT_BYTES
                named.setdefault(need, _Named(need, size, author))

        for item in coursework.items.values():
            for version in item.versions.values():
                add(version.record.content)
        for work in coursework.hand_ins.values():
            add(work.record.content, self._replica.door.origin(work.author))
            for content in work.said_with_files.values():
                add(content)
        return list(named.values())


def _left(declared: int, account: _Account) -> int:
    return _TIMES * declared + SPARE_CONTENT_BYTES - account.came


def _mark(key: tuple[bytes, bytes]) -> str:
    space, whose = key
    return f"{ACCOUNT_MARKS}{space.hex()}/{whose.hex()}"


def _sum(named: list[_Named], most_per_author: int) -> int:
    """The sizes together; of one author's hand-ins at most so many bytes."""
    totals: Counter[bytes | None] = Counter()
    for each in named:
        totals[each.author] += each.size
    return sum(size if author is None else min(size, most_per_author) for author, size in totals.items())
