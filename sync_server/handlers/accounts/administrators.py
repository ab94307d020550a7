"""Who may look at the administrators' pages: names, and what proves a passphrase (docs/adr/0012).

Rules:
- an account is a mark of this server's store: it is made by who may run commands on this machine, and by nobody else;
- it counts only under the server's key under which it was made: whoever had that key could be in between when somebody
  signed in (docs/adr/0362). Of one that names no key, of an earlier version, that is the first that this store had;
- of a passphrase only an argon2id verifier is kept (RFC 9106; 19 MiB, 2 passes), made where the command was typed;
- names are compared without regard to case; a name that is taken must be removed before it is given again, and has
  nothing of what an earlier account of that name asked for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.canonical import decode, encode
from protocol.errors import BadInput, Code, PeerFault
from protocol.fields import Fields
from protocol.identity import KEY_BYTES
from protocol.limits import MAX_NAME_CHARS
from protocol.replica.office.names import name_of
from sync_server.opened.app import Server
from sync_server.opened.sealed_marks import SECOND_FACTOR_MARKS

MIN_PASSPHRASE_CHARS: Final = 12
MAX_PASSPHRASE_CHARS: Final = 1_000

PASSKEY_MARKS: Final = "passkeys/"
"""+ folded name → the passkeys of an account (`passkeys`); gone with it too."""

ACCOUNT_MARKS: Final = "administrator/"
"""+ folded name → an account."""

_MEMORY_KIB: Final = 19 * 1024
_PASSES: Final = 2
_LANES: Final = 1
_KEY_BYTES: Final = 32
_MAX_MARK_BYTES: Final = 4_096
_VERIFIER_CHARS: Final = 200
_VERIFIER: Final = re.compile(
    rf"\$argon2id\$v=19\$m={_MEMORY_KIB},t={_PASSES},p={_LANES}\$[A-Za-z0-9+/]{{22}}\$[A-Za-z0-9+/]{{43}}", re.ASCII
)


UNKNOWN_VERIFIER: Final = f"$argon2id$v=19$m={_MEMORY_KIB},t={_PASSES},p={_LANES}${'A' * 22}${'A' * 43}"
"""Proves nothing, and takes as long to find that out as any other."""


@dataclass(frozen=True, slots=True)
class Administrator:
    """An account: the name as it was given, the verifier (PHC string), since when, and under which key of the server.

    `key` is empty where an earlier version has made it.
    """

    name: str
    verifier: str
    since_ms: int
    key: bytes = b""

    def encode(self) -> bytes:
        """To a mark."""
        return encode({"name": self.name, "verifier": self.verifier, "since": self.since_ms, "key": self.key})

    @classmethod
    def parse(cls, data: bytes) -> Administrator:
        """From a mark. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(data, max_bytes=_MAX_MARK_BYTES), "an account")
        return cls(
            fields.text("name", MAX_NAME_CHARS),
            fields.text("verifier", _VERIFIER_CHARS),
            fields.count("since"),
            fields.octets("key", most=KEY_BYTES) if fields.has("key") else b"",
        )

    def counts(self, key: bytes, own: Collection[bytes]) -> bool:
        """Whether it does for a server with this key, which has had the keys `own`."""
        return self.key == key or (not self.key and {key}.issuperset(own))


def verifier_of(passphrase: str, salt: bytes) -> str:
    """What proves `passphrase`; `salt` is 16 bytes of fresh randomness. Raises `BadInput(USAGE)` if it is weak."""
    if not MIN_PASSPHRASE_CHARS <= len(passphrase) <= MAX_PASSPHRASE_CHARS:
        raise BadInput(
            Code.USAGE,
            f"a passphrase has at least {MIN_PASSPHRASE_CHARS} characters; a few words in a row are good ones",
        )
    kdf = Argon2id(salt=salt, length=_KEY_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return kdf.derive_phc_encoded(_secret(passphrase))


def opens(verifier: str, passphrase: str) -> bool:
    """Whether the verifier proves this passphrase. Takes some 0.1 s and 19 MiB, on purpose: call it in a thread."""
    try:
        Argon2id.verify_phc_encoded(_secret(passphrase[: MAX_PASSPHRASE_CHARS + 1]), verifier)
    except InvalidKey:
        return False
    return True


async def add_administrator(server: Server, name: str, verifier: str) -> Administrator:
    """Make an account, durably. Raises `BadInput` (BAD_NAME: taken, or no name; USAGE: no verifier of ours)."""
    made = Administrator(name_of(name, "an administrator"), verifier, server.now_ms(), server.keys.signing.public)
    if _VERIFIER.fullmatch(verifier) is None:
        raise BadInput(Code.USAGE, "an administrator's passphrase is missing")
    if await administrator(server, name) is not None:
        raise BadInput(Code.BAD_NAME, f"there is an administrator “{made.name}” already; remove that account first")
    async with server.using_codes:
        await server.store.set_marks({**dict.fromkeys(_marks(made.name)), _mark(made.name): made.encode()})
    return made


async def remove_administrator(server: Server, name: str) -> None:
    """Remove an account, whether it counts or not, and end its sessions. Raises `BadInput(UNKNOWN_PERSON)`."""
    if await server.store.mark(_mark(name)) is None:
        raise BadInput(Code.UNKNOWN_PERSON, f"there is no administrator “{name}”")
    async with server.using_codes:
        await server.store.set_marks(dict.fromkeys(_marks(name)))


async def list_administrators(server: Server) -> list[Administrator]:
    """All accounts that count, by name."""
    return [each for each in await _all_in(server) if _counts(server, each)]


async def told_of_ended(server: Server) -> list[str]:
    """Of each account that counts no more, since the server has other keys, that it does not."""
    return [said_to_end(each) for each in await _all_in(server) if not _counts(server, each)]


def said_to_end(account: Administrator) -> str:
    """What to tell of an account that counts no more, or will not."""
    return (
        f"signs in no more: {account.name}. An account goes with the keys of the server under which it was made: who "
        "had those may know its passphrase, and what else it asks for. `sync-server administrator add` it again, once "
        "no other keys follow, with a passphrase that it never had: see to that, nothing here compares them"
    )


async def _all_in(server: Server) -> list[Administrator]:
    return accounts_in(await server.store.marks(ACCOUNT_MARKS))


def accounts_in(marks: Mapping[str, bytes]) -> list[Administrator]:
    """The accounts that these marks are, whether they count or not, by name."""
    found = (_read(data) for data in marks.values())
    return sorted((each for each in found if each is not None), key=lambda each: each.name.casefold())


async def administrator(server: Server, name: str) -> Administrator | None:
    """The account of that name, if it counts."""
    account = _read(await server.store.mark(_mark(name)))
    return account if account is not None and _counts(server, account) else None


def _counts(server: Server, account: Administrator) -> bool:
    return account.counts(server.keys.signing.public, () if account.key else server.own_keys)


def _read(data: bytes | None) -> Administrator | None:
    try:
        return None if data is None else Administrator.parse(data)
    except PeerFault:
        return None


def folded(name: str) -> str:
    """A name as it is compared."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _mark(name: str) -> str:
    return ACCOUNT_MARKS + folded(name)


def _marks(name: str) -> tuple[str, ...]:
    """An account with what else it asks for."""
    return tuple(mark + folded(name) for mark in (ACCOUNT_MARKS, SECOND_FACTOR_MARKS, PASSKEY_MARKS))


def _secret(passphrase: str) -> bytes:
    # one text, one key: keyboards and systems write the same accent in several ways
    return unicodedata.normalize("NFKC", passphrase).encode(errors="surrogatepass")
