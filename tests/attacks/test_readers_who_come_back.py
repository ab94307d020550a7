"""A reader at whom a teacher has looked goes, and is back as if she still knew them (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest

from protocol.model.entry import DOMAIN, Entry, Kind, compose, unsigned
from protocol.model.structure import Erasure, Grant, PersonKey, Revocation, Ruling
from protocol.roles import PersonRole, Role
from sync_agent.machine.beginnings import whole_ids
from tests.attacks.test_readers_of_another_class import ROW, looked_at
from tests.harness.attack import attack
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

Word: TypeAlias = "Callable[[], Awaitable[object]]"
Way: TypeAlias = "Callable[[SpiedClass, bytes], Awaitable[tuple[Word, Word]]]"
"""M. X is let in, as this person; what takes him away, and what brings him back."""


async def _helper(here: SpiedClass, seed: int, role: Role = Role.ADMIN) -> SpiedClass:
    """Somebody else of the server's, who speaks in the class."""
    keys = new_device(Random(seed).randbytes)
    space = here.room.space if role is Role.ADMIN else here.room.school
    (right,) = await here.room.territory.let_in(keys, role, space)
    return replace(here, spy=keys, grant=right.id)


def _cut(of: SpiedClass) -> bytes:
    return Revocation(of.spy.signing.public, ()).encode()


async def _by_an_end_that_is_held_back(here: SpiedClass, x: bytes) -> tuple[Word, Word]:
    helper = await _helper(here, 5)
    await here.name_the_spy(x)
    return (
        lambda: helper.say(Kind.REVOKE, _cut(here), None, target=here.grant),
        lambda: here.room.territory.say(here.room.space, Kind.REVOKE, _cut(helper)),
    )


async def _by_a_cut_of_who_let_him_in_that_is_held_back(here: SpiedClass, x: bytes) -> tuple[Word, Word]:
    head, helper = await _helper(here, 5, Role.HEAD), await _helper(here, 6)
    spy = here.spy
    given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, x, None)
    here.grant = (await head.say(Kind.GRANT, given.encode(), None)).id
    await here.say(Kind.PERSON_KEY, PersonKey(spy.agreement.public).encode(), x)
    return (
        lambda: helper.say(Kind.REVOKE, _cut(head), None),
        lambda: here.room.territory.say(here.room.space, Kind.REVOKE, _cut(helper)),
    )


async def _by_an_erasure_that_is_taken_back(here: SpiedClass, x: bytes) -> tuple[Word, Word]:
    territory, space = here.room.territory, here.room.space
    await here.name_the_spy(x)
    said: list[bytes] = []

    async def erase() -> None:
        said.append((await territory.say(space, Kind.ERASE, Erasure(x).encode())).id)

    return erase, lambda: territory.say(space, Kind.RULING, Ruling((), tuple(said)).encode())


WAYS = pytest.mark.parametrize(
    "way",
    [
        _by_an_end_that_is_held_back,
        _by_a_cut_of_who_let_him_in_that_is_held_back,
        _by_an_erasure_that_is_taken_back,
    ],
)


async def _nobody_is(*_: object) -> None:
    return None


@attack(ROW, off={"sync_agent.sync.after_news.note_who_is_gone": _nobody_is})
@WAYS
@pytest.mark.parametrize("is_still_there", [True, False], ids=["who reads on", "who is gone again"])
async def test_whatever_took_him_away_whom_she_looked_at_and_whatever_brings_him_back_he_is_news(
    tmp_path: Path, way: Way, *, is_still_there: bool
) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        x = await territory.person("M. X", PersonRole.TEACHER, space)
        go, come_back = await way(here, x)
        for _ in range(2):
            await here.sync()
        await looked_at(here)
        read = await here.room.hand_in(here.machine, here.item, {"n.txt": b"while she knew him"})
        await here.sync(here.machine)
        assert await here.opens(read)
        await go()
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")
            await come_back()
            await here.sync(here.machine)
            new = await here.room.hand_in(here.machine, here.item, {"n.txt": b"since"})
            await here.sync(here.machine)
            assert await here.opens(new)
            if not is_still_there:
                await territory.say(space, Kind.REVOKE, _cut(here), target=here.grant)
            for _ in range(2):
                await here.sync()
            assert "M. X" in await surfer.page("/")


async def test_whom_she_looks_at_when_he_is_back_is_no_news_any_more(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        x = await here.room.territory.person("M. X", PersonRole.TEACHER, here.room.space)
        go, come_back = await _by_an_end_that_is_held_back(here, x)
        for _ in range(2):
            await here.sync()
        await looked_at(here)
        for step in (go, come_back):
            await step()
            for _ in range(2):
                await here.sync()
        await looked_at(here)
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")


async def test_a_class_that_is_hidden_for_a_while_makes_nobody_in_it_news(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, space))
        for _ in range(2):
            await here.sync()
        await looked_at(here)
        hidden = await territory.say(space, Kind.ERASE, Erasure(space).encode())
        await here.sync()
        await territory.say(space, Kind.RULING, Ruling((), (hidden.id,)).encode())
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")


ALIKE_BYTES = 2
"""Of eight that were noted: these are found at once, and eight in an evening."""


def _by_their_beginnings(some: Iterable[bytes], mark: bytes | None) -> bool:
    return not {one[:ALIKE_BYTES] for one in whole_ids(mark)}.issuperset(each[:ALIKE_BYTES] for each in some)


@attack(ROW, off={"sync_agent.keys.confirming.has_another": _by_their_beginnings})
async def test_a_second_return_whose_id_begins_like_that_of_the_first_is_news(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        x = await territory.person("M. X", PersonRole.TEACHER, space)
        await here.name_the_spy(x)
        for _ in range(2):
            await here.sync()
        await looked_at(here)
        given = (await territory.replica.store.get([here.grant]))[here.grant].payload or b""
        randbytes, at = Random(3).randbytes, territory.clock() << 16

        def cut_off(after: int) -> Entry:
            return compose(
                author=territory.keys.signing,
                space=space,
                kind=Kind.REVOKE,
                grant=territory.certificate.id,
                at=at + after,
                payload=_cut(here),
                salt=randbytes(16),
            )

        def let_in(after: int, *named: bytes) -> Entry:
            return unsigned(
                author=territory.keys.signing.public,
                space=space,
                kind=Kind.GRANT,
                grant=territory.certificate.id,
                at=at + after,
                payload=given,
                salt=randbytes(16),
                parents=tuple(sorted(named)),
            )

        async def comes_back(cut: Entry, grant: Entry) -> None:
            signed = replace(grant, signature=territory.keys.signing.sign(DOMAIN, grant.header_bytes))
            for said in (cut, signed):
                await territory.replica.admit([said], source=b"the operator", now_ms=territory.clock())
            here.grant = grant.id
            await here.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), x)

        cuts, named = (cut_off(10), cut_off(50)), here.grant
        firsts = {each.id[:ALIKE_BYTES]: each for each in (let_in(20, named, cuts[0].id) for _ in range(500))}
        second = let_in(90, named, *(cut.id for cut in cuts))
        while second.id[:ALIKE_BYTES] not in firsts:
            second = let_in(90, named, *(cut.id for cut in cuts))
        await comes_back(cuts[0], firsts[second.id[:ALIKE_BYTES]])
        await looked_at(here)
        await comes_back(cuts[1], second)
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" in await surfer.page("/")
