"""What says that this device drew its teacher's phrase, in DIR/keys (docs/protocol.md, "Reading keys").

Rules:
- the file holds the key that signs for who knows the phrase, never the phrase nor what opens keys: with it the phrase
  is said in a class that comes later, so that the paper opens that one too;
- what cannot be read says nothing: the phrase goes on opening what it opened.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from protocol.canonical import Value, decode, encode
from protocol.errors import PeerFault
from protocol.fields import Fields
from protocol.identity import SEED_BYTES, SigningKey
from protocol.limits import MAX_IDS_OF_ONE, KiB
from protocol.model.entry import PERSON_BYTES
from protocol.trust.person_keys import PhraseKey

_MAX_BYTES: Final = 16 * KiB


@dataclass(frozen=True, slots=True)
class DrawnPhrase:
    """A phrase that was drawn for one id of a teacher's: its key, as entries say it but for a proof, and who signs."""

    person: bytes
    key: PhraseKey
    signer: SigningKey

    @classmethod
    def parse(cls, row: Value) -> Self:
        """From a row of the file. Raises `PeerFault`."""
        fields = Fields(row, "a drawn phrase")
        return cls(
            fields.octets("person", PERSON_BYTES),
            PhraseKey.parse(fields.octets("key", most=_MAX_BYTES)),
            SigningKey(fields.octets("signer", SEED_BYTES)),
        )

    def encode(self) -> Value:
        """As a row of the file."""
        return {"person": self.person, "key": self.key.encode(), "signer": self.signer.seed}


def drawn_in(file: bytes) -> list[DrawnPhrase]:
    """What the file says: of each id the phrase that was drawn last."""
    try:
        rows = Fields(decode(file, max_bytes=_MAX_BYTES), "drawn phrases").rows("phrases", MAX_IDS_OF_ONE)
        return [DrawnPhrase.parse(row) for row in rows]
    except PeerFault:
        return []


def file_of(phrases: Iterable[DrawnPhrase]) -> bytes:
    """The file that says these."""
    return encode({"phrases": [each.encode() for each in phrases]})
