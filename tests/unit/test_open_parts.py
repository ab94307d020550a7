"""Unfinished uploads give way to those of the same device and space, and to no others."""

from __future__ import annotations

import asyncio

import pytest

from protocol.errors import Code, TooLarge
from protocol.limits import KiB
from protocol.messages.wire import Capability
from protocol.replica.content.kept.memory_packs import MemoryPacks
from protocol.replica.content.kept.open_parts import OpenParts

CLASS, OTHER_CLASS = b"c" * 32, b"o" * 32
OLD, NEW, THIRD = b"1" * 32, b"2" * 32, b"3" * 32
LEFT = 100 * KiB


def may(pack: bytes, size: int, *, space: bytes = CLASS, sender: bytes = b"pc") -> Capability:
    return Capability.to_send(space, pack, size, 0, sender.ljust(32, b"."))


async def begun(parts: OpenParts, content: MemoryPacks, wanted: Capability) -> None:
    """All but its last byte has come."""
    async with parts.receiving(wanted, LEFT):
        await content.append_part(wanted.pack, 0, bytes(wanted.size - 1), wanted.sender)


@pytest.fixture
def content() -> MemoryPacks:
    return MemoryPacks()


@pytest.fixture
def parts(content: MemoryPacks) -> OpenParts:
    return OpenParts(content, lambda key: key)


async def names(content: MemoryPacks) -> set[bytes]:
    return {pack for (pack, _), _ in await content.parts_sent()}


async def test_the_part_that_lay_still_longest_makes_way(parts: OpenParts, content: MemoryPacks) -> None:
    for pack in (OLD, NEW, THIRD):
        await begun(parts, content, may(pack, 40 * KiB))
    assert await names(content) == {NEW, THIRD}


async def test_parts_of_other_devices_and_of_other_classes_stay(parts: OpenParts, content: MemoryPacks) -> None:
    await begun(parts, content, may(OLD, 90 * KiB, space=OTHER_CLASS))
    await begun(parts, content, may(NEW, 90 * KiB, sender=b"another"))
    await begun(parts, content, may(THIRD, 90 * KiB))
    assert await names(content) == {OLD, NEW, THIRD}


async def test_who_goes_on_with_a_part_is_not_asked_for_its_room_twice(parts: OpenParts, content: MemoryPacks) -> None:
    await begun(parts, content, may(OLD, 90 * KiB))
    async with parts.receiving(may(OLD, 90 * KiB), LEFT):
        assert await names(content) == {OLD}


async def test_a_part_that_was_offered_again_after_a_restart_stays_in_its_class(content: MemoryPacks) -> None:
    await begun(OpenParts(content, lambda key: key), content, may(OLD, 90 * KiB, space=OTHER_CLASS))
    after = OpenParts(content, lambda key: key)
    after.offered(may(OLD, 90 * KiB, space=OTHER_CLASS))
    await begun(after, content, may(NEW, 90 * KiB))
    assert await names(content) == {OLD, NEW}


async def test_what_arrives_makes_no_way(parts: OpenParts, content: MemoryPacks) -> None:
    async with parts.receiving(may(OLD, 90 * KiB), LEFT):
        with pytest.raises(TooLarge) as refused:
            await begun(parts, content, may(NEW, 90 * KiB))
    assert refused.value.code is Code.OVER_QUOTA
    await begun(parts, content, may(NEW, 90 * KiB))


async def test_many_small_parts_count_as_blocks_of_the_disk(parts: OpenParts, content: MemoryPacks) -> None:
    for number in range(50):
        await begun(parts, content, may(number.to_bytes(32, "big"), 2))
    assert len(await names(content)) == 25


async def test_few_parts_of_a_device_lie_here_however_small(
    parts: OpenParts, content: MemoryPacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.content.kept.open_parts._MOST_PARTS", 3)
    for number in range(5):
        await begun(parts, content, may(number.to_bytes(32, "big"), 2))
    assert await names(content) == {number.to_bytes(32, "big") for number in (2, 3, 4)}


async def test_two_that_begin_together_are_weighed_one_after_the_other(parts: OpenParts, content: MemoryPacks) -> None:
    results = await asyncio.gather(
        *(begun(parts, content, may(pack, 90 * KiB)) for pack in (OLD, NEW)), return_exceptions=True
    )
    assert len(await names(content)) == 1, results
