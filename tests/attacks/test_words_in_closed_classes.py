"""A copy of the server's key tells a head's computer of rights in a class that is closed to it, and is told of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonKey, PersonRecord, Revocation
from protocol.replica.answering.scope import Scope
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from sync_agent.sync.acknowledged import left_to_send
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import answered_by_a_copy, granted
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

ROW = "a copied key speaks beside the honest server"


async def _brings_nothing(*_: object) -> None:
    """As if what is closed to a device were nobody's affair."""


OFF: dict[str, object] = {"sync_agent.sync.session.bring_from_closed": _brings_nothing}


@dataclass
class Told:
    """A head's computer that a copy has told, for a minute, whose a thief's device is, in a class of another school."""

    here: Town
    head: Device
    elsewhere: bytes
    spy: DeviceKeys
    neuf: str
    before_ms: int

    async def alarm(self) -> list[str]:
        """The kinds of the words by which the server knows that its key speaks elsewhere."""
        spoken = (await self.here.office.do("status"))["spoken_elsewhere"]
        return sorted(word["kind"] for each in spoken for word in each["shown"])

    async def days(self, count: int) -> None:
        for _ in range(count):
            self.here.office.clock.advance(DAY_MS)
            await self.here.sync()


@dataclass
class Copy:
    """What the copy says in that class."""

    here: Town
    server: Server
    space: bytes

    async def say(self, kind: Kind, payload: bytes, subject: bytes | None = None) -> Entry:
        draft = Draft(self.space, kind, self.server.grant, payload, subject=subject)
        (said,) = await self._written(self.server.keys.signing, draft)
        return said

    async def calls(self, spy: DeviceKeys, person: str, *, times: int = 1) -> None:
        """A thief's device this teacher's, which says its key so many times."""
        let_in = await self.say(Kind.GRANT, granted(spy, Role.TEACHER, person))
        key, whose = PersonKey(spy.agreement.public).encode(), bytes.fromhex(person)
        await self._written(spy.signing, *times * [Draft(self.space, Kind.PERSON_KEY, let_in.id, key, subject=whose)])

    async def _written(self, author: SigningKey, *drafts: Draft) -> list[Entry]:
        now_ms = self.here.office.clock()
        return await self.server.replica.write(drafts, author=author, now_ms=now_ms, entropy=os.urandom, unsent=False)


async def _told(here: Town) -> Told:
    await here.class_in_step()
    head = await here.head_of_the_school()
    made = await here.office.do("space add", name="CM1", school="0180002E", year="2026-2027")
    neuf = await Desk(head.agent).ask("person add", name="M. Neuf", role="teacher", space=[here.space.hex()])
    for _ in range(2):
        await here.sync()
    await note_arrivals(here.office.server.store, here.office.clock())
    here.office.clock.advance(3600_000)
    spy = new_device(Random(9).randbytes)
    return Told(here, head, bytes.fromhex(made["space"]), spy, neuf["person"], here.office.clock())


async def _shut_out(told: Told, folder: Path, *, times: int = 1) -> None:
    here, head = told.here, told.head
    async with answered_by_a_copy(here, folder) as false:
        copy = Copy(here, false, told.elsewhere)
        await copy.say(Kind.GRANT, granted(head.agent.keys, Role.HEAD, None))
        await copy.calls(told.spy, told.neuf, times=times)
        await here.sync(head, head)
        await copy.say(Kind.REVOKE, Revocation(head.agent.keys.signing.public, ()).encode())
        await here.sync(head, head)


class Anybodys(Scope):
    """Of a server that shows a class to whoever asks."""

    def __init__(self, server: Server, space: bytes) -> None:
        super().__init__(server.replica)
        self._space, self._right = space, server.replica.door.authority(server.grant)

    async def shared(self, readable: Mapping[bytes, Authority]) -> dict[bytes, Authority]:
        assert self._right is not None, "a server has a right in its territory"
        line = self.replica.door.lineage(self._space)
        return {**dict.fromkeys(reversed(line), self._right), **readable}


@attack(ROW, off=OFF)
async def test_what_it_says_in_a_class_and_shuts_her_out_of_again_is_told(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        told = await _told(here)
        await _shut_out(told, tmp_path)
        await told.days(1)
        assert await told.alarm() == ["grant", "grant", "revoke"]
        assert await left_to_send(told.head.agent) == 0


@attack(ROW, off=OFF)
async def test_so_is_what_it_shows_of_a_class_into_which_nobody_let_her(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        told = await _told(here)
        async with answered_by_a_copy(here, tmp_path) as false:
            await Copy(here, false, told.elsewhere).calls(told.spy, told.neuf)
            false.responder.scope = Anybodys(false, told.elsewhere)
            await here.sync(told.head)
        await told.days(1)
        assert await told.alarm() == ["grant"]


@attack(ROW, off=OFF)
async def test_so_is_who_it_puts_on_a_list_there(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        told = await _told(here)
        async with answered_by_a_copy(here, tmp_path) as false:
            listed = PersonRecord("M. Neuf", PersonRole.TEACHER).encode()
            await Copy(here, false, told.elsewhere).say(Kind.PERSON, listed, bytes.fromhex(told.neuf))
            false.responder.scope = Anybodys(false, told.elsewhere)
            await here.sync(told.head)
        await told.days(1)
        assert await told.alarm() == ["person"]


@attack(ROW, off=OFF)
async def test_new_keys_since_a_time_name_the_device_that_came_along_by_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        told = await _told(here)
        await _shut_out(told, tmp_path)
        await told.days(1)
        desk = Desk(told.head.agent)
        made = await desk.ask("space add", name="CE2", year="2026-2027")
        await desk.ask("grant", person=told.neuf, space=[made["space"]])
        await here.sync()
        assert any(each.key == told.spy.signing.public for each in here.office.server.replica.door.authorities())
        await note_arrivals(here.office.server.store, here.office.clock())
        here.office.clock.advance(3600_000)
        since = f"{(here.office.clock() - told.before_ms) // 3600_000}h"
        here.office.said.lines.clear()
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since=since)
        assert f"`sync-server revoke {told.spy.signing.public.hex()}`" in "".join(here.office.said.lines)


async def test_what_a_thiefs_device_says_without_end_stands_before_no_word_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.sync.closed_spaces.MAX_OFFERED", 8)
    async with town(tmp_path) as here:
        told = await _told(here)
        await _shut_out(told, tmp_path, times=60)
        await told.days(1)
        assert await told.alarm() == ["grant", "grant", "revoke"]


async def test_the_server_is_asked_about_that_once_a_day_whoever_answers(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        told = await _told(here)
        await _shut_out(told, tmp_path)
        for _ in range(4):
            here.office.clock.advance(5 * 3600_000)
            await here.sync(told.head)
        assert not await told.alarm(), "the copy had said that it lacks nothing"
        here.office.clock.advance(5 * 3600_000)
        await here.sync(told.head)
        assert await told.alarm()
        before = told.head.way.traffic.copy()
        await here.sync(told.head)
        assert told.head.way.traffic.since(before).round_trips == 1
