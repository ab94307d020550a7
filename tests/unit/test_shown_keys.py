"""Of a key's seals, which a bundle shows, and whose first."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from protocol.folds.shown_keys import shown_of
from protocol.folds.space_keys import WRAP_BYTES, SpaceSecret, SpaceWraps, fold_space_keys
from protocol.identity import SigningKey
from protocol.limits import MAX_WRAPS_BY_ONE
from protocol.model.entry import Entry, Kind, compose
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.roles import Role

SPACE = bytes([5]) * 32
SECRET = SpaceSecret(bytes([1]) * 32)
SERVER, LAPTOP, HONEST, THIEF, COPY = (SigningKey(bytes([number]) * 32) for number in range(11, 16))
ROLES = {SERVER: Role.ADMIN, LAPTOP: Role.TEACHER, HONEST: Role.MACHINE, THIEF: Role.MACHINE, COPY: Role.MACHINE}
READERS = [bytes([number]) * 32 for number in range(100, 110)]
CHANCE = Random(1)


def grant_of(key: SigningKey) -> bytes:
    return key.public[::-1]


def say(key: SigningKey, kind: Kind, payload: bytes, at: int) -> Entry:
    salt = CHANCE.randbytes(16)
    return compose(author=key, space=SPACE, kind=kind, grant=grant_of(key), at=at, payload=payload, salt=salt)


def seal(key: SigningKey, *to: bytes, at: int = 1) -> Entry:
    wraps = tuple((one, CHANCE.randbytes(WRAP_BYTES)) for one in to)
    return say(key, Kind.SPACE_WRAP, SpaceWraps(SECRET.commitment, wraps).encode(), at)


NAMES = say(SERVER, Kind.SPACE_KEY, SECRET.record(1, None).encode(), 1)


def shown(*seals: Entry, held_back: frozenset[bytes] = frozenset()) -> Sequence[Entry]:
    """As the laptop writes them; the thief's machine has a copy of its key."""
    authorities = tuple(
        Authority(grant_of(key), key.public, bytes(32), role, SPACE, None, None, None, None, SERVER.public)
        for key, role in ROLES.items()
    )
    roster = Roster(SPACE, {}, {}, authorities, frozenset(), held_back, frozenset())
    entries = [*seals, NAMES]
    keys = fold_space_keys(entries, roster)
    machines = {COPY.public: THIEF.public}
    return shown_of(
        SECRET.commitment, keys, entries, roster, READERS, {LAPTOP.public}, lambda key: machines.get(key, key)
    )


def test_what_names_the_key_comes_first_then_ones_own_seals_those_of_who_makes_keys_and_others() -> None:
    other, makers, own = (seal(key, READERS[0], at=at) for at, key in enumerate((HONEST, SERVER, LAPTOP)))
    assert shown(other, makers, own) == [NAMES, own, makers, other]


def test_seals_to_nobody_who_reads_the_space_are_not_shown() -> None:
    nobody, held_back = seal(THIEF, bytes(32)), seal(HONEST, READERS[1])
    assert shown(nobody, held_back, held_back=frozenset({held_back.id})) == [NAMES]


def test_of_one_author_few_seals_for_a_reader_are_shown() -> None:
    assert len(shown(*(seal(THIEF, READERS[0], at=at) for at in range(50)))) == 1 + MAX_WRAPS_BY_ONE


def test_a_seal_that_is_said_over_and_over_is_shown_once() -> None:
    said = SpaceWraps(SECRET.commitment, ((READERS[0], CHANCE.randbytes(WRAP_BYTES)),)).encode()
    copies = [say(key, Kind.SPACE_WRAP, said, at) for at, key in enumerate((HONEST, THIEF, COPY))]
    assert len(shown(*copies)) == 2


def test_a_machine_that_seals_to_everybody_under_several_keys_takes_no_others_turn() -> None:
    noise = [seal(key, reader, at=0) for key in (THIEF, COPY) for reader in READERS for _ in range(MAX_WRAPS_BY_ONE)]
    honest = [seal(HONEST, reader, at=9) for reader in READERS[:2]]
    place = [entry.header.author for entry in shown(*noise, *honest)]
    assert place[1:5].count(HONEST.public) == 2
