"""Whoever has the server's key adds a second “Mme Petit”, with computers of theirs, for a head teacher to merge.

docs/adr/0296.
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.heard import Known, heard_first
from protocol.rights.vouching import device_words
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import own_device
from sync_agent.school.office import SchoolOffice
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "a head teacher merges a teacher with somebody of a thief's who has her name"
_HIS = bytes(16)  # the lowest id of all


async def _heard_last(replica: Replica) -> Mapping[bytes, Entry]:
    return dict(list((await heard_first(replica)).items())[::-1])


async def _since_nobody_knows_when(_: Replica, persons: Collection[bytes], _space: bytes) -> Mapping[bytes, Known]:
    return {person: Known(0, None, {}) for person in persons}


async def _nobody_else(*_: object) -> list[object]:
    return []


@dataclass
class Twice:
    """A head teacher's computer that has heard of two Mme Petit, each with a computer: hers, then the thief's."""

    here: SpiedClass
    head: Device

    @property
    def hers(self) -> bytes:
        return self.here.room.teacher_person

    @property
    def her_laptop(self) -> bytes:
        return self.here.teacher.agent.device

    @property
    def page(self) -> str:
        return f"/school/{self.here.room.space.hex()}"

    async def new_class(self) -> str:
        added: str = (await Desk(self.head.agent).ask("space add", name="CM2", year="2027-2028"))["space"]
        return added

    async def merged(self) -> None:
        """She is said to be him."""
        await merge_persons(await SchoolOffice.of(self.head.agent), self.hers, _HIS)


@pytest.fixture
async def twice(tmp_path: Path) -> AsyncIterator[Twice]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory = here.room.territory
        head, _ = await confirmed_head(here)
        await head.session.sync()
        said = compose(
            author=territory.keys.signing, space=here.room.space, kind=Kind.PERSON, grant=territory.certificate.id,
            at=(territory.clock() - 300 * DAY_MS) << 16, salt=bytes(SALT_BYTES), subject=_HIS,
            payload=PersonRecord("Mme Petit", PersonRole.TEACHER).encode(),
        )  # fmt: skip
        assert (await territory.replica.admit([said], source=b"a PC", now_ms=territory.clock())).admitted
        for _ in range(5):
            await territory.let_in(here.spy, Role.TEACHER, here.room.space, person=_HIS)
        territory.clock.advance(9 * DAY_MS)
        for _ in range(2):
            await head.session.sync()
        yield Twice(here, head)


@attack(ROW, off={"protocol.replica.office.people.heard_first": _heard_last})
async def test_of_two_of_one_name_the_one_is_kept_who_came_here_first_however_much_is_said_of_the_other(
    twice: Twice,
) -> None:
    rows = await Desk(twice.head.agent).ask("person doubles", space=twice.here.room.space.hex())
    assert [(row["person"], row["keep"]) for row in rows] == [(twice.hers.hex(), True), (_HIS.hex(), False)]
    async with portal(twice.head.agent) as surfer:
        page = await surfer.page(twice.page)
    assert f'name="into" value="{twice.hers.hex()}"' in page


@attack(
    ROW,
    off={
        "sync_agent.portal.head.doubles.known_of": _since_nobody_knows_when,
        "sync_agent.school.commands.known_of": _since_nobody_knows_when,
    },
)
async def test_since_when_and_by_whose_word_either_is_there_stands_beside_the_button_that_merges_them(
    twice: Twice,
) -> None:
    async with portal(twice.head.agent) as surfer:
        page = html.unescape(await surfer.page(twice.page))
    kept, other = re.findall(r"<strong>[^<]*</strong> (Mme Petit · .*?)</p>", page)
    assert "1 ordinateur · connu ici en premier<br>inscription sur cette liste : " in kept
    assert "connu ici en premier" not in other
    assert re.search(
        r"inscription sur cette liste : [^<]* janvier[^<]*, par le serveur<br>accès de [^<]*, par le serveur", other
    )
    rows = await Desk(twice.head.agent).ask("person doubles", space=twice.here.room.space.hex())
    assert all(row["listed_by"] == "the server" and "by the server" in row["let_in"] for row in rows)


@pytest.mark.parametrize("asked_for", ["him", "her"])
@attack(ROW, off={"protocol.replica.office.commands.devices_of_the_same": _nobody_else})
async def test_who_lets_her_in_once_they_are_one_is_told_of_the_computers_of_the_other_id_by_six_words(
    twice: Twice, asked_for: str
) -> None:
    await twice.merged()
    desk, space = Desk(twice.head.agent), await twice.new_class()
    await desk.ask("grant", person=(_HIS if asked_for == "him" else twice.hers).hex(), space=[space])
    mine, other = (own_device(twice.here.teacher.agent), twice.hers), (_spys(twice), _HIS)
    (device, whose) = mine if asked_for == "him" else other
    line = next((line for line in desk.told if whose.hex() in line), "")
    assert line.startswith(f"the device {device[0].hex()} stays out: ")
    assert f"has to show “{device_words(device)}”" in line.partition("It is known here as the one of")[0]
    assert line.endswith("the same person: “Mme Petit”")


@attack(ROW, off={"protocol.replica.office.commands.devices_of_the_same": _nobody_else})
async def test_on_her_page_as_well_where_the_same_words_let_it_in(twice: Twice) -> None:
    await twice.merged()
    space = await twice.new_class()
    async with portal(twice.head.agent) as surfer:
        place = f"/school/{space}"
        answer = await surfer.send(place, f"{place}/let-in", {"who": f"person:{_HIS.hex()}"})
        page = html.unescape(answer.text)
        assert "il est connu ici comme celui de Mme Petit, que la liste dit être la même personne" in page
        assert device_words(own_device(twice.here.teacher.agent)) in page
        seen = re.findall(rf'name="seen" value="([^"]*{twice.hers.hex()}[^"]*)"', page)[0]
        let_in = {"who": f"device:{twice.her_laptop.hex()}", "seen": seen}
        assert (await surfer.send(place, f"{place}/let-in", let_in)).status == 303
    assert twice.her_laptop in {each.key for each in twice.head.agent.replica.door.authorities_in(bytes.fromhex(space))}


def _spys(twice: Twice) -> tuple[bytes, bytes]:
    return twice.here.spy.signing.public, twice.here.spy.agreement.public
