"""The commands about this machine: its folders, its key, how it stands, and sticks that carry its spaces."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import MAX_CONTROL_FILE_BYTES
from protocol.replica.console.frame import Call, tell
from protocol.replica.console.operation import JSON, Incoming, Outgoing, Params
from protocol.replica.console.options import Argument, Option
from sync_agent.console.calls import PROGRAM, Folder, check_enrolled, folder_named, run_here

REPAIR_TRIES: Final = 6
REPAIR_PAUSE_S: Final = 2.0
READER_COLUMNS: Final = {
    "id": "row", "words": "words", "teacher": "teacher", "space": "class", "state": "state",
    "shown_as": "shown as", "name": "calls itself",
}  # fmt: skip
PHRASE_COLUMNS: Final = {
    "phrase": "id", "drawn": "drawn", "name": "on", "state": "state", "keys": "keys it opens",
    "opens_new_work_of": "opens new work of",
}  # fmt: skip

SAVED_COLUMNS: Final = {
    "path": "file in DIR", "space": "class", "over": "is over", "bytes": "bytes", "changed": "last saved",
}  # fmt: skip

WatchedFolder = Annotated[str, Argument(metavar="FOLDER", help="A folder on this machine, outside DIR.")]
Titles = Annotated[list[str], Argument(metavar="TITLE…", help="Names from `watch list`, or paths.")]


# --- watched folders --------------------------------------------------------------------------------------------------


@PROGRAM.command("watch add", said="watched; nothing of it is published before you tick it: `watch list`, `watch tick`")
async def watch_add(
    call: Call,
    folder: WatchedFolder,
    *,
    space: Annotated[str, Option(metavar="ID", help="The space, from `status`.")],
) -> JSON:
    """Watch a folder of your own while `run` is up; nothing of it is published before it is ticked."""
    return await run_here(call, "watch-add", {"folder": _absolute(folder), "space": space})


@PROGRAM.command("watch remove", said="no longer watched; what was published of it stays")
async def watch_remove(call: Call, folder: WatchedFolder) -> JSON:
    """Watch a folder no more; what was published of it stays."""
    return await run_here(call, "watch-remove", {"folder": _absolute(folder)})


@PROGRAM.command("watch list")
async def watch_list(call: Call) -> JSON:
    """List the titles of all watched folders: which are ticked, what they are published as, what stands in the way."""
    return await run_here(call, "watch-list")


@PROGRAM.command("watch tick", said="ticked; it is published when `run` is up and it has settled")
async def watch_tick(call: Call, titles: Titles) -> JSON:
    """Publish titles of a folder of your own, and each change of them from now on."""
    return await run_here(call, "watch-tick", {"titles": _named_paths(titles), "ticked": True})


@PROGRAM.command("watch untick", said="unticked; what was published of it stays")
async def watch_untick(call: Call, titles: Titles) -> JSON:
    """Publish no more changes of titles; what was published of them stays."""
    return await run_here(call, "watch-tick", {"titles": _named_paths(titles), "ticked": False})


@PROGRAM.command("watch resume", said="publishing goes on")
async def watch_resume(call: Call) -> JSON:
    """Go on publishing after a pause: the many files that were rewritten or deleted are meant to be so."""
    return await run_here(call, "watch-resume")


def _named_paths(titles: Sequence[str]) -> list[JSON]:
    return [[title, _absolute(title)] for title in titles]


def _absolute(path: str) -> str:
    """The caller's path, for a process that works in another folder. Links stay as they are."""
    return os.path.abspath(path)  # noqa: PTH100


# --- what people saved beside coursework ------------------------------------------------------------------------------


@PROGRAM.command("saved list", columns=SAVED_COLUMNS)
async def saved_list(call: Call) -> JSON:
    """List the files that people saved in DIR/coursework, and whether their class is over."""
    return await run_here(call, "saved-list")


@PROGRAM.command("saved clear")
async def saved_clear(
    call: Call, space: Annotated[list[str], Argument(metavar="ID…", help="Classes, from `saved list`.")]
) -> JSON:
    """Delete those of classes that are over here: closed, of a past year, or not this device's any more."""
    named: list[JSON] = [*space]
    return await run_here(call, "saved-clear", {"space": named}, lasting=True)


# --- a teacher's key --------------------------------------------------------------------------------------------------


@PROGRAM.command("key phrase")
async def key_phrase(call: Call) -> JSON:
    """Draw eight words that open your pupils' work on another device of yours: write them down, keep them locked.

    Words that were drawn before, on whichever device of yours, open nothing that is handed in once these have synced.
    """
    return await run_here(call, "key-phrase")


@PROGRAM.command("key phrases", columns=PHRASE_COLUMNS)
async def key_phrases(call: Call) -> JSON:
    """The phrases that you have drawn, on which device and when, and what whoever has their paper still opens."""
    return await run_here(call, "key-phrases")


@PROGRAM.command("key open", said="opened; this device now reads what your other devices could read")
async def key_open(
    call: Call,
    *,
    phrase_file: Annotated[str, Option(metavar="FILE", help="A file with the eight words of `key phrase`.")],
) -> JSON:
    """On a new device, when the old one is gone: take your key by the phrase that you wrote down."""
    return await run_here(call, "key-open", {"phrase": _text_in(phrase_file)})


@PROGRAM.command("key readers", columns=READER_COLUMNS)
async def key_readers(
    call: Call,
    *,
    device: Annotated[
        str | None,
        Option(
            metavar="ID|NAME", help="This one alone, also by its name or its id in `devices`: of many, 50 have words."
        ),
    ] = None,
) -> JSON:
    """Whose devices read your classes' work, which of them you confirmed, and the six words that each shows."""
    return await run_here(call, "key-readers", {} if device is None else {"reader": device})


@PROGRAM.command("key confirm", said="confirmed; what follows from it goes out with the next sync")
async def key_confirm(
    call: Call,
    device: Annotated[
        str,
        Argument(metavar="ID", help="The whole one, as `key readers` tells it below its six words."),
    ],
    *,
    shown_as: Annotated[
        str | None,
        Option(
            "--as", metavar="own|other|head", help="As what `key readers` shows it; `own` and `head` have to be said."
        ),
    ] = None,
    person: Annotated[str | None, Option(metavar="ID", help="Whose, where it is granted as several people's.")] = None,
) -> JSON:
    """Say that a device is yours, or a colleague's, once its own screen shows the same six words."""
    return await run_here(call, "key-confirm", {"reader": device, "shown_as": shown_as, "person": person})


def _text_in(path: str) -> str:
    """The text of a small file that the caller names. Raises `BadInput(MISSING_FILE | UNREADABLE_FILE)`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_CONTROL_FILE_BYTES).decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise BadInput(Code.MISSING_FILE, f"{path} does not exist") from None
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be read: {reason.strerror}") from reason


# --- the machine itself -----------------------------------------------------------------------------------------------


@PROGRAM.command("status")
async def status(call: Call) -> JSON:
    """Say how this device stands: its spaces, what is not sent yet, when the server last answered."""
    return await run_here(call, "status")


@PROGRAM.command("rename", said="renamed; the server hears of it with the next report")
async def rename(call: Call, name: Annotated[str, Argument(help="What people call this device.")]) -> JSON:
    """Call this device something else."""
    return await run_here(call, "rename", {"name": name})


@PROGRAM.command("peer address")
async def peer_address(call: Call) -> JSON:
    """Say where other computers of the school reach this one, for `peer add` or `--peer` there; `run --lan` is up."""
    return await run_here(call, "peer-address")


@PROGRAM.command("peer add")
async def peer_add(
    call: Call, address: Annotated[str, Argument(metavar="HOST:PORT", help="As `peer address` says it there.")]
) -> JSON:
    """Link this computer with one that it does not find; the address is remembered, and tried from time to time."""
    from sync_agent.machine.addresses import address_of  # noqa: PLC0415 — loaded only when needed

    address_of(address, "peer add")
    return await run_here(call, "peer-add", {"address": address})


@PROGRAM.command("pause")
async def pause(
    call: Call,
    *,
    span: Annotated[
        str | None, Option("--for", metavar="TIME", help="For how long (2h, 45m, 1d); else until `resume`.")
    ] = None,
) -> JSON:
    """Exchange nothing with the server for a while; all work is kept here meanwhile."""
    from sync_agent.pacing.budget import span_ms_of  # noqa: PLC0415 — loaded only when needed

    return await run_here(call, "pause", {"for_ms": None if span is None else span_ms_of(span, "--for")})


@PROGRAM.command("resume")
async def resume(call: Call) -> JSON:
    """End a pause."""
    return await run_here(call, "resume")


@PROGRAM.command("verify", verdict=True)
async def verify(call: Call) -> JSON:
    """Check all that is kept here; what is damaged is moved aside, and a sync brings it back."""
    return await run_here(call, "verify", lasting=True)


@PROGRAM.command("repair", verdict=True)
async def repair(call: Call) -> JSON:
    """Put right what `verify` finds; a damaged database is made anew from all that can be read."""
    import asyncio  # noqa: PLC0415 — loaded only when needed

    for tries_left in reversed(range(REPAIR_TRIES)):
        try:
            return await run_here(call, "repair", lasting=True)
        except LocalFailure as failure:
            # the store is opened again, which makes a damaged database anew
            if failure.code not in (Code.DAMAGED, Code.STORAGE_FAILED) or not tries_left:
                raise
        await asyncio.sleep(REPAIR_PAUSE_S)
    raise AssertionError


@PROGRAM.command("doctor", verdict=True)
async def doctor(call: Call) -> JSON:
    """Look for what may go wrong on this machine, and say what to do about it."""
    from protocol.replica.service.installation import this_system  # noqa: PLC0415 — loaded only when needed
    from sync_agent.upkeep import surroundings  # noqa: PLC0415

    check_enrolled(call.data_dir)
    system = this_system()
    more = [*surroundings.problems_around(call.data_dir), *surroundings.problems_of_service(call.data_dir, system)]
    try:
        verdict = await run_here(call, "doctor")
    except LocalFailure as failure:
        more.insert(0, surroundings.why_not_opened(failure))
        verdict = {"ok": False, "problems": []}
    if not surroundings.has_service(system):
        tell("no service is installed: `sync-agent service install` lets this device start by itself")
    return surroundings.with_more(verdict, more)


# --- sticks -----------------------------------------------------------------------------------------------------------


@PROGRAM.command("courier export")
async def courier_export(call: Call, folder: Folder) -> JSON:
    """Bring onto a stick what it lacks of this device's spaces, sealed; say when it may be removed."""
    from sync_agent.courier.commands import export_to  # noqa: PLC0415 — loaded only when needed

    place = folder_named(folder)
    territory, is_stick = _territory(call.data_dir), not _on_one_disk(place.absolute(), call.data_dir)
    if not is_stick:
        tell(
            f"{place} lies on the disk of this computer's own data, and is written there: if a stick is to carry it, "
            "look whether one is plugged in, and call this again"
        )
    return await export_to(place, territory, _runner(call), is_stick=is_stick)


@PROGRAM.command("courier import")
async def courier_import(
    call: Call, folder: Annotated[str, Argument(metavar="DIR", help="A folder that `courier export` wrote.")]
) -> JSON:
    """Take what a stick brings; the next sync passes it on."""
    from sync_agent.courier.commands import import_from  # noqa: PLC0415 — loaded only when needed

    return await import_from(folder_named(folder), _territory(call.data_dir), _runner(call))


def _on_one_disk(place: Path, other: Path) -> bool:
    """Whether what is written at `place`, some folders of which may have to be made, lies on the disk of `other`."""
    try:
        above = next(each for each in (place, *place.parents) if each.exists())
        return above.stat().st_dev == other.stat().st_dev
    except OSError:
        return False  # pulled out just now: it was no disk of the computer's own


def _runner(call: Call) -> Callable[[str, Params, Incoming, Outgoing], Awaitable[JSON]]:
    async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await run_here(call, name, params, incoming, outgoing, lasting=True)

    return run


def _territory(folder: Path) -> bytes:
    """The territory of DIR."""
    check_enrolled(folder)
    from protocol.identity import territory_id  # noqa: PLC0415 — loaded only when needed
    from sync_agent.machine.enrolled import Enrolment  # noqa: PLC0415

    return territory_id(Enrolment.read(folder).root)
