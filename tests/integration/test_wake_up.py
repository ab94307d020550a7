"""`/v1/live` over real HTTP, in one loop: who is told, over which line, how it ends, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from random import Random, uniform

import aiohttp
import pytest
from aiohttp import web

from protocol.errors import Code, LocalFailure, NoAnswer, RelaisError
from protocol.messages.wire import LIVE_PATH
from protocol.replica.answering.listeners import Listener
from protocol.replica.answering.serving import Responder
from protocol.replica.http import live
from protocol.replica.interfaces import ReadInto
from protocol.replica.process.background import background
from protocol.roles import Role
from protocol.transfer.crossing import crossing
from sync_agent.machine.sync_result import SyncResult
from sync_agent.scheduler import Scheduler
from sync_agent.sync import hearing
from sync_agent.sync.hearing import listening
from sync_agent.transport import over_http as http_transport
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import SMALL, Device
from tests.harness.http_room import HttpRoom, http_room
from tests.harness.patience import PATIENCE_S
from tests.harness.weather import Sockets, Weather, impairing_relay


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[HttpRoom]:
    async with http_room(tmp_path) as made:
        yield made


async def capability_of(device: Device) -> str:
    found: list[str] = []
    device.session.on_live = found.append
    device.session.ask_for_live()
    await device.session.sync()
    return found[0]


async def heard(line: AsyncGenerator[bool, None]) -> bool:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(line)


@pytest.mark.parametrize("pushed", [True, False], ids=["websocket", "long-polling"])
async def test_who_listens_is_told_of_a_lesson_by_somebody_else(here: HttpRoom, pushed: bool) -> None:
    teacher, machine = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=pushed)) as line:
        assert await heard(line) is not pushed, "the line stands; who asks for the first time is told to look"
        moved = asyncio.create_task(heard(line))
        await asyncio.sleep(0)
        await here.room.publish(teacher, SMALL)
        await teacher.session.sync()
        assert await moved is True


async def test_what_moves_between_two_questions_is_told_by_the_second(here: HttpRoom) -> None:
    teacher, machine = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=False)) as line:
        assert await heard(line) is True
        await here.room.publish(teacher, SMALL)
        await teacher.session.sync()
        assert await heard(line) is True, "nobody was listening, and it is told all the same"


async def test_what_moves_while_a_question_runs_out_of_time_is_told(
    here: HttpRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, machine = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    concerns = Responder.concerns

    async def later(responder: Responder, listener: Listener, spaces: frozenset[bytes]) -> bool:
        """Whether it concerns who asks is known only when the question's time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * live.LONG_POLL_S):
                await asyncio.get_running_loop().create_future()
        return await concerns(responder, listener, spaces)

    monkeypatch.setattr(live, "LONG_POLL_S", 0.02)
    monkeypatch.setattr(Responder, "concerns", later)
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=False)) as line:
        assert await heard(line) is True
        await here.room.publish(teacher, SMALL)
        await teacher.session.sync()
        assert await heard(line) is True


@pytest.mark.parametrize("met", [LocalFailure(Code.STORAGE_FAILED, "the disk could not be read"), ZeroDivisionError()])
async def test_a_line_over_which_news_cannot_be_told_ends_so_that_nobody_listens_in_vain(
    here: HttpRoom, monkeypatch: pytest.MonkeyPatch, met: Exception
) -> None:
    async def fails(*_: object) -> bool:
        raise met

    monkeypatch.setattr(Responder, "concerns", fails)
    teacher, machine = await here.room.teacher(), await here.room.machine()
    await teacher.session.sync()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=True)) as line:
        assert await heard(line) is False
        await here.room.publish(teacher, SMALL)
        await teacher.session.sync()
        with pytest.raises(StopAsyncIteration):
            await heard(line)


async def test_a_question_that_waited_in_vain_is_asked_again(here: HttpRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONG_POLL_S", 0.01)
    machine = await here.room.machine()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=False)) as line:
        assert [await heard(line) for _ in range(4)] == [True, False, False, False]


async def test_who_has_not_asked_for_long_is_told_to_look(here: HttpRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONG_POLL_S", 0.01)
    machine = await here.room.machine()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=False)) as line:
        assert [await heard(line) for _ in range(2)] == [True, False]
        monkeypatch.setattr(live, "ASKS_AGAIN_S", -1.0)
        assert await heard(line) is True


async def test_a_line_ends_with_its_capability_and_with_the_server(
    here: HttpRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CAPABILITY_LIFETIME_S", 0.05)
    machine = await here.room.machine()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=True)) as line:
        assert await heard(line) is False
        with pytest.raises(StopAsyncIteration):
            await heard(line)


async def test_a_listener_that_says_what_nobody_asked_is_let_go(here: HttpRoom) -> None:
    machine = await here.room.machine()
    headers = {"Authorization": f"Bearer {await capability_of(machine)}"}
    async with aiohttp.ClientSession() as session, session.ws_connect(here.url + LIVE_PATH, headers=headers) as line:
        await line.send_str("words are ignored")
        await line.send_bytes(b"bytes are not")
        assert (await line.receive(PATIENCE_S)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)


@pytest.mark.parametrize("bearer", ["", "Bearer ", "Bearer nonsense", "Basic abc"])
async def test_who_has_no_capability_hears_nothing(here: HttpRoom, bearer: str) -> None:
    headers = {"Authorization": bearer}
    async with aiohttp.ClientSession() as session, session.get(here.url + LIVE_PATH, headers=headers) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == Code.BAD_CAPABILITY


async def test_more_listeners_than_there_is_room_for_are_asked_to_come_later(
    here: HttpRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.http.live.Live._taken", lambda _self: live.MAX_LISTENERS)
    machine = await here.room.machine()
    async with aclosing(machine.way.listen(await capability_of(machine), pushed=False)) as line:
        with pytest.raises(NoAnswer) as raised:
            await heard(line)
    assert raised.value.code is Code.BUSY


async def test_at_the_servers_end_every_listener_is_let_go(tmp_path: Path) -> None:
    async with http_room(tmp_path) as here:
        machine = await here.room.machine()
        line = machine.way.listen(await capability_of(machine), pushed=True)
        assert await heard(line) is False
        ended = asyncio.create_task(heard(line))
    with pytest.raises((StopAsyncIteration, RelaisError)):
        await ended
    await line.aclose()


# --- an agent behind a box that is no friend of WebSockets ------------------------------------------------------------


@pytest.mark.parametrize("sockets", Sockets)
async def test_news_wakes_an_agent_at_once_whatever_the_box_on_the_way_does_to_websockets(
    here: HttpRoom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sockets: Sockets
) -> None:
    # no poll, no proof of a WebSocket and no second try could be what brings the news: all come too late
    monkeypatch.setattr(http_transport, "LIVE_PROOF_S", 3600.0)
    monkeypatch.setattr(hearing, "HEAD_START_S", 0.05)
    monkeypatch.setattr(hearing, "AFTER_FALL_S", (3600.0, 3600.0) if sockets is not Sockets.CUT else (0.0, 0.0))
    teacher = await here.room.teacher()
    with impairing_relay(here.url, tmp_path / "relay") as relay:
        relay.weather = Weather(sockets=sockets)
        machine = await here.room.device(Role.MACHINE, way=lambda _: HttpTransport(relay.url))
        synced = asyncio.Queue[None]()

        async def sync(routine: bool) -> SyncResult:
            result = await machine.session.sync(routine=routine)
            synced.put_nowait(None)
            return result

        scheduler = Scheduler(sync, poll_s=(3600, 3600), monotonic=time.monotonic, draw=uniform)
        async with (
            background(scheduler.run_forever()),
            listening(machine.session, machine.way, scheduler),
            asyncio.timeout(PATIENCE_S),
        ):
            for number in range(3):
                item = (await here.room.publish(teacher, {"page.html": f"v{number}".encode()})).item
                await teacher.session.sync()
                while item not in (await machine.agent.replica.view(here.room.space)).coursework.items:
                    await synced.get()
            assert scheduler.hears or sockets is Sockets.CUT


# --- whatever a handler meets -----------------------------------------------------------------------------------------


async def test_what_fails_on_the_server_is_named_and_told_to_whoever_watches_it(tmp_path: Path) -> None:
    async def full(_request: web.Request) -> web.Response:
        raise LocalFailure(Code.DISK_FULL, "the disk is full")

    async def odd(_request: web.Request) -> web.Response:
        raise ZeroDivisionError("Léa")

    def change(app: web.Application) -> None:
        app.router.add_get("/full/{capability}", full)
        app.router.add_get("/odd", odd)

    async with http_room(tmp_path, change) as here, aiohttp.ClientSession() as session:
        async with session.get(f"{here.url}/full/secret") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (507, Code.DISK_FULL)
        async with session.get(f"{here.url}/odd") as answer:
            text = await answer.text()
            assert answer.status == 500
            assert "Léa" not in text, "what a library says of itself may hold a name"
        async with session.get(f"{here.url}/nowhere") as answer:
            assert answer.status == 404
        assert [failure.code for failure in here.failures] == [Code.DISK_FULL]


# --- content that goes away -------------------------------------------------------------------------------------------


async def link_to(here: HttpRoom, machine: Device) -> tuple[str, bytes]:
    """A link to a pack of the class that is too large to come with an answer, and the pack's hash."""
    teacher = await here.room.teacher()
    await here.room.publish(teacher, {"film.mp4": Random(1).randbytes(3_000_000)})
    await teacher.session.sync()
    links: list[str] = []
    fetch = machine.way.fetch

    async def noted(capability: str, start: int, length: int | None = None) -> AsyncGenerator[bytes, None]:
        links.append(capability)
        async for piece in fetch(capability, start, length):
            yield piece

    machine.way.fetch = noted  # type: ignore[method-assign]
    await machine.session.sync()
    machine.way.fetch = fetch  # type: ignore[method-assign]
    sizes = await here.room.territory.replica.content.pack_sizes()
    return links[0], max(sizes, key=lambda pack: sizes[pack])


async def test_content_that_has_gone_since_its_link_was_made_is_said_to_be_gone(here: HttpRoom) -> None:
    machine = await here.room.machine()
    link, pack = await link_to(here, machine)
    await here.room.territory.replica.content.drop([pack])
    with pytest.raises(RelaisError) as raised:
        async with aclosing(machine.way.fetch(link, 0)) as pieces:
            await anext(pieces)
    assert raised.value.code is Code.INCOMPLETE


async def test_content_that_goes_while_it_is_sent_ends_short_and_never_with_other_bytes(
    here: HttpRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = await here.room.machine()
    link, pack = await link_to(here, machine)
    content = here.room.territory.replica.content
    whole = await content.read_pack(pack, 0, 4_000_000)
    reader_of, loop = content.pack_reader, asyncio.get_running_loop()

    async def going(asked: bytes) -> ReadInto:
        read = await reader_of(asked)

        def goes(start: int, memory: memoryview) -> int:
            if start > 1_000_000:
                asyncio.run_coroutine_threadsafe(content.drop([pack]), loop).result()
            return read(start, memory)

        return goes

    monkeypatch.setattr(content, "pack_reader", going)
    came = bytearray()

    async def fetch() -> None:
        async with aclosing(machine.way.fetch(link, 0)) as pieces:
            async for piece in pieces:
                came.extend(piece)

    with pytest.raises(NoAnswer):
        await fetch()
    assert 1_000_000 < len(came) < len(whole)
    clear = crossing(here.responder.fetch_capability(link).link_key, 0)
    assert whole.startswith(clear(bytes(came)))
