from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.messages import Wanted
from sync_agent.neighbour_choice import fetcher_of, ranking_of
from sync_agent.sharing import ENTRIES_PATIENCE_S, Sharing

PIECE = Wanted(b"s" * 32, b"p" * 32)


@dataclass
class Room:
    """Devices of a class by name, with one clock."""

    present: set[str]
    now_s: float = 0.0
    waking: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    woken: int = 0

    def device(self, name: str) -> Sharing:
        return Sharing(
            _Seen(name, self),
            monotonic=lambda: self.now_s,
            draw=lambda low, high: (low + high) / 2,
            call_later=lambda delay_s, call: self.waking.append((self.now_s + delay_s, call)),
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1


@dataclass
class _Seen:
    name: str
    room: Room

    def fetcher(self, space: bytes) -> str | None:
        others = self.room.present - {self.name}
        return fetcher_of(space, [self.name, *others]) if others else None

    def turn(self, space: bytes) -> int:
        return ranking_of(space, self.room.present | {self.name}).index(self.name)


def test_exactly_one_of_a_class_asks_the_server_for_a_piece() -> None:
    room = Room({f"pc{number}" for number in range(30)})
    asking = [name for name in room.present if room.device(name).is_mine(PIECE)]
    assert len(asking) == 1


def test_a_device_alone_asks_for_itself() -> None:
    room = Room({"pc1"})
    alone = room.device("pc1")
    assert alone.is_mine(PIECE)


def test_when_the_one_that_was_named_goes_the_next_is_named_at_once() -> None:
    room = Room({f"pc{number}" for number in range(9)})
    devices = {name: room.device(name) for name in room.present}
    (first,) = [name for name, device in devices.items() if device.is_mine(PIECE)]
    room.present.discard(first)
    assert len([name for name in room.present if devices[name].is_mine(PIECE)]) == 1


def test_whoever_waits_in_vain_is_woken_and_asks_after_a_few_seconds() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    waiting = next(device for name in sorted(room.present) if not (device := room.device(name)).is_mine(PIECE))
    room.now_s = ENTRIES_PATIENCE_S[0] - 0.1
    assert not waiting.is_mine(PIECE)
    ((due_s, wake),) = [(due_s, call) for due_s, call in room.waking if due_s][-1:]
    room.now_s = due_s
    wake()
    assert room.woken == 1
    assert due_s <= ENTRIES_PATIENCE_S[1]
    assert waiting.is_mine(PIECE)


def test_content_is_waited_for_longer_than_entries() -> None:
    room = Room({"pc1", "pc2", "pc3"})
    waiting = next(
        device for name in sorted(room.present) if not (device := room.device(name)).is_mine(PIECE, content=True)
    )
    room.now_s = 60.0
    assert not waiting.is_mine(PIECE, content=True)
    room.now_s = 200.0
    assert waiting.is_mine(PIECE, content=True)
