from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, PeerFault
from protocol.identity import LOW_ORDER_AGREEMENT_KEYS, AgreementKey
from protocol.trust import hpke

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "hpke.json").read_text(encoding="utf-8"))
READER = AgreementKey(bytes([5]) * 32)
secrets = st.binary(min_size=32, max_size=32)


def test_the_key_schedule_agrees_with_rfc_9180() -> None:
    known = {name: bytes.fromhex(text) for name, text in VECTORS["rfc9180_a2_1"].items() if name != "source"}
    ephemeral = AgreementKey(known["ephemeral_secret"])
    assert ephemeral.public == known["enc"]
    assert AgreementKey(known["recipient_secret"]).public == known["recipient_public"]
    shared = ephemeral.private.exchange(X25519PublicKey.from_public_bytes(known["recipient_public"]))
    key, nonce = hpke.key_schedule(shared, ephemeral.public, known["recipient_public"], known["info"])
    assert (key, nonce) == (known["key"], known["base_nonce"])
    # The RFC's example has associated data, which we never use: only the last step differs.
    assert ChaCha20Poly1305(key).encrypt(nonce, known["plaintext"], known["aad"]) == known["ciphertext"]


def test_a_seal_is_that_of_the_vectors() -> None:
    known = {name: bytes.fromhex(text) for name, text in VECTORS["seal"].items()}
    reader = AgreementKey(known["recipient_secret"])
    sealed = hpke.seal(known["plaintext"], reader.public, known["info"], known["ephemeral_secret"])
    assert sealed == known["sealed"]
    assert len(sealed) == len(known["plaintext"]) + hpke.OVERHEAD_BYTES


@given(st.binary(max_size=300), st.binary(max_size=60), secrets, secrets)
def test_the_librarys_own_hpke_opens_what_we_seal(
    plaintext: bytes, info: bytes, reader_secret: bytes, ephemeral_secret: bytes
) -> None:
    reader = AgreementKey(reader_secret)
    assert hpke.open_(hpke.seal(plaintext, reader.public, info, ephemeral_secret), reader, info) == plaintext


@given(st.integers(min_value=0))
def test_a_seal_with_any_bit_changed_does_not_open(bit: int) -> None:
    changed = bytearray(hpke.seal(b"text", READER.public, b"info", bytes([6]) * 32))
    bit %= len(changed) * 8
    # X25519 ignores the top bit of a point, but HPKE's key schedule does not.
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PeerFault) as caught:
        hpke.open_(bytes(changed), READER, b"info")
    assert caught.value.code is Code.BAD_SEAL


def test_a_seal_opens_for_its_reader_and_its_purpose_only() -> None:
    sealed = hpke.seal(b"text", READER.public, b"info", bytes([6]) * 32)
    for reader, info in ((AgreementKey(bytes([7]) * 32), b"info"), (READER, b"other"), (READER, b"")):
        with pytest.raises(PeerFault) as caught:
            hpke.open_(sealed, reader, info)
        assert caught.value.code is Code.BAD_SEAL


@pytest.mark.parametrize("size", [0, 1, 31, 32, 47, 48])
def test_a_seal_that_is_cut_short_does_not_open(size: int) -> None:
    with pytest.raises(PeerFault) as caught:
        hpke.open_(hpke.seal(b"text", READER.public, b"info", bytes([6]) * 32)[:size], READER, b"info")
    assert caught.value.code is Code.BAD_SEAL


@pytest.mark.parametrize("public", sorted(LOW_ORDER_AGREEMENT_KEYS), ids=bytes.hex)
def test_nothing_is_sealed_to_a_low_order_key_and_nothing_opens_from_one(public: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        hpke.seal(b"text", public, b"info", bytes([6]) * 32)
    assert caught.value.code is Code.WEAK_KEY
    with pytest.raises(PeerFault) as caught:
        hpke.open_(public + bytes(20), READER, b"info")
    assert caught.value.code is Code.BAD_SEAL
