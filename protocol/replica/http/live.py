"""`GET /v1/live`: a WebSocket that says when something has moved; long polling where a proxy blocks it (R14).

Rules:
- the bearer is the capability of a sync answer; a connection lives no longer than that capability;
- one text frame, "moved", each time; never what. Between neighbours it says where the teller stands
  (`messages.likeness`), and who listens says so too: texts are heeded one after the other, no faster than `HEED_S`;
- a plain GET waits `LONG_POLL_S` at most: 200 when something has moved, 204 when nothing has. What moves between two
  questions is kept for the next one; who asks for the first time, or after a long while, is told at once to look;
- of one device few lines stand, the newest, and for few of its questions something is kept: whoever opens them by the
  hundred, over whatever capabilities, takes nobody else's place;
- where all places are taken, one is given up by who has the most, however many keys a device gave itself, for who has
  fewer: a room of copies of one image has as many as there are, until somebody else comes;
- the server's pings keep proxies from closing the line, and find out who is gone;
- a line over which nothing can be told any more ends: who waits at it would believe that nothing moves.

docs/protocol.md, "Wake-up".
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from aiohttp import WSMsgType, web

from protocol.errors import Code, NoAnswer, PeerFault, RelaisError
from protocol.limits import CAPABILITY_LIFETIME_S
from protocol.messages.likeness import MOVED
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from protocol.replica.http.connections import awaiting

MAX_LISTENERS: Final = 20_000
MAX_LINES_PER_DEVICE: Final = 8
"""A device has one, for a while others that died unnoticed; copies of one image share these until each has a key."""
MAX_ASKING_PER_DEVICE: Final = 64
"""So many of its capabilities are remembered between two questions; copies of one image share these too."""
LONG_POLL_S: Final = 25.0
ASKS_AGAIN_S: Final = 60.0
"""How long what moves is kept for somebody who asks."""
PING_S: Final = 50.0
HEED_S: Final = 0.02
_MAX_FRAME_BYTES: Final = 1024
_BEARER: Final = "Bearer "

_Ending: TypeAlias = "Callable[[], object]"

_log = logging.getLogger(__name__)


class Live:
    """The handler of `/v1/live`."""

    def __init__(self, responder: Responder, *, max_listeners: int = MAX_LISTENERS) -> None:
        self._responder = responder
        self._max_listeners = max_listeners
        self._open: set[web.WebSocketResponse] = set()
        # of each device, how its lines are ended, in the order in which they came
        self._lines: dict[bytes, list[_Ending]] = {}
        self._standing_lines = 0
        # those who ask, between two questions: by capability, in the order in which they were answered
        self._asking: dict[str, tuple[float, Listener]] = {}
        # of each device, the capabilities among those
        self._asking_of: dict[bytes, dict[str, None]] = {}

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """Wait with the caller for news."""
        token = request.headers.get("Authorization", "")
        if not token.startswith(_BEARER):
            raise PeerFault(Code.BAD_CAPABILITY, "this link is not valid or has expired; ask for a new one")
        listener = self._responder.listener(token.removeprefix(_BEARER))
        if token not in self._asking:
            self._make_room(listener.device)
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=_MAX_FRAME_BYTES, compress=False)
        if socket.can_prepare(request).ok:
            await socket.prepare(request)
            return await self._push(request, socket, listener)
        return await self._long_poll(token, listener)

    async def on_shutdown(self, _app: web.Application) -> None:
        """Let everybody go: the server stops, and each will look for it with jitter."""
        for socket in list(self._open):
            await socket.close(code=1001)

    async def _push(
        self, request: web.Request, socket: web.WebSocketResponse, listener: Listener
    ) -> web.WebSocketResponse:
        self._open.add(socket)
        tasks = [asyncio.create_task(work) for work in (self._tell(socket, listener), self._read(socket, listener))]
        try:
            with self._standing(listener.device, tasks[0].cancel):
                await asyncio.wait(tasks, timeout=CAPABILITY_LIFETIME_S, return_when=asyncio.FIRST_COMPLETED)
            with awaiting(request):
                await socket.close()
        finally:
            self._open.discard(socket)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for failure in ended:
            self._note(failure)
        return socket

    def _make_room(self, device: bytes) -> None:
        """See to it that a place is free for a device. Raises `NoAnswer(BUSY)` where nobody has to give one up."""
        while self._taken() >= self._max_listeners:
            held = Counter({each: len(lines) for each, lines in self._lines.items()})
            held.update({each: len(tokens) for each, tokens in self._asking_of.items()})
            most = gives_way(held, device, self._responder.replica.door.origin)
            if most is None:
                raise NoAnswer(Code.BUSY, "too many machines are waiting for news", retry_after_s=60)
            if most in self._asking_of:
                self._take(next(iter(self._asking_of[most])))
            else:
                self._end_eldest(most)

    def _taken(self) -> int:
        return self._standing_lines + len(self._asking)

    @contextmanager
    def _standing(self, device: bytes, ending: _Ending) -> Iterator[None]:
        """A line of the device stands; if it has too many now, the eldest is told to end, and counts no more."""
        lines = self._lines.setdefault(device, [])
        lines.append(ending)
        self._standing_lines += 1
        if len(lines) > MAX_LINES_PER_DEVICE:
            self._end_eldest(device)
        try:
            yield
        finally:
            if ending in lines:
                self._standing_lines -= 1
                lines.remove(ending)
            if not self._lines.get(device, True):
                del self._lines[device]

    def _end_eldest(self, device: bytes) -> None:
        self._standing_lines -= 1
        self._lines[device].pop(0)()

    def _note(self, failure: BaseException | None) -> None:
        """What ended a line, unless whoever listened did: it can be answered to nobody any more."""
        if isinstance(failure, RelaisError):
            _log.error("a line for news has ended: %s (%s)", failure, failure.code)
            self._responder.on_failure(failure)
        elif isinstance(failure, Exception) and not isinstance(failure, ConnectionError):
            _log.error("a line for news has ended in an unforeseen way", exc_info=failure)

    async def _tell(self, socket: web.WebSocketResponse, listener: Listener) -> None:
        while True:
            if await self._responder.concerns(listener, await listener.news()):
                await socket.send_str(await self._responder.word(listener))

    async def _read(self, socket: web.WebSocketResponse, listener: Listener) -> None:
        """Until the listener leaves, or says what nobody asked; its pings are answered meanwhile."""
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                return
            reply = await self._responder.heed(listener, message.data)
            if reply is not None:
                await socket.send_str(reply)
            await asyncio.sleep(HEED_S)

    async def _long_poll(self, token: str, fresh: Listener) -> web.Response:
        clock = asyncio.get_running_loop().time
        self._forget(clock() - ASKS_AGAIN_S)
        listener = self._take(token)
        if listener is None:
            self._keep(token, fresh)
            return web.Response(text=MOVED)
        try:
            async with asyncio.timeout(LONG_POLL_S) as patience:
                with self._standing(listener.device, lambda: _end(patience, clock())):
                    while not await self._moved(listener, patience):
                        pass
        except TimeoutError:
            return web.Response(status=204)
        finally:
            # who waited until somebody else was given the place is not remembered either
            if self._taken() < self._max_listeners:
                self._keep(token, listener)
        return web.Response(text=MOVED)

    async def _moved(self, listener: Listener, patience: asyncio.Timeout) -> bool:
        """Wait for news; whether it concerns the listener. What was taken up is not dropped because time is up."""
        spaces = await listener.news()
        until_s = patience.when()
        patience.reschedule(None)
        concerned = await self._responder.concerns(listener, spaces)
        patience.reschedule(until_s)
        return concerned

    def _forget(self, before_s: float) -> None:
        """Let go of those who have not asked again."""
        while self._asking and next(iter(self._asking.values()))[0] < before_s:
            self._take(next(iter(self._asking)))

    def _keep(self, token: str, listener: Listener) -> None:
        """What moves from now on is kept for the next question; of one device, for its newest few."""
        self._take(token)
        own = self._asking_of.setdefault(listener.device, {})
        own[token] = None
        self._asking[token] = (asyncio.get_running_loop().time(), listener)
        if len(own) > MAX_ASKING_PER_DEVICE:
            self._take(next(iter(own)))

    def _take(self, token: str) -> Listener | None:
        """Who asked with this capability before; it is remembered no longer."""
        _, listener = self._asking.pop(token, (0.0, None))
        if listener is not None:
            own = self._asking_of[listener.device]
            del own[token]
            if not own:
                del self._asking_of[listener.device]
        return listener


def gives_way(held: Mapping[bytes, int], caller: bytes, origin: Callable[[bytes], bytes]) -> bytes | None:
    """Which of the devices that hold so many places gives one up for the caller; None where it is sent away.

    Places are shared out among devices as they were let in, and the places of each among the keys that it has given
    itself. Nobody gives one up for who would then have more, but the caller: its new place is worth more than its old.
    """
    own = origin(caller)
    of_origin: Counter[bytes] = Counter()
    for device, places in held.items():
        of_origin[origin(device)] += places
    most = max(of_origin, key=of_origin.__getitem__, default=own)
    if of_origin[most] > of_origin[own] + 1:
        return max((device for device in held if origin(device) == most), key=held.__getitem__)
    chosen = max((device for device in held if origin(device) == own), key=held.__getitem__, default=caller)
    if held.get(chosen, 0) > held.get(caller, 0) + 1:
        return chosen
    return caller if caller in held else None


def _end(patience: asyncio.Timeout, now_s: float) -> None:
    """Have somebody wait no longer; who is about to go by themselves do."""
    with suppress(RuntimeError):
        patience.reschedule(now_s)
