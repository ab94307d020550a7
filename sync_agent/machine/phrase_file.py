"""What says that this device drew its teacher's phrase, in DIR/keys (docs/protocol.md, "Reading keys").

Rules:
- the file holds what was signed once for this device, and nothing that signs or opens: with it the phrase is said in a
  class that comes later, so that the paper opens that one too, and nobody else has anything of it;
- what cannot be read says nothing: the phrase goes on opening what it opened.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields
from protocol.limits import MAX_DRAWN_PHRASES, KiB
from protocol.model.entry import PERSON_BYTES
from protocol.trust.person_keys import PhraseKey

_MAX_BYTES: Final = 16 * KiB


@dataclass(frozen=True, slots=True)
class DrawnPhrase:
    """A phrase that was drawn for one id of a teacher's, and its key as entries say it."""

    person: bytes
    key: PhraseKey

    @classmethod
    def parse(cls, row: Value) -> Self:
        """From a row of the file. Raises `PeerFault`."""
        fields = Fields(row, "a drawn phrase")
        person, key = fields.octets("person", PERSON_BYTES), PhraseKey.parse(fields.octets("key", most=_MAX_BYTES))
        if key.proof is None:
            raise PeerFault(Code.MALFORMED, "a drawn phrase without what was signed for this device")
        return cls(person, key)

    def encode(self) -> Value:
        """As a row of the file."""
        return {"person": self.person, "key": self.key.encode()}


def drawn_in(file: bytes) -> list[DrawnPhrase]:
    """What the file says: of each id the phrase that was drawn last."""
    try:
        rows = Fields(decode(file, max_bytes=_MAX_BYTES), "drawn phrases").rows("phrases", MAX_DRAWN_PHRASES)
        return [DrawnPhrase.parse(row) for row in rows]
    except PeerFault:
        return []


def file_of(phrases: Iterable[DrawnPhrase]) -> bytes:
    """The file that says these."""
    return encode({"phrases": [each.encode() for each in phrases]})
