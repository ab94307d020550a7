"""The code on a proof of a hand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadInput, Code
from protocol.identity import territory_id
from protocol.trust.invitation import Invitation
from protocol.trust.receipt_code import PROOF_BYTES, parse_proof, proof_code

IDS = st.binary(min_size=32, max_size=32)


@given(IDS)
def test_a_proof_holds_the_beginning_of_the_hand_ins_id(hand_in: bytes) -> None:
    code = proof_code(hand_in)
    assert parse_proof(code) == hand_in[:PROOF_BYTES]
    assert parse_proof(code.lower().replace("-", " ").replace("0", "o").replace("1", "l")) == hand_in[:PROOF_BYTES]


@pytest.mark.parametrize("place", range(20))
def test_a_mistyped_character_is_noticed(place: int) -> None:
    chars = list(proof_code(bytes(range(32))).replace("-", ""))
    chars[place] = "7" if chars[place] != "7" else "8"
    with pytest.raises(BadInput) as caught:
        parse_proof("".join(chars))
    assert caught.value.code is Code.UNKNOWN_HAND_IN


@pytest.mark.parametrize("text", ["", "1", "PREUVE", "1" * 500, "é" * 20, "0000-0000-0000-0000-0000"])
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_proof(text)


def test_what_is_too_short_for_a_proof_is_told_how_long_one_is() -> None:
    with pytest.raises(BadInput, match="has 20 letters and digits, and this has 3"):
        parse_proof("foo")
    with pytest.raises(BadInput, match="mistyped"):
        parse_proof("0000-0000-0000-0000-0000")


def test_a_code_for_enrolling_is_not_taken_for_a_proof() -> None:
    with pytest.raises(BadInput):
        parse_proof(Invitation.create(territory_id(bytes(32)), bytes(10)).code())


def test_the_vector_of_the_specification() -> None:
    known = json.loads((Path(__file__).parent.parent / "vectors" / "proof.json").read_text())
    assert proof_code(bytes.fromhex(known["hand_in"])) == known["code"]
