"""An edited lesson on its way from a teacher to the class: as a delta, and as packs where that does not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from protocol.limits import INLINE_PACK_BYTES
from protocol.replica.content.deltas import levels as kept_levels
from protocol.replica.content.deltas import plain_deltas
from protocol.transfer.deflate_parameters import ALL_LEVELS, NO_LEVELS, Profile
from sync_agent.coursework import delta_bases
from sync_agent.coursework.deflating import own_levels
from sync_agent.machine.sync_result import SyncResult
from tests.harness.classroom import Classroom, Device, classroom, faulty
from tests.harness.edited_lesson import AFTER, BEFORE, TEXT, archive, document, noise

LEVEL_SIX = Profile(1 << 5)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, faulty) as made:
        yield made


async def shared(room: Classroom, *devices: Device) -> bytes:
    """A lesson that everybody has."""
    item = (await room.publish(devices[0], BEFORE)).item
    for device in devices:
        await device.session.sync()
    return item


async def lose_content(room: Classroom) -> None:
    """The server finds all its packs damaged."""
    for pack in (room.folder / "server" / "packs").rglob("*.pack"):
        pack.write_bytes(b"damaged")
    await room.territory.replica.content.verify()
    await room.frontage.responder.holdings.forget()


def cost(result: SyncResult) -> int:
    return result.bytes_in + result.bytes_out


async def test_an_edit_costs_a_few_kilobytes_and_one_round_trip_up_and_down(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    up = await teacher.session.sync()
    assert await teacher.agent.replica.content.unsent_packs() == []
    down = await machine.session.sync()
    assert await machine.files(item) == AFTER
    assert await room.agree()
    assert (up.round_trips, down.round_trips) == (1, 1)
    assert max(cost(up), cost(down)) < 5_000


async def test_an_edit_that_a_small_delta_brings_costs_the_server_no_look_at_lists_of_files(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    await teacher.session.sync()
    holdings = room.frontage.responder.holdings
    looked: list[bytes] = []
    read = holdings._read

    async def counted(stream: bytes) -> bytes:
        looked.append(stream)
        return await read(stream)

    monkeypatch.setattr(holdings, "_read", counted)
    assert (await machine.session.sync()).round_trips == 1
    assert await machine.files(item) == AFTER
    assert looked == []


async def test_several_edits_reach_a_machine_that_was_away_as_a_chain(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    files = dict(AFTER)
    for number in range(3):
        files["page.html"] += b"<p>encore %d</p>" % number
        await room.publish(teacher, files, item=item)
    await teacher.session.sync()
    down = await machine.session.sync()
    assert await machine.files(item) == files
    assert down.round_trips == 1
    assert cost(down) < 8_000


async def test_a_machine_that_has_nothing_gets_packs(room: Classroom) -> None:
    teacher = await room.teacher()
    item = await shared(room, teacher)
    await room.publish(teacher, AFTER, item=item)
    await teacher.session.sync()
    late = await room.machine()
    await late.session.sync()
    assert await late.files(item) == AFTER


async def test_a_machine_that_lost_the_base_asks_for_packs_in_the_same_sync(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    await teacher.session.sync()
    # it believes that it has everything, and learns otherwise only when the delta comes
    for pack in (machine.agent.folder / "packs").rglob("*.pack"):
        pack.write_bytes(b"damaged")
    await machine.session.sync()
    await machine.session.sync()
    assert await machine.files(item) == AFTER
    assert await room.agree()


async def test_a_server_that_lost_the_base_gets_packs_in_the_same_sync(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    await lose_content(room)
    await teacher.session.sync()
    await machine.session.sync()
    assert await machine.files(item) == AFTER
    assert await room.agree()


async def test_a_delta_too_large_for_a_message_goes_up_and_down_by_links(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    files = {**BEFORE, "image.png": noise(2 * INLINE_PACK_BYTES, 7), "cours.odt": AFTER["cours.odt"]}
    await room.publish(teacher, files, item=item)
    (delta,) = await teacher.agent.replica.content.unsent_deltas()
    assert delta.size > INLINE_PACK_BYTES
    await teacher.session.sync()
    assert await teacher.agent.replica.content.unsent_packs() == []
    await machine.session.sync()
    assert await machine.files(item) == files
    assert [kept.hash for kept in await machine.agent.replica.content.deltas(room.space)] == [delta.hash]


async def test_a_delta_that_goes_up_by_a_link_brings_nothing_else_along(room: Classroom) -> None:
    """What the server said that it lacked before the delta had come is not what it lacks after."""
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    earlier = {**BEFORE, "memo.bin": noise(INLINE_PACK_BYTES // 2, 6)}
    await room.publish(teacher, earlier, item=item)
    await teacher.session.sync()
    files = {**earlier, "image.png": noise(2 * INLINE_PACK_BYTES, 7), "cours.odt": AFTER["cours.odt"]}
    await room.publish(teacher, files, item=item)
    (delta,) = await teacher.agent.replica.content.unsent_deltas()
    assert delta.size > INLINE_PACK_BYTES
    up = await teacher.session.sync()
    assert up.bytes_out < delta.size + 3_000
    assert await teacher.agent.replica.content.unsent_packs() == []
    await machine.session.sync()
    assert await machine.files(item) == files
    assert await room.agree()


async def test_a_large_delta_that_the_server_cannot_use_is_followed_by_packs_in_the_same_sync(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    item = await shared(room, teacher, machine)
    await room.publish(teacher, {**AFTER, "image.png": noise(2 * INLINE_PACK_BYTES, 7)}, item=item)
    await lose_content(room)
    await teacher.session.sync()
    assert await teacher.agent.replica.content.unsent_deltas() == []
    await machine.session.sync()
    assert (await machine.files(item)).keys() == AFTER.keys() | {"image.png"}
    assert await room.agree()


async def test_a_machine_whose_zlib_differs_says_so_and_is_given_a_delta_without_recipes(room: Classroom) -> None:
    teacher, machine, other, late = [await room.teacher(), *[await room.machine() for _ in range(3)]]
    for one in (machine, late):
        one.agent.levels = Profile(ALL_LEVELS & ~LEVEL_SIX)
    item = await shared(room, teacher, machine, other, late)
    await room.publish(teacher, AFTER, item=item)
    published = sum(pack.size for pack in await teacher.agent.replica.content.unsent_packs())
    await teacher.session.sync()
    results = [await device.session.sync() for device in (machine, other, late)]
    for device in (machine, other, late):
        assert await device.files(item) == AFTER
        assert [kept.levels for kept in await device.agent.replica.content.deltas(room.space)] == [
            LEVEL_SIX if device is other else NO_LEVELS
        ]
    assert [result.round_trips for result in results] == [1, 1, 1]
    assert cost(results[1]) < cost(results[0]) < published / 2
    # what was made for the first is there for the next
    assert len(await room.territory.replica.content.deltas(room.space)) == 2


async def test_where_a_delta_without_recipes_is_no_gain_a_machine_whose_zlib_differs_gets_packs_at_once(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_deltas, "_WORTH", 0.0)
    teacher, machine = await room.teacher(), await room.machine()
    machine.agent.levels = Profile(ALL_LEVELS & ~LEVEL_SIX)
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    await teacher.session.sync()
    # the news, its packs, whether that was all: no request for what a delta of no use should have brought
    assert (await machine.session.sync()).round_trips == 3
    assert await machine.files(item) == AFTER
    assert await machine.agent.replica.content.deltas(room.space) == []


async def test_a_delta_without_recipes_that_takes_too_long_keeps_nobody_waiting(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bytes] = []

    async def endless(*_: object, **__: object) -> None:
        tried.append(b"")
        await asyncio.Event().wait()

    teacher, machine, late = await room.teacher(), await room.machine(), await room.machine()
    item = await shared(room, teacher, machine, late)
    await room.publish(teacher, AFTER, item=item)
    await teacher.session.sync()
    monkeypatch.setattr(plain_deltas, "PATIENCE_S", 0.0)
    monkeypatch.setattr("protocol.replica.content.deltas.delta_build.build_delta", endless)
    for one in (machine, late):
        one.agent.levels = NO_LEVELS
        await one.session.sync()
        assert await one.files(item) == AFTER
    assert len(tried) == 1


async def test_what_goes_to_a_server_whose_zlib_differs_is_made_for_it(room: Classroom) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    room.frontage.responder.levels = NO_LEVELS
    item = await shared(room, teacher, machine)
    await room.publish(teacher, AFTER, item=item)
    (delta,) = await teacher.agent.replica.content.unsent_deltas()
    assert delta.levels == NO_LEVELS
    assert (await teacher.session.sync()).round_trips == 1
    # it has learnt something else: the next one is seen from inside again
    room.frontage.responder.levels = ALL_LEVELS
    await teacher.session.sync()
    last = {**AFTER, "cours.odt": document(TEXT.replace("Phrase 700", "Phrase 700 (corrigée)"))}
    await room.publish(teacher, last, item=item)
    assert [delta.levels for delta in await teacher.agent.replica.content.unsent_deltas()] == [LEVEL_SIX]
    await teacher.session.sync()
    await machine.session.sync()
    assert await machine.files(item) == last


async def test_what_a_zlib_reproduces_is_tested_once_for_each_library(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = (await room.machine()).agent
    assert await own_levels(agent) == ALL_LEVELS
    monkeypatch.setattr(kept_levels, "profile", lambda: NO_LEVELS)
    agent.levels = None
    assert await own_levels(agent) == ALL_LEVELS
    monkeypatch.setattr(kept_levels, "_library", lambda: b"another one")
    agent.levels = None
    assert await own_levels(agent) == NO_LEVELS


async def test_a_new_lesson_costs_what_the_archives_of_others_do_not_have_whoever_compressed_it(
    room: Classroom,
) -> None:
    teacher, machine = await room.teacher(), await room.machine()
    text = " ".join(map(str, range(60_000)))
    await room.publish(teacher, {"lecon.zip": archive({"a.txt": noise(200_000, 8), "b.txt": text.encode()}, 9)})
    for device in (teacher, machine):
        await device.session.sync()
    files = {"autre.zip": archive({"a.txt": noise(200_000, 8), "c.txt": b"neuf", "b.txt": text.encode()}, 1)}
    item = (await room.publish(teacher, files)).item
    up, down = await teacher.session.sync(), await machine.session.sync()
    assert await machine.files(item) == files
    assert max(cost(up), cost(down)) < 5_000


async def test_a_lesson_that_has_little_in_common_with_others_goes_out_as_it_is(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Office documents all have the same few members: to compare each with another takes seconds, in vain."""
    teacher = await room.teacher()
    style = noise(4_000, 3)
    style_sheet = noise(9_000, 4)
    for number in (1, 2):
        told: list[int] = []
        monkeypatch.setattr(delta_bases, "keep_as_delta", note_bases(told))
        document = archive({"styles.xml": style, "content.xml": noise(200_000, 10 + number)}, 9)
        files = {"doc.odt": document, "style.css": style_sheet, "index.html": noise(90_000, 20 + number)}
        await room.publish(teacher, files)
        assert told == [0]


def note_bases(told: list[int]) -> Callable[..., Awaitable[None]]:
    async def keep(*arguments: object, **_: object) -> None:
        bases = arguments[3]
        assert isinstance(bases, list)
        told.append(len(bases))

    return keep
