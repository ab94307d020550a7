"""What somebody has besides a passphrase: codes of an application (RFC 6238), and recovery codes for when it is lost.

Rules:
- a code is six digits of HMAC-SHA-1 over the 30 s that it is made in; one step earlier or later counts too, because
  phones' clocks differ;
- a code opens once: the step of the last one is kept, durably, before anybody is let in;
- recovery codes have 50 bits, are kept as hashes, and each opens once;
- all of it lies sealed in the store: a copy of the database alone makes no code (`opened.sealed_marks`);
- whoever may run commands on the server's machine sets it up and takes it away (docs/adr/0040).
"""

from __future__ import annotations

import base64
import hmac
import unicodedata
from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import quote

from blake3 import blake3

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, PeerFault
from protocol.fields import Fields
from protocol.replica.at_work.replica import Entropy
from protocol.trust.invitation import as_typed, to_base32
from sync_server.handlers.accounts.administrators import administrator, folded
from sync_server.opened.app import Server
from sync_server.opened.sealed_marks import SECOND_FACTOR_MARKS, sealed, unsealed

STEP_S: Final = 30
DRIFT_STEPS: Final = 1
DIGITS: Final = 6
SECRET_BYTES: Final = 20
RECOVERY_CODES: Final = 10

_RECOVERY_BYTES: Final = 7
_RECOVERY_CHARS: Final = 10
_HASH_BYTES: Final = 32
_MAX_MARK_BYTES: Final = 4_096
_MAX_STEP: Final = 2**40


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """The application's secret, the last step that was used, and hashes of the recovery codes that are left."""

    secret: bytes
    last_step: int
    recovery: tuple[bytes, ...]

    def encode(self) -> bytes:
        """To a mark."""
        return encode({"secret": self.secret, "last": self.last_step, "recovery": list(self.recovery)})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From a mark. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(data, max_bytes=_MAX_MARK_BYTES), "a second factor")
        return cls(
            fields.octets("secret", SECRET_BYTES),
            min(fields.count("last"), _MAX_STEP),
            fields.all_octets("recovery", _HASH_BYTES, RECOVERY_CODES),
        )


@dataclass(frozen=True, slots=True)
class Made:
    """What a new second factor shows once: where an application reads it, and the recovery codes.

    `replaced`: there was one before, which opens nothing any more.
    """

    uri: str
    recovery: tuple[str, ...]
    replaced: bool = False


def code_at(secret: bytes, step: int) -> str:
    """The code of a step (RFC 4226, section 5.3)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    start = digest[-1] & 0xF
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def opened_by(factor: SecondFactor, typed: str, now_ms: int) -> SecondFactor | None:
    """The factor as it is once `typed` has opened it; None if it does not."""
    text = as_typed(unicodedata.normalize("NFKC", typed))
    if not text.isascii():
        return None
    if len(text) == DIGITS:
        now = now_ms // 1000 // STEP_S
        steps = range(max(now - DRIFT_STEPS, factor.last_step + 1, 0), now + DRIFT_STEPS + 1)
        # every step is tried, so that the time taken tells nothing
        fitting = [step for step in steps if hmac.compare_digest(code_at(factor.secret, step), text)]
        return replace(factor, last_step=fitting[0]) if fitting else None
    left = tuple(kept for kept in factor.recovery if not hmac.compare_digest(kept, _hash(text)))
    return replace(factor, recovery=left) if len(left) < len(factor.recovery) else None


def new_factor(name: str, territory: str, entropy: Entropy) -> tuple[SecondFactor, Made]:
    """A new second factor for somebody, and what is shown of it once."""
    secret = entropy(SECRET_BYTES)
    codes = tuple(to_base32(entropy(_RECOVERY_BYTES))[:_RECOVERY_CHARS] for _ in range(RECOVERY_CODES))
    label = quote(f"{territory}:{name}", safe="")
    key = base64.b32encode(secret).decode().rstrip("=")
    uri = f"otpauth://totp/{label}?secret={key}&issuer={quote(territory, safe='')}"
    shown = tuple(f"{code[:5]}-{code[5:]}" for code in codes)
    return SecondFactor(secret, 0, tuple(_hash(code) for code in codes)), Made(uri, shown)


async def set_second_factor(server: Server, name: str) -> Made:
    """Give an account a second factor, in place of any it had. Raises `BadInput(UNKNOWN_PERSON)`, `LocalFailure`."""
    account = await administrator(server, name)
    if account is None:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no administrator “{name}”")
    factor, made = new_factor(account.name, server.territory.name, server.entropy)
    async with server.using_codes:
        before = await server.store.mark(_mark(name))
        await _keep(server, name, factor)
    return replace(made, replaced=before is not None)


async def drop_second_factor(server: Server, name: str) -> None:
    """Take it away: the passphrase alone opens again. Raises `BadInput(UNKNOWN_PERSON)`, `LocalFailure`."""
    if await administrator(server, name) is None:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no administrator “{name}”")
    async with server.using_codes:
        await server.store.set_marks({_mark(name): None})


async def second_factor(server: Server, name: str) -> SecondFactor | None:
    """The second factor of an account; one that cannot be read is opened by nothing."""
    held = await server.store.mark(_mark(name))
    if held is None:
        return None
    try:
        return SecondFactor.parse(unsealed(server.keys, _mark(name), held) or b"")
    except PeerFault:
        return SecondFactor(bytes(SECRET_BYTES), _MAX_STEP, ())


async def use_second_factor(server: Server, name: str, typed: str) -> bool:
    """Whether what was typed opens it now; it does once, which is durable when this returns."""
    async with server.using_codes:
        factor = await second_factor(server, name)
        opened = None if factor is None else opened_by(factor, typed, server.now_ms())
        if opened is None:
            return False
        await _keep(server, name, opened)
        return True


async def _keep(server: Server, name: str, factor: SecondFactor) -> None:
    mark = _mark(name)
    await server.store.set_marks({mark: sealed(server.keys, mark, factor.encode(), server.entropy)})


def _mark(name: str) -> str:
    return SECOND_FACTOR_MARKS + folded(name)


def _hash(code: str) -> bytes:
    return blake3(b"relais/0 recovery code\x00" + code.encode()).digest()
