"""The commands about coursework and pupils' work, as teachers and pupils use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from protocol.errors import BadInput, Code, LocalFailure
from protocol.replica.console.frame import Call, tell
from protocol.replica.console.operation import JSON, Params
from protocol.replica.console.options import Argument, Option
from sync_agent.console.calls import PROGRAM, Folder, HandInId, Item, Paths, run_here, run_into, run_with

ITEM_COLUMNS: Final = {
    "item": "item", "title": "title", "kind": "kind", "subject": "subject", "due": "due", "at": "published",
    "clock_doubtful": "time to check", "complete": "complete", "conflict": "conflict", "withdrawn": "withdrawn",
    "files": "files",
}  # fmt: skip
VERSION_COLUMNS: Final = {
    "revision": "revision", "at": "published", "by": "by", "title": "title", "files": "files", "bytes": "bytes",
    "shown": "shown",
}  # fmt: skip
HAND_IN_COLUMNS: Final = {
    "id": "hand-in", "title": "for", "called": "pupil", "state": "state", "by": "by", "to_open": "to open",
    "at": "handed in", "clock_doubtful": "time to check", "late": "late", "files": "files", "feedback": "feedback",
}  # fmt: skip
PEOPLE_COLUMNS: Final = {"person": "person", "called": "name", "role": "role"}
PAGE_LANGUAGES: Final = ("fr", "en")
HAND_IN_TRIES: Final = 3
MAX_TOLD_PATHS: Final = 10


@PROGRAM.command("items", columns=ITEM_COLUMNS)
async def items(call: Call) -> JSON:
    """List the coursework of this device, and how many files each item has; `--json` names them."""
    return await run_here(call, "items")


@PROGRAM.command("versions", columns=VERSION_COLUMNS)
async def versions(call: Call, item: Item) -> JSON:
    """List all versions of an item, the newest first: `restore --revision` and `checkout --revision` take each."""
    return await run_here(call, "versions", {"item": item})


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
    keep: Annotated[
        str | None,
        Option(metavar="REVISION", help="What is not given stays as this version of it has it, whoever wrote that."),
    ] = None,
    text: Annotated[
        str | None,
        Option(help="A text to read at once, with or without files: it becomes the file mot.txt.", has_lines=True),
    ] = None,
) -> JSON:
    """Publish files, folders or a text as a lesson, an assignment or an announcement."""
    from sync_agent.console.intake import files_of, left_behind  # noqa: PLC0415
    from sync_agent.coursework.dates import due_ms  # noqa: PLC0415 — loaded only when needed

    params: dict[str, JSON] = {"space": space, "title": title, "kind": kind, "item": item, "keep": keep}
    if subject is not None:
        params["subject"] = subject or None
    if due is not None:
        params["due_ms"] = due_ms(due) if due or item is None else None
    if text is not None:
        params["text"] = text
    required = item is None and not text
    incoming = files_of(paths or [], required=required, data_dir=call.data_dir)
    done = await run_with(call, "publish", params, incoming)
    if unmeant := left_behind(incoming):
        more = f" and {len(unmeant) - MAX_TOLD_PATHS} more" if len(unmeant) > MAX_TOLD_PATHS else ""
        tell(f"published too, though a program left it in the folder: {', '.join(unmeant[:MAX_TOLD_PATHS])}{more}")
    return done


@PROGRAM.command(
    "withdraw",
    said="withdrawn; pupils see it no more once their device has synced; `items` here lists it on, as withdrawn",
    unchanged="nothing to do: it is withdrawn already",
)
async def withdraw(call: Call, item: Item) -> JSON:
    """Take an item out of sight on every device; `restore` brings it back."""
    return await run_here(call, "withdraw", {"item": item})


@PROGRAM.command(
    "restore",
    said="it is shown again, on every device with its next sync",
    unchanged="nothing to do: it is shown already, as you want it",
)
async def restore(
    call: Call,
    item: Item,
    *,
    revision: Annotated[
        str | None, Option(metavar="R", help="Make this earlier version the shown one again: from `versions`.")
    ] = None,
) -> JSON:
    """Bring a withdrawn item back, or an earlier version of an item."""
    return await run_here(call, "restore", {"item": item, "revision": revision})


@PROGRAM.command("settle", said="settled; every device shows this version with its next sync")
async def settle(
    call: Call, item: Item, *, keep: Annotated[str, Option(metavar="REVISION", help="One of the item's heads.")]
) -> JSON:
    """End a conflict: of several versions of an item, keep this one."""
    return await run_here(call, "settle", {"item": item, "keep": keep})


@PROGRAM.command("cat", raw=True)
async def cat(
    call: Call, item: Item, path: Annotated[str, Argument(metavar="PATH", help="A file, from `items`.")]
) -> JSON:
    """Write one file of an item, or of the feedback to a hand-in, to stdout."""
    from sync_agent.console.outlet import StdoutOutlet  # noqa: PLC0415 — loaded only when needed

    return await run_here(call, "cat", {"item": item, "path": path}, outgoing=StdoutOutlet())


@PROGRAM.command("checkout", said="written", for_people=["files", "folder"])
async def checkout(
    call: Call,
    item: Item,
    folder: Folder,
    *,
    revision: Annotated[
        str | None,
        Option(
            metavar="R",
            help="This version instead of the shown one: from `versions`; this remark: `hand-ins --json`.",
        ),
    ] = None,
) -> JSON:
    """Write all files of an item, or of the feedback to a hand-in, into DIR; what was changed there is kept."""
    return await run_into(call, folder, "checkout", {"item": item, "revision": revision}, item=item)


@PROGRAM.command("people", columns=PEOPLE_COLUMNS)
async def people(call: Call, *, space: Annotated[str, Option(metavar="ID", help="The space, from `status`.")]) -> JSON:
    """Show the class list of a space."""
    return await run_here(call, "people", {"space": space})


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
    import asyncio  # noqa: PLC0415 — loaded only when needed

    from sync_agent.console.intake import PAUSE_S, files_of, sizes_of  # noqa: PLC0415

    # The list of files is sealed before the first byte: when one of them changes meanwhile, all begins again.
    for tries_left in reversed(range(HAND_IN_TRIES)):
        incoming = files_of(paths or [], data_dir=call.data_dir)
        params: dict[str, JSON] = {"item": item, "person": person, "files": sizes_of(incoming)}
        try:
            kept = await run_with(call, "hand-in", params, incoming)
        except LocalFailure as failure:
            if failure.code is not Code.CHANGING_FILE or not tries_left:
                raise
        else:
            _tell_of_empty(sizes_of(incoming))
            return kept
        await asyncio.sleep(PAUSE_S)
    raise AssertionError


def _tell_of_empty(sizes: Sequence[tuple[str, int]]) -> None:
    """Hint at files in which nothing is: a pupil has not saved them yet, perhaps."""
    empty = [path for path, size in sizes if size == 0]
    if empty:
        more = f" and {len(empty) - MAX_TOLD_PATHS} more" if len(empty) > MAX_TOLD_PATHS else ""
        tell(f"empty (0 bytes): {', '.join(empty[:MAX_TOLD_PATHS])}{more}; not saved yet? Save it, and hand in again")


@PROGRAM.command("hand-ins", columns=HAND_IN_COLUMNS)
async def hand_ins(
    call: Call, *, item: Annotated[str | None, Option(metavar="ITEM", help="Only those for this item.")] = None
) -> JSON:
    """List pupils' work and how far it has come: on a teacher's device all of it, else what was handed in here."""
    return await run_here(call, "hand-ins", {"item": item})


@PROGRAM.command("open-hand-in", said="opened; the pupil will see that you did", for_people=["files", "folder"])
async def open_hand_in(call: Call, hand_in: HandInId, folder: Folder) -> JSON:
    """Unseal a pupil's work into DIR, and let the pupil know that it was opened."""
    written = await run_into(call, folder, "open-hand-in", {"id": hand_in}, from_others=True)
    await run_here(call, "confirm-opened", {"id": hand_in})
    return written


@PROGRAM.command("feedback", said="the feedback is kept here, and goes out with the next sync")
async def feedback(
    call: Call,
    hand_in: HandInId,
    paths: Paths = None,
    *,
    text: Annotated[str, Option(help="What the pupil reads.", has_lines=True)],
    mark: Annotated[str | None, Option(help="A mark or a level.")] = None,
    redo: Annotated[bool, Option(help="Ask for another try.")] = False,
    take_back: Annotated[bool, Option(help="Take back what you said, to the wrong pupil say; with --text ''.")] = False,
) -> JSON:
    """Give feedback on a pupil's work, with files if there are any; it takes the place of what you said before."""
    from sync_agent.console.intake import files_of  # noqa: PLC0415 — loaded only when needed

    params: dict[str, JSON] = {"id": hand_in, "text": text, "mark": mark, "redo": redo, "take_back": take_back}
    return await run_with(call, "feedback", params, files_of(paths or [], required=False, data_dir=call.data_dir))


@PROGRAM.command("receipt")
async def receipt(
    call: Call,
    hand_in: HandInId,
    *,
    to_print: Annotated[
        str | None, Option("--print", metavar="FILE", help="Also write a page to print, with a QR code: a new file.")
    ] = None,
    language: Annotated[str, Option("--lang", help="The page's language: fr or en.")] = "fr",
) -> JSON:
    """Give the proof of a hand-in: a code to keep, which the server checks later with `check-receipt`."""
    if language not in PAGE_LANGUAGES:
        raise BadInput(Code.USAGE, f"--lang is one of: {', '.join(PAGE_LANGUAGES)}")
    params: Params = {"id": hand_in, "page": None if to_print is None else language}
    page = None if to_print is None else _free(Path(to_print))
    found = await run_here(call, "receipt", params)
    if page is not None and isinstance(found, dict):
        write_page(page, str(found.pop("page")))
    return found


def _free(path: Path) -> Path:
    if path.exists():
        raise _taken(path)
    return path


def _taken(path: Path) -> BadInput:
    return BadInput(Code.USAGE, f"{path} exists already; choose another name")


def write_page(path: Path, text: str) -> None:
    """Write a new file. Raises `BadInput` where there can be none of that name, `LocalFailure`."""
    from sync_agent.console.outlet import trouble  # noqa: PLC0415 — loaded only when needed

    made = False
    try:
        with path.open("x", encoding="utf-8") as file:
            made = True
            file.write(text)
    except FileExistsError:  # since we looked; or a link that leads nowhere
        raise _taken(path) from None
    except FileNotFoundError:
        raise BadInput(Code.MISSING_FILE, f"{path} lies in no folder; choose another name") from None
    except OSError as reason:
        if made:
            path.unlink(missing_ok=True)
        raise trouble(path, reason) from reason


# --- the end of a year ------------------------------------------------------------------------------------------------

_AS_IT_IS = "As this computer knows the class, however long it has not agreed with its server."


@PROGRAM.command("carry-over")
async def carry_over(
    call: Call,
    *,
    source: Annotated[str, Option("--from", metavar="ID", help="The class of the year that ends.")],
    target: Annotated[str, Option("--to", metavar="ID", help="Your next class.")],
    also: Annotated[
        list[str] | None,
        Option(metavar="ID", help="This one too, which would be left, by the id that is told; may be repeated."),
    ] = None,
    shown_only: Annotated[bool, Option(help="Leave what else is hidden, or withdrawn by others.")] = False,
    as_it_is_here: Annotated[bool, Option(help=_AS_IT_IS)] = False,
) -> JSON:
    """Publish a class's lessons in your next class; what is there already is left alone, and named.

    While lessons of yours are hidden, or withdrawn by somebody you have not confirmed, it asks, and publishes nothing;
    and so where this computer has not agreed with its server about the class for a day.
    """
    params: Params = {
        "from": source,
        "to": target,
        "also": list(also or ()),
        "shown_only": shown_only,
        "as_it_is_here": as_it_is_here,
    }
    return await run_here(call, "carry-over", params, lasting=True)


@PROGRAM.command("portfolio")
async def portfolio(
    call: Call,
    folder: Folder,
    *,
    space: Annotated[str, Option(metavar="ID", help="The class.")],
    person: Annotated[str | None, Option(metavar="ID", help="One pupil only, from `people`.")] = None,
    renamed_too: Annotated[
        bool, Option(help="With --person: even if somebody else had this name, or number, the one with this id.")
    ] = False,
    hidden_too: Annotated[bool, Option(help="Also what is hidden and opens here, in folders that say so.")] = False,
    shown_only: Annotated[bool, Option(help="Without what is hidden.")] = False,
    as_it_is_here: Annotated[bool, Option(help=_AS_IT_IS)] = False,
) -> JSON:
    """Write pupils' work and what was said of it into DIR, a folder for each pupil, for families to keep.

    While work is hidden, by an erasure or a computer that was cut off, it asks, and writes nothing; and so where
    this computer has not agreed with its server about the class for a day.
    """
    params: Params = {
        "space": space,
        "person": person,
        "renamed_too": renamed_too,
        "hidden_too": hidden_too,
        "shown_only": shown_only,
        "as_it_is_here": as_it_is_here,
    }
    from protocol.replica.access.archive import tell_in_clear  # noqa: PLC0415 — loaded only when needed

    written = await run_into(call, folder, "portfolio", params, from_others=True)
    if written["files"]:
        tell_in_clear(Path(folder))
    return written
