"""The school's network as this device sees it: a listener, links to neighbours, and what people are told of them (R15).

Rules:
- nothing is opened that was not asked for: the listener with --lan, links with --peer or through it;
- the store belongs to `run`: when it fails under a link, `run` hears of it.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Final

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import Code, LocalFailure, NoAnswer, RelaisError
from protocol.messages.introduction import own_secret
from protocol.replica.answering.station import Contact
from protocol.replica.console.operation import JSON
from protocol.replica.left_due import LeftDue
from protocol.replica.process.unforeseen import lasting
from sync_agent.app import Agent
from sync_agent.coursework.deflating import own_levels
from sync_agent.hand_ins.copies import Copies
from sync_agent.lan.exchange.after_news import AfterNews
from sync_agent.lan.exchange.link import STANDING, Link, LinkState
from sync_agent.lan.exchange.listener import LanResponder, serving
from sync_agent.lan.exchange.peer_sync import Tell, exchange_once, not_listening, sync_with
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.exchange.scope import LanScope
from sync_agent.lan.exchange.tls import listener_context
from sync_agent.lan.finding.looking import in_moments
from sync_agent.lan.finding.neighbour_choice import kept_besides
from sync_agent.lan.finding.neighbourhood import LATENESS, Neighbourhood
from sync_agent.lan.finding.places_met import EXPECTED_MS
from sync_agent.lan.revisiting import Revisits
from sync_agent.machine.addresses import Address
from sync_agent.machine.around import Around
from sync_agent.machine.marks import NEIGHBOURS_MARK
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import Draw
from sync_agent.sync.electing import Found, Told
from sync_agent.transport.sealed_calls import server_of

CALLED_LATELY_MS: Final = 120_000
ANSWERS_S: Final = (2.0, 20.0)
"""A program that has not begun to answer after so long is gone: after the first where words come at once."""
GATHER_S: Final = 0.03
LOOKS_EVERY_S: Final = 0.25
"""Thirty machines that say something within a moment are no thirty reasons to choose neighbours anew."""
_MAX_CALLERS_SHOWN: Final = 64
_MORE_THAN_WORDS_BYTES: Final = 16_384
"""A greeting and an answer that has nothing are shorter; content is not."""

_log = logging.getLogger(__name__)


class Lan(Around):
    """Made by `run`; `open` starts what it was asked for."""

    def __init__(self, agent: Agent, *, news: Callable[[], None], draw: Draw) -> None:
        """`news` is told when anything has come that is not from the server."""
        self.responder = LanResponder(agent)
        self.url: str | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._agent = agent
        self._draw = draw
        self._news = news
        self._copies = Copies(agent, self.live_devices)
        self.responder.scope = LanScope(agent, self._copies)
        self.neighbourhood = Neighbourhood(
            self.responder.known_secrets, own_secret(agent.keys.signing.seed), agent.entropy, self._look_around
        )
        self.neighbourhood.recognises = self.responder.recognised_secrets
        self.neighbourhood.gone = lambda: {address for address, link in self._links.items() if link.is_gone}
        self.neighbourhood.caught_up = self._is_caught_up
        self.neighbourhood.in_touch = lambda: bool(self.live_devices())
        self._asking: set[asyncio.Task[None]] = set()
        self._around = asyncio.Event()
        self._named: set[Address] = set()
        self._revisits = Revisits(agent, draw)
        self._links: dict[Address, Link] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._called: dict[bytes, Contact] = {}
        self.responder.told = self._note_caller

    @contextlib.asynccontextmanager
    async def open(self, listen: Address | None, peers: Sequence[Address]) -> AsyncIterator[None]:
        """Listen, and keep links with `peers`, while the context lasts. Raises as `listener.serving` does."""
        async with contextlib.AsyncExitStack() as stack:
            if listen is not None:
                tls = listener_context(self._agent.keys.tls, self._agent.folder)
                self.url = await stack.enter_async_context(serving(self.responder, listen, tls))
                self._agent.listens_at = self.url.removeprefix("https://")
                await self.responder.secrets()
                self.responder.levels = await own_levels(self._agent)
                self.neighbourhood.expects = await self._has_met(EXPECTED_MS)
                await self._revisits.load(listen.host)
                await stack.enter_async_context(self.neighbourhood.open(self.url, listen.host, self._agent.unforeseen))
                await stack.enter_async_context(lasting("choosing neighbours", self._follow, self._agent.unforeseen))
                await stack.enter_async_context(lasting("looking again", self._revisit, self._agent.unforeseen))
            stack.push_async_callback(self._unlink_all)
            stack.push_async_callback(self._ask_no_more)
            await stack.enter_async_context(lasting("second copies", self._attend, self._agent.unforeseen))
            self._named |= set(peers)
            for address in peers:
                self.link(address)
            yield
        self.url = self._agent.listens_at = None

    def link(self, address: Address) -> None:
        """Keep a link with the device at an address."""
        if address not in self._links:
            self._links[address] = link = Link(
                self._agent,
                self.responder,
                address,
                self._copies,
                self._fail,
                self._fell,
                draw=self._draw,
                met=self._met,
            )
            self._tasks[address] = asyncio.create_task(link.run())

    async def unlink(self, address: Address) -> None:
        """Let a link go."""
        self._links.pop(address, None)
        task = self._tasks.pop(address, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def keep(self, address: Address, device: bytes | None) -> None:
        """A person names a device of the school: who was met there, or who may come to be. Raises `LocalFailure`."""
        if self.url is None:
            raise not_listening()
        self._revisits.named(address, device)
        await self._revisits.note()
        self._look_around()

    async def sync_with(self, addresses: Sequence[Address], tell: Tell) -> SyncResult:
        """The command `sync --peer`: through the links that stand, else as without `run`."""
        total = SyncResult()
        others = []
        for address in addresses:
            link = self._links.get(address)
            done = None
            with contextlib.suppress(NoAnswer):
                done = None if link is None else await link.exchange()
            if done is None:
                others.append(address)
            else:
                total += done
        if others:
            try:
                total += await sync_with(self._agent, others, tell)
            except NoAnswer:
                if len(others) == len(addresses):
                    raise
        return total

    def ask(self, name: str, told: Told) -> None:
        """Take from a member what it has; `told` hears what came of that."""
        task = asyncio.create_task(self._ask(name, told))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, name: str, told: Told) -> None:
        address = self.neighbourhood.address_of(name)
        try:
            found = Found.GONE if address is None else await self._found_at(address)
        except Exception as bug:  # noqa: BLE001 — counted and shown; who waits for the answer would wait for ever
            self._agent.unforeseen.note("asking a neighbour", bug)
            found = Found.GONE
        if found is Found.GONE:
            self.neighbourhood.does_not_answer(name)
        _log.info("asked %s what it has: %s", "nobody" if address is None else address.authority, found.name.lower())
        told(found)

    async def _is_there(self, address: Address) -> bool:
        """Whether a program answers there: it shakes hands, which one that hangs does not, though its system does.

        It is waited for in moments of this program, and longer where words have come late.
        """
        least_s, most_s = ANSWERS_S
        shaking = asyncio.create_task(PeerTransport(address).certificate())
        try:
            await in_moments(0.0, min(max(least_s, LATENESS * self.neighbourhood.late_s), most_s), shaking.done)
        finally:
            shaking.cancel()
            (met,) = await asyncio.gather(shaking, return_exceptions=True)
        return isinstance(met, bytes)

    async def _found_at(self, address: Address) -> Found:
        if not await self._is_there(address):
            return Found.GONE
        try:
            link = self._links.get(address)
            done = None if link is None else await link.exchange()
            done = done or await exchange_once(self._agent, address)
        except NoAnswer as error:
            return Found.NOTHING if error.code is Code.BUSY else Found.GONE
        except LocalFailure as failure:
            self._fail(failure)
            return Found.NOTHING
        except RelaisError:
            return Found.GONE
        return Found.SOMETHING if done.received or done.bytes_in >= _MORE_THAN_WORDS_BYTES else Found.NOTHING

    def _is_caught_up(self) -> bool:
        return not self.responder.awaits_anybody() and not any(link.is_behind for link in self._links.values())

    async def _ask_no_more(self) -> None:
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def rows(self) -> list[JSON]:
        """The neighbours for `status`: links first, then who has called lately."""
        linked = {link.device for link in self._links.values()}
        live = self.responder.live_callers()
        since_ms = self._agent.now_ms() - CALLED_LATELY_MS
        rows: list[JSON] = [_row_of(link) for link in self._links.values()]
        for device, contact in self._called.items():
            if device not in linked and (device in live or contact.at_ms >= since_ms):
                state = LinkState.LIVE if device in live else LinkState.AWAY
                rows.append(_row(device, contact.name, None, state, contact.at_ms, None))
        return rows

    def live_devices(self) -> set[bytes]:
        """The devices with which a link stands, whoever dialled."""
        standing = [link.device for link in self._links.values() if link.state is LinkState.LIVE]
        return {device for device in standing if device is not None} | self.responder.live_callers()

    def found(self) -> int:
        """As `Around.found`."""
        return len(self.neighbourhood.members())

    def cut(self) -> int:
        """As `Around.cut`."""
        return sum(not member.reaches_server for member in self.neighbourhood.members().values())

    def holding(self, space: bytes, arrived: int, stream: bytes) -> set[bytes]:
        """As `Around.holding`."""
        live = self.live_devices()
        shown = {link.device for link in self._links.values() if link.holds(space, arrived, stream)}
        return {device for device in live if device in shown or self.responder.agreed_with(device, space) >= arrived}

    def _note_caller(self, contact: Contact) -> None:
        before = self._called.pop(contact.device, None)
        if contact.name is None and before is not None:
            contact = replace(contact, name=before.name)
        self._called[contact.device] = contact
        while len(self._called) > _MAX_CALLERS_SHOWN:
            self._called.pop(next(iter(self._called)))

    def _fail(self, failure: LocalFailure) -> None:
        if failure.code is Code.STORAGE_FAILED and not self.failed.done():
            self.failed.set_exception(failure)

    async def _attend(self) -> None:
        """After what came from elsewhere than the server: second copies, and whoever else is to be told."""
        server = await server_of(self._agent.replica)
        listener = self.responder.listeners.add(server.key)
        after_news, now_s = AfterNews(self._agent, self._copies), asyncio.get_running_loop().time
        while True:
            await listener.news()
            await asyncio.sleep(GATHER_S)
            self._news()
            began_s = now_s()
            try:
                await after_news.tend()
            except LocalFailure as failure:
                self._fail(failure)
            except RelaisError as error:
                _log.info("second copies: %s", error)
            # a neighbour that has something to say each moment takes half of the time, and never all of it
            await asyncio.sleep(now_s() - began_s)

    def _fell(self) -> None:
        """Nobody answers at an address any more: others are told, and others are called."""
        self._news()
        self._look_around()

    def _met(self, address: Address, device: bytes) -> None:
        """Somebody is there: that is noted, for a start at which nobody is announced."""
        self._revisits.met(address, device)
        self._look_around()

    def _look_around(self) -> None:
        self._around.set()

    async def _revisit(self) -> None:
        """Look again where others were met, as long as there are few."""
        while True:
            await asyncio.sleep(self._revisits.pause_s(in_touch=bool(self.live_devices())))
            standing = [address for address, link in self._links.items() if link.state in STANDING]
            taken = {*self._named, *self.neighbourhood.chosen(), *standing}
            await self._revisits.look(taken, self._announced(), self.live_devices())
            self._look_around()

    async def _follow(self) -> None:
        """Keep links with those whom the neighbourhood chooses, call twins, and let go of others that it had chosen."""
        while True:
            await self._around.wait()
            self._around.clear()
            await self.responder.secrets()
            if self.neighbourhood.members() and not await self._has_met(DAY_MS):
                now_ms = self._agent.now_ms()
                with LeftDue().where_there_is_room():
                    await self._agent.replica.store.set_marks({NEIGHBOURS_MARK: now_ms.to_bytes(8, "big")})
            chosen = self.neighbourhood.chosen().keys() | self.neighbourhood.twins()
            standing = [address for address, link in self._links.items() if link.state in STANDING]
            self._revisits.let_go(self._links, self._announced())
            wanted = {*chosen, *self._revisits.wanted}
            kept = {*wanted, *self._named, *kept_besides(wanted, standing)}
            for address in [address for address in self._links if address not in kept]:
                await self.unlink(address)
            for address in wanted:
                self.link(address)
            try:
                await self._revisits.note()
            except LocalFailure as failure:  # a full disk keeps nobody from being linked with
                self._fail(failure)
            await asyncio.sleep(LOOKS_EVERY_S)

    def _announced(self) -> set[Address]:
        return {member.address for member in self.neighbourhood.members().values()}

    async def _has_met(self, within_ms: int) -> bool:
        """Whether devices of the school were found so lately."""
        mark = await self._agent.replica.store.mark(NEIGHBOURS_MARK)
        return mark is not None and self._agent.now_ms() - int.from_bytes(mark, "big") < within_ms

    async def _unlink_all(self) -> None:
        for address in list(self._links):
            await self.unlink(address)


def _row_of(link: Link) -> dict[str, JSON]:
    problem = None if link.trouble is None else str(link.trouble)
    return _row(link.device, link.name, link.address.authority, link.state, link.last_contact_ms, problem)


def _row(
    device: bytes | None,
    name: str | None,
    address: str | None,
    state: LinkState,
    last_ms: int | None,
    problem: str | None,
) -> dict[str, JSON]:
    return {
        "device": None if device is None else device.hex(),
        "name": name,
        "address": address,
        "state": state.value,
        "last_contact": None if last_ms is None else rfc3339(last_ms),
        "problem": problem,
    }
