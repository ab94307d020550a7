"""Keys of pupils' work as they lie here: sealed under slots of one file, each of which is written over in place.

A database's log is cut, and files beside it are written anew: their blocks go back to the disk as they are, and whoever
reads that raw finds what no file holds any more. A key that would be found there opens what the server has, so that
none is ever put there in clear (docs/adr/0412).

Rules:
- the file holds secrets of 32 random bytes. It is made once, grows at its end, and is never written anew elsewhere;
- where it cannot be read or written, it stays as it is, for who can put that right, and the next of `KEY_SLOTS_FILES`
  takes over: work goes on. A key opens under whichever of them sealed it (docs/adr/0424);
- a mark holds a key as it was sealed under the secret of one slot; no secret seals two;
- to give a key up, its slot's secret is drawn anew, in place and durably, before the mark goes;
- a slot is left alone for what it does not open: an old copy of a mark came back, and it is another's by now;
- what no mark needs is drawn anew by each process before it takes a slot, and again as long as the disk refuses: for
  what was given up when the power went, or could not be, and because copies of a disk begin with the same ones;
- an earlier version put keys into marks as they are, and names of files beside them: at the first opening, or once the
  disk lets that be, keys are sealed, names go, and the database's log, and what lies beside it, are seen to as after an
  erasure.

A sealed key is number of the slot (4, big-endian) ‖ ciphertext ‖ tag (16), by ChaCha20-Poly1305 under the slot's
secret, with a nonce of zeros, and `relais/0 kept key` 00 ‖ number as associated data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.identity import tagged
from protocol.limits import MAX_SEALED_MANIFEST_BYTES
from protocol.replica.at_work.replica import Entropy
from protocol.replica.interfaces import EntryStore
from protocol.replica.upkeep.eraser import LEFTOVERS_MARK
from protocol.trust.sealing import CONTENT_KEY_BYTES
from sync_agent.machine.enrolled import KEY_SLOTS_FILES
from sync_agent.machine.marks import DRAFT_MARKS, HAND_IN_MARKS, HAND_IN_NAMES_MARKS
from sync_agent.machine.secrets import Secrets

MAX_MARK_BYTES: Final = 2 * MAX_SEALED_MANIFEST_BYTES
"""Of marks with keys: those of an earlier version may hold names of files too."""
SLOT_BYTES: Final = 32
_DOMAIN: Final = b"relais/0 kept key"
_BARE: Final = (b"\xa3key", b"\xa5files")
"""What a mark of an earlier version has of these: others need not be read for that."""
_SLOTS_AT_ONCE: Final = 1024
_NUMBER_BYTES: Final = 4
_TAG_BYTES: Final = 16
SEALED_KEY_BYTES: Final = _NUMBER_BYTES + CONTENT_KEY_BYTES + _TAG_BYTES
_NONCE: Final = bytes(12)

_log = logging.getLogger(__name__)


_Named: TypeAlias = Sequence[tuple[str | None, int]]
"""Slots whose secrets are needed: each with its file, or with none where no file that can be read opens the key."""


class KeySlots:
    """Those of one machine. `secrets` are the files in which they lie, `store` holds the marks that name them."""

    def __init__(self, secrets: Callable[[], Secrets], store: EntryStore, entropy: Entropy) -> None:
        self._secrets = secrets
        self._store = store
        self._entropy = entropy
        self._lock = asyncio.Lock()
        self._free: dict[str, list[int]] = {}
        """Slots whose secrets have sealed nothing, of each file of which this process has drawn those anew."""
        self._lent: set[tuple[str, int]] = set()
        """Slots of keys that no mark holds yet."""
        self._hindered: set[str] = set()
        """Files that could not be used when that was last tried."""
        self._is_sealed = False
        """Whether no mark is known to hold a key as it is."""

    def open(self, sealed: bytes | None) -> bytes | None:
        """The key in what a mark holds; None where there is none, or its slot was given up, lost, or cannot be read."""
        return None if sealed is None else self.opening()(sealed)

    def opening(self) -> Callable[[bytes | None], bytes | None]:
        """The same for many: the files are read once, with the first of them."""
        read = cache(self._readable)
        return lambda sealed: None if sealed is None else _opened_by_one(sealed, read())[1]

    @asynccontextmanager
    async def sealing(self, key: bytes) -> AsyncIterator[bytes]:
        """A key, sealed for the mark that is to hold it by the end of the context.

        Raises `LocalFailure`: `STORAGE_FAILED` where none of the files can be used.
        """
        file, number, secret = await self._take()
        try:
            kept = ChaCha20Poly1305(secret).encrypt(_NONCE, key, _bound(number))
            yield number.to_bytes(_NUMBER_BYTES, "big") + kept
        finally:
            self._lent.discard((file, number))

    async def give_up(self, sealed: Collection[bytes]) -> None:
        """Let nothing open these any more, durably, or as soon as the disk lets that be; then their marks may go."""
        if not sealed:
            return
        async with self._lock:
            for file, data in self._readable().items():
                numbers = [_number(each) for each in sealed if _opened(each, data) is not None]
                try:
                    await self._draw(file, numbers)
                    self._free.get(file, []).extend(numbers)
                except LocalFailure as failure:
                    self._let_be(file, failure)

    async def draw_free(self) -> None:
        """Draw anew what no mark needs, where this process has not done so yet."""
        async with self._lock:
            for file in self._there():
                if file not in self._free:
                    await self._tidy(file)

    async def hindrances(self) -> dict[str, LocalFailure]:
        """The files that cannot be used now, and why, as a try shows."""
        async with self._lock:
            found = {file: await self._tidy(file) for file in self._there()}
        return {file: failure for file, failure in found.items() if failure is not None}

    async def seal_bare(self) -> bool:
        """Seal the keys that an earlier version put into marks, and let go of the names of files there.

        False, with a line in the log, where that waits.
        """
        try:
            if not self._is_sealed:
                await self._seal_bare()
            self._is_sealed = True
        except LocalFailure as failure:
            _log.warning(
                "keys and names of works lie in the database as a version before left them, for now: %s", failure
            )
        return self._is_sealed

    async def _seal_bare(self) -> None:
        now: dict[str, bytes | None] = dict.fromkeys(await self._store.marks(HAND_IN_NAMES_MARKS))
        async with AsyncExitStack() as stack:
            for prefix in (HAND_IN_MARKS, DRAFT_MARKS):
                for name, mark in (await self._store.marks(prefix)).items():
                    row = _row(mark) if any(each in mark for each in _BARE) else {}
                    if "files" in row:
                        del row["files"]
                        now[name] = encode(row)
                    if "key" in row:
                        key, sealed = row.pop("key"), None
                        if isinstance(key, bytes) and len(key) == CONTENT_KEY_BYTES:
                            sealed = await stack.enter_async_context(self.sealing(key))
                        now[name] = encode({**row, "sealed": sealed})
            # what was given up before may lie there as well
            await self._store.set_marks({**now, LEFTOVERS_MARK: b"\1"} if now else {})

    async def _take(self) -> tuple[str, int, bytes]:
        """A slot that nothing was sealed under, its file and its secret; it is lent until a mark names it."""
        async with self._lock:
            for file in KEY_SLOTS_FILES:
                try:
                    number, secret = await self._take_of(file)
                except LocalFailure as failure:
                    self._let_be(file, failure)
                    # a disk that takes nothing takes no other file either
                    if failure.code is not Code.STORAGE_FAILED:
                        raise
                else:
                    self._lent.add((file, number))
                    return file, number, secret
        raise LocalFailure(Code.STORAGE_FAILED, f"{KEY_SLOTS_FILES[0]} cannot be used, nor any file in its place")

    async def _take_of(self, file: str) -> tuple[int, bytes]:
        while True:
            if not self._free.get(file):
                await self._draw_free(file)
            if not self._free[file]:
                await self._grow(file)
            number = self._free[file].pop()
            secret = _secret(number, self._read(file))
            # people may delete the file, or cut it short
            if len(secret) == SLOT_BYTES:
                return number, secret

    def _there(self) -> list[str]:
        return [file for file in KEY_SLOTS_FILES if self._secrets().is_there(file)]

    async def _tidy(self, file: str) -> LocalFailure | None:
        """Draw anew what is free in a file; why that cannot be."""
        try:
            await self._draw_free(file)
        except LocalFailure as failure:
            self._let_be(file, failure)
            return failure
        return None

    def _let_be(self, file: str, failure: LocalFailure) -> None:
        """A file cannot be used for now: what this process knew of it is found out anew once it can."""
        self._free.pop(file, None)
        if file not in self._hindered:
            _log.warning("keys of works that lie under %s have to wait: %s", file, failure)
        self._hindered.add(file)

    async def _named(self) -> _Named:
        # in this order: what is given back while marks are read is named in one of them by then
        lent, sealed = [*self._lent], []
        for prefix in (HAND_IN_MARKS, DRAFT_MARKS):
            rows = map(_row, (await self._store.marks(prefix)).values())
            sealed += [key for row in rows if isinstance(key := row.get("sealed"), bytes)]
        files = self._readable()
        return [*lent, *((_opened_by_one(key, files)[0], _number(key)) for key in sealed)]

    async def _draw_free(self, file: str) -> None:
        data = self._read(file)
        taken = {number for place, number in await self._named() if place in (file, None)}
        # the lowest is taken first
        free = [number for number in reversed(range(len(data) // SLOT_BYTES)) if number not in taken]
        await self._draw(file, free)
        self._free[file] = free
        self._hindered.discard(file)

    async def _draw(self, file: str, numbers: Sequence[int]) -> None:
        """Other secrets for these slots; no other is touched."""
        if numbers:
            fresh = self._entropy(SLOT_BYTES * len(numbers))
            drawn = {number * SLOT_BYTES: _secret(at, fresh) for at, number in enumerate(sorted(numbers))}
            await _to_its_end(partial(self._secrets().overwrite, file, drawn))

    async def _grow(self, file: str) -> None:
        """More slots, behind those that there are: none is moved."""
        slots = len(self._read(file)) // SLOT_BYTES
        fresh, secrets = self._entropy(SLOT_BYTES * _SLOTS_AT_ONCE), self._secrets()
        if slots:
            await _to_its_end(partial(secrets.overwrite, file, {slots * SLOT_BYTES: fresh}))
        else:
            await _to_its_end(partial(secrets.keep, file, fresh))
        self._free[file] = list(reversed(range(slots, slots + _SLOTS_AT_ONCE)))

    def _readable(self) -> dict[str, bytes]:
        """What lies in each file that can be read."""
        found = {}
        for file in KEY_SLOTS_FILES:
            try:
                found[file] = self._read(file)
            except LocalFailure as failure:
                self._let_be(file, failure)
        return found

    def _read(self, file: str) -> bytes:
        try:
            return self._secrets().read(file)
        except OSError as reason:
            raise LocalFailure(Code.STORAGE_FAILED, f"{file} cannot be read: {reason.strerror}", file=file) from reason


async def _to_its_end(write: Callable[[], None]) -> None:
    """Wait for a write though whoever waits is cancelled: its thread goes on, and would meet the next one."""
    writing, cancelled = asyncio.get_running_loop().run_in_executor(None, write), None
    while not writing.done():
        try:
            await asyncio.wait([writing])
        except asyncio.CancelledError as reason:
            cancelled = reason
    if cancelled is not None:
        raise cancelled from writing.exception()
    writing.result()


def _opened(sealed: bytes, data: bytes) -> bytes | None:
    number = _number(sealed)
    secret = _secret(number, data)
    if len(sealed) != SEALED_KEY_BYTES or len(secret) != SLOT_BYTES:
        return None
    try:
        return ChaCha20Poly1305(secret).decrypt(_NONCE, sealed[_NUMBER_BYTES:], _bound(number))
    except InvalidTag:
        return None


def _opened_by_one(sealed: bytes, files: Mapping[str, bytes]) -> tuple[str | None, bytes | None]:
    """The file whose slot opens it, and the key."""
    for file, data in files.items():
        if (key := _opened(sealed, data)) is not None:
            return file, key
    return None, None


def _number(sealed: bytes) -> int:
    return int.from_bytes(sealed[:_NUMBER_BYTES], "big")


def _secret(number: int, data: bytes) -> bytes:
    return data[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]


def _bound(number: int) -> bytes:
    return tagged(_DOMAIN, number.to_bytes(_NUMBER_BYTES, "big"))


def _row(mark: bytes) -> dict[str, Value]:
    """What a mark holds; nothing where it cannot be read, which is for its own reader to say."""
    try:
        row = decode(mark, max_bytes=MAX_MARK_BYTES)
    except PeerFault:
        return {}
    return dict(row) if isinstance(row, dict) else {}
