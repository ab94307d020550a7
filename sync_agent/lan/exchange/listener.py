"""The device as a place that others call: the server's HTTP, over this device's own replica (R15).

Rules:
- the same calls, answered by the same responder, for the spaces in common only;
- an introduction that names a common space is answered by this device's chain; everything else from somebody who does
  not hold this device's key is answered by nothing at all;
- who calls with this device's own key is its clone: it is told which of the two came later, and nothing else;
- who was shown another certificate than this device's is answered nothing: somebody in between ends TLS;
- a machine with a code is let in where this device may let in who has that code; to others it says nothing either;
- who listens here and says where it stands is told where this device stands, whenever that differs; it comes then;
- few at once: a listener is one old PC.

docs/protocol.md, "Neighbours".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from aiohttp import web

from protocol.errors import Code, LocalFailure, Refused
from protocol.limits import MAX_LAN_CALLERS
from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.enrollment import encode_chain
from protocol.messages.introduction import introduced, is_introduction, is_knock, knocked
from protocol.messages.likeness import MOVED, Told
from protocol.messages.lives import NONCE_BYTES as LIFE_NONCE_BYTES
from protocol.messages.lives import Twin
from protocol.messages.wire import ENROLL_PATH, LIVE_PATH, PACKS_PATH, RECONCILE_PATH, SYNC_PATH, Call
from protocol.model.entry import Entry
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from protocol.replica.answering.station import Contact, Reply, Station
from protocol.replica.http.calls import Calls
from protocol.replica.http.connections import Bounds, listening
from protocol.replica.http.content import Packs
from protocol.replica.http.live import Live
from protocol.replica.http.meter import Direction, Result
from protocol.replica.http.problems import Problems
from protocol.replica.office.known_codes import KnownCodes
from protocol.roles import Role
from protocol.trust.envelope import OpenedRequest
from sync_agent.app import Agent
from sync_agent.lan.exchange.meeting import MISDIRECTED, answering_secrets_of, chain_for, known_secrets_of, secrets_of
from sync_agent.lan.exchange.scope import LanScope
from sync_agent.lan.exchange.standing import Standing, standing_for
from sync_agent.lan.exchange.turns import Turns
from sync_agent.machine.addresses import Address
from sync_agent.school.letting_in import own_answer
from sync_agent.school.office import SchoolOffice

SECRETS_KEPT_S: Final = 5.0
BOUNDS: Final = Bounds(connections=8 * MAX_LAN_CALLERS, asking=4 * MAX_LAN_CALLERS, per_address=2 * MAX_LAN_CALLERS)
GRACE_S: Final = 1.0
COMES_S: Final = 3.0
"""So long somebody that was asked to come is counted upon."""

_GENERATION_BYTES: Final = 8
_KEY_BYTES: Final = 32

_log = logging.getLogger(__name__)


class LanResponder(Responder):
    """Answers calls of other devices. Each time that it is made, cursors of earlier connections are unknown to it."""

    def __init__(self, agent: Agent, scope: LanScope | None = None) -> None:
        station = Station(
            signing=agent.keys.signing,
            agreement=(agent.keys.agreement,),
            chain=(),
            grant=b"",
            generation=agent.entropy(_GENERATION_BYTES),
            capability_key=agent.entropy(_KEY_BYTES),
            writes_receipts=False,
            name=agent.enrolment.device_name,
            certificate=agent.keys.tls.fingerprint,
        )
        super().__init__(
            agent.replica,
            agent.holdings,
            station,
            now_ms=agent.now_ms,
            entropy=agent.entropy,
            scope=scope or LanScope(agent),
        )
        self._agent = agent
        self._secrets: dict[bytes, bytes] = {}
        self._recognised: dict[bytes, bytes] = {}
        self._answering: dict[bytes, bytes] = {}
        self._secrets_until_s = 0.0
        self._codes = KnownCodes()
        self._callers: WeakSet[Listener] = WeakSet()
        self.told: Callable[[Contact], None] = lambda _contact: None
        """Hears who has called."""
        self.turns = Turns()
        """Whose turn it is to bring what neighbours tell of, whoever dialled."""
        self._heard: WeakKeyDictionary[Listener, Told] = WeakKeyDictionary()
        self._said: WeakKeyDictionary[Listener, bytes] = WeakKeyDictionary()
        agent.replica.on_news = self._moved
        self._awaited_until_s: dict[bytes, float] = {}
        """Who was asked to come, and until when it is counted upon."""
        self._current: dict[bytes, bool] = {}
        self._agreed: dict[bytes, dict[bytes, int]] = {}
        self.on_contact = self._note_contact
        self.add_handler(Call.ENROLL, self._enrol)

    def listener(self, text: str) -> Listener:
        """As any responder; who listens here has a live link with us."""
        listener = super().listener(text)
        self._callers.add(listener)
        return listener

    def live_callers(self) -> set[bytes]:
        """The devices that listen here at this moment."""
        return {listener.device for listener in self._callers}

    def _moved(self, spaces: frozenset[bytes], source: bytes) -> None:
        self.turns.moved()
        self.listeners.tell(spaces, source)

    async def word(self, listener: Listener) -> str:
        """Where this device stands, for who has said so itself; else that something has moved."""
        if listener not in self._heard:
            return MOVED
        own = await self._standing(listener)
        return MOVED if own is None else self._say(listener, own)

    async def heed(self, listener: Listener, text: str) -> str | None:
        """Somebody who listens says where it stands: asked to come where that differs, one after the other."""
        told = Told.parse(text)
        if told is None:
            return None
        self._heard[listener] = told
        own = await self._standing(listener)
        if own is None or not own.is_like(told):
            await self.turns.free()
            own = await self._standing(listener)
        if own is None:
            return MOVED
        if not own.is_like(told):
            self.turns.ask(listener.device)
            self._awaited_until_s[listener.device] = asyncio.get_running_loop().time() + COMES_S
        elif self._said.get(listener) == own.likeness:
            return None
        return self._say(listener, own)

    def awaits_anybody(self) -> bool:
        """Whether somebody stands elsewhere, was asked to come, and has not yet."""
        now_s = asyncio.get_running_loop().time()
        awaited = {device: until_s for device, until_s in self._awaited_until_s.items() if until_s > now_s}
        self._awaited_until_s = awaited
        return bool(awaited)

    async def _standing(self, listener: Listener) -> Standing | None:
        """Where this device stands for who listens; notes what is agreed with it."""
        own = await self._standing_for(listener.device)
        if own is not None and own.is_like(self._heard.get(listener)) and not own.lacking:
            self._note_agreed(listener.device, {space: place.count for space, place in own.places.items()})
        return own

    async def _standing_for(self, device: bytes) -> Standing | None:
        return await standing_for(self._agent, device, self.scope.entrusted)

    def _say(self, listener: Listener, own: Standing) -> str:
        self._said[listener] = own.likeness
        return own.told.text

    async def answer(self, call: Call, body: bytes) -> Reply:
        """As any responder; an introduction comes by the path of a sync, a knock by that of an enrolment."""
        if call is Call.ENROLL and is_knock(body):
            return await self._open_to(body)
        if call is Call.SYNC and is_introduction(body):
            return await self._introduce(body)
        return await super().answer(call, body)

    async def _sync(self, opened: OpenedRequest) -> bytes:
        if opened.device == self._agent.device:
            return self._twin(SyncRequest.parse(opened.payload)).encode()
        held = await self._held()
        answer = await super()._sync(opened)
        if self._current.pop(opened.device, False):
            self._note_agreed(opened.device, held)
        self.turns.came(opened.device)
        self._awaited_until_s.pop(opened.device, None)
        return answer

    def _note_agreed(self, device: bytes, held: dict[bytes, int]) -> None:
        self._agreed.pop(device, None)
        self._agreed[device] = held
        while len(self._agreed) > MAX_LAN_CALLERS:
            self._agreed.pop(next(iter(self._agreed)))

    def agreed_with(self, device: bytes, space: bytes) -> int:
        """How many of this device's entries of a space a caller had, with all that they name, when it last asked."""
        return self._agreed.get(device, {}).get(space, 0)

    async def _held(self) -> dict[bytes, int]:
        """How many entries of each space are here; only on a device whose person leads drills, who alone asks."""
        if Role.HEAD not in await self._agent.roles():
            return {}
        return {space: (await self.replica.position(space)).count for space in await self._agent.spaces()}

    def _note_contact(self, contact: Contact) -> None:
        self._current[contact.device] = contact.current
        self.told(contact)

    def _twin(self, request: SyncRequest) -> SyncAnswer:
        """What a process with our own key is told: the one whose nonce is greater came later, unless we give way."""
        self.station.check_shown(request.certificate)
        ours, theirs = self._agent.life.nonce, (request.life or b"")[:LIFE_NONCE_BYTES]
        if request.life is None or theirs == ours:
            return SyncAnswer(time_ms=self._agent.now_ms())
        are_first = ours < theirs
        gives_way = self._agent.on_twin_nearby(Twin.FIRST if are_first else Twin.LATER)
        told = Twin.LATER if are_first and not gives_way else Twin.FIRST
        return SyncAnswer(time_ms=self._agent.now_ms(), twin=told)

    def known_secrets(self) -> dict[bytes, bytes]:
        """`meeting.secrets_of` this device, as they were last read: what it announces."""
        return self._secrets

    def recognised_secrets(self) -> dict[bytes, bytes]:
        """`meeting.known_secrets_of` this device, as they were last read: by which it knows what others announce."""
        return self._recognised

    async def secrets(self) -> dict[bytes, bytes]:
        """`meeting.secrets_of` this device, as it was a moment ago at most."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._secrets_until_s:
            self._secrets = await secrets_of(self._agent)
            self._recognised = self._secrets or await known_secrets_of(self._agent)
            self._answering = self._secrets or await answering_secrets_of(self._agent)
            self._secrets_until_s = now_s + SECRETS_KEPT_S
        return self._secrets

    async def _open_to(self, body: bytes) -> Reply:
        """Our chain, for who knocks with a code that we may honour."""
        office = await self._office()
        chain: tuple[Entry, ...] = ()
        if office is not None and knocked(body, await self._codes.of(office), self._agent.keys.tls.fingerprint):
            chain = await self._agent.replica.credentials([office.authority.grant])
        return Reply(MISDIRECTED, encode_chain(chain))

    async def _enrol(self, opened: OpenedRequest) -> bytes:
        office = await self._office()
        if office is None:
            raise Refused(Code.NO_RIGHT, "this device lets nobody in; ask the head teacher's")
        return await own_answer(self._agent, office, opened, self._codes)

    async def _office(self) -> SchoolOffice | None:
        try:
            return await SchoolOffice.of(self._agent)
        except Refused:
            return None

    async def _introduce(self, body: bytes) -> Reply:
        await self.secrets()
        common = introduced(body, self._answering, self._agent.keys.tls.fingerprint)
        chain = await chain_for(self._agent, common) if common else ()
        return Reply(MISDIRECTED, encode_chain(chain))


class _Unmetered:
    """A `Meter` that does not count."""

    def session(self, result: Result) -> None:
        """Nothing."""

    def moved(self, direction: Direction, size: int) -> None:
        """Nothing."""


def _application(responder: LanResponder) -> web.Application:
    meter = _Unmetered()
    calls, packs = Calls(responder, meter), Packs(responder, meter)
    live = Live(responder, max_listeners=MAX_LAN_CALLERS)
    app = web.Application(middlewares=[Problems(_note).middleware])
    app.router.add_post(SYNC_PATH, calls.handler(Call.SYNC))
    app.router.add_post(ENROLL_PATH, calls.handler(Call.ENROLL))
    app.router.add_post(RECONCILE_PATH, calls.handler(Call.RECONCILE))
    app.router.add_get(f"{PACKS_PATH}/{{capability}}", packs.fetch)
    app.router.add_post(PACKS_PATH, packs.receive)
    app.router.add_get(LIVE_PATH, live.listen, allow_head=False)
    app.on_shutdown.append(live.on_shutdown)
    app.on_response_prepare.append(_few_headers)
    return app


@contextlib.asynccontextmanager
async def serving(responder: LanResponder, address: Address, tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Answer at an address while the context lasts; its URL. Raises as `connections.listening` does."""
    app = _application(responder)
    async with listening(app, address.host, address.port, grace_s=GRACE_S, tls=tls, bounds=BOUNDS) as url:
        yield url


def _note(failure: LocalFailure) -> None:
    _log.error("a device could not be answered: %s", failure)


async def _few_headers(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
    response.headers.popall("Date", None)
