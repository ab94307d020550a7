"""What a teacher has said on a laptop that reaches nobody goes with the class, as the work on a PC does.

Who has a school's line needs no key for that; nor is anybody needed: the laptop was at home (docs/adr/0374).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.by_kit.came_after_closing import closing_notices
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.devices import Device as Listed
from sync_server.handlers.overview.devices import DeviceState
from sync_server.opened.app import Server
from sync_server.web.views import notice_of
from sync_server.web.wording import Words
from tests.attacks.test_classes_whose_machines_told_nothing import PCS_ALONE
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.office_devices import Town, town

ROW = "a class is closed while a line keeps its work from the server"
SAID = "Un vrai talent, continue !"


async def _pass(here: Town, days: int, *without: Device) -> None:
    for _ in range(days):
        here.office.clock.advance(DAY_MS)
        await here.sync(*(device for device in here.devices if device not in without))


async def _look(here: Town) -> tuple[list[str], list[str], list[str]]:
    """Whose laptops and PCs are asked about, and which are told: offices, and who was not heard of since."""
    told = await here.office.do("space close", space=here.office.space)
    asked, offices, absent = (
        [row["device"] for row in told[key]] for key in ("unheard", "unheard_offices", "unheard_since_let_in")
    )
    return asked, offices, absent


@asynccontextmanager
async def _two_teach(folder: Path, *, role: str = "teacher") -> AsyncIterator[tuple[Town, Device, bytes]]:
    """A class with work that a second teacher answers on a laptop of theirs, three weeks before it is closed."""
    async with town(folder) as here:
        teacher, machine, _, pupil, item = await here.class_in_step()
        work = await here.work(machine, item, pupil)
        martin = await here.office.add_person("M. Martin", "teacher", here.office.space, here.school.hex())
        second = await here.device(role, martin, here.school.hex() if role == "head" else None)
        for _ in range(3):
            await here.sync()
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        for _ in range(3):
            await here.sync()
        yield here, second, work


async def _answers(second: Device, work: bytes) -> None:
    await Desk(second.agent).ask("feedback", id=work.hex(), text=SAID, mark="19/20", redo=False)


@attack(ROW, off=PCS_ALONE)
async def test_a_class_is_not_closed_while_what_was_said_on_a_teachers_laptop_has_reached_nobody(
    tmp_path: Path,
) -> None:
    async with _two_teach(tmp_path) as (here, second, work):
        await _answers(second, work)
        await _pass(here, 21, second)
        assert await _look(here) == ([second.agent.device.hex()], [], [])
        kit, space = kit_in(tmp_path / "server" / "kit", None), here.office.space
        with pytest.raises(Exception, match=r"said there is not known here: PC 3 .*--unheard-too"):
            await here.office.with_kit("space close", kit, space=space)
        for _ in range(2):
            await here.sync()
        assert await _look(here) == ([], [], []), "once it has told, nobody is asked any more"
        assert (await here.office.with_kit("space close", kit, space=space))["closed"] is True


@attack(ROW, off={"sync_server.handlers.by_kit.not_heard.AT_WORK": ()})
async def test_nor_while_a_head_who_teaches_in_it_is_kept_from_telling(tmp_path: Path) -> None:
    async with _two_teach(tmp_path, role="head") as (here, second, work):
        await _pass(here, 21, second)
        assert await _look(here) == ([], [second.agent.device.hex()], []), "who has done nothing there is told of"
        await here.sync()
        await _answers(second, work)
        await here.sync()
        await _pass(here, 21, second)
        assert await _look(here) == ([second.agent.device.hex()], [], [])


@attack(ROW, off={"sync_server.handlers.by_kit.came_after_closing._COUNTED": (Kind.HAND_IN,)})
async def test_what_it_says_of_a_closed_class_is_told_at_the_server_and_can_be_shown_again(tmp_path: Path) -> None:
    async with _two_teach(tmp_path) as (here, second, work):
        await _answers(second, work)
        await _pass(here, 21, second)
        kit, space = kit_in(tmp_path / "server" / "kit", None), here.office.space
        await here.office.with_kit("space close", kit, space=space, unheard_too=True)
        await _pass(here, 2, second)
        assert (await here.office.do("status"))["came_after_closing"] == []
        await here.sync()
        rows = (await here.office.do("status"))["came_after_closing"]
        told = [(row["hand_ins"], row["said"], row["devices"]) for row in rows]
        assert told == [(0, 1, [second.agent.device.hex()])]
        (notice,) = await closing_notices(here.office.server)
        assert "leçons d'enseignants 1" in notice_of(Words("fr", here.office.clock()), notice).title
        await here.office.with_kit("unerase", kit, covers=space, counting_too=True)
        for _ in range(2):
            await here.sync()
        view = await here.devices[0].agent.replica.view(here.space)
        assert [note.record.text for note in view.coursework.hand_ins[work].remarks] == [SAID]


async def _moved(here: Town, second: Device) -> None:
    """Let into another class, and out of this one."""
    other = await here.office.do("space add", name="CM1", school="0180001D")
    device = second.agent.device.hex()
    await here.office.do("grant", device=device, space=[other["space"]])
    await here.office.do("ungrant", device=device, space=[here.office.space])


async def _revoked(here: Town, second: Device) -> None:
    await here.office.do("revoke", device=second.agent.device.hex())


async def _left(here: Town, second: Device) -> None:
    (right,) = await second.agent.replica.authorities(second.agent.device)
    assert right.person is not None
    await here.office.do("person retire", person=right.person.hex())


@pytest.mark.parametrize("ends", [_moved, _revoked, _left])
async def test_whose_right_has_ended_by_an_honest_word_is_waited_for_no_more(
    tmp_path: Path, ends: Callable[[Town, Device], Awaitable[None]]
) -> None:
    async with _two_teach(tmp_path) as (here, second, _):
        await ends(here, second)
        await _pass(here, 21, second)
        assert await _look(here) == ([], [], [])


async def _whoever_is_out(_server: Server, devices: Iterable[Listed], _space: bytes) -> frozenset[bytes]:
    return frozenset(each.id for each in devices if each.state is DeviceState.RETIRED)


@attack(ROW, off={"sync_server.handlers.by_kit.not_heard.let_go_in": _whoever_is_out})
@pytest.mark.parametrize("role", ["teacher", "head"])
async def test_nor_is_a_laptop_gone_that_a_copied_key_has_cut_off(tmp_path: Path, role: str) -> None:
    async with _two_teach(tmp_path, role=role) as (here, second, _):
        under = here.office.server.grant
        cut = Revocation(second.agent.device, ()).encode()
        await thief_says(here.office, Draft(here.school, Kind.REVOKE, under, cut))
        await _pass(here, 21, second)
        asked, offices, _ = await _look(here)
        assert [*asked, *offices] == [second.agent.device.hex()]


def _by_the_highest(rights: Iterable[Authority]) -> bool:
    return any(each.role is Role.HEAD for each in rights)


@attack(ROW, off={"sync_server.handlers.by_kit.not_heard._runs_alone": _by_the_highest})
async def test_nor_is_one_an_office_alone_that_a_copied_key_calls_a_heads(tmp_path: Path) -> None:
    async with _two_teach(tmp_path) as (here, second, _):
        (first,) = await second.agent.replica.authorities(second.agent.device)
        given = Grant(first.key, first.agreement, first.tls_sha256, Role.HEAD, first.person, None)
        under = here.office.server.grant
        await thief_says(here.office, Draft(here.school, Kind.GRANT, under, given.encode()))
        await _pass(here, 21, second)
        assert await _look(here) == ([second.agent.device.hex()], [], [])


async def test_a_laptop_that_lies_somewhere_for_years_is_told_of_and_keeps_no_class_from_being_closed(
    tmp_path: Path,
) -> None:
    async with _two_teach(tmp_path) as (here, second, _):
        (right,) = await second.agent.replica.authorities(second.agent.device)
        assert right.person is not None
        new = await here.device("teacher", right.person.hex())
        await _pass(here, 40, second)
        other = (await here.office.do("space add", name="CM1", school="0180001D"))["space"]
        await here.office.do("grant", person=right.person.hex(), space=[other])
        await _pass(here, 2, second)
        told = await here.office.do("space close", space=other)
        rows = {key: [row["device"] for row in told[key]] for key in ("unheard", "unheard_since_let_in")}
        assert rows == {"unheard": [], "unheard_since_let_in": [second.agent.device.hex()]}
        assert any("not heard of since" in line and "revoke" in line for line in here.office.said.lines)
        assert new.agent.device.hex() not in str(rows)
