"""Content from a source that lies, a line that cuts, a disk that fills: refused with a code, nothing visible changes,
and the next attempt goes on from what is good (docs/protocol.md, "Packs", "Deltas", "HTTP")."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from protocol.errors import Code, LocalFailure, NoAnswer, PeerFault, RelaisError
from protocol.messages.parts import Link
from protocol.replica import disk
from protocol.replica.interfaces import PackInfo
from sync_agent.transport.over_http import HttpTransport
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.edited_lesson import AFTER, BEFORE, noise
from tests.harness.wire import Frontage, MemoryTransport, served

FILM = noise(700_000, 11)
NEXT = {**AFTER, "film.mp4": FILM}
Bytes = AsyncGenerator[bytes, None]


class Lying(MemoryTransport):
    """A source whose bytes pass through `change` while there is one."""

    def __init__(self, frontage: Frontage) -> None:
        super().__init__(frontage)
        self.change: Callable[[bytes, int], bytes] | None = None
        self.came = 0

    async def fetch(self, capability: str, start: int, length: int | None = None) -> Bytes:
        whole = b"".join([piece async for piece in super().fetch(capability, start, length)])
        if self.change is not None:
            whole = self.change(whole, start)
        for at in range(0, len(whole), 65_536):
            self.came += len(whole[at : at + 65_536])
            yield whole[at : at + 65_536]


LIES: dict[str, Callable[[bytes, int], bytes]] = {
    "cut in half, as if that were all": lambda data, _: data[: len(data) // 2],
    "the beginning twice": lambda data, _: data[:70_000] + data,
    "a byte too many": lambda data, _: data + b"!",
    "nothing at all": lambda _, __: b"",
    "zeros": lambda data, _: bytes(len(data)),
    "a wrong byte at the head": lambda data, start: data if start else b"X" + data[1:],
    "a wrong byte at the end": lambda data, _: data[:-1] + bytes([data[-1] ^ 1]),
    "other bytes of the same length": lambda data, _: Random(1).randbytes(len(data)),
}


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Classroom]:
    async with classroom(tmp_path, Lying) as made:
        yield made


async def edited(room: Classroom) -> tuple[Device, Lying, bytes]:
    """A machine that shows a lesson, of which the server has a new version with large content."""
    teacher, machine = await room.teacher(), await room.machine()
    item = (await room.publish(teacher, BEFORE)).item
    for device in (teacher, machine):
        await device.session.sync()
    await room.publish(teacher, NEXT, item=item)
    await teacher.session.sync()
    assert isinstance(machine.way, Lying)
    return machine, machine.way, item


async def fails(device: Device) -> RelaisError:
    with pytest.raises((PeerFault, NoAnswer, LocalFailure)) as failed:
        await device.session.sync()
    return failed.value


async def shows_nothing_new(device: Device, item: bytes) -> None:
    """What is new is not whole, so nobody sees it; what was there before is readable."""
    assert await device.agent.missing()
    (space,) = {need.space for need in await device.agent.missing()}
    assert len((await device.agent.replica.view(space)).coursework.items[item].versions) == 2
    assert await device.agent.replica.content.verify() == []


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_bytes_that_are_not_those_of_the_name_change_nothing_and_good_ones_follow(
    room: Classroom, lie: Callable[[bytes, int], bytes]
) -> None:
    machine, way, item = await edited(room)
    way.change = lie
    error = await fails(machine)
    assert error.code in {Code.BAD_HASH, Code.MALFORMED, Code.UNKNOWN_FORMAT, Code.UNREACHABLE, Code.TOO_LARGE}
    await shows_nothing_new(machine, item)
    way.change = None
    machine.session._moving._bad_packs.clear()  # ten minutes later
    await machine.session.sync()
    assert await machine.files(item) == NEXT


@pytest.mark.parametrize("off", [-1, 1, -300_000])
async def test_a_server_that_lies_about_a_size_is_not_believed(
    room: Classroom, off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, _, item = await edited(room)
    responder = room.frontage.responder
    honest = responder._link

    def lying(pack: PackInfo, now_ms: int, *, keyed: bool) -> Link:
        return replace(honest(pack, now_ms, keyed=keyed), size=pack.size + off)

    monkeypatch.setattr(responder, "_link", lying)
    error = await fails(machine)
    assert error.code in {Code.BAD_HASH, Code.MALFORMED, Code.UNKNOWN_FORMAT, Code.UNREACHABLE, Code.WRONG_OFFSET}
    await shows_nothing_new(machine, item)
    monkeypatch.setattr(responder, "_link", honest)
    machine.session._moving._bad_packs.clear()
    await machine.session.sync()
    assert await machine.files(item) == NEXT


async def test_a_disk_that_fills_in_the_middle_shows_nothing_and_the_next_attempt_brings_it(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, way, item = await edited(room)
    write, room_left = disk._write_some, 300_000

    def filling(file: object, data: memoryview) -> int:
        nonlocal room_left
        if not room_left:
            raise OSError(errno.ENOSPC, "no room")
        written = write(file, data[:room_left])  # type: ignore[arg-type]
        room_left -= written
        return written

    monkeypatch.setattr(disk, "_write_some", filling)
    assert (await fails(machine)).code is Code.DISK_FULL
    monkeypatch.undo()
    await shows_nothing_new(machine, item)
    before = way.came
    await machine.session.sync()
    assert await machine.files(item) == NEXT
    assert way.came - before < 1.25 * len(FILM)


# --- what boxes on the way make of a range ----------------------------------------------------------------------------

WHOLE = noise(10_000, 12)


def partial(first: int, last: int, body: bytes, total: str = "10000") -> web.Response:
    return web.Response(status=206, body=body, headers={"Content-Range": f"bytes {first}-{last}/{total}"})


async def ranged(answer: Callable[[], web.Response], start: int, length: int | None) -> bytes:
    async def give(_: web.Request) -> web.Response:
        return answer()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", give)
    async with served(application) as url:
        transport = HttpTransport(url)
        try:
            return b"".join([piece async for piece in transport.fetch("cap", start, length)])
        finally:
            await transport.close()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: partial(2_000, 2_999, WHOLE[2_000:3_000]),
        lambda: partial(1_000, 9_999, WHOLE[1_000:]),
        lambda: partial(0, 9_999, WHOLE),
        lambda: web.Response(body=WHOLE),
    ],
    ids=["as asked", "more, from before", "all of it as a range", "all of it"],
)
async def test_a_range_is_cut_out_of_whatever_comes(answer: Callable[[], web.Response]) -> None:
    assert await ranged(answer, 2_000, 1_000) == WHOLE[2_000:3_000]


@pytest.mark.parametrize(
    "answer",
    [
        lambda: partial(2_500, 2_999, WHOLE[2_500:3_000]),
        lambda: web.Response(status=206, body=WHOLE[2_000:3_000]),
        lambda: web.Response(status=206, body=WHOLE[2_000:3_000], headers={"Content-Range": "bytes x-y/z"}),
    ],
    ids=["from behind", "from nowhere", "from nonsense"],
)
async def test_a_range_that_begins_elsewhere_is_named_and_none_of_it_is_kept(
    answer: Callable[[], web.Response],
) -> None:
    with pytest.raises(NoAnswer):
        await ranged(answer, 2_000, 1_000)


async def test_a_range_that_is_cut_short_gives_what_came() -> None:
    assert await ranged(lambda: partial(2_000, 2_499, WHOLE[2_000:2_500]), 2_000, 500) == WHOLE[2_000:2_500]
