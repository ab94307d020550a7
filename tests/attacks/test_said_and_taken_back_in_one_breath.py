"""What a copied key says again and takes back at once keeps nothing honest from being told (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container
from pathlib import Path
from typing import NamedTuple

import pytest

from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Revocation, Ruling
from protocol.replica.office.words_of_office import said_again
from protocol.rights.roster import Roster
from sync_agent.school.held_back import own_held_back
from sync_server.handlers.by_kit.said_again import BY_ITSELF, saying
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.next_year import NextYear, next_year

ROW = "a teacher's last word is undone"


class Held(NamedTuple):
    """A head teacher's erasure of Tom, her report of a stolen laptop, and the right of a PC, count no more."""

    year: NextYear
    head: Device


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    async with next_year(tmp_path, kept_for=__name__) as year:
        here, server = year.here, year.server
        head = await here.head_of_the_school()
        await year.sync()
        tom, lost = await here.office.add_person("Tom", "pupil"), await year.second_laptop(confirmed=False)
        space = await year.class_without_the_pc()
        await year.sync()
        desk = Desk(head.agent)
        await desk.ask("erase", person=[tom])
        await desk.ask("lost", device=lost.agent.device.hex())
        await desk.ask("grant", device=year.machine.agent.device.hex(), space=[space.hex()])
        here.devices.remove(lost)
        await year.sync()
        honest = [
            entry
            for entry in await here.office.server.store.scan_kinds([Kind.ERASE, Kind.REVOKE, Kind.GRANT])
            if entry.header.author == head.agent.device
        ]
        await year.thief_says(here.school, Kind.REVOKE, Revocation(head.agent.device, ()).encode())
        for entry in honest:
            header = entry.header
            again = await year.thief_says(header.space, Kind(header.kind), entry.payload or b"", target=header.target)
            if header.kind == Kind.ERASE:
                await year.thief_says(header.space, Kind.RULING, Ruling((), (again.id,)).encode())
                continue
            if header.kind == Kind.GRANT:
                end = Revocation(year.machine.agent.device, ()).encode()
                await year.thief_says(header.space, Kind.REVOKE, end, target=again.id)
                continue
            for given in {each.space: each for each in server.door.authorities_of(lost.agent.device)}.values():
                back = Grant(given.key, given.agreement, given.tls_sha256, given.role, given.person, None).encode()
                await year.thief_says(given.space, Kind.GRANT, back, parents=(again.id,))
        await here.office.do("grant", device=head.agent.device.hex(), space=[here.school.hex()])
        await year.sync()
        yield Held(year, head)
        here.devices.append(lost)


async def _all_kinds_alike(server: Server) -> set[bytes]:
    said = await server.store.scan_kinds(sorted(BY_ITSELF))
    counting = [one.id for one in said if one.id not in (await server.replica.view(one.header.space)).roster.held_back]
    return said_again(said, counting, saying)


@attack(ROW, off={"sync_server.handlers.by_kit.waiting._ids_said_again": _all_kinds_alike})
async def test_an_erasure_and_a_report_that_are_held_back_wait_though_a_copied_key_said_the_same_for_a_moment(
    held: Held,
) -> None:
    rows = await held.year.here.office.do("waiting")
    assert {row["kind"] for row in rows} >= {"erase", "revoke"}


def _not_held_back(roster: Roster, entry: Entry, _now_ms: int) -> bool:
    return entry.id not in roster.held_back


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.still_says": _not_held_back})
async def test_a_right_that_is_held_back_waits_though_a_copied_key_gave_the_same_for_a_moment(held: Held) -> None:
    rows = await held.year.here.office.do("waiting")
    assert "grant" in {row["kind"] for row in rows}


def _said_again(entry: Entry, _roster: Roster, again: Container[bytes]) -> bool:
    return entry.id in again


@attack(ROW, off={"sync_agent.school.held_back._is_so": _said_again})
async def test_so_does_the_computer_that_said_them(held: Held) -> None:
    kinds = {word.entry.header.kind for word in await own_held_back(held.head.agent)}
    assert kinds >= {Kind.ERASE, Kind.REVOKE}


@attack(ROW, off={"sync_agent.school.held_back.still_says": _not_held_back})
async def test_the_computer_that_gave_that_right_tells_of_it_too(held: Held) -> None:
    assert Kind.GRANT in {word.entry.header.kind for word in await own_held_back(held.head.agent)}
