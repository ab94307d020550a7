"""To which machine the keys in DIR belong: salted hashes of what identifies hardware, and a rule for comparing (§5).

Rules:
- DIR may be moved to another disk, the system installed anew, a disk or a network card replaced: the same machine. Only
  where *most* of what is known of both differs is it another one; in a tie it is the same, and so it is where no more
  is known than what the installed system calls itself;
- of a kind of which a machine has several (disks, network cards), one in common is enough;
- DIR never holds an identifier, only its hash under a salt of its own.

Pure; `hardware` finds the identifiers. docs/protocol.md, "Clones".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from blake3 import blake3

from protocol import canonical
from protocol.errors import PeerFault
from protocol.fields import Fields
from protocol.identity import tagged
from protocol.limits import MAX_HARDWARE_IDS

SALT_BYTES: Final = 16
_HASH_BYTES: Final = 16
_DOMAIN: Final = b"relais/0 hardware"
_MAX_BYTES: Final = 16_384


class Part(StrEnum):
    """What an identifier belongs to: the installed system, the board, the network cards, the disks."""

    SYSTEM = "system"
    BOARD = "board"
    NETWORK = "network"
    DISK = "disk"


Hardware = Mapping[Part, frozenset[str]]
"""The identifiers of a machine, as far as its system tells them."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A machine as it is remembered."""

    salt: bytes
    parts: Mapping[Part, frozenset[bytes]]

    @classmethod
    def of(cls, hardware: Hardware, salt: bytes) -> Self:
        """The machine with these identifiers."""
        return cls(salt, {part: _hashed(part, hardware[part], salt) for part in Part if hardware.get(part)})

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """What `encode` wrote; None for anything else, which binds to nothing."""
        try:
            fields = Fields(canonical.decode(data, max_bytes=_MAX_BYTES), "a binding")
            salt = fields.octets("salt", SALT_BYTES)
            parts = {part: frozenset(fields.all_octets(part.value, _HASH_BYTES, MAX_HARDWARE_IDS)) for part in Part}
        except PeerFault:
            return None
        return cls(salt, {part: found for part, found in parts.items() if found})

    def encode(self) -> bytes:
        """As DIR keeps it."""
        parts: dict[str, canonical.Value] = {part.value: [*sorted(ids)] for part, ids in self.parts.items()}
        return canonical.encode({"salt": self.salt, **parts})

    def is_elsewhere(self, hardware: Hardware) -> bool:
        """Whether the machine with these identifiers is another one than the one that is remembered."""
        here = Binding.of(hardware, self.salt).parts
        both = self.parts.keys() & here.keys()
        differing = sum(self.parts[part].isdisjoint(here[part]) for part in both)
        return bool(both - {Part.SYSTEM}) and 2 * differing > len(both)


def machine_name(hardware: Hardware, salt: bytes) -> bytes:
    """32 bytes that are the same each time on one machine and differ from one to the next, by its hardware alone."""
    parts = Binding.of({part: ids for part, ids in hardware.items() if part is not Part.SYSTEM}, salt).parts
    known = [[part.value, *sorted(ids)] for part, ids in sorted(parts.items())]
    return blake3(tagged(_DOMAIN, salt + canonical.encode([*known]))).digest()


def _hashed(part: Part, ids: frozenset[str], salt: bytes) -> frozenset[bytes]:
    some = sorted(ids)[:MAX_HARDWARE_IDS]
    return frozenset(
        blake3(tagged(_DOMAIN, salt + part.encode() + b"\x00" + each.encode())).digest(_HASH_BYTES) for each in some
    )
