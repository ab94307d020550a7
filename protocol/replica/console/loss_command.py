"""`lost`, the same on the server and on a head teacher's device: what the command line says of it stands once, here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from protocol.replica.console.frame import Call, Program
from protocol.replica.console.operation import JSON, Params
from protocol.replica.console.options import Argument, Option

Run = Callable[[Call, str, Params], Awaitable[JSON]]
"""Has the owner of DIR run an operation."""


def add_loss_command(program: Program, run: Run) -> None:
    """Enter the command into a program's table."""

    @program.command("lost")
    async def lost(
        call: Call,
        device: Annotated[str, Argument(metavar="ID", help="The device's id, from `devices`.")],
        *,
        dry_run: Annotated[bool, Option(help="Only say what it holds, and what it would keep.")] = False,
        since: Annotated[
            str | None,
            Option(help="When it was last in good hands (2026-11-20T14:30, or 36h ago): what it said since waits."),
        ] = None,
        anyway: Annotated[
            bool,
            Option(help="Even if all that it has ever said, or said in the newest of very many classes, waits then."),
        ] = False,
    ) -> JSON:
        """A device was lost or stolen: say what it held, and cut it off; with `--since`, what it said since, too."""
        return await run(call, "lost", {"device": device, "dry_run": dry_run, "since": since, "anyway": anyway})
