"""What the server remembers that opens something: sealed, so that a copy of its database alone gives none of it.

Rules:
- sealed is under a key that follows from the server's own, which lies beside the database and not in it: nothing more
  is kept, and what is sealed ends with these keys (docs/adr/0427);
- each is bound to its mark: moved to another account it opens nothing;
- what an earlier version left bare is read, and sealed when the server opens.

A sealed mark is 0x01 ‖ nonce (12) ‖ ciphertext ‖ tag (16), by ChaCha20-Poly1305, the mark's name as associated data. A
bare one is a map (`protocol.canonical`), and begins otherwise.
"""

from __future__ import annotations

import logging
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from protocol.errors import LocalFailure
from protocol.identity import tagged
from protocol.replica.at_work.replica import Entropy
from protocol.replica.storage.sqlite import SqliteStore
from sync_server.opened.keys import ServerKeys

_log = logging.getLogger(__name__)

SECOND_FACTOR_MARKS: Final = "second-factor/"
"""+ folded name → what else an account asks for (`second_factor`); gone with the account."""

_SEALED_MARKS: Final = (SECOND_FACTOR_MARKS,)
_SEALED: Final = b"\x01"
_NONCE_BYTES: Final = 12
_KEY: Final = b"relais/0 sealed marks"


def sealed(keys: ServerKeys, mark: str, plain: bytes, entropy: Entropy) -> bytes:
    """What the store holds under `mark` in place of `plain`."""
    nonce = entropy(_NONCE_BYTES)
    return _SEALED + nonce + _cipher(keys).encrypt(nonce, plain, mark.encode())


def unsealed(keys: ServerKeys, mark: str, held: bytes) -> bytes | None:
    """What was sealed, or lies bare; None if these keys do not open it, or not under this mark."""
    if not held.startswith(_SEALED):
        return held
    nonce, ciphertext = held[1 : 1 + _NONCE_BYTES], held[1 + _NONCE_BYTES :]
    try:
        return _cipher(keys).decrypt(nonce, ciphertext, mark.encode())
    except (InvalidTag, ValueError):
        return None


async def seal_bare(store: SqliteStore, keys: ServerKeys, entropy: Entropy) -> None:
    """Seal what an earlier version left bare; where the disk is full, a line in the log, and the next opening does."""
    try:
        bare = {
            mark: held
            for prefix in _SEALED_MARKS
            for mark, held in (await store.marks(prefix)).items()
            if not held.startswith(_SEALED)
        }
        if bare:
            await store.set_marks({mark: sealed(keys, mark, held, entropy) for mark, held in bare.items()})
            # what stood there before stands in the log beside the database, until that is cut
            await store.scrub()
    except LocalFailure as failure:
        _log.warning("second factors lie in the database as an earlier version left them, for now: %s", failure)


def _cipher(keys: ServerKeys) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(blake3(tagged(_KEY, keys.capability), key=keys.signing.seed).digest())
