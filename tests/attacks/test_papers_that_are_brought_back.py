"""Who has a paper in whose place another was drawn, while something hid the first one (docs/adr/0565)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.limits import MAX_PARENTS, READING_KEY_PAUSE_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import device_id, drawn_by
from protocol.roles import Role
from protocol.trust.person_keys import PhraseKey
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.places import Place, places_of
from tests.attacks.test_papers_in_whose_place_another_was_drawn import CHEAP, ROW, drawn, handed_in, opens
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.last_word import an_administrator_cuts_off, and_is_cut_off
from tests.harness.lost_laptop import another_laptop, let_in_again, report_by_head
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class
from tests.harness.territory import new_device


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _those_in_use(place: Place) -> tuple[bytes, ...]:
    """As it was: what is seen just then, of devices in use."""
    own = {device[0] for device in place.devices}
    before = [entry for entry, said in place.phrases if said.agreement not in place.replaced]
    return tuple(sorted(entry.id for entry in before if entry.header.author in own)[:MAX_PARENTS])


def _the_newest(place: Place) -> tuple[bytes, ...]:
    """As if the dates decided which phrases are named, that any device chooses for its own."""
    before = [entry for entry, said in place.phrases_ever if said.agreement not in place.replaced]
    before.sort(key=lambda entry: -entry.header.at)
    return tuple(sorted(entry.id for entry in before[:MAX_PARENTS]))


def _those_seen(place: Place) -> Iterable[bytes]:
    """As it was: what is hidden is in nobody's place."""
    named = {name for entry, _ in place.phrases for name in entry.header.parents}
    return [phrase.agreement for entry, phrase in place.phrases if entry.id in named]


def last_said(places: Iterable[Place]) -> dict[tuple[bytes, bytes], tuple[int, bytes]]:
    """As it was: a phrase is as new as the last word that says it."""
    last: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}
    for place in places:
        for entry, phrase in place.phrases:
            word, moment = (entry.header.author, phrase.agreement), (entry.header.at, entry.id)
            last[word] = max(moment, last.get(word, moment))
    return last


async def _two_laptops(here: Here) -> tuple[Device, Device, tuple[bytes, ...], tuple[bytes, ...]]:
    """Of one teacher; and what either had said before any phrase."""
    first, second = here.teacher, await another_laptop(here, here.teacher)
    tips, space = here.room.territory.replica.tips, here.room.space
    return first, second, tuple(await tips(space, first.agent.device)), tuple(await tips(space, second.agent.device))


async def _weeks(here: Here, *laptops: Device) -> None:
    for _ in range(3):
        here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
        await here.sync(*laptops, here.machine)


@pytest.mark.parametrize("back", [False, True], ids=["cut off", "let in again at once"])
@attack(ROW, off={"sync_agent.keys.phrases._to_replace": _those_in_use})
async def test_a_paper_that_is_hidden_while_another_is_drawn_is_not_in_force_again(here: Here, *, back: bool) -> None:
    first, second, before_first, before_second = await _two_laptops(here)
    paper = await drawn(here, first, second, first)
    await an_administrator_cuts_off(here, first, before_first, 1)
    if back:
        await let_in_again(here, first, Role.TEACHER, here.room.teacher_person)
    await here.sync(second)
    await drawn(here, second, second)
    await and_is_cut_off(here)
    await _weeks(here, first, second)
    work = await handed_in(here, first, second)
    assert not await opens(here, paper, work)
    await an_administrator_cuts_off(here, second, before_second, 2)
    await here.sync(first, here.machine, first)
    await and_is_cut_off(here)
    await _weeks(here, first, second)
    assert not await opens(here, paper, work), "her first laptop gives its keys to no earlier paper"


@pytest.mark.parametrize("then", ["hidden", "lost"])
@attack(ROW, off={"sync_agent.keys.phrases._to_replace": _those_in_use})
async def test_nor_is_that_of_a_laptop_that_was_lost_with_it_and_found(here: Here, then: str) -> None:
    first, second, _, before_second = await _two_laptops(here)
    paper = await drawn(here, first, second, first)
    head, _ = await confirmed_head(here)
    await here.sync(head, first, second, here.machine)
    await report_by_head(here, head)
    await here.sync(head, here.machine, second)
    await drawn(here, second, second, head)
    await Desk(head.agent).ask("grant", device=first.agent.device.hex(), space=[here.room.space.hex()])
    await here.sync(head, first, second, here.machine, first, second)
    await confirm(second.agent, device_id(own_device(first.agent)), shown_as="own")
    await here.sync(second, first, here.machine, second, first)
    work = await handed_in(here, first, second)
    assert not await opens(here, paper, work)
    if then == "lost":
        await here.sync(head)
        await Desk(head.agent).ask("lost", device=second.agent.device.hex())
    else:
        await an_administrator_cuts_off(here, second, before_second, 2)
    await here.sync(head, first, here.machine, first)
    assert not await opens(here, paper, work)


@attack(ROW, off={"sync_agent.keys.places._replaced": _those_seen})
async def test_nor_is_one_that_is_hidden_until_the_other_one_is(here: Here) -> None:
    first, second, before_first, before_second = await _two_laptops(here)
    paper = await drawn(here, first, second, first)
    await an_administrator_cuts_off(here, first, before_first, 1)
    await let_in_again(here, first, Role.TEACHER, here.room.teacher_person)
    await here.sync(second)
    await drawn(here, second, second)
    await here.sync(first, here.machine, first)
    await and_is_cut_off(here)
    await an_administrator_cuts_off(here, second, before_second, 2)
    await here.sync(first, here.machine, first, here.machine)
    assert not await opens(here, paper, await handed_in(here, first))


@attack(ROW, off={"sync_agent.keys.places._first_said": last_said})
async def test_a_paper_that_is_said_again_is_no_newer_for_it(here: Here) -> None:
    first, second, before_first, before_second = await _two_laptops(here)
    paper = await drawn(here, first)
    here.room.territory.clock.advance(DAY_MS)
    new = await drawn(here, second)
    await here.sync(second, first, second, here.machine)
    await an_administrator_cuts_off(here, first, before_first, 1)
    await here.say(Kind.REVOKE, Revocation(second.agent.device, before_second).encode(), None)
    await let_in_again(here, first, Role.TEACHER, here.room.teacher_person)
    here.room.territory.clock.advance(DAY_MS)
    await here.sync(first)
    assert len(await _words_of(here, first)) > 1, "it says its own phrase under its new right"
    await and_is_cut_off(here)
    await _weeks(here, first, second)
    work = await handed_in(here, first, second)
    assert await opens(here, new, work)
    assert not await opens(here, paper, work)


@attack(ROW, off={"sync_agent.keys.phrases._to_replace": _the_newest})
async def test_no_lost_laptop_has_her_paper_left_out_by_phrases_without_end(here: Here) -> None:
    lost, second = here.teacher, await another_laptop(here, here.teacher)
    third = await another_laptop(here, second)
    paper = await drawn(here, third, lost, second, third)
    grant = (await lost.agent.right(here.room.space, Kind.PHRASE)).grant
    person = here.room.teacher_person
    for number in range(MAX_PARENTS):
        keys = new_device(Random(number).randbytes)
        proof = drawn_by(keys.signing, person, own_keys(lost.agent.keys))
        said = PhraseKey(keys.agreement.public, bytes(16), CHEAP, keys.signing.public, proof).encode()
        await lost.agent.write(Draft(here.room.space, Kind.PHRASE, grant, said, subject=person))
    await here.sync(lost, second)
    await new_phrase(second.agent, CHEAP)
    (place,) = await places_of(second.agent)
    assert paper.public in place.replaced


async def _words_of(here: Here, laptop: Device) -> list[Entry]:
    said = await here.room.territory.replica.store.scan_kinds([Kind.PHRASE])
    return [each for each in said if each.header.author == laptop.agent.device]
