"""Keys of spaces: what they derive, whom they are for, which one is in force."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault
from protocol.folds.space_keys import (
    MAX_EPOCH,
    SpaceKeyRecord,
    SpaceSecret,
    SpaceWraps,
    cuts_digest,
    fold_space_keys,
    unwrap,
)
from protocol.identity import AgreementKey, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.rights.roster import Roster

VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "space_keys.json").read_text(encoding="utf-8"))
SPACE = bytes([5]) * 32
ADMIN = SigningKey(bytes([9]) * 32)


def roster(*, held_back: frozenset[bytes] = frozenset()) -> Roster:
    return Roster(SPACE, {}, {}, (), frozenset(), held_back, frozenset())


def said(epoch: int, number: int, at: int = 1) -> Entry:
    payload = SpaceSecret(bytes([number]) * 32).record(epoch, None).encode()
    return compose(author=ADMIN, space=SPACE, kind=Kind.SPACE_KEY, grant=None, at=at, payload=payload, salt=bytes(16))


def test_what_follows_from_a_key_is_what_the_vector_says() -> None:
    secret = SpaceSecret(bytes.fromhex(VECTOR["key"]))
    assert secret.commitment.hex() == VECTOR["commitment"]
    assert secret.agreement.public.hex() == VECTOR["agreement"]
    assert secret.bundle.hex() == VECTOR["bundle"]
    space, reader = bytes.fromhex(VECTOR["space"]), AgreementKey(bytes.fromhex(VECTOR["recipient_secret"]))
    assert secret.wrap(space, reader.public, bytes.fromhex(VECTOR["ephemeral"])).hex() == VECTOR["wrap"]
    assert unwrap(bytes.fromhex(VECTOR["wrap"]), reader, space, secret.commitment).key == secret.key
    assert secret.record(3, None).encode().hex() == VECTOR["space_key_payload"]
    assert cuts_digest([bytes([2]) * 32, bytes([1]) * 32]) == bytes.fromhex(VECTOR["cuts_of_0101_and_0202"])


def test_a_wrap_that_holds_another_key_than_it_names_does_not_count() -> None:
    reader = AgreementKey(bytes([1]) * 32)
    named, other = SpaceSecret(bytes([2]) * 32), SpaceSecret(bytes([3]) * 32)
    seal = other.wrap(SPACE, reader.public, bytes([4]) * 32)
    with pytest.raises(PeerFault):
        unwrap(seal, reader, SPACE, named.commitment)


@given(st.permutations([said(1, 1, 9), said(2, 2, 1), said(2, 3, 2)]))
def test_the_key_in_force_does_not_depend_on_the_order_of_arrival(entries: list[Entry]) -> None:
    current = fold_space_keys(entries, roster()).current
    assert current is not None
    assert current.commitment == SpaceSecret(bytes([3]) * 32).commitment


def test_a_key_of_somebody_who_was_let_go_is_passed_over() -> None:
    good, bad = said(1, 1), said(7, 2)
    current = fold_space_keys([good, bad], roster(held_back=frozenset({bad.id}))).current
    assert current is not None
    assert current.epoch == 1


def test_a_key_that_jumps_ahead_is_never_in_force_and_the_next_one_does_not_follow_it() -> None:
    keys = fold_space_keys([said(1, 1), said(2, 2), said(MAX_EPOCH, 3)], roster())
    assert keys.current == SpaceSecret(bytes([2]) * 32).record(2, None)
    assert keys.next_epoch == 3
    assert len(keys.records) == 3, "what was sealed under it can be opened"


def test_a_key_by_somebody_who_was_cut_off_since_is_readable_and_not_in_force() -> None:
    cut = replace(roster(), cut=frozenset({ADMIN.public}))
    keys = fold_space_keys([said(1, 1), said(2, 2)], cut)
    assert keys.current is None
    assert keys.next_epoch == 3
    assert len(keys.records) == 2


def test_payloads_come_back_as_they_went() -> None:
    record = SpaceKeyRecord(4, bytes([1]) * 32, SpaceSecret(bytes(32)).agreement.public, bytes(range(16)))
    wraps = SpaceWraps(bytes([1]) * 32, ((bytes([2]) * 32, Random(1).randbytes(80)),))
    assert SpaceKeyRecord.parse(record.encode()) == record
    assert SpaceWraps.parse(wraps.encode()) == wraps


@pytest.mark.parametrize("seal", [b"", bytes(79), bytes(81)])
def test_a_wrap_of_another_size_is_refused(seal: bytes) -> None:
    with pytest.raises(PeerFault):
        SpaceWraps.parse(SpaceWraps(bytes(32), ((bytes(32), seal),)).encode())
