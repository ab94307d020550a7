"""`run`: one process owns DIR, answers commands through the control channel and syncs by the scheduler's rules.

Rules:
- the store is opened once; after a failed write it is closed and opened again, never written to on trust (R8);
- SIGTERM and Ctrl-C end it cleanly: no new command, the sync that is running has a moment to finish, then it is cut,
  which loses nothing;
- one line on stderr says that it is ready; a service manager is told so, and how it goes, as it wishes (`notify`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from protocol.errors import Code, LocalFailure, NoAnswer
from protocol.messages.lives import NONCE_BYTES, Life
from protocol.replica.at_work.replica import Entropy
from protocol.replica.ballast import Ballast
from protocol.replica.console import parameters as given
from protocol.replica.console.control import serve_control
from protocol.replica.console.operation import JSON, Incoming, Operation, Outgoing, Params, Table
from protocol.replica.console.ownership import Ownership
from protocol.replica.console.sole_runner import RUNNING, own, running_already
from protocol.replica.process.native_memory import giving_back, keep_little
from protocol.replica.process.unforeseen import Unforeseen, enduring, lasting
from protocol.replica.service.logs import say as say_to
from protocol.replica.service.notify import Notifier
from protocol.replica.service.priority import step_aside
from sync_agent.answering import Answering
from sync_agent.app import Agent
from sync_agent.config import RunConfig
from sync_agent.coursework.materializer import Materializer
from sync_agent.keys.binding import Hardware
from sync_agent.keys.hardware import hardware
from sync_agent.keys.succession import Place
from sync_agent.lan.exchange.peer_sync import NoSchool, School, Tell, peer_addresses, sync_with
from sync_agent.lan.peer_commands import peer_add
from sync_agent.machine.addresses import Address
from sync_agent.machine.command_names import COURIER_IMPORT
from sync_agent.machine.few_threads import use_few_threads
from sync_agent.machine.sync_result import SyncResult
from sync_agent.machine.wakefulness import wakeful
from sync_agent.pacing.metered import is_metered
from sync_agent.scheduler import Outcome, Scheduler, wait
from sync_agent.school.measures import DrillTransport, Heeding, check_open, ordered
from sync_agent.school.office import ending_stays, noting_arrivals
from sync_agent.sync.drill_end import DrillEnd
from sync_agent.sync.electing import Reaching
from sync_agent.sync.hearing import listening, moment_s
from sync_agent.sync.session import Session
from sync_agent.sync.sharing import Sharing
from sync_agent.transport.answers import Response
from sync_agent.transport.interface import Transport
from sync_agent.transport.over_http import HttpTransport
from sync_agent.transport.paced import PacedTransport
from sync_agent.transport.sealed_calls import hold_to_servers
from sync_agent.upkeep.erasing import destroy_or_say, destroying
from sync_agent.watching.both_folders import Folders

GRACE_S: Final = 3.0
REOPEN_S: Final = 5.0
_SILENT: Final = Notifier()
_STANDING: Final[Mapping[Outcome | None, str]] = {
    None: "the server has not been asked yet",
    Outcome.DONE: "in step with the server",
    Outcome.NO_ANSWER: "the server cannot be reached; work is kept here and sent later",
    Outcome.BUSY: "the server is busy; work is kept here and sent later",
    Outcome.REFUSED: "the server refuses this device; `sync-agent doctor` tells more",
    Outcome.FAILED: "the last sync failed; `sync-agent doctor` tells more",
}

_log = logging.getLogger(__name__)

Connect = Callable[[str], Transport]
SyncWith = Callable[[Sequence[Address], Tell], Coroutine[Any, Any, SyncResult]]
TableOf = Callable[[Agent], Table]


async def run(
    folder: Path,
    config: RunConfig,
    table_of: TableOf,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    connect: Connect = HttpTransport,
    stopping: asyncio.Event | None = None,
    notifier: Notifier = _SILENT,
    identify: Callable[[], Hardware] = hardware,
) -> None:
    """Own DIR and keep it in sync until a signal, or `stopping`, ends it. `table_of` gives the commands of an agent.

    `identify` tells what machine this is: a clone takes keys of its own, and goes on with them (`succession`).

    Raises `BadInput(NOT_ENROLLED)`, `LocalFailure` (STORE_LOCKED when another agent runs there, or something else does
    not give DIR back).
    """
    keep_little()
    config.check()
    use_few_threads(step_aside)
    stop = stopping or asyncio.Event()
    place = Place(await asyncio.to_thread(identify))
    with _signals(stop), await own(folder, stop) as owner:
        while not stop.is_set():
            try:
                await _serve(folder, config, table_of, owner, stop, now_ms, entropy, connect, notifier, place)
            except LocalFailure as failure:
                if failure.code is not Code.STORAGE_FAILED or stop.is_set():
                    raise
                say(f"{failure}; the store will be opened again")
                await wait(stop, REOPEN_S)


def sync_operation(
    agent: Agent, sync: Callable[[], Awaitable[SyncResult]], sync_with: SyncWith, *, is_daemon: bool = True
) -> Operation:
    """The command `sync` over a way to sync with the server, and one to exchange with devices.

    A daemon has chosen its own way to the server.
    """

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        del incoming
        peers = given.texts(params, "peers")
        if peers:
            await check_open(agent)
            return shown(await sync_with(peer_addresses(peers), outgoing.progress))
        if is_daemon and given.flag(params, "way"):
            await outgoing.progress("the agent that is running goes its own way; give --proxy and --ca to `run`")
        return shown(await sync())

    return operate


def sync_alone(agent: Agent, connect: Connect = HttpTransport) -> Operation:
    """The command `sync` of a process that owns the store for this one command."""
    turn = asyncio.Lock()

    async def sync() -> SyncResult:
        async with turn:
            url = agent.enrolment.server_url
            transport = DrillTransport(PacedTransport(connect(url), agent.budget), url)
            tree = Materializer(agent, once=True)
            looking: list[asyncio.Task[None]] = []

            def look() -> None:
                looking.append(asyncio.create_task(tree.ahead()))

            try:
                transport.follow(await ordered(agent))
                await DrillEnd(agent, transport, lambda: None).ask_first()
                return await Session(agent, transport, meanwhile=look).sync()
            finally:
                await transport.close()
                await asyncio.gather(*looking, return_exceptions=True)
                await destroy_or_say(agent)
                await tree.refresh(thorough=True, set_aside=True)

    async def exchange(addresses: Sequence[Address], tell: Tell) -> SyncResult:
        async with turn:
            try:
                return await sync_with(agent, addresses, tell)
            finally:
                await destroy_or_say(agent)
                await Materializer(agent).refresh(thorough=True, set_aside=True)

    return sync_operation(agent, sync, exchange, is_daemon=False)


async def tell_drill_alone(agent: Agent, connect: Connect = HttpTransport) -> bool:
    """Bring the order of a drill to the server, on a way of its own; whether it has it."""
    transport = _way_alone(agent, connect)
    try:
        return await DrillEnd(agent, transport, lambda: None).tell()
    finally:
        await transport.close()


def post_alone(agent: Agent, connect: Connect = HttpTransport) -> Callable[[str, bytes], Awaitable[Response]]:
    """One call to the server for somebody else, on a way of its own."""

    async def post(path: str, body: bytes) -> Response:
        transport = _way_alone(agent, connect)
        try:
            transport.follow(await ordered(agent))
            return await transport.post(path, body)
        finally:
            await transport.close()

    return post


def _way_alone(agent: Agent, connect: Connect) -> DrillTransport:
    """A way to the server for one call, within the budgets, and held to the servers that are known."""
    url = agent.enrolment.server_url
    transport = DrillTransport(PacedTransport(connect(url), agent.budget), url)
    hold_to_servers(transport, agent.replica)
    return transport


def enroll_operation(agent: Agent, sync: Callable[[], Awaitable[SyncResult]]) -> Operation:
    """The command `enroll` of an agent that is enrolled: only the same one, once more."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        del incoming, outgoing
        from sync_agent.enrollment.by_code import finish, told  # noqa: PLC0415 — loaded only when needed

        code = given.text(params, "code")
        url = given.text_or_none(params, "server") or agent.enrolment.server_url
        return told(await finish(agent, url, code, sync), code)

    return operate


def _watched(operation: Operation, scheduler: Scheduler) -> Operation:
    """The operation, which wakes the scheduler where the store has failed: its next look at it opens it again."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        try:
            return await operation(params, incoming, outgoing)
        except LocalFailure as failure:
            if failure.code in (Code.STORAGE_FAILED, Code.DAMAGED):
                scheduler.wake()
            raise

    return operate


def import_operation(agent: Agent) -> Operation:
    """The command `courier import` of a daemon, which shows what came by itself."""

    async def operate(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
        del params, outgoing
        from sync_agent.courier.commands import import_here  # noqa: PLC0415 — loaded only when needed

        return await import_here(agent, incoming)

    return operate


def shown(result: SyncResult) -> dict[str, JSON]:
    """The keys of the operator's contract."""
    return {
        "received": result.received,
        "sent": result.sent,
        "bytes_in": result.bytes_in,
        "bytes_out": result.bytes_out,
        "round_trips": result.round_trips,
    }


def say(sentence: str) -> None:
    """One line for whoever started the daemon."""
    say_to(_log, sentence)


async def _serve(
    folder: Path,
    config: RunConfig,
    table_of: TableOf,
    owner: Ownership,
    stop: asyncio.Event,
    now_ms: Callable[[], int],
    entropy: Entropy,
    connect: Connect,
    notifier: Notifier,
    place: Place,
) -> None:
    """Open everything, work until `stop`, or until this machine must take other keys; close everything."""
    agent = await place.open(folder, now_ms, entropy)
    await asyncio.to_thread(Ballast(folder).keep)
    agent.budget.limits = config.limits()
    agent.room_limits = config.room()
    transport = _way_to_server(agent, connect)
    try:
        agent.is_quarantined = (await ordered(agent)).quarantined

        async def tell_drill() -> bool:
            return await drill_end.tell()

        heeding = Heeding(agent, transport, place.gives_way.set, quarantined=agent.is_quarantined, tell=tell_drill)
        drill_end = DrillEnd(agent, transport, heeding.look)
        session = Session(agent, transport)
        folders = Folders(agent)
        reached = _Reached()
        scheduler = Scheduler(
            lambda routine: folders.following(reached.noting(_then(session.sync(routine=routine), heeding.look))),
            poll_s=config.poll_s,
            monotonic=time.monotonic,
            draw=random.uniform,
            unforeseen=agent.unforeseen,
        )

        def changed() -> None:
            scheduler.wake()
            folders.changed_here()
            heeding.look()

        async def woken() -> None:
            # a virtual machine that was copied while it slept wakes more than once
            agent.life = Life(entropy(NONCE_BYTES))
            await transport.renew()
            scheduler.wake()

        agent.on_change = changed

        async def fetched() -> SyncResult:
            session.take_all_news()
            return await scheduler.sync_now()

        agent.fetch_now = fetched

        async def told() -> bool:
            # nobody waits for a server that did not answer just now: it is told before the way is cut, or later
            return scheduler.outcome is not Outcome.NO_ANSWER and await drill_end.tell()

        agent.tell_drill = told
        async with _school(agent, config, session, scheduler, folders, reached, heeding) as school:
            answering = Answering()

            async def synced() -> SyncResult:
                await drill_end.ask_first()
                return await scheduler.sync_now()

            table = _commands(agent, table_of, answering, scheduler, folders, school, synced)
            async with (
                serve_control(table, owner, grace_s=GRACE_S, stopping=stop.is_set),
                _portal(agent, table, config, scheduler),
            ):
                _say_ready(agent)
                async with (
                    notifier.telling(lambda: _STANDING[scheduler.outcome], stop.is_set),
                    listening(session, transport, scheduler),
                    _watching(agent, scheduler),
                    lasting("heeding the school's measures", heeding.run, agent.unforeseen),
                    lasting("asking whether a drill is over", drill_end.run, agent.unforeseen),
                    lasting("giving memory back", giving_back, agent.unforeseen),
                    destroying(agent, scheduler.asked),
                    ending_stays(agent),
                    noting_arrivals(agent),
                    _sticks(agent, table, config),
                    wakeful(woken, agent.unforeseen, now_ms=now_ms, monotonic=time.monotonic),
                ):
                    await _until(stop, scheduler, folders, school, place, agent.unforeseen)
                    await answering.over(stop)
    finally:
        await transport.close()
        await agent.close()


def _way_to_server(agent: Agent, connect: Connect) -> DrillTransport:
    """The way to the server: within the budgets, and as if nobody answered while a drill runs."""
    url = agent.enrolment.server_url
    way = connect(url)
    if isinstance(way, HttpTransport):
        return DrillTransport(PacedTransport(way, agent.budget, way.delay_s, way.takes_parts), url)
    return DrillTransport(PacedTransport(way, agent.budget), url)


def _commands(
    agent: Agent,
    table_of: TableOf,
    answering: Answering,
    scheduler: Scheduler,
    folders: Folders,
    school: School,
    synced: Callable[[], Coroutine[None, None, SyncResult]],
) -> Table:
    """What this daemon does for the command line: all that an agent can, and what only who runs can."""
    return {
        **{name: answering.noting(_watched(each, scheduler)) for name, each in table_of(agent).items()},
        "sync": sync_operation(
            agent,
            lambda: folders.shown_after(synced()),
            lambda addresses, tell: folders.shown_after(school.sync_with(addresses, tell)),
        ),
        "enroll": enroll_operation(agent, scheduler.sync_now),
        "peer-add": peer_add(agent, school.keep),
        RUNNING: running_already("an agent"),
        COURIER_IMPORT: answering.noting(_watched(import_operation(agent), scheduler)),
    }


def _say_ready(agent: Agent) -> None:
    if agent.rebuilt is not None:
        say(
            f"the database was damaged and has been made anew: {agent.rebuilt} entries could be read; "
            "the next sync brings back the rest"
        )
    enrolment = agent.enrolment
    say(f"ready: “{enrolment.device_name}” of “{enrolment.territory_name}” serves {agent.folder}")


@contextlib.asynccontextmanager
async def _watching(agent: Agent, scheduler: Scheduler) -> AsyncIterator[None]:
    """Wake the scheduler whenever the budget opens or closes."""
    async with lasting("the budget", lambda: agent.budget.watch(scheduler.wake, is_metered), agent.unforeseen):
        yield


class _Reached:
    """Tells the neighbourhood whether the server answers."""

    def __init__(self) -> None:
        self.tell: Reaching | None = None

    async def noting(self, sync: Coroutine[Any, Any, SyncResult]) -> SyncResult:
        """Let a sync run, and tell how it went."""
        try:
            result = await sync
        except NoAnswer:
            if self.tell is not None:
                self.tell.lost_server()
            raise
        if self.tell is not None:
            self.tell.reached_server()
        return result


async def _then(sync: Coroutine[Any, Any, SyncResult], look: Callable[[], None]) -> SyncResult:
    """Let a sync run, and look at what it brought, however it went."""
    try:
        return await sync
    finally:
        look()


@contextlib.asynccontextmanager
async def _school(
    agent: Agent,
    config: RunConfig,
    session: Session,
    scheduler: Scheduler,
    folders: Folders,
    reached: _Reached,
    heeding: Heeding,
) -> AsyncIterator[School]:
    """The devices of the school, where exchange with them is asked for; its libraries are loaded only then."""
    listen, peers = config.lan_address(), config.peer_addresses()
    if agent.is_quarantined or (listen is None and not peers):
        yield NoSchool(agent)
        return
    from sync_agent.lan.school_lan import Lan  # noqa: PLC0415 — loaded only when needed

    def news() -> None:
        if scheduler.outcome is Outcome.DONE:
            # the server is compared with all that came, once
            scheduler.wake_within(moment_s(lan.found()))
        folders.changed_here()
        heeding.look()

    lan = Lan(agent, news=news, draw=random.uniform)
    agent.neighbours, agent.around = lan.rows, lan
    agent.network_problem = lambda: lan.neighbourhood.problem
    reached.tell = lan.neighbourhood
    lan.neighbourhood.hears = lambda: scheduler.hears
    lan.neighbourhood.looked = scheduler.wake
    lan.neighbourhood.may_fetch = lambda: agent.budget.verdict.hold is None and not agent.is_disk_full
    session.sharing = Sharing(
        lan.neighbourhood,
        monotonic=time.monotonic,
        draw=random.uniform,
        call_later=asyncio.get_running_loop().call_later,
        wake=scheduler.wake,
        ask=lan.ask,
        line=session.transport,
    )
    async with lan.open(listen, peers):
        if lan.url is not None:
            say(f"other devices of the school reach this one at {lan.url.removeprefix('https://')}")
        yield lan


@contextlib.asynccontextmanager
async def _sticks(agent: Agent, table: Table, config: RunConfig) -> AsyncIterator[None]:
    """Serve courier disks as they are plugged in, if that is asked for; under quarantine they may bring its end."""
    if config.courier is None:
        yield
        return
    from sync_agent.courier.watch import CourierWatch, disks_of  # noqa: PLC0415 — loaded only when needed

    watch = CourierWatch(agent, table, disks_of(config.courier), monotonic=time.monotonic, say=say)
    async with lasting("courier disks", watch.run, agent.unforeseen):
        yield


@contextlib.asynccontextmanager
async def _portal(agent: Agent, table: Table, config: RunConfig, scheduler: Scheduler) -> AsyncIterator[None]:
    """The pages, where they are asked for; their libraries are loaded only then."""
    address = config.portal_address()
    if address is None:
        yield
        return
    from sync_agent.portal.site import serve_portal  # noqa: PLC0415 — loaded only when needed

    answerable = config.answerable()
    async with serve_portal(
        agent, table, address, lambda: scheduler.outcome, grace_s=GRACE_S, answerable=answerable
    ) as url:
        say(f"the portal is open at {url}")
        yield


async def _until(
    stop: asyncio.Event, scheduler: Scheduler, folders: Folders, school: School, place: Place, unforeseen: Unforeseen
) -> None:
    """Run the scheduler and look after the folders until `stop`; a sync that does not end within `GRACE_S` is cut."""
    working = asyncio.create_task(scheduler.run_forever())
    watching = asyncio.create_task(enduring("watched folders and readable copies", folders.run, unforeseen))
    stopped = asyncio.create_task(stop.wait())
    leaving = asyncio.create_task(place.gives_way.wait())
    try:
        await asyncio.wait((working, watching, stopped, leaving, school.failed), return_when=asyncio.FIRST_COMPLETED)
        scheduler.stop()
        await asyncio.wait((working,), timeout=GRACE_S)
    finally:
        for task in (working, watching, stopped, leaving):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    for task in (working, watching):
        if not task.cancelled():
            await task
    if school.failed.done():
        school.failed.result()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set `stop` while the context lasts."""
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, signal.Handlers] = {}

    def caught(*_: object) -> None:
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):  # only the main thread may
            before[number] = signal.signal(number, caught)  # type: ignore[assignment]
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
