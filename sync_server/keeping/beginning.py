"""The command `init`: takes the lock on DIR, has the territory begun, says what the operator must do next."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from protocol.errors import BadInput, Code
from protocol.replica.at_work.replica import Entropy
from protocol.replica.console.by_name import compared
from protocol.replica.console.command import run_command
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.parameters import shown
from protocol.replica.console.stepping_down import refuse_for_others
from protocol.replica.console.typed_by import by_here
from protocol.replica.office.names import name_of
from sync_server.handlers.accounts.administrators import MIN_PASSPHRASE_CHARS
from sync_server.handlers.by_kit.territory import (
    begin_territory,
    check_place,
    chosen_passphrase_in,
    new_kit,
    passphrase_in,
    passphrase_of,
)
from sync_server.keeping.kit_file import KitInFile
from sync_server.opened.data_folder import DEFAULT_KIT, already_initialised, is_initialised

_EARLIER_KEYS: Final = (
    "Until machines have told all that they know, who was cut off is in again, as far as somebody brings word of them: "
    "report them again (`lost`), once they are listed, before machines are enrolled; codes of before let nobody in. "
    "The machines bring what the server before had said, and its keys go on counting. If somebody was in that server, "
    "or has its keys: once machines of all schools have called, `sync-server rotate server --kit KIT` ends those keys, "
    "and keeps what had come by then (look at `audit` and `devices`); with `--since TIME --anyway` all they said waits"
)

WHOSE_NOBODY_SAYS: Final = (
    "Of no computer this server knows whose it is: neither a backup says that, nor who calls first. Let in each head "
    "teacher's by its name (`grant --device`), once it is listed, with the id that the computer itself shows; "
    "`grant --person` tells each teacher's computer once. Compare the six words that both tell with its own page. "
    "Whose computers all stay out, since a report of before is nobody's word here, `status` names: ask them before "
    "you report anything"
)


async def begin(
    folder: Path,
    name: str | None,
    *,
    kit: Path | None,
    passphrase_file: Path | None,
    recover: Path | None,
    now_ms: Callable[[], int],
    entropy: Entropy,
    tell: Callable[[str], None],
) -> JSON:
    """Begin a territory in DIR, new or from a kit; the keys of the contract. Raises `BadInput`, `LocalFailure`.

    One that is begun again may be given another name than its kit's: that is told, since the kit may be another's.
    """
    check_folder(folder)
    if name is None and recover is None:
        raise BadInput(Code.USAGE, "a new territory needs a name: --name NAME")
    given = None if name is None else name_of(name, "a territory")
    passphrase = passphrase_of(passphrase_file, chosen_passphrase_in if recover is None else passphrase_in)
    place: Path | None
    if recover is None:
        found = None
        known, place = new_kit(given or "", entropy), folder / DEFAULT_KIT if kit is None else kit
    else:
        found = KitInFile.read(recover, passphrase)
        known, place = found.kit if given is None else replace(found.kit, name=given), kit
    if kit is not None:
        _check_kit(folder, kit)

    async def operate(_params: Params, _incoming: Incoming, _outgoing: Outgoing) -> JSON:
        await begin_territory(
            folder,
            known,
            kit_file=place,
            passphrase=passphrase,
            now_ms=now_ms,
            entropy=entropy,
            again=found is not None,
            said=() if found is None else found.said,
            by=by_here(),
        )
        if place is not None:
            tell(kit_advice(place, passphrase, begins=True))
        if found is not None:
            tell(begun_again(found, known.name))
            tell(found.told)
            tell(WHOSE_NOBODY_SAYS)
            tell(_EARLIER_KEYS)
        return {
            "territory": known.territory.hex(),
            "fingerprint": known.fingerprint,
            "kit": str(recover if place is None else place),
        }

    @asynccontextmanager
    async def table() -> AsyncIterator[Table]:
        yield {"init": operate}

    return await run_command(folder, "init", {}, NO_FILES, Notices(), table, create=True)


def begun_again(found: KitInFile, name: str) -> str:
    """Of which territory the kit is that one was begun again with, and whether it was called so before."""
    before = f"begun again: the territory “{shown(found.kit.name)}”, {found.kit.fingerprint}, as the kit says"
    if compared(name) == compared(found.kit.name):
        return before
    return (
        f"{before}; it is called “{name}” from now on. If another territory was meant, {found.place} is the wrong kit: "
        "no device of the other one believes this server. Delete the folder, and take the other kit"
    )


def check_folder(folder: Path) -> None:
    """Raise `BadInput` for a DIR that is a server's already, or no folder, or another account's where this is root."""
    refuse_for_others(folder)
    if is_initialised(folder):
        raise already_initialised(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(Code.USAGE, f"{folder} is not a folder")


def _check_kit(folder: Path, kit: Path) -> None:
    """Raise `BadInput` for a kit's place outside DIR before DIR is made: what is refused leaves nothing."""
    if not kit.absolute().is_relative_to(folder.absolute()):
        check_place(folder, kit)


def kit_advice(place: Path, passphrase: str | None, *, begins: bool) -> str:
    """What to do with a kit that has just been written, for a territory that `begins`, or in the place of another."""
    return (
        f"The recovery kit {place} can rebuild this territory, and erase it.{_weakness(passphrase, begins=begins)} "
        "Print it, put it under lock and key, and take the file off this machine."
    )


def _weakness(passphrase: str | None, *, begins: bool) -> str:
    # said and not refused: scripts begin territories with files that they had before anybody asked for a length
    if passphrase is None:
        return " It has no passphrase: whoever reads it can do both."
    if len(passphrase) >= MIN_PASSPHRASE_CHARS:
        return ""
    at_first = "begin again with it while nobody has enrolled; later, " if begins else ""
    return (
        f" Its passphrase has fewer than {MIN_PASSPHRASE_CHARS} characters: whoever has the file finds it by trying. "
        f"A few words in a row are a good one: {at_first}"
        "`rotate root --new-kit FILE --new-passphrase-file FILE` makes a kit with another."
    )
