"""Commands about people and the school: how pupils sign in on shared machines, what a head teacher's device does."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Final, Protocol

from protocol.replica.console.codes import told_of_code
from protocol.replica.console.frame import Call, Program, Unheard, tell
from protocol.replica.console.loss_command import add_loss_command
from protocol.replica.console.operation import JSON, Outgoing, Params
from protocol.replica.console.options import Argument, Option

ClassSpace = Annotated[str, Option("--space", metavar="ID", help="The space, from `status`.")]
ClassSpaces = Annotated[list[str], Option("--space", metavar="ID", help="A space: its id, or a school's UAI.")]
ClassPerson = Annotated[str, Option("--person", metavar="ID", help="Who: an id from `people`.")]
RenamedToo = Annotated[
    bool,
    Option(
        "--renamed-too", help="Even if somebody else had this name, or number, before: I mean the one with this id."
    ),
]
CalledSo = Annotated[
    str | None, Option("--called", metavar="NAME", help="Whom I mean, where lists called them otherwise as well.")
]
EachCalledSo = Annotated[
    list[str] | None, Option("--called", metavar="NAME", help="The same, once for each --person, in their order.")
]


class Run(Protocol):
    """Has the owner of DIR run a command."""

    def __call__(
        self, call: Call, name: str, params: Params, /, *, outgoing: Outgoing | None = None, lasting: bool = False
    ) -> Awaitable[JSON]:
        """The command's result. Raises as it does."""
        ...


_SIGN_IN_COLUMNS: Final = {
    "person": "person", "name": "name", "set": "set", "method": "method", "locked": "locked out",
    "opened_by_lost": "a lost computer could open it", "held_back": "held back", "once": "was called",
    "lost": "may stand in the place of",
}  # fmt: skip
_DOUBLES_COLUMNS: Final = {
    "person": "person", "called": "name", "once": "once", "other_lists": "other lists", "role": "role",
    "like": "like", "keep": "keep", "listed": "listed", "listed_by": "by", "let_in": "computers",
}  # fmt: skip


def add_school_commands(program: Program, run: Run) -> None:
    """Enter the commands into the agent's table."""
    _add_sign_in(program, run)
    _add_classes(program, run)
    _add_people(program, run)
    _add_forgetting(program, run)
    _add_rights(program, run)


def _add_sign_in(program: Program, run: Run) -> None:
    @program.command("sign-in list", columns=_SIGN_IN_COLUMNS)
    async def sign_in_list(call: Call, *, space: ClassSpace) -> JSON:
        """Say whether the class signs in, who with what, who is locked out, and what a lost computer could open."""
        return await run(call, "sign-in-list", {"space": space})

    @program.command("sign-in on", said="on; the class's machines learn of it with their next sync")
    async def sign_in_on(call: Call, *, space: ClassSpace) -> JSON:
        """Have shared machines show a pupil's work and feedback to that pupil only, once signed in.

        Who has no pictures, PIN or password yet cannot hand in there: it says how many those are.
        """
        return await run(call, "sign-in-switch", {"space": space, "on": True})

    @program.command("sign-in off", said="off; the class's machines learn of it with their next sync")
    async def sign_in_off(call: Call, *, space: ClassSpace) -> JSON:
        """Have everybody choose a name on shared machines, without proving anything."""
        return await run(call, "sign-in-switch", {"space": space, "on": False})

    @program.command("sign-in set")
    async def sign_in_set(
        call: Call,
        *,
        space: ClassSpace,
        person: ClassPerson,
        method: Annotated[
            str, Option(metavar="HOW", help="pictures, pin, password or passphrase (for adults).")
        ] = "pictures",
        secret_file: Annotated[
            str | None,
            Option(metavar="FILE", help="A file with the secret; pictures and PINs are drawn without one."),
        ] = None,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Set what somebody signs in with, and lift their lock."""
        from sync_agent.console.intake import first_line_of  # noqa: PLC0415 — loaded only when needed

        secret = None if secret_file is None else first_line_of(Path(secret_file))
        params: Params = {"space": space, "person": person, "method": method, "secret": secret}
        made = await run(call, "sign-in-set", {**params, "renamed_too": renamed_too})
        if isinstance(made, dict) and made.get("method") == "pictures" and "secret" in made:
            from sync_agent.portal.wording import Register, Words  # noqa: PLC0415

            say = Words("fr", Register.YOUNG)
            tell(f"in this order: {', '.join(say(f'pictures.p{each}') for each in str(made['secret']).split('-'))}")
        return made

    @program.command("sign-in unlock", said="unlocked; the class's machines learn of it with their next sync")
    async def sign_in_unlock(call: Call, *, space: ClassSpace, person: ClassPerson) -> JSON:
        """Let somebody who missed too often try again, with what they have."""
        return await run(call, "sign-in-unlock", {"space": space, "person": person})


def _add_classes(program: Program, run: Run) -> None:
    @program.command("space add")
    async def space_add(
        call: Call,
        name: Annotated[str, Argument(help="What the class is called.")],
        *,
        school: Annotated[str | None, Option(metavar="UAI", help="The school's code (this device's own).")] = None,
        year: Annotated[
            str | None, Option(metavar="2026-2027", help="The school year (today's); `none` for none.")
        ] = None,
        person: Annotated[
            list[str] | None, Option("--person", metavar="ID", help="Who teaches there, known from another class.")
        ] = None,
        called: EachCalledSo = None,
    ) -> JSON:
        """Make a class in the school that this device runs, with those who teach there; no server is needed."""
        params: Params = {"name": name, "school": school, "year": year, "person": person or []}
        return await run(call, "space add", {**params, "called": called or []})

    @program.command("space list")
    async def space_list(call: Call) -> JSON:
        """Every class of the school: id, name, year, how many entries, the fingerprint of their set, if closed."""
        return await run(call, "space list", {})

    @program.command("space rename", said="renamed; the devices learn it with their next sync")
    async def space_rename(
        call: Call,
        space: Annotated[str, Argument(metavar="ID", help="The class: its id.")],
        name: Annotated[str, Argument(help="The new name.")],
    ) -> JSON:
        """Call a class of the school something else; its id, and folders that have its name, stay."""
        return await run(call, "space rename", {"space": space, "name": name})


def _add_people(program: Program, run: Run) -> None:
    @program.command("person add")
    async def person_add(
        call: Call,
        name: Annotated[str, Argument(help="The name, as the class says it.")],
        *,
        role: Annotated[str, Option(help="teacher, pupil, guardian or admin.")],
        space: ClassSpaces,
    ) -> JSON:
        """Put somebody on the list of a class, or of several; no server is needed."""
        return await run(call, "person add", {"name": name, "role": role, "space": space})

    @program.command(
        "person list", columns={"person": "person", "called": "name", "role": "role", "also_in": "also in"}
    )
    async def person_list(call: Call, *, space: ClassSpace) -> JSON:
        """Who is on the list of a class; of pupils also which other classes of the year have them."""
        return await run(call, "person list", {"space": space})

    @program.command("person rename", said="renamed, on every list")
    async def person_rename(
        call: Call,
        person: Annotated[str, Argument(metavar="ID", help="Who, from `person list`.")],
        name: Annotated[str, Argument(help="The new name.")],
        *,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Call somebody something else, on every list that they are on."""
        return await run(call, "person rename", {"person": person, "name": name, "renamed_too": renamed_too})

    @program.command("person doubles", columns=_DOUBLES_COLUMNS)
    async def person_doubles(call: Call, *, space: ClassSpace) -> JSON:
        """Who was probably added twice, by two people who did not know of each other; the one to keep comes first.

        Of each since when and by whose word it is on this list, and has computers, and on which other lists: whoever
        adds a second one may do so to pass for the first. Dates are those of who wrote them; whom this device heard of
        first comes first.
        """
        return await run(call, "person doubles", {"space": space})

    @program.command("person merge", said="merged; nothing is lost, what is about either is shown as the one's")
    async def person_merge(
        call: Call,
        person: Annotated[str, Argument(metavar="ID", help="Who was added twice, from `person doubles`.")],
        *,
        into: Annotated[str, Option(metavar="ID", help="Who it is; stays on the list.")],
        renamed_too: Annotated[
            bool, Option("--renamed-too", help="Even if one of them was called otherwise once: they are the same.")
        ] = False,
        listed_too: Annotated[
            bool, Option("--listed-too", help="Even if one of them is on other lists: they are the same.")
        ] = False,
        space: Annotated[
            list[str] | None, Option(metavar="ID", help="On which list, where there are several; may be repeated.")
        ] = None,
    ) -> JSON:
        """Say that somebody who was added twice is one; other names (`once`) and other lists are asked about first."""
        params: Params = {"person": person, "into": into, "space": list(space or ())}
        return await run(call, "person merge", {**params, "renamed_too": renamed_too, "listed_too": listed_too})


def _add_forgetting(program: Program, run: Run) -> None:
    @program.command("erase")
    async def erase(
        call: Call,
        *,
        person: Annotated[
            list[str], Option("--person", metavar="ID", help="Who: an id from `people`; may be repeated.")
        ],
        alone: Annotated[bool, Option(help="Nobody but whom you name, whoever is listed as the same person.")] = False,
        renamed_too: RenamedToo = False,
        dry_run: Annotated[bool, Option(help="Only say who that is.")] = False,
    ) -> JSON:
        """Forget a pupil in the whole school: hidden at once; each machine destroys it seven days later."""
        params: Params = {"person": list(person), "alone": alone, "renamed_too": renamed_too, "dry_run": dry_run}
        return await run(call, "erase", params)

    @program.command("export-person", columns={"written": "written by them"})
    async def export_person(
        call: Call,
        person: Annotated[str, Argument(metavar="ID", help="Who: an id from `people`.")],
        file: Annotated[str, Argument(metavar="FILE", help="The ZIP to write.")],
        *,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Write all that this device holds about somebody into a ZIP that a family can read."""
        import asyncio  # noqa: PLC0415 — loaded only when needed

        from protocol.replica.access.archive import ZipOutlet, tell_in_clear  # noqa: PLC0415

        with ZipOutlet(Path(file)) as archive:
            params: Params = {"person": person, "renamed_too": renamed_too}
            counted = await run(call, "export-person", params, outgoing=archive, lasting=True)
            await asyncio.to_thread(archive.keep)
        tell_in_clear(Path(file))
        return counted

    @program.command(
        "audit", columns={"at": "when", "who": "who", "what": "what", "about": "about", "failed": "failed"}
    )
    async def audit(call: Call) -> JSON:
        """Who had archives of somebody, and portfolios, written on this computer, and when; ids, no names."""
        return await run(call, "audit", {})


def _add_rights(program: Program, run: Run) -> None:
    @program.command("invite")
    async def invite(
        call: Call,
        *,
        role: Annotated[str, Option(help="machine, teacher or relay.")],
        space: ClassSpaces,
        person: Annotated[str | None, Option(metavar="ID", help="Whose device: an id from `person list`.")] = None,
        uses: Annotated[int, Option(metavar="N", help="How many devices the code lets in.")] = 1,
        ttl: Annotated[str, Option(metavar="TIME", help="How long the code lasts: 30m, 24h, 7d.")] = "24h",
        stay: Annotated[
            str | None,
            Option("--for", metavar="TIME", help="How long what it opens shall last (a substitute: 15d)."),
        ] = None,
        renamed_too: RenamedToo = False,
    ) -> JSON:
        """Make a code; with it a device enrols at this one (`enroll --peer`), or at the server once that has heard."""
        params: Params = {"role": role, "space": space, "person": person, "uses": uses, "ttl": ttl, "for": stay}
        made = await run(call, "invite", {**params, "renamed_too": renamed_too}, outgoing=Unheard())
        return told_of_code(made)

    @program.command(
        "devices",
        columns={"device": "device", "words": "words", "role": "role", "spaces": "classes", "name": "calls itself"},
    )
    async def devices(call: Call) -> JSON:
        """Every device of the school: its name for itself, words of its key, its role, the classes that it reads."""
        return await run(call, "devices", {})

    @program.command("grant", said="done; what is let in learns it with its next exchange, by whatever path")
    async def grant(
        call: Call,
        *,
        device: Annotated[str | None, Option(metavar="ID", help="The device's id, from `devices`.")] = None,
        person: Annotated[str | None, Option(metavar="ID", help="The person's id.")] = None,
        space: ClassSpaces,
        called: CalledSo = None,
    ) -> JSON:
        """Let a known device, or somebody and their devices, into more classes; no server is needed."""
        params: Params = {"device": device, "person": person, "space": space, "called": called}
        return await run(call, "grant", params)

    @program.command("ungrant", said="withdrawn; the devices learn it with their next sync")
    async def ungrant(
        call: Call,
        *,
        device: Annotated[str | None, Option(metavar="ID", help="The device's id.")] = None,
        person: Annotated[str | None, Option(metavar="ID", help="The person's id.")] = None,
        space: ClassSpaces,
        called: CalledSo = None,
    ) -> JSON:
        """Withdraw a device, or somebody and their devices, from some classes."""
        params: Params = {"device": device, "person": person, "space": space, "called": called}
        return await run(call, "ungrant", params)

    @program.command("revoke", said="cut off; what it had brought stays")
    async def revoke(call: Call, device: Annotated[str, Argument(help="The device's id.")]) -> JSON:
        """Cut a device off in the whole school: what it had brought stays, what turns up later is held back."""
        return await run(call, "revoke", {"device": device})

    add_loss_command(program, run)

    @program.command(
        "stays",
        columns={
            "device": "device",
            "device_name": "calls itself",
            "name": "whose",
            "class": "class",
            "until": "until",
            "over": "over",
            "for_good": "also for good",
        },
    )
    async def stays(call: Call) -> JSON:
        """Access with an end: whose, where, until when, whether it is over, and whether another right goes on."""
        return await run(call, "stays", {})
