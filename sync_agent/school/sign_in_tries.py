"""How long somebody waits between two tries to sign in on this machine, and when no more are taken.

Rules:
- counted per pupil, never per machine: two dozen classmates share it;
- a try is counted, durably, before it is looked at: cutting the power gives nobody another one;
- three may go wrong at once; then one waits, longer each time; the tenth locks, until a teacher says otherwise;
- a clock that was set back makes nobody wait longer than the rule says; whoever may set it forward gains waits, never
  tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from protocol.canonical import decode, encode
from protocol.errors import PeerFault
from protocol.fields import Fields
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import ID_BYTES

_FREE_TRIES: Final = 3
_WAITS_S: Final = (15, 30, 60, 120, 300)
_MAX_MARK_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Tries:
    """How often the verifier of this entry was missed here in a row, and when last."""

    entry: bytes
    count: int = 0
    last_ms: int = 0

    @property
    def is_locked(self) -> bool:
        """Whether no more tries are taken here."""
        return self.count >= MAX_SIGN_IN_TRIES

    def wait_ms(self, now_ms: int) -> int:
        """How long until the next try may be made; 0 for now."""
        if self.count < _FREE_TRIES:
            return 0
        wait_ms = 1_000 * _WAITS_S[min(self.count - _FREE_TRIES, len(_WAITS_S) - 1)]
        return max(0, wait_ms - max(0, now_ms - self.last_ms))

    def missed(self, now_ms: int) -> Tries:
        """After one more."""
        return Tries(self.entry, self.count + 1, now_ms)

    @classmethod
    def of(cls, mark: bytes | None, entry: bytes) -> Self:
        """What a mark says of tries at this entry's verifier: another one begins anew."""
        try:
            fields = Fields(decode(mark or b"", max_bytes=_MAX_MARK_BYTES), "tries")
            found = cls(fields.octets("entry", ID_BYTES), fields.count("count"), fields.count("at"))
        except PeerFault:
            return cls(entry)
        return found if found.entry == entry else cls(entry)

    def encode(self) -> bytes:
        """To a mark."""
        return encode({"entry": self.entry, "count": self.count, "at": self.last_ms})
