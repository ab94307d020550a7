"""Devices of a class that leave to one of them what the server is asked, without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protocol.messages.parts import Wanted
from sync_agent.lan.finding.neighbour_choice import ranking_of
from sync_agent.sync.electing import Found, Stage, Told
from sync_agent.sync.pulse import LOOKS_S, Course, Line
from sync_agent.sync.sharing import Sharing
from sync_agent.transport.interface import Traffic

SPACE = b"s" * 32
PIECE = Wanted(SPACE, b"p" * 32)
LESSON_BYTES, FILM_BYTES = 20_000_000, 1 << 30


@dataclass
class Room:
    """Devices of a class by name, with one clock. `asked` holds who was asked, and what to tell of that."""

    present: set[str]
    now_s: float = 0.0
    looks: bool = False
    at_it: set[str] = field(default_factory=set)
    about_to: set[str] = field(default_factory=set)
    sends: set[str] = field(default_factory=set)
    speaks: set[str] = field(default_factory=set)
    """Who says again and again that it is at it."""
    words: int = 0
    comes: set[str] = field(default_factory=set)
    """To whom content comes."""
    courses: list[Course] = field(default_factory=list)
    hears: Callable[[], None] = lambda: None
    waking: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    asked: list[tuple[str, Told]] = field(default_factory=list)
    said: list[Stage] = field(default_factory=list)
    woken: int = 0

    def device(self, name: str, missing_bytes: int = FILM_BYTES, line: Line | None = None) -> Sharing:
        sharing = Sharing(
            _Seen(name, self),
            monotonic=lambda: self.now_s,
            draw=lambda low, high: (low + high) / 2,
            call_later=lambda delay_s, call: self.waking.append((self.now_s + delay_s, call)),
            wake=self._wake,
            ask=lambda whom, told: self.asked.append((whom, told)),
            line=line,
        )
        sharing.still_misses({PIECE: missing_bytes})
        return sharing

    def in_order(self) -> list[str]:
        return ranking_of(SPACE, self.present)

    def passes_slowly(self, duration_s: float) -> None:
        """The same, for what looks again and again."""
        for _ in range(round(duration_s / LOOKS_S)):
            self.passes(LOOKS_S)

    def passes(self, duration_s: float) -> None:
        self.now_s += duration_s
        due = [call for at_s, call in self.waking if at_s <= self.now_s]
        self.waking = [(at_s, call) for at_s, call in self.waking if at_s > self.now_s]
        for call in due:
            call()

    def answer(self, found: Found) -> str:
        """Tell of the one that was asked; who that was."""
        ((whom, told),) = self.asked
        self.asked.clear()
        told(found)
        return whom

    def _wake(self) -> None:
        self.woken += 1


@dataclass
class _Seen:
    name: str
    room: Room

    def ranking(self, space: bytes) -> Sequence[str]:
        others = self.room.present - {self.name}
        return ranking_of(space, [self.name, *others]) if others else []

    @property
    def looks(self) -> bool:
        return self.room.looks

    def is_at_it(self, name: str) -> bool:
        return name in self.room.at_it

    def says_it_fetches(self, name: str) -> bool:
        return name in self.room.at_it | self.room.about_to

    def fetches(self, stage: Stage) -> None:
        self.room.said.append(stage)

    def goes_on(self, course: Course) -> None:
        self.room.courses.append(course)

    def word_of(self, name: str) -> int | None:
        self.room.words += name in self.room.speaks
        return self.room.words if name in self.room.at_it | self.room.sends else None

    def sends(self, name: str) -> bool:
        return name in self.room.sends

    def comes_to(self, space: bytes) -> set[str]:
        del space
        return self.room.comes

    def halted(self, space: bytes) -> int:
        del space
        return len(self.room.at_it - self.room.speaks)

    async def hear_neighbours(self) -> None:
        pass

    async def hear_others(self) -> None:
        self.room.hears()


@dataclass
class Cable:
    """A line over which content is waited for; the test says how much has come."""

    traffic: Traffic = field(default_factory=lambda: Traffic(waits=1))
    renewed: int = 0

    async def renew(self) -> None:
        self.renewed += 1
