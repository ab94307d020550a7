"""Whoever was cut off, or the thief of a server's keys, is the first to call a server that was made anew."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import Code, LocalFailure, Refused
from protocol.folds.hand_in_keys import content_key_of
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant
from protocol.roles import Role
from sync_agent.keys.key_wraps import reading_keys
from sync_server.keeping.beginning import begin
from sync_server.keeping.kit_file import Notes
from sync_server.opened.app import Server, opened
from tests.harness.attack import attack
from tests.harness.backups import make_backup, restore_backup
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.territory import new_device

ROW = "who was cut off is first at a server that was made anew"
FORGETFUL = {"sync_server.keeping.kit_file.said_in": lambda _text: ()}


async def _all_of(server: Server) -> list[Entry]:
    return [each.entry for space in server.replica.door.spaces() for each in await server.store.scan(space)]


@asynccontextmanager
async def _made_anew(here: Town, way: str) -> AsyncIterator[Server]:
    """The server that `restore`, or `init --recover`, makes of what lies in the town's folder a day later."""
    clock, folder, kit = here.office.clock, here.folder / "anew", here.folder / "server" / "kit"
    clock.advance(DAY_MS)
    if way == "restore":
        await restore_backup(folder, here.folder / "backup", kit, clock)
    else:
        await begin(
            folder,
            None,
            kit=None,
            passphrase_file=None,
            recover=kit,
            now_ms=clock,
            entropy=os.urandom,
            tell=lambda _line: None,
        )
    async with opened(folder, now_ms=clock, entropy=os.urandom) as server:
        here.frontage.responder = server.responder
        yield server


@attack(ROW, off=FORGETFUL)
async def test_a_stolen_laptop_that_the_kit_cut_off_is_out_of_a_restored_server_from_the_start(tmp_path: Path) -> None:
    await _a_stolen_laptop_is_out(tmp_path, "restore")


@attack(ROW, off=FORGETFUL)
async def test_so_it_is_of_one_that_is_made_of_the_kit_alone(tmp_path: Path) -> None:
    await _a_stolen_laptop_is_out(tmp_path, "recover")


async def _a_stolen_laptop_is_out(folder: Path, way: str) -> None:
    async with town(folder) as here:
        laptop, _, _, pupil, item = await here.class_at_work()
        old_copy = await _all_of(here.office.server)
        await make_backup(here.office.server, folder / "backup")
        here.office.clock.advance(DAY_MS)
        await here.office.with_kit_in("revoke", folder / "server" / "kit", device=laptop.agent.device.hex())
        async with _made_anew(here, way) as new:
            # the thief is first, and brings all that there was before the report
            await new.replica.admit(old_copy, source=b"a thief's PC", now_ms=here.office.clock(), bounded=False)
            with suppress(Refused):
                await here.sync(laptop)
            # a new PC of the room, by a new code, knows what this server says
            here.office = Office(new, here.office.clock, here.office.space)
            pc = await here.device("machine")
            await here.sync(pc, pc)
            work = await here.work(pc, item, pupil)
            sealed = (await pc.agent.replica.view(here.space)).coursework.hand_ins[work]
            assert content_key_of(sealed, reading_keys(laptop.agent)) is None


@attack(ROW, off=FORGETFUL)
async def test_whom_the_kit_had_forgotten_is_on_no_list_though_a_thief_brings_an_old_copy(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        pupil = at_work.pupil
        old_copy = await _all_of(here.office.server)
        await here.office.with_kit_in("erase", tmp_path / "server" / "kit", person=[pupil])
        async with _made_anew(here, "recover") as new:
            await new.replica.admit(old_copy, source=b"a thief's PC", now_ms=here.office.clock(), bounded=False)
            office = Office(new, here.office.clock, here.office.space)
            rows = await office.do("person list", space=office.space)
            assert {row["name"] for row in rows} == {"Mme Petit"}


@attack(ROW, off=FORGETFUL)
async def test_a_server_of_before_lets_nobody_in_at_one_that_is_restored_from_before_its_keys_were_replaced(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, _):
        stolen, spy = here.office.server.keys.signing, new_device(os.urandom)
        under = here.office.server.grant
        await make_backup(here.office.server, tmp_path / "backup")
        here.office.clock.advance(DAY_MS)
        await here.office.with_kit_in("rotate server", tmp_path / "server" / "kit")
        async with _made_anew(here, "restore") as new:
            grant = compose(
                author=stolen,
                space=here.space,
                kind=Kind.GRANT,
                grant=under,
                at=at_from(here.office.clock()),
                payload=Grant(
                    spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, os.urandom(16), None
                ).encode(),
                salt=os.urandom(16),
            )
            await new.replica.admit([grant], source=b"a thief's PC", now_ms=here.office.clock(), bounded=False)
            assert here.space not in await new.replica.readable(spy.signing.public)


def _at_the_end_alone(_notes: Notes, _said: Sequence[Entry]) -> None:
    """As if a command that fails had said nothing, and one that finds it said already, too."""


@attack(ROW, off={"sync_server.keeping.kit_file.Notes.take": _at_the_end_alone})
@pytest.mark.parametrize("command", ["revoke", "erase"])
async def test_what_was_said_by_a_command_that_then_failed_counts_from_the_start_all_the_same(
    tmp_path: Path, command: str
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (laptop, _, _, pupil, _)):
        old_copy, table = await _all_of(here.office.server), here.office.table
        does, place = table[command], tmp_path / "server" / "kit"
        params: dict[str, Any] = {"device": laptop.agent.device.hex()} if command == "revoke" else {"person": [pupil]}

        async def does_and_fails(*asked: Any) -> Any:
            await does(*asked)
            raise LocalFailure(Code.INTERNAL, "it says")

        here.office.table = {**table, command: does_and_fails}
        with pytest.raises(LocalFailure):
            await here.office.with_kit_in(command, place, **params)
        here.office.table = table
        await here.office.with_kit_in(command, place, **params)
        async with _made_anew(here, "recover") as new:
            await new.replica.admit(old_copy, source=b"a thief's PC", now_ms=here.office.clock(), bounded=False)
            roster = (await new.replica.view(here.space)).roster
            if command == "revoke":
                assert laptop.agent.device in roster.cut
            else:
                assert "Léa" not in {person.name for person in roster.persons.values()}
