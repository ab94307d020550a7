"""A PC in wrong hands says that it holds something of a class that it never saw: nobody lets it in “again”."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from sync_agent.sync.asking import Asking
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import Server
from tests.attacks.test_closed_to_who_would_tell import calls_for_an_hour, lets_in, moved_elsewhere, right_of
from tests.attacks.test_refused_once import is_not_closed, unheard
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import thief_says
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town

ROW = "a stolen key says whom nobody has to wait for"


async def _nobody(_server: Server, _devices: Iterable[bytes], _space: bytes) -> frozenset[bytes]:
    """As if who says that it was in a class had been let in there."""
    return frozenset()


ITS_WORD_IS_ENOUGH = {
    f"sync_server.handlers.{room}.never_let_in": _nobody
    for room in ("overview.let_go", "by_kit.not_heard", "store.restored")
}


async def _class_with_feedback(here: Town) -> Device:
    """A class in which a teacher has answered; the PC of another class of the school is in wrong hands."""
    teacher, machine, _, pupil, item = await here.class_in_step()
    work = await here.work(machine, item, pupil)
    await calls_for_an_hour(here)
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
    await Desk(teacher.agent).ask("feedback", id=work.hex(), text="Viens me parler, Léa.", mark="8/20", redo=False)
    other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    return await here.device("machine", space=other)


def _says_that_it_was_in(monkeypatch: pytest.MonkeyPatch, device: Device, space: bytes) -> None:
    """The thief's own program."""
    honest = Asking._ended

    async def ended(asking: Asking, spaces: list[bytes]) -> tuple[bytes, ...]:
        if asking._agent is device.agent:
            return tuple(sorted({space}.difference(spaces)))
        return await honest(asking, spaces)

    monkeypatch.setattr(Asking, "_ended", ended)


@attack(ROW, off=ITS_WORD_IS_ENOUGH)
async def test_a_pc_that_says_that_it_was_in_a_class_is_not_let_in_again_where_nobody_ever_let_it_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        seat = await _class_with_feedback(here)
        _says_that_it_was_in(monkeypatch, seat, here.space)
        await calls_for_an_hour(here)
        key = seat.agent.device.hex()
        assert await unheard(here) == [(key, 0)]
        (row,) = (await here.office.do("space close", space=here.office.space))["unheard"]
        said = " ".join(here.office.said.lines)
        assert row["let_in"] is False
        assert "nobody is known to have let it in" in said
        assert "cut off from it" not in said
        with pytest.raises(BadInput, match="nobody is known to have let it in there") as refused:
            await here.office.do("grant", device=key, space=[here.office.space])
        assert refused.value.code is Code.NOT_YET
        await calls_for_an_hour(here)
        assert here.space not in await seat.agent.spaces()
        assert not await seat.agent.replica.store.of_kinds(here.space, [Kind.FEEDBACK])
        await is_not_closed(here, tmp_path)
        await here.office.do("ungrant", device=key, space=[here.office.space])
        assert await unheard(here) == []


@attack(ROW, off=ITS_WORD_IS_ENOUGH)
async def test_nor_by_a_right_that_a_stolen_key_gave_it_once_that_key_is_replaced(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        seat = await _class_with_feedback(here)
        office, under = here.office, here.office.server.grant
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        await thief_says(
            office,
            Draft(here.space, Kind.GRANT, under, lets_in(await right_of(seat))),
            Draft(here.space, Kind.REVOKE, under, Revocation(seat.agent.device, ()).encode()),
        )
        await calls_for_an_hour(here)
        await note_arrivals(office.server.store, office.clock())
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        assert seat.agent.device.hex() not in dict(await unheard(here))
        with pytest.raises(BadInput, match="nobody is known to have let it in there"):
            await office.do("grant", device=seat.agent.device.hex(), space=[office.space])


async def test_one_that_says_nothing_of_it_is_let_in_by_the_same_command_without_a_question(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        seat = await _class_with_feedback(here)
        await calls_for_an_hour(here)
        assert await unheard(here) == []
        await here.office.do("grant", device=seat.agent.device.hex(), space=[here.office.space])
        await calls_for_an_hour(here)
        assert here.space in await seat.agent.spaces()


async def test_nor_is_one_asked_about_that_comes_back_into_a_class_from_which_it_was_moved(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, _, _)):
        key = machine.agent.device.hex()
        other = (await here.office.do("space add", name="CM1", school="0180001D", year="none"))["space"]
        await here.office.do("grant", device=key, space=[other])
        await here.office.do("ungrant", device=key, space=[here.office.space])
        await calls_for_an_hour(here)
        assert here.office.server.contacts.of(machine.agent.device).untold_of(here.space)
        await here.office.do("grant", device=key, space=[here.office.space])
        await calls_for_an_hour(here)
        assert here.space in await machine.agent.spaces()


async def test_nor_one_that_a_stolen_key_has_cut_off_there(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, _, _)):
        await moved_elsewhere(here, machine)
        await calls_for_an_hour(here)
        (row,) = (await here.office.do("space close", space=here.office.space))["unheard"]
        assert row["let_in"] is True
        assert "cut off from it, by a word that was not said here" in " ".join(here.office.said.lines)
        await here.office.do("grant", device=machine.agent.device.hex(), space=[here.office.space])
        await calls_for_an_hour(here)
        assert here.space in await machine.agent.spaces()
