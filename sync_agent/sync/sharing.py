"""One school, one download: who of the devices that are here asks the server, and who waits for the others (R18).

Rules:
- of the members that say that they reach the server, one is named for each space by rendezvous hashing; it asks the
  server for what is new there, entries and content, and brings up what others left; the others take it from neighbours;
- who goes is no longer among them: the next one is named at once; who comes is named after one that is fetching;
- whoever has waited in vain for a moment, drawn anew for each piece, asks the one that is named, and takes from it what
  it has. Only that tells a slow hour from a device that is gone: who does not answer is not named for a while, who
  answers is waited for again, longer each time, and passed over for this piece once it has had nothing for some times;
- nobody is waited for without end, whatever it brings: entries ten minutes, content as long as it takes on a thin line;
  what was begun is given up to others no longer than that either, and what only some may read to nobody;
- who says that it fetches, and brings nothing in that time, is believed less the next time, and for a while not at all;
- a device that has just begun to look waits until it knows who is there;
- who is about to fetch much says so, and hears all who are there before it begins: of several one goes on, and who is
  in the middle of it goes before all of them; what a neighbour has it takes from there;
- the next after the one that is named looks after it more often, and who is in the middle of it says so each second
  (`pulse`), so that one that is switched off, hangs, or is cut off costs seconds;
- with nobody else here each device asks for itself.

docs/protocol.md, "One download".
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final

from protocol.messages.parts import Link, Wanted
from protocol.replica.process.background import background
from sync_agent.scheduler import Draw
from sync_agent.sync.electing import Electing, Found, Stage, Told
from sync_agent.sync.pulse import (
    LOOKS_S,
    LOOKS_SELDOM_S,
    NEXT_S,
    PULSE_S,
    SENT_STALLS_S,
    SILENT_S,
    Course,
    Flow,
    Line,
    Watch,
)

ENTRIES_PATIENCE_S: Final = (2.0, 5.0)
CONTENT_PATIENCE_S: Final = (90.0, 150.0)
MOST_TURNS: Final = 6
WATCH_S: Final = (5.0, 10.0)
"""How often the next one looks after the one that fetches content."""
MUCH_BYTES: Final = 262_144
MOST_VAIN: Final = 3
"""How often somebody that answers may have nothing."""
MOST_VAIN_AT_IT: Final = 5
"""How often, while it says that it is in the middle of fetching: it may do so for an hour."""
SLOWNESS: Final = 3.0
"""An answer that took long is followed by a wait of so many times as long."""
AWAY_S: Final = 60.0
IDLE_S: Final = 600.0
MOST_ENTRIES_S: Final = 600.0
TURN_S: Final = 10.0
"""So long entries are left to others in all, whatever these bring meanwhile, and for each turn so much longer."""
LEAST_CONTENT_S: Final = 300.0
SLOWEST_BYTES_S: Final = 65_536.0
"""So long, and as long as all that is missing takes at this rate, content is left to the first that is named while none
of the space's comes; to the next one twice as long, so that on a line that is thinner few fetch the same."""
MOST_CONTENT_S: Final = 3600.0
"""No longer than this to one of them, and twice as long to all."""
DISBELIEF_S: Final = 1200.0
"""So long nothing is left to who said that it fetches and brought nothing, twice as long each time."""
MOST_DISBELIEF_S: Final = 86_400.0
MAX_DISBELIEVED: Final = 512
MAX_WAITING: Final = 20_000


@dataclass(slots=True)
class _Wait:
    """One piece that is left to another device."""

    of: str
    until_s: float
    content: bool
    watches: bool
    ends_s: float
    """When it is left to nobody any more."""
    since_s: float
    """Since when it is left to this one."""
    counts_s: float = 0.0
    """From when on it is counted that the other one has nothing."""
    vain: int = 0
    passed: set[str] = field(default_factory=set)
    late: int = 0
    """How many have let it wait for too long before."""
    is_mine: bool = False
    """Whether this device has been woken to ask itself."""
    lacked: bool = False
    """Whether the server lacks it, and the other one has it to send."""
    word: int | None = None
    """The last word of one that was sending when it was looked at."""


@dataclass(frozen=True, slots=True)
class _Disbelief:
    """How often in a row somebody said that it fetches and brought nothing; when that was seen last, and its end."""

    times: int
    since_s: float
    until_s: float


class Sharing:
    """What this device leaves to others, and since when."""

    def __init__(
        self,
        electing: Electing,
        *,
        monotonic: Callable[[], float],
        draw: Draw,
        call_later: Callable[[float, Callable[[], None]], object],
        wake: Callable[[], None],
        ask: Callable[[str, Told], None],
        line: Line | None = None,
    ) -> None:
        """`wake` is called when this device may have to ask for something that it had left to others.

        `ask` takes from a device, by its name, what it has, and tells what came of that. `line` leads to the server.
        """
        self._electing = electing
        self._monotonic = monotonic
        self._draw = draw
        self._call_later = call_later
        self._wake = wake
        self._ask = ask
        self._waits: dict[Wanted, _Wait] = {}
        self._asked: dict[str, set[Wanted]] = {}
        self._away_until_s: dict[str, float] = {}
        self._idle_until_s: dict[str, float] = {}
        self._heads_until_s: dict[bytes, float] = {}
        self._yields_since_s: dict[bytes, float] = {}
        self._came_s: dict[bytes, float] = {}
        self._missing: set[Wanted] = set()
        self._missing_bytes: Counter[bytes] = Counter()
        self._disbelieved: dict[str, _Disbelief] = {}
        self._line = line
        self._watches: dict[str, Watch] = {}
        self._looks_after = False
        self.gives_up = False
        """Whether what this device is fetching may have come to another one, since it stood still here."""

    def leaves_any(self, spaces: Iterable[bytes]) -> bool:
        """Whether another device is named for any of these spaces."""
        if self._electing.looks:
            return True
        return bool(self._named_for(spaces) - {None, self._electing.name})

    def is_named(self, spaces: Iterable[bytes]) -> bool:
        """Whether this device is the one that asks for all who share one of these spaces, or for itself."""
        return not self._named_for(spaces).isdisjoint({None, self._electing.name})

    def _named_for(self, spaces: Iterable[bytes]) -> set[str | None]:
        """Who asks for all in each of these spaces; None where nobody else is there."""
        return {_named(self._ranking(space, content=False), None) for space in spaces}

    def is_mine(self, piece: Wanted, *, content: bool = False, lacked: bool = False) -> bool:
        """Whether this device is to exchange a piece of a space with the server now.

        `lacked` is what the server lacks: the other one may be long in sending it.
        """
        if self._electing.looks:
            return False
        wait = self._waits.get(piece)
        ranking = self._ranking(piece.space, content=content)
        if wait is not None and self._is_late(piece, wait):
            self._pass_over(wait)
            ranking = self._ranking(piece.space, content=content)
        named = _named(ranking, wait)
        if named is None or named == self._electing.name:
            return True
        if wait is not None and self._is_over(piece, wait):
            return True
        if wait is not None:
            wait.is_mine = False
        if wait is None or wait.of != named:
            self._begin(piece, named, ranking, content=content)
            self._waits[piece].lacked = lacked
        elif self._monotonic() >= wait.until_s:
            self._ask_for(piece, named)
        return False

    def held_up(self, heads: Iterable[Wanted]) -> bool:
        """Whether one of these spaces has had something new for too long; they are all heads that are left to others.

        It is counted by space: whoever goes on saying something there makes a new head each time.
        """
        before = self._heads_until_s
        waits = [(head.space, self._waits[head]) for head in heads if head in self._waits]
        self._heads_until_s = {space: before.get(space, wait.ends_s) for space, wait in waits}
        if is_over := any(until_s <= self._monotonic() for until_s in self._heads_until_s.values()):
            # all of them are asked for now
            self._heads_until_s = {}
        return is_over

    @asynccontextmanager
    async def fetching(self, links: Sequence[Link], *, of_all: Container[bytes]) -> AsyncIterator[list[Link]]:
        """Held while content comes from the server: the others wait for this device meanwhile. Gives what to fetch.

        Of several that are about to begin, each before it heard of the others, one goes on; they leave what is not in
        the spaces `of_all`.
        """
        if sum(link.size for link in links) < MUCH_BYTES:
            yield list(links)
            return
        self._electing.fetches(Stage.CLAIMS)
        try:
            await self._electing.hear_others()
            await self._electing.hear_neighbours()
            mine = [
                link
                for link in links
                if link.space in of_all
                or self.is_mine(Wanted(link.space, link.pack), content=True)
                or self._has_yielded_long(link.space)
            ]
            # for who is switched on later, too
            self._electing.fetches(Stage.FETCHES if mine else Stage.RESTS)
            if not mine:
                yield mine
                return
            async with background(self._go_on(mine, of_all)):
                yield mine
        finally:
            self._electing.fetches(Stage.RESTS)
            if self.gives_up:
                self.gives_up = False
                for link in links:
                    self.is_mine(Wanted(link.space, link.pack), content=True)

    async def _go_on(self, links: Sequence[Link], of_all: Container[bytes]) -> None:
        """Say each second that content comes, until it is another one's to fetch since it came no more."""
        if self._line is None:
            return
        now_s, traffic = self._monotonic(), self._line.traffic
        spaces = {link.space for link in links}
        shared = [link for link in links if link.space not in of_all]
        flow = Flow(traffic.bytes_in, now_s, now_s)
        is_second = any(self._electing.halted(space) for space in spaces)
        course = Course.BEGINS
        while True:
            self._electing.goes_on(course)
            await asyncio.sleep(PULSE_S)
            halted = max(self._electing.halted(space) for space in spaces)
            course = flow.look(self._monotonic(), traffic.bytes_in, waits=bool(traffic.waits), halted=halted)
            if course is Course.SLEPT:
                # what others have said meanwhile is read first
                await asyncio.sleep(LOOKS_S)
            is_doubted = flow.doubts or (is_second and course is Course.BEGINS)
            if is_doubted and (course is Course.SLEPT_LONG or self._comes_elsewhere(shared)):
                self.gives_up = True
                await self._line.renew()
                return

    @asynccontextmanager
    async def sending(self, size: int, moved: Callable[[], int]) -> AsyncIterator[None]:
        """Held while so many bytes go to the server, as others are told. `moved` counts them."""
        if size < MUCH_BYTES:
            yield
            return
        try:
            async with background(self._go_on_sending(moved)):
                yield
        finally:
            self._electing.fetches(Stage.RESTS)

    async def _go_on_sending(self, moved: Callable[[], int]) -> None:
        before, since_s = -1, 0.0
        while True:
            now_s = self._monotonic()
            if moved() != before:
                before, since_s = moved(), now_s
            self._electing.goes_on(Course.STALLS if now_s - since_s >= SENT_STALLS_S else Course.COMES)
            await asyncio.sleep(PULSE_S)

    def _comes_elsewhere(self, links: Iterable[Link]) -> bool:
        """Whether some of it comes to somebody that may be named for it, and was not left for long in vain."""
        pieces = {Wanted(link.space, link.pack) for link in links}
        over = {piece for piece, wait in self._waits.items() if piece in pieces and self._is_over(piece, wait)}
        for space in {piece.space for piece in pieces - over}:
            others = self._electing.comes_to(space).intersection(self._ranking(space, content=True))
            if others and not self._has_yielded_long(space):
                return True
        return False

    def look_again(self, after_s: float) -> None:
        """Be woken after a while: something was left to who is bringing it."""
        self._call_later(after_s, self._wake)

    def has_come(self, space: bytes) -> None:
        """The server has nothing more of a space than is here."""
        self._forget(piece for piece, wait in self._waits.items() if piece.space == space and not wait.content)

    def still_misses(self, sizes: Mapping[Wanted, int]) -> None:
        """All other content has come; `sizes` are the bytes of what has not, as far as they are known."""
        missing = set(sizes)
        come = [piece for piece, wait in self._waits.items() if wait.content and piece not in missing]
        # not packs, which are left for one sync each
        self._came_s.update((piece.space, self._monotonic()) for piece in come if piece in self._missing)
        for wait in (self._waits[piece] for piece in come if piece in self._missing):
            if wait.of not in wait.passed:
                # it was waited for with reason
                self._disbelieved.pop(wait.of, None)
        self._missing = missing
        self._missing_bytes = Counter()
        for piece, size in sizes.items():
            self._missing_bytes[piece.space] += size
        spaces = {piece.space for piece in missing}
        self._yields_since_s = {space: at_s for space, at_s in self._yields_since_s.items() if space in spaces}
        self._forget(come)

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _ranking(self, space: bytes, *, content: bool) -> Sequence[str]:
        """Who may be named: not who is away, nor who never has what the server has, but for what it is fetching.

        That it had nothing is what this device alone has seen: of two that are about to fetch, both must see the same.
        """
        now_s = self._monotonic()
        away = {name for name, until_s in self._away_until_s.items() if until_s > now_s}
        idle = {name for name, until_s in self._idle_until_s.items() if until_s > now_s}
        if content:
            idle = {name for name in idle if not self._electing.says_it_fetches(name)}
            idle |= {name for name, disbelief in self._disbelieved.items() if disbelief.until_s > now_s}
        return [name for name in self._electing.ranking(space) if name not in away | idle]

    def _begin(self, piece: Wanted, named: str, ranking: Sequence[str], *, content: bool) -> None:
        if len(self._waits) >= MAX_WAITING:
            now_s = self._monotonic()
            self._waits = {other: wait for other, wait in self._waits.items() if wait.until_s > now_s}
        turn = self._turn(ranking)
        before = self._waits.get(piece)
        now_s = self._monotonic()
        most_s = 2 * MOST_CONTENT_S if content else MOST_ENTRIES_S + TURN_S * turn
        wait = _Wait(
            named,
            until_s=0.0,
            content=content,
            watches=content and turn <= 1,
            ends_s=now_s + most_s if before is None else before.ends_s,
            since_s=now_s,
            passed=set() if before is None else before.passed,
            late=0 if before is None else before.late,
        )
        self._waits[piece] = wait
        if content and not self._looks_after:
            self._looks_after = True
            self._call_later(LOOKS_S, self._look_after)
        # the one that is asked may take as long as it likes
        most_s = self._content_s(piece.space, wait) if content else wait.ends_s - now_s
        self._call_later(most_s, partial(self._look_again, piece))
        self._have_patience(piece, wait, turn * self._patience_s(wait))

    def _turn(self, ranking: Sequence[str]) -> int:
        """How many of those that are named come before this device: it waits for so many times as long."""
        name = self._electing.name
        return min(max(ranking.index(name) if name in ranking else len(ranking), 1), MOST_TURNS)

    def _patience_s(self, wait: _Wait) -> float:
        return self._draw(*(CONTENT_PATIENCE_S if wait.content else ENTRIES_PATIENCE_S))

    def _have_patience(self, piece: Wanted, wait: _Wait, patience_s: float) -> None:
        """Wait for so long; who watches asks before, which counts for nothing while the other one answers."""
        wait.counts_s = self._monotonic() + patience_s
        self._wait_on(piece, wait, min(patience_s, self._draw(*WATCH_S)) if wait.watches else patience_s)

    def _wait_on(self, piece: Wanted, wait: _Wait, patience_s: float) -> None:
        wait.until_s = self._monotonic() + patience_s
        self._call_later(patience_s, partial(self._look_again, piece))

    def _look_again(self, piece: Wanted) -> None:
        """Ask the one that is waited for: what it brings is news, what it has not is no reason to ask the server."""
        wait = self._waits.get(piece)
        if wait is None:
            return
        if self._is_over(piece, wait) or self._is_late(piece, wait):
            self._wake()
            return
        if self._monotonic() < wait.until_s:
            return
        if self._is_sent(wait):
            self._wait_on(piece, wait, self._patience_s(wait))
            return
        if _named(self._ranking(piece.space, content=wait.content), wait) == wait.of:
            self._ask_for(piece, wait.of)
        else:
            self._wake()

    def _is_sent(self, wait: _Wait) -> bool:
        """Whether the server is being sent what it lacks: the other one has said so again."""
        before, wait.word = wait.word, self._electing.word_of(wait.of)
        return wait.lacked and self._electing.sends(wait.of) and wait.word not in {before, None}

    def _look_after(self) -> None:
        """See to those that are waited for for content: whether they go on, and whether they are still named."""
        pieces = {(wait.of, piece.space): piece for piece, wait in self._waits.items() if wait.content}
        names = {name for name, _ in pieces}
        self._watches = {name: watch for name, watch in self._watches.items() if name in names}
        self._looks_after = bool(pieces)
        says_again = False
        for (name, space), piece in pieces.items():
            wait, ranking = self._waits[piece], self._ranking(space, content=True)
            if _named(ranking, wait) != name:
                self._name_anew(name, space, ranking)
                continue
            word = self._electing.word_of(name)
            says_again = says_again or word is not None
            if name not in self._watches:
                self._watches[name] = Watch(self._draw(*SILENT_S) + NEXT_S * (self._turn(ranking) - 1))
            if self._watches[name].falls_silent(word):
                self._ask_for(piece, name)
        if pieces:
            self._call_later(LOOKS_S if says_again else LOOKS_SELDOM_S, self._look_after)

    def _name_anew(self, before: str, space: bytes, ranking: Sequence[str]) -> None:
        """Somebody that is waited for is named no more: the next one is waited for, or this device asks."""
        left = [(piece, wait) for piece, wait in self._waits.items() if wait.content and piece.space == space]
        for piece, wait in left:
            named = _named(ranking, wait)
            if wait.of != before or wait.is_mine:
                continue
            if named is None or named == self._electing.name:
                wait.is_mine = True
                self._wake()
            elif named != before:
                self._begin(piece, named, ranking, content=True)

    def _is_over(self, piece: Wanted, wait: _Wait) -> bool:
        """Whether a piece was left to others for so long that it is left to nobody."""
        nearer_s = self._came_s.get(piece.space, 0.0) + 2 * MOST_CONTENT_S if wait.content else 0.0
        return self._monotonic() >= max(wait.ends_s, nearer_s)

    def _is_late(self, piece: Wanted, wait: _Wait) -> bool:
        """Whether content was left to one for so long, and none came, that the next one is named."""
        since_s = max(wait.since_s, self._came_s.get(piece.space, 0.0))
        return wait.content and self._monotonic() - since_s >= self._content_s(piece.space, wait)

    def _content_s(self, space: bytes, wait: _Wait | None = None) -> float:
        """How long content of a space is left to one of those that are named."""
        disbelief = None if wait is None else self._disbelieved.get(wait.of)
        doublings = (0 if wait is None else wait.late) - (0 if disbelief is None else disbelief.times)
        thin_s = LEAST_CONTENT_S + self._missing_bytes[space] / SLOWEST_BYTES_S
        return min(thin_s * 2.0**doublings, MOST_CONTENT_S)

    def _pass_over(self, wait: _Wait) -> None:
        """Somebody was waited for for too long. One that said that it fetches is not believed for a while."""
        wait.passed.add(wait.of)
        wait.late += 1
        if not self._electing.says_it_fetches(wait.of):
            return
        now_s = self._monotonic()
        before = self._disbelieved.pop(wait.of, _Disbelief(0, 0.0, 0.0))
        # of many pieces that were left to it at the same time one counts
        times = before.times + (wait.since_s >= before.since_s)
        lasts_s = min(DISBELIEF_S * 2.0 ** (times - 1), MOST_DISBELIEF_S)
        self._disbelieved[wait.of] = _Disbelief(times, now_s, now_s + lasts_s)
        while len(self._disbelieved) > MAX_DISBELIEVED:
            del self._disbelieved[next(iter(self._disbelieved))]

    def _has_yielded_long(self, space: bytes) -> bool:
        """Whether what was about to be fetched was left to others that said so too, again and again, and none came."""
        now_s = self._monotonic()
        since_s = self._yields_since_s.setdefault(space, now_s)
        if now_s - max(since_s, self._came_s.get(space, 0.0)) >= min(2 * self._content_s(space), MOST_CONTENT_S):
            # what this device then brings itself is no reason to yield again
            self._yields_since_s[space] = since_s = -inf
        return since_s == -inf

    def _forget(self, pieces: Iterable[Wanted]) -> None:
        for piece in list(pieces):
            del self._waits[piece]

    # --- asking the one that is named ---------------------------------------------------------------------------------

    def _ask_for(self, piece: Wanted, named: str) -> None:
        if named in self._asked:
            self._asked[named].add(piece)
            return
        self._asked[named] = {piece}
        self._ask(named, partial(self._heard, named, self._monotonic()))

    def _heard(self, named: str, asked_s: float, found: Found) -> None:
        pieces = self._asked.pop(named, set())
        if found is Found.GONE:
            self._away_until_s[named] = self._monotonic() + AWAY_S
            self._wake()
            return
        waits = [(piece, self._waits[piece]) for piece in pieces if piece in self._waits]
        given_up = [self._gives_up(piece, wait, asked_s, found) for piece, wait in waits if wait.of == named]
        if any(given_up):
            self._wake()

    def _gives_up(self, piece: Wanted, wait: _Wait, asked_s: float, found: Found) -> bool:
        """Whether one waits no longer for somebody that answers."""
        now_s = self._monotonic()
        if self._is_over(piece, wait) or self._is_late(piece, wait):
            return True
        slow_s = SLOWNESS * (now_s - asked_s)
        if found is Found.NOTHING and now_s < wait.counts_s:
            self._wait_on(piece, wait, max(self._draw(*WATCH_S), slow_s))
            return False
        wait.vain = 0 if found is Found.SOMETHING else wait.vain + 1
        if wait.vain < (MOST_VAIN_AT_IT if wait.content and self._electing.is_at_it(wait.of) else MOST_VAIN):
            self._have_patience(piece, wait, max(self._patience_s(wait) * 2.0**wait.vain, slow_s))
            return False
        wait.passed.add(wait.of)
        if not wait.content:
            # it says that it reaches the server, which has had news for so long
            self._idle_until_s[wait.of] = now_s + IDLE_S
        return True


def _named(ranking: Sequence[str], wait: _Wait | None) -> str | None:
    """Who is named for a piece."""
    return next((name for name in ranking if wait is None or name not in wait.passed), None)
