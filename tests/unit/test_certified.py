"""Which certificates of a root count, whatever turns up when (docs/protocol.md, "New keys for a server")."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from protocol.identity import SigningKey
from protocol.limits import MAX_CERTIFICATES_BESIDE
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Grant, RecoveryKey
from protocol.rights.certified import beside, unnamed
from protocol.rights.revocations import is_weighed
from protocol.rights.roster import fold_roster
from protocol.roles import Role
from tests.harness.history import World
from tests.unit.test_rights import opened

DRAW = Random(314).randbytes
ROOT = SigningKey(DRAW(32))


def certificate(at: int, *named: Entry, root: SigningKey = ROOT) -> Entry:
    payload = Certificate(DRAW(32), DRAW(32), tuple(each.id for each in named)).encode()
    return compose(
        author=root, space=bytes(32), kind=Kind.CERTIFICATE, grant=None, at=at << 16, payload=payload, salt=DRAW(16)
    )


def test_the_latest_that_names_others_decides_whatever_came_first() -> None:
    first = certificate(1)
    kept_back = certificate(2)
    second = certificate(3, first)
    third = certificate(4, first, second)
    later = certificate(5)
    for order in permutations([first, kept_back, second, third, later]):
        assert unnamed(order) == {kept_back.id}
    assert unnamed([first, kept_back, later]) == set(), "none names others"


def test_one_that_named_too_few_is_put_right_by_the_next() -> None:
    first = certificate(1)
    false = certificate(2, certificate(0))
    assert unnamed([first, false]) == {first.id}
    assert unnamed([first, false, certificate(3, first)]) == {false.id}


def test_what_another_root_has_certified_is_that_roots() -> None:
    other = SigningKey(DRAW(32))
    theirs, ours = certificate(1, root=other), certificate(2)
    assert unnamed([theirs, ours, certificate(3, ours)]) == set()


def test_what_is_held_back_decides_nothing() -> None:
    first = certificate(1)
    false = certificate(9, certificate(0))
    assert unnamed([first, false], held={false.id}) == set()


@pytest.mark.parametrize("wrong", [[b"short"], [bytes(32)] * (MAX_CERTIFICATES_BESIDE + 1)])
def test_a_certificate_that_the_door_has_always_let_in_counts_though_what_it_names_cannot_be_read(
    wrong: list[bytes],
) -> None:
    made = Certificate(DRAW(32), DRAW(32), tuple(wrong))
    assert Certificate.parse(made.encode()) == Certificate(made.signing, made.agreement)


def test_one_that_names_none_is_written_as_it_always_was() -> None:
    payload = Certificate(DRAW(32), DRAW(32)).encode()
    assert Certificate.parse(payload).encode() == payload
    assert b"beside" not in payload


def test_nothing_but_a_certificate_that_names_others_is_weighed_for_that() -> None:
    recovery = compose(
        author=ROOT,
        space=bytes(32),
        kind=Kind.RECOVERY_KEY,
        grant=None,
        at=1,
        payload=RecoveryKey(DRAW(32)).encode(),
        salt=DRAW(16),
    )
    assert (beside(recovery), is_weighed(recovery), is_weighed(certificate(1))) == ((), False, False)
    assert is_weighed(certificate(2, certificate(1)))


def test_all_that_was_said_under_one_that_does_not_count_waits_and_nobody_is_let_in_by_it() -> None:
    world = World(Random(5))
    room, first = world.classes[0], world.server.grant or b""
    key, guest = world.new_key(), world.new_key()
    kept_back = world.say(world.root, world.territory, Kind.CERTIFICATE, Certificate(key.public, DRAW(32)).encode())
    newer = Certificate(world.new_key().public, DRAW(32), (first,)).encode()
    world.say(world.root, world.territory, Kind.CERTIFICATE, newer)
    let_in = compose(
        author=key,
        space=room,
        kind=Kind.GRANT,
        grant=kept_back.id,
        at=world.clock_ms << 16,
        payload=Grant(guest.public, DRAW(32), DRAW(32), Role.TEACHER, None, None).encode(),
        salt=DRAW(16),
    )
    world.entries.append(let_in)
    above = [*world.in_space(world.territory), *world.in_space(world.school)]
    roster = fold_roster(room, world.in_space(room), above, opened(world))
    assert {kept_back.id, let_in.id} == roster.held_back
    assert not roster.may_read(guest.public)
    assert roster.may_read(world.server.key.public)
    assert key.public in roster.cut
