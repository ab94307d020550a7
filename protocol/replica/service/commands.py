"""`service install|uninstall|status` of both programs, and `service host`, which Windows starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from protocol.replica.console.frame import Call, Program, tell
from protocol.replica.console.operation import JSON
from protocol.replica.console.options import Option
from protocol.replica.service.definition import Nature, Scope, service_name

_SCOPES: Final = {False: Scope.SYSTEM, True: Scope.USER}

Name = Annotated[str | None, Option(metavar="NAME", help="The service's name, if there are several.")]
ForUser = Annotated[bool, Option("--user", help="A service of your own account, without the system's rights.")]


def add_service_commands(
    program: Program,
    nature: Nature,
    default_name: str,
    check_folder: Callable[[Path], None],
    *,
    on_windows: bool = os.name == "nt",
) -> None:
    """Enter the commands into a program's table. `check_folder` refuses a DIR that is not ready to be served."""

    def named(name: str | None) -> str:
        return service_name(default_name if name is None else name)

    @program.command("service install")
    def install(call: Call, *, name: Name = None, user: ForUser = False) -> JSON:
        """Have the system start `run` over DIR, now and at every boot. Options of `run` come from DIR/config.toml."""
        from protocol.replica.service import installation  # noqa: PLC0415 — loaded only when needed

        check_folder(call.data_dir)
        command = installation.command_of(nature.program)
        service = installation.defined(nature, named(name), _SCOPES[user], command, call.data_dir)
        return installation.install(service, installation.this_system(), tell)

    @program.command("service uninstall", said="the service is gone; the data folder stays as it is")
    def uninstall(call: Call, *, name: Name = None, user: ForUser = False) -> JSON:
        """Stop the service and take it away; DIR, with all work in it, stays."""
        from protocol.replica.service import installation  # noqa: PLC0415 — loaded only when needed

        system = installation.this_system()
        return installation.uninstall(nature, named(name), _SCOPES[user], call.data_dir, system)

    @program.command("service status")
    def status(call: Call, *, name: Name = None, user: ForUser = False) -> JSON:
        """Whether the service is installed, runs, and starts at boot."""
        from protocol.replica.service import installation  # noqa: PLC0415 — loaded only when needed

        del call
        return installation.status(named(name), _SCOPES[user], installation.this_system())

    if on_windows:

        @program.command("service host")
        def host(call: Call, *, name: Name = None) -> JSON:
            """Run as a service of Windows, whose service manager starts this; people use `run`."""
            from protocol.replica.service import windows  # noqa: PLC0415 — loaded only when needed

            log = windows.log_file(call.data_dir, named(name))
            run = ["run", "--data", str(call.data_dir), "--log-file", log]
            windows.host(named(name), lambda: program.main(run))
            return {}
