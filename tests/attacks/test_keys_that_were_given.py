"""One erasure of a teacher takes no key from her laptop that her earlier one gave it (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.identity import AgreementKey
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.rights.vouching import Vouch
from protocol.roles import PersonRole
from protocol.trust.person_keys import KeyWraps
from sync_agent.hand_ins.opening import opening_key
from sync_agent.keys.key_wraps import open_given_keys
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import another_laptop
from tests.harness.passing_days import pass_days
from tests.harness.spied_class import SpiedClass, spied_class

ROW = "an erasure takes the keys that a teacher's earlier laptop gave"
CONFIRMED = "an erasure takes the word by which a teacher's earlier laptop confirmed the next one"


async def _nothing_is_kept(*_: object) -> None:
    return None


@dataclass
class Second:
    """A class whose teacher works with her second laptop; the first one, whose key opens earlier work, is worn out.

    And the head teacher's computer.
    """

    here: SpiedClass
    laptop: Device
    head: Device
    first: AgreementKey

    @property
    def space(self) -> bytes:
        return self.here.room.space

    async def opens(self, device: Device) -> bool:
        """Whether a laptop opens what was handed in before the second one came."""
        await open_given_keys(device.agent)
        work = (await device.agent.replica.view(self.space)).coursework.hand_ins[self.here.work]
        return await opening_key(device.agent, work) is not None

    async def sync(self, *devices: Device) -> None:
        for _ in range(2):
            await self.here.sync(*(devices or (self.laptop, self.head, self.here.machine)))

    async def is_erased(self) -> bytes:
        """The thief's one erasure, which every machine carries out."""
        territory, person = self.here.room.territory, self.here.room.teacher_person
        erasure = await territory.say(territory.id, Kind.ERASE, Erasure(person).encode())
        await self.sync()
        await pass_days(territory, 9, self.laptop, self.head, self.here.machine)
        await self.sync()
        wraps = await self.laptop.agent.replica.store.scan_kinds([Kind.KEY_WRAP])
        assert not any(entry.payload for entry in wraps if entry.header.subject == person)
        return erasure.id

    async def is_shown_again(self, erasure: bytes) -> None:
        """By the kit."""
        territory = self.here.room.territory
        await territory.kit_says(territory.id, Kind.RULING, Ruling((), (erasure,)).encode())
        await self.sync()


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[Second]:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        laptop = await another_laptop(here, here.teacher)
        first = here.teacher.agent.reading_keys.newest_of(here.room.space)
        assert first is not None
        made = Second(here, laptop, head, first)
        assert await made.opens(laptop)
        here.room.territory.clock.advance(30 * DAY_MS)
        await made.sync()
        yield made


@attack(ROW, off={"sync_agent.keys.key_wraps._keep_given": _nothing_is_kept})
async def test_a_teacher_who_was_erased_and_is_shown_again_opens_earlier_work_on_her_second_laptop(
    second: Second,
) -> None:
    await second.is_shown_again(await second.is_erased())
    assert await second.opens(second.laptop)


@attack(ROW, off={"sync_agent.keys.key_wraps._keep_given": _nothing_is_kept})
async def test_also_where_the_server_has_said_noise_in_their_place(second: Second) -> None:
    erasure, here = await second.is_erased(), second.here
    await second.is_shown_again(erasure)
    await here.name_the_spy(here.room.teacher_person)
    noise = KeyWraps(second.first.public, ((second.laptop.agent.keys.agreement.public, bytes(80)),)).encode()
    await here.say(Kind.KEY_WRAP, noise, here.room.teacher_person)
    await second.sync()
    assert await second.opens(second.laptop)


@attack(
    ROW,
    off={
        "sync_agent.keys.key_wraps.kept_alone": lambda *_: {},
        "sync_agent.keys.reading_key.kept_alone": lambda *_: {},
    },
)
async def test_her_next_laptop_is_given_them_too(second: Second) -> None:
    await second.is_shown_again(await second.is_erased())
    third = await another_laptop(second.here, second.laptop)
    await second.sync(second.laptop, third, second.here.machine)
    assert await second.opens(third)


async def _nobody_is_forgotten(*_: object) -> frozenset[bytes]:
    return frozenset()


async def _readable(second: Second) -> int:
    """How many pieces of work can be read with that laptop, as the head teacher's computer knows it."""
    told = await Desk(second.head.agent).ask("lost", device=second.laptop.agent.device.hex(), dry_run=True)
    return sum(each["hand_ins_readable"] for each in told["held"])


@attack(ROW, off={"protocol.replica.office.losses.destroyed_names": _nobody_is_forgotten})
async def test_who_asks_what_her_laptop_has_is_told_of_that_work_while_she_is_erased(second: Second) -> None:
    await second.is_erased()
    assert await _readable(second) == 1


@attack(
    ROW,
    off={
        "sync_agent.keys.reading_key.kept_alone": lambda *_: {},
        "protocol.replica.office.losses.destroyed_names": _nobody_is_forgotten,
    },
)
async def test_and_when_she_is_shown_again(second: Second) -> None:
    await second.is_shown_again(await second.is_erased())
    assert await second.opens(second.laptop)
    assert await _readable(second) == 1


async def _is_listed_again(second: Second) -> None:
    here = second.here
    again = PersonRecord("Mme Petit", PersonRole.TEACHER).encode()
    await here.room.territory.say(second.space, Kind.PERSON, again, subject=here.room.teacher_person)
    await second.sync()


def _only_what_is_whole(_entry: Entry, vouch: Vouch | None, *_: object) -> bool:
    return vouch is not None and vouch.proof is None


@attack(CONFIRMED, off={"protocol.rights.voices._is_its_authors": _only_what_is_whole})
async def test_her_second_laptop_speaks_for_her_and_is_given_new_work_without_the_first_one_that_confirmed_it(
    second: Second,
) -> None:
    await second.is_shown_again(await second.is_erased())
    await _is_listed_again(second)
    here = second.here
    hers = here.teacher.agent.device, here.room.teacher_person
    vouches = [one.entry for one in await here.machine.agent.replica.store.of_kinds(second.space, [Kind.VOUCH])]
    said = [each for each in vouches if (each.header.author, each.header.subject) == hers]
    assert [each.payload for each in said] == [None], "its word is here as a header alone"
    work = await here.room.hand_in(here.machine, here.item, {"a.odt": b"apres" * 50})
    await second.sync()
    (given,) = here.machine.agent.replica.door.authorities_of(second.laptop.agent.device)
    assert given.grant not in (await here.machine.agent.replica.view(second.space)).roster.unconfirmed
    new = (await second.laptop.agent.replica.view(second.space)).coursework.hand_ins[work]
    assert await opening_key(second.laptop.agent, new) is not None
