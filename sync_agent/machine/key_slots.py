"""Keys of pupils' work as they lie here: sealed under slots of one file, each of which is written over in place.

A database's log is cut, and files beside it are written anew: their blocks go back to the disk as they are, and whoever
reads that raw finds what no file holds any more. A key that would be found there opens what the server has, so that
none is ever put there in clear (docs/adr/0412).

Rules:
- the file holds secrets of 32 random bytes. It is made once, grows at its end, and is never written anew elsewhere;
- a mark holds a key as it was sealed under the secret of one slot; no secret seals two;
- to give a key up, its slot's secret is drawn anew, in place and durably; only then the mark may go;
- a slot is left alone for what it does not open: an old copy of a mark came back, and it is another's by now;
- before a process takes the first one, and once it knows of no more, it draws those anew that no mark names: for what
  was given up when the power went, and because copies of a disk begin with the same ones;
- an earlier version put keys into marks as they are: they are sealed at the first opening, or once the disk lets that
  be, and the database's log, and what lies beside it, are seen to as after an erasure.

A sealed key is number of the slot (4, big-endian) ‖ ciphertext ‖ tag (16), by ChaCha20-Poly1305 under the slot's
secret, with a nonce of zeros, and `relais/0 kept key` 00 ‖ number as associated data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Final

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
from sync_agent.machine.enrolled import KEY_SLOTS_FILE
from sync_agent.machine.marks import DRAFT_MARKS, HAND_IN_MARKS
from sync_agent.machine.secrets import Secrets

MAX_MARK_BYTES: Final = 2 * MAX_SEALED_MANIFEST_BYTES
"""Of marks with keys: some hold names of files too."""
SLOT_BYTES: Final = 32
_DOMAIN: Final = b"relais/0 kept key"
_BARE: Final = b"\xa3key"
"""What a mark of an earlier version has: others need not be read for that."""
_SLOTS_AT_ONCE: Final = 1024
_NUMBER_BYTES: Final = 4
_TAG_BYTES: Final = 16
SEALED_KEY_BYTES: Final = _NUMBER_BYTES + CONTENT_KEY_BYTES + _TAG_BYTES
_NONCE: Final = bytes(12)

_log = logging.getLogger(__name__)


class KeySlots:
    """Those of one machine. `secrets` are the files in which they lie, `store` holds the marks that name them."""

    def __init__(self, secrets: Callable[[], Secrets], store: EntryStore, entropy: Entropy) -> None:
        self._secrets = secrets
        self._store = store
        self._entropy = entropy
        self._lock = asyncio.Lock()
        self._free: list[int] = []
        """Slots whose secrets have sealed nothing."""
        self._lent: set[int] = set()
        """Slots of keys that no mark holds yet."""
        self._is_drawn = False
        """Whether this process has drawn those anew that no mark named."""
        self._is_sealed = False
        """Whether no mark is known to hold a key as it is."""

    def open(self, sealed: bytes | None) -> bytes | None:
        """The key in what a mark holds; None where there is none, or its slot was given up, or lost.

        Raises `LocalFailure(STORAGE_FAILED)` where the file cannot be read.
        """
        return None if sealed is None else self.opening()(sealed)

    def opening(self) -> Callable[[bytes | None], bytes | None]:
        """The same for many: the file is read once, with the first of them."""
        read = cache(self._read)
        return lambda sealed: None if sealed is None else _opened(sealed, read())

    @asynccontextmanager
    async def sealing(self, key: bytes) -> AsyncIterator[bytes]:
        """A key, sealed for the mark that is to hold it by the end of the context.

        Raises `LocalFailure`.
        """
        number, secret = await self._take()
        try:
            kept = ChaCha20Poly1305(secret).encrypt(_NONCE, key, _bound(number))
            yield number.to_bytes(_NUMBER_BYTES, "big") + kept
        finally:
            self._lent.discard(number)

    async def give_up(self, sealed: Collection[bytes]) -> None:
        """Let nothing open these any more, durably; then the marks may go that hold them. Raises `LocalFailure`."""
        if not sealed:
            return
        async with self._lock:
            data = self._read()
            numbers = [_number(each) for each in sealed if _opened(each, data) is not None]
            await self._draw(numbers)
            self._free += numbers

    async def draw_free(self) -> None:
        """Draw anew what no mark names, once in the life of a process. Raises `LocalFailure`."""
        async with self._lock:
            if not self._is_drawn:
                await self._draw_free()

    async def seal_bare(self) -> bool:
        """Seal the keys that an earlier version put into marks; False, with a line in the log, where that waits."""
        try:
            if not self._is_sealed:
                await self._seal_bare()
            self._is_sealed = True
        except LocalFailure as failure:
            _log.warning("keys of works lie in the database as an earlier version left them, for now: %s", failure)
        return self._is_sealed

    async def _seal_bare(self) -> None:
        now = dict[str, bytes | None]()
        async with AsyncExitStack() as stack:
            for prefix in (HAND_IN_MARKS, DRAFT_MARKS):
                for name, mark in (await self._store.marks(prefix)).items():
                    row = _row(mark) if _BARE in mark else {}
                    if "key" in row:
                        key, sealed = row.pop("key"), None
                        if isinstance(key, bytes) and len(key) == CONTENT_KEY_BYTES:
                            sealed = await stack.enter_async_context(self.sealing(key))
                        now[name] = encode({**row, "sealed": sealed})
            # what was given up before may lie there as well
            await self._store.set_marks({**now, LEFTOVERS_MARK: b"\1"} if now else {})

    async def _take(self) -> tuple[int, bytes]:
        """A slot that nothing was sealed under, and its secret; it is lent until a mark names it."""
        async with self._lock:
            while True:
                if not self._free:
                    await self._draw_free()
                if not self._free:
                    await self._grow()
                number = self._free.pop()
                secret = _secret(number, self._read())
                # people may delete the file, or cut it short
                if len(secret) == SLOT_BYTES:
                    self._lent.add(number)
                    return number, secret

    async def _draw_free(self) -> None:
        # in this order: what is given back while marks are read is named in one of them by then
        taken = set(self._lent)
        for prefix in (HAND_IN_MARKS, DRAFT_MARKS):
            for mark in (await self._store.marks(prefix)).values():
                sealed = _row(mark).get("sealed")
                taken |= {_number(sealed)} if isinstance(sealed, bytes) else set()
        data = self._read()
        # the lowest is taken first
        free = [number for number in reversed(range(len(data) // SLOT_BYTES)) if number not in taken]
        await self._draw(free)
        self._free, self._is_drawn = free, True

    async def _draw(self, numbers: Sequence[int]) -> None:
        """Other secrets for these slots; no other is touched."""
        if numbers:
            fresh = self._entropy(SLOT_BYTES * len(numbers))
            drawn = {number * SLOT_BYTES: _secret(at, fresh) for at, number in enumerate(sorted(numbers))}
            await _to_its_end(partial(self._secrets().overwrite, KEY_SLOTS_FILE, drawn))

    async def _grow(self) -> None:
        """More slots, behind those that there are: none is moved."""
        slots = len(self._read()) // SLOT_BYTES
        fresh, secrets = self._entropy(SLOT_BYTES * _SLOTS_AT_ONCE), self._secrets()
        if slots:
            await _to_its_end(partial(secrets.overwrite, KEY_SLOTS_FILE, {slots * SLOT_BYTES: fresh}))
        else:
            await _to_its_end(partial(secrets.keep, KEY_SLOTS_FILE, fresh))
        self._free = list(reversed(range(slots, slots + _SLOTS_AT_ONCE)))

    def _read(self) -> bytes:
        try:
            return self._secrets().read(KEY_SLOTS_FILE)
        except OSError as reason:
            raise LocalFailure(
                Code.STORAGE_FAILED, f"{KEY_SLOTS_FILE} cannot be read: {reason.strerror}", file=KEY_SLOTS_FILE
            ) from reason


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
