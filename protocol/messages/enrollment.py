"""The messages of an enrolment, and a recipient's own chain, which travels in clear (docs/protocol.md, "Enrolment").

Built and parsed as the others of `calls` are.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocol.canonical import decode, encode
from protocol.clock import MAX_TIME_MS
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.limits import MAX_CREDENTIALS, MAX_ENROLMENT_BYTES, MAX_MESSAGE_BYTES, MAX_URL_CHARS
from protocol.messages.errors import answered
from protocol.messages.parts import MAX_ENTRIES, read_entries, wire_rows
from protocol.model.entry import Entry
from protocol.trust.invitation import invitation_hash, is_proof, told_of, veiled

_SECRET_BYTES: Final = 10
_PROOF_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class EnrollRequest:
    """A device asks to be let in. Its Ed25519 key is the one that signs the envelope.

    `secret` is what the code shows as it was told: veiled (`protocol.trust.invitation`), or, by devices of earlier
    versions, `in_clear`; `proof` that the device has the whole code, unless that is of an earlier version.
    """

    secret: bytes
    agreement: bytes
    tls_sha256: bytes
    name: str
    in_clear: bool = False
    proof: bytes | None = None

    def encode(self) -> bytes:
        """The message's bytes."""
        told = "secret" if self.in_clear else "veiled"
        keys = {"agreement": self.agreement, "tls": self.tls_sha256}
        return encode(compact(**{told: self.secret}, **keys, name=self.name, proof=self.proof))

    def tells(self, secret_hash: bytes, device: bytes) -> bool:
        """Whether `device`, which signed the envelope, shows the code whose secret has this hash."""
        secret = self.secret if self.in_clear else veiled(self.secret, secret_hash, device)
        return hmac.compare_digest(invitation_hash(secret), secret_hash)

    def proves(self, key: bytes | None, device: bytes) -> bool:
        """Whether `device`, which signed the envelope, has the whole code whose `invite` holds this key, or none."""
        return key is None or (self.proof is not None and is_proof(key, device, self.proof))

    def told_of(self, hashes: Sequence[bytes], device: bytes) -> bytes | None:
        """Which of these codes, by the hash of its secret, `device` shows, which signed the envelope."""
        if not self.in_clear:
            return told_of(hashes, self.secret, device)
        shown = invitation_hash(self.secret)
        return shown if shown in hashes else None

    @classmethod
    def parse(cls, data: bytes) -> EnrollRequest:
        """The message in `data`."""
        fields = Fields(decode(data, max_bytes=MAX_ENROLMENT_BYTES), "an enrolment")
        in_clear = not fields.has("veiled")
        return cls(
            fields.octets("secret" if in_clear else "veiled", _SECRET_BYTES),
            fields.octets("agreement", 32),
            fields.octets("tls", 32),
            fields.name("name"),
            in_clear,
            fields.octets_or_none("proof", _PROOF_BYTES),
        )


@dataclass(frozen=True, slots=True)
class EnrollAnswer:
    """The grants made for the device, in their spaces, with all that is needed to admit them, in that order."""

    time_ms: int
    territory_name: str
    entries: tuple[Entry, ...]
    server_url: str | None = None
    """Where the server is, from a device of the school that enrols in its place."""

    def encode(self) -> bytes:
        """The message's bytes."""
        entries = wire_rows(self.entries)
        return encode(compact(time=self.time_ms, name=self.territory_name, entries=entries, server=self.server_url))

    @classmethod
    def parse(cls, data: bytes) -> EnrollAnswer:
        """The message in `data`. Raises the `RelaisError` that the recipient sent instead, if it did."""
        fields = answered(data, "an enrolment's answer")
        entries, bad = read_entries(fields.rows("entries", MAX_ENTRIES))
        if bad:
            raise PeerFault(Code.MALFORMED, "an enrolment's answer holds an entry that cannot be read")
        server = fields.text_or_none("server", MAX_URL_CHARS)
        return cls(fields.count("time", MAX_TIME_MS), fields.name("name"), entries, server)


def encode_chain(entries: Sequence[Entry]) -> bytes:
    """A recipient's own chain, sent in clear with 421 to a caller that used a key which is not held here."""
    return encode({"chain": wire_rows(entries)})


def parse_chain(data: bytes) -> tuple[Entry, ...]:
    """The chain in `data`. Raises `PeerFault` or `TooLarge`."""
    fields = Fields(decode(data, max_bytes=MAX_MESSAGE_BYTES), "a chain")
    entries, bad = read_entries(fields.rows("chain", MAX_CREDENTIALS))
    if bad:
        raise PeerFault(Code.MALFORMED, "a chain holds an entry that cannot be read")
    return entries
