"""How messages lie in HTTP: paths, calls, content types, capability links (R13; docs/protocol.md, "HTTP").

A capability lets its bearer fetch or send one pack, for a while. It is the only thing that a request for content
shows, so that a proxy in front may serve content without knowing anybody. The key of its link follows from it for the
issuer alone, and goes to whom it is given beside it: whoever sees a capability on its way, and uses it, reads nothing.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Final, Self

from blake3 import blake3

from protocol.errors import Code, PeerFault

CONTENT_TYPE: Final = "application/vnd.relais"
PACK_TYPE: Final = "application/vnd.relais.pack"
OFFSET_HEADER: Final = "Upload-Offset"

SYNC_PATH: Final = "/v1/sync"
RECONCILE_PATH: Final = "/v1/reconcile"
PACKS_PATH: Final = "/v1/packs"
ENROLL_PATH: Final = "/v1/enroll"
LIVE_PATH: Final = "/v1/live"
LIVENESS_PATH: Final = "/livez"

_MAC_BYTES: Final = 16
_FIXED_BYTES: Final = 1 + 4 + 4 + 32 + 32
_SENDER_BYTES: Final = 16
_KEYED: Final = 0x80
_DOMAIN: Final = b"relais/0 capability\x00"
_LINK_DOMAIN: Final = b"relais/0 link key\x00"


class Call(StrEnum):
    """The call that a sealed request names; it must be the one of the path that it was sent to."""

    SYNC = "sync"
    RECONCILE = "reconcile"
    ENROLL = "enroll"


class Purpose(IntEnum):
    """What a capability allows."""

    FETCH = 1
    SEND = 2
    LISTEN = 3


@dataclass(frozen=True, slots=True)
class Capability:
    """One pack of one space, to be fetched or sent until `expires_s` (seconds since 1970); `size` in bytes.

    To listen for news it names the territory, and a device's key in place of the pack. To send a pack it says who may:
    `sender` is the beginning of a device's key, so that nobody else's bytes mix with theirs. What passes by one that is
    `keyed` is encrypted under its `link_key`, which is known of one that was checked.
    """

    purpose: Purpose
    space: bytes
    pack: bytes
    size: int
    expires_s: int
    sender: bytes = b""
    keyed: bool = False
    link_key: bytes = field(default=b"", compare=False)

    @classmethod
    def to_send(
        cls, space: bytes, pack: bytes, size: int, expires_s: int, device: bytes, *, keyed: bool = False
    ) -> Self:
        """The capability with which `device` may send a pack."""
        return cls(Purpose.SEND, space, pack, size, expires_s, cls.sender_of(device), keyed)

    @staticmethod
    def sender_of(device: bytes) -> bytes:
        """What a capability to send shows of a device's key."""
        return device[:_SENDER_BYTES]

    def issue(self, key: bytes) -> str:
        """The text of the capability, authenticated under the issuer's 32-byte `key`."""
        body = self._body()
        return base64.urlsafe_b64encode(_mac(key, body) + body).rstrip(b"=").decode()

    def link_key_under(self, key: bytes) -> bytes:
        """The key of its link, under the issuer's; none where content passes in clear."""
        return blake3(_LINK_DOMAIN + self._body(), key=key).digest() if self.keyed else b""

    def _body(self) -> bytes:
        return b"".join(
            (
                bytes([self.purpose | (_KEYED if self.keyed else 0)]),
                self.expires_s.to_bytes(4, "big"),
                self.size.to_bytes(4, "big"),
                self.space,
                self.pack,
                self.sender,
            )
        )

    @classmethod
    def check(cls, text: str, key: bytes, purpose: Purpose, now_s: int) -> Capability:
        """The capability in `text`.

        Raises `PeerFault(BAD_CAPABILITY)` if it is not ours, expired, or for something else.
        """
        try:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _refused() from None
        mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
        sender_bytes = _SENDER_BYTES if purpose is Purpose.SEND else 0
        if (
            len(body) != _FIXED_BYTES + sender_bytes
            or not hmac.compare_digest(mac, _mac(key, body))
            or body[0] & ~_KEYED != purpose
        ):
            raise _refused()
        found = cls(
            purpose,
            body[9:41],
            body[41:_FIXED_BYTES],
            int.from_bytes(body[5:9], "big"),
            int.from_bytes(body[1:5], "big"),
            body[_FIXED_BYTES:],
            bool(body[0] & _KEYED),
        )
        if found.expires_s < now_s:
            raise _refused()
        return replace(found, link_key=found.link_key_under(key))


def _mac(key: bytes, body: bytes) -> bytes:
    return blake3(_DOMAIN + body, key=key).digest(_MAC_BYTES)


def _refused() -> PeerFault:
    return PeerFault(Code.BAD_CAPABILITY, "this link is not valid or has expired; ask for a new one")
