"""People, devices and classes change names, leave, and come to the end of their year."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code, Refused, RelaisError
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.replica.office.names import NO_YEAR
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.vouching import device_id
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.keys.confirming import own_device
from sync_agent.portal.shown.shelf import Shelf
from sync_agent.watching.folders import publishing_folders
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.classroom import SMALL, WORK, Given
from tests.harness.commands import Desk
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.kept_town import town_at_work
from tests.harness.portal import portal, words_in
from tests.harness.year_at_work import Year


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Year(here, *at_work, tmp_path)


# --- names ------------------------------------------------------------------------------------------------------------


async def test_a_person_who_is_renamed_keeps_all_that_is_theirs(year: Year) -> None:
    work = await year.work()
    await year.do("person rename", person=year.pupil, name="Léa Martin")
    await year.here.sync()
    assert await year.names(year.machine) == {"Mme Petit", "Léa Martin"}
    assert (await Desk(year.machine.agent).work(work))["person"] == year.pupil


async def test_a_class_that_is_renamed_is_called_so_on_every_machine(year: Year) -> None:
    await year.do("space rename", space=year.here.office.space, name="CM2 des Hirondelles")
    await year.here.sync()
    (listed,) = await year.do("space list")
    (shown,) = (await Desk(year.machine.agent).ask("status"))["spaces"]
    assert listed["name"] == shown["name"] == "CM2 des Hirondelles"
    await year.do("space rename", space=year.here.office.space, name="CM2")
    await year.here.sync()
    (shown,) = (await Desk(year.machine.agent).ask("status"))["spaces"]
    assert shown["name"] == "CM2"


async def test_a_renamed_device_is_listed_by_its_new_name(year: Year) -> None:
    await Desk(year.machine.agent).ask("rename", name="  Renard   roux ")
    await year.here.sync(year.machine)
    listed = {row["device"]: row["name"] for row in await year.do("devices")}
    assert listed[year.machine.agent.device.hex()] == "Renard roux"


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("person rename", {"person": "00" * 16, "name": "Léa"}),
        ("person retire", {"person": "00" * 16}),
        ("space rename", {"space": "00" * 32, "name": "CM1"}),
        ("space close", {"space": "00" * 32}),
        ("space rename", {"name": " "}),
    ],
)
async def test_what_is_not_there_cannot_be_changed(year: Year, command: str, params: dict[str, str]) -> None:
    counts = await year.here.office.server.store.spaces()
    with pytest.raises(BadInput):
        await year.do(command, **{"space": year.here.office.space, **params})
    assert await year.here.office.server.store.spaces() == counts


async def test_who_retires_is_off_the_lists_with_their_devices_cut_off_and_their_work_stays(year: Year) -> None:
    await year.lesson()
    await year.do("person retire", person=year.person)
    with pytest.raises(RelaisError):
        await year.here.sync(year.teacher)
    await year.here.sync(year.machine)
    assert await year.names(year.machine) == {"Léa"}
    assert {row["title"] for row in await Desk(year.machine.agent).ask("items")} == {"Racontez", "L'eau"}


async def test_who_teaches_and_is_erased_reads_so_and_until_when_it_is_taken_back(year: Year) -> None:
    async with portal(year.teacher.agent) as adult:
        assert 'id="forgotten"' not in await adult.page("/")
        await year.do("erase", person=[year.person], alone=True)
        await year.here.sync(year.teacher)
        said = html.unescape(words_in(await adult.page("/")))
        assert "Votre nom est effacé des listes, sur l'ordre de : le serveur." in said
        assert "au plus tard." in said
        await year.do("unerase", covers=year.person)
        await year.here.sync(year.teacher)
        assert 'id="forgotten"' not in await adult.page("/")


async def test_work_of_who_has_left_keeps_its_name_and_is_counted_among_nobody_who_is_there(year: Year) -> None:
    space = year.here.office.space
    for name in ("Tom", "Zoé"):
        await year.do("person add", name=name, role="pupil", space=[space])
    work = await year.work(opened=False)
    await year.do("ungrant", person=year.pupil, space=[space])
    another = (await year.do("person add", name="Léa", role="pupil", space=[space]))["person"]
    await year.here.sync(year.teacher)

    named = {"name": "Léa", "called": "Léa (no longer on the list)"}
    for row in (await Desk(year.teacher.agent).work(work), *(await year.do("hand-ins", space=space))):
        assert {key: row[key] for key in named} == named
    assert (await Desk(year.teacher.agent).ask("receipt", id=work, page=None))["called"] == named["called"]
    async with portal(year.teacher.agent) as adult:
        for path in ("/work", f"/work/{work}", f"/item/{row['item']}"):
            assert "Léa (plus sur la liste)" in await adult.page(path)
        for page in (await adult.page("/work"), await adult.page("/")):
            assert "0 rendu sur 3" in words_in(page)

    # two of one name are told apart
    await year.do("ungrant", person=another, space=[space])
    await year.here.sync(year.teacher)
    assert (await Desk(year.teacher.agent).work(work))["called"] == "Léa (1) (no longer on the list)"


# --- the end of a year ------------------------------------------------------------------------------------------------


async def test_lessons_go_on_to_the_next_class_once_and_assignments_stay(year: Year) -> None:
    await year.lesson()
    following = (await year.do("space add", name="CM2 C", school="0180001D", year="none"))["space"]
    await year.do("grant", person=year.person, device=None, space=[following])
    await year.here.sync(year.teacher)
    desk = Desk(year.teacher.agent)
    known = {"from": year.here.office.space, "to": following}
    nothing = {"there": [], "incomplete": [], "unconfirmed": [], "left": [], "bare": 0}
    assert await desk.ask("carry-over", **known) == {**nothing, "lessons": 1}
    assert await desk.ask("carry-over", **known) == {**nothing, "lessons": 0, "there": ["L'eau"]}
    pupils = await year.here.device("machine", space=following)
    await year.here.sync(year.teacher, pupils, pupils)
    (row,) = await Desk(pupils.agent).ask("items")
    assert (row["title"], row["subject"], row["space"], row["complete"]) == ("L'eau", "Sciences", following, True)
    assert await Desk(pupils.agent).files("checkout", item=row["item"]) == SMALL


async def test_what_a_teacher_has_withdrawn_stays_and_is_named_and_nobody_is_asked(year: Year) -> None:
    await year.lesson()
    following = (await year.do("space add", name="CM2 C", school="0180001D", year="none"))["space"]
    await year.do("grant", person=year.person, device=None, space=[following])
    await year.here.sync(year.teacher)
    desk, space = Desk(year.teacher.agent), year.here.office.space
    (lesson,) = (row["item"] for row in await desk.ask("items") if row["title"] == "L'eau")
    await desk.ask("withdraw", item=lesson)
    known = {"from": space, "to": following}
    done = await desk.ask("carry-over", **known)
    (left,) = done["left"]
    assert (done["lessons"], left["item"], left["title"]) == (0, lesson, "L'eau")
    assert left["why"].startswith("withdrawn by “Mme Petit”, ")
    with pytest.raises(BadInput, match="names no lesson that would be left here"):
        await desk.ask("carry-over", **known, also=["ab" * 32])
    assert (await desk.ask("carry-over", **known, also=[lesson[:8]]))["lessons"] == 1
    (there,) = (row["item"] for row in await desk.ask("items") if row["space"] == following)
    await desk.ask("withdraw", item=there)
    assert (await desk.ask("carry-over", **known, also=[lesson]))["lessons"] == 0, "nor does she want it there"
    await year.here.sync(year.teacher, year.teacher)
    assert (await year.do("space close", space=space))["withdrawn_by"] == [{"name": "Mme Petit", "items": 1}]
    assert (await year.with_kit("space close", space=space))["closed"] is True


async def test_whose_work_is_not_shown_is_told_by_the_name_they_had_last_and_by_no_classmates(year: Year) -> None:
    space = year.here.office.space
    await year.work(opened=False)
    await year.do("person rename", person=year.pupil, name="Léa D.")
    await year.do("person add", name="Léa", role="pupil", space=[space])
    await year.do("erase", person=[year.pupil])
    await year.here.sync(year.teacher)
    desk = Desk(year.teacher.agent)
    await desk.files("portfolio", space=space, shown_only=True)
    (told,) = (line for line in desk.told if line.startswith("not shown: "))
    assert told.startswith("not shown: 1 hand-in of “Léa D.” (called so since ")
    assert "other names here: “Léa” since " in told
    assert f", {year.pupil}: erased by " in told


async def test_a_portfolio_has_a_pupils_work_and_what_was_said_of_it_and_writes_no_receipt(year: Year) -> None:
    work = await year.work()
    unopened = await year.work(opened=False)
    files = await Desk(year.teacher.agent).files("portfolio", space=year.here.office.space)
    day = (await Desk(year.teacher.agent).work(work))["at"][:10]
    lea, done, other = (f"Léa ({year.pupil[:8]})", *(f"{day} Racontez ({one[:8]})" for one in (work, unopened)))
    places = {f"{lea}/travaux/{done}", f"{lea}/travaux/{other}", f"{lea}/corrections/{done}"}
    assert {path.rpartition("/")[0] for path in files} == places
    assert files[f"{lea}/corrections/{done}/Mme Petit.txt"].decode() == f"{day}\nA\nTrès bien.\n"
    assert files[f"{lea}/travaux/{done}/{next(iter(WORK))}"] == next(iter(WORK.values()))
    assert (await Desk(year.teacher.agent).work(unopened))["state"] == "server"
    with pytest.raises(BadInput) as caught:
        await Desk(year.teacher.agent).files("portfolio", space=year.here.office.space, person=year.person)
    assert caught.value.code is Code.UNKNOWN_PERSON
    with pytest.raises(Refused) as refused:
        await Desk(year.machine.agent).files("portfolio", space=year.here.office.space)
    assert refused.value.code is Code.CANNOT_READ


async def test_a_closed_class_is_hidden_at_the_next_contact_and_destroyed_a_week_later(year: Year) -> None:
    await year.lesson()
    await year.work()
    told = await year.do("space close", space=year.here.office.space)
    which = {key: told.pop(key) for key in ("name", "year", "made", "names", "last", "taken")}
    assert (which["name"], which["year"], len(which["names"]), which["taken"]) == ("CM2 B", None, 1, False)
    assert told == {"closed": False, "pupils": 1, "items": 2, "hand_ins": 1, "unopened": 0} | {
        "hidden": 0,
        "hidden_items": 0,
        "withdrawn_by": [],
        "unheard": [],
        "unheard_offices": [],
        "unheard_since_let_in": [],
        "opened_by": [{"name": "Mme Petit", "hand_ins": 1}],
        "off_the_list": [],
        "never_listed": 0,
    }
    assert (await year.with_kit("space close", space=year.here.office.space))["closed"] is True
    await year.here.sync(year.machine)
    assert await Desk(year.machine.agent).ask("items") == []
    assert await year.names(year.machine) == set()
    agent = year.machine.agent
    eraser = Eraser(agent.replica, agent.holdings)
    await eraser.sweep(year.here.office.clock())
    year.here.office.clock.advance(ERASURE_DELAY_MS + 1)
    assert (await eraser.sweep(year.here.office.clock())).entries
    kept = [stored.entry for stored in await agent.replica.store.scan(year.here.space)]
    assert not any(entry.payload for entry in kept if entry.header.kind in {Kind.PERSON, Kind.HAND_IN, Kind.REVISION})


async def test_in_a_closed_class_nothing_is_done_that_nobody_would_be_shown(year: Year) -> None:
    space = year.here.office.space
    await year.with_kit("space close", space=space, unheard_too=True)
    await year.here.sync(year.teacher)
    with pytest.raises(BadInput) as caught:
        await publish(
            year.teacher.agent, Wish(year.here.space, None, ItemKind.LESSON, "L'eau"), Given(SMALL), Notices()
        )
    assert caught.value.code is Code.UNKNOWN_SPACE
    assert [folder.space for folder in await publishing_folders(year.teacher.agent)] == []
    for command, params in (
        ("person add", {"name": "Tom", "role": "pupil"}),
        ("invite", {"role": "machine", "ttl": "24h", "uses": 1}),
        ("grant", {"device": year.machine.agent.device.hex()}),
    ):
        with pytest.raises(BadInput) as caught:
            await year.do(command, space=[space], **params)
        assert caught.value.code is Code.UNKNOWN_SPACE
    assert await year.do("ungrant", space=[space], device=year.machine.agent.device.hex()) is not None


async def test_the_next_years_class_is_meant_by_the_name_of_a_closed_one(year: Year) -> None:
    office = year.here.office
    (closed,) = await year.do("space list")
    wanted = {"name": closed["name"], "school": "0180001D", "year": NO_YEAR}
    fresh = (await year.do("space add", **wanted))["space"]
    await year.do("grant", space=[fresh], device=year.teacher.agent.device.hex())
    with pytest.raises(BadInput, match="2 spaces here are called"):
        await office.add_person("Tom", "pupil", closed["name"])
    assert {row["closed"] for row in await year.do("space list")} == {False}
    await year.with_kit("space close", space=closed["space"], unheard_too=True)
    assert [row["space"] for row in await year.do("space list") if row["closed"]] == [closed["space"]]
    pupil = await office.add_person("Tom", "pupil", closed["name"])
    assert pupil in {row["person"] for row in await year.do("person list", space=fresh)}
    await year.here.sync(year.teacher)
    desk = Desk(year.teacher.agent)
    await desk.publish(SMALL, space=closed["name"], title="La rentrée")
    assert [(row["space"], row["title"]) for row in await desk.ask("items")] == [(fresh, "La rentrée")]
    assert [room.space.hex() for room in await Shelf(year.teacher.agent).rooms() if room.is_class] == [fresh]
    await year.do("space rename", space=fresh, name="CM1 A")
    office.said.lines.clear()
    await year.do("space add", **wanted)
    assert fresh in office.said.lines[0], "which is called otherwise by now"
    assert not any(closed["space"] in line for line in office.said.lines), "nobody takes it for the closed one"


async def test_a_class_with_work_that_nobody_has_opened_is_not_closed_unless_that_is_wished(year: Year) -> None:
    await year.work(opened=False)
    with pytest.raises(BadInput) as caught:
        await year.with_kit("space close", space=year.here.office.space)
    assert caught.value.code is Code.NOT_YET
    assert (await year.with_kit("space close", space=year.here.office.space, unopened_too=True))["closed"] is True


async def test_who_was_forgotten_before_keeps_no_class_from_being_closed(year: Year) -> None:
    await year.work()
    server, clock = year.here.office.server, year.here.office.clock
    await year.do("erase", person=[year.pupil], dry_run=False)
    eraser = Eraser(server.replica, server.holdings)
    await eraser.sweep(clock())
    assert (await year.do("space close", space=year.here.office.space))["hidden"] == 1, "until it is carried out"
    clock.advance(ERASURE_DELAY_MS + 1)
    assert (await eraser.sweep(clock())).entries
    assert (await year.do("space close", space=year.here.office.space))["hidden"] == 0
    for _ in range(2):
        await year.here.sync(year.machine, year.teacher)
    assert (await year.with_kit("space close", space=year.here.office.space))["closed"] is True


async def test_what_a_substitute_opened_counts_once_a_teacher_of_the_list_has_confirmed_them(year: Year) -> None:
    space = year.here.office.space
    work = await year.work(opened=False)
    durand = await year.do("person add", space=[space], name="M. Durand", role="teacher")
    substitute = await year.here.device("teacher", durand["person"])
    await year.here.sync(year.machine, substitute)
    await Desk(substitute.agent).ask("confirm-opened", id=work)
    await year.here.sync(substitute, year.teacher)
    told = await year.do("space close", space=space)
    assert (told["unopened"], told["opened_by"]) == (1, [{"name": "M. Durand", "hand_ins": 1}])
    reader = device_id(own_device(substitute.agent)).hex()
    await Desk(year.teacher.agent).ask("key-confirm", reader=reader, shown_as="other")
    await year.here.sync(year.teacher)
    assert (await year.do("space close", space=space))["unopened"] == 0


async def test_a_class_whose_teacher_has_left_its_list_is_not_closed_unless_that_is_wished(year: Year) -> None:
    await year.work()
    await year.do("person retire", person=year.person)
    told = await year.do("space close", space=year.here.office.space)
    assert (told["hand_ins"], told["unopened"]) == (1, 1)


async def test_a_school_is_not_closed_like_a_class(year: Year) -> None:
    with pytest.raises(BadInput):
        await year.with_kit("space close", space="0180001D")


async def test_a_class_that_was_closed_is_called_that_on_its_schools_page(year: Year) -> None:
    office = year.here.office
    await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(office) as (url, _):
        cookie = cookie_of(await sign_in(url))
        is_said = []
        for is_closed in (False, True):
            if is_closed:
                await year.with_kit("space close", space=office.space, unheard_too=True)
            page = (await ask(url, "/admin/schools/0180001D", Cookie=cookie)).body.decode()
            is_said.append("fermée" in page)
        assert is_said == [False, True]
