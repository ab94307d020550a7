"""The reading keys that a laptop was given, as it keeps them in DIR/keys (docs/adr/0292)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.identity import AgreementKey
from protocol.model.entry import Kind
from protocol.model.structure import Erasure
from protocol.roles import PersonRole, Role
from sync_agent.keys.key_wraps import open_given_keys, reading_keys
from sync_agent.machine.reading_key_file import MAX_KEPT_OF_GIVEN, OwnKey, with_given
from tests.harness.classroom import Device
from tests.harness.lost_laptop import another_laptop, cut_off, let_in_again
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def kept(laptop: Device) -> list[bytes]:
    """The public halves of what a laptop keeps of what it was given."""
    return [each.key.public for each in laptop.agent.reading_keys.kept_of_given()]


async def test_a_laptop_keeps_what_it_was_given_and_not_what_it_made(here: Here) -> None:
    first = here.teacher.agent.reading_keys.newest_of(here.room.space)
    second = await another_laptop(here, here.teacher)
    await here.sync(here.teacher, second, here.machine, second, here.teacher)
    own = second.agent.reading_keys.newest_of(here.room.space)
    assert first is not None
    assert own is not None
    assert kept(second) == [first.public]
    assert kept(here.teacher) == [own.public]
    assert kept(here.machine) == []
    assert second.agent.reading_keys.kept_alone == {}


async def test_what_it_keeps_goes_when_the_class_is_closed_and_destroyed(here: Here) -> None:
    territory = here.room.territory
    second = await another_laptop(here, here.teacher)
    await here.sync(second, here.machine)
    assert kept(second) != []
    await territory.kit_says(territory.id, Kind.ERASE, Erasure(here.room.space).encode())
    await here.sync(second, here.machine)
    assert kept(second) != [], "an order that may be taken back"
    await pass_days(territory, 9, second, here.machine)
    await here.sync(second)
    assert kept(second) == []


async def test_what_a_colleagues_laptop_was_given_while_it_was_hers_opens_nothing_for_him(here: Here) -> None:
    room, territory, hers = here.room, here.room.territory, here.teacher
    first = hers.agent.reading_keys.newest_of(room.space)
    old = await another_laptop(here, hers)
    await here.sync(old, hers, here.machine)
    await cut_off(here, old)
    await here.sync(hers, here.machine)
    await let_in_again(here, old, Role.TEACHER, await territory.person("M. X", PersonRole.TEACHER, room.space))
    await here.sync(old)
    await open_given_keys(old.agent)
    assert first is not None
    assert first.public in kept(old)
    assert first.public not in reading_keys(old.agent)


def test_so_many_of_a_class_and_a_person_are_kept_and_none_is_pushed_out() -> None:
    def keys(count: int, name: str, space: bytes) -> list[OwnKey]:
        made = (AgreementKey(f"{name}{number}".encode().ljust(32, b"\0")) for number in range(count))
        return [OwnKey(key, space, bytes(16)) for key in made]

    first, more = keys(3, "first", bytes(32)), keys(MAX_KEPT_OF_GIVEN, "more", bytes(32))
    other = keys(1, "other", b"c" * 32)
    held = with_given(first, [*first, *more, *other])
    assert held == (*first, *more[: MAX_KEPT_OF_GIVEN - 3], *other)
