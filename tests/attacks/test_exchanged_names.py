"""Whoever has the server's key exchanges two names by two words: what goes by a name then is asked about (ADR 0289)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, PersonRecord, SpaceChange
from protocol.replica.at_work.replica import Replica
from protocol.replica.office import erasures
from protocol.replica.office.mentioned import Mentioned, mentioned
from protocol.replica.office.taken_names import Taken
from protocol.roles import PersonRole, Role
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

FORGOTTEN = "two pupils' names are exchanged, and one of them is to be forgotten"
FAMILIES = "two pupils' names are exchanged, and a family gets what there is about its child"
MERGED = "one pupil is called like another, and both are made one"
SEVERAL = "one id is a child of each class"
CLOSED = "two classes' names are exchanged, and one of them is closed"


async def _nothing_asked(*_: object, **__: object) -> None:
    """Who goes by the name that the list shows is who is meant."""


async def _nobodys(*_: object) -> Mapping[bytes, Taken]:
    return {}


async def _in_nobodys_place(*_: object, **__: object) -> list[object]:
    return []


def _by_this_name_alone(_names: Mentioned, now: str) -> str:
    return f"“{now}”"


async def _called_now(replica: Replica, persons: Collection[bytes]) -> dict[bytes, Mentioned]:
    found = await mentioned(replica, persons)
    return {person: Mentioned(each.names[-1:], each.spaces, each.since_ms[-1:]) for person, each in found.items()}


async def _who_are_called(here: SpiedClass, *, tom: str, lea: str | None = None) -> tuple[Device, bytes, bytes]:
    """The head's computer, once the server has called Tom, and Léa, so; and who they are."""
    room, territory = here.room, here.room.territory
    ids = room.pupil_person, await territory.person("Tom", PersonRole.PUPIL, room.space)
    head, _ = await confirmed_head(here)
    await head.session.sync()
    persons = (await territory.replica.view(room.space)).roster.persons
    for one, name in zip(ids, (lea, tom), strict=True):
        if name is not None:
            record = PersonRecord(name, PersonRole.PUPIL).encode()
            await territory.say(room.space, Kind.PERSON, record, subject=one, parents=(persons[one].entry,))
    await head.session.sync()
    return head, *ids


def _always_one(*_: object) -> Mapping[bytes, Collection[str]]:
    """Whoever has one id is one person."""
    return {}


# --- at a head teacher's computer -------------------------------------------------------------------------------------


@dataclass
class Exchanged:
    """A head teacher's computer, to which the server shows Léa as “Tom”, and Tom as Léa."""

    here: SpiedClass
    head: Device
    lea: bytes
    tom: bytes

    async def forgotten(self) -> set[bytes]:
        """Whom her computer has ordered to be forgotten."""
        return {covers for _, covers in await erasures.ever_said(self.head.agent.replica)}


@pytest.fixture(params=["Léa", "Léa M."])
async def exchanged(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Exchanged]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        yield Exchanged(here, *await _who_are_called(here, lea="Tom", tom=request.param))


@attack(FORGOTTEN, off={"sync_agent.portal.head.forgetting.mentioned": _called_now})
async def test_a_head_who_forgets_a_pupil_on_her_page_sees_first_what_else_the_list_called_them(
    exchanged: Exchanged,
) -> None:
    place = f"/school/{exchanged.here.room.space.hex()}"
    async with portal(exchanged.head.agent) as surfer:
        answer = await surfer.send(place, f"{place}/erase", {"person": exchanged.tom.hex(), "meant": "yes"})
    page = html.unescape(answer.text)
    first, _, then = page.partition("<li>Tom, depuis")
    assert "<li>Léa" in then
    assert "<li>" not in first.partition("Est-ce bien cette personne")[2]
    assert "est, ou a été, celui de quelqu'un d'autre" in page
    assert not await exchanged.forgotten()


@attack(FORGOTTEN, off={"sync_agent.school.commands.ask_about_names": _nothing_asked})
async def test_nobody_is_forgotten_on_her_page_by_a_name_that_was_anothers_unless_she_ticks_that(
    exchanged: Exchanged,
) -> None:
    place = f"/school/{exchanged.here.room.space.hex()}"
    answer = {"person": exchanged.tom.hex(), "meant": "yes", "asked": "yes"}
    async with portal(exchanged.head.agent) as surfer:
        assert (await surfer.send(place, f"{place}/erase", answer)).status != 303
        assert not await exchanged.forgotten()
        await surfer.send(place, f"{place}/erase", answer | {"renamed": "yes"})
    assert await exchanged.forgotten() == {exchanged.tom}


@attack(SEVERAL, off={"sync_agent.portal.head.forgetting.several_names": _always_one})
async def test_a_head_who_forgets_a_pupil_on_her_page_reads_of_whom_else_lists_have_that_id(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, lea, _ = await _who_are_called(here, tom="Tom")
        other = await here.room.territory.classroom("CE1")
        named = PersonRecord("Noé", PersonRole.PUPIL).encode()
        await here.room.territory.say(other, Kind.PERSON, named, subject=lea)
        await head.session.sync()
        place = f"/school/{here.room.space.hex()}"
        answer = {"person": lea.hex(), "meant": "yes"}
        async with portal(head.agent) as surfer:
            page = html.unescape((await surfer.send(place, f"{place}/erase", answer)).text)
            refused = await surfer.send(place, f"{place}/erase", answer | {"asked": "yes"})
            assert "Les listes appellent cette personne de plusieurs noms : Léa, Noé." in page
            assert 'name="renamed"' in page
            assert refused.status != 303
            assert not await erasures.ever_said(head.agent.replica)
            await surfer.send(place, f"{place}/erase", answer | {"asked": "yes", "renamed": "yes"})
        assert {covers for _, covers in await erasures.ever_said(head.agent.replica)} == {lea}


@attack(FORGOTTEN, off={"sync_agent.school.commands.ask_about_names": _nothing_asked})
async def test_nobody_is_forgotten_at_her_command_line_by_a_name_that_was_anothers(exchanged: Exchanged) -> None:
    desk, tom = Desk(exchanged.head.agent), exchanged.tom.hex()
    with pytest.raises(BadInput, match="nobody has been forgotten yet") as refused:
        await desk.ask("erase", person=[tom])
    assert refused.value.code is Code.NOT_YET
    await desk.ask("erase", person=[tom], dry_run=True)
    assert any(line.startswith("to be forgotten: “Léa") and "other names here: “Tom”" in line for line in desk.told)
    assert any(line.startswith("warning: ") and exchanged.lea.hex() in line for line in desk.told)
    await desk.ask("erase", person=[tom], renamed_too=True)
    assert await exchanged.forgotten() == {exchanged.tom}


# --- who is called like another ---------------------------------------------------------------------------------------


@dataclass
class Alike:
    """A head teacher's computer, to which the server shows Tom as another “Léa”."""

    here: SpiedClass
    head: Device
    lea: bytes
    tom: bytes

    async def are_two(self) -> bool:
        """Whether they are on her list."""
        roster = (await self.head.agent.replica.view(self.here.room.space)).roster
        return {self.lea, self.tom} <= roster.persons.keys()


@pytest.fixture
async def alike(tmp_path: Path) -> AsyncIterator[Alike]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        yield Alike(here, *await _who_are_called(here, tom="Léa"))


async def _nobody_ever(*_: object) -> Mapping[bytes, list[str]]:
    return {}


@attack(
    MERGED,
    off={
        "sync_agent.portal.head.doubles.once_otherwise": _nobody_ever,
        "sync_agent.school.commands.ask_whether_one": _nothing_asked,
    },
)
async def test_who_was_called_otherwise_is_said_to_be_who_has_the_name_by_who_has_seen_what_they_were_called(
    alike: Alike,
) -> None:
    place = f"/school/{alike.here.room.space.hex()}"
    answer = {"person": alike.tom.hex(), "into": alike.lea.hex(), "meant": "yes"}
    async with portal(alike.head.agent) as surfer:
        page = html.unescape(await surfer.page(place))
        assert "autre nom ici, auparavant : Tom" in page
        assert "Oui, la même personne s'est bien appelée : Tom" in page
        assert (await surfer.send(place, f"{place}/merge", answer)).status != 303
        assert await alike.are_two()
        assert (await surfer.send(place, f"{place}/merge", answer | {"renamed": "yes"})).status == 303
    assert not await alike.are_two()


@attack(MERGED, off={"sync_agent.school.commands.ask_whether_one": _nothing_asked})
async def test_nor_at_her_command_line(alike: Alike) -> None:
    desk, both = Desk(alike.head.agent), {"person": alike.tom.hex(), "into": alike.lea.hex()}
    rows = await desk.ask("person doubles", space=alike.here.room.space.hex())
    assert {row["person"]: row["once"] for row in rows} == {alike.lea.hex(): "", alike.tom.hex(): "Tom"}
    with pytest.raises(BadInput, match="nobody has been made one yet") as refused:
        await desk.ask("person merge", **both)
    assert refused.value.code is Code.NOT_YET
    assert await alike.are_two()
    await desk.ask("person merge", **both, renamed_too=True)
    assert any(line.startswith(f"warning: {alike.tom.hex()} was called “Tom”") for line in desk.told)
    assert not await alike.are_two()


# --- at an honest server, whose log holds what the thief said ---------------------------------------------------------


@dataclass
class Town:
    """A server to which somebody brings what was said with a copy of its key; Léa's work was opened."""

    year: Year
    tom: str

    def entry(self, number: int, kind: Kind, payload: bytes, space: bytes, **about: Any) -> Entry:
        """Something in the server's name."""
        server = self.year.here.office.server
        given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
        at = (server.now_ms() << 16) + number
        return compose(
            author=server.keys.signing, space=space, kind=kind, grant=given, at=at, payload=payload,
            salt=bytes(SALT_BYTES), **about,
        )  # fmt: skip

    async def hears(self, *said: Entry) -> None:
        """A PC brings it."""
        office = self.year.here.office
        admission = await office.server.replica.admit(said, source=b"a PC", now_ms=office.clock())
        assert len(admission.admitted) == len(said)

    async def exchange_pupils(self, mark: str = "") -> None:
        """Léa is called Tom, and Tom is called Léa, with this mark in either; her teacher's laptop hears it too."""
        here = self.year.here
        here.office.clock.advance(60_000)
        said = {one.header.subject: one.id for one in await here.office.server.store.scan_kinds([Kind.PERSON])}
        pairs = ((bytes.fromhex(self.year.pupil), f"To{mark}m"), (bytes.fromhex(self.tom), f"Lé{mark}a"))
        await self.hears(
            *(
                self.entry(
                    number,
                    Kind.PERSON,
                    PersonRecord(name, PersonRole.PUPIL).encode(),
                    here.space,
                    subject=one,
                    parents=(said[one],),
                )
                for number, (one, name) in enumerate(pairs)
            )
        )
        await here.sync()

    async def called(self, name: str) -> str:
        """The id for which `person list` shows this name."""
        rows = await self.year.do("person list", space=self.year.here.office.space)
        return next(str(row["person"]) for row in rows if row["name"] == name)


@pytest.fixture
async def at_server(tmp_path: Path) -> AsyncIterator[Town]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        year = Year(here, *at_work, tmp_path)
        await year.work(opened=True)
        tom = await here.office.add_person("Tom", "pupil")
        await here.sync()
        yield Town(year, tom)


@pytest.mark.parametrize("by_kit", [True, False])
@attack(FORGOTTEN, off={"sync_server.operations.lifecycle.ask_about_names": _nothing_asked})
async def test_nobody_is_forgotten_by_the_server_by_a_name_that_was_anothers(at_server: Town, *, by_kit: bool) -> None:
    await at_server.exchange_pupils()
    tom, erase = await at_server.called("Léa"), at_server.year.with_kit if by_kit else at_server.year.do
    assert tom == at_server.tom
    with pytest.raises(BadInput, match="nobody has been forgotten yet"):
        await erase("erase", person=[tom])
    told = at_server.year.here.office.said.lines
    assert any("to be forgotten: “Léa” (called so since" in line and "“Tom” since" in line for line in told)
    assert not await erasures.ever_said(at_server.year.here.office.server.replica)
    await erase("erase", person=[tom], renamed_too=True)
    assert [covers.hex() for _, covers in await erasures.ever_said(at_server.year.here.office.server.replica)] == [tom]


@attack(FORGOTTEN, off={"sync_server.operations.lifecycle.ask_about_the_hidden": _nothing_asked})
async def test_nor_is_anybody_shown_again_who_was_forgotten_by_the_name_of_whom_a_thief_erased(
    at_server: Town,
) -> None:
    year, lea = at_server.year, at_server.year.pupil
    replica = year.here.office.server.replica
    await year.do("erase", person=[lea])
    erasure = Erasure(bytes.fromhex(at_server.tom)).encode()
    await at_server.hears(at_server.entry(0, Kind.ERASE, erasure, year.here.space))
    await at_server.exchange_pupils()
    rows = {row["name"]: row["covers"] for row in await year.do("erasures")}
    assert rows == {"Tom": lea, "Léa": at_server.tom}
    with pytest.raises(BadInput, match="nothing has been taken back yet") as asked:
        await year.do("unerase", covers=lea)
    assert asked.value.code is Code.NOT_YET
    assert any(
        f"{lea}, “Tom” (called so since" in line and "“Léa” since" in line for line in year.here.office.said.lines
    )
    assert bytes.fromhex(lea) in (await replica.view(year.here.space)).roster.erased
    await year.do("unerase", covers=at_server.tom, renamed_too=True)
    assert (await replica.view(year.here.space)).roster.erased == {bytes.fromhex(lea)}


@pytest.mark.parametrize("by_kit", [True, False])
@attack(SEVERAL, off={"protocol.replica.office.taken_names.several_names": _always_one})
async def test_children_of_several_classes_who_have_one_id_are_forgotten_only_as_that_is_meant(
    at_server: Town, *, by_kit: bool
) -> None:
    year = at_server.year
    made = await year.do("space add", name="CE1", school="0180001D", year="2026-2027")
    at_server.year.here.office.clock.advance(60_000)
    named = PersonRecord("Noé", PersonRole.PUPIL).encode()
    await at_server.hears(
        at_server.entry(0, Kind.PERSON, named, bytes.fromhex(made["space"]), subject=bytes.fromhex(at_server.tom))
    )
    erase = year.with_kit if by_kit else year.do
    with pytest.raises(BadInput, match=r"several names: .*“Noé”, “Tom”"):
        await erase("erase", person=[at_server.tom])
    assert not await erasures.ever_said(year.here.office.server.replica)
    await erase("erase", person=[at_server.tom], renamed_too=True)
    assert await erasures.ever_said(year.here.office.server.replica)


@attack(FORGOTTEN, off={"protocol.replica.office.mentioned.Mentioned.called": _by_this_name_alone})
async def test_who_is_to_be_forgotten_is_named_with_every_name_that_a_list_had(at_server: Town) -> None:
    year = at_server.year
    await year.do("person rename", person=at_server.tom, name="Zoé")
    await year.do("erase", person=[at_server.tom], dry_run=True)
    assert any("“Zoé” (called so since" in line and "“Tom” since" in line for line in year.here.office.said.lines)


# --- families ---------------------------------------------------------------------------------------------------------


@attack(
    FAMILIES,
    off={
        "sync_agent.hand_ins.year_end.taken_names": _nobodys,
        "sync_agent.hand_ins.year_end.replaced_of": _in_nobodys_place,
    },
)
async def test_no_portfolio_of_the_class_holds_work_under_a_name_that_was_anothers(at_server: Town) -> None:
    await at_server.exchange_pupils()
    desk, lea = Desk(at_server.year.teacher.agent), at_server.year.pupil
    assert await desk.files("portfolio", space=at_server.year.here.office.space) == {}
    assert any(line.startswith("not written: ") and f"--person {lea} --renamed-too" in line for line in desk.told)


@attack(FAMILIES, off={"sync_agent.hand_ins.year_end.ask_about_names": _nothing_asked})
async def test_a_portfolio_under_a_name_that_was_anothers_is_asked_for_by_the_id(at_server: Town) -> None:
    await at_server.exchange_pupils()
    desk, asked = Desk(at_server.year.teacher.agent), {"space": at_server.year.here.office.space}
    with pytest.raises(BadInput, match="nothing has been written yet"):
        await desk.files("portfolio", **asked, person=at_server.year.pupil)
    with pytest.raises(BadInput, match="give the id"):
        await desk.files("portfolio", **asked, person="Tom", renamed_too=True)
    files = await desk.files("portfolio", **asked, person=at_server.year.pupil, renamed_too=True)
    assert WORK["reponse.odt"] in files.values()


@attack(FAMILIES, off={"sync_agent.hand_ins.year_end.called_otherwise": lambda *_: []})
async def test_a_portfolios_folder_shows_what_else_a_list_called_its_pupil(at_server: Town) -> None:
    year = at_server.year
    await year.do("person rename", person=year.pupil, name="Zoé")
    await year.here.sync()
    files = await Desk(year.teacher.agent).files("portfolio", space=year.here.office.space)
    assert {path.partition("/")[0] for path in files} == {f"Zoé (auparavant Léa) ({year.pupil[:8]})"}


async def _archive(at_server: Town, person: str, *, by_kit: bool, renamed_too: bool) -> Received:
    """The archive of somebody, at the server with the kit, or at the teacher's laptop."""
    out, office = Received(), at_server.year.here.office
    asked: dict[str, Any] = {"person": person, "renamed_too": renamed_too}
    if by_kit:
        kit = kit_in(at_server.year.folder / "server" / "kit", None)
        asked |= await office.named_for("export-person", asked)
        desk = KitDesk(errand_of("export-person", kit, asked, None, bytes), out, office.clock)
        await office.table["export-person"]({**asked, "kit": desk.keys}, desk, desk)
    else:
        laptop = Desk(at_server.year.teacher.agent)
        out.files, out.lines = await laptop.files("export-person", **asked), laptop.told
    return out


@pytest.mark.parametrize("by_kit", [True, False])
@attack(FAMILIES, off={"protocol.replica.access.export.ask_about_names": _nothing_asked})
async def test_no_archive_is_made_under_a_name_that_was_anothers_unless_that_id_is_meant(
    at_server: Town, *, by_kit: bool
) -> None:
    await at_server.exchange_pupils()
    lea = await at_server.called("Tom")
    assert lea == at_server.year.pupil
    with pytest.raises(BadInput, match="nothing has been written yet"):
        await _archive(at_server, lea, by_kit=by_kit, renamed_too=False)
    archive = await _archive(at_server, lea, by_kit=by_kit, renamed_too=True)
    assert WORK["reponse.odt"] in archive.files.values()
    assert any(line.startswith("what is about “Tom” (called so since") for line in archive.lines)


# --- classes ----------------------------------------------------------------------------------------------------------


async def _exchange_classes(at_server: Town, mark: str = "") -> None:
    """This year's class has the name of last year's, with this mark in it, and the other way round."""
    here, year = at_server.year.here, at_server.year
    made = await year.do("space add", name="CM2 de l'an passé", school="0180001D", year="2024-2025")
    here.office.clock.advance(60_000)
    pairs = ((bytes.fromhex(made["space"]), "CM2 B"), (here.space, f"CM2 de l'an pas{mark}sé"))
    said = [
        at_server.entry(number, Kind.SPACE_CHANGE, SpaceChange(name).encode(), space)
        for number, (space, name) in enumerate(pairs)
    ]
    await at_server.hears(*said)


@attack(CLOSED, off={"sync_server.handlers.by_kit.closing.is_taken": lambda *_: False})
async def test_no_class_is_closed_by_a_name_that_was_anothers_of_the_school(at_server: Town) -> None:
    await _exchange_classes(at_server)
    space = at_server.year.here.office.space
    assert (await at_server.year.do("space close", space=space))["taken"] is True
    with pytest.raises(BadInput, match="nothing has been closed yet"):
        await at_server.year.with_kit("space close", space=space)
    assert not await erasures.ever_said(at_server.year.here.office.server.replica)
    assert (await at_server.year.with_kit("space close", space=space, renamed_too=True))["closed"] is True


@pytest.mark.parametrize("by_kit", [True, False])
@attack(CLOSED, off={"protocol.replica.office.mentioned.Mentioned.called": _by_this_name_alone})
async def test_which_class_is_closed_is_said_by_its_year_by_all_its_names_and_by_its_last_work(
    at_server: Town, *, by_kit: bool
) -> None:
    year = at_server.year
    made = await year.do("space add", name="CM1", school="0180001D", year="2026-2027")
    await year.do("space rename", space=made["space"], name="L'an passé")
    told = await (year.with_kit if by_kit else year.do)("space close", space=made["space"])
    (line,) = (line for line in year.here.office.said.lines if line.startswith("the class: "))
    assert "“L'an passé” (called so since" in line
    assert "“CM1” since" in line
    assert "of the school year 2026-2027, made" in line
    assert "nothing was done in it" in line
    assert (told["year"], [each["name"] for each in told["names"]], told["last"]) == (
        "2026-2027",
        ["CM1", "L'an passé"],
        None,
    )


# --- with a mark that no screen shows ---------------------------------------------------------------------------------

MARKS = {
    "zero-width space": "\u200b",
    "variation selector": "\ufe0f",
    "grapheme joiner": "\u034f",
    "filler": "\u3164",
    "tag": "\U000e0061",
    "line break": "\n",
}
AS_SENT = {"protocol.fields.name_shown": str}
"""Whatever a name holds."""


async def _asked_about(at_server: Town) -> None:
    """Who has another's name is asked about; where a blank stands in it, that is shown, and what they were called."""
    names = {str(row["name"]) for row in await at_server.year.do("person list", space=at_server.year.here.office.space)}
    desk, lea = Desk(at_server.year.teacher.agent), at_server.year.pupil
    files = await desk.files("portfolio", space=at_server.year.here.office.space)
    if "Tom" in names:
        with pytest.raises(BadInput, match="nobody has been forgotten yet"):
            await at_server.year.do("erase", person=[lea])
        with pytest.raises(BadInput, match="nothing has been written yet"):
            await _archive(at_server, lea, by_kit=False, renamed_too=False)
        assert files == {}
    else:
        assert "To m" in names
        assert {path.partition("/")[0] for path in files} == {f"To m (auparavant Léa) ({lea[:8]})"}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@attack(FORGOTTEN, off=AS_SENT)
async def test_a_name_that_was_anothers_is_asked_about_whatever_it_holds_that_no_screen_shows(
    at_server: Town, mark: str
) -> None:
    await at_server.exchange_pupils(mark)
    await _asked_about(at_server)


@attack(CLOSED, off=AS_SENT)
async def test_so_is_a_classs(at_server: Town) -> None:
    await _exchange_classes(at_server, "\u200b")
    with pytest.raises(BadInput, match="nothing has been closed yet"):
        await at_server.year.with_kit("space close", space=at_server.year.here.office.space)
