"""The command line of the agent: a thin table. What a command does is in `operations` and the modules that it names."""

from __future__ import annotations

import sys

from sync_agent.console import daemon as cli_daemon  # noqa: F401 — enters its commands
from sync_agent.console.calls import PROGRAM

__all__ = ["PROGRAM", "main"]


def main() -> int:
    """The program `sync-agent`."""
    return PROGRAM.main()


def _add_the_rest() -> None:
    """Enter all other commands into the table; a module's own are entered when it is loaded."""
    import sync_agent.console.coursework  # noqa: PLC0415 — each enters its commands
    import sync_agent.console.machine  # noqa: F401, PLC0415
    from protocol.replica.console.measure_commands import add_measure_commands  # noqa: PLC0415 — a daemon does without them
    from protocol.replica.service.commands import add_service_commands  # noqa: PLC0415
    from protocol.replica.service.definition import AGENT  # noqa: PLC0415
    from sync_agent.console.calls import check_enrolled, run_here  # noqa: PLC0415
    from sync_agent.console.school import add_school_commands  # noqa: PLC0415

    add_measure_commands(PROGRAM, run_here)
    add_service_commands(PROGRAM, AGENT, "relais-agent", check_enrolled)
    add_school_commands(PROGRAM, run_here)


if not PROGRAM.begun_anew:
    _add_the_rest()

if __name__ == "__main__":
    sys.exit(main())
