"""A teacher's reading key, sealed to other devices and to a phrase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.canonical import encode
from protocol.errors import BadInput, Code, PeerFault
from protocol.identity import AgreementKey
from protocol.limits import MAX_TRIED_PHRASES
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import (
    PHRASE_WORDS,
    KeyWraps,
    PhraseKey,
    SaidPhrase,
    drawn_of,
    open_reading_key,
    phrase_key,
    phrase_of,
    seal_reading_key,
    worth_trying,
)
from protocol.words import WORDS

DRAW = Random(5).randbytes
PERSON = DRAW(16)
KEY, DEVICE, STRANGER = AgreementKey(DRAW(32)), AgreementKey(DRAW(32)), AgreementKey(DRAW(32))
SPACE = DRAW(32)
SEALED = seal_reading_key(KEY, SPACE, PERSON, DEVICE.public, DRAW(32))
CHEAP = Argon2Cost(8, 1, 1)


def test_a_reading_key_opens_on_the_device_that_it_was_sealed_to() -> None:
    assert open_reading_key(SEALED, SPACE, PERSON, KEY.public, DEVICE).seed == KEY.seed


@pytest.mark.parametrize(
    ("space", "person", "agreement", "device"),
    [
        (SPACE, DRAW(16), KEY.public, DEVICE),
        (SPACE, PERSON, STRANGER.public, DEVICE),
        (SPACE, PERSON, KEY.public, STRANGER),
        (DRAW(32), PERSON, KEY.public, DEVICE),
        (None, PERSON, KEY.public, DEVICE),
    ],
)
def test_it_opens_for_no_other_space_person_key_or_device(
    space: bytes | None, person: bytes, agreement: bytes, device: AgreementKey
) -> None:
    with pytest.raises(PeerFault) as caught:
        open_reading_key(SEALED, space, person, agreement, device)
    assert caught.value.code is Code.BAD_SEAL


def test_a_seal_that_holds_another_key_than_it_names_opens_nothing() -> None:
    from protocol.identity import tagged  # noqa: PLC0415
    from protocol.trust import hpke  # noqa: PLC0415

    info = tagged(b"relais/0 key wrap of a space", SPACE + PERSON + KEY.public)
    for held in (STRANGER.seed, b"short"):
        with pytest.raises(PeerFault):
            open_reading_key(hpke.seal(held, DEVICE.public, info, DRAW(32)), SPACE, PERSON, KEY.public, DEVICE)


def test_a_phrase_is_read_whatever_its_case_accents_and_punctuation() -> None:
    words = ("balançoire", "bague", "dragon", "éclair", "écluse", "zèbre", "abeille", "éventail")
    drawn = bytes(WORDS.index(word) for word in words)
    phrase = phrase_of(drawn)
    assert phrase == "balançoire bague dragon éclair écluse zèbre abeille éventail"
    typed = "BALANCOIRE, Bague - dragon\neclair. Ecluse zebre  abeille éventail\n"
    assert drawn_of(phrase) == drawn_of(typed) == drawn


@pytest.mark.parametrize("typed", ["abeille", "abeille " * 9, "abeille " * 7 + "ornithorynque", "a" * 500, ""])
def test_what_is_no_phrase_is_said_to_be_none(typed: str) -> None:
    with pytest.raises(BadInput) as caught:
        drawn_of(typed)
    assert caught.value.exit_status == 2


def test_a_phrase_gives_one_key_per_person_and_salt() -> None:
    drawn, salt = DRAW(PHRASE_WORDS), DRAW(16)
    made = {
        phrase_key(drawn, PERSON, salt, CHEAP).public,
        phrase_key(drawn, PERSON, DRAW(16), CHEAP).public,
        phrase_key(drawn, DRAW(16), salt, CHEAP).public,
        phrase_key(DRAW(PHRASE_WORDS), PERSON, salt, CHEAP).public,
    }
    assert len(made) == 4
    assert phrase_key(drawn, PERSON, salt, CHEAP).public in made


def test_payloads_come_back_as_they_went() -> None:
    wraps = KeyWraps(KEY.public, ((DEVICE.public, SEALED),))
    phrase = PhraseKey(DEVICE.public, DRAW(16), CHEAP)
    assert KeyWraps.parse(wraps.encode()) == wraps
    assert PhraseKey.parse(phrase.encode()) == phrase


@pytest.mark.parametrize(
    "rows", [[1], [[KEY.public]], [[KEY.public, bytes(79)]], [[bytes(31), SEALED]], [SEALED] * 300]
)
def test_malformed_wraps_are_refused(rows: list[object]) -> None:
    with pytest.raises(PeerFault):
        KeyWraps.parse(encode({"agreement": KEY.public, "wraps": rows}))  # type: ignore[dict-item]


def test_a_phrase_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(PeerFault):
        PhraseKey.parse(PhraseKey(DEVICE.public, DRAW(16), Argon2Cost(1 << 30, 3, 4)).encode())


USUAL = Argon2Cost()
DEAREST = Argon2Cost(256 * 1024, 16, 4)


def said(by: int, at: int, *, speaks: bool = True, cost: Argon2Cost = USUAL) -> SaidPhrase:
    """A phrase of a line of keys."""
    salt = by.to_bytes(8, "big") + at.to_bytes(8, "big")
    return SaidPhrase(PERSON, PhraseKey(DEVICE.public, salt, cost), bytes([by]), speaks, at, salt)


def test_of_many_phrases_a_bounded_number_is_tried_and_each_device_has_its_turn() -> None:
    flood = [said(1, at) for at in range(10_000, 20_000)]
    own = [said(2, at) for at in range(3)]
    tried = worth_trying([*flood, *own])
    assert len(tried) == MAX_TRIED_PHRASES
    assert {one.derivation for one in own} <= set(tried)
    assert tried[0] in {flood[-1].derivation, own[-1].derivation}, "the newest first"


def test_the_newest_phrases_of_devices_that_speak_for_the_teacher_come_before_those_of_others() -> None:
    others = [said(by, 1_000, speaks=False) for by in range(200)]
    own = [said(by, at) for by in (201, 202) for at in range(10)]
    assert set(worth_trying([*others, *own])[:2]) == {own[9].derivation, own[19].derivation}


def test_dear_phrases_cost_no_more_together_than_so_many_usual_ones() -> None:
    dear = [said(by, 1_000, cost=DEAREST) for by in range(100)]
    own = said(101, 1)
    tried = worth_trying([*dear, own])
    assert own.derivation in tried, "the cheaper first"
    work = sum(cost.memory_kib * cost.passes for _, cost, _ in tried)
    assert work <= MAX_TRIED_PHRASES * USUAL.memory_kib * USUAL.passes


def test_a_phrase_that_is_said_in_every_class_is_tried_once() -> None:
    one = said(1, 1)
    assert worth_trying([one, replace(one, id=b"elsewhere", at=2)]) == [one.derivation]


def test_the_vector_of_the_specification() -> None:
    known = json.loads((Path(__file__).parent.parent / "vectors" / "person_keys.json").read_text())
    key, person = AgreementKey(bytes.fromhex(known["reading_key"])), bytes.fromhex(known["person"])
    recipient = AgreementKey(bytes.fromhex(known["recipient_secret"]))
    for space, wrap in ((bytes.fromhex(known["space"]), "wrap"), (None, "earlier_wrap")):
        sealed = seal_reading_key(key, space, person, recipient.public, bytes.fromhex(known["ephemeral"]))
        assert sealed.hex() == known[wrap]
        assert open_reading_key(sealed, space, person, bytes.fromhex(known["agreement"]), recipient).seed == key.seed
    cost = Argon2Cost(known["memory"], known["passes"], known["lanes"])
    derived = phrase_key(drawn_of(known["phrase"]), person, bytes.fromhex(known["salt"]), cost)
    assert (derived.seed.hex(), derived.public.hex()) == (known["phrase_secret"], known["phrase_agreement"])
