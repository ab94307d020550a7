"""One school, one download: who of the devices that are here asks the server, and who waits for the others (R18).

Rules:
- of the members that say that they reach the server, one is named for each space by rendezvous hashing; it asks the
  server for what is new there, entries and content, and brings up what others left; the others take it from neighbours;
- who goes is no longer among them: the next one is named at once;
- whoever has waited in vain for a moment, drawn anew for each piece, asks for itself: entries soon, content later,
  because it may be long on its way; who would be named later waits longer, so that a slow hour does not send everybody;
- the next one takes content with the entries for which it asks in that way; all others leave that to the two;
- with nobody else here each device asks for itself.

docs/protocol.md, "One download".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from protocol.messages import Wanted
from sync_agent.scheduler import Draw

ENTRIES_PATIENCE_S: Final = (2.0, 5.0)
CONTENT_PATIENCE_S: Final = (90.0, 150.0)
MOST_TURNS: Final = 6
MAX_WAITING: Final = 20_000


class Electing(Protocol):
    """What names the fetcher of a piece (`neighbourhood.Neighbourhood`)."""

    name: str

    def fetcher(self, space: bytes) -> str | None:
        """The name of the device that asks for all who share `space`; None if nobody else is there."""
        ...

    def turn(self, space: bytes) -> int:
        """How many devices are named for `space` before this one."""
        ...


class Reaching(Protocol):
    """Who is told whether the server answers."""

    def reached_server(self) -> None:
        """It has just answered."""
        ...

    def lost_server(self) -> None:
        """It does not answer."""
        ...


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
    ) -> None:
        """`wake` is called when this device may have to ask for something that it had left to others."""
        self._electing = electing
        self._monotonic = monotonic
        self._draw = draw
        self._call_later = call_later
        self._wake = wake
        self._until_s: dict[Wanted, float] = {}

    def leaves_any(self, spaces: Iterable[bytes]) -> bool:
        """Whether another device is named for any of these spaces."""
        named = {self._electing.fetcher(space) for space in spaces}
        return bool(named - {None, self._electing.name})

    def takes_content(self, piece: Wanted) -> bool:
        """Whether to fetch a pack with the entries that name it, or to leave it to who is named before this device."""
        return self._electing.turn(piece.space) <= 1 or self.is_mine(piece, content=True)

    def is_mine(self, piece: Wanted, *, content: bool = False) -> bool:
        """Whether this device is to exchange a piece of a space with the server now."""
        fetcher = self._electing.fetcher(piece.space)
        if fetcher is None or fetcher == self._electing.name:
            self._until_s.pop(piece, None)
            return True
        now_s = self._monotonic()
        until_s = self._until_s.get(piece)
        if until_s is None:
            if len(self._until_s) >= MAX_WAITING:
                self._until_s = {other: at_s for other, at_s in self._until_s.items() if at_s > now_s}
            turn = min(max(self._electing.turn(piece.space), 1), MOST_TURNS)
            patience_s = turn * self._draw(*(CONTENT_PATIENCE_S if content else ENTRIES_PATIENCE_S))
            self._until_s[piece] = now_s + patience_s
            self._call_later(patience_s, self._wake)
            return False
        return now_s >= until_s
