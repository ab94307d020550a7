"""Parts of downloads and uploads with which nobody goes on: they go once they have lain so for a week (docs/adr/0228).

Of what a part of a pack holds nobody can say whose it is. docs/protocol.md, "Erasure".

Rules:
- for how long one has lain, this replica watched, as it does of all that waits (`pace`); the dates of files say nothing
  here, since a computer without a battery for its clock begins each morning in another year;
- one that has grown since the last look begins anew, and so does one where the clock was set back;
- what this program is adding to is left alone, by a clock that nobody sets; an erasure takes all others at once
  (`ContentStore.forget`);
- what has lain is noted before anything goes: a part that cannot be removed keeps no other from growing old.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Final

from blake3 import blake3

from protocol.limits import ERASURE_DELAY_MS
from protocol.replica.interfaces import ContentStore, EntryStore
from protocol.replica.lain_since import LainSince

LEFT_MARK: Final = "parts-left"
"""→ for each part, 8 bytes of ms since when it has lain as it is, and the first 8 bytes of the hash of what that is."""
LIFETIME_MS: Final = ERASURE_DELAY_MS
"""What nobody has gone on with for so long is given up."""
BEING_WRITTEN_S: Final = 600.0
"""What this program has added to within so long is on its way."""
_NAME_BYTES: Final = 8
_LAIN: Final = LainSince(LEFT_MARK, _NAME_BYTES)


class BeingWritten:
    """The parts to which one program is adding: of those of earlier ones it knows nothing, and they are not."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic` is in seconds, and nobody sets it."""
        self._monotonic = monotonic
        self._added_to_s: dict[str, float] = {}  # the last to be added to stands last

    def note(self, part: str) -> None:
        """Something is about to be added to a part."""
        self._added_to_s.pop(part, None)
        self._added_to_s[part] = self._monotonic()
        for name in list(takewhile(lambda name: name not in self, self._added_to_s)):
            del self._added_to_s[name]

    def __contains__(self, part: str) -> bool:
        """Whether something was added to it within `BEING_WRITTEN_S`."""
        at_s = self._added_to_s.get(part)
        return at_s is not None and self._monotonic() - at_s < BEING_WRITTEN_S


async def let_go_of_left(store: EntryStore, content: ContentStore, now_ms: int) -> None:
    """Look, and let go of what has lain. Raises `LocalFailure`; what it was cut off in is done by the next look."""
    lying = {_key(name, size): name for name, size in (await content.lying_parts()).items()}
    since = await _LAIN.look(store, lying, now_ms)
    if old := [lying[key] for key, at_ms in since.items() if at_ms <= now_ms - LIFETIME_MS]:
        await content.drop_lying(old)


async def left_waited_less(store: EntryStore, leapt_ms: int) -> dict[str, bytes | None]:
    """The mark to note when the own clock has leapt by so many ms."""
    return await _LAIN.less(store, leapt_ms)


async def are_parts_left(store: EntryStore, content: ContentStore) -> bool:
    """Whether a look has anything to note of parts."""
    return bool(await content.lying_parts()) or await store.mark(LEFT_MARK) is not None


def _key(name: str, size: int) -> bytes:
    """What tells a part as it is from itself when it has grown."""
    return blake3(f"{name} {size}".encode()).digest(length=_NAME_BYTES)
