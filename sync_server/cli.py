"""The command line of the server: a thin table. What a command does is in `operations`, `handlers` and `service`."""

from __future__ import annotations

import io
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

from protocol.errors import BadInput, Code, LocalFailure
from protocol.portable_names import displayable
from protocol.replica.console.codes import told_of_code
from protocol.replica.console.frame import Call, Notices, Program, Unheard, installed_version, now_ms, tell
from protocol.replica.console.measure_commands import add_measure_commands
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params, Table
from protocol.replica.console.options import Argument, Option
from protocol.replica.console.typed_by import typed_here
from protocol.replica.service.commands import add_service_commands
from protocol.replica.service.definition import SERVER
from sync_server.cli_lifecycle import RenamedToo, add_lifecycle_commands
from sync_server.opened.data_folder import check_initialised

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
IMPORTED_KINDS: Final = (
    "auto", "entcore", "be1d", "aaf", "oneroster", "cartridge", "scorm", "h5p", "epub", "moodle", "folder",
)  # fmt: skip
EXPORTED_KINDS: Final = ("entcore", "cartridge", "folder")
DEVICE_COLUMNS: Final = {
    "device": "device", "name": "called", "role": "role", "state": "state", "last_seen": "last seen",
    "last_full_sync": "in step", "via": "heard of", "backlog": "to send",
    "clone_of": "copy of", "confirmed": "confirmed",
}  # fmt: skip
ADMINISTRATOR_COLUMNS: Final = {
    "administrator": "administrator", "since": "since", "second_factor": "asked for codes", "passkeys": "passkeys",
}  # fmt: skip
HAND_IN_COLUMNS: Final = {
    "id": "hand-in", "title": "for", "called": "pupil", "state": "state", "by": "by", "at": "handed in",
    "clock_doubtful": "time to check",
}  # fmt: skip

PROGRAM: Final = Program(
    "sync-server", "The server of a territory: where schools meet, and where nothing is kept alone.", installed_version
)

Spaces = Annotated[list[str], Option("--space", metavar="ID", help="A space: its id, or a school's UAI.")]
Space = Annotated[str, Option("--space", metavar="ID", help="The space: its id, or a school's UAI.")]
KitPassphrase = Annotated[
    str | None,
    Option("--passphrase-file", metavar="FILE", help="A file with the passphrase that protects the kit."),
]
LogFile = Annotated[
    str | None, Option(metavar="FILE", help="Log to this file, bounded by rotation, instead of stderr.")
]
DeviceOption = Annotated[str | None, Option(metavar="ID", help="The device's id, from `devices`.")]
CalledSo = Annotated[
    str | None, Option("--called", metavar="NAME", help="Whom I mean, where lists called them otherwise as well.")
]
EachCalledSo = Annotated[
    list[str] | None, Option("--called", metavar="NAME", help="The same, once for each --person, in their order.")
]
PersonOption = Annotated[str | None, Option(metavar="ID", help="The person's id, from `person list`.")]


def main() -> int:
    """The program `sync-server`."""
    return PROGRAM.main()


async def _run(
    call: Call,
    name: str,
    params: Params,
    outgoing: Outgoing | None = None,
    incoming: Incoming = NO_FILES,
    *,
    lasting: bool = False,
) -> JSON:
    """Have the owner of DIR run a command: this process if nobody is."""
    from protocol.replica.console.command import run_command  # noqa: PLC0415 — loaded only when needed

    @asynccontextmanager
    async def in_process() -> AsyncIterator[Table]:
        from protocol.replica.steady import steady_clock  # noqa: PLC0415
        from sync_server.opened.app import opened  # noqa: PLC0415
        from sync_server.operations.table import operations  # noqa: PLC0415

        clock = steady_clock()
        async with opened(call.data_dir, now_ms=now_ms, entropy=secrets.token_bytes, steady=clock) as server:
            yield operations(server)

    check_initialised(call.data_dir)
    return await run_command(
        call.data_dir,
        name,
        typed_here(params),
        incoming,
        outgoing or Notices(),
        in_process,
        serve_others=lasting,
        loads=("sync_server.opened.app", "sync_server.operations.table"),
    )


@PROGRAM.command("init")
async def init(
    call: Call,
    *,
    name: Annotated[
        str | None, Option(help="What the territory is called; with --recover as in the kit, if left out.")
    ] = None,
    kit: Annotated[str | None, Option(metavar="FILE", help="Where the recovery kit goes (DIR/recovery-kit).")] = None,
    passphrase_file: Annotated[
        str | None, Option(metavar="FILE", help="A file with the passphrase that protects the kit.")
    ] = None,
    recover: Annotated[str | None, Option(metavar="KIT", help="Begin again with the territory of this kit.")] = None,
) -> JSON:
    """Make DIR the data folder of a new territory, and write its recovery kit."""
    from sync_server.keeping.beginning import begin  # noqa: PLC0415 — loaded only when needed

    return await begin(
        call.data_dir,
        name,
        kit=None if kit is None else Path(kit),
        passphrase_file=None if passphrase_file is None else Path(passphrase_file),
        recover=None if recover is None else Path(recover),
        now_ms=now_ms,
        entropy=secrets.token_bytes,
        tell=tell,
    )


@PROGRAM.command("run", lasting=True)
async def run(
    call: Call,
    *,
    listen: Annotated[str, Option(metavar="HOST:PORT", help="Where to listen.")] = DEFAULT_LISTEN,
    behind_proxy: Annotated[bool, Option(help="Plain HTTP: a proxy with TLS stands in front of this address.")] = False,
    tls: Annotated[
        bool, Option("--tls", help="TLS on loopback too; everywhere else it is spoken in any case.")
    ] = False,
    tls_cert: Annotated[
        str | None, Option(metavar="FILE", help="An official certificate with its chain (PEM), instead of ours.")
    ] = None,
    tls_key: Annotated[
        str | None, Option(metavar="FILE", help="Its key (PEM). Both are read again when they are renewed.")
    ] = None,
    database: Annotated[str | None, Option(metavar="URL", help="For a later version.")] = None,
    blobs: Annotated[str | None, Option(metavar="URL", help="For a later version.")] = None,
    log_file: LogFile = None,
) -> JSON:
    """Serve until told to stop (SIGTERM, Ctrl-C)."""
    from protocol.replica.console.stepping_down import step_down  # noqa: PLC0415
    from protocol.replica.service.hosting import asked_by_host  # noqa: PLC0415 — loaded only when needed
    from protocol.replica.service.logs import logging_to  # noqa: PLC0415
    from protocol.replica.service.notify import Notifier  # noqa: PLC0415
    from sync_server.config import run_config  # noqa: PLC0415
    from sync_server.service import run_server  # noqa: PLC0415

    step_down(call.data_dir)
    config = run_config(
        call.data_dir,
        listen=listen,
        behind_proxy=behind_proxy,
        tls=tls,
        tls_cert=tls_cert,
        tls_key=tls_key,
        database=database,
        blobs=blobs,
    )
    notifier = Notifier.taken_from(os.environ, os.getpid())
    with logging_to(log_file, os.environ.get("JOURNAL_STREAM")):
        await run_server(
            config, now_ms=now_ms, entropy=secrets.token_bytes, stopping=asked_by_host(), notifier=notifier
        )
    return {}


@PROGRAM.command("space add")
async def space_add(
    call: Call,
    name: Annotated[str, Argument(help="What the class is called.")],
    *,
    school: Annotated[str, Option(metavar="UAI", help="The school's code.")],
    year: Annotated[str | None, Option(metavar="2026-2027", help="The school year (today's); `none` for none.")] = None,
    person: Annotated[
        list[str] | None, Option("--person", metavar="ID", help="Who teaches there, known from another class.")
    ] = None,
    called: EachCalledSo = None,
) -> JSON:
    """Make a class, and its school if it is not there yet; with those who teach there, as `grant` lets them in."""
    params: Params = {"name": name, "school": school, "year": year, "person": person or [], "called": called or []}
    return await _run(call, "space add", params)


@PROGRAM.command("space list")
async def space_list(call: Call) -> JSON:
    """Every class: id, name, school, year, how many entries, the fingerprint of their set, and if it was closed."""
    return await _run(call, "space list", {})


@PROGRAM.command("person add")
async def person_add(
    call: Call,
    name: Annotated[str, Argument(help="The name, as the class says it.")],
    *,
    role: Annotated[str, Option(help="teacher, pupil, guardian or admin.")],
    space: Spaces,
) -> JSON:
    """Put somebody on the list of a class, or of several."""
    return await _run(call, "person add", {"name": name, "role": role, "space": space})


@PROGRAM.command("person list", columns={"person": "person", "called": "name", "role": "role", "also_in": "also in"})
async def person_list(call: Call, *, space: Space) -> JSON:
    """Who is on the list of a class; of pupils also which other classes of the year have them."""
    return await _run(call, "person list", {"space": space})


@PROGRAM.command("grant", said="done; what is let in learns it with its next sync")
async def grant(
    call: Call,
    *,
    device: DeviceOption = None,
    person: PersonOption = None,
    space: Spaces,
    anew: Annotated[
        bool, Option(help="Even a device that says that it was in there, though nobody is known to have let it in.")
    ] = False,
    called: CalledSo = None,
) -> JSON:
    """Let a known device, or somebody and their devices, into more spaces."""
    params: Params = {"device": device, "person": person, "space": space, "anew": anew, "called": called}
    return await _run(call, "grant", params)


@PROGRAM.command("ungrant", said="withdrawn; nothing more of these spaces reaches them, what they hold stays")
async def ungrant(
    call: Call,
    *,
    device: DeviceOption = None,
    person: PersonOption = None,
    space: Spaces,
    called: CalledSo = None,
) -> JSON:
    """Withdraw a device, or somebody and their devices, from some spaces."""
    params: Params = {"device": device, "person": person, "space": space, "called": called}
    return await _run(call, "ungrant", params)


@PROGRAM.command("invite")
async def invite(
    call: Call,
    *,
    role: Annotated[str, Option(help="machine, teacher, relay, head (of a school) or admin.")],
    space: Spaces,
    person: PersonOption = None,
    uses: Annotated[int, Option(metavar="N", help="How many devices the code lets in.")] = 1,
    ttl: Annotated[str, Option(metavar="TIME", help="How long it lasts: 30m, 24h, 7d.")] = "24h",
    stay: Annotated[
        str | None,
        Option("--for", metavar="TIME", help="How long what it opens shall last (a substitute: 15d)."),
    ] = None,
    renamed_too: RenamedToo = False,
) -> JSON:
    """Make a code with which a device enrols."""
    params: Params = {"role": role, "space": space, "person": person, "uses": uses, "ttl": ttl, "for": stay}
    return told_of_code(await _run(call, "invite", {**params, "renamed_too": renamed_too}, Unheard()))


@PROGRAM.command("administrator add")
async def administrator_add(
    call: Call,
    name: Annotated[str, Argument(help="The name to sign in with.")],
    *,
    passphrase_file: Annotated[str, Option(metavar="FILE", help="A file with the passphrase: at least 12 characters.")],
) -> JSON:
    """Let somebody sign in to the administrators' pages, which `run` serves under /admin/."""
    from sync_server.handlers.accounts.administrators import verifier_of  # noqa: PLC0415 — loaded only when needed
    from sync_server.handlers.by_kit.territory import chosen_passphrase_in  # noqa: PLC0415

    check_initialised(call.data_dir)
    verifier = verifier_of(chosen_passphrase_in(Path(passphrase_file)), secrets.token_bytes(16))
    return await _run(call, "administrator add", {"name": name, "verifier": verifier})


@PROGRAM.command("administrator list", columns=ADMINISTRATOR_COLUMNS)
async def administrator_list(call: Call) -> JSON:
    """Who may sign in to the administrators' pages, and what each is asked for besides the passphrase."""
    return await _run(call, "administrator list", {})


@PROGRAM.command("administrator remove", said="removed, and signed out")
async def administrator_remove(
    call: Call, name: Annotated[str, Argument(help="The name, from `administrator list`.")]
) -> JSON:
    """Take somebody's sign-in away; they are signed out at once."""
    return await _run(call, "administrator remove", {"name": name})


@PROGRAM.command("administrator second-factor")
async def administrator_second_factor(
    call: Call,
    name: Annotated[str, Argument(help="The name, from `administrator list`.")],
    *,
    remove: Annotated[bool, Option("--remove", help="Take it away: the passphrase alone opens again.")] = False,
) -> JSON:
    """Ask an administrator for a code of an application too (TOTP); prints its QR symbol, and recovery codes.

    Once more draws another: the codes, and the recovery codes, of the one before end with it.
    """
    made = await _run(call, "administrator second-factor", {"name": name, "remove": remove})
    if isinstance(made, Mapping) and "uri" in made:
        import segno  # noqa: PLC0415 — loaded only when needed

        symbol = io.StringIO()
        segno.make(str(made["uri"]), error="m").terminal(symbol, border=2, compact=True)
        for line in symbol.getvalue().splitlines():
            tell(line)
        tell("Read this symbol with the application that makes your codes. It is asked for from now on.")
        tell("Keep the recovery codes on paper: each opens once, when the application is lost. Neither is shown again.")
        if made["replaced"]:
            tell(
                "The codes and the recovery codes from before open nothing any more: delete that entry, and the paper."
            )
    return made


@PROGRAM.command("administrator passkey")
async def administrator_passkey(
    call: Call,
    name: Annotated[str, Argument(help="The name, from `administrator list`.")],
    *,
    address: Annotated[
        str | None,
        Option(metavar="URL", help="Where the pages are opened: the passkey works there, and nowhere else."),
    ] = None,
    remove: Annotated[
        str | None,
        Option(metavar="PASSKEY", help="Take one away: its id from `administrator passkeys`, or all."),
    ] = None,
) -> JSON:
    """Make a code with which an administrator adds a passkey; sign-in asks for it, or for a code, from then on."""
    if (address is None) == (remove is None):
        raise BadInput(Code.USAGE, "give --address to let a passkey be added, or --remove to take one away")
    made = await _run(call, "administrator passkey", {"name": name, "address": address, "remove": remove})
    if isinstance(made, Mapping) and "code" in made:
        tell(
            f"Sign in at {made['address']} within the hour, type the code there, and let the browser make the passkey."
        )
    return made


@PROGRAM.command("administrator passkeys")
async def administrator_passkeys(
    call: Call, name: Annotated[str, Argument(help="The name, from `administrator list`.")]
) -> JSON:
    """The passkeys of an administrator: what each is called, since when, and where it works."""
    return await _run(call, "administrator passkeys", {"name": name})


@PROGRAM.command("status")
async def status(call: Call) -> JSON:
    """What the server holds."""
    return await _run(call, "status", {})


@PROGRAM.command("devices", columns=DEVICE_COLUMNS)
async def devices(call: Call) -> JSON:
    """Every device: how it is, when it was last seen, what it has still to send."""
    return await _run(call, "devices", {})


@PROGRAM.command("hand-ins", columns=HAND_IN_COLUMNS)
async def hand_ins(call: Call, *, space: Space) -> JSON:
    """The hand-ins of a class: whose, when, how far. Their content is sealed to the teachers."""
    return await _run(call, "hand-ins", {"space": space})


@PROGRAM.command("check-receipt", verdict=True)
async def check_receipt(
    call: Call, code: Annotated[str, Argument(metavar="CODE", help="The code on the proof that a pupil keeps.")]
) -> JSON:
    """Say what has become of a hand-in from the proof on paper; exit 1 if nothing of it is here."""
    return await _run(call, "check-receipt", {"code": code})


@PROGRAM.command("verify", verdict=True)
async def verify(call: Call) -> JSON:
    """Read everything that can be served; what is bad is moved aside, and agents send it again."""
    return await _run(call, "verify", {}, lasting=True)


@PROGRAM.command("repair", said="done")
async def repair(call: Call) -> JSON:
    """Verify, and make anew every note that can be made from what is stored; a damaged database too."""
    try:
        return await _run(call, "repair", {}, lasting=True)
    except LocalFailure as failure:
        if failure.code is not Code.DAMAGED:
            raise
    # opening it again makes a damaged database anew; a server that was running has ended
    return await _run(call, "repair", {}, lasting=True)


@PROGRAM.command("backup")
async def backup(
    call: Call,
    file: Annotated[str, Argument(metavar="FILE", help="Where the backup goes; an older one is replaced.")],
) -> JSON:
    """Write all that the server holds into one file, sealed to the recovery kit, while it goes on serving."""
    import asyncio  # noqa: PLC0415 — loaded only when needed

    from sync_server.keeping.backing_up import BackupFile, summary  # noqa: PLC0415

    check_initialised(call.data_dir)
    with BackupFile(Path(file)) as target:
        made = await _run(call, "backup", {}, target, lasting=True)
        whole = await asyncio.to_thread(target.keep)
    await _run(call, "backup-kept", made if isinstance(made, Mapping) else {})
    opens = "Keep it as safe as the server" if whole.head.sealed_key is None else "It opens with the recovery kit alone"
    tell(f"{file} holds {summary(whole.head)}; it was read back. {opens}")
    tell(f"SHA-256 {whole.sha256}")
    tell("Keep that line elsewhere, where nobody writes who can write the backup: `restore --sha256` compares it")
    return {}


@PROGRAM.command("restore")
async def restore(
    call: Call,
    file: Annotated[str, Argument(metavar="FILE", help="A backup.")],
    *,
    kit: Annotated[str, Option(metavar="KIT", help="The territory's recovery kit.")],
    passphrase_file: Annotated[
        str | None, Option(metavar="FILE", help="A file with the passphrase that protects the kit.")
    ] = None,
    sha256: Annotated[
        str | None, Option(metavar="HASH", help="What `backup` said of it, kept elsewhere: nothing else is restored.")
    ] = None,
) -> JSON:
    """Make DIR, which must be unused, the server that a backup holds; agents bring what came after it."""
    from sync_server.keeping.backing_up import restore as bring_back  # noqa: PLC0415 — loaded only when needed

    return await bring_back(
        call.data_dir,
        Path(file),
        Path(kit),
        None if passphrase_file is None else Path(passphrase_file),
        sha256=sha256,
        now_ms=now_ms,
        entropy=secrets.token_bytes,
        tell=tell,
    )


# --- other platforms: the names are reserved, and say so until the room is built -------------------------------------


@PROGRAM.command("import")
async def import_files(
    call: Call,
    files: Annotated[list[str], Argument(metavar="FILE…", help="Archives, lists or folders.")],
    *,
    space: Space,
    kind: Annotated[str, Option(metavar="KIND", help="|".join(IMPORTED_KINDS))] = "auto",
    dry_run: Annotated[bool, Option(help="Only say what would be made.")] = False,
) -> JSON:
    """For a later version: take courses and lists from other platforms. Until then it changes nothing."""
    del files, space, dry_run
    check_initialised(call.data_dir)
    _check_kind(kind, IMPORTED_KINDS)
    raise BadInput(
        Code.NOT_YET,
        "this version imports nothing from other platforms yet, and nothing has changed: unpack the archive, publish "
        "its folder with `sync-agent publish`, and put people on the list with `person add`",
    )


@PROGRAM.command("export")
async def export(
    call: Call,
    file: Annotated[str, Argument(metavar="FILE", help="Where it goes.")],
    *,
    space: Space,
    kind: Annotated[str, Option(metavar="KIND", help="|".join(EXPORTED_KINDS))],
) -> JSON:
    """For a later version: write a class for another platform. Until then it writes nothing."""
    del file, space
    check_initialised(call.data_dir)
    _check_kind(kind, EXPORTED_KINDS)
    raise BadInput(
        Code.NOT_YET,
        "this version exports nothing for other platforms yet: `sync-agent checkout` writes an item as ordinary files, "
        "and `backup` keeps all of the server",
    )


def _check_kind(kind: str, known: tuple[str, ...]) -> None:
    if kind not in known:
        raise BadInput(Code.USAGE, f"there is no kind “{displayable(kind)}”; the kinds are {', '.join(known)}")


add_lifecycle_commands(PROGRAM, _run, now_ms)
add_measure_commands(PROGRAM, _run)
add_service_commands(PROGRAM, SERVER, "relais-server", check_initialised)


if __name__ == "__main__":
    sys.exit(main())
