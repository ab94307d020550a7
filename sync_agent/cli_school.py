"""Commands about people and the school: how pupils sign in on shared machines, what a head teacher's device does."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Protocol

import typer

from protocol.replica.console import Call, Program
from protocol.replica.operation import JSON, Params

ClassSpace = Annotated[str, typer.Option("--space", metavar="ID", help="The space, from `status`.")]
ClassPerson = Annotated[str, typer.Option("--person", metavar="ID", help="Who: an id from `people`.")]


class Run(Protocol):
    """Has the owner of DIR run a command."""

    def __call__(self, call: Call, name: str, params: Params, /) -> Awaitable[JSON]:
        """The command's result. Raises as it does."""
        ...


def add_school_commands(program: Program, run: Run) -> None:
    """Enter the commands into the agent's table."""
    _add_sign_in(program, run)


def _add_sign_in(program: Program, run: Run) -> None:
    @program.command("sign-in list")
    async def sign_in_list(call: Call, *, space: ClassSpace) -> JSON:
        """Say whether the class signs in, who with what, and who is locked out."""
        return await run(call, "sign-in-list", {"space": space})

    @program.command("sign-in on", said="on; the class's machines learn of it with their next sync")
    async def sign_in_on(call: Call, *, space: ClassSpace) -> JSON:
        """Have shared machines show a pupil's work and feedback to that pupil only, once signed in."""
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
            str, typer.Option(metavar="HOW", help="pictures, pin, password or passphrase (for adults).")
        ] = "pictures",
        secret_file: Annotated[
            str | None,
            typer.Option(metavar="FILE", help="A file with the secret; pictures and PINs are drawn without one."),
        ] = None,
    ) -> JSON:
        """Set what somebody signs in with, and lift their lock."""
        from sync_agent.intake import first_line_of  # noqa: PLC0415 — loaded only when needed

        secret = None if secret_file is None else first_line_of(Path(secret_file))
        return await run(call, "sign-in-set", {"space": space, "person": person, "method": method, "secret": secret})

    @program.command("sign-in unlock", said="unlocked; the class's machines learn of it with their next sync")
    async def sign_in_unlock(call: Call, *, space: ClassSpace, person: ClassPerson) -> JSON:
        """Let somebody who missed too often try again, with what they have."""
        return await run(call, "sign-in-unlock", {"space": space, "person": person})
