"""The envelope of control messages (R13; docs/protocol.md, "Envelope").

- request = version (1) ‖ key id (8) ‖ HPKE(signature (64) ‖ body), sealed to the recipient's agreement key with
  `info` = "relais/0 request" ‖ 0x00; the signature covers the domain, the recipient's key and the body, which names the
  caller's signing key, a fresh reply key and the call;
- answer = version (1) ‖ HPKE(signature (64) ‖ body), sealed to the reply key with `info` = "relais/0 answer" ‖ 0x00 ‖
  BLAKE3-256(request); the signature covers the same domain and hash, and the body.

So a false recipient reads nothing, nobody between them reads or swaps anything, and an answer to one request is none to
another. A replayed request is harmless because calls are idempotent: no nonce is stored, no time is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import zstandard
from blake3 import blake3

from protocol import canonical
from protocol.errors import Code, PeerFault, TooLarge
from protocol.identity import (
    KEY_ID_BYTES,
    SIGNATURE_BYTES,
    AgreementKey,
    SigningKey,
    check_agreement,
    check_public,
    key_id,
    tagged,
    verify,
)
from protocol.limits import MAX_ANSWER_BYTES, MAX_COMPRESSION_RATIO, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from protocol.trust import hpke

MAX_CALL_CHARS: Final = 32
REQUEST: Final = b"relais/0 request"
ANSWER: Final = b"relais/0 answer"

_VERSION: Final = b"\x00"
_REQUEST_HEAD_BYTES: Final = 1 + KEY_ID_BYTES
_PLAIN: Final = 0
_ZSTD: Final = 1
_ZSTD_LEVEL: Final = 3
# Below this, what a frame's own header costs eats what it saves.
_MIN_COMPRESSED_BYTES: Final = 64
# An array of five, at most: whose signature has not been looked at announces no thousands.
_VALUES_PER_BODY: Final = 6


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """A request whose seal opened and whose signature is the device's; its rights are still to be looked up."""

    device: bytes
    reply_public: bytes
    call: str
    payload: bytes
    request_hash: bytes
    recipient: AgreementKey


def seal_request(
    call: str, payload: bytes, *, device: SigningKey, recipient_public: bytes, reply: AgreementKey, ephemeral: bytes
) -> bytes:
    """The request for `call`, signed by `device`; only `recipient_public` opens it, only `reply` reads its answer.

    `reply` is a key pair made for this request, `ephemeral` 32 fresh random bytes; neither is used again. Raises
    `TooLarge` when payload or request pass the bounds, `PeerFault(WEAK_KEY)` for a recipient's key of low order.
    """
    body = canonical.encode([device.public, reply.public, call, *_packed(payload)])
    signed = device.sign(REQUEST, recipient_public + body) + body
    request = b"".join(
        (_VERSION, key_id(recipient_public), hpke.seal(signed, recipient_public, tagged(REQUEST, b""), ephemeral))
    )
    _check_size(request, MAX_REQUEST_BYTES)
    return request


def open_request(data: bytes, keys: Sequence[AgreementKey]) -> OpenedRequest:
    """The request in `data`, sealed to one of `keys`, its signature verified.

    Raises `TooLarge`, `PeerFault(UNKNOWN_FORMAT)` for another version, `PeerFault(WRONG_KEY)` when the key it names is
    not among `keys` (the caller is answered 421 with our chain), `PeerFault(BAD_SEAL)`, `PeerFault(MALFORMED)` or
    `PeerFault(NOT_CANONICAL)` for the body, `PeerFault(WEAK_KEY)` and `PeerFault(BAD_SIGNATURE)`.
    """
    _check_size(data, MAX_REQUEST_BYTES)
    _check_version(data)
    if len(data) < _REQUEST_HEAD_BYTES + hpke.OVERHEAD_BYTES:
        raise _malformed()
    named = data[1:_REQUEST_HEAD_BYTES]
    recipient = next((key for key in keys if key_id(key.public) == named), None)
    if recipient is None:
        raise PeerFault(Code.WRONG_KEY, "the request is sealed to a key that is not held here", key_id=named.hex())
    signed = hpke.open_(data[_REQUEST_HEAD_BYTES:], recipient, tagged(REQUEST, b""))
    signature, body = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
    match canonical.decode(body, max_bytes=MAX_REQUEST_BYTES, max_values=_VALUES_PER_BODY):
        case [bytes(device), bytes(reply), str(call), int(packing), bytes(packed)] if len(call) <= MAX_CALL_CHARS:
            pass
        case _:
            raise _malformed()
    check_public(device)
    check_agreement(reply)
    if not verify(device, REQUEST, recipient.public + body, signature):
        raise PeerFault(Code.BAD_SIGNATURE, "the request is not signed by the device that it names")
    return OpenedRequest(device, reply, call, _unpacked(packing, packed), request_hash(data), recipient)


def seal_answer(payload: bytes, request: OpenedRequest, *, server: SigningKey, ephemeral: bytes) -> bytes:
    """The answer to `request`, signed by `server`; `ephemeral` is 32 fresh random bytes. Raises `TooLarge`."""
    bound = tagged(ANSWER, request.request_hash)
    body = canonical.encode([*_packed(payload)])
    signed = server.sign(ANSWER, request.request_hash + body) + body
    answer = _VERSION + hpke.seal(signed, request.reply_public, bound, ephemeral)
    _check_size(answer, MAX_ANSWER_BYTES)
    return answer


def open_answer(data: bytes, request: bytes, *, reply: AgreementKey, server_public: bytes) -> bytes:
    """The payload of the answer `data` to the sealed `request`, signed by `server_public`.

    Raises `TooLarge`, `PeerFault(UNKNOWN_FORMAT)`, `PeerFault(BAD_SEAL)` (also for the answer to another request),
    `PeerFault(MALFORMED)` or `PeerFault(NOT_CANONICAL)` for the body, and `PeerFault(BAD_SIGNATURE)`.
    """
    _check_size(data, MAX_ANSWER_BYTES)
    _check_version(data)
    asked = request_hash(request)
    signed = hpke.open_(data[1:], reply, tagged(ANSWER, asked))
    signature, body = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
    if not verify(server_public, ANSWER, asked + body, signature):
        raise PeerFault(Code.BAD_SIGNATURE, "the answer is not signed by the machine that was asked")
    match canonical.decode(body, max_bytes=MAX_ANSWER_BYTES, max_values=_VALUES_PER_BODY):
        case [int(packing), bytes(packed)]:
            return _unpacked(packing, packed)
        case _:
            raise _malformed()


def request_hash(request: bytes) -> bytes:
    """BLAKE3-256 of a sealed request's bytes, which binds its answer."""
    return blake3(request).digest()


def _packed(payload: bytes) -> tuple[int, bytes]:
    """How `payload` travels: compressed when that is smaller, and never beyond the ratio that a receiver accepts."""
    _check_size(payload, MAX_MESSAGE_BYTES)
    if len(payload) >= _MIN_COMPRESSED_BYTES:
        frame = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(payload)
        if len(frame) < len(payload) <= MAX_COMPRESSION_RATIO * len(frame):
            return _ZSTD, frame
    return _PLAIN, payload


def _unpacked(packing: int, packed: bytes) -> bytes:
    """The payload; a frame's declared size (RFC 8878 §3.1.1.1.4) is checked before a byte of it is decompressed."""
    if isinstance(packing, bool):
        raise _malformed()
    if packing == _PLAIN:
        return packed
    if packing != _ZSTD:
        raise PeerFault(Code.UNKNOWN_FORMAT, "a message is packed in a way that is not known here", packing=packing)
    try:
        frame = zstandard.get_frame_parameters(packed)
        size = frame.content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN:
            raise _malformed()
        # The window is memory that a frame asks for, whatever the size of its content.
        if max(size, frame.window_size) > MAX_MESSAGE_BYTES or size > MAX_COMPRESSION_RATIO * len(packed):
            raise TooLarge(Code.TOO_LARGE, "a message grows larger than allowed", size=size, packed=len(packed))
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as reason:
        raise _malformed() from reason


def _check_size(data: bytes, most: int) -> None:
    if len(data) > most:
        raise TooLarge(Code.TOO_LARGE, "a message is larger than allowed", size=len(data), max=most)


def _check_version(data: bytes) -> None:
    if data[:1] != _VERSION:
        raise PeerFault(Code.UNKNOWN_FORMAT, "the message is in a format that is not known here")


def _malformed() -> PeerFault:
    return PeerFault(Code.MALFORMED, "a message does not hold what it should")
