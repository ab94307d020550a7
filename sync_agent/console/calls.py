"""What the modules of the command line share: the program, and how a command reaches the owner of DIR."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from protocol.errors import BadInput, Code, RelaisError
from protocol.limits import MiB
from protocol.replica.console.frame import Call, Notices, Program, installed_version, now_ms, tell
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.options import Argument
from protocol.replica.console.parameters import texts
from protocol.replica.console.typed_by import typed_here
from sync_agent.console.connecting import Connecting, network_of
from sync_agent.machine.command_names import ARE_OF_VERSIONS

if TYPE_CHECKING:
    from sync_agent.console.outlet import Edit

PROGRAM: Final = Program(
    "sync-agent",
    "Coursework on this machine, and pupils' work on its way back, with or without a network.",
    installed_version,
)

ENROLMENT_FILE: Final = "enrolment.json"
SERVERS_FILE: Final = "territory.json"
"""What the data folder of a server holds, and no device's does."""
LASTING_BYTES: Final = 64 * MiB
_ASKED_AT_ONCE: Final = 256

Item = Annotated[str, Argument(metavar="ITEM", help="The item's id, from `items`.")]
HandInId = Annotated[str, Argument(metavar="ID", help="The hand-in's id, from `hand-ins`.")]
Paths = Annotated[list[str] | None, Argument(metavar="PATH…", help="Files and folders.")]
Folder = Annotated[str, Argument(metavar="DIR", help="The folder to write into; made where it is missing.")]


async def run_here(
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
    from protocol.replica.console.command import run_command  # noqa: PLC0415 — loaded only when needed

    @asynccontextmanager
    async def in_process() -> AsyncIterator[Table]:
        from protocol.replica.process.native_memory import keep_little  # noqa: PLC0415
        from protocol.replica.steady import steady_clock  # noqa: PLC0415
        from sync_agent.operations import opened  # noqa: PLC0415

        keep_little()
        connect = Connecting(network_of(call.data_dir, proxy, ca)) if name == "sync" else None
        begin = None if connect is None or (params or {}).get("peers") else connect.begin
        try:
            async with opened(
                call.data_dir,
                now_ms=now_ms,
                entropy=secrets.token_bytes,
                connect=connect,
                begin=begin,
                steady=steady_clock(),
            ) as table:
                yield table
        finally:
            if connect is not None:
                await connect.close()

    check_enrolled(call.data_dir)
    return await run_command(
        call.data_dir,
        name,
        typed_here(params or {}),
        incoming,
        outgoing or Notices(),
        in_process,
        serve_others=lasting,
        loads=("sync_agent.operations", "sync_agent.transport.over_http"),
    )


def check_enrolled(folder: Path) -> None:
    """Raise `BadInput(NOT_ENROLLED)` before anything is made in a folder that is not an agent's."""
    if not (folder / ENROLMENT_FILE).is_file():
        check_no_servers(folder)
        raise BadInput(Code.NOT_ENROLLED, f"{folder} is not enrolled yet; use `sync-agent enroll` with a code")


def check_no_servers(folder: Path) -> None:
    """Raise `BadInput(USAGE)` for a server's data folder: a device that enrolled there would write into its store."""
    if (folder / SERVERS_FILE).exists():
        raise BadInput(Code.USAGE, f"{folder} is a server's data folder; a device needs one of its own")


async def run_with(call: Call, name: str, params: Params, incoming: Incoming) -> JSON:
    """Run a command that takes files."""
    from sync_agent.console.intake import sizes_of  # noqa: PLC0415 — loaded only when needed

    total = sum(size for _, size in sizes_of(incoming))
    return await run_here(call, name, params, incoming, lasting=total > LASTING_BYTES)


def folder_named(text: str) -> Path:
    """The folder that an argument names. Raises `BadInput` for none: it would be the one that the caller is in."""
    if not text:
        raise BadInput(Code.USAGE, "DIR is empty: name a folder; “.” is the one that you are in")
    return Path(text)


_OWN_NAMES: Final = frozenset(
    (ENROLMENT_FILE, "keys", "packs", "parts", "deltas", "damaged", "drafts", "run", "publish", "coursework", "outbox")
)
"""What the agent keeps in DIR, besides files that no folder can take the place of."""


def _check_outside(place: Path, data_dir: Path) -> None:
    """Raise `BadInput` for DIR, and what is the agent's in it: a lesson may call a file as a key is called."""
    try:
        below = place.resolve().relative_to(data_dir.resolve()).parts
    except (ValueError, OSError):  # elsewhere; or the caller's folder is gone, and who writes says so
        return
    if not below or below[0].casefold() in _OWN_NAMES:
        raise BadInput(Code.USAGE, f"{place} is where this device keeps what it needs; choose a folder outside")


async def run_into(
    call: Call, folder: str, name: str, params: Params, *, item: str | None = None, from_others: bool = False
) -> dict[str, JSON]:
    """Run a command whose files go into `folder`; what lay there and was not what came is told in words, on stderr.

    With `item`, what an earlier version of it brought makes way unseen. `from_others` says that pupils have made the
    files, who may be anybody. The result says how many files there were, and where, besides what the command says.
    """
    import asyncio  # noqa: PLC0415 — loaded only when needed

    from sync_agent.console.outlet import FolderOutlet  # noqa: PLC0415

    place = folder_named(folder)
    _check_outside(place, call.data_dir)
    with FolderOutlet(place, from_others=from_others) as outlet:
        edits: Sequence[Edit] = outlet.edits
        try:
            result = await run_here(call, name, params, outgoing=outlet, lasting=True)
            edits = await _by_people(call, item, outlet.edits)
        finally:
            for edit in edits:
                tell(f"{edit.path} was not as it is published; what was there is kept as “{edit.kept_as}”")
    await asyncio.to_thread(place.mkdir, mode=0o700 if from_others else 0o777, parents=True, exist_ok=True)
    return {"files": outlet.files, "folder": str(place), **(result if isinstance(result, Mapping) else {})}


async def _by_people(call: Call, item: str | None, edits: Sequence[Edit]) -> Sequence[Edit]:
    """The edits that people made, without files of an item's earlier versions, which are taken away."""
    import asyncio  # noqa: PLC0415 — loaded only when needed

    from sync_agent.machine.plain_files import stream_of  # noqa: PLC0415

    if item is None or not edits:
        return edits
    held = [await asyncio.to_thread(stream_of, str(edit.place)) for edit in edits]
    asked = sorted({stream.hex() for stream in held if stream is not None})
    versions: set[str] = set()
    try:
        for at in range(0, len(asked), _ASKED_AT_ONCE):
            answer = await run_here(call, ARE_OF_VERSIONS, {"item": item, "streams": asked[at : at + _ASKED_AT_ONCE]})
            versions.update(texts(answer, "streams") if isinstance(answer, Mapping) else ())
    except RelaisError:
        return edits  # an older `run`, say, which does not know the question: all of them stay
    by_people = []
    for edit, stream in zip(edits, held, strict=True):
        if stream is not None and stream.hex() in versions:
            edit.place.unlink(missing_ok=True)
        else:
            by_people.append(edit)
    return by_people
