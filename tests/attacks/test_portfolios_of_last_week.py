"""A class is taken along on a laptop that did not hear what came in the last days, and nothing said so.

Who has a line holds it up for some days, and needs no key for that; nor is anybody needed: the laptop was off
(docs/adr/0380).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from sync_agent.coursework.known_as_of import LATELY_MS, is_of_late
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_what_laptops_were_kept_from_telling import SAID, _answers, _pass, _two_teach
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town
from tests.harness.portfolios import remarks_in

ROW = "a class is taken along by a laptop that was kept from hearing"
WHATEVER_THE_DAY = {"sync_agent.coursework.known_as_of.is_of_late": lambda *_, **__: True}
UNASKED = "as it was at 20.*since has not come.*--as-it-is-here"


@dataclass(frozen=True)
class LastDays:
    """A class of two teachers, of which the first one's laptop is to hear nothing of what comes on the last day."""

    here: Town
    second: Device
    work: bytes

    @property
    def teacher(self) -> Device:
        return self.here.devices[0]

    async def last_day(self) -> None:
        """Its line is held from noon on: a second work comes, and the first is answered."""
        machine, view = self.here.devices[1], await self.here.office.server.replica.view(self.here.space)
        first = view.coursework.hand_ins[self.work]
        await _answers(self.second, self.work)
        late = await self.here.work(machine, first.item, first.person.hex())
        for _ in range(2):
            await self.here.sync(*self._others)
        await Desk(self.second.agent).ask("confirm-opened", id=late.hex())

    async def held(self, days: int) -> None:
        await _pass(self.here, days, self.teacher)

    async def portfolios(self, **params: bool) -> tuple[int, list[str]]:
        """How many works are in them, and what is said there of any."""
        files = await Desk(self.teacher.agent).files("portfolio", space=self.here.office.space, **params)
        return sum(path.endswith("reponse.odt") for path in files), list(remarks_in(files).values())

    @property
    def _others(self) -> list[Device]:
        return [device for device in self.here.devices if device is not self.teacher]


@pytest.fixture
async def last(tmp_path: Path) -> AsyncIterator[LastDays]:
    async with _two_teach(tmp_path) as (here, second, work):
        yield LastDays(here, second, work)


@attack(ROW, off=WHATEVER_THE_DAY)
async def test_no_portfolio_is_written_unasked_of_a_class_of_which_nothing_has_come_for_days(
    last: LastDays, tmp_path: Path
) -> None:
    await last.last_day()
    await last.held(4)
    with pytest.raises(BadInput, match=f"nothing has been written yet: .* {UNASKED}") as caught:
        await last.portfolios()
    assert caught.value.code is Code.NOT_YET
    assert await last.portfolios(as_it_is_here=True) == (1, []), "a laptop with no server in reach writes what it has"
    for _ in range(2):
        await last.here.sync()
    works, (said,) = await last.portfolios()
    assert works == 2
    assert SAID in said
    kit = kit_in(tmp_path / "server" / "kit", None)
    assert (await last.here.office.with_kit("space close", kit, space=last.here.office.space))["closed"] is True


@attack(ROW, off=WHATEVER_THE_DAY)
async def test_nor_are_lessons_carried_over_unasked(last: LastDays) -> None:
    office, desk = last.here.office, Desk(last.teacher.agent)
    following = (await office.do("space add", name="CM2", school="0180001D"))["space"]
    await office.do("grant", device=last.teacher.agent.device.hex(), space=[following])
    await last.here.sync()
    await last.held(4)
    known = {"from": office.space, "to": following}
    with pytest.raises(BadInput, match=f"nothing has been carried over yet: .* {UNASKED}") as caught:
        await desk.ask("carry-over", **known)
    assert caught.value.code is Code.NOT_YET
    await desk.ask("carry-over", **known, as_it_is_here=True)
    await last.here.sync()
    await desk.ask("carry-over", **known)


async def _says_nothing(*_: object) -> None: ...


@attack(ROW, off={"sync_agent.coursework.known_as_of.tell_as_of": _says_nothing})
async def test_of_the_last_hours_it_is_told_as_of_when_the_class_is_known(last: LastDays) -> None:
    desk = Desk(last.teacher.agent)
    (row,) = (await desk.ask("status"))["spaces"]
    await last.last_day()
    assert await last.portfolios() == (1, [])
    await desk.files("portfolio", space=last.here.office.space)
    assert desk.told == [f"the class as this computer knew it at {row['proven_at']}"]
    view = await last.here.office.server.replica.view(last.here.space)
    await desk.files("export-person", person=view.coursework.hand_ins[last.work].person.hex())
    assert f"“{row['name']}” as this computer knew it at {row['proven_at']}" in desk.told


@attack(ROW, off={"sync_agent.coursework.known_as_of.is_of_late": lambda known_ms, **_: known_ms is not None})
async def test_a_clock_that_was_set_back_by_days_proves_nothing(last: LastDays) -> None:
    await last.last_day()
    last.here.office.clock.advance(-3 * DAY_MS)
    with pytest.raises(BadInput, match=UNASKED):
        await last.portfolios()


@pytest.mark.parametrize("skew_ms", [0, 40 * DAY_MS, -40 * DAY_MS])
def test_a_clock_that_is_wrong_all_the_time_is_put_right_by_what_it_was_off(skew_ms: int) -> None:
    known_ms = 1_800_000_000_000
    for later_ms, late in ((0, True), (LATELY_MS, True), (LATELY_MS + 1, False), (-LATELY_MS - 1, False)):
        assert is_of_late(known_ms, now_ms=known_ms + skew_ms + later_ms, skew_ms=skew_ms) is late
    assert not is_of_late(None, now_ms=known_ms, skew_ms=0), "no server has proven anything yet"
