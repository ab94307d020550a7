"""A server goes on by itself with what could be read of its damaged database: what it lost, nobody has told it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import Code, Refused
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant
from protocol.rights.vouching import device_words
from protocol.roles import Role
from sync_server.handlers.by_kit.came_after_closing import came_after_closing
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.let_go import still_waited_for
from sync_server.handlers.store.restored import KIT_ALONE_MS
from sync_server.opened.app import Server
from tests.attacks.test_a_new_root_before_all_is_heard import again
from tests.attacks.test_who_a_thief_says_is_gone import cuts_it_off, is_refused, unheard, whose_pc_was_off
from tests.harness.as_it_came import IN_ITS_ORDER
from tests.harness.attack import attack
from tests.harness.damage import damaged
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device

COMES_ALONG = "a thief's device comes along into the next class"
NOT_WAITED_FOR = "a stolen key says whom nobody has to wait for"
CLOSED = "a class is closed while a line keeps its work from the server"
ANOTHER_ROOT = "another root takes over before all that the old one said is heard"
USED_CODE = "a used code is shown to a server that was made anew"


async def _never(_store: object) -> None:
    return None


AS_IF_NOTHING_WAS_LOST = {"sync_server.opened.app.last_loss": _never, **IN_ITS_ORDER}


async def _in_step(here: Town, times: int = 3) -> None:
    for _ in range(times):
        here.office.clock.advance(60_000)
        await here.sync()


async def _new_server_keys(here: Town) -> None:
    """As anybody replaces them once in a while; then all have heard of it."""
    await here.office.with_kit_in("rotate server", here.folder / "server" / "kit")
    await _in_step(here)


async def _reads_in_the_next_class(office: Office, person: str, key: bytes) -> bool:
    made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
    office.said.lines.clear()
    await office.do("grant", person=person, space=[made["space"]])
    return bytes.fromhex(made["space"]) in await office.server.replica.readable(key)


@attack(COMES_ALONG, off=AS_IF_NOTHING_WAS_LOST)
async def test_nor_one_that_a_copied_key_called_hers_before_the_database_was_damaged(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, person, _, _)):
        await _new_server_keys(here)
        server, spy = here.office.server, new_device(os.urandom)
        whose = Role.TEACHER, bytes.fromhex(person), None
        called = compose(
            author=server.keys.signing,
            space=here.space,
            kind=Kind.GRANT,
            grant=server.grant,
            at=at_from(here.office.clock()),
            payload=Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, *whose).encode(),
            salt=os.urandom(16),
        )
        await server.replica.admit([called], source=b"a PC", now_ms=here.office.clock())
        await here.sync()
        async with damaged(here) as office:
            await _in_step(here)
            assert not await _reads_in_the_next_class(office, person, spy.signing.public)
            told = " ".join(office.said.lines)
            assert device_words(own_keys(spy)) in told
            assert await _reads_in_the_next_class(office, person, laptop.agent.device), "that came in by a code of here"


async def test_in_an_ordinary_year_everybody_comes_along_and_nothing_is_told_after_such_a_day(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, person, _, _)):
        second = await here.device("teacher", person)
        await _new_server_keys(here)
        async with damaged(here) as office:
            await _in_step(here)
            for each in (laptop, second):
                assert await _reads_in_the_next_class(office, person, each.agent.device)
            assert not office.said.lines


@attack(NOT_WAITED_FOR, off=AS_IF_NOTHING_WAS_LOST)
async def test_and_one_that_it_had_cut_off_before_the_database_was_damaged(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        await _new_server_keys(here)
        machine = here.devices[-1]
        await cuts_it_off(here, machine)
        async with damaged(here) as office:
            here.office.clock.advance(8 * DAY_MS)
            await here.sync(*here.devices[:1] * 2)
            assert await unheard(office) == {machine.agent.device.hex()}
            await is_refused(tmp_path, office)


async def test_who_was_cut_off_by_a_command_before_that_is_waited_for_no_more(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await whose_pc_was_off(here)
        await here.office.do("revoke", device=machine.agent.device.hex())
        async with damaged(here) as office:
            await here.sync(*here.devices[:1] * 2)
            assert await unheard(office) == set()


@attack(CLOSED, off=AS_IF_NOTHING_WAS_LOST)
async def test_nor_while_nobody_has_brought_back_what_a_damaged_database_has_lost(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        work = await here.work(machine, item, pupil)
        await _in_step(here, 4)
        assert await unheard(here.office) == set()
        async with damaged(here, [work]) as office:
            assert machine.agent.device.hex() in await unheard(office)
            await is_refused(tmp_path, office)
            await _in_step(here)
            assert await unheard(office) == set(), "once it has compared its sets, and told what is lacking"
            assert (await office.do("space close", space=office.space))["unopened"] == 1


@attack(CLOSED, off=AS_IF_NOTHING_WAS_LOST)
async def test_nor_while_nobody_has_brought_back_what_was_moved_aside_as_bad(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        work = await here.work(machine, item, pupil)
        await _in_step(here, 4)
        server = here.office.server
        bad = "UPDATE entry SET signature = zeroblob(64) WHERE id = ?"
        await server.store.database.write(lambda connection: connection.execute(bad, (work,)).close())
        assert not (await here.office.do("verify"))["ok"]
        assert not await server.store.present([work])
        assert machine.agent.device.hex() in await unheard(here.office)
        await is_refused(tmp_path, here.office)
        await _in_step(here)
        assert await server.store.present([work])
        assert await unheard(here.office) == set()


@attack(ANOTHER_ROOT, off=AS_IF_NOTHING_WAS_LOST)
async def test_nor_before_machines_have_told_what_a_damaged_database_has_lost(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        here = scene.here
        await here.office.with_kit("erase", scene.old, person=[scene.pupil])
        await scene.heard()
        server = here.office.server
        said = await server.store.scan_kinds([Kind.ERASE])
        async with damaged(here, [one.id for one in said]) as office:
            rows = await office.do("person list", space=office.space)
            assert scene.pupil in {row["person"] for row in rows}
            assert any("damaged database" in line for line in office.said.lines)
            await scene.rotate_as_soon_as_may_be(office.server)
            rosters = [(await each.view(here.space)).roster for each in scene.replicas(office.server)]
            assert not [roster for roster in rosters if bytes.fromhex(scene.pupil) in roster.persons]
            assert (await office.do("status"))["restored"] is None, "all have told"


@attack(USED_CODE, off=AS_IF_NOTHING_WAS_LOST)
async def test_nor_on_one_whose_damaged_database_has_lost_that_it_was_used(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        code = await here.office.invite("machine")
        used = await here.office.enrol(code)
        await here.sync()
        async with damaged(here, [one.id for one in used.grants]) as office:
            office.clock.advance(60_000)
            with pytest.raises(Refused) as refused:
                await office.enrol(code, name="whoever found it")
            assert refused.value.code is Code.CODE_WRONG
            await office.enrol(await office.invite("machine"))


async def _only_who_is_let_in(server: Server) -> object:
    return await still_waited_for(server)


@attack(CLOSED, off={"sync_server.handlers.store.restored._waited_for": _only_who_is_let_in})
async def test_nor_while_a_machine_tells_nothing_whose_own_right_was_lost(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        await _in_step(here)
        await here.work(machine, item, pupil)
        key = machine.agent.device
        rights = [each.grant for each in here.office.server.replica.door.authorities_of(key)]
        async with damaged(here, rights) as office:

            async def is_named() -> bool:
                said = (await office.do("status"))["restored"]
                return said is not None and key.hex() in {row["device"] for row in said["machines"]}

            assert not office.server.replica.door.authorities_of(key)
            assert await is_named()
            await is_refused(tmp_path, office)
            for _ in range(3):
                await here.sync(machine)
            assert not await is_named()


@attack(CLOSED, off={"sync_server.handlers.store.restored._is_said_whoever_told": lambda *_: False})
async def test_nor_while_two_weeks_have_not_passed_since_nothing_of_it_could_be_read(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (_, machine, _, pupil, item)):
        new = await here.device("machine")  # of which the others have not heard
        await here.work(new, item, pupil)
        async with damaged(here, all_of_it=True) as office:
            for _ in range(3):
                await here.sync(*(each for each in here.devices if each is not new))
            assert office.server.replica.door.authorities_of(machine.agent.device)
            assert not office.server.replica.door.authorities_of(new.agent.device)
            await is_refused(tmp_path, office)
            office.clock.advance(KIT_ALONE_MS)
            assert (await office.do("status"))["restored"] is None


@attack(CLOSED, off={"protocol.replica.upkeep.rebuild.milliseconds_of": lambda _at: 0})
async def test_nor_because_the_computer_started_in_2009_after_the_power_cut(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await whose_pc_was_off(here)
        away_ms = 17 * 365 * DAY_MS
        here.office.clock.advance(-away_ms)
        async with damaged(here) as office:
            assert (await office.do("status"))["restored"] is not None
            here.office.clock.advance(away_ms)
            said = (await office.do("status"))["restored"]
            assert said is not None
            assert said["source"] == "damaged"


async def test_work_that_comes_for_a_closed_class_is_told_on_though_the_database_was_damaged(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await whose_pc_was_off(here)
        known = {stored.entry.id for stored in await here.office.server.store.scan(here.space)}
        for name in ("Noé", "Zoé"):  # of whom nobody else has heard
            await here.office.add_person(name, "pupil")
        lost = {stored.entry.id for stored in await here.office.server.store.scan(here.space)} - known
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("space close", kit, space=here.office.space, unheard_too=True)
        async with damaged(here, lost) as office:
            with suppress(Refused):
                await _in_step(here)
            (late,) = await came_after_closing(office.server)
            assert late.devices == (machine.agent.device,)
