"""The first digits that a row showed are not another's by the time somebody types them (docs/attacks.md)."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.identity import DeviceKeys, school_id
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonRecord, Revocation
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.erasures import in_force
from protocol.roles import PersonRole, Role
from sync_agent.app import Agent
from sync_agent.school.measures import schools_of
from sync_server.handlers.by_kit.waiting import list_waiting
from sync_server.opened.app import Server
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving, spy
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ROW = "the first digits of what waits, or is erased, are another's once they are typed"
DIGITS = 3
"""Eight are found as well, by a thief with some minutes."""


async def _of_this_moment(server: Server, key: str) -> Iterable[bytes]:
    """Where first digits were looked for, as it was: among what waits, or is erased, when they are typed."""
    if key == "covers":
        return [covers for _, covers in await in_force(server.replica)]
    rows = [*await list_waiting(server), *await list_waiting(server, refused=True)]
    return {one for each in rows for one in (each.entry.id, each.entry.header.author)}


async def _of_the_schools_now(agent: Agent, named: str | None) -> bytes:
    (found,) = (space for space in await schools_of(agent) if space.hex().startswith(named or ""))
    return found


NOW: dict[str, object] = {"sync_server.operations.abbreviated._ever": _of_this_moment}


@pytest.fixture
async def thieving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Thieving]:
    monkeypatch.setattr("protocol.replica.console.abbreviations.SHORTEST_CHARS", DIGITS)
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


async def _a_right_that_waits(thieving: Thieving) -> tuple[str, Device, str, bytes]:
    """Its id: an honest one for a laptop of M. Roy's, by a head's computer that is reported since; he and the class."""
    here, do = thieving.here, thieving.year.do
    head = await here.head_of_the_school()
    roy = await here.office.add_person("M. Roy", "teacher")
    laptop = await here.device("teacher", roy)
    await here.sync()
    made = await Desk(head.agent).ask("space add", name="CE1", year="2026-2027")
    await Desk(head.agent).ask("grant", device=laptop.agent.device.hex(), space=[made["space"]])
    await here.sync()
    await thieving.is_stolen()
    await do("lost", device=head.agent.device.hex(), since="5h", anyway=True)
    (row,) = (row for row in await do("waiting") if row["kind"] == "grant")
    return row["id"], laptop, roy, bytes.fromhex(made["space"])


async def _takes_its_place(
    thieving: Thieving, shown: str, honest: Device, roy: str, space: bytes, his: DeviceKeys
) -> Entry:
    """What was shown waits no more; a right of the thief's device does, by a head of his own, which begins alike."""
    other = spy()
    right = await thieving.brings(Kind.GRANT, thieving.let_in(other, Role.HEAD), space=thieving.here.school)
    office, payload = thieving.office, thieving.let_in(his, person=roy)
    tried = (
        compose(
            author=other.signing, space=space, kind=Kind.GRANT, grant=right.id, at=thieving.clock() << 16,
            payload=payload, salt=number.to_bytes(16, "big"),
        )
        for number in itertools.count()
    )  # fmt: skip
    false = next(each for each in tried if each.id.hex().startswith(shown[:DIGITS]))
    assert (await office.server.replica.admit([false], source=b"a PC", now_ms=thieving.clock())).admitted
    await thieving.brings(Kind.REVOKE, Revocation(other.signing.public, ()).encode(), space=thieving.here.school)
    await thieving.brings(Kind.GRANT, thieving.let_in(honest.agent.keys, person=roy), space=space)
    await note_arrivals(office.server.store, thieving.clock())
    begin_so = [row["id"] for row in await thieving.year.do("waiting") if row["id"].startswith(shown[:DIGITS])]
    assert begin_so == [false.id.hex()], "nothing else that waits begins so by now"
    return false


@pytest.mark.parametrize("command", ["accept", "refuse"])
@attack(ROW, off=NOW)
async def test_the_first_digits_that_waiting_has_shown_are_not_those_of_a_right_that_a_thief_has_wait_since(
    thieving: Thieving, command: str
) -> None:
    his, (shown, laptop, roy, space) = spy(), await _a_right_that_waits(thieving)
    false = await _takes_its_place(thieving, shown, laptop, roy, space, his)
    with pytest.raises(BadInput, match="is the beginning of") as refused:
        await thieving.year.do(command, named=[shown[:DIGITS]])
    assert refused.value.code is Code.UNKNOWN_HAND_IN
    assert all(one in refused.value.message for one in (shown, false.id.hex())), "the ids say which"
    assert not await thieving.reads(his, space)


async def test_what_waits_is_accepted_by_first_digits_that_nothing_else_here_has(thieving: Thieving) -> None:
    shown, laptop, _, space = await _a_right_that_waits(thieving)
    assert not await thieving.reads(laptop, space)
    assert await thieving.year.do("accept", named=[shown[:16].upper()]) == {"accepted": 1}
    assert await thieving.reads(laptop, space)


@attack(ROW, off=NOW)
async def test_who_was_forgotten_honestly_is_not_shown_again_by_the_digits_of_another_whom_the_key_had_erased(
    thieving: Thieving,
) -> None:
    pupil, do = thieving.year.pupil, thieving.year.do
    twin = pupil[:8] + os.urandom(12).hex()
    await do("erase", person=[pupil], renamed_too=True)
    await thieving.brings(Kind.PERSON, PersonRecord("Jules", PersonRole.PUPIL).encode(), subject=bytes.fromhex(twin))
    await do("erase", person=[twin], renamed_too=True)  # what the copied key says is this server's word as well
    await do("unerase", covers=twin)
    with pytest.raises(BadInput, match="is the beginning of 2 ids") as refused:
        await do("unerase", covers=twin[:8])
    assert refused.value.code is Code.UNKNOWN_PERSON
    assert all(person in refused.value.message for person in (pupil, twin)), "the ids say which"
    assert pupil in {covers.hex() for _, covers in await in_force(thieving.office.server.replica)}


async def test_who_is_erased_is_shown_again_by_first_digits_that_nothing_else_here_has(thieving: Thieving) -> None:
    pupil, do = thieving.year.pupil, thieving.year.do
    await do("erase", person=[pupil], renamed_too=True)
    assert (await do("unerase", covers=pupil[:8].upper()))["taken_back"] == 1
    assert not await in_force(thieving.office.server.replica)


@attack(ROW, off={"sync_agent.school.measure_commands._school": _of_the_schools_now})
async def test_a_heads_drill_is_not_ordered_in_a_thiefs_school_whose_id_begins_as_that_of_hers(
    thieving: Thieving,
) -> None:
    here, office, head = thieving.here, thieving.office, await thieving.here.head_of_the_school()
    codes = (f"{number:07d}X" for number in itertools.count())
    territory, typed = office.server.replica.territory, here.school.hex()[:DIGITS]
    uai = next(one for one in codes if school_id(territory, one).hex().startswith(typed))
    await thieving.is_stolen()
    await thieving.year.do("space add", name="CM2 B", school=uai)
    await thieving.brings(
        Kind.GRANT, thieving.let_in(head.agent.keys, Role.HEAD), space=(false := school_id(territory, uai))
    )
    await thieving.brings(Kind.REVOKE, Revocation(head.agent.device, ()).encode(), space=here.school)
    await here.sync()
    assert await schools_of(head.agent) == [false]
    with pytest.raises(BadInput, match="is the beginning of 2 spaces") as refused:
        await Desk(head.agent).ask("drill start", school=typed, minutes=30)
    assert all(one.hex() in refused.value.message for one in (here.school, false)), "the ids say which"
