"""The process that does the heavy part of a strong container.

It compresses with great effort, looks into files, and knows what a container has said already. Run by
`StrongWorker` in a process of its own (`process.child`), at the lowest priority, beside a server that goes on
answering; what it takes of memory is gone with it. On its input stand jobs, on its output their results:

    job    = kind (1: compress, 2: tell, 3: tell anew) ‖ size (4) ‖ level, or place in the container (4) ‖ bytes
    result = size of the recipe (4) ‖ number of parts (4) ‖ size of the rest (4) ‖ recipe ‖ parts ‖ rest
    part   = place in the container (4; 2^32 - 1 if the bytes are new) ‖ length (4)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from typing import BinaryIO, Final

import zstandard

from protocol.errors import Code, LocalFailure
from protocol.limits import MAX_IMAGE_BYTES
from protocol.replica.process.child import STANDS_IN, starting
from protocol.transfer.deflate_parameters import profile
from protocol.transfer.delta import Own
from protocol.transfer.delta_writer import compress
from protocol.transfer.reflate import pays, unfold
from protocol.transfer.repeats import Repeats, Told

_MODULE: Final = "protocol.replica.content.deltas.strong_worker"
_JOB: Final = struct.Struct(">BII")
_RESULT: Final = struct.Struct(">III")
_PART: Final = struct.Struct(">II")
_NEW: Final = 2**32 - 1
_COMPRESS: Final = 1
_TELL: Final = 2
_TELL_ANEW: Final = 3
_PATIENCE_S: Final = 600.0
_NICE: Final = 19
# what an image must save at least, of all that the file weighs
_LEAST_GAIN: Final = 0.03
_FAST_LEVEL: Final = 3
_IMAGE_LEVEL: Final = 12
_DENSE: Final = 0.995


class StrongWorker:
    """The process, started with the first job. Raises `LocalFailure(INTERRUPTED)` if it dies or takes too long."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def compress(self, plain: bytes, level: int) -> bytes:
        """See `Effort`."""
        return (await self._do(_COMPRESS, plain, level))[2]

    async def tell(self, data: bytes, at: int, *, anew: bool) -> tuple[bytes, tuple[Own | int, ...], bytes]:
        """See `Effort`."""
        return await self._do(_TELL_ANEW if anew else _TELL, data, at)

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _do(self, kind: int, data: bytes, at: int) -> tuple[bytes, tuple[Own | int, ...], bytes]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._exchange(kind, data, at)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as reason:
            await self.close()
            raise LocalFailure(Code.INTERRUPTED, "what prepares content has stopped", reason=repr(reason)) from reason
        except BaseException:
            # what it would still say belongs to nobody
            await self.close()
            raise

    async def _exchange(self, kind: int, data: bytes, at: int) -> tuple[bytes, tuple[Own | int, ...], bytes]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *starting(_MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=STANDS_IN,
            )
        into, out = self._process.stdin, self._process.stdout
        if into is None or out is None:
            raise OSError("no pipes")
        into.write(_JOB.pack(kind, len(data), at))
        into.write(data)
        await into.drain()
        recipe_bytes, count, rest_bytes = _RESULT.unpack(await out.readexactly(_RESULT.size))
        recipe = await out.readexactly(recipe_bytes)
        rows = _PART.iter_unpack(await out.readexactly(count * _PART.size))
        parts = tuple(length if place == _NEW else Own(place, length) for place, length in rows)
        return recipe, parts, await out.readexactly(rest_bytes)


def work(into: BinaryIO, out: BinaryIO) -> None:
    """Do jobs until there are no more."""
    teller = Teller()
    while len(head := into.read(_JOB.size)) == _JOB.size:
        kind, size, at = _JOB.unpack(head)
        data = into.read(size)
        if kind == _COMPRESS:
            recipe, parts, rest = b"", b"", squeezed(data, at)
        else:
            recipe, told = teller.tell(data, at, anew=kind == _TELL_ANEW)
            rest = told.new
            parts = b"".join(
                _PART.pack(_NEW, part) if isinstance(part, int) else _PART.pack(part.start, part.length)
                for part in told.parts
            )
        out.write(_RESULT.pack(len(recipe), len(parts) // _PART.size, len(rest)) + recipe + parts)
        out.write(rest)
        out.flush()


def squeezed(data: bytes, level: int) -> bytes:
    """One zstd frame of that level; sound and video, of which that makes nothing, are not tried long."""
    quick = compress(data, b"", _FAST_LEVEL)
    return quick if len(quick) > len(data) * _DENSE else compress(data, b"", level)


class Teller:
    """Says files in the words of one container after the other, from inside where that is clearly less."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def tell(self, data: bytes, at: int, *, anew: bool = False) -> tuple[bytes, Told]:
        """The recipe (none if the file is not seen from inside), and how its plain bytes are said."""
        if anew:
            self._repeats = Repeats()
        told, recipe = self._repeats.tell(data, at), b""
        unfolded = unfold(data, allowed=profile(), max_image_bytes=MAX_IMAGE_BYTES)
        if unfolded is not None:
            inside = self._repeats.tell(unfolded.image, at)
            weighs = _weight(told, _FAST_LEVEL)
            saved = weighs - _weight(inside, _IMAGE_LEVEL) - len(unfolded.recipe)
            if saved >= weighs * _LEAST_GAIN and pays(saved, unfolded.fold_ms):
                told, recipe = inside, unfolded.recipe
        self._repeats.remember(told)
        return recipe, told


def _weight(told: Told, level: int) -> int:
    """What new bytes come to when they are compressed, nearly."""
    return len(zstandard.ZstdCompressor(level=level).compress(told.new))


def main() -> None:
    """The process."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    work(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
