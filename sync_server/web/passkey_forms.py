"""What the pages and their script say to each other about passkeys: bytes as base64url, in ordinary forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from protocol.limits import MAX_NAME_CHARS
from protocol.portable_names import displayable
from sync_server.handlers.accounts.passkeys import Passkey
from sync_server.handlers.accounts.webauthn import Assertion, Birth, as_base64url, from_base64url


def asked_of(keys: Iterable[Passkey]) -> str:
    """The passkeys that the script may ask for, and at which origin each works (JSON)."""
    return json.dumps([{"id": as_base64url(key.credential.id), "origin": key.credential.origin} for key in keys])


def birth_in(form: Mapping[str, str]) -> Birth:
    """A passkey that a browser has made."""
    return Birth(*(from_base64url(form.get(name, "")) for name in ("id", "client", "authenticator", "key")))


def assertion_in(form: Mapping[str, str]) -> Assertion:
    """What a browser says with a passkey."""
    return Assertion(*(from_base64url(form.get(name, "")) for name in ("id", "client", "authenticator", "signature")))


def label_in(form: Mapping[str, str], otherwise: str) -> str:
    """What somebody calls their passkey."""
    return displayable(form.get("label", "").strip()[:MAX_NAME_CHARS]) or otherwise
