"""Who is gone in a class, by more than the end of a right (`sync_agent.keys.first_met`)."""

from __future__ import annotations

from dataclasses import replace

from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Away
from protocol.roles import Role
from sync_agent.keys.first_met import is_gone

SPACE, PETIT, LAPTOP, SERVER = (bytes([n]) * 32 for n in range(1, 5))
GIVEN = Authority(b"given", LAPTOP, LAPTOP, Role.TEACHER, SPACE, PETIT, None, None, None, SERVER)
AFTER_IT = replace(GIVEN, grant=b"after it", key=b"its keys since", predecessor=LAPTOP, author=LAPTOP, under=b"given")
IN_USE = Roster(SPACE, {}, {}, (GIVEN, AFTER_IT), frozenset(), frozenset(), frozenset())
AWAY = replace(
    IN_USE, authorities=(), cut=frozenset({GIVEN.key, AFTER_IT.key}), away=Away(frozenset({GIVEN.key, AFTER_IT.key}))
)


def _is_gone(roster: Roster, given: Authority) -> bool:
    return is_gone(roster, [GIVEN, AFTER_IT], given.pair, PETIT)


def test_who_is_in_use_is_not_gone_whatever_was_said_of_them_once() -> None:
    assert not _is_gone(IN_USE, GIVEN)
    assert not _is_gone(replace(IN_USE, revocations={b"cut": LAPTOP}), GIVEN)


def test_whose_right_has_ended_is_not_gone() -> None:
    ended = replace(AWAY, revocations={b"end": LAPTOP}, ends=frozenset({b"end"}))
    assert not _is_gone(ended, GIVEN)
    assert not _is_gone(ended, AFTER_IT)


def test_who_was_cut_off_is_gone_and_what_came_of_them_by_successors() -> None:
    cut = replace(AWAY, revocations={b"cut": LAPTOP, b"end": AFTER_IT.key}, ends=frozenset({b"end"}))
    assert _is_gone(cut, GIVEN)
    assert _is_gone(cut, AFTER_IT), "an end on top takes back nothing"


def test_so_is_who_was_let_in_by_somebody_who_was_cut_off() -> None:
    held_back = replace(AWAY, held_back=frozenset({GIVEN.grant}))
    assert _is_gone(held_back, GIVEN)
    assert not _is_gone(held_back, AFTER_IT)
