"""What a passkey proves, and where one can be used at all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.errors import BadInput
from sync_server.handlers.accounts.passkey_keys import is_signed
from sync_server.handlers.accounts.webauthn import (
    Assertion,
    Birth,
    Credential,
    born,
    from_base64url,
    is_said_by_browser,
    origin_of,
    party_of,
    used,
)
from tests.harness.passkey import PRESENT, VERIFIED, Authenticator, b64

ORIGIN = "https://relais.example.org"
CHALLENGE = bytes(range(32))
TEXT = b64(CHALLENGE)


def birth(form: dict[str, str]) -> Birth:
    return Birth(*(from_base64url(form[name]) for name in ("id", "client", "authenticator", "key")))


def assertion(form: dict[str, str]) -> Assertion:
    return Assertion(*(from_base64url(form[name]) for name in ("id", "client", "authenticator", "signature")))


@pytest.fixture
def phone() -> Authenticator:
    return Authenticator(ORIGIN)


def known(phone: Authenticator, count: int = 0) -> Credential:
    made = born(birth(phone.made(TEXT)), challenge=CHALLENGE, origin=ORIGIN)
    assert made is not None
    return replace(made, count=count)


def test_a_passkey_that_was_made_here_is_known_by_what_it_signs(phone: Authenticator) -> None:
    credential = known(phone)
    assert (credential.id, credential.key, credential.origin) == (phone.id, phone.public, ORIGIN)
    assert used(credential, assertion(phone.used(TEXT)), CHALLENGE) == credential
    assert used(credential, assertion(Authenticator(ORIGIN, phone.id).used(TEXT)), CHALLENGE) is None


@pytest.mark.parametrize("flags", [0, PRESENT, VERIFIED])
def test_who_sits_there_is_known_by_the_authenticator_both_when_it_is_made_and_used(
    phone: Authenticator, flags: int
) -> None:
    assert born(birth(phone.made(TEXT, flags=flags)), challenge=CHALLENGE, origin=ORIGIN) is None
    assert used(known(phone), assertion(phone.used(TEXT, flags=flags)), CHALLENGE) is None


def test_a_counter_that_does_not_grow_is_a_copy_of_the_key_unless_it_never_counts(phone: Authenticator) -> None:
    for before, now, opens in ((0, 0, True), (0, 1, True), (7, 8, True), (7, 7, False), (7, 6, False), (7, 0, False)):
        opened = used(known(phone, before), assertion(phone.used(TEXT, count=now)), CHALLENGE)
        assert (opened is not None) == opens, (before, now)
        assert opened is None or opened.count == now


@pytest.mark.parametrize(
    "page", ["https://relais.example.org:8443", "http://relais.example.org", "https://example.org"]
)
def test_another_origin_of_the_same_name_is_another_place(phone: Authenticator, page: str) -> None:
    assert born(birth(phone.made(TEXT, page=page)), challenge=CHALLENGE, origin=ORIGIN) is None
    assert used(known(phone), assertion(phone.used(TEXT, page=page)), CHALLENGE) is None


def test_a_passkey_of_another_site_is_none_of_ours() -> None:
    elsewhere = Authenticator("https://evil.example")
    assert born(birth(elsewhere.made(TEXT, page=ORIGIN)), challenge=CHALLENGE, origin=ORIGIN) is None


def test_the_key_that_is_kept_is_the_one_that_the_authenticator_made(phone: Authenticator) -> None:
    other = Authenticator(ORIGIN).public
    p384 = generate_private_key(SECP384R1()).public_key()
    wrong = (other, b"", b"\x30", p384.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), bytes(5_000))
    for key in wrong:
        assert born(birth(phone.made(TEXT, key=key)), challenge=CHALLENGE, origin=ORIGIN) is None


def test_a_passkey_that_signs_with_rsa_is_one_too() -> None:
    key = generate_rsa(65537, 2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert is_signed(public, key.sign(b"said", PKCS1v15(), SHA256()), b"said")
    assert not is_signed(public, key.sign(b"said", PKCS1v15(), SHA256()), b"not said")
    assert not is_signed(public, bytes(2_000), b"said")


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"[" * 3_000,
        b"\xff",
        json.dumps({"type": "webauthn.create", "challenge": TEXT, "origin": ORIGIN}).encode(),
        json.dumps({"type": "webauthn.get", "challenge": TEXT + "=", "origin": ORIGIN}).encode(),
        json.dumps({"type": "webauthn.get", "challenge": TEXT, "origin": ORIGIN, "crossOrigin": True}).encode(),
        json.dumps({"type": "webauthn.get", "challenge": TEXT, "origin": ORIGIN, "topOrigin": "x"}).encode(),
        json.dumps({"type": "webauthn.get", "challenge": TEXT, "origin": ORIGIN, "more": "x" * 5_000}).encode(),
    ],
)
def test_what_no_browser_says_is_not_believed(said: bytes) -> None:
    assert not is_said_by_browser(said, "webauthn.get", CHALLENGE, ORIGIN)


def test_what_is_cut_short_opens_nothing(phone: Authenticator) -> None:
    form = phone.used(TEXT)
    for name in form:
        assert used(known(phone), assertion({**form, name: form[name][:20]}), CHALLENGE) is None
        assert used(known(phone), assertion({**form, name: "é"}), CHALLENGE) is None
    made = phone.made(TEXT)
    for name in made:
        assert born(birth({**made, name: made[name][:40]}), challenge=CHALLENGE, origin=ORIGIN) is None


@pytest.mark.parametrize(
    ("address", "origin", "party"),
    [
        ("https://Relais.Example.org/admin/", ORIGIN, "relais.example.org"),
        ("https://relais.example.org:443", ORIGIN, "relais.example.org"),
        ("https://relais.example.org:8443", f"{ORIGIN}:8443", "relais.example.org"),
        ("http://localhost:8080", "http://localhost:8080", "localhost"),
        ("https://srv", "https://srv", "srv"),
    ],
)
def test_the_address_of_the_pages_becomes_an_origin(address: str, origin: str, party: str) -> None:
    assert (origin_of(address), party_of(origin)) == (origin, party)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "relais.example.org",
        "http://relais.example.org",
        "https://192.0.2.7:8443",
        "https://[2001:db8::7]",
        "https://1.2",
        "https://0x7f.1",
        "https://127.1",
        "https://somebody@relais.example.org",
        "https://relais.example.org:port",
        "https://écoles.example",
        "https://-a.example",
        "ftp://localhost",
    ],
)
def test_an_address_where_browsers_take_no_passkey_is_refused_in_words(address: str) -> None:
    with pytest.raises(BadInput, match=r"name"):
        origin_of(address)
