"""A server's TLS certificate says whose it is, and nobody else's can say so."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from protocol.canonical import encode
from protocol.errors import PeerFault
from protocol.identity import SigningKey, create_tls_key
from protocol.limits import MAX_TLS_BINDING_BYTES
from protocol.trust.server_tls import BINDING, Binding, bound_tls_key

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "server_tls.json").read_text())
SERVER = SigningKey(bytes(range(32)))
CHAIN = b"a chain"
SEED = b"s" * 32


def certificate_with(value: bytes, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    name = x509.Name([])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(BINDING), value), critical=False)
        .sign(key, hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey) else None)
    )
    return built.public_bytes(serialization.Encoding.DER)


def test_the_certificate_carries_the_chain_and_the_servers_word_for_the_key() -> None:
    key = bound_tls_key(SEED, SERVER, CHAIN)
    binding = Binding.shown_in(key.certificate)
    assert binding is not None
    assert binding.chain == CHAIN
    assert binding.is_by(SERVER.public)
    assert not binding.is_by(SigningKey(b"x" * 32).public)
    assert bound_tls_key(SEED, SERVER, CHAIN) == key, "made again after a restart it is the same"
    assert key.private == create_tls_key(SEED).private


def test_the_certificate_is_that_of_the_specification() -> None:
    key = bound_tls_key(
        bytes.fromhex(VECTOR["seed"]), SigningKey(bytes.fromhex(VECTOR["signing"])), bytes.fromhex(VECTOR["chain"])
    )
    assert key.certificate.hex() == VECTOR["certificate"]
    assert key.fingerprint.hex() == VECTOR["fingerprint"]


def test_the_word_for_one_key_is_none_for_another() -> None:
    binding = Binding.shown_in(bound_tls_key(SEED, SERVER, CHAIN).certificate)
    assert binding is not None
    copied = encode({"chain": binding.chain, "signature": binding.signature})
    stolen = Binding.shown_in(certificate_with(copied, ec.generate_private_key(ec.SECP256R1())))
    assert stolen is not None
    assert not stolen.is_by(SERVER.public)


def test_a_certificate_that_says_nothing_is_told_from_one_that_says_nonsense() -> None:
    assert Binding.shown_in(create_tls_key(SEED).certificate) is None
    key = ec.generate_private_key(ec.SECP256R1())
    for value in (b"", b"\x80", encode({"chain": b""}), encode({"chain": b"", "signature": b"short"})):
        with pytest.raises(PeerFault):
            Binding.shown_in(certificate_with(value, key))
    too_much = encode({"chain": bytes(MAX_TLS_BINDING_BYTES), "signature": bytes(64)})
    with pytest.raises(PeerFault):
        Binding.shown_in(certificate_with(too_much, key))
    with pytest.raises(PeerFault):
        Binding.shown_in(
            certificate_with(encode({"chain": b"", "signature": bytes(64)}), ed25519.Ed25519PrivateKey.generate())
        )
    for bytes_ in (b"", b"\x30\x00", create_tls_key(SEED).certificate[:-1]):
        with pytest.raises(PeerFault):
            Binding.shown_in(bytes_)
