"""The reading keys that this device made for its teacher, or was given, in DIR/keys (docs/protocol.md, "Reading keys").

Rules:
- each is of one class and of one person: in no other class is it said, or sealed to anybody;
- none is ever let go of: what was sealed to it is opened by nothing else;
- those that it was given lie in a file of their own, so many of a class and a person: nothing that others say, nor who
  is let in or cut off, pushes one out again; they go when the class is closed and destroyed (docs/adr/0292);
- rows are of one size, each with a check of its own: where one has rotted, the others are read;
- an earlier version made one set for all classes (`keys/person`): those keys open what was sealed to them, no more.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from blake3 import blake3

from protocol.identity import SEED_BYTES, AgreementKey, tagged
from protocol.limits import MAX_GIVEN_READING_KEYS
from protocol.model.entry import ID_BYTES, PERSON_BYTES

_CHECK: Final = b"relais/0 kept reading key"
_CHECK_BYTES: Final = 16
_PERSON_AT: Final = ID_BYTES
_SEED_AT: Final = _PERSON_AT + PERSON_BYTES
_CHECK_AT: Final = _SEED_AT + SEED_BYTES
ROW_BYTES: Final = _CHECK_AT + _CHECK_BYTES
MAX_KEPT_OF_GIVEN: Final = 2 * MAX_GIVEN_READING_KEYS
"""So many keys that were given are kept here, of one class and one id of a person: as many as the set gives."""


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A reading key, and the class and the person for which it was made; neither for one of an earlier version."""

    key: AgreementKey
    space: bytes | None = None
    person: bytes | None = None


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The keys of the file and, after them, those of an earlier version's: the newest of each first.

    `is_damaged` says that the file holds more than could be read, or nothing at all: none is written without a key.
    """

    keys: tuple[OwnKey, ...]
    is_damaged: bool


@lru_cache(maxsize=8)
def own_keys_in(file: bytes | None, before: bytes) -> OwnKeys:
    """What two files say: None where there is no such file, and an empty one where an earlier version left none."""
    is_empty, file = file == b"", file or b""
    rows = [file[at : at + ROW_BYTES] for at in range(0, len(file), ROW_BYTES)]
    sound = [row for row in rows if row == _row(row[:_PERSON_AT], row[_PERSON_AT:_SEED_AT], row[_SEED_AT:_CHECK_AT])]
    kept = (OwnKey(AgreementKey(row[_SEED_AT:_CHECK_AT]), row[:_PERSON_AT], row[_PERSON_AT:_SEED_AT]) for row in sound)
    seeds = (before[at : at + SEED_BYTES] for at in range(0, len(before) - len(before) % SEED_BYTES, SEED_BYTES))
    return OwnKeys((*kept, *(OwnKey(AgreementKey(seed)) for seed in seeds)), is_empty or len(sound) < len(rows))


def file_of(keys: Iterable[OwnKey]) -> bytes:
    """The file that holds those of the keys that are of a class."""
    return b"".join(_row(each.space, each.person or b"", each.key.seed) for each in keys if each.space is not None)


def with_given(kept: Sequence[OwnKey], given: Iterable[OwnKey]) -> tuple[OwnKey, ...]:
    """Those that are kept and, behind them, those that have come, as far as there is room."""
    rows = {(each.space, each.person, each.key.public): each for each in kept}
    places = Counter((each.space, each.person) for each in rows.values())
    for each in given:
        name = each.space, each.person, each.key.public
        if name not in rows and places[each.space, each.person] < MAX_KEPT_OF_GIVEN:
            rows[name] = each
            places[each.space, each.person] += 1
    return tuple(rows.values())


def _row(space: bytes, person: bytes, seed: bytes) -> bytes:
    said = space + person + seed
    return said + blake3(tagged(_CHECK, said)).digest()[:_CHECK_BYTES]
