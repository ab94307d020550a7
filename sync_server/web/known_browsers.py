"""Browsers in which an administrator has signed in before: strangers who guess keep nobody else out.

Rules:
- whoever has signed in gets a token for that browser: a number, and a proof over it, the account and its verifier, by
  the server's own key; nothing of it is stored, and it ends with the passphrase, the account or the server's key;
- it opens nothing: it only has the browser's tries counted by themselves, not with those of strangers.

The pattern is OWASP's "device cookies" (Blocking Brute Force Attacks).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Final

from blake3 import blake3

from protocol.canonical import encode
from protocol.replica.at_work.replica import Entropy
from sync_server.handlers.accounts.administrators import Administrator

KNOWN_S: Final = 180 * 86_400
"""How long a browser keeps its token."""

_CONTEXT: Final = "Relais 2026-11-25 sync_server known browser"
_NUMBER_BYTES: Final = 16
_PROOF_BYTES: Final = 32
_TOKEN_CHARS: Final = 64


def token_for(account: Administrator, seed: bytes, entropy: Entropy) -> str:
    """A token for the browser in which `account` has just signed in; `seed` is that of the server's key."""
    number = entropy(_NUMBER_BYTES)
    return base64.urlsafe_b64encode(number + _proof(account, seed, number)).decode()


def known_as(token: str | None, account: Administrator | None, seed: bytes) -> str | None:
    """The name under which the browser's tries for `account` are counted; None for a browser that is not known."""
    if token is None or account is None or len(token) != _TOKEN_CHARS:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    number, proof = raw[:_NUMBER_BYTES], raw[_NUMBER_BYTES:]
    if not hmac.compare_digest(proof, _proof(account, seed, number)):
        return None
    return number.hex()


def _proof(account: Administrator, seed: bytes, number: bytes) -> bytes:
    key = blake3(seed, derive_key_context=_CONTEXT).digest()
    return blake3(encode([account.name, account.verifier, number]), key=key).digest(_PROOF_BYTES)
