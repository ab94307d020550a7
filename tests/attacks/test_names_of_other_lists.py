"""A copy of the server's key lists somebody by a teacher's name in a class whose list does not have her (yet)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.identity import DeviceKeys
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord
from protocol.model.work import Feedback, ItemKind, Receipt
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.frame import Notices
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.spaces import uai_of
from protocol.replica.office.whose_words import signatures
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.door import Door
from protocol.rights.roster import Roster
from protocol.roles import PersonRole, Role
from sync_agent.coursework.publisher import Wish, publish
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import SMALL, Given
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.erasures import closed_by_anybody
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.portal import portal, words_in
from tests.harness.portfolios import remarks_in
from tests.harness.territory import new_device

NAME = "somebody of a stolen key's has a teacher's name"
OPENED = "work that nobody has opened is counted as opened"
HERS = "Très bien raconté !"
HIS = "Copié sur le voisin."


def _is_the_list_of_this_class(_door: Door, space: bytes, other: bytes) -> bool:
    return space == other


THIS_LIST_ALONE = {"protocol.replica.office.called_here._is_beside": _is_the_list_of_this_class}


async def _nothing_is_noted(_store: EntryStore, _gone: Iterable[Entry]) -> dict[str, bytes | None]:
    return {}


async def _nobody_came_before(
    _replica: Replica, _roster: Roster, names: Mapping[bytes, str]
) -> dict[bytes, list[bytes]]:
    return {name: [] for name in names}


@dataclass
class Thief:
    """Whom the copied key lists as a teacher of a class, with a device that says a reading key there."""

    here: Town
    space: bytes
    person: bytes = bytes([7] * 16)
    keys: DeviceKeys = field(default_factory=lambda: new_device(Random(666).randbytes))
    grant: bytes = b""
    said: int = 0

    async def is_listed(self, name: str) -> None:
        office, keys = self.here.office, self.keys
        listed = PersonRecord(name, PersonRole.TEACHER).encode()
        given = Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, self.person, None
        ).encode()
        _, made = await thief_says(
            office,
            Draft(self.space, Kind.PERSON, office.server.grant, listed, subject=self.person),
            Draft(self.space, Kind.GRANT, office.server.grant, given),
        )
        self.grant = made.id
        await self.say(Kind.PERSON_KEY, PersonKey(keys.agreement.public).encode(), self.person)

    async def say(self, kind: Kind, payload: bytes, subject: bytes, target: bytes | None = None) -> None:
        office = self.here.office
        self.said += 1
        said = compose(
            author=self.keys.signing,
            space=self.space,
            kind=kind,
            grant=self.grant,
            at=(office.clock() << 16) + self.said,
            payload=payload,
            salt=os.urandom(16),
            subject=subject,
            target=target,
        )
        taken = await office.server.replica.admit([said], source=b"some machine", now_ms=office.clock())
        assert taken.admitted

    async def says_it_was_opened(self, work: bytes, pupil: str) -> None:
        works = (await self.here.office.server.replica.view(self.space)).coursework.hand_ins
        receipt = Receipt(works[work].record.content.stream).encode()
        await self.say(Kind.RECEIPT_TEACHER, receipt, bytes.fromhex(pupil), work)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        yield made


async def _synced(here: Town, times: int = 3) -> None:
    for _ in range(times):
        await here.sync()
        here.office.clock.advance(60_000)


async def _further_class(here: Town, name: str) -> bytes:
    office = here.office
    made = await office.do("space add", name=name, school=await uai_of(office.server, here.school))
    return bytes.fromhex(made["space"])


async def _signed(here: Town, space: bytes, person: bytes) -> set[str | None]:
    """By which names the words of somebody are signed in a class, at the server and on all devices."""
    replicas = [here.office.server.replica, *(device.agent.replica for device in here.devices)]
    return {
        (await signatures(one, (await one.view(space)).roster, [person])).get(person)
        for one in replicas
        if one.door.knows_space(space)
    }


# --- September --------------------------------------------------------------------------------------------------------


async def _answered_in_september(here: Town, old: AtWork) -> tuple[bytes, bytes]:
    """A next class, in which somebody of the thief's has her name before she is let in; a work that both answered."""
    office = here.office
    here.office.clock.advance(30 * DAY_MS)
    await here.sync()
    new = await _further_class(here, "CM2 de l'an prochain")
    thief = Thief(here, new)
    await thief.is_listed("Mme Petit")
    for whose in ({"person": old.person}, {"person": old.pupil}, {"device": old.machine.agent.device.hex()}):
        await office.do("grant", **whose, space=[new.hex()])
    await _synced(here)
    wish = Wish(new, None, ItemKind.ASSIGNMENT, "Racontez")
    item = (await publish(old.teacher.agent, wish, Given(SMALL), Notices())).item
    await _synced(here)
    work = await here.work(old.machine, item, old.pupil)
    await _synced(here)
    await Desk(old.teacher.agent).ask("feedback", id=work.hex(), text=HERS, mark="18/20", redo=False)
    await _synced(here)
    await thief.say(Kind.FEEDBACK, Feedback(HIS, "0/20", False, None).encode(), bytes.fromhex(old.pupil), work)
    await _synced(here)
    return new, work


async def _read_of_it(old: AtWork, new: bytes, work: bytes) -> None:
    """Wherever words stand hers are Mme Petit's."""
    desk = Desk(old.teacher.agent)
    said = remarks_in(await desk.files("portfolio", space=new.hex(), as_it_is_here=True))
    assert said == {"Mme Petit": f"18/20\n{HERS}\n", "Mme Petit (2)": f"0/20\n{HIS}\n"}
    rows = await desk.ask("hand-ins")
    (row,) = [row for row in rows if row["id"] == work.hex()]
    assert {note["by"]: note["mark"] for note in row["remarks"]} == {"Mme Petit": "18/20", "Mme Petit (2)": "0/20"}
    async with portal(old.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": old.pupil, "back": "/"})
        page = words_in(await surfer.page(f"/work/{work.hex()}"))
    assert f"Ce que dit Mme Petit 18/20 {HERS}" in page
    assert "Ce que dit Mme Petit (2) 0/20" in page
    async with portal(old.teacher.agent) as surfer:
        assert "Mme Petit (2)" in await surfer.page("/")


@attack(NAME, off=THIS_LIST_ALONE)
async def test_whom_a_class_of_before_has_bears_her_name_in_the_next_one_whoever_is_listed_there_first(
    here: Town,
) -> None:
    old = await here.class_in_step()
    new, work = await _answered_in_september(here, old)
    await _read_of_it(old, new, work)


async def _closed_and_destroyed(here: Town, folder: Path) -> None:
    office, server = here.office, here.office.server
    kit = kit_in(folder / "server" / "kit", None)
    await office.with_kit("space close", kit, space=office.space, unheard_too=True)
    await _synced(here)
    for _ in range(ERASURE_DELAY_MS // DAY_MS + 2):
        office.clock.advance(DAY_MS)
        await note_arrivals(server.store, office.clock())
        await Eraser(server.replica, server.holdings).sweep(office.clock())
        for agent in (device.agent for device in here.devices):
            await Eraser(agent.replica, agent.holdings).sweep(office.clock())
    await _synced(here)


@attack(NAME, off={"protocol.replica.upkeep.eraser.said_elsewhere": _nothing_is_noted})
async def test_so_she_does_once_the_class_of_before_is_closed_and_destroyed(here: Town, tmp_path: Path) -> None:
    old = await here.class_in_step()
    new, work = await _answered_in_september(here, old)
    await _closed_and_destroyed(here, tmp_path)
    server = here.office.server
    said = await server.store.of_kinds(here.space, [Kind.PERSON])
    assert said
    assert all(one.entry.payload is None for one in said), "what the list of the class held is gone"
    assert await _signed(here, new, bytes.fromhex(old.person)) == {"Mme Petit"}
    await _read_of_it(old, new, work)


@attack(NAME, off={"protocol.replica.office.called_here.closed_by_kit": closed_by_anybody})
async def test_so_she_does_while_a_stolen_key_has_the_class_of_before_closed_for_an_hour(here: Town) -> None:
    office = here.office
    await here.class_in_step()
    new = await _further_class(here, "CM2 de l'an prochain")
    closed = Draft(office.server.replica.territory, Kind.ERASE, office.server.grant, Erasure(here.space).encode())
    await thief_says(office, closed)
    thief = Thief(here, new)
    await thief.is_listed("Mme Petit")
    await _synced(here)
    assert await _signed(here, new, thief.person) - {None} == {"Mme Petit (2)"}


async def test_who_was_on_the_list_of_a_closed_class_alone_and_is_added_anew_has_her_name(
    here: Town, tmp_path: Path
) -> None:
    office, further = here.office, await _further_class(here, "CM2 de l'an prochain")
    await here.class_in_step()
    kit = kit_in(tmp_path / "server" / "kit", None)
    await office.with_kit("space close", kit, space=office.space, unheard_too=True)
    office.said.lines.clear()
    again = await office.do("person add", name="Mme Petit", role="teacher", space=[further.hex()])
    assert office.said.lines == [], "nobody of that name can be let in"
    assert await _signed(here, further, bytes.fromhex(again["person"])) - {None} == {"Mme Petit"}
    await office.invite("teacher", further.hex(), person="Mme Petit")
    assert any(again["person"] in line for line in office.said.lines), "the name alone says who is meant"


async def test_who_is_added_though_another_list_of_the_school_has_her_is_told_with_the_command_that_lets_her_in(
    here: Town,
) -> None:
    office, further = here.office, await _further_class(here, "CE2")
    old = await here.class_in_step()
    office.said.lines.clear()
    again = await office.do("person add", name="Mme Petit", role="teacher", space=[further.hex()])
    (warning,) = office.said.lines
    assert f"“Mme Petit”, teacher, CM2 B, {old.person}" in warning
    assert f"`person retire {again['person']}`" in warning
    assert f"`grant --person {old.person} --space {further.hex()}`" in warning
    await office.do("person retire", person=again["person"])
    await office.do("grant", person=old.person, space=[further.hex()])
    assert await _signed(here, further, bytes.fromhex(old.person)) - {None} == {"Mme Petit"}


# --- any day of the year ----------------------------------------------------------------------------------------------


async def _listed_elsewhere(here: Town, old: AtWork, where: str) -> None:
    """M. Roy, on a list that all machines of the class have."""
    lists = {"the school's": here.school, "the territory's": here.office.server.replica.territory}
    space = lists[where] if where in lists else await _further_class(here, "CE2")
    await here.office.add_person("M. Roy", "teacher", space.hex())
    if where not in lists:
        for whose in ({"person": old.person}, {"device": old.machine.agent.device.hex()}):
            await here.office.do("grant", **whose, space=[space.hex()])
    await _synced(here)


@pytest.mark.parametrize("where", ["another class's", "the school's", "the territory's"])
@attack(NAME, off=THIS_LIST_ALONE)
async def test_who_comes_to_a_name_that_another_list_has_bears_it_with_a_number(here: Town, where: str) -> None:
    old = await here.class_in_step()
    await _listed_elsewhere(here, old, where)
    thief = Thief(here, here.space)
    await thief.is_listed("Roy, M.")
    await _synced(here)
    assert await _signed(here, here.space, thief.person) == {"Roy, M. (2)"}


async def _whoever_a_list_calls_so(
    replica: Replica, roster: Roster, person: bytes, other: bytes, spaces: Iterable[bytes]
) -> bool:
    rosters = [roster, *[(await replica.view(space)).roster for space in spaces]]
    return any(each.who(other) == person for each in rosters)


@attack(NAME, off={"protocol.replica.office.called_here._are_one": _whoever_a_list_calls_so})
async def test_nor_is_he_one_with_whom_the_list_of_a_class_calls_the_same_where_nobody_knows_that_one(
    here: Town,
) -> None:
    old, office = await here.class_in_step(), here.office
    await _listed_elsewhere(here, old, "another class's")
    (roy,) = [one for one, each in (await mentioned(office.server.replica)).items() if "M. Roy" in each.names]
    further = next(one for one in await office.do("space list") if one["name"] == "CE2")["space"]
    await here.device("teacher", roy.hex(), further)
    thief = Thief(here, here.space)
    same = PersonRecord("M. Roy", PersonRole.TEACHER, left=True, same_as=thief.person).encode()
    await thief_says(office, Draft(here.space, Kind.PERSON, office.server.grant, same, subject=roy))
    await thief.is_listed("M. Roy")
    await _synced(here)
    assert await _signed(here, here.space, thief.person) - {None} == {"M. Roy (2)"}


@attack(OPENED, off={"protocol.replica.office.opened.namesakes_before": _nobody_came_before})
async def test_what_somebody_says_to_have_opened_who_has_a_colleagues_name_closes_no_class_unasked(
    here: Town, tmp_path: Path
) -> None:
    old = await here.class_in_step()
    await _listed_elsewhere(here, old, "another class's")
    thief = Thief(here, here.space)
    await thief.is_listed("M. Roy")
    await _synced(here)
    work = await here.work(old.machine, old.item, old.pupil)
    await _synced(here)
    await thief.says_it_was_opened(work, old.pupil)
    await _synced(here)
    office = here.office
    told = await office.do("space close", space=office.space)
    assert (told["unopened"], told["opened_by"]) == (1, [{"name": "M. Roy (2)", "hand_ins": 1}])
    with pytest.raises(BadInput, match="nobody who teaches this class has opened 1 of the hand-ins"):
        await office.with_kit("space close", kit_in(tmp_path / "server" / "kit", None), space=office.space)


# --- who is called alike and honest -----------------------------------------------------------------------------------


async def test_who_has_a_colleagues_name_and_was_confirmed_by_another_counts_as_having_opened(here: Town) -> None:
    old, office = await here.class_in_step(), here.office
    await _listed_elsewhere(here, old, "another class's")
    other = await here.device("teacher", await office.add_person("M. Roy", "teacher"))
    await _synced(here)
    work = await here.work(old.machine, old.item, old.pupil)
    await _synced(here)
    await Desk(other.agent).ask("confirm-opened", id=work.hex())
    await _synced(here)
    assert (await office.do("space close", space=office.space))["unopened"] == 1
    desk = Desk(old.teacher.agent)
    (reader,) = [row for row in await desk.ask("key-readers") if row["teacher"] == "M. Roy (2)"]
    await desk.ask("key-confirm", reader=reader["id"])
    await _synced(here)
    assert (await office.do("space close", space=office.space))["unopened"] == 0


async def test_of_two_schools_nobody_is_told_from_anybody_at_the_server(here: Town) -> None:
    office = here.office
    await here.class_in_step()
    made = await office.do("space add", name="CM2", school="0180002E")
    other = bytes.fromhex(await office.add_person("Mme Petit", "teacher", made["space"]))
    assert await _signed(here, bytes.fromhex(made["space"]), other) == {"Mme Petit"}


async def test_nor_is_a_teacher_told_from_a_pupil_nor_who_was_added_twice_from_herself(here: Town) -> None:
    office = here.office
    await here.class_in_step()
    further = await _further_class(here, "CE2")

    async def added(name: str, role: str, *spaces: bytes) -> bytes:
        made = await office.do("person add", name=name, role=role, space=[space.hex() for space in spaces])
        return bytes.fromhex(made["person"])

    lea = await added("Léa", "teacher", further)
    first, again = await added("Mme Durand", "teacher", here.space), await added("Mme Durand", "teacher", further)
    assert await _signed(here, further, lea) == {"Léa"}
    assert await _signed(here, further, again) == {"Mme Durand (2)"}
    await merge_persons(office.server, first, again)
    assert await _signed(here, further, again) == {"Mme Durand"}


async def test_who_teaches_a_next_class_is_on_its_list_before_anybody_can_be_and_brings_her_computer(
    here: Town,
) -> None:
    old, office = await here.class_in_step(), here.office
    named = {"name": "CM2", "school": await uai_of(office.server, here.school), "person": [old.person]}
    new = bytes.fromhex((await office.do("space add", **named))["space"])
    await Thief(here, new).is_listed("Mme Petit")
    pc = await here.device("machine", None, new.hex())
    await _synced(here)
    replica, petit = pc.agent.replica, bytes.fromhex(old.person)
    assert await signatures(replica, (await replica.view(new)).roster, [petit]) == {petit: "Mme Petit"}
    assert old.teacher.agent.device in {each.key for each in replica.door.authorities_in(new)}
