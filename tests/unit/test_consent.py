"""A key's word that it consents to be a server's is good for that one certificate."""

from __future__ import annotations

from dataclasses import replace

from protocol.identity import SigningKey
from protocol.model.structure import Certificate
from sync_server.kit.consent import consent, consents

KEY, ROOT, TERRITORY = SigningKey(bytes(31) + b"\1"), bytes(31) + b"\2", bytes(31) + b"\3"
CERTIFICATE = Certificate(KEY.public, bytes(31) + b"\4")


def test_a_key_consents_for_itself_beside_what_else_the_certificate_names() -> None:
    word = consent(KEY, CERTIFICATE, TERRITORY, ROOT)
    assert consents(word, CERTIFICATE, TERRITORY, ROOT)
    assert consents(word, replace(CERTIFICATE, beside=(bytes(32),)), TERRITORY, ROOT)


def test_its_word_is_none_for_another_root_territory_or_pair_and_nobody_elses_is() -> None:
    word, other = consent(KEY, CERTIFICATE, TERRITORY, ROOT), bytes(31) + b"\5"
    assert not consents(word, CERTIFICATE, TERRITORY, other)
    assert not consents(word, CERTIFICATE, other, ROOT)
    assert not consents(word, replace(CERTIFICATE, agreement=other), TERRITORY, ROOT)
    assert not consents(consent(SigningKey(other), CERTIFICATE, TERRITORY, ROOT), CERTIFICATE, TERRITORY, ROOT)
    assert not consents(b"", CERTIFICATE, TERRITORY, ROOT)
