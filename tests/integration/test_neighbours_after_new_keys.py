"""After new keys for the server: a neighbour that has heard of them less than others comes to agree all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.replica.office import heads
from sync_agent.lan.exchange.peer_sync import exchange_once
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.classroom import Device
from tests.harness.lan import listening_device
from tests.harness.office_devices import Town, town


class Here:
    """`behind` has not synced since the server said more with its old keys, `near` has heard that they are cut off."""

    def __init__(self, place: Town, behind: Device, near: Device) -> None:
        self.town, self.behind, self.near = place, behind, near

    async def agree(self) -> bool:
        one, other = self.behind.agent.replica, self.near.agent.replica
        spaces = await self.near.agent.spaces()
        return spaces.keys() == (await self.behind.agent.spaces()).keys() and all(
            [await one.fingerprint(space) == await other.fingerprint(space) for space in spaces]
        )

    async def call(self, caller: Device, listener: Device) -> None:
        async with listening_device(listener.agent) as address:
            await exchange_once(caller.agent, address)

    async def hear_who_is_cut_off(self) -> None:
        """The line falls once `behind` has heard that, and nothing of what goes on counting."""
        replica = self.near.agent.replica
        cuts = await replica.revocations_against(self.near.agent.device, await self.near.agent.spaces())
        await self.behind.agent.replica.admit(
            await replica.credentials(cuts), source=b"somebody", now_ms=self.behind.agent.now_ms()
        )
        assert self.town.space not in await self.behind.agent.spaces()


@pytest_asyncio.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Here]:
    # as in a territory of a thousand classes, where there is room for heads alone (docs/adr/0184)
    monkeypatch.setattr(heads, "MOST_EARLIER_HEADS", 0)
    async with town(tmp_path) as place:
        behind = await place.device("machine")
        near = await place.device("machine")
        await place.office.add_person("Léa", "pupil")
        await rotate_server(place.office.server, kit_in(tmp_path / "server" / "kit", None))
        place.office.clock.advance(60_000)
        await place.sync(near)
        yield Here(place, behind, near)


async def test_who_has_heard_of_new_keys_brings_them_to_a_neighbour_that_it_calls(here: Here) -> None:
    await here.call(here.near, here.behind)
    assert await here.agree()


async def test_who_is_behind_hears_of_new_keys_from_the_neighbour_that_it_calls(here: Here) -> None:
    await here.call(here.behind, here.near)
    assert await here.agree()


async def test_a_neighbour_that_has_heard_only_who_is_cut_off_is_brought_what_goes_on_counting(here: Here) -> None:
    await here.hear_who_is_cut_off()
    await here.call(here.near, here.behind)
    assert await here.agree()


async def test_who_has_heard_only_who_is_cut_off_asks_a_neighbour_for_what_goes_on_counting(here: Here) -> None:
    await here.hear_who_is_cut_off()
    await here.call(here.behind, here.near)
    assert await here.agree()
