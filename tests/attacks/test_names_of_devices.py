"""What a device is called leads nobody's command to another one (docs/attacks.md)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.identity import three_words
from protocol.messages.calls import SyncAnswer
from protocol.messages.lives import Twin
from protocol.messages.parts import SpacePage
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Grant
from protocol.reconcile.checkpoint import EMPTY_CHAIN, Checkpoint
from protocol.replica.answering.news import called_in
from protocol.replica.answering.reports import keep_reports
from protocol.replica.at_work.destroyed import forgotten_persons
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.interfaces import RegisterRow
from protocol.replica.storage.sqlite import DATABASE
from protocol.replica.upkeep.eraser import Eraser
from protocol.rights.door import Door
from protocol.roles import RUNS_A_SCHOOL, PersonRole, Role
from sync_agent.app import Agent
from sync_agent.health import own_report
from sync_agent.keys.succession import Told, _succeed
from sync_agent.machine.marks import CALLED_MARKS
from sync_agent.school.device_names import device_names, note_called
from sync_agent.sync.session import Session
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom, open_device
from tests.harness.commands import Desk
from tests.harness.passing_days import pass_days
from tests.harness.portal import portal
from tests.harness.server_in_process import office
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device
from tests.harness.wire import MemoryTransport
from tests.harness.work import counted_work

ROW = "a device that is called like another one"
ASKS = "a head teacher's laptop asks what devices of others are called"
CALLED = "Portable Petit"
BELIEVED: dict[str, object] = {"sync_agent.abbreviated.signed_names": device_names}


async def nobodys(*_told: object) -> list[str]:
    """No name goes."""
    return []


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def head_who_is_told(here: Here, key: bytes) -> Device:
    """A head teacher's computer, to which the server calls this device, and no other, `CALLED`."""
    room = here.room
    person = await room.territory.person("Mme H", PersonRole.TEACHER, room.space)
    head = await room.head(person=person)
    room.frontage.responder.name_of = lambda each: CALLED if each == key else None
    await here.sync(here.teacher, head)
    assert (await device_names(head.agent)).get(key) == CALLED
    return head


@attack(ROW, off={**BELIEVED, "sync_agent.abbreviated._BY_ID_ALONE": {}})
async def test_what_the_server_calls_a_device_lets_it_in_nowhere(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    spy = here.spy.signing.public
    desk = Desk((await head_who_is_told(here, spy)).agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    with pytest.raises(BadInput) as refused:
        await desk.ask("grant", device="portable petit", space=[space])
    assert three_words(spy) in refused.value.message, "whoever is asked about is told by what nobody chooses"
    assert not any(space in row["spaces"] for row in await desk.ask("devices") if row["device"] == spy.hex())


@attack(ROW, off={"sync_agent.abbreviated._BY_ID_ALONE": {}})
async def test_what_a_device_calls_itself_lets_it_in_nowhere(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = here.teacher.agent
    desk = Desk((await head_who_is_told(here, here.machine.agent.device)).agent)
    monkeypatch.setattr(
        desk.agent, "neighbours", lambda: [{"device": teacher.device.hex(), "name": "Ordinateur de M. X"}]
    )
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    with pytest.raises(BadInput):
        await desk.ask("grant", device="ordinateur de m. x", space=[space])


@attack(ROW, off=BELIEVED)
async def test_what_the_server_calls_a_device_cuts_no_teacher_off(here: Here) -> None:
    hers = here.teacher.agent.device
    desk = Desk((await head_who_is_told(here, hers)).agent)
    for command in ("revoke", "lost"):
        with pytest.raises(BadInput, match="no report of its own that says so has come here"):
            await desk.ask(command, device="PORTABLE  PETIT")
    with pytest.raises(BadInput):
        await desk.ask("ungrant", device="portable petit", space=[here.room.space.hex()])
    assert hers.hex() in {row["device"] for row in await desk.ask("devices")}


@attack(ROW, off={"sync_agent.school.device_names.RUNS_A_SCHOOL": frozenset(Role)})
async def test_a_teachers_laptop_keeps_no_name_that_the_server_says(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.replica.answering.news.RUNS_A_SCHOOL", frozenset(Role))
    here.room.frontage.responder.name_of = lambda _: CALLED
    await here.room.machine()
    await here.sync(here.teacher)
    assert CALLED not in (await device_names(here.teacher.agent)).values()


@attack(ROW, off={"sync_agent.portal.head.school.key_words": lambda *_: "…"})
async def test_who_is_to_choose_a_device_on_the_page_sees_words_that_nobody_chose(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    spy = here.spy.signing.public
    desk = Desk((await head_who_is_told(here, spy)).agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    async with portal(desk.agent) as surfer:
        page = await surfer.page(f"/school/{space}")
    assert re.search(rf"{CALLED} \([^)]*{three_words(spy)}\)", page)


@attack(ROW, off={"sync_agent.portal.head.losses.key_words": lambda device, _door: three_words(device)})
async def test_a_key_that_was_made_until_it_had_the_three_words_of_an_honest_computers_has_three_more(
    here: Here,
) -> None:
    alike = [new_device(Random(seed).randbytes) for seed in (3_365, 12_442)]
    assert len({three_words(keys.signing.public) for keys in alike}) == 1
    for keys in alike:
        await here.room.territory.let_in(keys, Role.MACHINE, here.room.space)
    head = await head_who_is_told(here, alike[0].signing.public)
    three = three_words(alike[0].signing.public)
    async with portal(head.agent) as surfer:
        told = re.findall(rf"{three}((?: \w+){{3}})", html.unescape(await surfer.page("/lost")))
    assert len(set(told)) == 2


@attack("a lent laptop's name outlives who had it", off={"sync_agent.upkeep.erasing.names_to_drop": nobodys})
async def test_a_laptops_name_goes_with_the_person_of_whom_it_tells(here: Here) -> None:
    room, territory = here.room, here.room.territory
    person = await territory.person("Léa", PersonRole.TEACHER, room.space)
    await here.name_the_spy(person)
    head = await head_who_is_told(here, here.spy.signing.public)
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await here.sync(head)
    eraser = Eraser(head.agent.replica, head.agent.holdings)
    await eraser.sweep(territory.clock())
    for days, remain in ((3, True), (5, False)):
        territory.clock.advance(days * DAY_MS)
        await eraser.sweep(territory.clock())
        await destroy_erased(head.agent)
        assert bool(await head.agent.replica.store.marks(CALLED_MARKS)) is remain


LENT = "Portable de Zéphyrine"


async def nothing_goes(_replica: object) -> None:
    """Reports stay."""


async def nobodys_device(*_told: object) -> set[bytes]:
    """All reports are taken."""
    return set()


async def forgotten_with_a_laptop(
    folder: Path, room: Classroom, head: Device, *, with_new_keys: bool = False
) -> tuple[bytes, RegisterRow]:
    """The key and a report of a laptop that was lent to who is forgotten since, on a head teacher's computer.

    `with_new_keys`: it had been told three times that it has a twin.
    """
    territory = room.territory
    person = await territory.person("Zéphyrine", PersonRole.PUPIL, room.space)
    keys = new_device(Random(77).randbytes)
    await territory.let_in(keys, Role.MACHINE, room.space, person=person)
    lent = await open_device(folder / "lent", territory, keys, LENT, 77)
    if with_new_keys:
        await _succeed(lent, {}, Told(3, Twin.LATER), lately=False)
        await lent.close()
        lent = await Agent.open(folder / "lent", now_ms=territory.clock, entropy=Random(5).randbytes)
        await Session(lent, MemoryTransport(room.frontage)).sync()
    await head.session.sync()
    key, name, report = lent.device, lent.enrolment.device_name, await own_report(lent)
    await lent.close()
    assert await keep_reports(head.agent.replica, [report.data], territory.clock())
    await note_called(head.agent, [(key, name)])
    assert (await device_names(head.agent)).get(key) == name
    assert LENT in name
    await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
    await head.session.sync()
    await pass_days(territory, 9, head)
    return key, report


@attack("a lent laptop's name outlives who had it", off={"protocol.replica.upkeep.eraser.forget_reports": nothing_goes})
async def test_what_a_laptop_reported_goes_with_the_person_of_whom_its_name_tells(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        head = await room.head()
        key, _ = await forgotten_with_a_laptop(tmp_path, room, head)
        assert key not in await device_names(head.agent)
        kept = b"".join(file.read_bytes() for file in head.agent.folder.glob(f"{DATABASE}*"))
        assert LENT.encode() not in kept


@attack(
    "a lent laptop's name outlives who had it",
    off={"protocol.replica.answering.reports.devices_of_forgotten": nobodys_device},
)
async def test_no_report_is_taken_of_a_laptop_whose_person_is_forgotten(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        head = await room.head()
        key, report = await forgotten_with_a_laptop(tmp_path, room, head)
        await keep_reports(head.agent.replica, [report.data], room.territory.clock())
        assert key not in await device_names(head.agent)


async def _noted_whoever_it_is(agent: Agent, called: Iterable[tuple[bytes, str]]) -> None:
    """As if whatever a server calls a device were kept."""
    await agent.replica.store.set_marks({CALLED_MARKS + key.hex(): name.encode() for key, name in called})


@attack("a lent laptop's name outlives who had it", off={"sync_agent.sync.session.note_called": _noted_whoever_it_is})
async def test_no_server_calls_a_laptop_again_as_who_was_forgotten_called_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with classroom(tmp_path) as room:
        head = await room.head()
        key, _ = await forgotten_with_a_laptop(tmp_path, room, head)
        assert key not in await device_names(head.agent)
        encode = SyncAnswer.encode
        monkeypatch.setattr(SyncAnswer, "encode", lambda answer: encode(replace(answer, called=((key, LENT),))))
        await head.session.sync()
        assert key not in await device_names(head.agent)


async def _looked_at_each_time(replica: Replica) -> frozenset[bytes]:
    return await forgotten_persons(replica.store)


@attack(
    "one machine keeps the server busy",
    off={"protocol.replica.at_work.replica.Replica.forgotten": _looked_at_each_time},
)
async def test_a_report_of_a_laptop_whose_person_is_forgotten_has_nobody_read_all_names(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        replica, now_ms = room.territory.replica, room.territory.clock()
        key, report = await forgotten_with_a_laptop(tmp_path, room, await room.head())
        unsigned = report.data[:-32] + bytes(32)
        costs = []
        for _ in range(2):
            with counted_work() as work:
                await keep_reports(replica, [unsigned], now_ms)
            costs.append(work.lines)
            await keep_reports(replica, [report.data], now_ms)
            with counted_work() as work:
                await keep_reports(replica, [report.data], now_ms)
            costs.append(work.lines)
            assert key not in {row.device for row in await replica.store.registers()}
            await room.territory.crowd(300, room.space)
        made_up, said_again, *more = costs
        assert more[0] < made_up + 300
        assert more[1] < said_again + 300


def of_these_keys(door: Door, device: bytes) -> set[bytes]:
    """Whose a device is by the rights of these keys alone."""
    return {right.person for right in door.authorities_of(device) if right.person is not None}


@attack(
    "a lent laptop's name outlives who had it",
    off={
        "protocol.replica.at_work.forgotten.persons_of": of_these_keys,
        "sync_agent.school.device_names.persons_of": of_these_keys,
    },
)
async def test_nor_do_new_keys_of_a_lent_laptop_that_call_themselves_as_before(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        head = await room.head()
        key, report = await forgotten_with_a_laptop(tmp_path, room, head, with_new_keys=True)
        await keep_reports(head.agent.replica, [report.data], room.territory.clock())
        assert key not in await device_names(head.agent)


def all_of_them(door: Door, device: bytes) -> set[bytes | None]:
    """Nobody is somebody, too."""
    return {right.person for right in door.authorities_of(device)}


@attack("a lent laptop's name outlives who had it", off={"protocol.replica.at_work.forgotten.persons_of": all_of_them})
async def test_no_right_in_nobodys_name_brings_back_what_a_lent_laptop_was_called(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        territory, head = room.territory, await room.head()
        key, report = await forgotten_with_a_laptop(tmp_path, room, head)
        given = territory.replica.door.authorities_of(key)[0]
        nameless = Grant(given.key, given.agreement, given.tls_sha256, Role.MACHINE, None, None)
        await territory.say(room.space, Kind.GRANT, nameless.encode())
        await head.session.sync()
        await keep_reports(head.agent.replica, [report.data], territory.clock())
        assert key not in await device_names(head.agent)


async def test_a_server_forgets_what_a_laptop_was_called_with_the_person_who_had_it(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as here:
        person, other = [await here.add_person(name, "teacher") for name in ("Zéphyrine", "Tom")]
        lent, toms = [
            await here.enrol(await here.invite("teacher", person=whose), name=name)
            for whose, name in ((person, LENT), (other, "Portable de Tom"))
        ]
        server = here.server
        erased = Erasure(bytes.fromhex(person)).encode()
        await server.write([Draft(server.replica.territory, Kind.ERASE, server.grant, erased)])
        for _ in range(2):
            await Eraser(server.replica, server.holdings).sweep(here.clock())
            await server.forget_names()
            here.clock.advance(8 * DAY_MS)
        called = {key: server.contacts.of(bytes.fromhex(key)).name for key in (lent.id, toms.id)}
        assert called == {lent.id: None, toms.id: "Portable de Tom"}


async def named_to(here: Here, head: Device, space: bytes) -> set[bytes]:
    """The devices whose names a server says with all entries of a space, if it knows every name."""
    replica = here.room.territory.replica
    readable = await replica.readable(head.agent.device)
    assert space in readable
    entries = tuple(stored.entry for stored in await replica.store.scan(space))
    page = SpacePage(
        Checkpoint(space, len(entries), EMPTY_CHAIN, await replica.fingerprint(space)), entries, (), more=False
    )
    return {key for key, _ in called_in([page], readable, replica.door, lambda _: CALLED)}


@attack(
    ASKS, off={"protocol.replica.answering.news._is_anothers_grant": lambda entry, _: entry.header.kind == Kind.GRANT}
)
async def test_a_head_hears_no_name_of_a_key_that_they_named_themselves(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    spy = here.spy.signing.public
    head = await head_who_is_told(here, spy)
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
    await desk.ask("grant", device=spy.hex(), space=[space])
    await here.sync(head)
    assert here.room.territory.replica.door.authorities_in(bytes.fromhex(space))
    assert spy in await named_to(here, head, here.room.space), "the server let it in there"
    assert spy not in await named_to(here, head, bytes.fromhex(space))


@attack(ASKS, off={"protocol.replica.answering.news._runs": lambda authority, *_: authority.role in RUNS_A_SCHOOL})
async def test_a_head_hears_no_name_of_those_who_run_the_territory(here: Here) -> None:
    territory, operator = here.room.territory, new_device(Random(7).randbytes)
    await territory.let_in(operator, Role.ADMIN, territory.id)
    head = await head_who_is_told(here, here.teacher.agent.device)
    assert operator.signing.public not in await named_to(here, head, territory.id)
