"""What is said of teachers' keys without end, each word once more for all the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.identity import AgreementKey, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.rights import roster
from protocol.roles import PersonRole, Role
from protocol.trust.person_keys import KeyWraps
from tests.harness.attack import attack
from tests.harness.spent_keys import keys_spent_plainly
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a teacher's laptop keeps every machine of its class busy"


async def _admitted(here: SpiedClass, said: Sequence[Entry]) -> None:
    territory = here.room.territory
    admission = await territory.replica.admit(said, source=b"thief", now_ms=territory.clock())
    assert len(admission.admitted) == len(said)


class _LookedAt(list[bytes]):
    """Keys that count how often one of them is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[bytes]:
        for key in super().__iter__():
            _LookedAt.looks += 1
            yield key


def _with_looks_counted(keys_spent: Any) -> Any:
    def counted(heard: Any, said: Any, door: Any, away: Any, gone: Any, *rest: Any) -> Any:
        _LookedAt.looks = 0
        return keys_spent(heard, said, door, away, {key: _LookedAt(signers) for key, signers in gone.items()}, *rest)

    return counted


@attack(ROW, off={"protocol.rights.roster.keys_spent": keys_spent_plainly})
async def test_gifts_to_a_key_beside_which_many_are_gone_are_not_held_against_each_of_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, gifts = 60, 10
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        colleague = await territory.person("M. X", PersonRole.TEACHER, space)
        await here.name_the_spy(colleague, back_ms=0)
        head = new_device(Random(5).randbytes)
        (let_in,) = await territory.let_in(head, Role.HEAD, space)
        beside = AgreementKey(bytes([9]) * 32).public
        grants = []
        for number in range(1, gone + 1):
            key = SigningKey(bytes([number]) * 32).public
            grant = compose(
                author=head.signing,
                space=space,
                kind=Kind.GRANT,
                grant=let_in.id,
                at=(territory.clock() << 16) + number,
                payload=Grant(key, beside, None, Role.TEACHER, colleague, None).encode(),
                salt=bytes(16),
            )
            grants.append(grant)
        await _admitted(here, grants)
        await territory.say(space, Kind.REVOKE, Revocation(head.signing.public, ()).encode())
        wraps = tuple((beside, bytes([number]) * 80) for number in range(8))
        for number in range(gifts):
            key = AgreementKey(bytes([100 + number]) * 32).public
            await here.say(Kind.KEY_WRAP, KeyWraps(key, wraps).encode(), colleague)
        counted = _with_looks_counted(vars(roster)["keys_spent"])
        monkeypatch.setattr("protocol.rights.roster.keys_spent", counted)
        await territory.say(space, Kind.REVOKE, Revocation(bytes([77]) * 32, ()).encode())
        spent = (await territory.replica.view(space)).roster.spent
        assert len(spent) == gifts, "each of them counts all the same"
        assert gone <= _LookedAt.looks <= gone + 2 * gifts
