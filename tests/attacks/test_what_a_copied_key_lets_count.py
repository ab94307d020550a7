"""What a finder said on a lost laptop, which a report holds back, counts by a ruling of a copied server's key.

docs/adr/0493.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.clock import DAY_MS
from protocol.model.entry import Kind
from protocol.model.structure import Ruling
from protocol.rights.roster import LetCount
from sync_agent.machine.marks import LET_COUNT_SEEN_MARKS
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop, confirm_each_other
from tests.harness.portal import portal, words_in
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "what was said on a lost laptop counts by a ruling of the copied key's"
HERS = "Ce que dit Mme Petit 08/20 Des efforts."
RULED = "Écrit sur un ordinateur dont l'accès a été coupé, puis compté par une décision."
FINDERS = "20/20 Parfait, bravo !"
TOLD = "chose dite sur un ordinateur dont l'accès a été coupé compte de nouveau"


@dataclass
class Found:
    """A class whose teacher has lost one of her two laptops, as the head has reported; its finder answers a pupil."""

    here: SpiedClass
    head: Device
    lost: Device

    async def sync(self) -> None:
        for _ in range(2):
            await self.here.sync(self.here.machine, self.here.teacher, self.head)

    async def rule(self, *, accept: bool) -> None:
        """A ruling by the server's key on what the finder said."""
        said = await self.here.room.territory.replica.store.authored(self.here.room.space, self.lost.agent.device)
        word = next(each.id for each in said if each.header.kind == Kind.FEEDBACK)
        ruling = Ruling((word,), ()) if accept else Ruling((), (word,))
        await self.here.room.territory.say(self.here.room.space, Kind.RULING, ruling.encode())
        await self.sync()

    async def page(self, device: Device, address: str) -> str:
        async with portal(device.agent) as surfer:
            if device is self.here.machine:
                await surfer.send("/who", "/who", {"person": self.here.room.pupil_person.hex(), "back": "/"})
            return _read(await surfer.page(address))

    @property
    def work(self) -> str:
        return f"/work/{self.here.work.hex()}"


def _read(page: str) -> str:
    return words_in(page).replace("&#39;", "'")


@asynccontextmanager
async def found_laptop(tmp_path: Path, *, answered: bool) -> AsyncIterator[Found]:
    async with spied_class(tmp_path) as here:
        territory = here.room.territory
        head, _ = await confirmed_head(here)
        lost = await another_laptop(here, here.teacher)
        for _ in range(2):
            await here.sync(lost, here.machine, here.teacher, head)
        found = Found(here, head, lost)
        if answered:
            await _answer(here.teacher, here, "Des efforts.", "08/20")
            for _ in range(2):
                await here.sync(lost, here.machine, here.teacher, head)
        territory.clock.advance(DAY_MS)
        await Desk(head.agent).ask("lost", device=lost.agent.device.hex())
        await here.sync(head)
        await _answer(lost, here, "Parfait, bravo !", "20/20")
        said = await lost.agent.replica.store.authored(here.room.space, lost.agent.device)
        await territory.replica.admit(said, source=b"a neighbour", now_ms=territory.clock())
        await found.sync()
        assert FINDERS not in await found.page(here.machine, found.work)
        yield found


async def _answer(device: Device, here: SpiedClass, text: str, mark: str) -> None:
    await Desk(device.agent).ask("feedback", id=here.work.hex(), text=text, mark=mark, redo=False)


@attack(ROW, off={"protocol.folds.remarks.Remarks._is_let_count": lambda *_: False})
async def test_what_a_finder_said_takes_the_place_of_nothing_that_she_said(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        await found.rule(accept=True)
        page = await found.page(found.here.machine, found.work)
        assert HERS in page
        assert f"Ce que dit Mme Petit {RULED} {FINDERS}" in page
        assert page.index(HERS) < page.index(FINDERS)
        works = (await found.here.machine.agent.replica.view(found.here.room.space)).coursework.hand_ins
        assert (first := works[found.here.work].feedback) is not None
        assert first.record.mark == "08/20"


@attack(ROW, off={"protocol.rights.roster._let_count": lambda *_: {}})
async def test_her_portfolio_tells_what_of_it_counts_by_a_ruling_alone(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        await found.rule(accept=True)
        desk = Desk(found.here.teacher.agent)
        files = await desk.files("portfolio", space=found.here.room.space.hex(), person=None)
        (place,) = (path for path, data in files.items() if b"Parfait, bravo !" in data)
        assert any(f"in it: {place.removesuffix('.txt')}, which was held back" in line for line in desk.told)


async def test_what_she_said_on_a_laptop_that_was_found_again_and_is_hers_takes_its_place_once_it_is_accepted(
    tmp_path: Path,
) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        here = found.here
        await Desk(found.head.agent).ask(
            "grant", device=found.lost.agent.device.hex(), space=[here.room.space.hex()], look_at=True
        )
        for _ in range(2):
            await here.sync(found.head, found.lost, here.machine, here.teacher)
        await confirm_each_other(here, here.teacher, found.lost)
        await here.sync(here.teacher, found.lost)
        await found.rule(accept=True)
        page = await found.page(here.machine, found.work)
        assert f"Ce que dit Mme Petit {RULED} {FINDERS}" in page
        assert HERS not in page


@attack(ROW, off={"sync_agent.hand_ins.own_words._is_let_count": lambda *_: False})
async def test_the_form_of_her_correction_does_not_hold_what_a_finder_said(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=False) as found:
        await found.rule(accept=True)
        async with portal(found.here.teacher.agent) as surfer:
            page = await surfer.page(found.work)
        form = page.partition('id="h-feedback"')[2]
        assert "bravo" not in form
        assert "20/20" not in form
        assert f"{RULED} Dit en votre nom sur un autre ordinateur" in _read(page)
        await _answer(found.here.teacher, found.here, "Des efforts.", "08/20")
        await found.sync()
        page = await found.page(found.here.machine, found.work)
        assert HERS in page
        assert FINDERS not in page


async def _nothing_is(*_: object) -> Mapping[bytes, LetCount]:
    return {}


@attack(
    ROW,
    off={f"sync_agent.portal.{page}.let_count_here": _nothing_is for page in ("pages", "head.school")},
)
async def test_the_heads_page_and_hers_tell_it_until_somebody_has_looked(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        places = ((found.head, "/school"), (found.here.teacher, "/"))
        for device, address in places:
            assert TOLD not in await found.page(device, address)
        await found.rule(accept=True)
        assert TOLD not in await found.page(found.here.machine, "/")
        for device, address in places:
            assert f"1 {TOLD}" in await found.page(device, address)
            async with portal(device.agent) as surfer:
                page = await surfer.page("/let-count")
                assert "Léa · Leçon · Dit sur " in _read(page)
                assert FINDERS.replace(" ", " · ", 1) in _read(page)
                assert ", par le serveur" in _read(page)
                (shown,) = re.findall(r'name="words" value="([^"]+)"', page)
                await surfer.send("/let-count", "/let-count/seen", {"words": shown})
            assert TOLD not in await found.page(device, address)
            assert (await Desk(device.agent).ask("status"))["let_count"]["count"] == 0


def _whoever_ruled(seen: Mapping[str, bytes], word: bytes, _: bytes) -> bool:
    return LET_COUNT_SEEN_MARKS + word.hex() in seen


@attack(ROW, off={"sync_agent.school.let_count._HEADER_ALONE": b""})
async def test_what_was_seen_as_a_header_alone_is_told_anew_once_it_says_something(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        await found.rule(accept=True)
        agent = found.here.teacher.agent
        (word,) = (await Desk(agent).ask("status"))["let_count"]["words"]
        name = bytes.fromhex(word["id"])
        whole = (await agent.replica.store.get([name]))[name]
        await agent.replica.store.erase([name])
        async with portal(agent) as surfer:
            await surfer.send("/let-count", "/let-count/seen", {"words": f"{word['id']}:{word['ruling']}"})
        assert (await Desk(agent).ask("status"))["let_count"]["count"] == 0
        await agent.replica.store.fill([whole])
        assert (await Desk(agent).ask("status"))["let_count"]["count"] == 1


@attack(ROW, off={"sync_agent.school.let_count._is_seen": _whoever_ruled})
async def test_what_was_refused_once_it_was_seen_is_told_anew_when_it_counts_again(tmp_path: Path) -> None:
    async with found_laptop(tmp_path, answered=True) as found:
        await found.rule(accept=True)
        teacher = found.here.teacher
        status = (await Desk(teacher.agent).ask("status"))["let_count"]
        assert status["count"] == 1
        (word,) = status["words"]
        async with portal(teacher.agent) as surfer:
            await surfer.send("/let-count", "/let-count/seen", {"words": f"{word['id']}:{word['ruling']}"})
        await found.rule(accept=False)
        assert FINDERS not in await found.page(found.here.machine, found.work)
        found.here.room.territory.clock.advance(DAY_MS)
        await found.rule(accept=True)
        assert f"1 {TOLD}" in await found.page(teacher, "/")
