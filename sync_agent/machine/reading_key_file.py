"""The reading keys that this device made for its teacher, in DIR/keys (docs/protocol.md, "Reading keys").

Rules:
- each is of one class and of one person: in no other class is it said, or sealed to anybody;
- none is ever let go of: what was sealed to it is opened by nothing else;
- an earlier version made one set for all classes (`keys/person`): those keys open what was sealed to them, no more.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, LocalFailure, PeerFault
from protocol.fields import Fields
from protocol.identity import SEED_BYTES, AgreementKey
from protocol.limits import MAX_OWN_READING_KEYS

_MAX_KEY_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A reading key, and the class and the person for which it was made; neither for one of an earlier version."""

    key: AgreementKey
    space: bytes | None = None
    person: bytes | None = None


@lru_cache(maxsize=4)
def own_keys_in(file: bytes, before: bytes) -> tuple[OwnKey, ...]:
    """The keys of the file and, after them, those of an earlier version's: the newest of each first.

    Both are empty where there is none. Raises `LocalFailure(DAMAGED)`.
    """
    seeds = (before[at : at + SEED_BYTES] for at in range(0, len(before) - len(before) % SEED_BYTES, SEED_BYTES))
    return (*(_rows(file) if file else ()), *(OwnKey(AgreementKey(seed)) for seed in seeds))


def _rows(file: bytes) -> Iterable[OwnKey]:
    try:
        fields = Fields(decode(file, max_bytes=MAX_OWN_READING_KEYS * _MAX_KEY_BYTES), "reading keys")
        return [_own_key(row) for row in fields.rows("keys", MAX_OWN_READING_KEYS)]
    except PeerFault as fault:
        raise LocalFailure(Code.DAMAGED, "the reading keys of this device cannot be read") from fault


def _own_key(row: Value) -> OwnKey:
    match row:
        case [bytes(space), bytes(person), bytes(seed)] if len(seed) == SEED_BYTES:
            return OwnKey(AgreementKey(seed), space, person)
    raise PeerFault(Code.MALFORMED, "a reading key has the wrong form")


def file_of(keys: Iterable[OwnKey]) -> bytes:
    """The file that holds those of the keys that are of a class."""
    return encode({"keys": [[each.space, each.person, each.key.seed] for each in keys if each.space is not None]})
