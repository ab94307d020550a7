"""What a copied key says besides has pages tell a later day than that of its erasures, or none (docs/attacks.md)."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation
from protocol.roles import PersonRole, Role
from sync_agent.school.forgetting import forgetting_of, forgettings
from sync_agent.upkeep.erasing import destroy_erased
from tests.attacks.test_names_of_an_hour import Stolen
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.kept_town import town_at_work
from tests.harness.portal import portal
from tests.harness.territory import new_device
from tests.harness.year_at_work import Year

ROW = "pages tell another day than that on which people are destroyed"


def _the_last(words: Sequence[Entry], _: Callable[..., object]) -> Entry:
    return words[-1]


OFF = {"sync_agent.school.forgetting._decisive": _the_last}


class Erased:
    """Léa and Mme Petit are erased in their school by a device that a copied key let in, and everybody has heard."""

    def __init__(self, stolen: Stolen, head: Device) -> None:
        self.stolen, self.here, self.head = stolen, stolen.here, head
        self.teacher = stolen.year.teacher
        self.persons = [bytes.fromhex(one) for one in (stolen.year.pupil, stolen.year.person)]
        self._spy = new_device(Random(5).randbytes)
        self._grant: bytes | None = None
        self._said = 0

    async def erases(self, space: bytes) -> None:
        """Both, there; each machine looks at once."""
        office, spy = self.stolen.office, self._spy
        if self._grant is None:
            let_in = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.HEAD, None, None)
            self._grant = await self.stolen.says(self.here.school, Kind.GRANT, let_in.encode())
        for one in self.persons:
            self._said += 1
            said = compose(
                author=spy.signing,
                space=space,
                kind=Kind.ERASE,
                grant=self._grant,
                at=((office.clock() + 1) << 16) + self._said,
                payload=Erasure(one).encode(),
                salt=bytes(16),
            )
            assert (await office.server.replica.admit([said], source=b"a PC", now_ms=office.clock())).admitted
        await self.here.sync()
        for each in self.here.devices:
            await destroy_erased(each.agent)

    async def cuts_itself_off(self, space: bytes) -> None:
        """There, as of all that it has said."""
        tips = await self.stolen.office.server.replica.tips(space, self._spy.signing.public)
        await self.stolen.says(space, Kind.REVOKE, Revocation(self._spy.signing.public, tuple(tips)).encode())
        await self.here.sync()

    async def told(self) -> tuple[str, str]:
        """What « Mon école » says, and her own first page."""
        pages = []
        for device, page in ((self.head, "/school"), (self.teacher, "/")):
            async with portal(device.agent) as surfer:
                pages.append(re.sub(r"\s+", " ", html.unescape(await surfer.page(page))))
        return pages[0], pages[1]

    async def final_days(self) -> set[int]:
        """Until when pages say that it can be undone, in ms."""
        rows = await forgettings(self.head.agent.replica, lambda _: True, self.head.agent.now_ms())
        hers = await forgetting_of(self.teacher.agent.replica, self.persons[1], self.teacher.agent.now_ms())
        return {each.final_ms for each in rows} | {0 if hers is None else hers.final_ms}

    async def are_destroyed(self) -> bool:
        """Here, at the head teacher's."""
        lists = await self.head.agent.replica.store.scan_kinds([Kind.PERSON])
        return not any(entry.payload for entry in lists if entry.header.subject in self.persons)


@pytest.fixture
async def erased(tmp_path: Path) -> AsyncIterator[Erased]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        stolen = Stolen(Year(here, *at_work, tmp_path))
        head = await here.head_of_the_school()
        await here.days_pass(1)
        found = Erased(stolen, head)
        await found.erases(here.school)
        yield found


@attack(ROW, off=OFF)
async def test_what_is_erased_once_more_every_other_day_moves_no_day_that_pages_tell(erased: Erased) -> None:
    (final_ms,) = await erased.final_days()
    for day in range(1, 7):
        await erased.here.days_pass(1)
        if day % 2 == 0:
            await erased.erases(erased.here.school)
        assert await erased.final_days() == {final_ms}
        assert not await erased.are_destroyed()
    await erased.here.days_pass(1)
    assert erased.head.agent.now_ms() >= final_ms
    assert await erased.are_destroyed()


@attack(ROW, off=OFF)
async def test_whoever_is_cut_off_in_one_class_is_told_to_destroy_what_they_erased_in_the_whole_school(
    erased: Erased,
) -> None:
    await erased.erases(erased.here.space)
    await erased.cuts_itself_off(erased.here.space)
    school, hers = await erased.told()
    assert "Définitif sur cet ordinateur" in school
    assert "cette demande n'efface rien" not in school
    assert "au plus tard" in hers
    assert "Rien n'en est détruit" not in hers
    await erased.here.days_pass(7)
    assert await erased.are_destroyed()


async def test_whoever_is_cut_off_in_the_whole_school_destroys_nobody_and_pages_say_so(erased: Erased) -> None:
    await erased.erases(erased.here.space)
    await erased.cuts_itself_off(erased.here.school)
    school, hers = await erased.told()
    assert "2 personnes de l'école" in school
    assert "cette demande n'efface rien" in school
    assert "Rien n'en est détruit" in hers
    await erased.here.days_pass(8)
    assert not await erased.are_destroyed()


async def test_whom_it_has_destroyed_before_it_was_cut_off_is_not_told_that_nothing_is_destroyed(
    erased: Erased,
) -> None:
    await erased.here.days_pass(8)
    await erased.cuts_itself_off(erased.here.school)
    _, hers = await erased.told()
    assert "c'est fait pour de bon sur cet ordinateur" in hers
    assert "Rien n'en est détruit" not in hers


async def test_nor_has_whom_a_list_names_again_since_another_week(erased: Erased) -> None:
    await erased.here.days_pass(8)
    await erased.cuts_itself_off(erased.here.school)
    await erased.here.days_pass(1)
    await erased.stolen.lists(erased.persons[0].hex(), PersonRecord("Léa", PersonRole.PUPIL))
    head = erased.head.agent
    (row,) = await forgettings(head.replica, lambda _: True, head.now_ms())
    assert row.is_over
    assert row.final_ms <= head.now_ms()
