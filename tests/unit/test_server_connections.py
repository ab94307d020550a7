# ruff: noqa: ARG002  (the methods are those of asyncio)

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from protocol.replica.http.connections import HEADERS_TIMEOUT_S, UNREAD_TIMEOUT_S, Guarded, Guards


class Wire(asyncio.Transport):
    """A transport on which nothing happens but what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unread = 0
        self.cut = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.cut = True


class Heard(asyncio.Protocol):
    """A protocol that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        return True

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")


@pytest.fixture
async def guards() -> Guards:
    found = Guards()
    found.now_s = lambda: 0.0
    return found


def connected(guards: Guards) -> tuple[Guarded, Wire]:
    guarded, wire = Guarded(Heard(), guards, 0.0), Wire()
    guarded.connection_made(wire)
    return guarded, wire


async def test_everything_is_passed_on(guards: Guards) -> None:
    inner = Heard()
    guarded = Guarded(inner, guards, 0.0)
    guarded.connection_made(Wire())
    guarded.data_received(b"x")
    guarded.pause_writing()
    guarded.resume_writing()
    assert guarded.eof_received()
    guarded.connection_lost(None)
    assert inner.told == ["made", b"x", "pause", "resume", "eof", "lost"]
    guarded.look(1e9)


async def test_who_says_nothing_after_connecting_is_cut_off(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.look(HEADERS_TIMEOUT_S)
    assert not wire.cut
    guarded.look(HEADERS_TIMEOUT_S + 1)
    assert wire.cut


async def test_headers_that_trickle_in_are_cut_off_however_often_a_byte_comes(guards: Guards) -> None:
    guarded, wire = connected(guards)
    for second in range(int(HEADERS_TIMEOUT_S) + 2):
        guards.now_s = partial(float, second)
        guarded.data_received(b"a")
        guarded.look(float(second))
    assert wire.cut


async def test_a_request_under_way_and_the_silence_after_it_are_left_alone(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.data_received(b"GET /")
    guarded.begin()
    guarded.data_received(b"a slow body")
    guarded.look(10 * HEADERS_TIMEOUT_S)
    guarded.end()
    guarded.look(20 * HEADERS_TIMEOUT_S)
    assert not wire.cut
    guards.now_s = lambda: 20 * HEADERS_TIMEOUT_S
    guarded.data_received(b"G")
    guarded.look(20 * HEADERS_TIMEOUT_S + 1)
    assert not wire.cut
    guarded.look(21 * HEADERS_TIMEOUT_S + 1)
    assert wire.cut, "the next request's headers have their own time"


async def test_an_answer_that_nobody_reads_is_cut_off_and_a_slow_reader_is_not(guards: Guards) -> None:
    guarded, wire = connected(guards)
    guarded.begin()
    wire.unread = 1000
    guarded.look(1.0)
    wire.unread = 999
    guarded.look(UNREAD_TIMEOUT_S)
    guarded.look(2 * UNREAD_TIMEOUT_S)
    assert not wire.cut
    guarded.look(2 * UNREAD_TIMEOUT_S + 1)
    assert wire.cut
