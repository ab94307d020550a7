"""Proofs of a hand-in, which a person keeps on paper (docs/protocol.md, "Proofs").

A proof is 20 characters of Crockford's base32 in five groups of four: version (1), the first bytes of the hand-in's id
(16 for 10 bytes), checksum (3). The id is a hash of the signed header, which commits to author, pupil, assignment, time
and the sealed bytes, so that nobody can make another hand-in that fits a paper which is there already; two at once that
share one somebody can, who has a device of the class and much time: where both are, it proves neither. What has become
of it is told by the signed receipts in the set, wherever it is checked: at the server, or at one that was made anew.
"""

from __future__ import annotations

from typing import Final

from blake3 import blake3

from protocol.errors import BadInput, Code
from protocol.identity import tagged
from protocol.limits import MAX_CODE_CHARS
from protocol.trust.invitation import ALPHABET, as_typed, from_base32, to_base32

PROOF_BYTES: Final = 10

_CHECK: Final = b"relais/0 proof check"
_VERSION: Final = 1
_CHARS: Final = 20
_CHECK_CHARS: Final = 3
_GROUP_CHARS: Final = 4


def proof_code(hand_in: bytes) -> str:
    """The proof of the hand-in with this id, in groups of four joined by dashes."""
    body = ALPHABET[_VERSION] + to_base32(hand_in[:PROOF_BYTES])
    whole = body + _checksum(body)
    return "-".join(whole[at : at + _GROUP_CHARS] for at in range(0, _CHARS, _GROUP_CHARS))


def parse_proof(text: str) -> bytes:
    """The first `PROOF_BYTES` of the hand-in's id, from a proof as typed. Raises `BadInput(UNKNOWN_HAND_IN)`."""
    typed = as_typed(text[:MAX_CODE_CHARS])
    body, check = typed[:-_CHECK_CHARS], typed[-_CHECK_CHARS:]
    if len(typed) != _CHARS:
        raise _wrong(f"a proof of a hand-in has {_CHARS} letters and digits, and this has {len(typed)}")
    if not set(typed) <= set(ALPHABET) or check != _checksum(body):
        raise _wrong("this is no proof of a hand-in, or it is mistyped: compare it with the paper, letter by letter")
    if body[0] != ALPHABET[_VERSION]:
        raise _wrong("this is a code for something else, or was made for a newer version of the program")
    return from_base32(body[1:], PROOF_BYTES)


def _checksum(body: str) -> str:
    return to_base32(blake3(tagged(_CHECK, body.encode())).digest(length=2))[:_CHECK_CHARS]


def _wrong(sentence: str) -> BadInput:
    return BadInput(Code.UNKNOWN_HAND_IN, sentence, problem="unreadable")
