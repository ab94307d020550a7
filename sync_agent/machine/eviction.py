"""What goes first when room is needed: pure rules over what each piece of content is worth to this device (R8).

Rules:
- packs that nothing names go first, then content in the order of `Worth`, and of equal worth what was used longest ago;
- what is `KEPT` never goes: what this device wrote (a hand-in until its teacher's receipt), what is not sent yet, every
  hand-in whose receipts are awaited, whoever made it, and what this device may hold the last copy of (`sync.worth`);
- what people are shown goes only for something that was used later, so that content never pushes itself out in turns;
- a hand-in of this device's goes like one that its teacher has opened once it has known of the server's receipt for
  thirty days that it has watched, and by the server's time, and for as long of a backup that holds it too
  (`backups_said`): two places have it then. What time a receipt says of itself proves nothing, and a clock that was
  wrong neither; but of what a backup was begun before it holds nothing;
- with another store of the server's all of that begins anew: its backups hold nothing that it was not given
  (docs/adr/0254);
- packs go whole. One goes once nothing of what it holds is to stay;
- of content that something names so much goes in a day, and no more: `left_today`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from protocol.clock import DAY_MS
from protocol.limits import GiB
from protocol.replica.content.holdings import Need

MOST_A_DAY_BYTES: Final = GiB
MOST_A_DAY_SHARE: Final = 10
OPENED_TIMES: Final = 4
_SCHOOL_YEAR_BEGINS: Final = (8, 15)
_TIME_BYTES: Final = 8
SEEN_BYTES: Final = 2 * _TIME_BYTES


class Worth(IntEnum):
    """How much a piece of content is worth; the least goes first."""

    WITHDRAWN = 0
    SUPERSEDED = 1
    RECEIVED = 2
    """A hand-in of this device's that its teacher has opened, or that the server and a backup have held for long."""
    PAST_YEAR = 3
    SHOWN = 4
    KEPT = 5


NOTHING: Final = (Worth.WITHDRAWN, 0)
"""The rank below which no content is, only what nothing names."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of content that is here, when it was last used (or came to be), and the packs that it needs."""

    need: Need
    worth: Worth
    used_ms: int
    packs: frozenset[bytes]

    @property
    def rank(self) -> tuple[Worth, int]:
        """What goes before what."""
        return self.worth, self.used_ms


@dataclass(frozen=True, slots=True)
class Plan:
    """Packs that go, the bytes that they free, and the content that is not whole any more then."""

    packs: tuple[bytes, ...] = ()
    freed_bytes: int = 0
    gone: tuple[Piece, ...] = ()


def plan(sizes: Mapping[bytes, int], pieces: Collection[Piece], wanted_bytes: int, before: tuple[Worth, int]) -> Plan:
    """What goes to free `wanted_bytes`, if that can be, of pieces that rank below `before`; else as much as can go.

    `sizes` are those of all packs that may go at all.
    """
    holders: dict[bytes, int] = dict.fromkeys(sizes, 0)
    for piece in pieces:
        for pack in piece.packs & holders.keys():
            holders[pack] += 1
    packs: list[bytes] = []
    freed = 0
    left: list[Piece] = []

    def free(found: Iterable[bytes]) -> None:
        nonlocal freed
        for pack in sorted(found, key=lambda pack: (-sizes[pack], pack)):
            if freed < wanted_bytes:
                packs.append(pack)
                freed += sizes[pack]

    free(pack for pack, count in holders.items() if count == 0)
    for piece in sorted(pieces, key=lambda piece: piece.rank):
        if freed >= wanted_bytes or piece.rank >= before or piece.worth is Worth.KEPT:
            break
        left.append(piece)
        for pack in piece.packs & holders.keys():
            holders[pack] -= 1
        free(pack for pack in piece.packs & holders.keys() if holders[pack] == 0)
    gone = frozenset(packs)
    return Plan(tuple(packs), freed, tuple(piece for piece in left if not piece.packs.isdisjoint(gone)))


@dataclass(frozen=True, slots=True)
class Seen:
    """When this device first knew of something at the server: in time that it watched, and by the server's.

    Earlier versions noted the own clock's; it begins anew with the store (`with_this_store`) as this version met it.
    """

    own_ms: int
    server_ms: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From a mark."""
        return cls(int.from_bytes(data[:_TIME_BYTES], "big"), int.from_bytes(data[_TIME_BYTES:], "big"))

    def encode(self) -> bytes:
        """For a mark."""
        return self.own_ms.to_bytes(_TIME_BYTES, "big") + self.server_ms.to_bytes(_TIME_BYTES, "big")


def with_this_store(seen: Seen | None, since: Seen | None) -> Seen | None:
    """From when it counts that this device saw something: not from before it met the store that the server has now."""
    if seen is None or since is None:
        return None
    return since if seen.own_ms <= since.own_ms else seen


def dated_ms(at_ms: int, reference_ms: int) -> int:
    """What a date counts as that somebody gave their content: what lies more than a day ahead is none."""
    return at_ms if at_ms <= reference_ms + DAY_MS else 0


def left_today(gone_bytes: int, held_bytes: int, *, is_opened: bool) -> int:
    """How much may make way today where so much has, and so much is here: a tenth of it, of little a gigabyte.

    Four times as much while somebody waits for what they have opened: it may be that nothing stands behind that either.
    """
    most = max(MOST_A_DAY_BYTES, held_bytes // MOST_A_DAY_SHARE)
    return max(0, (OPENED_TIMES * most if is_opened else most) - gone_bytes)


def year_began_ms(today: dt.date) -> int:
    """When the school year of a day began."""
    year = today.year if (today.month, today.day) >= _SCHOOL_YEAR_BEGINS else today.year - 1
    return int(dt.datetime(year, *_SCHOOL_YEAR_BEGINS, tzinfo=dt.UTC).timestamp() * 1000)


def is_past(year: str | None, today: dt.date) -> bool:
    """Whether a school year (`2026-2027`) is over; never one that is no year, whatever whoever made the class wrote."""
    ends = int(year[-4:]) if year is not None and year[-4:].isdecimal() else 0
    return ends >= dt.MINYEAR and today >= dt.date(ends, *_SCHOOL_YEAR_BEGINS)
