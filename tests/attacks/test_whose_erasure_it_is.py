"""Attacks: by whose word somebody is hidden is asked after a theft, and who had been shown again (docs/adr/0526)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Ruling
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.mentioned import mentioned
from protocol.roles import PersonRole
from tests.attacks.test_whose_a_device_is_at_a_server import Thieving
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year

ORDERED = "people ask by whose word somebody is to be forgotten"
MANY = 24
"""As many as a class has."""


@pytest.fixture
async def thieving(tmp_path: Path) -> AsyncIterator[Thieving]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Thieving(Year(here, *at_work, tmp_path))


async def _by_the_last_name(replica: Replica, _rosters: object, persons: Collection[bytes]) -> dict[bytes, str | None]:
    return {person: each.last for person, each in (await mentioned(replica, persons)).items()}


@attack(ORDERED, off={"sync_server.handlers.record.erasures.first_signatures": _by_the_last_name})
async def test_no_word_of_a_copied_key_says_that_a_colleague_has_a_child_forgotten(thieving: Thieving) -> None:
    here, do, store = thieving.here, thieving.year.do, thieving.office.server.store
    hers = (await do("person add", name="Mme Hugo", role="teacher", space=[here.school.hex()]))["person"]
    await do("person add", name="M. Kant", role="teacher", space=[here.school.hex()])
    head = await here.device("head", hers, here.school.hex())
    for _ in range(2):
        await here.sync()
    await thieving.is_stolen()
    listed = [one.id for one in await store.scan_kinds([Kind.PERSON]) if one.header.subject == bytes.fromhex(hers)]
    false = PersonRecord("M. Kant", PersonRole.TEACHER).encode()
    await thieving.brings(Kind.PERSON, false, subject=bytes.fromhex(hers), space=here.school, parents=listed)
    await Desk(head.agent).ask("erase", person=[thieving.year.pupil], alone=True, renamed_too=True)
    for _ in range(2):
        await here.sync()
    (row,) = await do("erasures")
    assert "Mme Hugo" in row["who"]
    assert "Kant" not in row["who"]


async def _nobody(_replica: Replica, _waiting: object) -> int:
    return 0


@attack(ORDERED, off={"sync_server.operations.lifecycle.hidden_again": _nobody})
async def test_who_makes_new_keys_reads_that_somebody_whom_the_old_one_had_shown_again_goes_after_all(
    thieving: Thieving,
) -> None:
    here, lea = thieving.here, thieving.year.pupil
    head = await here.head_of_the_school()
    await here.sync()
    await thieving.is_stolen()
    await Desk(head.agent).ask("erase", person=[lea], alone=True)
    await here.sync()
    await thieving.year.do("unerase", covers=lea)
    await thieving.new_keys(since=True)
    assert any("shown again by a word that counts no more (1)" in line for line in thieving.office.said.lines)
    await thieving.year.do("unerase", covers=lea)
    assert bytes.fromhex(lea) in (await thieving.office.server.replica.view(here.space)).roster.persons


async def test_and_finds_each_of_them_among_what_waits_however_many_they_are(thieving: Thieving) -> None:
    here, do = thieving.here, thieving.year.do
    head = await here.head_of_the_school()
    listed = [await do("person add", name=f"Élève {n}", role="pupil", space=[here.space.hex()]) for n in range(MANY)]
    pupils = {each["person"] for each in listed}
    for _ in range(2):
        await here.sync()
    await thieving.is_stolen()
    for pupil in pupils:
        await Desk(head.agent).ask("erase", person=[pupil], alone=True)
    await here.sync()
    laptop = head.agent.device.hex()
    await do("lost", device=laptop, since="3000s")
    await do("refuse", named=[laptop])
    await thieving.new_keys(since=True)
    assert any(f"shown again by a word that counts no more ({MANY})" in line for line in thieving.office.said.lines)
    titles = [row["title"] or "" for row in await do("waiting") if row["kind"] == "ruling"]
    assert {pupil for pupil in pupils if any(pupil in title for title in titles)} == pupils
    assert all(any(f"Élève {n})" in title for title in titles) for n in range(MANY))


async def test_and_of_whom_the_kit_refused_to_show_again_no_later_keys_tell(thieving: Thieving) -> None:
    here, do, store = thieving.here, thieving.year.do, thieving.office.server.store
    head = await here.head_of_the_school()
    await here.sync()
    await Desk(head.agent).ask("erase", person=[thieving.year.pupil], alone=True)
    await here.sync()
    await thieving.is_stolen()
    (erasure,) = await store.scan_kinds([Kind.ERASE])
    await thieving.brings(Kind.RULING, Ruling((), (erasure.id,)).encode(), space=erasure.header.space)
    await thieving.new_keys(since=True)
    told = [line for line in thieving.office.said.lines if "is hidden again" in line]
    waiting = [row["id"] for row in await do("waiting") if row["kind"] == "ruling"]
    assert (len(told), len(waiting)) == (1, 1)
    await thieving.year.with_kit("refuse", named=waiting)
    thieving.office.said.lines.clear()
    await thieving.is_stolen()
    await thieving.new_keys(since=True)
    assert not [row for row in await do("waiting") if row["kind"] == "ruling"]
    assert not [line for line in thieving.office.said.lines if "is hidden again" in line]
