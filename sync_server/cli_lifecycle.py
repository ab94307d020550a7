"""Commands about rights, keys and the end of things; what they do is in `operations.lifecycle`.

The recovery kit is read here, by the command line, and its keys stay here: whoever has the store open asks for what the
command needs, and gets signatures and seals (docs/adr/0128).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol

from protocol.errors import BadInput, RelaisError
from protocol.replica.console.frame import Call, Notices, Program, tell
from protocol.replica.console.loss_command import add_loss_command
from protocol.replica.console.operation import JSON, NO_FILES, Incoming, Outgoing, Params
from protocol.replica.console.options import Argument, Option
from sync_server.opened.data_folder import check_initialised

if TYPE_CHECKING:
    from protocol.model.entry import Entry
    from protocol.trust.kit import Kit
    from sync_server.keeping.kit_file import KitInFile
    from sync_server.kit.desk import KitDesk

PersonId = Annotated[str, Argument(metavar="ID", help="The person's id, from `person list`.")]
SpaceId = Annotated[str, Argument(metavar="ID", help="The space: its id, or a school's UAI.")]
DeviceId = Annotated[str, Argument(metavar="ID", help="The device's id, from `devices`.")]
KitFile = Annotated[str, Option("--kit", metavar="KIT", help="The territory's recovery kit.")]
KitPassphrase = Annotated[
    str | None,
    Option("--passphrase-file", metavar="FILE", help="A file with the passphrase that protects the kit."),
]
AUDIT_COLUMNS: Final = {
    "at": "when", "what": "what", "who": "who", "by": "role", "key": "key", "about": "about", "kit": "with the kit",
    "failed": "failed",
}  # fmt: skip
ERASURE_COLUMNS: Final = {
    "covers": "covers", "name": "name", "once": "once", "state": "state", "who": "by", "until": "until",
    "at": "said",
}  # fmt: skip
Ruled = Annotated[list[str], Argument(metavar="ID…", help="Entries or devices, from `waiting`.")]

NamelessToo = Annotated[
    bool, Option("--nameless-too", help="With the kit: even if nothing here shows a name of whom I mean.")
]

RenamedToo = Annotated[
    bool,
    Option(
        "--renamed-too", help="Even if somebody else had this name, or number, before: I mean the one with this id."
    ),
]

RulingKit = Annotated[
    str | None, Option("--kit", metavar="KIT", help="The recovery kit, for what waits by its own word; whole ids only.")
]


class Run(Protocol):
    """Has the owner of DIR run a command."""

    def __call__(
        self,
        call: Call,
        name: str,
        params: Params,
        outgoing: Outgoing | None = None,
        incoming: Incoming = NO_FILES,
        /,
        *,
        lasting: bool = False,
    ) -> Awaitable[JSON]:
        """The command's result. Raises as it does."""
        ...


@dataclass(frozen=True, slots=True)
class _Kits:
    """Has the owner of DIR run a command that may have a kit, and signs here what it needs, and nothing else."""

    ask: Run
    now_ms: Callable[[], int]

    async def run(
        self,
        call: Call,
        name: str,
        params: Params,
        kit: KitInFile | None,
        *,
        outgoing: Outgoing | None = None,
        lasting: bool = False,
    ) -> JSON:
        """The command's result. Raises as it does. With a kit it may last: each question waits for its answer."""
        if kit is None:
            return await self.ask(call, name, params, outgoing, lasting=lasting)
        notes = kit.notes()
        desk = self.desk(name, params, kit.kit, remembered=kit.said, outgoing=outgoing, note=notes.take)
        try:
            return await self.run_at(call, name, params, desk)
        except RelaisError:
            if desk.has_signed and name in {"erase", "space close"}:
                tell(
                    "the kit has signed by now: whoever has the store open may have its word that this is to be "
                    "forgotten. Call this again; or, on another machine if this one may be in other hands, "
                    "`sync-server unerase ID --kit KIT --counting-too --unseen-too` for each id: that ends it"
                )
            raise
        finally:
            notes.tell(tell)

    def desk(
        self,
        name: str,
        params: Params,
        kit: Kit,
        *,
        new: Kit | None = None,
        remembered: Iterable[Entry] = (),
        outgoing: Outgoing | None = None,
        note: Callable[[Sequence[Entry]], None],
    ) -> KitDesk:
        """Where the command signs, by a kit that remembers this of its words; `note` is given what it says."""
        from sync_server.kit.desk import KitDesk  # noqa: PLC0415
        from sync_server.kit.errands import errand_of  # noqa: PLC0415 — loaded only when needed

        errand = errand_of(name, kit, params, new, secrets.token_bytes, remembered)
        return KitDesk(errand, outgoing or Notices(), self.now_ms, note)

    async def run_at(self, call: Call, name: str, params: Params, desk: KitDesk) -> JSON:
        """The result of a command that signs there."""
        return await self.ask(call, name, {**params, "kit": desk.keys}, desk, desk, lasting=True)


def add_lifecycle_commands(program: Program, run: Run, now_ms: Callable[[], int]) -> None:
    """Enter the commands into the server's table; `now_ms` is this machine's clock."""
    kits = _Kits(run, now_ms)
    _add_who_is_cut_off(program, run, kits)
    _add_names_and_ends(program, run, kits)
    _add_forgetting(program, run, kits)
    _add_keys(program, run, kits)


def _add_who_is_cut_off(program: Program, run: Run, kits: _Kits) -> None:
    @program.command("revoke", said="cut off; what it had brought stays")
    async def revoke(
        call: Call,
        device: DeviceId,
        *,
        kit: Annotated[
            str | None,
            Option(metavar="KIT", help="The recovery kit, for who has spoken in more than a thousand classes."),
        ] = None,
        passphrase_file: KitPassphrase = None,
        since: Annotated[str | None, Option(help="As of `lost`: what it said since waits.")] = None,
        anyway: Annotated[
            bool,
            Option(help="Even if all that it has ever said, or said in the newest of very many classes, waits then."),
        ] = False,
    ) -> JSON:
        """Cut a device off everywhere: what it had brought stays, what turns up later is held back."""
        params: Params = {"device": device, "since": since, "anyway": anyway}
        return await kits.run(call, "revoke", params, _kit_or_none(call, kit, passphrase_file))

    @program.command("confirm", said="confirmed")
    async def confirm(
        call: Call,
        device: Annotated[str, Argument(help="The clone's id, from `devices`.")],
        *,
        restore: Annotated[
            bool, Option(help="With the role and the person of the machine that it was, as for a laptop that moved.")
        ] = False,
    ) -> JSON:
        """Say that a cloned machine, which took keys of its own, belongs here. `revoke` says that it does not."""
        return await run(call, "confirm", {"device": device, "restore": restore})

    add_loss_command(program, run)

    @program.command("waiting")
    async def waiting(
        call: Call, *, refused: Annotated[bool, Option(help="Show what was refused instead.")] = False
    ) -> JSON:
        """What came from devices after they were cut off: it counts for nothing until somebody accepts it."""
        return await run(call, "waiting", {"refused": refused})

    @program.command("accept")
    async def accept(call: Call, named: Ruled, *, kit: RulingKit = None, passphrase_file: KitPassphrase = None) -> JSON:
        """Let what waits count after all: single entries, or all of a device. Ids are those of `waiting`."""
        return await kits.run(call, "accept", {"named": list(named)}, _kit_or_none(call, kit, passphrase_file))

    @program.command("refuse")
    async def refuse(call: Call, named: Ruled, *, kit: RulingKit = None, passphrase_file: KitPassphrase = None) -> JSON:
        """Take what waits off the list: it counts for nothing, and is kept."""
        return await kits.run(call, "refuse", {"named": list(named)}, _kit_or_none(call, kit, passphrase_file))


def _add_names_and_ends(program: Program, run: Run, kits: _Kits) -> None:
    @program.command("person rename", said="renamed, on every list")
    async def person_rename(
        call: Call,
        person: PersonId,
        name: Annotated[str, Argument(help="The new name.")],
        *,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Call somebody something else, on every list that they are on."""
        return await run(call, "person rename", {"person": person, "name": name, "renamed_too": renamed_too})

    @program.command("person retire", said="off every list, and their devices are cut off; what they made stays")
    async def person_retire(
        call: Call,
        person: PersonId,
        *,
        called: Annotated[
            str | None,
            Option("--called", metavar="NAME", help="Whom I mean, where lists called them otherwise as well."),
        ] = None,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Somebody leaves: off every list, and the devices that stand for them are cut off. `erase` forgets them."""
        return await run(call, "person retire", {"person": person, "called": called, "renamed_too": renamed_too})

    @program.command("person freeze", said="frozen: kept, and shown nowhere; `person unfreeze` lifts that")
    async def person_freeze(call: Call, person: PersonId, *, renamed_too: RenamedToo = False) -> JSON:
        """Keep what there is about a pupil, and show it to nobody, while something is decided (GDPR, article 18)."""
        return await run(call, "person freeze", {"person": person, "renamed_too": renamed_too})

    @program.command(
        "person unfreeze", said="no more frozen: shown as before", unchanged="nothing to do: frozen on no list here"
    )
    async def person_unfreeze(call: Call, person: PersonId) -> JSON:
        """Have all that there is about somebody who is frozen be as it was before."""
        done = await run(call, "person unfreeze", {"person": person})
        return {**done, "changed": done.get("lists") != 0} if isinstance(done, dict) else done

    @program.command("space rename", said="renamed; devices learn it with their next sync")
    async def space_rename(call: Call, space: SpaceId, name: Annotated[str, Argument(help="The new name.")]) -> JSON:
        """Call a class or a school something else; its id, and folders that have its name, stay."""
        return await run(call, "space rename", {"space": space, "name": name})

    @program.command("space close")
    async def space_close(
        call: Call,
        space: SpaceId,
        *,
        kit: Annotated[
            str | None, Option("--kit", metavar="KIT", help="The recovery kit; without it, only say what would go.")
        ] = None,
        passphrase_file: KitPassphrase = None,
        named: Annotated[
            str | None,
            Option("--named", metavar="NAME", help="With the kit: the class as it was made: “CM2 A, 2025-2026, UAI”."),
        ] = None,
        unopened_too: Annotated[
            bool, Option(help="Even if work was opened by nobody, or work or lessons are hidden.")
        ] = False,
        renamed_too: Annotated[
            bool, Option(help="Even if another class of the school had its name: I mean the one with this id.")
        ] = False,
        unheard_too: Annotated[
            bool, Option(help="Even if machines of the class have not told all that they know for a week.")
        ] = False,
    ) -> JSON:
        """End of the year: a class and all that pupils did in it are forgotten everywhere. Carry lessons over first.

        Without --kit nothing is closed: it says what would go.
        """
        params: Params = {
            "space": space,
            "named": named,
            "unopened_too": unopened_too,
            "renamed_too": renamed_too,
            "unheard_too": unheard_too,
        }
        return await kits.run(call, "space close", params, _kit_or_none(call, kit, passphrase_file))


def _add_forgetting(program: Program, run: Run, kits: _Kits) -> None:
    @program.command("erase")
    async def erase(
        call: Call,
        *,
        person: Annotated[
            list[str], Option("--person", metavar="ID", help="Who: ids from `person list`; may be repeated.")
        ],
        kit: Annotated[
            str | None, Option(metavar="KIT", help="The recovery kit, for more than five persons a day.")
        ] = None,
        passphrase_file: KitPassphrase = None,
        named: Annotated[
            list[str] | None,
            Option("--named", metavar="NAME", help="With the kit: what they are called, a name for each."),
        ] = None,
        nameless_too: NamelessToo = False,
        renamed_too: RenamedToo = False,
        alone: Annotated[bool, Option(help="Nobody else, whoever lists say is the same.")] = False,
        dry_run: Annotated[bool, Option(help="Only say who that is.")] = False,
    ) -> JSON:
        """Forget people everywhere: names, work, feedback. Hidden at once; each machine destroys it a week later."""
        params: Params = {
            "person": list(person),
            "named": list(named or []),
            "nameless_too": nameless_too,
            "renamed_too": renamed_too,
            "alone": alone,
            "dry_run": dry_run,
        }
        return await kits.run(call, "erase", params, _kit_or_none(call, kit, passphrase_file))

    @program.command("erasures", columns=ERASURE_COLUMNS)
    async def erasures(call: Call) -> JSON:
        """What is to be forgotten: who, by whose order, until when that is taken back without the kit.

        Hidden so far, destroyed here, or waiting since who asked for it was cut off.
        """
        return await run(call, "erasures", {})

    @program.command("unerase", said="shown again wherever this arrives")
    async def unerase(
        call: Call,
        covers: Annotated[str, Argument(metavar="ID", help="What `erasures` says is covered.")],
        *,
        kit: Annotated[
            str | None, Option(metavar="KIT", help="The recovery kit, for what has been destroyed somewhere.")
        ] = None,
        passphrase_file: KitPassphrase = None,
        named: Annotated[
            str | None,
            Option(
                "--named",
                metavar="NAME",
                help="With the kit: who that is, where a list still says it; of a class “CM2 A, 2025-2026, UAI”.",
            ),
        ] = None,
        dated: Annotated[
            list[str] | None,
            Option(
                "--dated",
                metavar="DAY",
                help="With the kit: of when each erasure is: 2026-03-02, 2026-03-02..2026-03-09.",
            ),
        ] = None,
        counting_too: Annotated[
            bool, Option(help="Also what counts and nobody has called in question, or is said more than once.")
        ] = False,
        unseen_too: Annotated[
            bool, Option(help="Also what the kit may have signed, and nothing here shows: after a command that failed.")
        ] = False,
        destroyed_too: Annotated[
            bool, Option(help="With the kit: also what was destroyed here; it comes back from whoever has kept it.")
        ] = False,
        renamed_too: Annotated[
            bool, Option(help="Without the kit: also who has by now a name that was another's.")
        ] = False,
    ) -> JSON:
        """Take an erasure back: within a week, or while it waits; afterwards with the kit, as far as anybody has it."""
        params: Params = {
            "covers": covers,
            "named": named,
            "dated": list(dated or []),
            "counting_too": counting_too,
            "unseen_too": unseen_too,
            "destroyed_too": destroyed_too,
            "renamed_too": renamed_too,
        }
        return await kits.run(call, "unerase", params, _kit_or_none(call, kit, passphrase_file))

    @program.command("export-person", columns={"written": "written by them"})
    async def export_person(
        call: Call,
        person: Annotated[str, Argument(metavar="ID", help="Who: an id from `person list`.")],
        file: Annotated[str, Argument(metavar="FILE", help="The ZIP to write.")],
        *,
        kit: Annotated[
            str | None, Option(metavar="KIT", help="The recovery kit, which opens sealed work as well.")
        ] = None,
        passphrase_file: KitPassphrase = None,
        named: Annotated[
            str | None, Option("--named", metavar="NAME", help="With the kit: what they are called.")
        ] = None,
        nameless_too: NamelessToo = False,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Write all that is held about somebody into a ZIP that a family can read."""
        import asyncio  # noqa: PLC0415 — loaded only when needed

        from protocol.replica.access.archive import ZipOutlet, tell_in_clear  # noqa: PLC0415

        params: Params = {"person": person, "named": named, "nameless_too": nameless_too, "renamed_too": renamed_too}
        check_initialised(call.data_dir)
        found = _kit_or_none(call, kit, passphrase_file)
        with ZipOutlet(Path(file)) as archive:
            counted = await kits.run(call, "export-person", params, found, outgoing=archive, lasting=True)
            await asyncio.to_thread(archive.keep)
        tell_in_clear(Path(file))
        return counted


def _add_keys(program: Program, run: Run, kits: _Kits) -> None:
    @program.command("kit check", apart=True)
    async def kit_check(
        call: Call,
        kit: Annotated[str, Argument(metavar="KIT", help="The recovery kit.")],
        *,
        passphrase_file: KitPassphrase = None,
    ) -> JSON:
        """Try a kit, once a year: that it opens, and of which territory it is. Nothing is signed or written."""
        del call
        from sync_server.keeping.trying_a_kit import try_kit  # noqa: PLC0415 — loaded only when needed

        found = try_kit(Path(kit), None if passphrase_file is None else Path(passphrase_file), tell)
        tell(
            "it opens; its fingerprint must be that of this territory's machines (`status`, “Échange”), and of every "
            "code after its first digit"
        )
        return found

    @program.command("rewrap")
    async def rewrap(
        call: Call,
        *,
        kit: KitFile,
        passphrase_file: KitPassphrase = None,
        person: Annotated[str, Option("--person", metavar="ID", help="The teacher's id, from `person list`.")],
        words: Annotated[
            str | None,
            Option("--words", metavar="WORDS", help="The six words of the teacher's new device, from its own screen."),
        ] = None,
        space: Annotated[
            list[str] | None,
            Option(
                "--space",
                metavar="ID",
                help="Of which class: its whole id; may be repeated. Without it, only say in which the device is.",
            ),
        ] = None,
        again: Annotated[
            bool, Option(help="Also what the kit has sealed to that device before, where that opens nothing.")
        ] = False,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Open pupils' work to a teacher who has lost every key, by the recovery key; `audit` shows each time."""
        asked: dict[str, JSON] = {"person": person, "words": words, "space": list(space or []), "again": again}
        asked["renamed_too"] = renamed_too
        return await kits.run(call, "rewrap", asked, _kit_in(call, kit, passphrase_file))

    @program.command("rotate server")
    async def rotate_server(
        call: Call,
        *,
        kit: KitFile,
        passphrase_file: KitPassphrase = None,
        since: Annotated[
            str | None,
            Option(help="When the keys were last in good hands (2026-11-20T14:30, 36h): what they said since waits."),
        ] = None,
        anyway: Annotated[
            bool,
            Option(help="Even if all that an old key has said waits then, or what a server made anew still lacks."),
        ] = False,
        also: Annotated[
            list[str] | None,
            Option("--also", metavar="KEY", help="A server of yours that this one had not heard of in time: its key."),
        ] = None,
    ) -> JSON:
        """Give the server new keys, and cut the old ones off: after a theft of its disk or a backup, or once a year."""
        params: Params = {"since": since, "anyway": anyway, "also": list(also or [])}
        file = _kit_in(call, kit, passphrase_file)
        notes = file.notes()
        desk = kits.desk("rotate server", params, file.kit, note=notes.take)
        try:
            return await kits.run_at(call, "rotate server", params, desk)
        except RelaisError:
            if desk.has_signed:
                tell(
                    "the kit has signed by now: whoever has the store open may have its word for keys of a server. "
                    "Call this again, on a new machine if this one may be in other hands: that ends it"
                )
            raise
        finally:
            notes.tell(tell)

    @program.command("rotate root")
    async def rotate_root(
        call: Call,
        *,
        kit: KitFile,
        passphrase_file: KitPassphrase = None,
        new_kit: Annotated[str, Option(metavar="FILE", help="Where the new kit goes; the old one is worth nothing.")],
        new_passphrase_file: Annotated[
            str | None, Option(metavar="FILE", help="A file with the passphrase that protects the new kit.")
        ] = None,
        new_kit_open: Annotated[
            bool, Option(help="Make the new kit without a passphrase, though the old one has one.")
        ] = False,
        take_up: Annotated[
            bool, Option(help="Go on with the new kit that an earlier call, which was cut, has begun in FILE.")
        ] = False,
        anyway: Annotated[
            bool, Option(help="Even if this server may not have heard all that the kit has signed; it counts no more.")
        ] = False,
    ) -> JSON:
        """Give the territory another root, after a theft of the kit. Repeatable with --take-up after a cut."""
        from sync_server.keeping.new_root import NewKit, check_new_place  # noqa: PLC0415

        place = Path(new_kit)
        check_new_place(passphrase_file, place, new_passphrase_file, open_too=new_kit_open, take_up=take_up)
        old = _kit_in(call, kit, passphrase_file)
        made = NewKit(Path(kit), passphrase_file, place, new_passphrase_file, secrets.token_bytes)
        if take_up:
            tell(f"goes on with the kit in {place}, {made.kit.fingerprint}")
        params: Params = {"anyway": anyway}
        desk = kits.desk("rotate root", params, old.kit, new=made.kit, remembered=old.said, note=made.take)
        try:
            done = await kits.run_at(call, "rotate root", params, desk)
        except BadInput as reason:
            raise made.failed(reason, has_signed=desk.has_signed) from reason
        kept = made.keep(done)
        for line in made.advice:
            tell(line)
        return kept

    @program.command("audit", columns=AUDIT_COLUMNS)
    async def audit(call: Call) -> JSON:
        """Who changed rights, keys and spaces, when: what entries say; and who had this server do what, as it noted."""
        return await run(call, "audit", {})


def _kit_or_none(call: Call, kit: str | None, passphrase_file: str | None) -> KitInFile | None:
    """The kit in a file, where one is named. Raises `BadInput`."""
    return None if kit is None else _kit_in(call, kit, passphrase_file)


def _kit_in(call: Call, kit: str, passphrase_file: str | None) -> KitInFile:
    """The kit in a file. Raises `BadInput`."""
    from sync_server.handlers.by_kit.territory import passphrase_of  # noqa: PLC0415 — loaded only when needed
    from sync_server.keeping.kit_file import KitInFile  # noqa: PLC0415

    check_initialised(call.data_dir)
    return KitInFile.read(Path(kit), passphrase_of(passphrase_file))
