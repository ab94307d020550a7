from __future__ import annotations

import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protocol import canonical
from protocol.errors import Code, PeerFault, TooLarge
from protocol.identity import LOW_ORDER_AGREEMENT_KEYS, SMALL_ORDER_SIGNING_KEYS, AgreementKey, SigningKey, tagged
from protocol.limits import MAX_ANSWER_BYTES, MAX_COMPRESSION_RATIO, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES
from protocol.trust import hpke
from protocol.trust.envelope import (
    ANSWER,
    REQUEST,
    OpenedRequest,
    open_answer,
    open_request,
    request_hash,
    seal_answer,
    seal_request,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "envelope.json").read_text(encoding="utf-8"))
DEVICE = SigningKey(bytes([1]) * 32)
SERVER = SigningKey(bytes([2]) * 32)
SERVER_KEY = AgreementKey(bytes([3]) * 32)
REPLY = AgreementKey(bytes([4]) * 32)
EPHEMERAL = bytes([5]) * 32
STRANGER = SigningKey(bytes([6]) * 32)


def ask(payload: bytes = b"cursors", call: str = "sync", recipient: AgreementKey = SERVER_KEY) -> bytes:
    return seal_request(
        call, payload, device=DEVICE, recipient_public=recipient.public, reply=REPLY, ephemeral=EPHEMERAL
    )


def answer(request: bytes, payload: bytes = b"nothing new") -> bytes:
    return seal_answer(payload, open_request(request, [SERVER_KEY]), server=SERVER, ephemeral=EPHEMERAL)


def handmade(body: canonical.Value, *, signer: SigningKey = DEVICE, signed_for: bytes = SERVER_KEY.public) -> bytes:
    """A request whose seal and signature are right and whose body is anything."""
    encoded = canonical.encode(body)
    signed = signer.sign(REQUEST, signed_for + encoded) + encoded
    return b"\x00" + SERVER_KEY.public[:8] + hpke.seal(signed, SERVER_KEY.public, tagged(REQUEST, b""), EPHEMERAL)


def body(packing: canonical.Value = 0, packed: canonical.Value = b"") -> list[canonical.Value]:
    return [DEVICE.public, REPLY.public, "sync", packing, packed]


def refused(data: bytes, keys: tuple[AgreementKey, ...] = (SERVER_KEY,)) -> Code:
    with pytest.raises(PeerFault) as caught:
        open_request(data, keys)
    return caught.value.code


# --- a call and its answer ---


def test_request_and_answer_are_those_of_the_vectors() -> None:
    device, server = (SigningKey(bytes.fromhex(VECTORS[name])) for name in ("device_seed", "server_seed"))
    recipient, reply = (AgreementKey(bytes.fromhex(VECTORS[name])) for name in ("recipient_secret", "reply_secret"))
    known = VECTORS["request"]
    request = seal_request(
        known["call"],
        bytes.fromhex(known["payload"]),
        device=device,
        recipient_public=recipient.public,
        reply=reply,
        ephemeral=bytes.fromhex(known["ephemeral_secret"]),
    )
    assert request.hex() == known["bytes"]
    opened = open_request(request, [recipient])
    assert opened.request_hash.hex() == known["hash"]
    known = VECTORS["answer"]
    ephemeral = bytes.fromhex(known["ephemeral_secret"])
    sealed = seal_answer(bytes.fromhex(known["payload"]), opened, server=server, ephemeral=ephemeral)
    assert sealed.hex() == known["bytes"]
    for known in (VECTORS["answer"], VECTORS["compressed_answer"]):
        plain = open_answer(bytes.fromhex(known["bytes"]), request, reply=reply, server_public=server.public)
        assert plain.hex() == known["payload"]


@given(st.binary(max_size=400) | st.binary(max_size=40).map(lambda part: part * 30), st.text(max_size=32))
def test_a_call_arrives_and_its_answer_comes_back(payload: bytes, call: str) -> None:
    request = ask(payload, call)
    opened = open_request(request, [AgreementKey(bytes([9]) * 32), SERVER_KEY])
    assert opened == OpenedRequest(DEVICE.public, REPLY.public, call, payload, request_hash(request), SERVER_KEY)
    assert open_answer(answer(request, payload), request, reply=REPLY, server_public=SERVER.public) == payload


def test_an_envelope_adds_198_bytes_to_a_request_and_117_to_an_answer() -> None:
    request = ask(b"")
    assert len(request) == 198
    assert len(answer(request, b"")) == 117


def test_neither_call_nor_payload_nor_device_shows_in_a_request() -> None:
    request = ask(b"Lea Martin, CM2")
    for secret in (b"Lea Martin", b"sync", DEVICE.public, REPLY.public):
        assert secret not in request
    assert b"Lea Martin" not in answer(request, b"Lea Martin, CM2")


# --- strangers and thieves ---


def test_a_request_to_a_key_that_is_not_held_here_is_told_apart_from_a_broken_one() -> None:
    assert refused(ask(recipient=AgreementKey(bytes([9]) * 32))) is Code.WRONG_KEY
    assert refused(ask(), keys=()) is Code.WRONG_KEY


@given(st.integers(min_value=0))
def test_a_request_with_any_bit_changed_is_refused(bit: int) -> None:
    changed = bytearray(ask())
    bit %= len(changed) * 8
    changed[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(changed)) in {Code.UNKNOWN_FORMAT, Code.WRONG_KEY, Code.BAD_SEAL}


@given(st.integers(min_value=0))
def test_an_answer_with_any_bit_changed_is_refused(bit: int) -> None:
    request = ask()
    changed = bytearray(answer(request))
    bit %= len(changed) * 8
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PeerFault) as caught:
        open_answer(bytes(changed), request, reply=REPLY, server_public=SERVER.public)
    assert caught.value.code in {Code.UNKNOWN_FORMAT, Code.BAD_SEAL}


@pytest.mark.parametrize("size", [0, 1, 8, 9, 56, 57, 120, 197])
def test_a_request_that_is_cut_short_is_refused(size: int) -> None:
    assert refused(ask(b"")[:size]) in {Code.UNKNOWN_FORMAT, Code.MALFORMED, Code.BAD_SEAL}


def test_a_request_signed_by_another_device_than_it_names_is_refused() -> None:
    assert refused(handmade(body(), signer=STRANGER)) is Code.BAD_SIGNATURE


def test_a_request_that_its_recipient_seals_on_to_another_server_is_refused_there() -> None:
    assert refused(handmade(body(), signed_for=AgreementKey(bytes([9]) * 32).public)) is Code.BAD_SIGNATURE


def test_the_answer_to_one_request_is_none_to_another() -> None:
    first, second = ask(b"first"), ask(b"second")
    with pytest.raises(PeerFault) as caught:
        open_answer(answer(first), second, reply=REPLY, server_public=SERVER.public)
    assert caught.value.code is Code.BAD_SEAL


def test_an_answer_signed_for_another_request_and_sealed_again_for_this_one_is_refused() -> None:
    first, second = ask(b"first"), ask(b"second")
    signed = hpke.open_(answer(first)[1:], REPLY, tagged(ANSWER, request_hash(first)))
    moved = b"\x00" + hpke.seal(signed, REPLY.public, tagged(ANSWER, request_hash(second)), EPHEMERAL)
    with pytest.raises(PeerFault) as caught:
        open_answer(moved, second, reply=REPLY, server_public=SERVER.public)
    assert caught.value.code is Code.BAD_SIGNATURE


def test_an_answer_from_somebody_else_is_refused() -> None:
    request = ask()
    forged = seal_answer(b"lies", open_request(request, [SERVER_KEY]), server=STRANGER, ephemeral=EPHEMERAL)
    with pytest.raises(PeerFault) as caught:
        open_answer(forged, request, reply=REPLY, server_public=SERVER.public)
    assert caught.value.code is Code.BAD_SIGNATURE


def test_an_answer_is_no_request_and_a_request_no_answer() -> None:
    request = ask()
    signed = hpke.open_(request[9:], SERVER_KEY, tagged(REQUEST, b""))
    echoed = b"\x00" + hpke.seal(signed, REPLY.public, tagged(ANSWER, request_hash(request)), EPHEMERAL)
    with pytest.raises(PeerFault) as caught:
        open_answer(echoed, request, reply=REPLY, server_public=DEVICE.public)
    assert caught.value.code is Code.BAD_SIGNATURE


@pytest.mark.parametrize("device", sorted(SMALL_ORDER_SIGNING_KEYS)[:3], ids=bytes.hex)
def test_a_device_with_a_small_order_key_is_refused(device: bytes) -> None:
    assert refused(handmade([device, REPLY.public, "sync", 0, b""])) is Code.WEAK_KEY


@pytest.mark.parametrize("reply", [*sorted(LOW_ORDER_AGREEMENT_KEYS)[:3], b"", bytes(31)], ids=bytes.hex)
def test_a_reply_key_that_anybody_could_read_is_refused(reply: bytes) -> None:
    assert refused(handmade([DEVICE.public, reply, "sync", 0, b""])) is Code.WEAK_KEY


# --- bodies ---


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        body()[:-1],
        [*body(), None],
        [DEVICE.public, REPLY.public, b"sync", 0, b""],
        [DEVICE.public, REPLY.public, "x" * 33, 0, b""],
        body(packing="0"),
        body(packing=False),
        body(packing=True),
        body(packed="text"),
        body(packing=1, packed=b""),
        body(packing=1, packed=b"no frame at all"),
    ],
)
def test_a_body_of_another_shape_is_malformed(wrong: canonical.Value) -> None:
    assert refused(handmade(wrong)) is Code.MALFORMED


def test_an_answer_of_another_shape_is_malformed() -> None:
    request = ask()
    asked = request_hash(request)
    shapes: list[canonical.Value] = [None, [0], [0, b"", 0], [False, b""], ["0", b""]]
    for wrong in shapes:
        encoded = canonical.encode(wrong)
        signed = SERVER.sign(ANSWER, asked + encoded) + encoded
        sealed = b"\x00" + hpke.seal(signed, REPLY.public, tagged(ANSWER, asked), EPHEMERAL)
        with pytest.raises(PeerFault) as caught:
            open_answer(sealed, request, reply=REPLY, server_public=SERVER.public)
        assert caught.value.code is Code.MALFORMED


def test_a_body_of_thousands_of_parts_is_refused_before_they_are_read() -> None:
    assert refused(handmade([*body(), *[0] * 5_000])) is Code.TOO_LARGE


def test_a_packing_that_is_not_known_here_says_so() -> None:
    assert refused(handmade(body(packing=2))) is Code.UNKNOWN_FORMAT


def test_another_version_says_so() -> None:
    assert refused(b"\x01" + ask()[1:]) is Code.UNKNOWN_FORMAT
    with pytest.raises(PeerFault) as caught:
        open_answer(b"\x01" + answer(ask())[1:], ask(), reply=REPLY, server_public=SERVER.public)
    assert caught.value.code is Code.UNKNOWN_FORMAT


# --- sizes ---


def test_a_payload_that_compresses_travels_compressed_and_one_that_does_not_travels_as_it_is() -> None:
    assert len(ask(b"0123456789abcdef" * 100)) < 300
    noise = hpke.seal(bytes(1000), SERVER_KEY.public, b"", EPHEMERAL)
    assert len(ask(noise)) <= 198 + len(noise) + 1


def test_what_would_compress_beyond_the_accepted_ratio_still_arrives() -> None:
    payload = bytes(1_000_000)
    assert open_request(ask(payload), [SERVER_KEY]).payload == payload


def frame(content: bytes, *, declared: bool = True) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=declared).compress(content)


def test_a_decompression_bomb_is_refused_before_it_grows() -> None:
    small = frame(bytes(MAX_MESSAGE_BYTES))
    assert len(small) * MAX_COMPRESSION_RATIO < MAX_MESSAGE_BYTES
    assert refused(handmade(body(packing=1, packed=small))) is Code.TOO_LARGE


def test_a_frame_that_declares_more_than_any_message_is_refused() -> None:
    # Frame header of RFC 8878: eight bytes of content size, one segment, then enough bytes to respect the ratio.
    head = bytes.fromhex("28b52ffde0") + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "little")
    assert refused(handmade(body(packing=1, packed=head + bytes(200_000)))) is Code.TOO_LARGE


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    # Four bytes of content size, not one segment, window descriptor for 1 GiB.
    head = bytes.fromhex("28b52ffd80") + bytes([(30 - 10) << 3]) + (64).to_bytes(4, "little")
    assert refused(handmade(body(packing=1, packed=head + bytes(64)))) is Code.TOO_LARGE


def test_a_frame_must_declare_its_size_and_keep_to_it() -> None:
    assert refused(handmade(body(packing=1, packed=frame(b"ab" * 100, declared=False)))) is Code.MALFORMED
    honest = frame(b"ab" * 100)
    assert honest[5] == 200
    lying = honest[:5] + bytes([180]) + honest[6:]
    assert refused(handmade(body(packing=1, packed=lying))) is Code.MALFORMED
    assert refused(handmade(body(packing=1, packed=honest[:-1]))) is Code.MALFORMED
    assert refused(handmade(body(packing=1, packed=honest + b"x"))) is Code.MALFORMED


def test_one_byte_too_many_is_refused() -> None:
    assert refused(bytes(MAX_REQUEST_BYTES + 1)) is Code.TOO_LARGE
    with pytest.raises(TooLarge):
        open_answer(bytes(MAX_ANSWER_BYTES + 1), b"", reply=REPLY, server_public=SERVER.public)
    with pytest.raises(TooLarge):
        ask(bytes(MAX_MESSAGE_BYTES + 1))
