"""A copied key puts a child of one class on the list of another; by the id there a family gets hers (ADR 0524)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.list_words import SURE, ListWords
from protocol.replica.office.people import listings_of, mentions
from protocol.roles import PersonRole
from tests.attacks.test_exchanged_numbers import archive_of
from tests.harness.attack import attack
from tests.harness.classroom import WORK
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.kept_town import town_at_work
from tests.harness.portal import portal
from tests.harness.spied_class import spied_class
from tests.harness.year_at_work import Year

ROW = "a child of one class is put on the list of another, and a family gets what there is about its own"


async def _nothing_asked(*_: object, **__: object) -> None:
    """Who has the id is who is meant."""


async def _nowhere_else(*_: object) -> dict[bytes, list[str]]:
    """A list is of one class."""
    return {}


async def _but_for_the_first(replica: Replica, person: bytes, several: Collection[bytes], words: ListWords) -> bool:
    """Where somebody was first is where they belong."""
    listed = (await listings_of(replica, [person]))[person]
    in_order = [space for space in (await mentions(replica, [person]))[person] if space in several]
    later = await replica.store.get([listed[space].entry for space in in_order[1:]])
    return not all([await words.whose(one) in SURE for one in later.values()])


async def _by_the_id(_: Replica, person: bytes) -> str:
    return person.hex()


@dataclass
class TwoClasses:
    """Léa of CM2 B, whose work was opened, and Léa of CE1; a copied key says that the first is in CE1 as well."""

    year: Year
    ce1: str
    other: str

    async def is_said_to_be_in_both(self) -> None:
        """With a date of last spring: she is “Léa (1)” of CE1 from then on."""
        await _put_on_the_list(self.year, self.year.pupil, self.ce1)

    async def listed(self) -> dict[str, dict[str, Any]]:
        """The list of CE1 at the server, by what each is called there."""
        return {row["called"]: row for row in await self.year.do("person list", space=self.ce1)}


async def _put_on_the_list(year: Year, pupil: str, space: str) -> None:
    """By a copied key, with a date of last spring."""
    office = year.here.office
    said = compose(
        author=office.server.keys.signing, space=bytes.fromhex(space), kind=Kind.PERSON,
        grant=office.server.grant, at=(office.clock() - 300 * DAY_MS) << 16,
        payload=PersonRecord("Léa", PersonRole.PUPIL).encode(), salt=bytes(16),
        subject=bytes.fromhex(pupil),
    )  # fmt: skip
    assert (await office.server.replica.admit([said], source=b"a PC", now_ms=office.clock())).admitted
    await year.here.sync()


@pytest.fixture
async def two_classes(tmp_path: Path) -> AsyncIterator[TwoClasses]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        year = Year(here, *at_work, tmp_path)
        await year.work(opened=True)
        (cm2,) = (row for row in await year.do("space list") if row["space"] == here.office.space)
        made = await year.do("space add", name="CE1", school=cm2["school"], year="2026-2027")
        other = await year.do("person add", name="Léa", role="pupil", space=[made["space"]])
        await year.do("grant", person=year.person, space=[made["space"]])
        await here.sync()
        yield TwoClasses(year, made["space"], other["person"])


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"protocol.replica.access.export.ask_about_classes": _nothing_asked})
async def test_no_archive_is_made_of_one_whom_two_classes_of_a_year_have_unless_that_id_is_meant(
    two_classes: TwoClasses, *, by_kit: bool
) -> None:
    await two_classes.is_said_to_be_in_both()
    first = (await two_classes.listed())["Léa (1)"]["person"]
    assert first == two_classes.year.pupil
    with pytest.raises(BadInput, match=r"nothing has been written yet: .*“CE1”") as refused:
        await archive_of(two_classes.year, first, by_kit=by_kit)
    assert refused.value.code is Code.NOT_YET
    archive = await archive_of(two_classes.year, first, by_kit=by_kit, renamed_too=True)
    assert WORK["reponse.odt"] in archive.files.values()


@attack(ROW, off={"protocol.replica.office.several_classes._are_unsure": _but_for_the_first})
async def test_no_archive_is_made_of_one_whom_a_copied_key_listed_before_the_office_did_unless_that_id_is_meant(
    two_classes: TwoClasses,
) -> None:
    lea, _ = await _listed_in_summer_by_a_copied_key(two_classes)
    year = two_classes.year
    with pytest.raises(BadInput, match=r"nothing has been written yet: .*“CE1”, “CE2”") as refused:
        await archive_of(year, lea, by_kit=True)
    assert refused.value.code is Code.NOT_YET
    await archive_of(year, lea, by_kit=True, renamed_too=True)


async def _listed_in_summer_by_a_copied_key(two_classes: TwoClasses) -> tuple[str, str]:
    """Léa of last year's CP, on CE1's list by a copied key in summer, by the office in CE2; she, and CP."""
    year = two_classes.year
    (cm2,) = (row for row in await year.do("space list") if row["space"] == year.here.office.space)
    of_last_year = (await year.do("space add", name="CP", school=cm2["school"], year="2025-2026"))["space"]
    lea = (await year.do("person add", name="Léa", role="pupil", space=[of_last_year]))["person"]
    await year.here.sync()
    await _put_on_the_list(year, lea, two_classes.ce1)
    september = await year.do("space add", name="CE2", school=cm2["school"], year="2026-2027")
    await year.do("grant", person=lea, space=[september["space"]])
    await year.here.sync()
    assert {lea, two_classes.other} <= {row["person"] for row in (await two_classes.listed()).values()}
    return lea, of_last_year


async def _the_first_that_is_read(replica: Replica, person: bytes) -> bytes | None:
    return next(iter((await mentions(replica, [person]))[person]), None)


@attack(ROW, off={"protocol.replica.office.several_classes._began_on": _the_first_that_is_read})
async def test_nor_once_the_class_of_last_year_is_closed_in_which_their_id_began(two_classes: TwoClasses) -> None:
    lea, of_last_year = await _listed_in_summer_by_a_copied_key(two_classes)
    year = two_classes.year
    await year.with_kit("space close", space=of_last_year, unheard_too=True, unopened_too=True)
    for _ in range(9):
        year.here.office.clock.advance(DAY_MS)
        await year.here.sync()
        await year.here.office.server.pace.look()
    with pytest.raises(BadInput, match=r"nothing has been written yet: .*“CE1”, “CE2”"):
        await archive_of(year, lea, by_kit=True)


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"protocol.replica.access.export.who_that_is": _by_the_id})
async def test_whom_an_archive_is_about_is_told_by_their_classes_and_work_first(
    two_classes: TwoClasses, *, by_kit: bool
) -> None:
    archive = await archive_of(two_classes.year, two_classes.year.pupil, by_kit=by_kit)
    told = next(line for line in archive.lines if line.startswith("what is about "))
    assert "“Léa”, pupil, CM2 B, " in told
    assert "hand-ins, shown or not: 1 in “CM2 B”" in told


@attack(ROW, off={"protocol.replica.office.list_commands.also_in": _nowhere_else})
async def test_a_class_list_says_which_other_class_has_a_pupil_too(two_classes: TwoClasses) -> None:
    assert {row["also_in"] for row in (await two_classes.listed()).values()} == {""}
    await two_classes.is_said_to_be_in_both()
    listed = await two_classes.listed()
    assert (listed["Léa (1)"]["also_in"], listed["Léa (2)"]["also_in"]) == ("CM2 B", "")


async def test_a_pupil_who_changes_class_in_the_year_is_of_one_class(two_classes: TwoClasses) -> None:
    year = two_classes.year
    await year.do("grant", person=year.pupil, space=[two_classes.ce1])
    await year.do("ungrant", person=year.pupil, space=[year.here.office.space])
    await year.here.sync()
    assert {row["also_in"] for row in (await two_classes.listed()).values()} == {""}
    for by_kit in (True, False):
        archive = await archive_of(year, year.pupil, by_kit=by_kit)
        assert WORK["reponse.odt"] in archive.files.values()


async def test_a_server_asks_of_no_pupil_whom_its_own_command_put_into_a_group(two_classes: TwoClasses) -> None:
    year = two_classes.year
    await year.do("grant", person=two_classes.other, space=[year.here.office.space])
    await year.here.sync()
    assert (await two_classes.listed())["Léa"]["also_in"] == "CM2 B"
    await archive_of(year, two_classes.other, by_kit=True)


@attack(ROW, off={"sync_agent.portal.head.school.also_in": _nowhere_else})
async def test_a_head_reads_beside_a_pupil_of_a_class_which_other_class_has_them_too(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        await here.sync(head)
        desk, territory = Desk(head.agent), here.room.territory
        ce1, cm2 = [(await desk.ask("space add", name=name, year="2026-2027"))["space"] for name in ("CE1", "CM2")]
        lea = (await desk.ask("person add", name="Léa", role="pupil", space=[ce1]))["person"]
        await desk.ask("person add", name="Léa", role="pupil", space=[cm2])
        await here.sync(head)
        named = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await territory.say(bytes.fromhex(cm2), Kind.PERSON, named, subject=bytes.fromhex(lea))
        await here.sync(head)
        async with portal(head.agent) as surfer:
            page = html.unescape(await surfer.page(f"/school/{cm2}"))
        beside = [row for row in page.split("<li>") if "aussi sur la liste de : CE1</p>" in row]
        assert [f'name="person" value="{lea}"' in row for row in beside] == [True]
