"""Administrators' passkeys: beside the codes of an application, and like them the business of who runs the server.

Rules:
- a passkey is added with a code that a command printed, at the address that the command named: neither a stolen session
  nor a false page can add one (docs/adr/0046);
- such a code opens once, for an hour; it is kept as a hash;
- what a passkey has counted is kept, durably, before anybody is let in;
- a passkey is taken away by command; it goes with its account.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from typing import Final, Self

from blake3 import blake3

from protocol.canonical import Value, decode, encode
from protocol.errors import BadInput, Code, PeerFault
from protocol.fields import Fields
from protocol.limits import MAX_NAME_CHARS
from protocol.trust.invitation import as_typed, to_base32
from sync_server.handlers.accounts.administrators import PASSKEY_MARKS, Administrator, administrator, folded
from sync_server.handlers.accounts.webauthn import (
    MAX_CREDENTIAL_BYTES,
    MAX_KEY_BYTES,
    MAX_ORIGIN_CHARS,
    Assertion,
    Birth,
    Credential,
    born,
    origin_of,
    used,
)
from sync_server.opened.app import Server

MAX_PASSKEYS: Final = 10
CODE_MS: Final = 3_600_000

_CODE_BYTES: Final = 10
_HASH_BYTES: Final = 32
_NAME_HEX: Final = 16
_MAX_MARK_BYTES: Final = 32_768


@dataclass(frozen=True, slots=True)
class Passkey:
    """One passkey of an account: what somebody calls it, since when it is there, and the credential."""

    label: str
    since_ms: int
    credential: Credential

    @property
    def name(self) -> str:
        """What commands call it."""
        return blake3(self.credential.id).hexdigest()[:_NAME_HEX]

    def to_value(self) -> Value:
        """To a mark."""
        made = self.credential
        return {
            "label": self.label,
            "since": self.since_ms,
            "id": made.id,
            "key": made.key,
            "origin": made.origin,
            "count": made.count,
        }

    @classmethod
    def parse(cls, value: Value) -> Self:
        """From a mark. Raises `PeerFault`."""
        fields = Fields(value, "a passkey")
        credential = Credential(
            fields.octets("id", most=MAX_CREDENTIAL_BYTES),
            fields.octets("key", most=MAX_KEY_BYTES),
            fields.text("origin", MAX_ORIGIN_CHARS),
            fields.count("count", 2**32 - 1),
        )
        return cls(fields.text("label", MAX_NAME_CHARS), fields.count("since"), credential)


@dataclass(frozen=True, slots=True)
class Keyring:
    """An account's passkeys, and the code with which one more may be added: its hash, until when, at which origin."""

    keys: tuple[Passkey, ...] = ()
    code_hash: bytes = b""
    until_ms: int = 0
    origin: str = ""

    def encode(self) -> bytes:
        """To a mark."""
        keys = [key.to_value() for key in self.keys]
        return encode({"keys": keys, "code": self.code_hash, "until": self.until_ms, "origin": self.origin})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From a mark. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(data, max_bytes=_MAX_MARK_BYTES), "passkeys")
        return cls(
            tuple(Passkey.parse(row) for row in fields.rows("keys", MAX_PASSKEYS)),
            fields.octets("code", most=_HASH_BYTES),
            fields.count("until"),
            fields.text("origin", MAX_ORIGIN_CHARS),
        )

    def awaits(self, typed: str, now_ms: int) -> bool:
        """Whether `typed` is the code with which a passkey may be added now."""
        return now_ms < self.until_ms and hmac.compare_digest(self.code_hash, _hash(typed))


async def let_add_passkey(server: Server, name: str, address: str) -> tuple[str, int, str]:
    """A code with which an administrator adds one passkey at `address`, until when it lasts, and that origin.

    It takes the place of an earlier one. Raises `BadInput`, `LocalFailure`.
    """
    origin = origin_of(address)
    await _known(server, name)
    text = to_base32(server.entropy(_CODE_BYTES))
    until_ms = server.now_ms() + CODE_MS
    async with server.using_codes:
        ring = await keyring(server, name)
        if len(ring.keys) >= MAX_PASSKEYS:
            raise BadInput(Code.USAGE, f"“{name}” has {MAX_PASSKEYS} passkeys already; remove one first")
        await _keep(server, name, replace(ring, code_hash=_hash(text), until_ms=until_ms, origin=origin))
    return "-".join(text[start : start + 4] for start in range(0, len(text), 4)), until_ms, origin


async def add_passkey(
    server: Server, account: Administrator, typed: str, label: str, birth: Birth, challenge: bytes
) -> Passkey | None:
    """The passkey that a browser has just made, now the account's; None if the code or the passkey is not good.

    A code that was right is used up, whatever the passkey is.
    """
    async with server.using_codes:
        if await administrator(server, account.name) != account:
            return None
        ring = await keyring(server, account.name)
        if not ring.awaits(typed, server.now_ms()):
            return None
        credential = born(birth, challenge=challenge, origin=ring.origin)
        made = None if credential is None else Passkey(label, server.now_ms(), credential)
        kept = tuple(key for key in ring.keys if made is None or key.name != made.name)
        await _keep(server, account.name, Keyring(kept if made is None else (*kept, made)))
        return made


async def use_passkey(server: Server, name: str, assertion: Assertion, challenge: bytes) -> bool:
    """Whether one of the account's passkeys answers this challenge; what it has counted is durable on return."""
    async with server.using_codes:
        ring = await keyring(server, name)
        for at, key in enumerate(ring.keys):
            opened = used(key.credential, assertion, challenge)
            if opened is not None:
                keys = (*ring.keys[:at], replace(key, credential=opened), *ring.keys[at + 1 :])
                await _keep(server, name, replace(ring, keys=keys))
                return True
    return False


async def remove_passkeys(server: Server, name: str, which: str) -> int:
    """Take a passkey away by its name, or "all"; how many were. Raises `BadInput` (UNKNOWN_PERSON, UNKNOWN_DEVICE)."""
    await _known(server, name)
    async with server.using_codes:
        ring = await keyring(server, name)
        kept = tuple(key for key in ring.keys if which not in {"all", key.name})
        if which != "all" and len(kept) == len(ring.keys):
            raise BadInput(Code.UNKNOWN_DEVICE, f"“{name}” has no passkey {which}; `administrator passkeys` lists them")
        # an open code goes too: whoever resets an account wants nothing to be added to it with an older paper
        await _keep(server, name, Keyring(kept))
        return len(ring.keys) - len(kept)


async def keyring(server: Server, name: str) -> Keyring:
    """The passkeys of an account, and the code that is open. Raises nothing: what cannot be read opens nothing."""
    data = await server.store.mark(PASSKEY_MARKS + folded(name))
    if data is None:
        return Keyring()
    try:
        return Keyring.parse(data)
    except PeerFault:
        # the account still asks for a passkey, and none is right: a damaged mark does not open what it protected
        return Keyring((Passkey("?", 0, Credential(b"?", b"", "https://damaged.invalid", 2**32 - 1)),))


async def passkeys_of(server: Server, name: str) -> tuple[Passkey, ...]:
    """The passkeys of an account. Raises `BadInput(UNKNOWN_PERSON)`."""
    await _known(server, name)
    return (await keyring(server, name)).keys


async def _known(server: Server, name: str) -> None:
    if await administrator(server, name) is None:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no administrator “{name}”")


async def _keep(server: Server, name: str, ring: Keyring) -> None:
    empty = not ring.keys and not ring.code_hash
    await server.store.set_marks({PASSKEY_MARKS + folded(name): None if empty else ring.encode()})


def _hash(typed: str) -> bytes:
    return blake3(b"relais/0 passkey code\x00" + as_typed(typed).encode(errors="surrogatepass")).digest()
