"""Content behind a link: hidden under the link's key, in whatever pieces it goes, and in clear where there is none."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from protocol.messages.wire import Capability, Purpose
from protocol.transfer.crossing import crossing

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "link.json").read_text(encoding="utf-8"))
KEY = bytes(range(32))
WHOLE = bytes(range(256)) * 5


def test_the_cipher_is_that_of_rfc_8439() -> None:
    block = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"  # A.1, test vectors 1 and 2
    block += "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    second = "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    second += "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    assert crossing(bytes(32), 0)(bytes(128)).hex() == block + second
    assert crossing(bytes(32), 64)(bytes(64)).hex() == second


def test_a_link_and_its_key_are_those_of_the_vector() -> None:
    issuer, space, pack = (bytes.fromhex(VECTOR[name]) for name in ("issuer_key", "space", "pack"))
    may = Capability(Purpose.FETCH, space, pack, VECTOR["size"], VECTOR["expires_s"], keyed=True)
    assert may.issue(issuer) == VECTOR["capability"]
    assert may.link_key_under(issuer).hex() == VECTOR["link_key"]
    content = bytes.fromhex(VECTOR["content"])
    for at in (0, VECTOR["from"]):
        hidden = crossing(may.link_key_under(issuer), at)(content[at:])
        assert hidden.hex() == VECTOR["hidden"][2 * at :]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=6))
def test_what_is_hidden_in_some_pieces_is_told_in_any_others(places: list[int]) -> None:
    hidden = crossing(KEY, 0)(WHOLE)
    assert hidden != WHOLE
    ends = sorted({0, *places, len(WHOLE)})
    parts = [crossing(KEY, start)(hidden[start:end]) for start, end in pairwise(ends)]
    through = crossing(KEY, 0)
    pieces = [through(hidden[start:end]) for start, end in pairwise(ends)]
    assert b"".join(parts) == b"".join(pieces) == WHOLE


def test_behind_a_link_without_a_key_content_passes_as_it_is() -> None:
    assert crossing(b"", 77)(WHOLE) == WHOLE
