"""Whoever had a server's keys, and new ones that were made before anybody said since when (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.roster import Roster, is_acceptable
from protocol.roles import Role
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

IN_ANY_ORDER = "new keys are made for a server before anybody says since when the old ones were in other hands"


class School:
    """A class that has worked, of which a thief has the server's keys since half a day."""

    def __init__(self, here: Town, folder: Path) -> None:
        self.here = here
        self.kit = kit_in(folder / "server" / "kit", None)
        self.spy = new_device(Random(9).randbytes)

    async def begin(self) -> None:
        here, desk = self.here, self.here.office
        petit, lea = await desk.add_person("Mme Petit", "teacher"), await desk.add_person("Léa", "pupil")
        self.school = here.school
        self.head = await here.head_of_the_school()
        self.laptop, self.pc = await here.device("teacher", petit), await here.device("machine")
        self.item = await here.assignment(self.laptop)
        await here.sync(self.pc)
        self.work = await here.work(self.pc, self.item, lea)
        await here.sync(self.pc, self.laptop, self.head)
        self.lea = lea
        await self.hours_pass(24)

    async def hours_pass(self, hours: int) -> None:
        await note_arrivals(self.here.office.server.store, self.here.office.clock())
        self.here.office.clock.advance(hours * DAY_MS // 24)

    async def thief_uses_the_servers_key(self) -> None:
        """Everybody is cut off with nothing that they said, and a spy is let in."""
        server, keys = self.here.office.server, self.spy
        x = await self.here.office.add_person("M. X", "teacher")
        given = Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, bytes.fromhex(x), None
        )
        await server.write([Draft(self.here.space, Kind.GRANT, server.grant, given.encode())])
        for space, device in self._devices():
            gone = Revocation(device.agent.device, ()).encode()
            await server.write([Draft(space, Kind.REVOKE, server.grant, gone)])
        await self.hours_pass(0)

    async def thief_ends_a_right_of_the_servers_key(self) -> None:
        """One that the key has given itself beside its own, and that gives nothing."""
        server = self.here.office.server
        keys, territory = server.keys, server.replica.territory
        own = Grant(keys.signing.public, keys.agreement.public, bytes(32), Role.ADMIN, None, None).encode()
        (given,) = await server.write([Draft(territory, Kind.GRANT, server.grant, own)])
        over = Revocation(keys.signing.public, ()).encode()
        await server.write([Draft(territory, Kind.REVOKE, server.grant, over, target=given.id)])

    def _devices(self) -> list[tuple[bytes, Device]]:
        return [(self.school, self.head), (self.here.space, self.laptop), (self.here.space, self.pc)]

    async def rotate(self, **params: object) -> None:
        await self.here.office.with_kit("rotate server", self.kit, **params)

    async def who_is_in(self) -> list[bool]:
        """The head's, the teacher's, the class's; and the spy's."""
        readable = self.here.office.server.replica.readable
        of_spy = self.here.space in await readable(self.spy.signing.public)
        return [*[space in await readable(device.agent.device) for space, device in self._devices()], of_spy]

    async def all_is_as_before(self) -> bool:
        view = await self.here.office.server.replica.view(self.here.space)
        shown = self.item in view.coursework.items and self.work in view.coursework.hand_ins
        return shown and await self.who_is_in() == [True, True, True, False]


async def _cut_off_already(*_: object) -> bool:
    return False


@pytest.mark.parametrize("hours", [0, 48])
@attack(IN_ANY_ORDER, off={"sync_server.handlers.by_kit.replaced_keys._has_said_more": _cut_off_already})
async def test_what_a_thief_said_with_a_servers_keys_is_taken_back_after_new_ones_were_made_too(
    tmp_path: Path, hours: int
) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        await school.thief_uses_the_servers_key()
        await school.rotate()
        assert await school.who_is_in() == [False, False, False, True]
        assert "--since TIME" in here.office.said.lines[-1]
        await school.hours_pass(hours)
        await school.rotate()
        await school.rotate(since=f"{hours + 12}h")
        assert await school.all_is_as_before()
        await here.sync(school.pc, school.laptop, school.head)


@attack(
    IN_ANY_ORDER,
    off={"protocol.rights.roster.Roster.reported": property(lambda roster: frozenset(roster.revocations.values()))},
)
async def test_a_key_is_replaced_that_has_ended_a_further_right_of_its_own(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school, server = School(here, tmp_path), here.office.server
        await school.begin()
        old = server.keys.signing.public
        await school.thief_ends_a_right_of_the_servers_key()
        await school.hours_pass(0)
        await school.rotate()
        await here.sync(school.pc)
        for replica in (server.replica, school.pc.agent.replica):
            assert old in (await replica.view(server.replica.territory)).roster.cut


KEY_IN_USE = property(lambda server: {server.keys.signing.public})
"""As if nothing were noted of keys that a server has replaced."""


@attack(IN_ANY_ORDER, off={"sync_server.opened.app.Server.own_keys": KEY_IN_USE})
async def test_what_a_server_has_said_with_keys_that_it_was_given_since_then_stays(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        await school.thief_uses_the_servers_key()
        await school.rotate()
        later = await here.device("machine")
        await school.hours_pass(1)
        await school.rotate()
        await school.rotate(since="13h")
        assert await school.all_is_as_before()
        assert here.space in await here.office.server.replica.readable(later.agent.device)


async def test_a_second_time_that_is_later_gives_nothing_back(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        await school.thief_uses_the_servers_key()
        await school.rotate(since="12h")
        await school.hours_pass(6)
        await school.rotate(since="1h")
        assert await school.all_is_as_before()


@pytest.mark.parametrize("again", [False, True], ids=["first", "after-new-keys"])
async def test_a_time_before_anything_was_noted_is_asked_about(tmp_path: Path, *, again: bool) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        here.office.clock.advance(DAY_MS)
        await school.begin()
        await school.thief_uses_the_servers_key()
        if again:
            await school.rotate()
        with pytest.raises(BadInput, match="--anyway") as caught:
            await school.rotate(since="36h")
        assert caught.value.code is Code.BAD_DATE
        assert await school.who_is_in() == [False, False, False, True]
        await school.rotate(since="36h", anyway=True)
        assert await school.who_is_in() == [False] * 4
        with pytest.raises(BadInput, match="no server's key") as caught:
            await school.rotate(since="900h", anyway=True)


def _of_who_was_cut_off(entry: Entry, roster: Roster) -> bool:
    return is_acceptable(entry.header.kind) or entry.header.author in roster.revocations.values()


@attack(IN_ANY_ORDER, off={"sync_server.handlers.by_kit.waiting._may_be_accepted": _of_who_was_cut_off})
async def test_what_a_head_ordered_who_was_let_in_since_the_theft_is_told_and_can_be_said_again(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        school = School(here, tmp_path)
        await school.begin()
        late, server = await here.device("head", None, school.school.hex()), here.office.server
        await school.hours_pass(1)
        laptop, lea = school.laptop.agent.device, bytes.fromhex(school.lea)
        await Desk(late.agent).ask("lost", device=laptop.hex())
        await Desk(late.agent).ask("erase", person=[school.lea])
        await here.sync(late)
        await school.rotate(since="12h")
        assert here.space in await server.replica.readable(laptop)
        for told in ("1 revocations count for nothing", "(1) is shown again"):
            assert any(told in line for line in here.office.said.lines)
        waiting = {each["kind"]: each for each in await here.office.do("waiting")}
        assert laptop.hex() in waiting["revoke"]["title"]
        await here.office.do("lost", device=laptop.hex())
        await here.office.do("erase", person=[waiting["erase"]["person"]])
        assert {each["kind"] for each in await here.office.do("waiting")}.isdisjoint({"revoke", "erase"})
        assert here.space not in await server.replica.readable(laptop)
        assert lea not in (await server.replica.view(here.space)).roster.persons
