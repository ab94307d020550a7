"""The lines between machines and the server: slow, lossy, doubling, cutting, spoiling, as the weather has it.

`Line` is a `Transport`. What arrives at the server is handled there by a task of the server's own: that the caller is
gone by then does not stop it, and that the server loses power is a cut for the caller. A doubled request may arrive
minutes later, after others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from protocol.errors import PeerFault
from sync_agent.transport.answers import Response, error_in, recognised
from sync_agent.transport.interface import Traffic
from sync_agent.transport.server_chain import IsOurs, Knows
from tests.harness.wire import URL, Frontage, cut

T = TypeVar("T")

HEAD_BYTES_OUT = 190
HEAD_BYTES_IN = 90
_PIECE_BYTES = 16_384
_HALTED_LOOK_S = 0.05


@dataclass(frozen=True)
class Weather:
    """How likely each thing is that may happen to what passes, and the longest way in seconds."""

    lost: float = 0.0
    unanswered: float = 0.0
    doubled: float = 0.0
    cut: float = 0.0
    spoiled: float = 0.0
    slowest_s: float = 0.05


CALM = Weather()


class Far(Protocol):
    """The far end of a line: a server that may be off."""

    @property
    def frontage(self) -> Frontage | None:
        """What answers, or nothing."""

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Let the far end do something, for as long as it has power."""


class Line:
    """See `Transport`. `weather` may change at any time; `up` says whether there is a line at all.

    One that `halts` lets nothing pass, and nobody is told so.
    """

    def __init__(self, far: Far, random: Random, note: Callable[[str], None]) -> None:
        self.far = far
        self.weather = CALM
        self.up = True
        self.halts = False
        self._renewed = 0
        self.traffic = Traffic()
        self._random = random
        self._note = note

    async def post(self, path: str, body: bytes) -> Response:
        self.traffic.round_trips += 1
        self.traffic.bytes_out += len(body) + HEAD_BYTES_OUT
        await self._way()
        if self._happens(self.weather.lost):
            self._note(f"{path} of {len(body)} B lost")
            raise cut()
        if self._happens(self.weather.doubled):
            self._double(path, body)
        if self._happens(self.weather.spoiled):
            body = self._spoil(body)
        response = await self._handled(self._frontage().post(path, body))
        await self._way()
        if self._happens(self.weather.unanswered):
            self._note(f"{path} of {len(body)} B: answer of {len(response.body)} B lost")
            raise cut()
        self._note(f"{path} {len(body)} B → {response.status} {len(response.body)} B")
        self.traffic.bytes_in += len(response.body) + HEAD_BYTES_IN
        if self._happens(self.weather.spoiled):
            response = Response(response.status, response.headers, self._spoil(response.body))
        return recognised(response, URL)

    async def fetch(self, capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        self.traffic.round_trips += 1
        await self._way()
        data = await self._handled(self._frontage().pack(capability, start, length))
        if isinstance(data, Response):
            raise error_in(data, URL)
        passing = self._random.randrange(len(data) + 1) if self._happens(self.weather.cut) else len(data)
        self._note(f"fetch from {start}: {passing} of {len(data)} B")
        for at in range(0, passing, _PIECE_BYTES):
            piece = data[at : min(at + _PIECE_BYTES, passing)]
            self.traffic.bytes_in += len(piece)
            yield self._spoil(piece) if self._happens(self.weather.spoiled) else piece
            await self._way()
        if passing < len(data):
            raise cut()

    async def send(self, capability: str, offset: int, length: int, pieces: AsyncIterator[bytes]) -> Response:
        self.traffic.round_trips += 1
        await self._way()
        cuts = length > 0 and self._happens(self.weather.cut)
        passing = self._random.randrange(length + 1) if cuts else length
        response = await self._handled(self._frontage().part(capability, offset, self._passing(pieces, passing)))
        await self._way()
        self._note(f"send from {offset}: {passing} of {length} B → {response.status}")
        if cuts or self._happens(self.weather.unanswered):
            raise cut()
        if response.status in (201, 204, 409):
            return response
        raise error_in(response, URL)

    async def listen(self, capability: str, *, pushed: bool) -> AsyncGenerator[bool, None]:
        del pushed
        await self._way()
        responder = self._frontage().responder
        try:
            listener = responder.listener(capability)
        except PeerFault:
            raise cut() from None
        yield False
        while self.up and (frontage := self.far.frontage) is not None and frontage.responder is responder:
            try:
                async with asyncio.timeout(60):
                    news = await listener.news()
            except TimeoutError:
                continue
            if not self._happens(self.weather.lost):
                yield await self._handled(responder.concerns(listener, news))
        raise cut()

    def hold_to(self, is_ours: IsOurs, knows: Knows | None = None) -> None:
        """No TLS here."""

    async def renew(self) -> None:
        """What waits for a line that halts waits no longer."""
        self._renewed += 1

    async def close(self) -> None:
        return

    def _frontage(self) -> Frontage:
        frontage = self.far.frontage
        if frontage is None or not self.up:
            raise cut()
        return frontage

    async def _handled(self, work: Coroutine[Any, Any, T]) -> T:
        """What the far end makes of it; its end is a cut here."""
        task = self.far.spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise cut() from None

    def _double(self, path: str, body: bytes) -> None:
        """The same request again, some time: a proxy that repeats, or somebody who recorded it."""
        late_s = self._random.random() * self._random.choice((0.1, 5, 600))

        async def again() -> None:
            await asyncio.sleep(late_s)
            frontage = self.far.frontage
            if frontage is not None:
                response = await frontage.post(path, body)
                self._note(f"{path} of {len(body)} B doubled after {late_s:.3f} s → {response.status}")

        self.far.spawn(again())

    async def _passing(self, pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """The first `size` bytes of what comes."""
        async for piece in pieces:
            passed, size = piece[:size], max(0, size - len(piece))
            self.traffic.bytes_out += len(passed)
            if passed:
                yield self._spoil(passed) if self._happens(self.weather.spoiled) else passed
            if not size:
                return

    async def _way(self) -> None:
        await asyncio.sleep(self._random.random() * self.weather.slowest_s)
        if self._stands_still():
            await self._wait()
        if not self.up:
            raise cut()

    def _stands_still(self) -> bool:
        return self.halts

    async def _wait(self) -> None:
        before = self._renewed
        self.traffic.waits += 1
        try:
            while self._stands_still():
                await asyncio.sleep(_HALTED_LOOK_S)
                if self._renewed != before:
                    raise cut()
        finally:
            self.traffic.waits -= 1

    def _happens(self, likely: float) -> bool:
        return likely > 0 and self._random.random() < likely

    def _spoil(self, data: bytes) -> bytes:
        """One bit flipped."""
        if not data:
            return data
        at = self._random.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
