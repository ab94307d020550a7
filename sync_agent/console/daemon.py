"""The commands that speak with the server or stay up: `enroll`, `run`, `sync`.

A daemon that has begun anew loads this module of the command line and no other.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from protocol.errors import BadInput, Code
from protocol.replica.console.codes import told_of_use
from protocol.replica.console.frame import Call, Notices, now_ms
from protocol.replica.console.operation import JSON, NO_FILES, Params, Table
from protocol.replica.console.options import Option
from sync_agent.console.calls import PROGRAM, check_enrolled, check_no_servers, run_here
from sync_agent.console.connecting import CaOption, Connecting, ProxyOption, network_of

LogFile = Annotated[
    str | None, Option(metavar="FILE", help="Log to this file, bounded by rotation, instead of stderr.")
]
Peers = Annotated[
    list[str] | None,
    Option("--peer", metavar="HOST:PORT", help="Another device of the school, where it listens."),
]


@PROGRAM.command("enroll")
async def enroll(
    call: Call,
    *,
    server: Annotated[str | None, Option(metavar="URL", help="The server's address.")] = None,
    peer: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Instead of a server: the head teacher's device, where it listens."),
    ] = None,
    stick: Annotated[
        str | None,
        Option(metavar="DIR", help="With no network at all: a folder on a stick that `courier export` has written."),
    ] = None,
    code: Annotated[str, Option(help="The code that was given for this device.")],
    name: Annotated[str | None, Option(help="What people call this device (the machine's own name).")] = None,
    proxy: ProxyOption = None,
    ca: CaOption = None,
) -> JSON:
    """Let this device in with a code, and sync for the first time; may be repeated. DIR keeps `--proxy` and `--ca`."""
    import platform  # noqa: PLC0415 — loaded only when needed

    from protocol.replica.console.command import run_command  # noqa: PLC0415

    @asynccontextmanager
    async def in_process() -> AsyncIterator[Table]:
        from sync_agent.operations import before_enrolment  # noqa: PLC0415

        network = network_of(call.data_dir, proxy, ca)
        keep = None if proxy is None and ca is None else network.write
        yield before_enrolment(
            call.data_dir, now_ms=now_ms, entropy=secrets.token_bytes, connect=Connecting(network), keep=keep
        )

    if sum(way is not None for way in (server if stick is None else None, peer, stick)) != 1:
        raise BadInput(Code.USAGE, "one of --server, --peer and --stick is needed; --server may go with --stick")
    params: Params = {
        "server": server,
        "peer": peer,
        "stick": stick,
        "code": code,
        "name": platform.node() or "PC" if name is None else name,
    }
    _check_given(str(params["name"]), code, server)
    check_no_servers(call.data_dir)
    return told_of_use(await run_command(call.data_dir, "enroll", params, NO_FILES, Notices(), in_process, create=True))


def _check_given(name: str, code: str, server: str | None) -> None:
    """Raise `BadInput`, or `Refused(CODE_WRONG)`, for what can be seen to be wrong: before DIR is made."""
    from protocol.trust.invitation import parse_code  # noqa: PLC0415 — loaded only when needed
    from sync_agent.enrollment.by_code import check_name  # noqa: PLC0415
    from sync_agent.transport.interface import normal_url  # noqa: PLC0415

    parse_code(code)
    check_name(name)
    if server is not None:
        normal_url(server)


@PROGRAM.command("run", lasting=True)
async def run(
    call: Call,
    *,
    portal: Annotated[
        str | None, Option(metavar="HOST:PORT", help="Pages for pupils and teachers, on this machine only.")
    ] = None,
    lan: Annotated[
        str | None,
        Option(metavar="HOST:PORT", help="Exchange with the devices of the school; they call here."),
    ] = None,
    peer: Peers = None,
    daily_budget: Annotated[
        str | None,
        Option(metavar="SIZE", help="At most so much a day, both ways (200M); hand-ins always go."),
    ] = None,
    metered: Annotated[
        str, Option(metavar="auto|yes|no", help="Whether the connection is paid by volume: only small things go.")
    ] = "auto",
    quiet_hours: Annotated[
        list[str] | None,
        Option(metavar="HH:MM-HH:MM", help="Local hours for small things only (mon-fri 08:30-16:30)."),
    ] = None,
    courier: Annotated[
        str | None,
        Option(
            metavar="auto|FOLDER",
            help="Serve sticks with a folder “Relais” as they are plugged in; FOLDER is where they appear.",
        ),
    ] = None,
    rate_limit: Annotated[
        str | None,
        Option(metavar="RATE", help="The most bytes a second for content, both ways together (500k)."),
    ] = None,
    full_speed: Annotated[bool, Option(help="Content does not step back when others use the line.")] = False,
    disk_budget: Annotated[
        str | None,
        Option(metavar="SIZE", help="The most that content may take (20G); what is not used makes way."),
    ] = None,
    disk_reserve: Annotated[
        str | None, Option(metavar="SIZE", help="What content leaves free of the disk (128M).")
    ] = None,
    controller: Annotated[
        str | None,
        Option(metavar="TEXT", help="Whom the pages name as controller of what is kept (GDPR): name, address."),
    ] = None,
    dpo: Annotated[
        str | None,
        Option(metavar="TEXT", help="Whom the pages name as data-protection officer: name or service, address."),
    ] = None,
    log_file: LogFile = None,
    proxy: ProxyOption = None,
    ca: CaOption = None,
) -> JSON:
    """Keep this device in sync until it is told to stop; other commands work meanwhile."""
    check_enrolled(call.data_dir)
    from protocol.replica.console.stepping_down import step_down  # noqa: PLC0415 — loaded only when needed

    step_down(call.data_dir)
    from protocol.replica.service.hosting import asked_by_host  # noqa: PLC0415
    from protocol.replica.service.logs import logging_to  # noqa: PLC0415
    from protocol.replica.service.notify import Notifier  # noqa: PLC0415
    from sync_agent.config import RunConfig  # noqa: PLC0415
    from sync_agent.daemon import run as serve  # noqa: PLC0415
    from sync_agent.operations import table  # noqa: PLC0415

    config = RunConfig(
        portal=portal,
        lan=lan,
        peers=tuple(peer or ()),
        daily_budget=daily_budget,
        metered=metered,
        quiet_hours=tuple(quiet_hours or ()),
        rate_limit=rate_limit,
        full_speed=full_speed,
        courier=courier,
        disk_budget=disk_budget,
        disk_reserve=disk_reserve,
        controller=controller,
        dpo=dpo,
    )
    connect = Connecting(network_of(call.data_dir, proxy, ca))
    notifier = Notifier.taken_from(os.environ, os.getpid())
    with logging_to(log_file, os.environ.get("JOURNAL_STREAM")):
        await serve(
            call.data_dir,
            config,
            table,
            now_ms=now_ms,
            entropy=secrets.token_bytes,
            connect=connect,
            stopping=asked_by_host(),
            notifier=notifier,
        )
    return {}


@PROGRAM.command("sync")
async def sync(call: Call, *, peer: Peers = None, proxy: ProxyOption = None, ca: CaOption = None) -> JSON:
    """Exchange with the server, or only with the named devices, until nothing remains to send or to fetch."""
    chosen = proxy is not None or ca is not None
    params: Params = {"peers": list(peer or ()), "way": chosen}
    return await run_here(call, "sync", params, lasting=True, proxy=proxy, ca=ca)
