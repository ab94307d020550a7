"""`courier export` and `courier import`: the disk is the caller's, the store its owner's; between them go files.

An import asks first which bundles bring news, by their cards, and sends only those. docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from protocol.errors import Code, LocalFailure, Refused
from protocol.replica.console import Notices, tell
from protocol.replica.operation import JSON, Incoming, Outgoing, Params
from sync_agent.app import Agent
from sync_agent.command_names import COURIER_EXPORT, COURIER_IMPORT, COURIER_SURVEY
from sync_agent.courier_disk import BundlesIn, BundlesOut, CardsIn, CourierDisk
from sync_agent.courier_export import write_bundles
from sync_agent.courier_import import take_bundles
from sync_agent.courier_survey import Wishes, has_news, keeps_reports, survey
from sync_agent.measures import check_open

Run = Callable[[str, Params, Incoming, Outgoing], Awaitable[JSON]]
"""Has the owner of the store run an operation."""


# --- where the store is -----------------------------------------------------------------------------------------------


async def export_here(agent: Agent, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """The operation `courier-export`: cards in, bundles out."""
    await check_open(agent)
    written = await write_bundles(agent, incoming, outgoing)
    return {
        "entries": written.entries,
        "bytes": written.size,
        "replaced": written.replaced,
        "keyless": [space.hex() for space in written.keyless],
    }


async def survey_here(agent: Agent, incoming: Incoming) -> JSON:
    """The operation `courier-survey`: cards in, the names of the bundles that bring news out."""
    await check_open(agent)
    found = await survey(agent, incoming)
    keeps = await keeps_reports(agent)
    wanted = []
    # the territory first, then schools, then classes: what comes can be judged at once
    for space, cards in sorted(found.by_space().items(), key=lambda each: len(agent.replica.door.lineage(each[0]))):
        wishes = await Wishes.of(agent, space)
        wanted += [card.name for card in cards if await has_news(agent, card, wishes, keeps=keeps)]
    return {
        "wanted": wanted,
        "open": len(found.cards),
        "locked": found.locked,
        "foreign": found.foreign,
        "damaged": found.damaged,
    }


async def import_here(agent: Agent, incoming: Incoming) -> JSON:
    """The operation `courier-import`: bundles in."""
    await check_open(agent)
    taken = await take_bundles(agent, incoming)
    return {
        "entries": taken.entries,
        "bytes": taken.size,
        "packs": taken.packs,
        "reports": taken.reports,
        "damaged": taken.damaged,
        "unheld": taken.unheld,
    }


# --- where the disk is ------------------------------------------------------------------------------------------------


async def export_to(folder: Path, territory: bytes, run: Run, say: Callable[[str], None] = tell) -> dict[str, JSON]:
    """Bring onto the disk what it lacks; the keys of the contract. Raises `LocalFailure`, `BadInput`, `Refused`."""
    disk = CourierDisk(folder, territory)
    await asyncio.to_thread(disk.make)
    whole = [found for found in await asyncio.to_thread(disk.bundles) if found.whole]
    async with BundlesOut(disk) as out:
        result = _read(await run(COURIER_EXPORT, {}, CardsIn(disk, whole), out))
        await out.settle()
    await asyncio.to_thread(disk.remove, _names(result, "replaced"))
    if _names(result, "keyless") and not result["entries"] and not whole:
        raise Refused(
            Code.CANNOT_READ, "the keys of this device's spaces have not reached it yet; it has to meet the server once"
        )
    say("everything is on the disk and was read back; you may remove it")
    return {"entries": result["entries"], "bytes": result["bytes"]}


async def import_from(folder: Path, territory: bytes, run: Run, say: Callable[[str], None] = tell) -> dict[str, JSON]:
    """Take what the disk brings; the keys of the contract.

    Raises `BadInput`, `Refused` (WRONG_TERRITORY, CANNOT_READ), `LocalFailure(DAMAGED)` once all that is good was
    taken.
    """
    disk = CourierDisk(folder, territory)
    await asyncio.to_thread(disk.check_readable)
    bundles = await asyncio.to_thread(disk.bundles)
    whole = {found.name: found for found in bundles if found.whole}
    damaged = [found.name for found in bundles if not found.whole]
    seen = _read(await run(COURIER_SURVEY, {}, CardsIn(disk, list(whole.values())), Notices()))
    damaged += _names(seen, "damaged")
    result: Mapping[str, JSON] = {"entries": 0, "bytes": 0, "damaged": []}
    wanted = [whole[name] for name in _names(seen, "wanted") if name in whole]
    if wanted:
        result = _read(await run(COURIER_IMPORT, {}, BundlesIn(disk, wanted), Notices()))
        damaged += _names(result, "damaged")
    await asyncio.to_thread(disk.set_aside, damaged)
    locked = len(_names(seen, "locked"))
    if locked:
        say(f"{locked} bundles on this disk are for others; they were left as they are")
    if result.get("unheld"):
        say("some of it waits for what another disk, or the server, will bring; import again then")
    if damaged:
        raise LocalFailure(
            Code.DAMAGED,
            f"{len(damaged)} bundles on this disk are damaged or were never finished; all others were taken "
            f"({result['entries']} entries). Have it written again where it came from",
            damaged=damaged,
        )
    if locked and not seen.get("open"):
        raise Refused(Code.CANNOT_READ, "nothing on this disk is for this device")
    return {"entries": result["entries"], "bytes": result["bytes"]}


def _read(result: JSON) -> Mapping[str, JSON]:
    return cast("Mapping[str, JSON]", result)


def _names(result: Mapping[str, JSON], key: str) -> list[str]:
    return [str(name) for name in cast("Sequence[JSON]", result.get(key) or ())]
