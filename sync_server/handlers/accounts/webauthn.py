"""What a passkey proves (W3C Web Authentication, level 2): pure checks of what a browser sent, for ES256 and RS256.

Rules:
- where a passkey works is one origin, fixed when it is made: not by what a request says its host is, but by whoever
  runs the server (docs/adr/0046);
- a browser's word (`clientDataJSON`) names kind, challenge and origin, and none of them may be another's; nothing from
  inside a frame of another site;
- the authenticator has seen somebody (UP) and knows that it was its owner (UV);
- a counter that does not grow is a copy of the key, unless it is always zero;
- no attestation: who makes the authenticator is nobody's business, so its statement is not even read, and the browser
  gives authenticator data and key in forms that need no CBOR.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import urlsplit

from protocol.errors import BadInput, Code

CHALLENGE_BYTES: Final = 32
MAX_CREDENTIAL_BYTES: Final = 1_023
MAX_KEY_BYTES: Final = 1_200
MAX_ORIGIN_CHARS: Final = 300

_MAX_CLIENT_DATA_BYTES: Final = 4_096
_MAX_AUTHENTICATOR_BYTES: Final = 4_096
_HEAD_BYTES: Final = 37
_AAGUID_BYTES: Final = 16
_PRESENT: Final = 0x01
_VERIFIED: Final = 0x04
_HAS_CREDENTIAL: Final = 0x40
_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.(?!-)[a-z0-9-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """A passkey as the server knows it: its id, its public key (DER), where it works, how often it says it was used."""

    id: bytes
    key: bytes
    origin: str
    count: int


@dataclass(frozen=True, slots=True)
class Birth:
    """What a browser says of a passkey that it has just made."""

    id: bytes
    client_data: bytes
    authenticator: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a browser says of a passkey that was just used."""

    id: bytes
    client_data: bytes
    authenticator: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class _AuthenticatorData:
    party_hash: bytes
    flags: int
    count: int
    rest: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        if not _HEAD_BYTES <= len(data) <= _MAX_AUTHENTICATOR_BYTES:
            return None
        return cls(data[:32], data[32], int.from_bytes(data[33:37], "big"), data[37:])


def origin_of(address: str) -> str:
    """The origin of an address under which the pages are opened. Raises `BadInput(USAGE)` where no passkey works."""
    try:
        parts = urlsplit(address.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    local = host == "localhost"
    if not (_HOST.fullmatch(host) and parts.scheme in ({"http", "https"} if local else {"https"})) or parts.username:
        raise BadInput(
            Code.USAGE,
            f"“{address}” is no address for a passkey: browsers take them at https:// and a name only, as in "
            "https://relais.example.org (or http://localhost:8080 on the server's machine)",
        )
    if _is_address(host):
        raise BadInput(
            Code.USAGE, f"browsers take no passkey at a bare address such as {host}: give the server a name first"
        )
    usual = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + ("" if port in {None, usual} else f":{port}")


def party_of(origin: str) -> str:
    """The relying party's id: the host of an origin."""
    return urlsplit(origin).hostname or ""


def born(birth: Birth, *, challenge: bytes, origin: str) -> Credential | None:
    """The passkey that `birth` tells of; None if it was not made here, now, by somebody whom it recognised."""
    data = _said_here(birth.client_data, birth.authenticator, "webauthn.create", challenge, origin)
    if data is None or not data.flags & _HAS_CREDENTIAL:
        return None
    named = len(birth.id).to_bytes(2, "big") + birth.id
    if not 0 < len(birth.id) <= MAX_CREDENTIAL_BYTES or not data.rest[_AAGUID_BYTES:].startswith(named):
        return None
    if len(birth.key) > MAX_KEY_BYTES:
        return None
    # the formats of keys are large, passkeys rare
    from sync_server.handlers.accounts.passkey_keys import numbers_of  # noqa: PLC0415

    numbers = numbers_of(birth.key)
    if numbers is None or not all(number in data.rest[_AAGUID_BYTES + len(named) :] for number in numbers):
        return None
    return Credential(birth.id, birth.key, origin, data.count)


def used(credential: Credential, assertion: Assertion, challenge: bytes) -> Credential | None:
    """The passkey as it is once `assertion` has opened with it; None if it does not open."""
    data = _said_here(assertion.client_data, assertion.authenticator, "webauthn.get", challenge, credential.origin)
    if data is None or not hmac.compare_digest(credential.id, assertion.id):
        return None
    from sync_server.handlers.accounts.passkey_keys import is_signed  # noqa: PLC0415

    signed = assertion.authenticator + hashlib.sha256(assertion.client_data).digest()
    if not is_signed(credential.key, assertion.signature, signed):
        return None
    if (data.count or credential.count) and data.count <= credential.count:
        return None
    return replace(credential, count=data.count)


def is_said_by_browser(client_data: bytes, kind: str, challenge: bytes, origin: str) -> bool:
    """Whether a browser says that it did this, for this challenge, at this origin."""
    if len(client_data) > _MAX_CLIENT_DATA_BYTES:
        return False
    try:
        said = json.loads(client_data)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(said, dict)
        and said.get("type") == kind
        and said.get("challenge") == as_base64url(challenge)
        and said.get("origin") == origin
        and not said.get("crossOrigin", False)
        and "topOrigin" not in said
    )


def as_base64url(data: bytes) -> str:
    """As browsers and pages write bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes; none if it is no base64url."""
    try:
        return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return b""


def _said_here(
    client_data: bytes, authenticator: bytes, kind: str, challenge: bytes, origin: str
) -> _AuthenticatorData | None:
    """What the authenticator says, if browser and authenticator say that it happened here, now, before its owner."""
    if not is_said_by_browser(client_data, kind, challenge, origin):
        return None
    data = _AuthenticatorData.parse(authenticator)
    if data is None or not data.flags & _PRESENT or not data.flags & _VERIFIED:
        return None
    party = hashlib.sha256(party_of(origin).encode()).digest()
    return data if hmac.compare_digest(data.party_hash, party) else None


def _is_address(host: str) -> bool:
    # browsers read a last label of digits (or of 0x…) as an address in any case
    last = host.rpartition(".")[2]
    if last.isdecimal() or re.fullmatch(r"0x[0-9a-f]*", last):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
