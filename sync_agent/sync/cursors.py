"""Where this agent stands in the server's order of arrival, space by space, as marks in the store (R12).

A cursor is written in the transaction that admits what it stands for, so that it never says more than what is here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from typing import Final

from protocol import canonical
from protocol.errors import Code, PeerFault
from protocol.limits import CURSOR_HASH_BYTES, MAX_SPACES_PER_REQUEST
from protocol.messages.parts import SPACE_PREFIX_BYTES
from protocol.reconcile.checkpoint import Checkpoint, Cursor, standing_of
from protocol.replica.interfaces import EntryStore, Position
from sync_agent.machine.marks import CURSOR_MARKS

STANDING_FROM_SPACES: Final = 16
"""From so many spaces on their cursors are more than all the rest of a quiet sync."""
_MAX_VALUE_BYTES: Final = 64


def cursor_marks(checkpoint: Checkpoint) -> dict[str, bytes | None]:
    """The mark that says that this agent has all that led to `checkpoint`."""
    value = canonical.encode([checkpoint.count, checkpoint.chain])
    return {CURSOR_MARKS + checkpoint.space.hex(): value}


def without_cursor(space: bytes) -> dict[str, bytes | None]:
    """The mark that says that nothing is known of a space any more."""
    return {CURSOR_MARKS + space.hex(): None}


async def read_cursors(store: EntryStore) -> dict[bytes, Position]:
    """Each space with what the server's store was seen to hold; one that cannot be read counts as none."""
    found = {}
    for key, value in (await store.marks(CURSOR_MARKS)).items():
        try:
            parts = canonical.decode(value, max_bytes=_MAX_VALUE_BYTES)
        except PeerFault:
            continue
        match parts:
            case [int(count), bytes(chain)] if count > 0 and len(chain) == CURSOR_HASH_BYTES:
                found[bytes.fromhex(key.removeprefix(CURSOR_MARKS))] = Position(count, chain)
            case _:
                continue
    return found


def shown_cursors(
    spaces: Sequence[bytes],
    known: Mapping[bytes, Position],
    complete: Iterable[bytes],
    learned: Sequence[bytes] = (),
) -> tuple[Cursor, ...]:
    """The cursors of a request: by the first 4 bytes of their space where that is enough to tell it from the others.

    `learned` are the spaces in the order in which they became known here (`Door.spaces`). Of more than a request may
    hold the first are shown: nobody makes a class now that comes before those that there were.
    """
    whole = set(complete)
    prefixes = Counter(space[:SPACE_PREFIX_BYTES] for space in spaces)
    shown = []
    for space in _first_of([space for space in spaces if space in known], learned):
        position = known[space]
        prefix = space[:SPACE_PREFIX_BYTES]
        name = prefix if prefixes[prefix] == 1 else space
        shown.append(Cursor(name, position.count, position.chain, space in whole))
    return tuple(shown)


def _first_of(spaces: Sequence[bytes], learned: Sequence[bytes]) -> Sequence[bytes]:
    if len(spaces) <= MAX_SPACES_PER_REQUEST:
        return spaces
    places = {space: place for place, space in enumerate(learned)}
    return sorted(spaces, key=lambda space: places.get(space, len(places)))[:MAX_SPACES_PER_REQUEST]


def check_named(spaces: Sized) -> None:
    """Raise `PeerFault` for more spaces that the other side alone names than a request may hold: some are invented."""
    if len(spaces) > MAX_SPACES_PER_REQUEST:
        raise PeerFault(Code.MALFORMED, "more classes were named than there can be", spaces=len(spaces))


def standing(spaces: Sequence[bytes], known: Mapping[bytes, Position], complete: Collection[bytes]) -> bytes | None:
    """What is said in place of many cursors by who misses nothing; None where they are few, or something is missing."""
    if len(spaces) < STANDING_FROM_SPACES or not all(space in complete for space in spaces):
        return None
    return standing_of((space, known[space].count, known[space].chain) for space in spaces if space in known)
