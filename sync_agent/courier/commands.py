"""`courier export` and `courier import`: the disk is the caller's, the store its owner's; between them go files.

An import asks first which bundles bring news, by their cards, and sends only those. docs/protocol.md, "Courier disks".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from protocol.errors import Code, LocalFailure, Refused
from protocol.limits import MiB
from protocol.replica.console.frame import Notices, tell
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params
from protocol.replica.console.parameters import count_or_none, flag
from protocol.replica.console.text import many_of
from sync_agent.app import Agent
from sync_agent.courier.checking import check_bundles
from sync_agent.courier.disk import BundlesIn, BundlesOut, CardsIn, CourierDisk, Found
from sync_agent.courier.exporting import write_bundles
from sync_agent.courier.importing import take_bundles
from sync_agent.courier.letters import Letter, clear_letters, name_of, read_letter, unanswered, write_letter
from sync_agent.courier.note import leave_note
from sync_agent.courier.passed_over import called
from sync_agent.courier.survey import Wishes, has_news, hear_orders, keeps_reports, survey
from sync_agent.machine.command_names import (
    COURIER_CHECK,
    COURIER_EXPORT,
    COURIER_IMPORT,
    COURIER_LET_IN,
    COURIER_SURVEY,
)
from sync_agent.school.measures import check_open, ordered
from sync_agent.transport.server_chain import host_in

if TYPE_CHECKING:
    from sync_agent.school.letting_in import Post

Run = Callable[[str, Params, Incoming, Outgoing], Awaitable[JSON]]
"""Has the owner of the store run an operation."""
_LOOKS_AGAIN: Final = 3
_MB: Final = 1_000_000
_CHECKED_BYTES: Final = 16 * MiB
_MOST_CHECKED: Final = 1_024
"""So much of what lies on a disk is opened to its end by each export: a second on a slow stick."""


# --- where the store is -----------------------------------------------------------------------------------------------


async def export_here(agent: Agent, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
    """The operation `courier-export`: cards in, bundles out."""
    await check_open(agent)
    hollow = frozenset(_names(params, "hollow"))
    room, removes = count_or_none(params, "room"), not flag(params, "keep")
    written = await write_bundles(agent, incoming, outgoing, room, hollow, removes=removes)
    return {
        "entries": written.entries,
        "bytes": written.size,
        "replaced": written.replaced,
        "waits": written.waits,
        "keyless": await called(agent, written.keyless),
    }


async def survey_here(agent: Agent, incoming: Incoming) -> JSON:
    """The operation `courier-survey`: cards in, the names of the bundles that bring news out."""
    if (await ordered(agent)).quarantined:
        names = await hear_orders(agent, incoming)
        await check_open(agent)
        # it has been lifted: all of them are worth a look now
        return {"wanted": [], "open": 0, "locked": names, "foreign": [], "damaged": [], "learned": True}
    found = await survey(agent, incoming)
    keeps = await keeps_reports(agent)
    wanted = []
    # the territory first, then schools, then classes: what comes can be judged at once
    for space, cards in sorted(found.by_space().items(), key=lambda each: len(agent.replica.door.lineage(each[0]))):
        wishes = await Wishes.of(agent, space)
        # … and what names content before the content
        cards.sort(key=lambda card: not (card.index.entries or card.index.bare))
        wanted += [card.name for card in cards if await has_news(agent, card, wishes, keeps=keeps)]
    return {
        "wanted": wanted,
        "open": len(found.cards),
        "locked": found.locked,
        "foreign": found.foreign,
        "damaged": found.damaged,
        "learned": found.learned,
    }


async def check_here(agent: Agent, incoming: Incoming) -> JSON:
    """The operation `courier-check`: bundles in, the names of those on which nobody counts out."""
    await check_open(agent)
    checked = await check_bundles(agent, incoming)
    return {"hollow": checked.hollow, "lacking": checked.lacking}


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
        "left": list(dict.fromkeys(taken.left)),
    }


async def let_in_here(agent: Agent, params: Params, post: Post) -> tuple[JSON, bool]:
    """The operation `COURIER_LET_IN`: requests in, answers and chains out; and whether the server let anybody in."""
    from sync_agent.school.letting_in import answers, chains  # noqa: PLC0415 — seldom, and it brings the office with it

    await check_open(agent)
    asked = [bytes.fromhex(str(text)) for text in cast("Sequence[JSON]", params.get("asked") or ())]
    said, by_server = await answers(agent, asked, post)
    result: JSON = {
        "answers": [None if answer is None else answer.hex() for answer in said],
        "chains": [chain.hex() for chain in await chains(agent)],
    }
    return result, by_server


# --- where the disk is ------------------------------------------------------------------------------------------------


async def pass_on_letters(disk: CourierDisk, run: Run, say: Callable[[str], None]) -> None:
    """Answer who asks on the disk to be let in, or have the server answer; leave there who lets in.

    Raises `LocalFailure`, `BadInput`.
    """
    await asyncio.to_thread(clear_letters, disk.place, partial(_names_who_lets_in, disk))
    asked = await asyncio.to_thread(unanswered, disk.place)
    result = _read(await run(COURIER_LET_IN, {"asked": [ask.hex() for ask in asked.values()]}, NO_FILES, Notices()))
    answered = 0
    for name, said in zip(asked, cast("Sequence[str | None]", result["answers"]), strict=True):
        if said is not None:
            await asyncio.to_thread(write_letter, disk, Letter.ANSWER, name, bytes.fromhex(said))
            answered += 1
    if answered:
        # sealed to whom they are for: a computer writes one to each, and nobody between can tell how many wrote
        requests = many_of(answered, "request")
        say(f"answered on this disk: {requests} to be let in; a computer writes one to each who may let it in")
    for chain in map(bytes.fromhex, _names(result, "chains")):
        if await asyncio.to_thread(read_letter, disk.place, Letter.WHO, name_of(chain)) != chain:
            await asyncio.to_thread(write_letter, disk, Letter.WHO, name_of(chain), chain)


def _names_who_lets_in(disk: CourierDisk, chain: bytes) -> bool:
    """Whether a letter proves somebody under a root of the disk's territory."""
    return host_in(chain, disk.is_territory) is not None


async def export_to(
    folder: Path,
    territory: bytes,
    run: Run,
    say: Callable[[str], None] = tell,
    *,
    keep: bool = False,
    is_stick: bool = True,
) -> dict[str, JSON]:
    """Bring onto the disk what it lacks; the keys of the contract.

    Raises `LocalFailure`, `BadInput`, `Refused`; `Refused(CANNOT_READ)`, with the names of `spaces`, once all is on it
    but for those of which this device was not given the key.

    `keep`: nothing is removed from it, since what it holds could not be taken in as a whole. `is_stick`: as far as is
    known it can be carried away, and whoever waits is told when.
    """
    disk = CourierDisk(folder, territory)
    await asyncio.to_thread(disk.make)
    await pass_on_letters(disk, run, say)
    entries = size = 0
    try:
        checked = await _check(disk, run)
        await asyncio.to_thread(disk.set_aside, checked.lacking)
        while True:
            whole = [found for found in await asyncio.to_thread(disk.bundles) if found.whole]
            aside = await asyncio.to_thread(disk.set_aside_before)
            room = await asyncio.to_thread(disk.room)
            async with BundlesOut(disk) as out:
                params: Params = {"room": room, "hollow": list(checked.hollow), "keep": keep}
                result = _read(await run(COURIER_EXPORT, params, CardsIn(disk, [*whole, *aside]), out))
                await out.settle()
            entries, size = entries + _count(result, "entries"), size + _count(result, "bytes")
            there = await asyncio.to_thread(disk.names)
            await asyncio.to_thread(disk.remove, _names(result, "replaced"))
            if not result.get("waits") or await asyncio.to_thread(disk.names) == there:
                break
    finally:
        await asyncio.to_thread(leave_note, disk.folder, disk.passing())
    result = {"waits": 0, **result}
    done = _done(_count(result, "waits"), checked, is_stick=is_stick)
    if passed := _names(result, "keyless"):
        raise _without(passed, done if entries or whole else None)
    say(done)
    told: dict[str, JSON] = {"entries": entries, "bytes": size}
    if checked.lacking:
        told["damaged"] = list(checked.lacking)
    return {**told, "waits": result["waits"]} if result["waits"] else told


def _without(spaces: Sequence[str], done: str | None) -> Refused:
    """What an export ends with that passed these over; `done` is what is said of all the rest, if there is any."""
    named = ", ".join(f"“{name}”" for name in spaces)
    why = f"of {named} nothing could be written: the key has not reached this device; it has to meet the server once"
    sentence = why if done is None else f"{why}. Of all the rest: {done}"
    return Refused(Code.CANNOT_READ, sentence, spaces=list(spaces))


def _done(waits: int, checked: _Checked, *, is_stick: bool) -> str:
    """What people are told once an export has come to its end."""
    note, (where, leave) = "", ("on the disk", "; you may remove it") if is_stick else ("there", "")
    if checked.lacking:
        note = (
            f"{_counted(len(checked.lacking))} hollow: somebody has emptied what was there. That was set aside, "
            "and what this computer has of it is written again; "
        )
    if waits:
        return (
            f"{note}everything new is {where} and was read back{leave}. Of what lay on it before, "
            f"{-(-waits // _MB)} MB are closed to computers that came since, and find no room to be written again: "
            "fill another disk for these computers"
        )
    if checked.unread_bytes:
        return (
            f"{note}everything is {where}, and what is new was read back{leave}. Of what lay on it "
            f"before, {-(-checked.unread_bytes // _MB)} MB were looked at where they begin"
        )
    return f"{note}everything is {where} and was read back{leave}"


@dataclass(frozen=True, slots=True)
class _Checked:
    """What an export found out of what lies on a disk: on which bundles nobody counts, and how much it did not read.

    `lacking` are those of them that open to their ends and do not hold what they list.
    """

    hollow: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    unread_bytes: int = 0


async def _check(disk: CourierDisk, run: Run) -> _Checked:
    """Open what lies on the disk to its end, as far as it is looked. Raises `LocalFailure`, `BadInput`."""
    whole = [found for found in await asyncio.to_thread(disk.bundles) if found.whole]
    some = _to_check(whole)
    unread = sum(found.size for found in whole) - sum(found.size for found in some)
    if not some:
        return _Checked(unread_bytes=unread)
    found = _read(await run(COURIER_CHECK, {}, BundlesIn(disk, some, anyway=True), Notices()))
    return _Checked(tuple(_names(found, "hollow")), tuple(_names(found, "lacking")), unread)


def _to_check(whole: Sequence[Found]) -> list[Found]:
    """The bundles that are opened to their ends: the smallest, in which entries and work come, as far as time is."""
    checked, left = [], _CHECKED_BYTES
    for found in sorted(whole, key=lambda each: (each.size, each.name))[:_MOST_CHECKED]:
        left -= found.size
        if left < 0:
            break
        checked.append(found)
    return checked


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
    seen, result = await _take(disk, whole, run)
    damaged += [*_names(seen, "damaged"), *_names(result, "damaged")]
    if result["entries"] and (names := _names(seen, "locked")):
        # a school's bundle may tell of a class that this device was let into
        again, more = await _take(disk, {name: whole[name] for name in names}, run)
        if more["bytes"]:
            seen = {**seen, "locked": again["locked"]}
            result = {**result, **{key: _count(result, key) + _count(more, key) for key in ("entries", "bytes")}}
            damaged += [*_names(again, "damaged"), *_names(more, "damaged")]
    closed = {found.name for found in bundles if found.closed}
    await asyncio.to_thread(disk.set_aside, [name for name in damaged if name not in closed])
    locked = len(_names(seen, "locked"))
    if locked:
        say(f"{_counted(locked)} for others, and left alone")
    if result.get("unheld"):
        say("some of it waits for what another disk, or the server, will bring; import again then")
    if damaged:
        raise LocalFailure(
            Code.DAMAGED,
            f"{_counted(len(damaged))} damaged, unreadable or unfinished; all others "
            f"were taken ({result['entries']} entries). Have it written again where it came from",
            damaged=damaged,
        )
    if locked and not seen.get("open"):
        raise Refused(Code.CANNOT_READ, "nothing on this disk is for this device")
    return {"entries": result["entries"], "bytes": result["bytes"]}


def _counted(bundles: int) -> str:
    return "one bundle on this disk is" if bundles == 1 else f"{bundles} bundles on this disk are"


async def _take(
    disk: CourierDisk, whole: Mapping[str, Found], run: Run
) -> tuple[Mapping[str, JSON], Mapping[str, JSON]]:
    """Look at these bundles and take in what they bring; what was seen, and what came of it."""
    seen = _read(await run(COURIER_SURVEY, {}, CardsIn(disk, list(whole.values())), Notices()))
    for _ in range(_LOOKS_AGAIN):
        # what opens a bundle may stand in the front of one that was looked at after it
        if not (seen.get("learned") and _names(seen, "locked")):
            break
        seen = _read(await run(COURIER_SURVEY, {}, CardsIn(disk, list(whole.values())), Notices()))
    result: Mapping[str, JSON] = {"entries": 0, "bytes": 0, "damaged": []}
    wanted = [whole[name] for name in _names(seen, "wanted") if name in whole]
    if wanted:
        result = _read(await run(COURIER_IMPORT, {}, BundlesIn(disk, wanted), Notices()))
        left = _names(result, "left") if result["entries"] else []
        if left:
            # what asks for content may have waited for an entry of a bundle behind it
            await run(COURIER_IMPORT, {}, BundlesIn(disk, [whole[name] for name in left]), Notices())
    return seen, result


def _count(result: Mapping[str, JSON], key: str) -> int:
    found = result[key]
    return found if isinstance(found, int) else 0


def _read(result: JSON) -> Mapping[str, JSON]:
    return cast("Mapping[str, JSON]", result)


def _names(result: Mapping[str, JSON], key: str) -> list[str]:
    return [str(name) for name in cast("Sequence[JSON]", result.get(key) or ())]
