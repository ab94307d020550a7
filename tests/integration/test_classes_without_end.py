"""What a head teacher's pages ask of the store where a stolen server has invented classes of her school."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.model.entry import Kind, compose
from protocol.model.structure import Revocation, SpaceRecord
from protocol.roles import Role
from sync_agent.app import Agent
from sync_agent.keys.confirming import list_readers
from sync_agent.school.held_back import held_back_in_school, own_held_back
from tests.harness.head_at_work import confirmed_head
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device

FEW = 4


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


class Thief:
    """An administrator's device, which stands for a server's old key; what it says is held back in the end."""

    def __init__(self, here: SpiedClass) -> None:
        self._territory, self._school = here.room.territory, here.room.school
        self._keys = new_device(Random(77).randbytes)
        self._said = 0

    async def begins(self) -> None:
        (given,) = await self._territory.let_in(self._keys, Role.ADMIN, self._territory.id)
        self._grant = given.id

    async def invents(self, classes: int) -> None:
        at = (self._territory.clock() << 16) + self._said
        said = [
            compose(
                author=self._keys.signing,
                space=self._school,
                kind=Kind.SPACE,
                grant=self._grant,
                at=at + number,
                payload=SpaceRecord(f"C{number}").encode(),
                salt=bytes(16),
            )
            for number in range(classes)
        ]
        self._said += classes
        await self._territory.replica.admit(said, source=b"thief", now_ms=self._territory.clock())

    async def is_cut_off(self) -> None:
        cut = Revocation(self._keys.signing.public, ())
        await self._territory.say(self._territory.id, Kind.REVOKE, cut.encode())


async def _asked(agent: Agent, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Awaitable[object]]) -> Counter[str]:
    """How often the store was asked for all entries of a kind, and how many entries it was asked for by name."""
    asked, store = Counter[str](), agent.replica.store
    kinds, get = store.scan_kinds, store.get

    async def scanned(*args: Any) -> Any:
        asked["scans"] += 1
        return await kinds(*args)

    async def got(ids: Any) -> Any:
        asked["entries"] += len(ids)
        return await get(ids)

    await ask()  # folds are made
    with monkeypatch.context() as patch:
        patch.setattr(store, "scan_kinds", scanned)
        patch.setattr(store, "get", got)
        await ask()
    return asked


async def test_what_is_said_of_reading_keys_is_read_once_for_all_classes(
    here: SpiedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    (head, _), thief = await confirmed_head(here), Thief(here)
    await thief.begins()
    asked = []
    for _ in range(2):
        await thief.invents(FEW)
        await here.sync(head)
        asked.append(await _asked(head.agent, monkeypatch, lambda: list_readers(head.agent)))
    assert len({each.space for each in await list_readers(head.agent)}) > 2 * FEW, "she reads them all"
    assert asked[0] == asked[1]


async def test_what_is_held_back_above_classes_is_not_looked_at_once_for_each(
    here: SpiedClass, monkeypatch: pytest.MonkeyPatch
) -> None:
    (head, _), thief = await confirmed_head(here), Thief(here)
    await thief.begins()
    await thief.invents(3 * FEW)
    await here.sync(head)
    await thief.is_cut_off()
    await here.sync(head)
    replica, school = head.agent.replica, here.room.school
    held = (await replica.view(school)).roster.held_back
    assert len(held) >= 3 * FEW
    waiting = await _asked(head.agent, monkeypatch, lambda: held_back_in_school(replica, school))
    own = await _asked(head.agent, monkeypatch, lambda: own_held_back(head.agent))
    assert waiting["entries"] <= 2 * len(held)
    assert own["entries"] <= 2 * len(held)
