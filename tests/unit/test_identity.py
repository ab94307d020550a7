from __future__ import annotations

import datetime as dt
import json
import unicodedata
from itertools import combinations
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from protocol import canonical
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.identity import (
    LOW_ORDER_AGREEMENT_KEYS,
    SMALL_ORDER_SIGNING_KEYS,
    AgreementKey,
    DeviceKeys,
    SigningKey,
    check_agreement,
    check_public,
    create_tls_key,
    key_id,
    school_id,
    territory_id,
    uai_warning,
    verify,
    words_of,
)
from protocol.words import WORDS

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "identity.json").read_text(encoding="utf-8"))
ENTRY = b"relais/0 entry"
KEY = SigningKey(bytes(32))
PRIME = 2**255 - 19


def device() -> DeviceKeys:
    return DeviceKeys.create(bytes(32), bytes([1]) * 32, bytes([2]) * 32)


# --- signatures ---


def test_signatures_are_those_of_the_vectors() -> None:
    known = VECTORS["signing"]
    key = SigningKey(bytes.fromhex(known["seed"]))
    assert key.public.hex() == known["public"]
    signature = key.sign(known["domain"].encode(), bytes.fromhex(known["message"]))
    assert signature.hex() == known["signature"]
    assert verify(key.public, known["domain"].encode(), bytes.fromhex(known["message"]), signature)


def test_what_is_signed_is_the_domain_a_zero_byte_and_the_message() -> None:
    signature = KEY.sign(ENTRY, b"text")
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(signature, b"relais/0 entry\x00text")


@given(st.binary(max_size=80), st.integers(min_value=0, max_value=511))
def test_a_signature_with_any_bit_changed_is_refused(message: bytes, bit: int) -> None:
    changed = bytearray(KEY.sign(ENTRY, message))
    changed[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public, ENTRY, message, bytes(changed))


def test_a_signature_holds_for_one_message_one_key_and_one_domain() -> None:
    signature = KEY.sign(ENTRY, b"text")
    assert verify(KEY.public, ENTRY, b"text", signature)
    assert not verify(KEY.public, ENTRY, b"Text", signature)
    assert not verify(SigningKey(bytes([1]) * 32).public, ENTRY, b"text", signature)
    assert not verify(KEY.public, b"relais/0 request", b"text", signature)


def test_a_domain_that_begins_another_cannot_lend_it_a_signature() -> None:
    signature = KEY.sign(b"relais/0 entry", b" of another kind")
    assert not verify(KEY.public, b"relais/0 entry of", b" another kind", signature)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_signature_of_another_size_is_refused(size: int) -> None:
    assert not verify(KEY.public, ENTRY, b"text", KEY.sign(ENTRY, b"text").ljust(65, b"\x00")[:size])


# --- keys that no device has ---


def test_the_refused_signing_keys_are_the_fourteen_of_the_vectors() -> None:
    assert sorted(key.hex() for key in SMALL_ORDER_SIGNING_KEYS) == VECTORS["small_order_signing_keys"]
    assert len(SMALL_ORDER_SIGNING_KEYS) == 14


@pytest.mark.parametrize("public", sorted(SMALL_ORDER_SIGNING_KEYS), ids=bytes.hex)
def test_a_small_order_key_forges_for_the_library_and_not_for_us(public: bytes) -> None:
    bare = Ed25519PublicKey.from_public_bytes(public)
    forged = 0
    for number in range(64):
        message = b"message %d" % number
        for first_half in SMALL_ORDER_SIGNING_KEYS:
            signature = first_half + bytes(32)
            assert not verify(public, ENTRY, message, signature)
            try:
                bare.verify(signature, b"relais/0 entry\x00" + message)
            except InvalidSignature:
                continue
            forged += 1
    assert forged > 0
    with pytest.raises(PeerFault) as caught:
        check_public(public)
    assert caught.value.code is Code.WEAK_KEY


@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_an_encoding_that_is_not_reduced_is_refused(sign: int) -> None:
    for y in range(PRIME, 2**255):
        with pytest.raises(PeerFault):
            check_public((y | sign).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(PeerFault):
        check_public(bytes([7]) * size)
    with pytest.raises(PeerFault):
        check_agreement(bytes([7]) * size)


def test_honest_keys_are_accepted() -> None:
    for number in range(50):
        check_public(SigningKey(bytes([number]) * 32).public)
        check_agreement(AgreementKey(bytes([number]) * 32).public)


def test_a_key_that_is_on_no_curve_verifies_nothing() -> None:
    public = (2).to_bytes(32, "little")
    assert not verify(public, ENTRY, b"text", KEY.sign(ENTRY, b"text"))


def test_the_refused_agreement_keys_are_those_for_which_the_library_finds_a_zero_secret() -> None:
    assert sorted(key.hex() for key in LOW_ORDER_AGREEMENT_KEYS) == VECTORS["low_order_agreement_keys"]
    mine = X25519PrivateKey.from_private_bytes(bytes([9]) * 32)
    for public in LOW_ORDER_AGREEMENT_KEYS:
        with pytest.raises(ValueError, match="shared"):
            mine.exchange(X25519PublicKey.from_public_bytes(public))
        with pytest.raises(PeerFault) as caught:
            check_agreement(public)
        assert caught.value.code is Code.WEAK_KEY


# --- a device's keys ---


def test_a_devices_keys_come_back_from_their_file() -> None:
    keys = device()
    again = DeviceKeys.from_bytes(keys.to_bytes())
    assert (again.signing.public, again.agreement.public, again.tls) == (
        keys.signing.public,
        keys.agreement.public,
        keys.tls,
    )


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_cut_file_of_keys_is_called_damaged(cut: int) -> None:
    with pytest.raises(LocalFailure) as caught:
        DeviceKeys.from_bytes(device().to_bytes()[:cut])
    assert caught.value.code is Code.DAMAGED


def test_a_file_of_keys_with_something_else_in_it_is_called_damaged() -> None:
    others: list[canonical.Value] = [{"format": 0}, [1], {"format": 1, "signing": bytes(32)}]
    for other in others:
        with pytest.raises(LocalFailure):
            DeviceKeys.from_bytes(canonical.encode(other))
    more = canonical.decode(device().to_bytes(), max_bytes=4096)
    assert isinstance(more, dict)
    with pytest.raises(LocalFailure):
        DeviceKeys.from_bytes(canonical.encode({**more, "extra": 1}))
    with pytest.raises(LocalFailure):
        DeviceKeys.from_bytes(canonical.encode({**more, "signing": bytes(31)}))


def test_a_listeners_certificate_is_valid_from_1970_to_9999_for_its_own_p256_key() -> None:
    tls = create_tls_key(bytes.fromhex(VECTORS["tls"]["seed"]))
    assert tls.certificate.hex() == VECTORS["tls"]["certificate"]
    assert tls.fingerprint.hex() == VECTORS["tls"]["fingerprint"]
    certificate = x509.load_der_x509_certificate(tls.certificate)
    assert certificate.not_valid_before_utc == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert certificate.not_valid_after_utc == dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
    certificate.verify_directly_issued_by(certificate)
    private = serialization.load_der_private_key(tls.private, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP256R1)
    assert certificate.public_key() == private.public_key()


def test_no_secret_shows_when_keys_are_printed() -> None:
    keys = device()
    shown = repr(keys)
    for secret in (keys.signing.seed, keys.agreement.seed, keys.tls.private):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert keys.signing.public.hex() in shown


# --- identifiers ---


def test_territory_school_and_key_id_are_those_of_the_vectors() -> None:
    known = VECTORS["territory"]
    territory = territory_id(bytes.fromhex(known["root_public"]))
    assert territory.hex() == known["id"]
    assert list(words_of(territory)) == known["words"]
    assert school_id(territory, VECTORS["school"]["uai"]).hex() == VECTORS["school"]["id"]
    public = AgreementKey(bytes.fromhex(VECTORS["agreement"]["seed"])).public
    assert public.hex() == VECTORS["agreement"]["public"]
    assert key_id(public).hex() == VECTORS["agreement"]["key_id"]


def test_a_school_made_twice_offline_is_one() -> None:
    territory = territory_id(KEY.public)
    assert school_id(territory, " 0180001d") == school_id(territory, "0180001D")
    assert school_id(territory, "0180002E") != school_id(territory, "0180001D")
    assert school_id(bytes(32), "0180001D") != school_id(territory, "0180001D")


def test_a_right_uai_gives_no_warning() -> None:
    for uai in ("0180001D", "0180002E", " 0180003f "):
        assert uai_warning(uai) is None


def test_a_wrong_check_letter_is_warned_about_with_the_right_one() -> None:
    assert "should be D" in (uai_warning("0180001X") or "")


@pytest.mark.parametrize("uai", ["", "018000D", "collège", "²180001D", "0180001", "0180001DD"])
def test_what_is_no_uai_is_warned_about(uai: str) -> None:
    assert uai_warning(uai) is not None


# --- three words ---


def test_there_is_one_word_for_each_byte() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256
    assert words_of(bytes([0, 255, 1]) + bytes(29)) == (WORDS[0], WORDS[255], WORDS[1])


def test_no_two_words_are_easily_taken_for_one_another() -> None:
    def plain(word: str) -> str:
        return "".join(char for char in unicodedata.normalize("NFD", word) if not unicodedata.combining(char))

    assert all(unicodedata.is_normalized("NFC", word) and word.isalpha() and word.islower() for word in WORDS)
    for one, other in combinations(map(plain, WORDS), 2):
        if len(one) == len(other):
            assert sum(a != b for a, b in zip(one, other, strict=True)) > 1, (one, other)
