"""The command `run`: one process that owns DIR, listens, answers commands, and stops in good order.

Rules:
- what can be refused is refused before anything is opened; then lock, store, address, control channel, "ready";
- to stop: `/readyz` fails, new calls are sent away, those under way are finished, the rest is flushed, exit 0; asked a
  second time, it does not wait;
- after a failed write or flush the store is not asked again: the process ends with 1, and whoever started it starts it
  anew, which shows what is really on disk (R8).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Final

from protocol.errors import Code, LocalFailure, RelaisError
from protocol.limits import MAX_CONNECTIONS
from protocol.messages.wire import Call
from protocol.replica.at_work.replica import Entropy
from protocol.replica.ballast import Ballast
from protocol.replica.console.control import serve_control
from protocol.replica.console.frame import installed_version
from protocol.replica.console.operation import JSON, Incoming, LateTable, Operation, Outgoing, Params, Table
from protocol.replica.console.ownership import Ownership
from protocol.replica.console.sole_runner import RUNNING, own, running_already
from protocol.replica.content.deltas.levels import known_levels
from protocol.replica.content.deltas.strong_worker import StrongWorker
from protocol.replica.http.connections import Bounds, listening
from protocol.replica.http.live import MAX_LISTENERS
from protocol.replica.left_due import LeftDue
from protocol.replica.office.arrivals import CLOCK_SET_BACK, NOTE_INTERVAL_S, note_arrivals
from protocol.replica.office.stays import end_stays
from protocol.replica.process.background import background
from protocol.replica.process.native_memory import giving_back, keep_little
from protocol.replica.process.unforeseen import lasting
from protocol.replica.service.logs import say
from protocol.replica.service.notify import Notifier
from protocol.replica.steady import steady_clock
from protocol.replica.storage.database import must_open_again
from protocol.replica.upkeep.eraser import SWEEP_INTERVAL_S
from sync_server.api.asker import asker_by_connection, asker_by_proxy
from sync_server.api.health import Health
from sync_server.api.routes import Traffic, application
from sync_server.config import RunConfig, Tls, check_kit
from sync_server.handlers.overview.figures import store_families
from sync_server.handlers.overview.survey import Survey
from sync_server.handlers.record.destroying import destroy_what_is_due
from sync_server.handlers.store.backups import tell_devices
from sync_server.handlers.store.codes_of_before import enrolment_at
from sync_server.handlers.store.keys_of_before import heed_keys_of_before
from sync_server.handlers.store.upkeep import readiness
from sync_server.listener_tls import check_tls, listener_tls
from sync_server.metrics import Counters, Family
from sync_server.opened.app import Server, opened
from sync_server.opened.contacts import FLUSH_INTERVAL_S
from sync_server.opened.data_folder import check_initialised
from sync_server.opened.strong import StrongKeeper
from sync_server.web.pages import Pages

_log = logging.getLogger(__name__)

GRACE_S: Final = 10.0
LAST_GRACE_S: Final = 1.0
SPACE_KEYS_INTERVAL_S: Final = 15.0
PREPARE_INTERVAL_S: Final = 20.0
SAY_AGAIN_S: Final = 600.0
"""What keeps failing is said in the log so often."""
OTHER_DESCRIPTORS: Final = 256
"""Files of the store, packs that are read, the control channel."""


async def run_server(
    config: RunConfig,
    *,
    now_ms: Callable[[], int],
    entropy: Entropy,
    stopping: asyncio.Event,
    notifier: Notifier,
) -> None:
    """Serve until a signal, or `stopping`, says stop. Raises `BadInput`, `LocalFailure`."""
    keep_little()
    check_initialised(config.data_dir)
    check_kit(config)
    check_tls(config)
    stop = Stop()
    with stop.on_signals(), await own(config.data_dir, stop.asked) as owner:
        async with (
            background(stop.follow(stopping)),
            opened(config.data_dir, now_ms=now_ms, entropy=entropy, steady=steady_clock()) as server,
        ):
            await asyncio.to_thread(Ballast(config.data_dir).keep)
            await Service(server, owner, stop).serve(config, notifier)
    if stop.failure is not None:
        raise stop.failure


class Stop:
    """Why and when to stop: asked by a signal, at once if asked again, or because the store has failed."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.failure: LocalFailure | None = None

    def ask(self) -> None:
        """Stop; asked again, do not wait."""
        if self.asked.is_set():
            self.at_once.set()
        self.asked.set()

    async def follow(self, stopping: asyncio.Event) -> None:
        """Be asked by an event as well."""
        await stopping.wait()
        self.ask()

    def watch(self, error: RelaisError) -> None:
        """Stop if this failure means that the store must be opened again."""
        if self.failure is None and isinstance(error, LocalFailure) and must_open_again(error):
            self.failure = error
            self.asked.set()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Be asked by SIGTERM and SIGINT while the context lasts."""
        loop = asyncio.get_running_loop()
        # another thread than the first, where a host runs this, hears no signals
        known = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.getsignal(number) for number in known}
        for number in known:
            # where a loop cannot listen to signals (Windows), the interpreter does, and wakes it
            try:
                loop.add_signal_handler(number, self.ask)
            except NotImplementedError:
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self.ask))
        try:
            yield
        finally:
            for number in known:
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, before[number])


class Service:
    """A running server: what happens between "ready" and the end."""

    def __init__(self, server: Server, owner: Ownership, stop: Stop) -> None:
        self._server = server
        self._owner = owner
        self._stop = stop
        self._traffic = Traffic()
        self._counters = Counters()
        self._survey = Survey(server, time.monotonic)
        self._said_s: dict[Code, float] = {}

    def _failed(self, error: RelaisError) -> None:
        """This machine failed while a call was answered: the caller is told under seal, the log now and then."""
        if isinstance(error, LocalFailure):
            now_s = time.monotonic()
            if now_s - self._said_s.get(error.code, -SAY_AGAIN_S) >= SAY_AGAIN_S:
                self._said_s[error.code] = now_s
                _log.error("devices are told to come later, and keep what they have: %s (%s)", error, error.code)
        self._stop.watch(error)

    async def serve(self, config: RunConfig, notifier: Notifier) -> None:
        """Listen, say so, wait, and stop in good order."""
        server = self._server
        server.responder.add_handler(Call.ENROLL, enrolment_at(server).answer)
        server.responder.on_failure = self._failed
        server.responder.levels = await known_levels(server.store)
        server.contacts.observe_lag = self._counters.lag
        await tell_devices(server)
        with LeftDue().where_there_is_room():
            await heed_keys_of_before(server)
        self._traffic.on_unknown = server.note_unknown_caller
        self._traffic.asker_of = asker_by_proxy if config.behind_proxy else asker_by_connection
        bounds = Bounds.within(_possible_connections(), are_of_one_proxy=config.behind_proxy)
        app = application(
            server.responder,
            self._counters,
            Health(
                self._readiness,
                self._families,
                inside_only=config.is_reached_by_others and config.tls is not Tls.NONE,
                by_address=not config.is_reached_by_others,
            ),
            self._traffic,
            self._stop.watch,
            only_tls=config.binds_browsers,
            max_listeners=min(MAX_LISTENERS, bounds.for_news),
        )
        pages = Pages(
            self._survey,
            config,
            entropy=server.entropy,
            clock_s=time.monotonic,
            on_failure=self._stop.watch,
        )
        pages.add_to(app)
        async with AsyncExitStack() as stack:
            tls = await stack.enter_async_context(listener_tls(server, config))
            url = await stack.enter_async_context(
                listening(app, config.host, config.port, grace_s=LAST_GRACE_S, tls=tls, bounds=bounds)
            )
            stack.push_async_callback(pages.close)
            await stack.enter_async_context(serve_control(self._table(), self._owner, stopping=self._stop.asked.is_set))
            for work, begin in self._works():
                await stack.enter_async_context(lasting(work, begin, server.unforeseen))
            say(_log, f"sync-server: ready on {url}")
            async with notifier.telling(lambda: f"serves on {url}", self._stop.asked.is_set):
                await self._stop.asked.wait()
            await self._drain()

    def _works(self) -> Iterator[tuple[str, Callable[[], Coroutine[None, None, None]]]]:
        """What goes on beside the calls, as `status` names it."""
        yield "noting who called", self._flush_contacts
        yield "keys of spaces and stays", self._tend_space_keys
        yield "destroying what has been erased", self._destroy_erased
        yield "noting what has come when", self._note_arrivals
        yield "preparing first syncs", self._prepare
        yield "giving memory back", giving_back

    async def _drain(self) -> None:
        """Let the calls under way come to their end, while `/readyz` already fails."""
        self._traffic.closing = True
        finished = asyncio.ensure_future(self._traffic.idle.wait())
        hurried = asyncio.ensure_future(self._stop.at_once.wait())
        _, pending = await asyncio.wait({finished, hurried}, timeout=GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        for waiting in pending:
            waiting.cancel()

    async def _readiness(self) -> Mapping[str, str]:
        if self._stop.asked.is_set():
            return {"server": "it is being stopped"}
        return await readiness(self._server)

    async def _families(self, *, per_device: bool) -> list[Family]:
        own = await store_families(self._survey, installed_version(), per_device=per_device)
        return [*own, *self._counters.families()]

    async def _flush_contacts(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                await self._server.contacts.flush()
            except LocalFailure as failure:
                _log.error("who called when cannot be noted: %s", failure)
                self._stop.watch(failure)

    async def _tend_space_keys(self) -> None:
        """Whatever brought grants, revocations or keys (agents that refill this server, say): what is due is done."""
        while True:
            try:
                if ended := await tend_keys_and_stays(self._server):
                    _log.info("%d stays were over, and have been ended", ended)
            except RelaisError as failure:
                _log.error("the keys of spaces cannot be looked after: %s", failure)
                if isinstance(failure, LocalFailure):
                    self._stop.watch(failure)
            await asyncio.sleep(SPACE_KEYS_INTERVAL_S)

    async def _note_arrivals(self) -> None:
        """So that `lost --since` can tell what a thief has brought, and the alarm heeds the keys of before."""
        while True:
            left = LeftDue()
            try:
                server = self._server
                with left.where_there_is_room():
                    if back_ms := await note_arrivals(server.store, server.now_ms(), server.running):
                        _log.warning(CLOCK_SET_BACK, back_ms // 60_000)
                with left.where_there_is_room():
                    await heed_keys_of_before(server)
                left.tell()
            except LocalFailure as failure:
                _log.error("what has come when cannot be noted: %s", failure)
                self._stop.watch(failure)
            await asyncio.sleep(NOTE_INTERVAL_S)

    async def _destroy_erased(self) -> None:
        """What erasures cover goes when it is due."""
        while True:
            try:
                await destroy_what_is_due(self._server)
            except LocalFailure as failure:
                _log.error("what has been erased cannot be destroyed: %s", failure)
                self._stop.watch(failure)
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def _prepare(self) -> None:
        """What machines with a thin line would fetch first is got ready, while nothing else comes in."""
        keeper = StrongKeeper(self._server.replica, self._server.holdings)
        while True:
            await asyncio.sleep(PREPARE_INTERVAL_S)
            worker = StrongWorker()
            try:
                await keeper.tend(worker, is_stopping=self._stop.asked.is_set)
            except LocalFailure as failure:
                _log.error("content for first syncs cannot be prepared: %s", failure)
                self._stop.watch(failure)
            finally:
                await worker.close()

    def _table(self) -> Table:
        """The commands, and `run` itself, so that a second one learns why it cannot."""
        return LateTable(self._operations)

    def _operations(self) -> Table:
        from sync_server.operations.table import operations  # noqa: PLC0415 — a server at rest does without them

        return {
            **{name: self._watched(operation) for name, operation in operations(self._server).items()},
            RUNNING: running_already("a server"),
        }

    def _watched(self, operation: Operation) -> Operation:
        async def watched(params: Params, incoming: Incoming, outgoing: Outgoing) -> JSON:
            try:
                return await operation(params, incoming, outgoing)
            except RelaisError as error:
                self._stop.watch(error)
                raise

        return watched


async def tend_keys_and_stays(server: Server) -> int:
    """Give the keys of spaces that are due, and end the stays that are over; how many. Raises `RelaisError`."""
    left, ended = LeftDue(), 0
    with left.where_there_is_room():
        await server.space_keeper.tend_grown()
    with left.where_there_is_room():
        ended = await end_stays(server)
    left.tell()
    return ended


def _possible_connections() -> int:
    """How many connections there may be, once this process may have as many as the system allows.

    A connection is a descriptor, and the usual 1,024 are soon gone when every machine calls in the same minute.
    """
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource  # noqa: PLC0415 — not on every platform

    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        most = usual
    if most == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(min(MAX_CONNECTIONS, most - OTHER_DESCRIPTORS), OTHER_DESCRIPTORS)
