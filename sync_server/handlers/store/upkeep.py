"""Upkeep: what the store holds, whether it can serve, whether all that it holds is whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from protocol.errors import RelaisError
from protocol.limits import MiB
from protocol.replica.content.kept.pack_files import PACKS
from protocol.replica.interfaces import Damage
from protocol.replica.storage.database import migrations
from protocol.replica.upkeep.rebuild import put_right
from sync_server.opened.app import Server, every_mark

MIN_FREE_BYTES: Final = 64 * MiB
_PATIENCE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What lies in the store: entries of all spaces, chunks, and bytes of packs on disk."""

    entries: int
    chunks: int
    bytes: int


async def totals(server: Server) -> Totals:
    """What lies in the store."""
    _, chunks, size = await server.replica.content.totals()
    return Totals(sum((await server.store.spaces()).values()), chunks, size)


async def verify(server: Server) -> list[Damage]:
    """Read all that can be served; what is bad is moved aside and counts as missing, so that agents send it again."""
    lost = await put_right(server.store, every_mark, server.now_ms())
    if lost:
        # at once: of what is gone nobody is to count meanwhile as having told it
        await server.replica.reload()
        await server.take_losses()
    damages = [*lost, *await server.replica.content.verify()]
    if damages:
        await server.holdings.forget()
        await server.replica.reload()
    return damages


def contested_roots(server: Server) -> list[Damage]:
    """The roots after which several would come: no fault of the disk, and nothing that can be put right here."""
    why = (
        "two roots would come after it, and the earlier one counts: somebody else has the kit, or it was replaced twice"
    )
    return [Damage("root", root, why) for root in server.replica.door.contested_roots]


async def repair(server: Server) -> None:
    """Verify, and forget every note about what is complete, so that each piece is looked at again."""
    await verify(server)
    await server.holdings.forget()


async def readiness(server: Server) -> dict[str, str]:
    """What keeps the server from serving: part → a sentence; nothing if it can serve."""
    problems = {}
    for part, check in (
        ("database", server.store.mark("ready")),
        ("schema", _check_schema(server)),
        ("packs", _check_packs(server)),
        ("disk", _check_disk(server)),
    ):
        problem = await _problem(check)
        if problem is not None:
            problems[part] = problem
    return problems


async def _problem(check: Awaitable[object]) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await check
    except _NotReadyError as reason:
        return str(reason)
    except RelaisError as error:
        return error.message
    except TimeoutError:
        return "it does not answer"
    return None


class _NotReadyError(Exception):
    """A check that found something."""


async def _check_schema(server: Server) -> None:
    (stored,) = await server.store.database.run(lambda connection: connection.execute("PRAGMA user_version").fetchone())
    version = stored % 65536
    newest = migrations()[-1][0]
    if version < newest:
        raise _NotReadyError(f"the schema is {version}, and {newest} is needed")


async def _check_packs(server: Server) -> None:
    folder = server.folder / PACKS
    if not await asyncio.to_thread(os.access, folder, os.R_OK | os.W_OK | os.X_OK):
        raise _NotReadyError("the folder of packs is not there, or may not be written")


async def _check_disk(server: Server) -> None:
    free = await server.replica.content.free_bytes()
    if free < MIN_FREE_BYTES:
        raise _NotReadyError(f"{free} bytes are free, and {MIN_FREE_BYTES} are needed")
