"""Whoever has the server shows a device first in another class, or as another's (docs/attacks.md)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonKey, Revocation
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import Reader, list_readers, rows
from sync_agent.machine.marks import KNOWN_READER_MARKS, WAS_THERE
from tests.harness.attack import attack
from tests.harness.classroom import classroom
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

ROW = "a reader who was looked at as something else"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    """A teacher of two classes, and a device of the server's."""
    async with classroom(tmp_path, spaces=2) as room:
        petit = await room.device(Role.TEACHER, *room.territory.classes, person=room.teacher_person)
        machine = await room.machine()
        here = SpiedClass(room, petit, machine, b"", b"", new_device(Random(666).randbytes))
        await here.sync(petit, machine, petit)
        yield here


async def _everywhere(agent: Agent, shown: Iterable[tuple[bytes, bytes, bytes, bool]]) -> dict[str, bytes]:
    devices = [device for _, device, *_ in shown]
    names = [f"{space.hex()}/{device.hex()}" for space in await agent.spaces() for device in devices]
    return {f"{KNOWN_READER_MARKS}{name}": b"" for name in names}


def _as_anybody(mark: bytes | None, *_: object, **__: object) -> bool:
    return mark not in {None, WAS_THERE}


async def looked_at(here: SpiedClass) -> None:
    await here.sync(here.teacher)
    async with portal(here.teacher.agent) as surfer:
        for row in rows(each for each in await list_readers(here.teacher.agent) if not each.mine):
            await surfer.send("/readers", "/readers/seen", {"rows": row.hex()})
        assert "M. X" not in await surfer.page("/")


async def _named_and_looked_at(here: SpiedClass, *spaces: bytes) -> bytes:
    """M. X, who is on the lists of these classes: the server gives him a device in hers, and she has looked at it."""
    x = await here.room.territory.person("M. X", PersonRole.TEACHER, *spaces)
    await here.name_the_spy(x)
    for _ in range(2):
        await here.sync()
    await looked_at(here)
    return x


@attack(ROW, off={"sync_agent.keys.confirming.looked_at": _everywhere})
async def test_whom_she_has_looked_at_in_one_class_is_news_in_the_next(here: SpiedClass) -> None:
    first, second = here.room.territory.classes
    x = await _named_and_looked_at(here, first, second)
    other = replace(here, room=replace(here.room, space=second if here.room.space == first else first))
    await other.name_the_spy(x, back_ms=0)
    await here.sync(here.teacher)
    async with portal(here.teacher.agent) as surfer:
        assert "M. X" in await surfer.page("/")


@attack(ROW, off={"sync_agent.keys.confirming.is_looked_at": _as_anybody})
async def test_a_device_that_waited_in_a_colleagues_name_is_news_as_somebody_else(here: SpiedClass) -> None:
    territory, space = here.room.territory, here.room.space
    durand = await territory.person("M. Durand", PersonRole.TEACHER, space)
    await here.sync(await here.room.device(Role.TEACHER, person=durand))
    await here.sync(here.teacher)
    await here.name_the_spy(durand, back_ms=0)
    await looked_at(here)
    x = await territory.person("M. X", PersonRole.TEACHER, space)
    await here.name_the_spy(x, back_ms=0)
    await here.sync(here.teacher)
    async with portal(here.teacher.agent) as surfer:
        assert "M. X" in await surfer.page("/")


def _by_device(theirs: Sequence[Reader]) -> bytes:
    return theirs[0].id


@attack(ROW, off={"sync_agent.keys.confirming._row_id": _by_device})
async def test_a_click_is_about_what_the_page_showed_and_not_about_what_has_come_since(here: SpiedClass) -> None:
    territory, space, teacher = here.room.territory, here.room.space, here.teacher
    durand = await territory.person("M. Durand", PersonRole.TEACHER, space)
    await here.sync(await here.room.device(Role.TEACHER, person=durand), teacher)
    await here.name_the_spy(durand, back_ms=0)
    await here.sync(teacher)
    async with portal(teacher.agent) as surfer:
        page = await surfer.page("/readers")
        shown = re.findall(r'name="rows" value="([0-9a-f,]+)"', page)
        await here.name_the_spy(await territory.person("M. X", PersonRole.TEACHER, space), back_ms=0)
        await here.sync(teacher)
        for row in shown:
            await surfer.send("/readers", "/readers/seen", {"rows": row})
        assert "M. X" in await surfer.page("/")


def _never_back(*_: object) -> bool:
    return False


@attack(
    ROW,
    off={
        "sync_agent.keys.confirming.has_another": _never_back,
        "sync_agent.keys.past_readers.has_another": _never_back,
    },
)
@pytest.mark.parametrize("is_still_there", [True, False], ids=["who reads on", "who is gone again"])
async def test_whom_she_looked_at_and_had_cut_off_is_news_once_he_was_let_in_again(
    tmp_path: Path, *, is_still_there: bool
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        x = await _named_and_looked_at(here, space)

        async def cut_off() -> bytes:
            said = await territory.say(space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())
            return said.id

        cut = await cut_off()
        await here.sync(here.machine)
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")
            before = (await territory.replica.store.get([here.grant]))[here.grant]
            again = await territory.say(space, Kind.GRANT, before.payload or b"", parents=(here.grant, cut))
            back = replace(here, grant=again.id)
            await back.say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), x)
            for _ in range(2):
                await here.sync(here.machine)
            new = await here.room.hand_in(here.machine, here.item, {"n.txt": b"since"})
            await here.sync(here.machine)
            assert await here.opens(new)
            if not is_still_there:
                await cut_off()
            for _ in range(2):
                await here.sync()
            assert "M. X" in await surfer.page("/")


async def test_whom_she_first_looks_at_when_he_was_let_in_again_is_no_news_any_more(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        x = await territory.person("M. X", PersonRole.TEACHER, space)
        await here.name_the_spy(x)
        cut = await territory.say(space, Kind.REVOKE, Revocation(here.spy.signing.public, ()).encode())
        before = (await territory.replica.store.get([here.grant]))[here.grant]
        again = await territory.say(space, Kind.GRANT, before.payload or b"", parents=(here.grant, cut.id))
        await replace(here, grant=again.id).say(Kind.PERSON_KEY, PersonKey(here.spy.agreement.public).encode(), x)
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" in await surfer.page("/")
        await looked_at(here)


async def _none_came(*_: object) -> set[bytes]:
    return set()


@attack(ROW, off={"sync_agent.keys.seen_readers._after_an_end": _none_came})
async def test_so_is_whoever_is_given_another_right_after_the_end_of_the_one_that_she_looked_at(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        x = await _named_and_looked_at(here, space)
        end = Revocation(here.spy.signing.public, ()).encode()
        await territory.say(space, Kind.REVOKE, end, target=here.grant)
        await here.name_the_spy(x)
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" in await surfer.page("/")


async def test_whose_right_is_said_anew_before_the_earlier_one_ends_is_no_news(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        x = await _named_and_looked_at(here, space)
        before = here.grant
        await here.name_the_spy(x)
        end = Revocation(here.spy.signing.public, ()).encode()
        await territory.say(space, Kind.REVOKE, end, target=before)
        for _ in range(2):
            await here.sync()
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")


async def _none_is(*_: object) -> list[object]:
    return []


@attack(ROW, off={"sync_agent.keys.seen_readers._cuts_held_back": _none_is})
async def test_so_is_whoever_is_back_since_the_word_that_cut_them_off_is_held_back(tmp_path: Path) -> None:
    async with spied_class(tmp_path) as here:
        territory, space = here.room.territory, here.room.space
        await _named_and_looked_at(here, space)
        office = new_device(Random(5).randbytes)
        (right,) = await territory.let_in(office, Role.ADMIN, space)
        cut = Revocation(here.spy.signing.public, ()).encode()
        here.spy, here.grant = office, right.id
        await here.say(Kind.REVOKE, cut, None)
        async with portal(here.teacher.agent) as surfer:
            assert "M. X" not in await surfer.page("/")
            await territory.say(space, Kind.REVOKE, Revocation(office.signing.public, ()).encode())
            for _ in range(2):
                await here.sync()
            assert "M. X" in await surfer.page("/")
