"""The command line of the agent: a thin table. What a command does is in `operations` and the modules that it names."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from protocol.errors import BadInput, Code, LocalFailure
from protocol.limits import MAX_CONTROL_FILE_BYTES, MiB
from protocol.replica.command import run_command
from protocol.replica.console import Call, Notices, Program, installed_version, tell
from protocol.replica.console_options import Argument, Option
from protocol.replica.measure_commands import add_measure_commands
from protocol.replica.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.service.commands import add_service_commands
from protocol.replica.service.definition import AGENT
from sync_agent.cli_school import add_school_commands
from sync_agent.network.command_line import CaOption, ProxyOption, connecting, network_of

PROGRAM: Final = Program(
    "sync-agent",
    "Coursework on this machine, and pupils' work on its way back, with or without a network.",
    installed_version,
)

ENROLMENT_FILE: Final = "enrolment.json"
ITEM_COLUMNS: Final = (
    "item", "title", "kind", "subject", "due", "at", "complete", "conflict", "withdrawn", "files",
)  # fmt: skip
HAND_IN_COLUMNS: Final = ("id", "item", "person", "state", "at", "files", "feedback")
PAGE_LANGUAGES: Final = ("fr", "en")
HAND_IN_TRIES: Final = 3
LASTING_BYTES: Final = 64 * MiB
REPAIR_TRIES: Final = 6
REPAIR_PAUSE_S: Final = 2.0

Item = Annotated[str, Argument(metavar="ITEM", help="The item's id, from `items`.")]
HandInId = Annotated[str, Argument(metavar="ID", help="The hand-in's id, from `hand-ins`.")]
Paths = Annotated[list[str] | None, Argument(metavar="PATH…", help="Files and folders.")]
Folder = Annotated[str, Argument(metavar="DIR", help="The folder to write into; made where it is missing.")]
WatchedFolder = Annotated[str, Argument(metavar="FOLDER", help="A folder on this machine, outside DIR.")]
Titles = Annotated[list[str], Argument(metavar="TITLE…", help="Names from `watch list`, or paths.")]
LogFile = Annotated[
    str | None, Option(metavar="FILE", help="Log to this file, bounded by rotation, instead of stderr.")
]
Peers = Annotated[
    list[str] | None,
    Option("--peer", metavar="HOST:PORT", help="Another device of the school, where it listens."),
]


def main() -> int:
    """The program `sync-agent`."""
    return PROGRAM.main()


def now_ms() -> int:
    """This machine's clock, in ms since 1970."""
    return time.time_ns() // 1_000_000


async def _run(
    call: Call,
    name: str,
    params: Params | None = None,
    incoming: Incoming = NO_FILES,
    outgoing: Outgoing | None = None,
    *,
    lasting: bool = False,
    proxy: str | None = None,
    ca: str | None = None,
) -> JSON:
    """Have the owner of DIR run a command: this process if nobody is, which then answers others while it lasts."""

    @asynccontextmanager
    async def in_process() -> AsyncIterator[Table]:
        from protocol.replica.native_memory import keep_little  # noqa: PLC0415 — loaded only when needed
        from sync_agent.operations import opened  # noqa: PLC0415

        keep_little()
        connect = None
        if name == "sync":
            connect = connecting(network_of(call.data_dir, proxy, ca))
        async with opened(call.data_dir, now_ms=now_ms, entropy=secrets.token_bytes, connect=connect) as table:
            yield table

    _check_enrolled(call.data_dir)
    return await run_command(
        call.data_dir, name, params or {}, incoming, outgoing or Notices(), in_process, serve_others=lasting
    )


def _check_enrolled(folder: Path) -> None:
    """Raise `BadInput(NOT_ENROLLED)` before anything is made in a folder that is not an agent's."""
    if not (folder / ENROLMENT_FILE).is_file():
        raise BadInput(Code.NOT_ENROLLED, f"{folder} is not enrolled yet; use `sync-agent enroll` with a code")


# --- the agent and its server -----------------------------------------------------------------------------------------


@PROGRAM.command("enroll")
async def enroll(
    call: Call,
    *,
    server: Annotated[str | None, Option(metavar="URL", help="The server's address.")] = None,
    peer: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Instead of a server: the head teacher's device, where it listens."),
    ] = None,
    code: Annotated[str, Option(help="The code that was given for this device.")],
    name: Annotated[str | None, Option(help="What people call this device (the machine's own name).")] = None,
    proxy: ProxyOption = None,
    ca: CaOption = None,
) -> JSON:
    """Let this device in with a code, and sync for the first time; may be repeated. DIR keeps `--proxy` and `--ca`."""
    import platform  # noqa: PLC0415 — loaded only when needed

    @asynccontextmanager
    async def in_process() -> AsyncIterator[Table]:
        from sync_agent.operations import before_enrolment  # noqa: PLC0415

        network = network_of(call.data_dir, proxy, ca)
        keep = None if proxy is None and ca is None else network.write
        yield before_enrolment(
            call.data_dir, now_ms=now_ms, entropy=secrets.token_bytes, connect=connecting(network), keep=keep
        )

    if (server is None) == (peer is None):
        raise BadInput(Code.USAGE, "one of --server and --peer is needed, and not both")
    params: Params = {
        "server": server,
        "peer": peer,
        "code": code,
        "name": platform.node() or "PC" if name is None else name,
    }
    return await run_command(call.data_dir, "enroll", params, NO_FILES, Notices(), in_process, create=True)


@PROGRAM.command("run", lasting=True)
async def run(
    call: Call,
    *,
    portal: Annotated[
        str | None, Option(metavar="HOST:PORT", help="Pages for pupils and teachers, on this machine only.")
    ] = None,
    lan: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Exchange with the devices of the school; they call here."),
    ] = None,
    peer: Peers = None,
    daily_budget: Annotated[
        str | None,
        Option(metavar="SIZE", help="At most so much a day, both ways (200M); hand-ins always go."),
    ] = None,
    metered: Annotated[
        str, Option(metavar="auto|yes|no", help="Whether the connection is paid by volume: only small things go.")
    ] = "auto",
    quiet_hours: Annotated[
        list[str] | None,
        Option(metavar="HH:MM-HH:MM", help="Local hours for small things only (mon-fri 08:30-16:30)."),
    ] = None,
    courier: Annotated[
        str | None,
        Option(
            metavar="auto|FOLDER",
            help="Serve sticks with a folder “Relais” as they are plugged in; FOLDER is where they appear.",
        ),
    ] = None,
    rate_limit: Annotated[
        str | None,
        Option(metavar="RATE", help="The most bytes a second for content, both ways together (500k)."),
    ] = None,
    full_speed: Annotated[bool, Option(help="Content does not step back when others use the line.")] = False,
    disk_budget: Annotated[
        str | None,
        Option(metavar="SIZE", help="The most that content may take (20G); what is not used makes way."),
    ] = None,
    disk_reserve: Annotated[
        str | None, Option(metavar="SIZE", help="What content leaves free of the disk (128M).")
    ] = None,
    log_file: LogFile = None,
    proxy: ProxyOption = None,
    ca: CaOption = None,
) -> JSON:
    """Keep this device in sync until it is told to stop; other commands work meanwhile."""
    _check_enrolled(call.data_dir)
    from protocol.replica.service.hosting import asked_by_host  # noqa: PLC0415 — loaded only when needed
    from protocol.replica.service.logs import logging_to  # noqa: PLC0415
    from protocol.replica.service.notify import Notifier  # noqa: PLC0415
    from sync_agent.config import RunConfig  # noqa: PLC0415
    from sync_agent.daemon import run as serve  # noqa: PLC0415
    from sync_agent.operations import table  # noqa: PLC0415

    config = RunConfig(
        portal=portal,
        lan=lan,
        peers=tuple(peer or ()),
        daily_budget=daily_budget,
        metered=metered,
        quiet_hours=tuple(quiet_hours or ()),
        rate_limit=rate_limit,
        full_speed=full_speed,
        courier=courier,
        disk_budget=disk_budget,
        disk_reserve=disk_reserve,
    )
    connect = connecting(network_of(call.data_dir, proxy, ca))
    notifier = Notifier.taken_from(os.environ, os.getpid())
    with logging_to(log_file, os.environ.get("JOURNAL_STREAM")):
        await serve(
            call.data_dir,
            config,
            table,
            now_ms=now_ms,
            entropy=secrets.token_bytes,
            connect=connect,
            stopping=asked_by_host(),
            notifier=notifier,
        )
    return {}


@PROGRAM.command("sync")
async def sync(call: Call, *, peer: Peers = None, proxy: ProxyOption = None, ca: CaOption = None) -> JSON:
    """Exchange with the server, or only with the named devices, until nothing remains to send or to fetch."""
    chosen = proxy is not None or ca is not None
    params: Params = {"peers": list(peer or ()), "way": chosen}
    return await _run(call, "sync", params, lasting=True, proxy=proxy, ca=ca)


# --- coursework -------------------------------------------------------------------------------------------------------


@PROGRAM.command("items", columns=ITEM_COLUMNS)
async def items(call: Call) -> JSON:
    """List the coursework of this device, with the files of each item."""
    return await _run(call, "items")


@PROGRAM.command("publish")
async def publish(
    call: Call,
    paths: Paths = None,
    *,
    space: Annotated[str | None, Option(metavar="ID", help="The space, from `status`.")] = None,
    title: Annotated[str | None, Option(help="What people see.")] = None,
    kind: Annotated[str | None, Option(metavar="KIND", help="lesson, assignment or announcement.")] = None,
    subject: Annotated[str | None, Option(help="The school subject.")] = None,
    due: Annotated[str | None, Option(metavar="DATE", help="ISO 8601; a bare date means the end of that day.")] = None,
    item: Annotated[
        str | None, Option(metavar="ID", help="Publish a new version of this item; what is not given stays.")
    ] = None,
) -> JSON:
    """Publish files and folders as a lesson, an assignment or an announcement."""
    from sync_agent.dates import due_ms  # noqa: PLC0415 — loaded only when needed
    from sync_agent.intake import files_of  # noqa: PLC0415

    params: dict[str, JSON] = {"space": space, "title": title, "kind": kind, "item": item}
    if subject is not None:
        params["subject"] = subject or None
    if due is not None:
        params["due_ms"] = due_ms(due) if due else None
    return await _run_with(
        call, "publish", params, files_of(paths or [], required=item is None, data_dir=call.data_dir)
    )


@PROGRAM.command("withdraw", said="withdrawn; it disappears from every device with its next sync")
async def withdraw(call: Call, item: Item) -> JSON:
    """Take an item out of sight on every device; `restore` brings it back."""
    return await _run(call, "withdraw", {"item": item})


@PROGRAM.command("restore", said="it is shown again, on every device with its next sync")
async def restore(
    call: Call,
    item: Item,
    *,
    revision: Annotated[str | None, Option(metavar="R", help="Make this earlier version the shown one again.")] = None,
) -> JSON:
    """Bring a withdrawn item back, or an earlier version of an item."""
    return await _run(call, "restore", {"item": item, "revision": revision})


@PROGRAM.command("settle", said="settled; every device shows this version with its next sync")
async def settle(
    call: Call, item: Item, *, keep: Annotated[str, Option(metavar="REVISION", help="One of the item's heads.")]
) -> JSON:
    """End a conflict: of several versions of an item, keep this one."""
    return await _run(call, "settle", {"item": item, "keep": keep})


@PROGRAM.command("cat", raw=True)
async def cat(
    call: Call, item: Item, path: Annotated[str, Argument(metavar="PATH", help="A file, from `items`.")]
) -> JSON:
    """Write one file of an item, or of the feedback to a hand-in, to stdout."""
    from sync_agent.outlet import StdoutOutlet  # noqa: PLC0415 — loaded only when needed

    return await _run(call, "cat", {"item": item, "path": path}, outgoing=StdoutOutlet())


@PROGRAM.command("checkout", said="written")
async def checkout(
    call: Call,
    item: Item,
    folder: Folder,
    *,
    revision: Annotated[str | None, Option(metavar="R", help="This version instead of the shown one.")] = None,
) -> JSON:
    """Write all files of an item, or of the feedback to a hand-in, into DIR."""
    return await _run_into(call, folder, "checkout", {"item": item, "revision": revision})


@PROGRAM.command("people")
async def people(call: Call, *, space: Annotated[str, Option(metavar="ID", help="The space, from `status`.")]) -> JSON:
    """Show the class list of a space."""
    return await _run(call, "people", {"space": space})


# --- pupils' work -----------------------------------------------------------------------------------------------------


@PROGRAM.command("hand-in")
async def hand_in(
    call: Call,
    item: Item,
    paths: Paths = None,
    *,
    person: Annotated[str, Option(metavar="ID", help="Whose work it is, from `people`.")],
) -> JSON:
    """Hand in a pupil's work for an assignment; it is kept here, and sealed so that only teachers can open it."""
    from sync_agent.intake import PAUSE_S, files_of, sizes_of  # noqa: PLC0415 — loaded only when needed

    # The list of files is sealed before the first byte: when one of them changes meanwhile, all begins again.
    for tries_left in reversed(range(HAND_IN_TRIES)):
        incoming = files_of(paths or [], data_dir=call.data_dir)
        params: dict[str, JSON] = {"item": item, "person": person, "files": sizes_of(incoming)}
        try:
            return await _run_with(call, "hand-in", params, incoming)
        except LocalFailure as failure:
            if failure.code is not Code.CHANGING_FILE or not tries_left:
                raise
        await asyncio.sleep(PAUSE_S)
    raise AssertionError


@PROGRAM.command("hand-ins", columns=HAND_IN_COLUMNS)
async def hand_ins(
    call: Call, *, item: Annotated[str | None, Option(metavar="ITEM", help="Only those for this item.")] = None
) -> JSON:
    """List pupils' work and how far it has come: on a teacher's device all of it, else what was handed in here."""
    return await _run(call, "hand-ins", {"item": item})


@PROGRAM.command("open-hand-in", said="opened; the pupil will see that you did")
async def open_hand_in(call: Call, hand_in: HandInId, folder: Folder) -> JSON:
    """Unseal a pupil's work into DIR, and let the pupil know that it was opened."""
    await _run_into(call, folder, "open-hand-in", {"id": hand_in}, keep_edits=True)
    return await _run(call, "confirm-opened", {"id": hand_in})


@PROGRAM.command("feedback", said="the feedback is kept here, and goes out with the next sync")
async def feedback(
    call: Call,
    hand_in: HandInId,
    paths: Paths = None,
    *,
    text: Annotated[str, Option(help="What the pupil reads.")],
    mark: Annotated[str | None, Option(help="A mark or a level.")] = None,
    redo: Annotated[bool, Option(help="Ask for another try.")] = False,
) -> JSON:
    """Give feedback on a pupil's work, with files if there are any."""
    from sync_agent.intake import files_of  # noqa: PLC0415 — loaded only when needed

    params: dict[str, JSON] = {"id": hand_in, "text": text, "mark": mark, "redo": redo}
    return await _run_with(call, "feedback", params, files_of(paths or [], required=False, data_dir=call.data_dir))


# --- watched folders --------------------------------------------------------------------------------------------------


@PROGRAM.command("watch add", said="watched; nothing of it is published before you tick it: `watch list`, `watch tick`")
async def watch_add(
    call: Call,
    folder: WatchedFolder,
    *,
    space: Annotated[str, Option(metavar="ID", help="The space, from `status`.")],
) -> JSON:
    """Watch a folder of your own while `run` is up; nothing of it is published before it is ticked."""
    return await _run(call, "watch-add", {"folder": _absolute(folder), "space": space})


@PROGRAM.command("watch remove", said="no longer watched; what was published of it stays")
async def watch_remove(call: Call, folder: WatchedFolder) -> JSON:
    """Watch a folder no more; what was published of it stays."""
    return await _run(call, "watch-remove", {"folder": _absolute(folder)})


@PROGRAM.command("watch list")
async def watch_list(call: Call) -> JSON:
    """List the titles of all watched folders: which are ticked, what they are published as, what stands in the way."""
    return await _run(call, "watch-list")


@PROGRAM.command("watch tick", said="ticked; it is published when `run` is up and it has settled")
async def watch_tick(call: Call, titles: Titles) -> JSON:
    """Publish titles of a folder of your own, and each change of them from now on."""
    return await _run(call, "watch-tick", {"titles": _named_paths(titles), "ticked": True})


@PROGRAM.command("watch untick", said="unticked; what was published of it stays")
async def watch_untick(call: Call, titles: Titles) -> JSON:
    """Publish no more changes of titles; what was published of them stays."""
    return await _run(call, "watch-tick", {"titles": _named_paths(titles), "ticked": False})


@PROGRAM.command("watch resume", said="publishing goes on")
async def watch_resume(call: Call) -> JSON:
    """Go on publishing after a pause: the many files that were rewritten or deleted are meant to be so."""
    return await _run(call, "watch-resume")


def _named_paths(titles: Sequence[str]) -> list[JSON]:
    return [[title, _absolute(title)] for title in titles]


def _absolute(path: str) -> str:
    """The caller's path, for a process that works in another folder. Links stay as they are."""
    return os.path.abspath(path)  # noqa: PTH100


@PROGRAM.command("receipt")
async def receipt(
    call: Call,
    hand_in: HandInId,
    *,
    to_print: Annotated[
        str | None, Option("--print", metavar="FILE", help="Also write a page to print, with a QR code.")
    ] = None,
    language: Annotated[str, Option("--lang", help="The page's language: fr or en.")] = "fr",
) -> JSON:
    """Give the proof of a hand-in: a code to keep, which the server checks later with `check-receipt`."""
    if language not in PAGE_LANGUAGES:
        raise BadInput(Code.USAGE, f"--lang is one of: {', '.join(PAGE_LANGUAGES)}")
    params: Params = {"id": hand_in, "page": None if to_print is None else language}
    found = await _run(call, "receipt", params)
    if to_print is not None and isinstance(found, dict):
        _write_page(Path(to_print), str(found.pop("page")))
    return found


def _write_page(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be written: {reason.strerror}") from reason


# --- the end of a year ------------------------------------------------------------------------------------------------


@PROGRAM.command("carry-over")
async def carry_over(
    call: Call,
    *,
    source: Annotated[str, Option("--from", metavar="ID", help="The class of the year that ends.")],
    target: Annotated[str, Option("--to", metavar="ID", help="Your next class.")],
) -> JSON:
    """Publish a class's lessons in your next class; what is there already is left alone."""
    return await _run(call, "carry-over", {"from": source, "to": target}, lasting=True)


@PROGRAM.command("portfolio")
async def portfolio(
    call: Call,
    folder: Folder,
    *,
    space: Annotated[str, Option(metavar="ID", help="The class.")],
    person: Annotated[str | None, Option(metavar="ID", help="One pupil only, from `people`.")] = None,
) -> JSON:
    """Write pupils' work and what was said of it into DIR, a folder for each pupil, for families to keep."""
    return await _run_into(call, folder, "portfolio", {"space": space, "person": person})


# --- a teacher's key --------------------------------------------------------------------------------------------------


@PROGRAM.command("key phrase")
async def key_phrase(call: Call) -> JSON:
    """Draw eight words that open your pupils' work on another device of yours: write them down, keep them locked."""
    return await _run(call, "key-phrase")


@PROGRAM.command("key open", said="opened; this device now reads what your other devices could read")
async def key_open(
    call: Call,
    *,
    phrase_file: Annotated[str, Option(metavar="FILE", help="A file with the eight words of `key phrase`.")],
) -> JSON:
    """On a new device, when the old one is gone: take your key by the phrase that you wrote down."""
    return await _run(call, "key-open", {"phrase": _text_in(phrase_file)})


def _text_in(path: str) -> str:
    """The text of a small file that the caller names. Raises `BadInput(MISSING_FILE | UNREADABLE_FILE)`."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_CONTROL_FILE_BYTES).decode(errors="replace")
    except FileNotFoundError:
        raise BadInput(Code.MISSING_FILE, f"{path} does not exist") from None
    except OSError as reason:
        raise BadInput(Code.UNREADABLE_FILE, f"{path} cannot be read: {reason.strerror}") from reason


# --- the machine itself -----------------------------------------------------------------------------------------------


@PROGRAM.command("status")
async def status(call: Call) -> JSON:
    """Say how this device stands: its spaces, what is not sent yet, when the server last answered."""
    return await _run(call, "status")


@PROGRAM.command("rename", said="renamed; the server hears of it with the next report")
async def rename(call: Call, name: Annotated[str, Argument(help="What people call this device.")]) -> JSON:
    """Call this device something else."""
    return await _run(call, "rename", {"name": name})


@PROGRAM.command("pause")
async def pause(
    call: Call,
    *,
    span: Annotated[
        str | None, Option("--for", metavar="TIME", help="For how long (2h, 45m, 1d); else until `resume`.")
    ] = None,
) -> JSON:
    """Exchange nothing with the server for a while; all work is kept here meanwhile."""
    from sync_agent.budget import span_ms_of  # noqa: PLC0415 — loaded only when needed

    return await _run(call, "pause", {"for_ms": None if span is None else span_ms_of(span, "--for")})


@PROGRAM.command("resume")
async def resume(call: Call) -> JSON:
    """End a pause."""
    return await _run(call, "resume")


@PROGRAM.command("verify", verdict=True)
async def verify(call: Call) -> JSON:
    """Check all that is kept here; what is damaged is moved aside, and a sync brings it back."""
    return await _run(call, "verify", lasting=True)


@PROGRAM.command("repair", verdict=True)
async def repair(call: Call) -> JSON:
    """Put right what `verify` finds; a damaged database is made anew from all that can be read."""
    for tries_left in reversed(range(REPAIR_TRIES)):
        try:
            return await _run(call, "repair", lasting=True)
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
    from sync_agent import surroundings  # noqa: PLC0415

    _check_enrolled(call.data_dir)
    system = this_system()
    more = [*surroundings.problems_around(call.data_dir), *surroundings.problems_of_service(call.data_dir, system)]
    try:
        verdict = await _run(call, "doctor")
    except LocalFailure as failure:
        more.insert(0, surroundings.why_not_opened(failure))
        verdict = {"ok": False, "problems": []}
    if not surroundings.has_service(system):
        tell("no service is installed: `sync-agent service install` lets this device start by itself")
    return surroundings.with_more(verdict, more)


add_measure_commands(PROGRAM, _run)
add_service_commands(PROGRAM, AGENT, "relais-agent", _check_enrolled)
add_school_commands(PROGRAM, _run)


@PROGRAM.command("courier export")
async def courier_export(call: Call, folder: Folder) -> JSON:
    """Bring onto a stick what it lacks of this device's spaces, sealed; say when it may be removed."""
    from sync_agent.courier_commands import export_to  # noqa: PLC0415 — loaded only when needed

    return await export_to(Path(folder), _territory(call.data_dir), _runner(call))


@PROGRAM.command("courier import")
async def courier_import(
    call: Call, folder: Annotated[str, Argument(metavar="DIR", help="A folder that `courier export` wrote.")]
) -> JSON:
    """Take what a stick brings; the next sync passes it on."""
    from sync_agent.courier_commands import import_from  # noqa: PLC0415 — loaded only when needed

    return await import_from(Path(folder), _territory(call.data_dir), _runner(call))


def _runner(call: Call) -> Callable[[str, Params, Incoming, Outgoing], Awaitable[JSON]]:
    async def run(name: str, params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        return await _run(call, name, params, incoming, outgoing, lasting=True)

    return run


def _territory(folder: Path) -> bytes:
    """The territory of DIR."""
    _check_enrolled(folder)
    from protocol.identity import territory_id  # noqa: PLC0415 — loaded only when needed
    from sync_agent.app import Enrolment  # noqa: PLC0415

    return territory_id(Enrolment.read(folder).root)


async def _run_with(call: Call, name: str, params: Params, incoming: Incoming) -> JSON:
    """Run a command that takes files."""
    from sync_agent.intake import sizes_of  # noqa: PLC0415 — loaded only when needed

    total = sum(size for _, size in sizes_of(incoming))
    return await _run(call, name, params, incoming, lasting=total > LASTING_BYTES)


async def _run_into(call: Call, folder: str, name: str, params: Params, *, keep_edits: bool = False) -> JSON:
    """Run a command whose files go into `folder`; with `keep_edits` what somebody wrote there stays beside them."""
    from sync_agent.outlet import FolderOutlet  # noqa: PLC0415 — loaded only when needed

    place = Path(folder)
    with FolderOutlet(place, set_aside=_aside if keep_edits else None) as outlet:
        result = await _run(call, name, params, outgoing=outlet, lasting=True)
    await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
    return result


def _aside() -> str:
    return f"kept {datetime.now().astimezone():%Y-%m-%d %H.%M.%S}"


if __name__ == "__main__":
    sys.exit(main())
