"""Who reports a laptop is shown by its first right whose it is, whatever a copied key calls it later (docs/attacks.md).

Of a laptop that is gone nobody can compare the words.
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.identity import three_words
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.whose_device import Whose, whose_device
from protocol.roles import PersonRole, Role
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import Surfer, portal, words_in
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class

ROW = "a laptop is called another's, so that a report cuts off the wrong one"
BOTH = ("sync_agent.portal.head.losses.whose_device", "protocol.replica.office.losses.whose_device")


async def by_the_last(replica: Replica, device: bytes) -> Whose:
    """As it was: the last right that came says whose a device is."""
    last = replica.door.authorities_of(device)[-1]
    return Whose(last.role, last.person)


async def by_what_counts(replica: Replica, device: bytes) -> Whose:
    """By the first that nothing holds back."""
    first = (await replica.authorities(device))[0]
    return Whose(first.role, first.person)


async def by_the_first_alone(replica: Replica, device: bytes) -> Whose:
    """And nothing of what others say."""
    first = replica.door.authorities_of(device)[0]
    return Whose(first.role, first.person)


async def by_all(replica: Replica, device: bytes) -> Whose:
    """By every right alike."""
    whose = await whose_device(replica, device)
    return Whose(whose.role, None, (*whose.others, *([] if whose.person is None else [whose.person])))


async def never_otherwise(_replica: Replica, _persons: Collection[bytes]) -> dict[bytes, list[str]]:
    """Nobody was ever called otherwise."""
    return {}


@dataclass
class School:
    """A head teacher's computer, and the laptops of Mme Petit and of M. Roy."""

    here: Here
    head: Device
    roys: Device
    roy: bytes

    @property
    def hers(self) -> Device:
        return self.here.teacher

    @property
    def petit(self) -> bytes:
        return self.here.room.teacher_person

    async def sync(self) -> None:
        for _ in range(2):
            await self.here.sync(self.head, self.roys, self.hers, self.here.machine)

    async def call(self, device: Device, person: bytes) -> None:
        """A copied key says one more right of a device, as somebody's."""
        room = self.here.room
        await room.territory.let_in(device.agent.keys, Role.TEACHER, room.space, person=person)

    async def exchange(self) -> None:
        """Of either laptop that it is the other's."""
        await self.call(self.hers, self.roy)
        await self.call(self.roys, self.petit)
        await self.sync()

    async def breathe(self) -> None:
        """M. Roy's laptop is cut off and let back as Mme Petit's: nothing is lost, and his right is held back."""
        territory, space, keys = self.here.room.territory, self.here.room.space, self.roys.agent.keys
        cut = await territory.say(space, Kind.REVOKE, Revocation(keys.signing.public, ()).encode())
        pair = keys.signing.public, keys.agreement.public
        again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, self.petit, None).encode()
        await territory.say(space, Kind.GRANT, again, parents=(cut.id,))
        await self.sync()

    async def reads(self, device: Device) -> bool:
        return (await self.here.room.territory.replica.view(self.here.room.space)).roster.may_read(device.agent.device)


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[School]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        roy = await here.room.territory.person("M. Roy", PersonRole.TEACHER, here.room.space)
        made = School(here, head, await here.room.device(Role.TEACHER, person=roy), roy)
        await made.sync()
        yield made


async def rows(surfer: Surfer) -> dict[str, str]:
    """What stands beside each device of the page, by its id."""
    page = html.unescape(await surfer.page("/lost"))
    each = re.split(r"<li><div><h2>", page)[1:]
    return {re.findall(r'name="device" value="([0-9a-f]+)"', row)[0]: words_in(row.split("<form")[0]) for row in each}


@attack(ROW, off=dict.fromkeys(BOTH, by_the_last))
async def test_who_reports_somebodys_laptop_cuts_that_one_off_though_a_copied_key_exchanged_both(
    school: School,
) -> None:
    await school.exchange()
    async with portal(school.head.agent) as surfer:
        (stolen,) = [device for device, row in (await rows(surfer)).items() if re.search(r"M\. Roy · CM1", row)]
        told = await surfer.send("/lost", "/lost", {"device": stolen, "since": "", "meant": "yes"})
    assert three_words(school.roys.agent.device) in told.text
    assert "· M. Roy" in words_in(told.text)
    await school.here.sync(school.head)
    assert (await school.reads(school.roys), await school.reads(school.hers)) == (False, True)


@attack(ROW, off=dict.fromkeys(BOTH, by_what_counts))
async def test_nor_does_it_become_anothers_in_one_breath(school: School) -> None:
    await school.breathe()
    assert await school.reads(school.roys)
    async with portal(school.head.agent) as surfer:
        assert "M. Roy · CM1" in (await rows(surfer))[school.roys.agent.device.hex()]
    assert (await Desk(school.head.agent).ask("lost", device=school.roys.agent.device.hex()))["person"] == "M. Roy"


@attack(ROW, off=dict.fromkeys(BOTH, by_the_first_alone))
async def test_whom_other_rights_call_its_owner_is_told_beside_it(school: School) -> None:
    await school.call(school.roys, school.petit)
    await school.sync()
    device = school.roys.agent.device.hex()
    async with portal(school.head.agent) as surfer:
        row = (await rows(surfer))[device]
    desk = Desk(school.head.agent)
    answered = await desk.ask("lost", device=device, dry_run=True)
    assert "Un autre droit le dit à : Mme Petit." in row
    assert answered["others"] == ["Mme Petit"]
    assert "other rights call it the computer of “Mme Petit”" in "".join(desk.told)


@attack(ROW, off={"protocol.replica.office.confirmed_by_lost.whose_device": by_all})
async def test_no_honest_laptop_stands_under_who_else_has_the_name_of_the_lost_one(school: School) -> None:
    await school.call(school.roys, school.petit)
    await school.sync()
    answered = await Desk(school.head.agent).ask("lost", device=school.roys.agent.device.hex())
    assert school.hers.agent.device.hex() not in {row["device"] for row in answered["besides"]}


@attack(ROW, off={"sync_agent.portal.head.losses.whose_device": by_the_last})
async def test_a_pc_that_a_copied_key_calls_hers_is_shown_as_the_class_s(school: School) -> None:
    await school.call(school.here.machine, school.petit)
    await school.sync()
    async with portal(school.head.agent) as surfer:
        row = (await rows(surfer))[school.here.machine.agent.device.hex()]
    assert "Ordinateur de la classe" in row
    assert "Un autre droit le dit à : Mme Petit." in row


@attack(ROW, off={"sync_agent.portal.head.losses.once_otherwise": never_otherwise})
async def test_what_lists_called_its_owner_before_a_copied_key_exchanged_names_stands_beside_it(school: School) -> None:
    territory, space = school.here.room.territory, school.here.room.space
    for person, name in ((school.roy, "Mme Petit"), (school.petit, "M. Roy")):
        await territory.say(space, Kind.PERSON, PersonRecord(name, PersonRole.TEACHER).encode(), subject=person)
    await school.sync()
    async with portal(school.head.agent) as surfer:
        row = (await rows(surfer))[school.roys.agent.device.hex()]
    assert "autre nom ici, auparavant : M. Roy" in row.replace("\N{NO-BREAK SPACE}", " ")


@attack(ROW, off={"sync_agent.school.devices.whose_device": by_what_counts})
async def test_devices_say_by_the_first_right_whose_each_is(school: School) -> None:
    await school.breathe()
    listed = {row["device"]: row["person"] for row in await Desk(school.head.agent).ask("devices")}
    assert listed[school.roys.agent.device.hex()] == school.roy.hex()
