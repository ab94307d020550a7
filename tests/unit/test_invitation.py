from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code, Refused
from protocol.messages.enrollment import EnrollRequest
from protocol.model.structure import Invite
from protocol.trust import invitation
from protocol.trust.invitation import (
    ALPHABET,
    Invitation,
    from_base32,
    invitation_hash,
    parse_code,
    territory_fingerprint,
    to_base32,
    veiled,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "invitation.json").read_text(encoding="utf-8"))
TERRITORY_OF_VECTORS, SECRET, DEVICE = (bytes.fromhex(VECTORS[name]) for name in ("territory", "secret", "device"))
TERRITORY = bytes(range(100, 132))
INVITATION = Invitation.create(TERRITORY, bytes(range(10)))
CODE = INVITATION.code()
ten_bytes = st.binary(min_size=10, max_size=10)


def reason(text: str) -> str:
    with pytest.raises(Refused) as caught:
        parse_code(text)
    assert caught.value.code is Code.CODE_WRONG
    assert caught.value.exit_status == 5
    return caught.value.message


def test_a_code_is_that_of_the_vectors() -> None:
    known, expected = Invitation(TERRITORY_OF_VECTORS[:10], SECRET, version=1), VECTORS["version 1"]
    assert known.key is not None
    proof = known.proof(DEVICE)
    assert proof is not None
    assert {
        "code": known.code(),
        "shown": known.shown.hex(),
        "secret_hash": known.secret_hash.hex(),
        "key": known.key.hex(),
        "veiled": veiled(known.shown, known.secret_hash, DEVICE).hex(),
        "proof": proof.hex(),
    } == expected
    assert parse_code(expected["code"]) == known


@pytest.mark.parametrize("version", range(3))
def test_each_code_of_a_territory_begins_with_its_fingerprint_after_the_first_digit(version: int) -> None:
    shown = territory_fingerprint(TERRITORY_OF_VECTORS)
    assert shown == VECTORS["fingerprint"]
    for secret in (SECRET, bytes(10)):
        code = Invitation(TERRITORY_OF_VECTORS[:10], secret, version).code()
        assert code.startswith(f"{version}{shown}-")
        assert territory_fingerprint(parse_code(code).fingerprint) == shown


@given(st.integers(0, 74))
def test_a_territory_whose_id_differs_in_one_of_75_bits_has_another_fingerprint(bit: int) -> None:
    other = (int.from_bytes(TERRITORY) ^ 1 << (255 - bit)).to_bytes(32)
    assert territory_fingerprint(other) != territory_fingerprint(TERRITORY)


def test_a_code_vouches_for_what_its_invitation_says_as_in_the_vectors() -> None:
    known, expected = Invitation.create(TERRITORY_OF_VECTORS, SECRET), VECTORS["version 2"]
    assert (known.code(), known.vouches) == (expected["code"], True)
    assert (known.shown.hex(), known.key and known.key.hex()) == (
        VECTORS["version 1"]["shown"],
        VECTORS["version 1"]["key"],
    )
    said = Invite.parse(bytes.fromhex(expected["vouched"]))
    vouched = said.vouched_by(known)
    assert vouched.vouch is not None
    assert vouched.vouch.hex() == expected["vouch"]
    assert Invite.parse(vouched.encode()) == vouched
    assert vouched.is_vouched
    assert said.hosts is not None
    for other in (
        said,
        replace(vouched, uses=31),
        replace(vouched, hosts=None),
        replace(vouched, hosts=replace(said.hosts, keys=said.hosts.keys[:1])),
        replace(vouched, hosts=replace(said.hosts, certificate=None)),
        replace(vouched, key=Invitation.create(TERRITORY, bytes(10)).key),
        replace(vouched, key=None),
    ):
        assert not other.is_vouched


def test_a_code_of_an_earlier_program_is_read_and_told_as_it_is() -> None:
    known = parse_code(VECTORS["code"])
    assert known == Invitation(TERRITORY_OF_VECTORS[:10], SECRET, version=0)
    assert known.code() == VECTORS["code"]
    assert known.secret_hash.hex() == VECTORS["secret_hash"]
    assert known.secret_hash == invitation_hash(known.secret)
    assert (known.shown, known.key, known.proof(DEVICE)) == (SECRET, None, None)


def test_a_proof_is_of_one_code_and_for_one_device() -> None:
    known, other = Invitation.create(TERRITORY, SECRET), Invitation.create(TERRITORY, bytes(10))
    request = EnrollRequest(known.shown, bytes(32), bytes(32), "Renard", in_clear=True, proof=known.proof(DEVICE))
    assert request.proves(known.key, DEVICE)
    assert not request.proves(known.key, bytes(32))
    assert not request.proves(other.key, DEVICE)
    assert not replace(request, proof=None).proves(known.key, DEVICE)
    assert replace(request, proof=None).proves(None, DEVICE), "a code of before has no key"


def test_what_is_shown_does_not_say_what_the_secret_is() -> None:
    known = Invitation.create(TERRITORY, SECRET)
    assert known.shown != SECRET
    told = Invitation.create(TERRITORY, known.shown)
    assert told.key != known.key


def test_a_secret_that_is_told_is_read_by_who_holds_the_invitation_and_from_that_device_alone() -> None:
    secret, device = SECRET, DEVICE
    known = invitation_hash(secret)
    told = veiled(secret, known, device)
    assert told.hex() == VECTORS["veiled"]
    assert veiled(told, known, device) == secret
    for request in (
        EnrollRequest(told, bytes(32), bytes(32), "Renard"),
        EnrollRequest(secret, bytes(32), bytes(32), "Renard", in_clear=True),
    ):
        assert request.tells(known, device)
        assert not request.tells(bytes(32), device)
    assert not EnrollRequest(told, bytes(32), bytes(32), "Renard").tells(known, bytes(32))


@given(ten_bytes, ten_bytes)
def test_every_code_is_read_again(fingerprint: bytes, secret: bytes) -> None:
    made = Invitation(fingerprint, secret)
    assert parse_code(made.code()) == made
    assert len(made.code()) == 36 + 8


@given(ten_bytes, ten_bytes)
def test_a_code_is_read_as_people_type_it(fingerprint: bytes, secret: bytes) -> None:
    made = Invitation(fingerprint, secret)
    typed = made.code().replace("0", "o").replace("1", "l").lower()
    for written in (typed, typed.upper(), typed.replace("-", ""), typed.replace("-", " – "), f"\n “{typed}”.\r\n"):
        assert parse_code(written) == made
    assert parse_code(made.code().replace("1", "I")) == made


def test_any_one_mistyped_character_is_noticed() -> None:
    plain = CODE.replace("-", "")
    missed = 0
    for place, right in enumerate(plain):
        for wrong in ALPHABET:
            if wrong != right:
                try:
                    parse_code(plain[:place] + wrong + plain[place + 1 :])
                    missed += 1
                except Refused:
                    pass
    assert missed == 0


def test_two_swapped_neighbours_are_noticed() -> None:
    plain = CODE.replace("-", "")
    for place in range(len(plain) - 1):
        swapped = plain[:place] + plain[place + 1] + plain[place] + plain[place + 2 :]
        if swapped != plain:
            assert "mistyped" in reason(swapped)


def test_a_code_that_is_too_short_or_too_long_says_how_long_it_is() -> None:
    assert "this one has 0" in reason("")
    assert "this one has 35" in reason(CODE[:-1])
    assert "this one has 37" in reason(CODE + "A")
    assert "far too long" in reason("A" * 201)


def test_a_character_that_no_code_holds_is_named() -> None:
    assert "“U”" in reason("u" + CODE[1:])
    assert "“É”" in reason("é" + CODE[1:])


def test_a_code_of_a_later_version_says_so() -> None:
    later = "3" + CODE.replace("-", "")[1:-3]
    assert "newer version" in reason(later + invitation._checksum(later))


def test_a_code_shows_whether_it_is_for_this_territory() -> None:
    assert INVITATION.matches(TERRITORY)
    assert not INVITATION.matches(bytes(32))


def test_the_secret_does_not_show_when_an_invitation_is_printed() -> None:
    assert INVITATION.secret.hex() not in repr(INVITATION)
    assert repr(INVITATION.secret) not in repr(INVITATION)


@given(st.binary(max_size=70))
def test_base32_gives_the_bytes_back(data: bytes) -> None:
    assert from_base32(to_base32(data), len(data)) == data
