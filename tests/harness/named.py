"""Who is named to ask the server for a whole school, where a test says who it is (docs/protocol.md, "One download")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_agent.sync.electing import Found, Stage, Told
from sync_agent.sync.pulse import Course
from sync_agent.sync.sharing import Sharing


@dataclass
class Named:
    """Names devices for every space, in this order; the clock is the test's, and so is what comes of asking."""

    ranking: list[str]
    now_s: float = 0.0
    woken: list[float] = field(default_factory=list)
    asked: list[Told] = field(default_factory=list)
    at_it: set[str] = field(default_factory=set)
    """Who says that it fetches."""

    def sharing(self, name: str) -> Sharing:
        return Sharing(
            _Seen(name, self),
            monotonic=lambda: self.now_s,
            draw=lambda low, _high: low,
            call_later=lambda delay_s, _call: self.woken.append(delay_s),
            wake=lambda: None,
            ask=lambda _name, told: self.asked.append(told),
        )

    def tell(self, found: Found) -> None:
        """What came of the question that was asked."""
        (told,) = self.asked
        self.asked.clear()
        told(found)


@dataclass
class _Seen:
    name: str
    named: Named
    looks: bool = False

    def ranking(self, space: bytes) -> Sequence[str]:
        del space
        return self.named.ranking

    def is_at_it(self, name: str) -> bool:
        return name in self.named.at_it

    def says_it_fetches(self, name: str) -> bool:
        return name in self.named.at_it

    def fetches(self, stage: Stage) -> None:
        pass

    def goes_on(self, course: Course) -> None:
        pass

    def word_of(self, name: str) -> int | None:
        del name
        return None

    def sends(self, name: str) -> bool:
        del name
        return False

    def comes_to(self, space: bytes) -> set[str]:
        del space
        return set()

    def halted(self, space: bytes) -> int:
        del space
        return 0

    async def hear_neighbours(self) -> None:
        pass

    async def hear_others(self) -> None:
        pass
