"""One school, one download: who is not named asks the server for heads only, and gets the rest from others (R18)."""

from __future__ import annotations

import asyncio
from random import Random

from sync_agent.lan.school_lan import Lan
from sync_agent.machine.fetching import LEFT_MS
from sync_agent.sync.electing import Found
from sync_agent.sync.peer_news import unsettled
from sync_agent.sync.sharing import CONTENT_PATIENCE_S, ENTRIES_PATIENCE_S, Sharing
from tests.harness.classroom import LARGE, Classroom, Device
from tests.harness.lan import exchange, listening_device
from tests.harness.named import Named

FILM_BYTES = 3_000_000
FILM = {"film.bin": Random(7).randbytes(FILM_BYTES)}


async def three(room: Classroom, named: Named) -> tuple[Device, Device, Device]:
    """A teacher whose lesson is at the server, the machine that is named, and one that is not."""
    teacher, first, second = await room.teacher(), await room.machine(), await room.machine()
    for device in (teacher, first, second):
        await device.session.sync()
    first.session.sharing, second.session.sharing = named.sharing("first"), named.sharing("second")
    return teacher, first, second


async def test_the_named_device_fetches_and_the_other_takes_it_from_there(room: Classroom) -> None:
    named = Named(["first"])
    teacher, first, second = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()

    heads = await second.session.sync()
    assert not heads.received
    assert heads.bytes_in < 500
    assert item not in (await second.agent.replica.view(room.space)).coursework.items
    assert named.woken, "it will ask for itself after a while"

    await first.session.sync()
    assert await first.files(item) == LARGE
    await exchange(second.agent, first.agent)
    proof = await second.session.sync()
    assert await second.files(item) == LARGE
    assert proof.bytes_in + heads.bytes_in < 1_000
    assert not await unsettled(second.agent.replica.store)
    assert await room.agree()
    assert (await second.session.sync()).is_quiet


async def test_who_cannot_wait_for_neighbours_takes_all_entries_itself_and_leaves_the_content(room: Classroom) -> None:
    named = Named(["first"])
    teacher, _, second = await three(room, named)
    item = (await room.publish(teacher, FILM)).item
    await teacher.session.sync()
    second.session.take_all_news()
    taken = await second.session.sync()
    assert item in (await second.agent.replica.view(room.space)).coursework.items
    assert taken.bytes_in < FILM_BYTES / 10
    assert await second.agent.missing()
    await room.publish(teacher, LARGE)
    await teacher.session.sync()
    assert not (await second.session.sync()).received, "only that once"


async def test_when_nobody_brings_it_and_who_is_named_does_not_answer_a_device_asks(room: Classroom) -> None:
    named = Named(["first"])
    teacher, _, second = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await second.session.sync()
    named.now_s = ENTRIES_PATIENCE_S[1]
    assert (await second.session.sync()).bytes_in < 500
    named.tell(Found.GONE)
    await second.session.sync()
    assert await second.files(item) == LARGE


async def test_in_a_slow_hour_the_others_wait_for_who_is_named_and_ask_the_server_for_nothing(room: Classroom) -> None:
    named = Named(["first", "second", "third"])
    teacher, _, third = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    for found in (Found.NOTHING, Found.SOMETHING, Found.NOTHING, Found.NOTHING):
        assert (await third.session.sync()).bytes_in < 500
        named.now_s += 100
        assert (await third.session.sync()).bytes_in < 500
        named.tell(found)
    assert item not in (await third.agent.replica.view(room.space)).coursework.items


async def test_when_the_named_device_goes_the_next_one_asks_at_once(room: Classroom) -> None:
    named = Named(["first"])
    teacher, _, second = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    await second.session.sync()
    named.ranking = ["second"]
    await second.session.sync()
    assert await second.files(item) == LARGE


async def test_content_that_is_on_its_way_elsewhere_is_not_asked_for(room: Classroom) -> None:
    named = Named(["first"])
    teacher, _, second = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    # entries came by a neighbour that has no content yet
    news = [stored.entry for stored in await teacher.agent.replica.store.scan(room.space)]
    await second.agent.replica.admit(news, source=b"neighbour", now_ms=room.territory.clock())
    assert (await second.session.sync()).bytes_in < 500
    assert await second.agent.missing()
    named.now_s = CONTENT_PATIENCE_S[1]
    await second.session.sync()
    named.tell(Found.GONE)
    await second.session.sync()
    assert await second.files(item) == LARGE


async def test_what_several_learnt_from_a_neighbour_goes_up_once(room: Classroom) -> None:
    named = Named(["first"])
    teacher, first, second = await three(room, named)
    await room.publish(teacher, LARGE)
    for device in (first, second):
        await exchange(device.agent, teacher.agent)
    idle = await second.session.sync()
    assert idle.bytes_out < 1_000
    assert await unsettled(second.agent.replica.store)
    await first.session.sync()
    assert await room.agree([first])
    await second.session.sync()
    assert not await unsettled(second.agent.replica.store)


async def test_a_device_alone_asks_as_ever(room: Classroom) -> None:
    named = Named([])
    teacher, first, _ = await three(room, named)
    item = (await room.publish(teacher, LARGE)).item
    await teacher.session.sync()
    assert (await first.session.sync()).round_trips <= 3
    assert await first.files(item) == LARGE


async def test_who_is_named_takes_from_a_neighbour_that_it_is_just_meeting_what_that_one_has(room: Classroom) -> None:
    teacher, holder, device = await room.teacher(), await room.machine(), await room.machine()
    for one in (teacher, holder, device):
        await one.session.sync()
    item = (await room.publish(teacher, FILM)).item
    await teacher.session.sync()
    await holder.session.sync()
    lan = Lan(device.agent, news=lambda: None, draw=Random(1).uniform)
    device.session.sharing = Sharing(
        lan.neighbourhood,
        monotonic=asyncio.get_running_loop().time,
        draw=Random(1).uniform,
        call_later=asyncio.get_running_loop().call_later,
        wake=lambda: None,
        ask=lan.ask,
    )
    async with listening_device(holder.agent) as address, lan.open(None, [address]):
        done = await device.session.sync()
        assert await device.files(item) == FILM
    assert done.bytes_in < FILM_BYTES / 4


async def test_what_a_neighbour_is_bringing_is_not_fetched_beside_it_and_not_left_to_it_for_long(
    room: Classroom,
) -> None:
    named = Named(["first"])
    teacher, first, second = await three(room, named)
    item = (await room.publish(teacher, FILM)).item
    (pack,) = [each.hash for each in await teacher.agent.replica.content.unsent_packs() if each.size > FILM_BYTES / 2]
    await teacher.session.sync()
    assert await first.agent.sending.lets(pack, second.agent.device, first.agent.now_ms())
    assert (await first.session.sync()).bytes_in < FILM_BYTES / 4
    assert named.woken, "it will see to it"
    room.territory.clock.advance(LEFT_MS)
    await first.session.sync()
    assert await first.files(item) == FILM
