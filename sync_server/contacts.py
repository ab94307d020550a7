"""When each device was last heard of: a cache, in memory, written to marks now and then (R14).

A quiet sync must not cost a flush of the disk, so what was heard in the last seconds before a power cut may be
forgotten; the device calls again. Nothing else depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import PeerFault
from protocol.fields import Fields, compact
from protocol.limits import MAX_NAME_CHARS, MAX_REGISTER_BYTES
from protocol.replica.interfaces import EntryStore
from protocol.replica.serving import Contact

DIRECT: Final = "direct"
FLUSH_INTERVAL_S: Final = 10.0

_MARKS: Final = "device/"
_VIA_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Heard:
    """What is remembered of a device: when it enrolled, called, last held all that we hold, and the name it gave."""

    name: str | None = None
    enrolled_ms: int | None = None
    seen_ms: int | None = None
    current_ms: int | None = None
    via: str | None = None

    def encode(self) -> bytes:
        """To a mark."""
        return encode(
            compact(name=self.name, enrolled=self.enrolled_ms, seen=self.seen_ms, current=self.current_ms, via=self.via)
        )

    @classmethod
    def parse(cls, data: bytes) -> Heard:
        """From a mark; what cannot be read says nothing."""
        try:
            fields = Fields(decode(data, max_bytes=MAX_REGISTER_BYTES), "what is known of a device")
            return cls(
                fields.text_or_none("name", MAX_NAME_CHARS),
                fields.count_or_none("enrolled"),
                fields.count_or_none("seen"),
                fields.count_or_none("current"),
                fields.text_or_none("via", _VIA_CHARS),
            )
        except PeerFault:
            return cls()


class Contacts:
    """The devices heard of. `observe_lag` is told how many ms had passed when a device was current again."""

    def __init__(self, store: EntryStore) -> None:
        """Over one replica's marks; `load` reads them."""
        self.observe_lag: Callable[[int], None] = _ignore
        self._store = store
        self._heard: dict[bytes, Heard] = {}
        self._unsaved: set[bytes] = set()

    async def load(self) -> None:
        """Read what was remembered."""
        marks = await self._store.marks(_MARKS)
        self._heard = {bytes.fromhex(key[len(_MARKS) :]): Heard.parse(data) for key, data in marks.items()}

    def of(self, device: bytes) -> Heard:
        """What is remembered of a device."""
        return self._heard.get(device, Heard())

    def note(self, contact: Contact) -> None:
        """A device has called."""
        before = self.of(contact.device)
        current_ms = contact.at_ms if contact.current else before.current_ms
        since_ms = before.enrolled_ms if before.current_ms is None else before.current_ms
        if contact.current and since_ms is not None:
            self.observe_lag(max(contact.at_ms - since_ms, 0))
        self._keep(contact.device, replace(before, seen_ms=contact.at_ms, current_ms=current_ms, via=DIRECT))

    def note_enrolment(self, device: bytes, name: str, at_ms: int) -> None:
        """A device has enrolled under a name."""
        before = self.of(device)
        enrolled_ms = at_ms if before.enrolled_ms is None else before.enrolled_ms
        self._keep(device, replace(before, name=name, enrolled_ms=enrolled_ms, seen_ms=at_ms, via=DIRECT))

    async def flush(self) -> None:
        """Write what is new. Raises `LocalFailure`; then it stays to be written."""
        devices, self._unsaved = self._unsaved, set()
        if not devices:
            return
        try:
            await self._store.set_marks({f"{_MARKS}{device.hex()}": self._heard[device].encode() for device in devices})
        except BaseException:
            self._unsaved |= devices
            raise

    def _keep(self, device: bytes, heard: Heard) -> None:
        self._heard[device] = heard
        self._unsaved.add(device)


def _ignore(_lag_ms: int) -> None:
    """Nobody counts."""
