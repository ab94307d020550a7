"""What is said for want of room, here and there: a full disk keeps nobody from hearing (docs/adr/0587)."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.errors import Code, LocalFailure, NoAnswer, RelaisError
from protocol.messages.errors import error_from
from protocol.messages.parts import Refusal


def is_for_want_of_room(error: RelaisError) -> bool:
    """Whether a disk is full, here or where somebody was asked."""
    return isinstance(error, LocalFailure | NoAnswer) and error.code is Code.DISK_FULL


def no_room_there(refused: Iterable[Refusal]) -> RelaisError | None:
    """What is to be told where entries, or packs, found no room at who answers: as if that had been the answer."""
    if any(refusal.code is Code.DISK_FULL for refusal in refused):
        return error_from(Code.DISK_FULL, "the disk is full")
    return None
