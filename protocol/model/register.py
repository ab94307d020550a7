"""Registers: small signed state where only the newest counts (R10; docs/protocol.md, "Registers").

Rules:
- one per (kind, subject, device); a newer `at_ms` replaces an older one, nothing else is kept;
- one from more than `MAX_CLOCK_LEAD_MS` ahead of the receiver's reference is passed over;
- registers lie outside the set and its fingerprint, and flow up only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol.canonical import decode, encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.identity import SigningKey, verify
from protocol.limits import MAX_HEALTH_BYTES, MAX_REGISTER_BYTES

DOMAIN: Final = b"relais/0 register"
_VERSION_CHARS: Final = 64


class RegisterKind(IntEnum):
    """What a register is about."""

    HEALTH = 1


@dataclass(frozen=True, slots=True)
class Register:
    """One register: `data` are its exact bytes (signed part and signature), `body` what it says."""

    kind: int
    subject: bytes
    device: bytes
    at_ms: int
    body: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Health:
    """How a device says it is. Sizes in bytes; `trouble` is an error's code or None.

    `oldest_ms` is the time of the oldest hand-in that it still has to send, by its own clock; `skew_ms` by how much
    that clock is ahead of the server's (negative: behind). Both are None where there is nothing to say.
    """

    name: str
    version: str
    system: str
    trouble: str | None
    backlog_entries: int
    backlog_bytes: int
    free_bytes: int
    oldest_ms: int | None = None
    skew_ms: int | None = None

    @classmethod
    def parse(cls, body: bytes) -> Health:
        """From a register's body. Raises `PeerFault`."""
        fields = Fields(decode(body, max_bytes=MAX_REGISTER_BYTES), "a health report")
        return cls(
            fields.name("name"),
            fields.text("version", _VERSION_CHARS),
            fields.text("system", _VERSION_CHARS),
            fields.text_or_none("trouble", _VERSION_CHARS),
            fields.count("entries"),
            fields.count("bytes"),
            fields.count("free"),
            fields.count_or_none("oldest"),
            fields.signed_or_none("skew"),
        )

    def encode(self) -> bytes:
        """To a register's body."""
        return encode(
            compact(
                name=self.name,
                version=self.version,
                system=self.system,
                trouble=self.trouble,
                entries=self.backlog_entries,
                bytes=self.backlog_bytes,
                free=self.free_bytes,
                oldest=self.oldest_ms,
                skew=self.skew_ms,
            )
        )


def compose_register(device: SigningKey, kind: int, subject: bytes, at_ms: int, body: bytes) -> Register:
    """A register signed by `device`."""
    signed = encode([0, int(kind), subject, device.public, at_ms, body])
    data = encode([signed, device.sign(DOMAIN, signed)])
    return Register(int(kind), subject, device.public, at_ms, body, data)


def parse_register(data: bytes) -> Register:
    """The register in `data`, its signature verified. Raises `PeerFault` or `TooLarge`."""
    register, signed, signature = _taken_apart(data)
    if not verify(register.device, DOMAIN, signed, signature):
        raise PeerFault(Code.BAD_SIGNATURE, "a register is not signed by the device that it names")
    return register


def stored_register(data: bytes) -> Register:
    """The register in `data`, whose signature was verified before it was stored. Raises `PeerFault` or `TooLarge`."""
    return _taken_apart(data)[0]


def is_report(register: Register) -> bool:
    """Whether this is what its kind is about, and reads as such: a device's own health. No other kind is kept."""
    if register.kind != RegisterKind.HEALTH or register.subject != register.device:
        return False
    if len(register.body) > MAX_HEALTH_BYTES:
        return False
    try:
        Health.parse(register.body)
    except PeerFault:
        return False
    return True


def _taken_apart(data: bytes) -> tuple[Register, bytes, bytes]:
    """A register, the bytes that were signed, and the signature."""
    match decode(data, max_bytes=MAX_REGISTER_BYTES):
        case [bytes(signed), bytes(signature)]:
            pass
        case _:
            raise PeerFault(Code.MALFORMED, "a register does not have two parts")
    match decode(signed, max_bytes=MAX_REGISTER_BYTES):
        case [0, int(kind), bytes(subject), bytes(device), int(at_ms), bytes(body)] if at_ms >= 0:
            pass
        case _:
            raise PeerFault(Code.MALFORMED, "a register has the wrong form")
    return Register(kind, subject, device, at_ms, body, data), signed, signature
