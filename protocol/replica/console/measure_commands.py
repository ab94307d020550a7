"""`drill start|stop|report` and `quarantine start|stop`, the same on the server and on a head teacher's device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from protocol.replica.console.drill_words import lift_in_words, report_in_words, stop_in_words
from protocol.replica.console.frame import Call, Program
from protocol.replica.console.operation import JSON, Params
from protocol.replica.console.options import Option

Run = Callable[[Call, str, Params], Awaitable[JSON]]
"""Has the owner of DIR run an operation."""

School = Annotated[
    str | None, Option("--school", metavar="UAI", help="The school; a device of one school need not say it.")
]
Minutes = Annotated[int, Option(metavar="N", help="How long it lasts; it ends by itself.")]


def add_measure_commands(program: Program, run: Run) -> None:
    """Enter the commands into a program's table."""

    @program.command("drill start", said="the drill begins; it ends by itself")
    async def drill_start(call: Call, *, school: School = None, minutes: Minutes = 30) -> JSON:
        """Rehearse an outage: the machines of a school act as if the server were out of reach."""
        return await run(call, "drill start", {"school": school, "minutes": minutes})

    @program.command("drill stop")
    async def drill_stop(call: Call, *, school: School = None) -> JSON:
        """End the drill before its time. A machine that hears nothing of it ends it alone, when its time is over."""
        stopped = await run(call, "drill stop", {"school": school})
        return stopped if call.json else stop_in_words(stopped)

    @program.command("drill report")
    async def drill_report(call: Call, *, school: School = None) -> JSON:
        """What the last drill has shown: who published, what was handed in, what was safe and how soon."""
        report = await run(call, "drill report", {"school": school})
        return report if call.json else report_in_words(report)

    @program.command("quarantine start", said="the school's network and sticks are off wherever this is heard")
    async def quarantine_start(call: Call, *, school: School = None) -> JSON:
        """Switch off exchange over the school's network and by sticks; reading, printing and the server go on."""
        return await run(call, "quarantine start", {"school": school})

    @program.command("quarantine stop")
    async def quarantine_stop(call: Call, *, school: School = None) -> JSON:
        """Lift the quarantine."""
        lifted = await run(call, "quarantine stop", {"school": school})
        return lifted if call.json else lift_in_words(lifted)
