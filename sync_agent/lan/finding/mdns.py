"""Finding the devices of the school on the network of one address, by multicast (R15; docs/protocol.md, "Neighbours").

Rules:
- a device is announced under a random name, drawn anew at each start, with tags that members of its spaces recognise
  where it is: a name that is heard from several places is kept for each; `announcement` tells which counts;
- asking comes often at first, then seldom; who leaves says goodbye; who falls silent is forgotten after a while;
- answers are for everybody: who has just spoken answers a moment later, once, and who has heard somebody ask does not
  ask the same (RFC 6762, 6 and 7.3), so that thirty machines do not ask thirty times and answer a thousand;
- what comes over the group is anybody's word: it is a reason to dial, nothing more; where there are too many, who shows
  that it belongs to the school takes the place of who does not; what a member said nobody else replaces or takes back.

Written here rather than taken from a library: see docs/adr.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from protocol.errors import PeerFault
from sync_agent.lan.finding import multicast
from sync_agent.lan.finding.mdns_messages import (
    MAX_MESSAGE_BYTES,
    MAX_USUAL_BYTES,
    PORT,
    TTL_S,
    Instance,
    answer,
    asks_for_us,
    instances,
    question,
    usual,
)
from sync_agent.machine.addresses import Address

ASK_AFTER_S: Final = (0.0, 1.0, 3.0, 9.0, 27.0)
ASK_EVERY_S: Final = 60.0
ANNOUNCE_EVERY_S: Final = TTL_S / 3
ANSWER_WITHIN_S: Final = (0.02, 0.12)
ANSWER_AFTER_S: Final = 1.0
"""So long after it has spoken a device answers again at the earliest."""
ASKED_LATELY_S: Final = 0.5
LOST_S: Final = 5.0
"""A word that has not come back after so long is taken for lost, until it comes back."""
MAX_KNOWN: Final = 512

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A device that was announced, when it was last heard of (monotonic seconds), and the how-manieth word that was."""

    instance: Instance
    address: Address
    heard_s: float
    number: int = 0


class Judge(Protocol):
    """Who knows what announcements show; `sync_agent.lan.finding.neighbourhood`."""

    def is_member(self, found: Found) -> bool:
        """Whether it shows that it belongs to the school: strangers make room for those."""
        ...

    def replaces(self, found: Found, before: Found) -> bool:
        """Whether it counts instead of what was heard before under the same name, from the same place."""
        ...

    def takes_back(self, goodbye: Found, before: Found, source: str) -> bool:
        """Whether a goodbye, which came from `source`, ends what was heard before."""
        ...


Join = Callable[[asyncio.DatagramProtocol, str], Awaitable[tuple[str, int]]]
"""Make a protocol a member of the group on the interface of a host; where the group is. Raises `OSError`."""


class Discovery(asyncio.DatagramProtocol):
    """Announces one instance and knows the others. `on_change` is called when somebody came, went or said otherwise."""

    def __init__(
        self,
        name: str,
        own: Callable[[], Instance],
        on_change: Callable[[], None],
        judge: Judge,
        join: Join | None = None,
        words: Callable[[], int] | None = None,
    ) -> None:
        """`own` gives what is to be announced now under `name`; nothing of it is remembered here.

        `words` numbers what is heard, where another group is listened to as well.
        """
        self._name = name
        self._join = join or multicast.join
        self._judge = judge
        self.heard_itself = False
        self._late_s = 0.0
        self._spoken: tuple[Instance, float] | None = None
        self._unheard_s: float | None = None
        """When this device spoke last, until a word of its own comes back."""
        self._own = own
        self._echo: Found | None = None
        self._number = words or itertools.count(1).__next__
        self._spoke_s = 0.0
        self._asked_s = 0.0
        self._on_change = on_change
        self._transport: asyncio.DatagramTransport | None = None
        self._group: tuple[str, int] = (multicast.GROUP_4, PORT)
        self._known: dict[tuple[str, Address], Found] = {}
        self._answering = False
        self._gone = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, host: str) -> AsyncIterator[None]:
        """Be part of the group on the interface of `host` while the context lasts; again after it. Raises `OSError`."""
        self._gone.clear()
        self.heard_itself = False
        self._group = await self._join(self, host)
        asking = asyncio.create_task(self._ask())
        announcing = asyncio.create_task(self._announce_often())
        try:
            yield
        finally:
            for task in (asking, announcing):
                task.cancel()
            self._say(answer(replace(self._own(), ttl_s=0)))
            if self._transport is not None:
                self._transport.close()
            await self._gone.wait()

    @property
    def late_s(self) -> float:
        """The longest that a word of this device has taken to come back to it, or is taking now.

        Nothing where no word ever came back: multicast does not work there.
        """
        if not self.heard_itself or self._unheard_s is None:
            return self._late_s
        out_s = asyncio.get_running_loop().time() - self._unheard_s
        return max(self._late_s, out_s if out_s <= LOST_S else 0.0)

    def found(self) -> list[Found]:
        """What was heard lately from each place, in the order in which it was heard first, without this device."""
        since_s = asyncio.get_running_loop().time() - TTL_S
        self._known = {place: found for place, found in self._known.items() if found.heard_s >= since_s}
        return list(self._known.values())

    def announce(self) -> None:
        """Say again who we are: something of it has changed, or somebody asks."""
        self._late_s = self.late_s
        self._spoke_s = self._unheard_s = asyncio.get_running_loop().time()
        own = self._own()
        if self._spoken is None or self._spoken[0] != own:
            self._spoken = own, self._spoke_s
        self._say(answer(own))

    def ask(self) -> None:
        """Ask who is there."""
        self._asked_s = asyncio.get_running_loop().time()
        self._say(question())

    def echo(self, said: Instance) -> Found | None:
        """What this device said last, as it came back to it; None if it has not. What was said before has been heard.

        What others said after it has greater numbers: of words that lie there together all have the same time.
        """
        return self._echo if self._echo is not None and self._echo.instance == said else None

    # --- what comes ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        del exc
        self._gone.set()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """A message to the group."""
        if len(data) > MAX_MESSAGE_BYTES:
            return
        if asks_for_us(data):
            self._asked_s = asyncio.get_running_loop().time()
            self._answer_soon()
            return
        try:
            told = usual(data) if len(data) <= MAX_USUAL_BYTES else instances(data)
        except PeerFault:
            return
        changed = False
        for instance in told:
            changed = self._hear(instance, multicast.source_of(addr)) or changed
        if changed:
            self._on_change()

    def error_received(self, exc: Exception) -> None:
        """What was sent did not go out."""
        _log.debug("multicast: %s", exc)

    def _hear(self, instance: Instance, source: str) -> bool:
        """Note an instance; whether that is news."""
        host = source if instance.address is None else str(instance.address)
        if host.startswith("fe80"):
            host = source
        now_s = asyncio.get_running_loop().time()
        now = Found(instance, Address(host, instance.port), now_s, self._number())
        if instance.name == self._name:
            self.heard_itself = True
            if self._unheard_s is not None:
                # it may be an earlier word, which took longer still
                self._late_s, self._unheard_s = max(self._late_s, now_s - self._unheard_s), None
            if self._echo is None or self._echo.instance != instance:
                self._echo = now
                if self._spoken is not None and self._spoken[0] == instance:
                    self._late_s = max(self._late_s, now_s - self._spoken[1])
            return False
        place = instance.name, now.address
        before = self._known.get(place)
        if before is not None and before.heard_s < now_s - TTL_S:
            before = None
        if instance.ttl_s == 0:
            is_over = before is not None and self._judge.takes_back(now, before, source)
            return is_over and self._known.pop(place, None) is not None
        if before is not None and before.instance != instance and not self._judge.replaces(now, before):
            return False
        if place not in self._known and len(self._known) >= MAX_KNOWN and not self._make_room(now):
            return False
        self._known[place] = now
        return before is None or before.instance != now.instance

    def _make_room(self, found: Found) -> bool:
        """Whether a stranger has made room for a member of the school."""
        if not self._judge.is_member(found):
            return False
        stranger = next((place for place, known in self._known.items() if not self._judge.is_member(known)), None)
        return stranger is not None and self._known.pop(stranger, None) is not None

    # --- what goes out ------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        clock = asyncio.get_running_loop().time
        for pause_s in ASK_AFTER_S:
            await asyncio.sleep(pause_s)
            if not pause_s or clock() - self._asked_s >= ASKED_LATELY_S:
                self.ask()
        while True:
            pause_s = random.uniform(0.8, 1.2) * ASK_EVERY_S  # noqa: S311  (jitter, not a secret)
            await asyncio.sleep(pause_s)
            if clock() - self._asked_s >= pause_s / 2:
                self.ask()

    async def _announce_often(self) -> None:
        self.announce()
        await asyncio.sleep(1.0)
        while True:
            self.announce()
            await asyncio.sleep(random.uniform(0.8, 1.0) * ANNOUNCE_EVERY_S)  # noqa: S311  (jitter, not a secret)

    def _answer_soon(self) -> None:
        """One answer for all who ask within a moment."""
        if not self._answering:
            self._answering = True
            loop = asyncio.get_running_loop()
            rest_s = max(0.0, self._spoke_s + ANSWER_AFTER_S - loop.time())
            loop.call_later(rest_s + random.uniform(*ANSWER_WITHIN_S), self._answer_now)  # noqa: S311  (jitter, not a secret)

    def _answer_now(self) -> None:
        self._answering = False
        self.announce()

    def _say(self, message: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.sendto(message, self._group)
