"""A key's word that it consents to be a server's is good for that one certificate."""

from __future__ import annotations

from dataclasses import replace

from protocol.canonical import encode
from protocol.identity import SigningKey
from protocol.model.structure import Certificate
from sync_server.kit.consent import consent, consents
from sync_server.kit.questions import ToSign, encode_question, parse_question

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


def test_a_question_brings_the_word_of_the_key_that_is_certified_and_one_that_certifies_none_is_as_before() -> None:
    word = consent(KEY, CERTIFICATE, TERRITORY, ROOT)
    for asked in (ToSign(new=False, entries=(), evidence=(), consent=word), ToSign(new=True, entries=(), evidence=())):
        assert parse_question(encode_question(asked)) == asked
    assert encode_question(ToSign(new=False, entries=(), evidence=())) == encode(["sign", False, [], []])
