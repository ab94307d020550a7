"""With what an account is signed in to, besides its passphrase: by which a session ends that was opened with less.

Rules:
- what tells two states apart is the application's secret, and which passkeys there are; not what was counted, which
  recovery codes are left, or whether a passkey may be added;
- whoever takes a factor away, gives one, or another in its place, ends all sessions of the account but the one in which
  a passkey is added (`docs/adr/0244`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from blake3 import blake3

from sync_server.handlers.accounts.passkeys import Passkey, keyring
from sync_server.handlers.accounts.second_factor import second_factor
from sync_server.opened.app import Server


@dataclass(frozen=True, slots=True)
class Factors:
    """A hash of the application's secret, None where there is none, and the names of the passkeys."""

    codes: bytes | None = None
    passkeys: frozenset[str] = frozenset()

    @property
    def are_asked_for(self) -> bool:
        """Whether a passphrase alone opens nothing."""
        return self.codes is not None or bool(self.passkeys)

    def with_passkey(self, added: Passkey) -> Self:
        """Once this one has been added."""
        return replace(self, passkeys=self.passkeys | {added.name})


async def factors_of(server: Server, name: str) -> Factors:
    """What an account asks for now."""
    factor, ring = await second_factor(server, name), await keyring(server, name)
    codes = None if factor is None else blake3(factor.secret).digest()
    return Factors(codes, frozenset(key.name for key in ring.keys))
