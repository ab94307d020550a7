"""What a device keeps of the keys that it had before it was found to be a copy (docs/protocol.md, "Clones").

Rules:
- their public signing key, which says that what they wrote is this device's own, and the X25519 seed, which opens what
  was sealed to them; nothing else: the machine that was copied, or the first of an image, goes on with these keys, and
  whoever has one copy's disk would sign as that one, after each copy was cut off (docs/adr/0339);
- a file that an earlier version wrote holds whole keys: they are let go of at the next start. The keys in use lie
  elsewhere (`keys/device`, `keys/next`), so nothing that was begun needs those.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from protocol import canonical
from protocol.errors import LocalFailure, RelaisError
from protocol.fields import Fields
from protocol.identity import KEY_BYTES, SEED_BYTES, AgreementKey, DeviceKeys
from protocol.limits import MAX_DEVICE_KEYS_BYTES, MAX_FORMER_KEYS, KiB
from protocol.replica.private_file import write_private
from sync_agent.machine.enrolled import FORMER_KEYS_FILE

_FORMAT: Final = 1
_MOST_BYTES: Final = MAX_FORMER_KEYS * MAX_DEVICE_KEYS_BYTES + KiB

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FormerKey:
    """Who a device was, by its Ed25519 public key, and what opens what was sealed to it then."""

    device: bytes
    agreement: AgreementKey

    @classmethod
    def of(cls, keys: DeviceKeys) -> Self:
        """What is kept of keys."""
        return cls(keys.signing.public, keys.agreement)

    def to_bytes(self) -> bytes:
        """As canonical msgpack."""
        return canonical.encode({"format": _FORMAT, "device": self.device, "agreement": self.agreement.seed})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote, or an earlier version: whole keys. Raises `PeerFault`, `LocalFailure`."""
        row = canonical.decode(data, max_bytes=MAX_DEVICE_KEYS_BYTES)
        if not isinstance(row, dict) or row.get("format") != _FORMAT:
            return cls.of(DeviceKeys.from_bytes(data))
        fields = Fields(row, "a former key")
        return cls(fields.octets("device", KEY_BYTES), AgreementKey(fields.octets("agreement", SEED_BYTES)))


def former_keys(folder: Path) -> list[FormerKey]:
    """What the device of DIR had before, the oldest first; what cannot be read has nothing to say."""
    try:
        return _read((folder / FORMER_KEYS_FILE).read_bytes())
    except (OSError, RelaisError):
        return []


def keep_former(folder: Path, keys: DeviceKeys) -> None:
    """Remember keys that are about to be exchanged for others; again is no error. Raises `LocalFailure`."""
    rows = [former for former in former_keys(folder) if former.device != keys.signing.public]
    # the first ones were sealed to for years; of those that followed, the newest
    kept = [*rows[:1], *[*rows[1:], FormerKey.of(keys)][1 - MAX_FORMER_KEYS :]]
    write_private(folder / FORMER_KEYS_FILE, _written(kept))


def let_go_of_seeds(folder: Path) -> None:
    """Hold nothing of former keys but what is kept of them now; where the disk does not let it, at the next start."""
    path = folder / FORMER_KEYS_FILE
    try:
        held = path.read_bytes()
        kept = _written(_read(held))
    except (OSError, RelaisError):  # damaged: the bytes may still be of use to whoever repairs the file
        return
    if kept == held:
        return
    try:
        write_private(path, kept)
    except LocalFailure as reason:
        _log.warning("the keys that this device had before stay as they are until the next start: %s", reason)


def _read(data: bytes) -> list[FormerKey]:
    rows = Fields(canonical.decode(data, max_bytes=_MOST_BYTES), "former keys").rows("keys", MAX_FORMER_KEYS)
    return [FormerKey.from_bytes(row) for row in rows if isinstance(row, bytes)]


def _written(rows: Sequence[FormerKey]) -> bytes:
    return canonical.encode({"keys": [row.to_bytes() for row in rows]})
