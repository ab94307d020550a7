"""Who came in by an old key's codes, among many others who did, once a server's keys are replaced (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from protocol.identity import DeviceKeys
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Invite
from protocol.rights.vouching import device_words
from protocol.roles import Role
from protocol.trust.invitation import Invitation
from sync_server.handlers.by_kit import newcomers
from sync_server.handlers.by_kit.newcomers import CameIn
from sync_server.opened.app import Server
from tests.attacks.test_whose_a_device_is_at_a_server import ROW, Thieving, code_of_somebody_let_in, spy
from tests.harness.attack import attack
from tests.harness.kept_town import town_at_work
from tests.harness.spied_class import own_keys
from tests.harness.year_at_work import Year

PCS = 5
NOBODY_KNOWS = "by a code of somebody whom an old key let in and nobody here knows"


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


async def come_in_at_a_heads(thieving: Thieving, role: Role, count: int = PCS) -> list[DeviceKeys]:
    """A head teacher's computer honours a code of the server's for so many."""
    server, head = thieving.office.server, await thieving.here.head_of_the_school()
    person = bytes.fromhex(thieving.year.person) if role is Role.TEACHER else None
    code = Invitation.create(server.replica.territory, os.urandom(10))
    made = Invite(code.secret_hash, role, (thieving.here.space,), person, 100, 2**52)
    said = await thieving.brings(Kind.INVITE, made.encode(), space=thieving.here.space)
    right = next(each.grant for each in server.replica.door.authorities_of(head.agent.device))
    came = [spy() for _ in range(count)]
    for one in came:
        given = Grant(one.signing.public, one.agreement.public, one.tls.fingerprint, role, person, said.id).encode()
        await thieving.brings(Kind.GRANT, given, space=thieving.here.space, key=head.agent.keys.signing, under=right)
    return came


async def are_told(thieving: Thieving) -> list[str]:
    """What is said of who stays when the keys are replaced."""
    del thieving.office.said.lines[:]
    await thieving.new_keys()
    return [line for line in thieving.office.said.lines if " was let in " in line or " were let in " in line]


every_one = newcomers.came_in_elsewhere


async def _by_arrival(server: Server, old: Collection[bytes]) -> CameIn:
    """All together, the first first."""
    came = await every_one(server, old)
    return CameIn(by_old=[*reversed(came.by_old), *reversed(came.by_strange)])


@attack(ROW, off={"sync_server.operations.newcomers.came_in_elsewhere": _by_arrival})
async def test_who_came_by_a_code_of_whom_the_stolen_key_let_in_is_told_before_a_schools_own_pcs(
    thieving: Thieving,
) -> None:
    pcs, his = await come_in_at_a_heads(thieving, Role.MACHINE), [spy(), spy()]
    await thieving.is_stolen()
    by_code = await code_of_somebody_let_in(thieving, Role.TEACHER, thieving.here.space)
    for one in his:
        await thieving.office.enrol(by_code, one)
    told = await are_told(thieving)
    assert [NOBODY_KNOWS in line for line in told] == [True, True, False]
    words = [device_words(own_keys(one)) for one in his]
    assert [[each in line for line in told] for each in words] == [[False, True, False], [True, False, False]]
    assert all(pc.signing.public.hex() in told[-1] for pc in pcs)


async def _nothing_of(*_: object) -> None:
    """As it was, but for “and 3 more”."""


@attack(ROW, off={"sync_server.operations.newcomers._tell_of_ids": _nothing_of})
async def test_of_many_who_came_in_each_is_told(thieving: Thieving) -> None:
    with pytest.MonkeyPatch.context() as few:
        few.setattr("sync_server.operations.newcomers._WITH_WORDS", 2)
        came = await come_in_at_a_heads(thieving, Role.TEACHER)
        told = await are_told(thieving)
    assert len(told) == 2
    assert all(device_words(own_keys(one)) in line for one, line in zip(came[::-1], told, strict=False))
    first = ", ".join(one.signing.public.hex() for one in came[2::-1])
    assert f"and so of 3 more: {first}" in thieving.office.said.lines
