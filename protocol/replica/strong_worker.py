"""The process that does the heavy part of a strong container: it compresses with great effort and looks into files.

Run as `python -m protocol.replica.strong_worker` by `StrongWorker`, at the lowest priority, beside a server that goes
on answering; what it takes of memory is gone with it. On its input stand jobs, on its output their results:

    job    = kind (1: compress, 2: unfold) ‖ size (4) ‖ bytes
    result = size of the recipe (4, 0 if there is none) ‖ size of the rest (4) ‖ recipe ‖ rest
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from typing import BinaryIO, Final

import zstandard

from protocol.deflate_parameters import profile
from protocol.delta import LEVEL, compress
from protocol.errors import Code, LocalFailure
from protocol.limits import MAX_IMAGE_BYTES
from protocol.reflate import Unfolded, pays, unfold

_JOB: Final = struct.Struct(">BI")
_RESULT: Final = struct.Struct(">II")
_COMPRESS: Final = 1
_UNFOLD: Final = 2
_PATIENCE_S: Final = 600.0
_NICE: Final = 19
# what an image must save at least, of all that the file weighs
_LEAST_GAIN: Final = 0.03
_FAST_LEVEL: Final = 3
_IMAGE_LEVEL: Final = 12


class StrongWorker:
    """The process, started with the first job. Raises `LocalFailure(INTERRUPTED)` if it dies or takes too long."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def compress(self, plain: bytes) -> bytes:
        """One zstd frame of the strongest level."""
        return (await self._do(_COMPRESS, plain))[1]

    async def unfold(self, data: bytes) -> Unfolded | None:
        """A file seen from inside, if it weighs clearly less like that."""
        recipe, image = await self._do(_UNFOLD, data)
        return Unfolded(image, recipe) if recipe else None

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _do(self, kind: int, data: bytes) -> tuple[bytes, bytes]:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._exchange(kind, data)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as reason:
            await self.close()
            raise LocalFailure(Code.INTERRUPTED, "what prepares content has stopped", reason=repr(reason)) from reason
        except BaseException:
            # what it would still say belongs to nobody
            await self.close()
            raise

    async def _exchange(self, kind: int, data: bytes) -> tuple[bytes, bytes]:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        into, out = self._process.stdin, self._process.stdout
        if into is None or out is None:
            raise OSError("no pipes")
        into.write(_JOB.pack(kind, len(data)))
        into.write(data)
        await into.drain()
        recipe_bytes, rest_bytes = _RESULT.unpack(await out.readexactly(_RESULT.size))
        return await out.readexactly(recipe_bytes), await out.readexactly(rest_bytes)


def work(into: BinaryIO, out: BinaryIO) -> None:
    """Do jobs until there are no more."""
    while len(head := into.read(_JOB.size)) == _JOB.size:
        kind, size = _JOB.unpack(head)
        data = into.read(size)
        recipe, rest = b"", b""
        if kind == _COMPRESS:
            rest = compress(data, b"", LEVEL)
        elif (found := lighter_image(data)) is not None:
            recipe, rest = found.recipe, found.image
        out.write(_RESULT.pack(len(recipe), len(rest)) + recipe)
        out.write(rest)
        out.flush()


def lighter_image(data: bytes) -> Unfolded | None:
    """The image of a file, where a compressor of middling effort already makes clearly less of it than of the file."""
    unfolded = unfold(data, allowed=profile())
    if unfolded is None or len(unfolded.image) > MAX_IMAGE_BYTES:
        return None
    weighs = len(zstandard.ZstdCompressor(level=_FAST_LEVEL).compress(data))
    image_bytes = len(zstandard.ZstdCompressor(level=_IMAGE_LEVEL).compress(unfolded.image))
    saved = weighs - image_bytes - len(unfolded.recipe)
    return unfolded if saved >= weighs * _LEAST_GAIN and pays(saved, unfolded.fold_ms) else None


def main() -> None:
    """The process."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    work(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
