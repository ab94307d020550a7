"""A request to be let in, as tests write it."""

from __future__ import annotations

from protocol.identity import DeviceKeys
from protocol.messages.enrollment import EnrollRequest
from protocol.trust.invitation import parse_code


def asking_in_clear(keys: DeviceKeys, code: str, name: str) -> EnrollRequest:
    """A code shown without its veil, for a device that has the whole of it."""
    known, device = parse_code(code), keys.signing.public
    return EnrollRequest(
        known.shown, keys.agreement.public, keys.tls.fingerprint, name, in_clear=True, proof=known.proof(device)
    )
