"""A family's archive is written, and the child forgotten, while a PC with work of theirs has told nothing for weeks.

Who has a line keeps it from telling, and needs no key for that; nor is anybody needed: it hangs on no cable
(docs/adr/0381).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput
from protocol.replica.console.operation import NO_FILES
from sync_server.handlers.by_kit.not_heard import NotHeard
from sync_server.opened.app import Server
from tests.attacks.test_what_laptops_were_kept_from_telling import _pass
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk, Received
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town

ROW = "a family's archive is written while a line keeps a child's work from the server"


async def _all_told(_server: Server, _space: bytes, _heard: object) -> NotHeard:
    """As if a line were no reason to look who has told."""
    return NotHeard((), None)


NOBODY_LOOKS = {"sync_server.handlers.by_kit.not_heard.not_heard_in": _all_told}


@dataclass
class Silent:
    """A pupil's first work is at the server; two more lie on a PC that has told nothing for three weeks."""

    here: Town
    machine: Device
    pupil: str
    told: list[str]

    async def archive(self) -> tuple[set[str], dict[str, Any], str]:
        """What the server writes: its works, its data, its page; and what is told."""
        got = Received()
        await self.here.office.table["export-person"]({"person": self.pupil}, NO_FILES, got)
        self.told = got.lines
        data = json.loads(got.files["donnees.json"])
        return {row["id"] for row in data["works"]}, data, got.files["index.html"].decode()

    async def erase(self, **params: bool) -> None:
        before = len(self.here.office.said.lines)
        await self.here.office.do("erase", person=[self.pupil], **params)
        self.told = self.here.office.said.lines[before:]

    async def calls(self) -> None:
        for _ in range(3):
            self.here.office.clock.advance(61_000)
            await self.here.sync()

    @property
    def says_who_is_silent(self) -> bool:
        return any("have not told all that they know for a week" in line and "PC 2" in line for line in self.told)


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[Silent]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        await here.work(machine, item, pupil)
        one = Silent(here, machine, pupil, [])
        await one.calls()
        for _ in range(2):
            await here.work(machine, item, pupil)
        await _pass(here, 21, machine)
        yield one


@attack(ROW, off=NOBODY_LOOKS)
async def test_a_familys_archive_says_which_machines_had_not_told_all(silent: Silent) -> None:
    works, data, page = await silent.archive()
    assert len(works) == 1
    assert silent.says_who_is_silent
    (known,) = data["known"]
    assert known["space"] == silent.here.office.space
    assert [row["device"] for row in known["not_told"]] == [silent.machine.agent.device.hex()]
    assert "un ordinateur de cette classe n&#x27;a pas tout transmis" in page
    assert "PC 2" not in json.dumps(known), "what people call their computers is for whoever writes the archive"
    await silent.calls()
    works, data, page = await silent.archive()
    assert len(works) == 3
    assert not silent.says_who_is_silent
    assert data["known"][0]["not_told"] == []
    assert "pas tout transmis" not in page


@attack(ROW, off=NOBODY_LOOKS)
async def test_who_has_a_child_forgotten_is_told_whose_work_goes_unseen_and_can_still_have_it(silent: Silent) -> None:
    await silent.erase(dry_run=True)
    assert silent.says_who_is_silent
    await silent.erase()
    assert silent.says_who_is_silent
    assert any("If a family is to have it" in line for line in silent.told)
    await silent.here.office.do("unerase", covers=silent.pupil)
    await silent.calls()
    works, _, _ = await silent.archive()
    assert len(works) == 3
    await silent.erase()
    assert not silent.says_who_is_silent


@attack(ROW, off=NOBODY_LOOKS)
async def test_of_a_class_that_the_child_has_left_it_is_told_as_well(silent: Silent) -> None:
    office = silent.here.office
    other = (await office.do("space add", name="CM2 B", school="0180001D", year="none"))["space"]
    await office.do("grant", person=silent.pupil, space=[other])
    await office.do("ungrant", person=silent.pupil, space=[office.space])
    await _pass(silent.here, 1, silent.machine)
    _, data, _ = await silent.archive()
    assert silent.says_who_is_silent
    assert {row["space"]: len(row["not_told"]) for row in data["known"]} == {office.space: 1, other: 0}


async def test_an_archive_of_a_laptop_says_as_of_when_it_knew_the_class(silent: Silent) -> None:
    desk = Desk(silent.here.devices[0].agent)
    (row,) = (await desk.ask("status"))["spaces"]
    files = await desk.files("export-person", person=silent.pupil)
    (known,) = json.loads(files["donnees.json"])["known"]
    assert (known["as_of"], known["not_told"]) == (row["proven_at"], None)
    assert "ce que cet ordinateur en savait le" in files["index.html"].decode()


async def test_a_head_who_has_a_child_forgotten_is_told_where_to_ask_who_is_silent(silent: Silent) -> None:
    head = await silent.here.head_of_the_school()
    await silent.here.sync(head)
    desk = Desk(head.agent)
    await desk.ask("erase", person=[silent.pupil], dry_run=True)
    assert any("`sync-server erase --dry-run`" in line for line in desk.told)
    with pytest.raises(BadInput):
        await desk.ask("erase", person=["ab" * 16], dry_run=True)
