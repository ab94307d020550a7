"""One word of a copied key exchanges “Léa (1)” and “Léa (2)”: what goes by a number then is asked about (ADR 0523)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord
from protocol.replica.office import erasures
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device
from tests.harness.commands import Desk, Received
from tests.harness.head_at_work import confirmed_head
from tests.harness.kept_town import town_at_work
from tests.harness.portal import portal
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.year_at_work import Year

ROW = "the numbers of two pupils of one name are exchanged"
LEA = PersonRecord("Léa", PersonRole.PUPIL).encode()


async def _as_they_are(*_: object) -> list[Any]:
    """Whoever has a number by now always had it."""
    return []


# --- at a head teacher's computer -------------------------------------------------------------------------------------


@dataclass
class AtSchool:
    """A head teacher's computer that knew two of one name, and then heard one more word about the second."""

    here: SpiedClass
    head: Device
    first: bytes
    second: bytes

    @property
    def place(self) -> str:
        return f"/school/{self.here.room.space.hex()}"

    async def called(self) -> dict[str, bytes]:
        """Whom her list shows under which name."""
        rows = await Desk(self.head.agent).ask("person list", space=self.here.room.space.hex())
        return {row["called"]: bytes.fromhex(row["person"]) for row in rows if row["role"] == "pupil"}

    async def is_said_again(self, *, back_ms: int) -> None:
        """That the second is called so, with the server's key, and a date so far back."""
        room, territory = self.here.room, self.here.room.territory
        line = (await territory.replica.view(room.space)).roster.persons[self.second].entry
        said = compose(
            author=territory.keys.signing, space=room.space, kind=Kind.PERSON, grant=territory.certificate.id,
            at=(territory.clock() - back_ms) << 16, payload=LEA, salt=bytes(16), subject=self.second, parents=(line,),
        )  # fmt: skip
        assert (await territory.replica.admit([said], source=b"a PC", now_ms=territory.clock())).admitted
        await self.head.session.sync()

    async def forgotten(self) -> set[bytes]:
        """Whom her computer has ordered to be forgotten."""
        return {covers for _, covers in await erasures.ever_said(self.head.agent.replica)}


@pytest.fixture
async def at_school(tmp_path: Path) -> AsyncIterator[AtSchool]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        await head.session.sync()
        here.room.territory.clock.advance(DAY_MS)
        added = await Desk(head.agent).ask("person add", name="Léa", role="pupil", space=[here.room.space.hex()])
        await head.session.sync()
        school = AtSchool(here, head, here.room.pupil_person, bytes.fromhex(added["person"]))
        assert await school.called() == {"Léa (1)": school.first, "Léa (2)": school.second}
        yield school


@attack(ROW, off={"sync_agent.portal.head.forgetting.renumbered_of": _as_they_are})
async def test_a_head_who_forgets_a_pupil_reads_by_which_number_they_were_known_first(
    at_school: AtSchool,
) -> None:
    await at_school.is_said_again(back_ms=300 * DAY_MS)
    assert await at_school.called() == {"Léa (1)": at_school.second, "Léa (2)": at_school.first}
    async with portal(at_school.head.agent) as surfer:
        answer = {"person": at_school.first.hex(), "meant": "yes"}
        page = html.unescape((await surfer.send(at_school.place, f"{at_school.place}/erase", answer)).text)
    assert "<h1>Effacer Léa (2)</h1>" in page
    assert "est maintenant Léa (2). Ici, elle était d'abord Léa (1)." in page
    assert 'name="renamed"' in page


@attack(ROW, off={"protocol.replica.office.taken_names.renumbered_of": _as_they_are})
async def test_nobody_is_forgotten_on_her_page_by_a_number_that_was_anothers_unless_she_ticks_that(
    at_school: AtSchool,
) -> None:
    await at_school.is_said_again(back_ms=300 * DAY_MS)
    answer = {"person": at_school.first.hex(), "meant": "yes", "asked": "yes"}
    async with portal(at_school.head.agent) as surfer:
        assert (await surfer.send(at_school.place, f"{at_school.place}/erase", answer)).status != 303
        assert not await at_school.forgotten()
        await surfer.send(at_school.place, f"{at_school.place}/erase", answer | {"renamed": "yes"})
    assert await at_school.forgotten() == {at_school.first}


@attack(ROW, off={"protocol.replica.office.taken_names.renumbered_of": _as_they_are})
async def test_nobody_is_forgotten_at_her_command_line_by_a_number_that_was_anothers(at_school: AtSchool) -> None:
    await at_school.is_said_again(back_ms=300 * DAY_MS)
    desk, first = Desk(at_school.head.agent), at_school.first.hex()
    with pytest.raises(BadInput, match="nobody has been forgotten yet") as refused:
        await desk.ask("erase", person=[first])
    assert refused.value.code is Code.NOT_YET
    assert any(line.startswith("warning: ") and "was “Léa (1)” here until" in line for line in desk.told)
    assert not await at_school.forgotten()
    both = [first, at_school.second.hex()]
    await desk.ask("erase", person=both)
    assert await at_school.forgotten() == {at_school.first, at_school.second}


async def test_who_is_to_be_forgotten_is_told_from_another_of_the_same_name(at_school: AtSchool) -> None:
    desk, both = Desk(at_school.head.agent), [at_school.first.hex(), at_school.second.hex()]
    await desk.ask("erase", person=both, dry_run=True)
    first, second = (line for line in desk.told if line.startswith("to be forgotten: “Léa”"))
    assert "; “Léa (1)” on the list of" in first
    assert "; hand-ins, shown or not: 1 in" in first
    assert "; “Léa (2)” on the list of" in second
    assert "; hand-ins, shown or not: 0 in" in second
    assert all("; first heard of here by a word of " in line for line in (first, second))


async def test_a_word_that_comes_later_and_is_dated_later_changes_no_number(at_school: AtSchool) -> None:
    await at_school.is_said_again(back_ms=0)
    await Desk(at_school.head.agent).ask("erase", person=[at_school.second.hex()])
    assert await at_school.forgotten() == {at_school.second}


async def test_a_pupil_whom_another_office_had_listed_before_is_not_asked_about_when_she_is_heard_of(
    at_school: AtSchool,
) -> None:
    """Of two who are added in two places on one day either place hears of the other's later."""
    room, territory = at_school.here.room, at_school.here.room.territory
    alone = await Desk(at_school.head.agent).ask("person add", name="Zoé", role="pupil", space=[room.space.hex()])
    before = compose(
        author=territory.keys.signing, space=room.space, kind=Kind.PERSON, grant=territory.certificate.id,
        at=(territory.clock() - 3_600_000) << 16, payload=PersonRecord("Zoé", PersonRole.PUPIL).encode(),
        salt=bytes(16), subject=bytes(15) + b"Z",
    )  # fmt: skip
    assert (await territory.replica.admit([before], source=b"a PC", now_ms=territory.clock())).admitted
    await at_school.head.session.sync()
    assert (await at_school.called())["Zoé (2)"].hex() == alone["person"]
    await Desk(at_school.head.agent).ask("erase", person=[alone["person"]])
    assert {one.hex() for one in await at_school.forgotten()} == {alone["person"]}


# --- at an honest server, and on a teacher's laptop -------------------------------------------------------------------


@dataclass
class AtServer:
    """A server, and a teacher's laptop, that knew two of one name, and then heard of a third with an earlier date."""

    year: Year
    second: str

    async def is_shifted(self) -> None:
        """A namesake of both comes, with a date before either."""
        office, here = self.year.here.office, self.year.here
        server = office.server
        said = compose(
            author=server.keys.signing, space=here.space, kind=Kind.PERSON, grant=server.grant,
            at=(office.clock() - 300 * DAY_MS) << 16, payload=LEA, salt=bytes(16), subject=bytes(15) + b"L",
        )  # fmt: skip
        assert (await server.replica.admit([said], source=b"a PC", now_ms=office.clock())).admitted
        await here.sync()
        rows = await self.year.do("person list", space=here.space.hex())
        assert next(row["called"] for row in rows if row["person"] == self.year.pupil) == "Léa (2)"


@pytest.fixture
async def at_server(tmp_path: Path) -> AsyncIterator[AtServer]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        year = Year(here, *at_work, tmp_path)
        await year.work(opened=True)
        second = await here.office.add_person("Léa", "pupil")
        await here.sync()
        yield AtServer(year, second)


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"protocol.replica.office.taken_names.renumbered_of": _as_they_are})
async def test_nor_is_one_forgotten_at_the_server_once_a_namesake_came_with_an_earlier_date(
    at_server: AtServer, *, by_kit: bool
) -> None:
    await at_server.is_shifted()
    lea, erase = at_server.year.pupil, at_server.year.with_kit if by_kit else at_server.year.do
    with pytest.raises(BadInput, match=r"“Léa \(2\)”, .*, was “Léa \(1\)”"):
        await erase("erase", person=[lea])
    replica = at_server.year.here.office.server.replica
    assert not await erasures.ever_said(replica)
    await erase("erase", person=[lea], renamed_too=True)
    assert [covers.hex() for _, covers in await erasures.ever_said(replica)] == [lea]


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"protocol.replica.office.taken_names.renumbered_of": _as_they_are})
async def test_no_archive_is_made_of_one_whose_number_was_anothers_unless_that_id_is_meant(
    at_server: AtServer, *, by_kit: bool
) -> None:
    await at_server.is_shifted()
    with pytest.raises(BadInput, match="nothing has been written yet"):
        await archive_of(at_server.year, at_server.year.pupil, by_kit=by_kit)
    archive = await archive_of(at_server.year, at_server.year.pupil, by_kit=by_kit, renamed_too=True)
    assert WORK["reponse.odt"] in archive.files.values()


@attack(
    ROW,
    off={
        "sync_agent.hand_ins.year_end.renumbered_of": _as_they_are,
        "protocol.replica.office.taken_names.renumbered_of": _as_they_are,
    },
)
async def test_no_portfolio_holds_the_work_of_one_whose_number_was_anothers_unless_that_id_is_meant(
    at_server: AtServer,
) -> None:
    await at_server.is_shifted()
    desk, asked = Desk(at_server.year.teacher.agent), {"space": at_server.year.here.office.space}
    assert await desk.files("portfolio", **asked) == {}
    assert any(line.startswith("not written: ") and "was “Léa (1)” here" in line for line in desk.told)
    with pytest.raises(BadInput, match="nothing has been written yet"):
        await desk.files("portfolio", **asked, person=at_server.year.pupil)
    files = await desk.files("portfolio", **asked, person=at_server.year.pupil, renamed_too=True)
    assert WORK["reponse.odt"] in files.values()


async def archive_of(year: Year, person: str, *, by_kit: bool, **params: Any) -> Received:
    """The archive of somebody, at the server with the kit, or at the teacher's laptop."""
    out, office = Received(), year.here.office
    asked: dict[str, Any] = {"person": person, **params}
    if by_kit:
        kit = kit_in(year.folder / "server" / "kit", None)
        asked |= await office.named_for("export-person", asked)
        desk = KitDesk(errand_of("export-person", kit, asked, None, bytes), out, office.clock)
        await office.table["export-person"]({**asked, "kit": desk.keys}, desk, desk)
    else:
        laptop = Desk(year.teacher.agent)
        out.files, out.lines = await laptop.files("export-person", **asked), laptop.told
    return out
