"""Nobody's name, nor the first digits of an id, is somebody else's while they are hidden (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure, PersonRecord, Revocation, SpaceChange, SpaceRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changed_names
from protocol.replica.office.erasures import in_force
from protocol.replica.office.mentioned import Mentioned
from protocol.replica.office.mistaken import MISTAKEN_MARKS
from protocol.replica.office.spaces import SpacePast, pasts
from protocol.roles import PersonRole, Role
from sync_server.handlers.overview.devices import Device, DeviceState
from sync_server.handlers.overview.members import list_devices
from sync_server.operations.table import operations
from tests.harness.attack import attack
from tests.harness.classroom import Given
from tests.harness.commands import Desk
from tests.harness.erasures import closed_by_anybody
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "a name, or the first digits of an id, is another's for an hour"


async def _as_shown(replica: Replica) -> dict[bytes, Mentioned]:
    """Who is called what, as it was while only what is shown was looked at."""
    rosters = [(await replica.view(space)).roster for space in replica.door.spaces()]
    return {
        one: Mentioned((each.name,), (roster.space,), (0,))
        for roster in rosters
        for one, each in roster.persons.items()
    }


async def _shown_ids(replica: Replica) -> set[bytes]:
    return set(await _as_shown(replica))


async def _shown_work(replica: Replica) -> set[bytes]:
    return {work for space in replica.door.spaces() for work in (await replica.view(space)).coursework.hand_ins}


async def _pasts_as_shown(replica: Replica) -> dict[bytes, SpacePast]:
    changed = await changed_names(replica)
    return {
        one: replace(past, names=Mentioned((changed[one],), (), (0,))) if one in changed else past
        for one, past in (await pasts(replica)).items()
    }


async def _in_use(server: Any) -> list[Device]:
    return [each for each in await list_devices(server) if each.state is not DeviceState.RETIRED]


SHOWN: dict[str, object] = {"protocol.replica.office.ever_called.mentioned": _as_shown}
SHOWN_CLASSES: dict[str, object] = {
    "protocol.replica.office.ever_called.closed_by_kit": closed_by_anybody,
    "protocol.replica.office.ever_called.pasts": _pasts_as_shown,
}


class Stolen:
    """A class at work whose server's key somebody has as well, and says a word for an hour."""

    def __init__(self, year: Year) -> None:
        self.year, self.here, self.office = year, year.here, year.here.office
        self._said = 0

    async def says(
        self, space: bytes, kind: Kind, payload: bytes, subject: bytes | None = None, target: bytes | None = None
    ) -> bytes:
        """The entry that says so, once it is everywhere."""
        server, clock = self.office.server, self.office.clock
        given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
        self._said += 1
        said = compose(
            author=server.keys.signing,
            space=space,
            kind=kind,
            grant=given,
            at=((clock() + 1) << 16) + self._said,
            payload=payload,
            salt=bytes(16),
            subject=subject,
            target=target,
        )
        assert (await server.replica.admit([said], source=b"a PC", now_ms=clock())).admitted
        await self.here.sync()
        return said.id

    async def erases(self, covers: bytes) -> None:
        await self.says(self.office.server.replica.territory, Kind.ERASE, Erasure(covers).encode())

    async def lists(self, person: str, record: PersonRecord) -> None:
        await self.says(self.here.space, Kind.PERSON, record.encode(), bytes.fromhex(person))

    async def second_lea(self) -> str:
        """Another pupil of the class who is called the same."""
        person = await self.office.add_person("Léa", "pupil")
        await self.here.sync()
        return person

    async def hides(self, person: str, way: str) -> None:
        match way:
            case "erased":
                await self.erases(bytes.fromhex(person))
            case "called otherwise":
                await self.lists(person, PersonRecord("Zoé", PersonRole.PUPIL))
            case "the same":
                same = PersonRecord("Léa", PersonRole.PUPIL, left=True, same_as=bytes.fromhex(self.year.pupil))
                await self.lists(person, same)
            case _:
                await self.lists(person, PersonRecord("Léa", PersonRole.PUPIL, left=True))


WAYS = pytest.mark.parametrize("way", ["erased", "called otherwise", "the same", "gone"])


@pytest.fixture
async def stolen(tmp_path: Path) -> AsyncIterator[Stolen]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Stolen(Year(here, *at_work, tmp_path))


# --- people -----------------------------------------------------------------------------------------------------------


@WAYS
@attack(ROW, off=SHOWN)
async def test_a_pupils_name_is_not_anothers_on_a_computer_while_one_is_hidden(stolen: Stolen, way: str) -> None:
    await stolen.hides(second := await stolen.second_lea(), way)
    desk = Desk(stolen.year.machine.agent)
    with pytest.raises(BadInput, match="2 persons here are called") as refused:
        await desk.hand_in(stolen.year.item.hex(), "lea", {"a.txt": b"x"})
    assert refused.value.code is Code.UNKNOWN_PERSON
    assert all(person in refused.value.message for person in (stolen.year.pupil, second)), "the ids say which"


@WAYS
@attack(ROW, off=SHOWN)
async def test_a_pupils_name_is_not_anothers_at_the_server_while_one_is_hidden(stolen: Stolen, way: str) -> None:
    await stolen.hides(second := await stolen.second_lea(), way)
    with pytest.raises(BadInput, match="2 persons here are called") as refused:
        await stolen.office.do("person rename", person="Léa", name="Léa B.")
    assert all(person in refused.value.message for person in (stolen.year.pupil, second)), "the ids say which"


@pytest.mark.parametrize("command", ["export-person", "portfolio"])
@attack(ROW, off={"sync_agent.abbreviated._BY_ID_ALONE": {}})
async def test_no_family_gets_by_a_name_what_there_is_about_a_child_who_alone_came_here_with_it(
    stolen: Stolen, command: str
) -> None:
    await stolen.year.work()
    beside = {} if command == "export-person" else {"space": stolen.office.space}
    with pytest.raises(BadInput, match="give the id"):
        await Desk(stolen.year.teacher.agent).files(command, person="Léa", **beside)


@pytest.mark.parametrize("command", ["export-person", "grant"])
@attack(ROW, off={"sync_server.operations.table._BY_ID_ALONE": {}})
async def test_a_server_hands_out_and_lets_in_by_the_id_alone(stolen: Stolen, command: str) -> None:
    beside = {"space": [stolen.office.space]} if command == "grant" else {}
    offered = operations(stolen.office.server)
    with pytest.raises(BadInput) as refused:
        await offered[command]({"person": "Mme Petit", **beside}, Given({}), stolen.office.said)
    assert refused.value.code is Code.UNKNOWN_PERSON


@attack(ROW, off={"sync_server.operations.abbreviated.persons_ever": _shown_ids})
async def test_the_first_digits_of_a_hidden_persons_id_are_not_those_of_another_who_was_given_the_same(
    stolen: Stolen,
) -> None:
    lea, twin = stolen.year.pupil, stolen.year.pupil[:8] + "77" * 12
    await stolen.lists(twin, PersonRecord("Léa", PersonRole.PUPIL))
    await stolen.erases(bytes.fromhex(lea))
    with pytest.raises(BadInput, match="is the beginning of 2 persons") as refused:
        await stolen.year.do("erase", person=[lea[:8]])
    assert all(person in refused.value.message for person in (lea, twin))
    assert not any(covers.hex() == twin for _, covers in await in_force(stolen.office.server.replica))


@attack(ROW, off={"protocol.replica.office.ever_called.entries_ever": _shown_work})
async def test_the_first_digits_of_a_hidden_works_id_are_not_anothers(
    stolen: Stolen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.console.abbreviations.SHORTEST_CHARS", 1)  # eight would take days to find
    year, tom = stolen.year, await stolen.office.add_person("Tom", "pupil")
    await stolen.here.sync()
    first = (await stolen.here.work(year.machine, year.item, tom)).hex()[0]
    while (await stolen.here.work(year.machine, year.item, year.pupil)).hex()[0] != first:
        pass
    await stolen.here.sync()
    await stolen.here.sync()
    await stolen.erases(bytes.fromhex(year.pupil))
    with pytest.raises(BadInput, match="is the beginning of"):
        await Desk(year.teacher.agent).ask("feedback", id=first, text="Bravo.", mark=None, redo=False)


async def _whoever_is_off_all_lists(replica: Replica, persons: Collection[bytes]) -> set[bytes]:
    rosters = [(await replica.view(space)).roster for space in replica.door.spaces()]
    return {one for one in persons if not any(one in roster.persons for roster in rosters)}


async def _whoever_was_noted(replica: Replica, persons: Collection[bytes]) -> set[bytes]:
    """Whatever lists have said since."""
    noted = await replica.store.marks(MISTAKEN_MARKS)
    return {one for one in persons if MISTAKEN_MARKS + one.hex() in noted}


async def _renames(stolen: Stolen, name: str) -> None:
    await stolen.office.do("person rename", person=name, name="Léa B.")


async def test_a_name_is_its_bearers_again_once_who_was_added_by_mistake_is_taken_off(stolen: Stolen) -> None:
    office = stolen.office
    twin = await office.add_person("Mme Petit", "teacher")
    with pytest.raises(BadInput, match="2 persons here are called"):
        await office.invite("teacher", person="Mme Petit")
    await office.do("person retire", person=twin)
    await office.invite("teacher", person="Mme Petit")
    assert f"“Mme Petit” is Mme Petit (teacher, CM2 B, {stolen.year.person})" in office.said.lines


async def test_of_two_of_a_name_those_who_are_on_a_list_are_told_first(stolen: Stolen) -> None:
    await stolen.hides(second := await stolen.second_lea(), "gone")
    with pytest.raises(BadInput) as refused:
        await _renames(stolen, "Léa")
    here, _, gone = refused.value.message.partition("; gone, or hidden: ")
    assert "there now: " in here
    assert (stolen.year.pupil in here, second in gone) == (True, True)


@attack(ROW, off={"protocol.replica.office.ever_called.mistaken": _whoever_is_off_all_lists})
async def test_whom_the_stolen_key_takes_off_all_lists_was_not_added_by_mistake(stolen: Stolen) -> None:
    await stolen.hides(await stolen.second_lea(), "gone")
    with pytest.raises(BadInput, match="2 persons here are called"):
        await _renames(stolen, "Léa")


@attack(ROW, off={"protocol.replica.office.ever_called.mistaken": _whoever_was_noted})
async def test_nor_whom_it_hides_once_she_is_back(stolen: Stolen) -> None:
    second = await stolen.second_lea()
    await stolen.office.do("person retire", person=second)
    await stolen.office.do("grant", person=second, space=[stolen.office.space])
    await stolen.hides(second, "erased")
    with pytest.raises(BadInput, match="2 persons here are called"):
        await _renames(stolen, "Léa")


async def test_nor_whose_work_came_since(stolen: Stolen) -> None:
    second = await stolen.second_lea()
    await stolen.office.do("person retire", person=second)
    await stolen.here.work(stolen.year.machine, stolen.year.item, second)
    await stolen.here.sync()
    with pytest.raises(BadInput, match="2 persons here are called"):
        await _renames(stolen, "Léa")


async def test_nor_who_leaves_one_class_while_the_stolen_key_has_taken_her_off_another(stolen: Stolen) -> None:
    further = (await stolen.office.do("space add", name="CM1", school="0180001D"))["space"]
    second = await stolen.second_lea()
    await stolen.office.do("grant", person=second, space=[further])
    await stolen.hides(second, "gone")
    await stolen.office.do("ungrant", person=second, space=[further])
    with pytest.raises(BadInput, match="2 persons here are called"):
        await _renames(stolen, "Léa")


# --- classes ----------------------------------------------------------------------------------------------------------


async def _false_class(stolen: Stolen) -> str:
    """The class of a thief's, of the same name and school as the honest one, which he hides; its id."""
    (listed,) = await stolen.office.do("space list")
    made = await stolen.says(stolen.here.school, Kind.SPACE, SpaceRecord(listed["name"], None, None).encode())
    return made.hex()


async def _hidden(stolen: Stolen, way: str) -> None:
    if way == "erased":
        await stolen.erases(stolen.here.space)
    else:
        await stolen.says(stolen.here.space, Kind.SPACE_CHANGE, SpaceChange("CM2 A").encode())


HIDDEN = pytest.mark.parametrize("way", ["erased", "called otherwise"])


@HIDDEN
@attack(ROW, off=SHOWN_CLASSES)
async def test_a_servers_code_for_the_class_of_this_name_leads_into_no_thiefs(stolen: Stolen, way: str) -> None:
    false = await _false_class(stolen)
    await _hidden(stolen, way)
    with pytest.raises(BadInput, match="2 spaces here are called “CM2 B”") as refused:
        await stolen.office.invite("machine", "CM2 B")
    assert refused.value.code is Code.UNKNOWN_SPACE
    assert all(space in refused.value.message for space in (stolen.office.space, false)), "the ids say which"


@HIDDEN
@attack(ROW, off=SHOWN_CLASSES)
async def test_a_heads_code_for_the_class_of_this_name_leads_into_no_thiefs(stolen: Stolen, way: str) -> None:
    desk = Desk((await stolen.here.head_of_the_school()).agent)
    await _false_class(stolen)
    await _hidden(stolen, way)
    with pytest.raises(BadInput, match="2 spaces here are called “CM2 B”"):
        await desk.ask("invite", role="machine", space=["CM2 B"], person=None, uses=1, ttl="24h")


async def _of_whoever_has_the_code(*_: object) -> None:
    """A school's code goes before all else."""


CODE_FIRST: dict[str, object] = {"sync_server.operations.abbreviated.check_code_alone": _of_whoever_has_the_code}
TYPED = pytest.mark.parametrize("typed", ["its name", "its first digits"])


async def _school_called_as(stolen: Stolen, typed: str) -> str:
    """What is typed for the class, which is by now the code of a school of the thief's as well."""
    text = "CM2 B" if typed == "its name" else stolen.office.space[:8]
    await stolen.says(stolen.office.server.replica.territory, Kind.SPACE, SpaceRecord("École", uai=text).encode())
    return text


@TYPED
@attack(ROW, off=CODE_FIRST)
async def test_what_is_typed_for_a_class_is_no_school_whose_code_a_thief_has_chosen_so(
    stolen: Stolen, typed: str
) -> None:
    text = await _school_called_as(stolen, typed)
    with pytest.raises(BadInput, match="is the code of a school") as refused:
        await stolen.office.invite("machine", text)
    assert refused.value.code is Code.UNKNOWN_SPACE
    assert stolen.office.space in refused.value.message
    assert await stolen.office.invite("machine", stolen.office.space), "the whole id is nobody else's"


@TYPED
async def test_nor_is_it_at_a_heads_computer(stolen: Stolen, typed: str) -> None:
    desk = Desk((await stolen.here.head_of_the_school()).agent)
    text = await _school_called_as(stolen, typed)
    with pytest.raises(BadInput, match="is the code of a school"):
        await desk.ask("invite", role="machine", space=[text], person=None, uses=1, ttl="24h")


async def test_a_schools_code_is_its_name_where_nothing_else_has_it(stolen: Stolen) -> None:
    assert await stolen.office.invite("machine", "0180001D")


# --- devices ----------------------------------------------------------------------------------------------------------


@attack(ROW, off={"sync_server.operations.abbreviated.list_devices": _in_use})
async def test_a_lost_computers_name_is_not_anothers_while_it_is_cut_off(stolen: Stolen) -> None:
    office = stolen.office
    lost, other = [await office.enrol(await office.invite("machine"), name="Renard") for _ in range(2)]
    heads = {stored.entry.id for stored in await office.server.store.scan(stolen.here.space)}
    await stolen.says(
        stolen.here.space, Kind.REVOKE, Revocation(lost.keys.signing.public, tuple(sorted(heads)[:1])).encode()
    )
    with pytest.raises(BadInput, match="2 devices here are called") as refused:
        await office.do("lost", device="renard")
    assert all(each.id in refused.value.message for each in (lost, other)), "the ids say which"
