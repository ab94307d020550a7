"""Who may ask the server for all, as they are seen: what `sharing` needs of the school's network (R18).

docs/protocol.md, "One download".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol

from sync_agent.sync.pulse import Course


class Found(Enum):
    """What came of asking a device."""

    GONE = auto()
    NOTHING = auto()
    SOMETHING = auto()


class Stage(Enum):
    """How far a device is with fetching much: not at all, about to, in the middle of it."""

    RESTS = auto()
    CLAIMS = auto()
    FETCHES = auto()


Told = Callable[[Found], None]


class Electing(Protocol):
    """What names the fetcher of a piece (`neighbourhood.Neighbourhood`)."""

    name: str

    @property
    def looks(self) -> bool:
        """Whether it is not known yet who is there."""
        ...

    def ranking(self, space: bytes) -> Sequence[str]:
        """The devices that may ask for all who share `space`, as they are named; none if no other is there."""
        ...

    def is_at_it(self, name: str) -> bool:
        """Whether another device says that it is in the middle of fetching much."""
        ...

    def says_it_fetches(self, name: str) -> bool:
        """Whether another device says that it is fetching much, or about to."""
        ...

    def fetches(self, stage: Stage) -> None:
        """Tell the others how far this device is with fetching much."""
        ...

    def goes_on(self, course: Course) -> None:
        """Tell the others again that this device is at it, or that its line stands still.

        Where it does not fetch it is sending.
        """
        ...

    def word_of(self, name: str) -> int | None:
        """Another number whenever a device has said again that it is at it; None of one that is not, or never does.

        To fetch, or to send.
        """
        ...

    def sends(self, name: str) -> bool:
        """Whether another device says that it is sending much to the server."""
        ...

    def comes_to(self, space: bytes) -> set[str]:
        """The other devices sharing `space` that have said a moment ago that they are at it, and that content comes."""
        ...

    def halted(self, space: bytes) -> int:
        """How many that share `space` were at it, and say that their line stands still, or nothing any more."""
        ...

    async def hear_neighbours(self) -> None:
        """Let neighbours bring what they have told of, or may: return when they have begun, or after a moment."""
        ...

    async def hear_others(self) -> None:
        """Ask who are there what they are at; return when all have said so, or after a while."""
        ...


class Reaching(Protocol):
    """Who is told whether the server answers."""

    def reached_server(self) -> None:
        """It has just answered."""
        ...

    def lost_server(self) -> None:
        """It does not answer."""
        ...
