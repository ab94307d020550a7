"""A teacher's key on a new laptop, by a phrase, for a colleague who comes later, and after a laptop is lost."""

from __future__ import annotations

import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from protocol.bundles.form import PackNote
from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import AgreementKey
from protocol.limits import READING_KEY_PAUSE_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, phrase_key
from sync_agent.courier.survey import Wishes
from sync_agent.hand_ins.wraps import readers_of
from sync_agent.keys import phrases
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.machine.enrolled import READING_KEYS_FILE
from sync_agent.sync.session import Session
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom, open_device
from tests.harness.commands import Desk
from tests.harness.territory import new_device
from tests.harness.wire import MemoryTransport

CHEAP = Argon2Cost(8, 1, 1)


class Class:
    """A class in which work was handed in, opened, and is no business of the pupil's machine any more."""

    def __init__(self, room: Classroom, teacher: Device, machine: Device, item: bytes) -> None:
        self.room, self.teacher, self.machine, self.item = room, teacher, machine, item
        self.old = ""

    async def work(self, *, opened: bool = True) -> str:
        work = (await self.room.hand_in(self.machine, self.item, WORK)).hex()
        await self.sync(self.machine, self.teacher)
        if opened:
            await Desk(self.teacher.agent).ask("confirm-opened", id=work)
            await self.sync(self.teacher, self.machine)
        return work

    async def sync(self, *devices: Device) -> None:
        for device in devices:
            await device.session.sync()

    async def revoke(self, device: Device) -> None:
        """The server cuts a device off, with all that it has seen of it."""
        territory = self.room.territory
        heads = await territory.replica.tips(self.room.space, device.agent.device)
        payload = Revocation(device.agent.device, tuple(heads)).encode()
        await territory.say(self.room.space, Kind.REVOKE, payload)

    async def let_back(self, device: Device, cut: Entry) -> None:
        """The server lets a device in again that was cut off."""
        territory, keys = self.room.territory, device.agent.keys
        public = (keys.signing.public, keys.agreement.public, keys.tls.fingerprint)
        grant = Grant(*public, Role.TEACHER, self.room.teacher_person, None)
        draft = Draft(self.room.space, Kind.GRANT, territory.certificate.id, grant.encode(), parents=(cut.id,))
        await territory.replica.write(
            [draft], author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
        )

    async def confirm(self, *devices: Device, shown_as: str = "own") -> None:
        """A human says on the first of them that the others are their teachers'."""
        for other in devices[1:]:
            reader = device_id(own_device(other.agent))
            assert (await confirm(devices[0].agent, reader, shown_as=shown_as)).new == 1

    async def can_open(self, device: Device, work: str) -> bool:
        try:
            return await Desk(device.agent).files("open-hand-in", id=work) == WORK
        except Refused as refused:
            return refused.code is not Code.CANNOT_READ


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Class]:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        await teacher.session.sync()
        yield Class(room, teacher, machine, await assignment(room, teacher, machine))


async def test_a_new_laptop_of_the_same_teacher_reads_what_the_old_one_has_opened(here: Class) -> None:
    work = await here.work()
    laptop = await here.room.teacher()
    await here.sync(laptop)
    assert not await here.can_open(laptop, work)
    await here.sync(here.teacher, laptop)
    assert not await here.can_open(laptop, work), "the server alone has said that it is hers"
    await here.confirm(here.teacher, laptop)
    await here.sync(here.teacher, laptop)
    assert await here.can_open(laptop, work)


async def test_each_device_of_a_teacher_reads_what_was_sealed_to_the_other(here: Class) -> None:
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher)
    await here.confirm(here.teacher, laptop)
    await here.sync(here.teacher, laptop, here.machine)
    work = await here.work()
    await here.sync(laptop)
    assert await here.can_open(laptop, work)
    third = await here.room.teacher()
    await here.sync(third, laptop)
    await here.confirm(laptop, third)
    await here.sync(laptop, third)  # the first is off: the second hands on both keys
    assert await here.can_open(third, work)


async def test_keys_are_sealed_once_and_a_sync_afterwards_says_nothing_more(here: Class) -> None:
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher)
    await here.confirm(here.teacher, laptop)
    await here.confirm(laptop, here.teacher)
    for _ in range(3):
        await here.sync(laptop, here.teacher)
    counts = await here.room.territory.replica.store.spaces()
    for _ in range(2):
        await here.sync(laptop, here.teacher)
    assert await here.room.territory.replica.store.spaces() == counts


async def test_in_a_class_that_was_closed_no_device_says_a_key_any_more(here: Class) -> None:
    territory, space = here.room.territory, here.room.space
    await territory.kit_says(territory.replica.door.parent(space) or b"", Kind.ERASE, Erasure(space).encode())
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher, laptop)
    assert await laptop.agent.replica.store.authored(space, laptop.agent.device) == []


async def test_when_the_only_laptop_is_gone_the_phrase_opens_everything_on_a_new_one(here: Class) -> None:
    phrase = await new_phrase(here.teacher.agent, CHEAP)
    work = await here.work()
    await here.sync(here.teacher)
    laptop = await here.room.teacher()
    await here.sync(laptop)
    assert not await here.can_open(laptop, work)
    with pytest.raises(Refused) as caught:
        await open_with_phrase(laptop.agent, "abeille " * 8)
    assert caught.value.code is Code.CANNOT_READ
    assert await open_with_phrase(laptop.agent, phrase.upper()) == 1
    assert await here.can_open(laptop, work)
    # and it stays so: the key lies in the set, sealed to the new laptop
    laptop.agent.reading_keys.given.clear()
    assert await here.can_open(laptop, work)


async def test_a_phrase_opens_keys_that_were_made_after_it_was_drawn(here: Class) -> None:
    phrase = await new_phrase(here.teacher.agent, CHEAP)
    await here.sync(here.teacher)
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher)  # makes a key of its own
    await here.confirm(here.teacher, laptop)
    await here.confirm(laptop, here.teacher)
    await here.sync(here.teacher, laptop)  # … and seals it to the phrase
    await here.revoke(laptop)
    await here.sync(here.teacher, here.machine)  # makes another, for the same reason
    work = await here.work()
    await here.sync(here.teacher)
    third = await here.room.teacher()
    await here.sync(third)
    assert await open_with_phrase(third.agent, phrase) >= 2
    assert await here.can_open(third, work)


async def test_a_phrase_is_derived_once_for_all_classes_and_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_up: list[bool] = []
    laptops: list[Device] = []

    def derive(drawn: bytes, person: bytes, salt: bytes, cost: Argon2Cost) -> AgreementKey:
        is_here = threading.current_thread() is threading.main_thread()
        held_up.append(is_here or any(laptop.agent.writing.locked() for laptop in laptops))
        return phrase_key(drawn, person, salt, cost)

    async def laptop(room: Classroom) -> Device:
        laptops.append(await room.device(Role.TEACHER, *room.territory.classes, person=room.teacher_person))
        await laptops[-1].session.sync()
        return laptops[-1]

    monkeypatch.setattr(phrases, "phrase_key", derive)
    async with classroom(tmp_path, spaces=3) as room:
        old = await laptop(room)
        phrase = await new_phrase(old.agent, CHEAP)
        assert held_up == [False]
        await old.session.sync()
        new = await laptop(room)
        assert await open_with_phrase(new.agent, phrase) == 3, "one key in each class"
        assert held_up == [False, False]


async def phrases_of(device: Device) -> list[tuple[str, int, bool]]:
    """The phrases that a teacher's device lists, the newest first: state, keys that it opens, whether one is in use."""
    rows = await Desk(device.agent).ask("key-phrases")
    return [(row["state"], row["keys"], bool(row["opens_new_work_of"])) for row in rows]


async def test_a_teacher_sees_which_of_her_phrases_still_open_what(here: Class) -> None:
    assert await phrases_of(here.teacher) == []
    with pytest.raises(Refused):
        await phrases_of(here.machine)
    await new_phrase(here.teacher.agent, CHEAP)
    here.room.territory.clock.advance(1000)
    await Desk(here.teacher.agent).ask("key-phrase")
    assert await phrases_of(here.teacher) == [("in use", 2, True), ("earlier", 1, False)], "another key was made"
    await here.sync(here.teacher)
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher)
    assert await phrases_of(laptop) == [], "she has not said that the other one is hers"
    await here.confirm(here.teacher, laptop)
    await here.confirm(laptop, here.teacher)
    await here.sync(here.teacher, laptop, here.teacher, laptop)
    assert await phrases_of(laptop) == [("in use", 3, True), ("earlier", 1, False)], "it seals its key to the latest"
    await here.revoke(here.teacher)
    await here.sync(laptop, here.machine, laptop)
    lost = await phrases_of(laptop)
    assert [(state, opens) for state, _, opens in lost] == [("of a lost device", False)] * 2, "keys were replaced"


@pytest.mark.parametrize("on_another", [False, True], ids=["the same laptop", "another, the first is off"])
async def test_a_phrase_that_was_drawn_while_a_clock_was_ahead_gives_way_to_the_next_one(
    here: Class, *, on_another: bool
) -> None:
    clock, years_ms, first = here.room.territory.clock, 4 * 366 * DAY_MS, here.teacher
    second, lost = await here.room.teacher(), await here.room.teacher()
    await here.sync(second, lost, first)
    await here.confirm(first, second)
    await here.confirm(second, first)
    await here.sync(first, second, first)
    clock.advance(years_ms)
    await new_phrase(first.agent, CHEAP)
    clock.advance(-years_ms)
    await here.sync(first, second)
    at_work = second if on_another else first
    paper = await new_phrase(at_work.agent, CHEAP)
    assert [state for state, *_ in await phrases_of(at_work)] == ["earlier", "in use"]
    await here.revoke(lost)  # so that a key is made which was not there when the paper was written
    await here.sync(at_work, here.machine)
    work = (await here.room.hand_in(here.machine, here.item, WORK)).hex()
    third = await here.room.teacher()
    await here.sync(here.machine, third)
    assert await open_with_phrase(third.agent, paper)
    newest = at_work.agent.reading_keys.newest_of(here.room.space)
    assert newest is not None
    assert newest.public in reading_keys(third.agent)
    assert await here.can_open(third, work)


async def test_a_machine_of_pupils_has_no_key_and_no_phrase(here: Class) -> None:
    with pytest.raises(Refused) as caught:
        await new_phrase(here.machine.agent, CHEAP)
    assert caught.value.code is Code.NO_RIGHT


async def test_nothing_more_is_sealed_to_keys_that_a_lost_laptop_held_and_old_work_stays_readable(here: Class) -> None:
    work = await here.work()
    lost = await here.room.teacher()
    await here.sync(lost, here.teacher)
    await here.confirm(here.teacher, lost)
    await here.sync(here.teacher, lost)
    assert await here.can_open(lost, work)
    held = set(reading_keys(lost.agent))
    assert len(held) == 2
    await here.revoke(lost)
    await here.sync(here.teacher, here.machine, here.teacher)
    readers = await readers_of(here.machine.agent, here.room.space)
    assert held.isdisjoint(readers)
    assert len(readers) == 2  # the key that the teacher's device made instead, and recovery
    later = await here.work()
    assert await here.can_open(here.teacher, later)
    assert await here.can_open(here.teacher, work)


async def test_a_laptop_whose_access_to_one_class_was_ended_reads_what_is_handed_in_to_another(here: Class) -> None:
    territory, other_class = here.room.territory, await here.room.territory.classroom("CM2")
    laptop = await here.room.device(Role.TEACHER, here.room.space, other_class, person=here.room.teacher_person)
    await here.sync(laptop, here.teacher)
    await here.confirm(here.teacher, laptop)
    await here.sync(here.teacher, laptop)
    heads = tuple(await territory.replica.tips(other_class, laptop.agent.device))
    await territory.say(other_class, Kind.REVOKE, Revocation(laptop.agent.device, heads).encode())
    await here.sync(laptop, here.teacher, here.machine, laptop, here.machine)
    work = await here.work()
    await here.sync(laptop)
    assert await here.can_open(laptop, work)


async def copied(room: Classroom, original: Device) -> Device:
    """Another machine with what a copy of a device's disk has: its keys, and none of what it heard since."""
    folder = room.folder / "copy"
    folder.mkdir()
    (folder / READING_KEYS_FILE).parent.mkdir(exist_ok=True)
    shutil.copy(original.agent.folder / READING_KEYS_FILE, folder / READING_KEYS_FILE)
    agent = await open_device(folder, room.territory, original.agent.keys, "copy", 4242)
    way = MemoryTransport(room.frontage)
    device = Device(agent, Session(agent, way), way)
    room.devices.append(device)
    return device


async def test_two_copies_of_a_teachers_disk_make_few_keys_and_both_open_what_is_handed_in(here: Class) -> None:
    territory, one = here.room.territory, here.teacher
    two = await copied(here.room, one)
    lost = new_device(Random(9).randbytes)
    await territory.let_in(lost, Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await territory.say(here.room.space, Kind.REVOKE, Revocation(lost.signing.public, ()).encode())
    for _ in range(8):
        await here.sync(one, two)
        territory.clock.advance(READING_KEY_PAUSE_MS)
    said = {
        entry.payload
        for entry in await territory.replica.store.scan_kinds([Kind.PERSON_KEY])
        if entry.header.author == one.agent.device
    }
    assert len(said) <= 3  # the first, and that which each has made since
    await here.sync(here.machine)
    work = (await here.room.hand_in(here.machine, here.item, WORK)).hex()
    await here.sync(here.machine, one, two)
    assert await here.can_open(one, work)
    assert await here.can_open(two, work)


async def test_a_colleague_who_comes_later_is_given_what_was_opened_before_by_the_teachers_own_device(
    here: Class,
) -> None:
    work = await here.work()
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=person)
    await here.sync(colleague, here.machine, colleague)
    assert not await here.can_open(colleague, work)  # the pupil's machine has no key any more
    await here.sync(here.teacher, colleague)
    assert not await here.can_open(colleague, work), "the server alone has said who this is"
    await here.confirm(here.teacher, colleague, shown_as="other")
    await here.sync(here.teacher, colleague)
    assert await here.can_open(colleague, work)
    counts = await here.room.territory.replica.store.spaces()
    await here.sync(here.teacher, colleague, here.teacher)
    assert await here.room.territory.replica.store.spaces() == counts


async def test_what_another_teacher_says_of_keys_that_are_not_theirs_spends_none(here: Class) -> None:
    person = await here.room.territory.person("M. Durand", PersonRole.TEACHER, here.room.space)
    colleague = await here.room.device(Role.TEACHER, person=person)
    await here.sync(colleague)
    key = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    mine = colleague.agent.keys.agreement.public
    grant = (await colleague.agent.right(here.room.space, Kind.KEY_WRAP)).grant
    for subject in (person, here.room.teacher_person):
        payload = KeyWraps(key.public, ((mine, bytes(80)),)).encode()
        await colleague.agent.write(Draft(here.room.space, Kind.KEY_WRAP, grant, payload, subject=subject))
    await here.sync(colleague)
    await here.revoke(colleague)
    await here.sync(here.machine)
    assert key.public in await readers_of(here.machine.agent, here.room.space)


async def test_a_teacher_who_has_lost_every_device_and_the_paper_is_given_earlier_work_by_the_heads_device(
    here: Class,
) -> None:
    territory, space = here.room.territory, here.room.space
    director = await territory.person("M. le directeur", PersonRole.TEACHER, space)
    head = await here.room.device(Role.HEAD, territory.replica.door.lineage(space)[1], person=director)
    await here.sync(head, here.machine)
    work = await here.work()
    await here.revoke(here.teacher)
    laptop = await here.room.teacher()
    await here.sync(laptop, here.machine, laptop)
    assert not await here.can_open(laptop, work)
    await here.sync(head, laptop)
    assert not await here.can_open(laptop, work)
    await here.confirm(head, laptop, shown_as="other")
    await here.sync(head, laptop)
    assert await here.can_open(laptop, work)
    said = [entry for entry in await territory.replica.store.scan_kinds([Kind.WRAP]) if entry.header.target]
    assert [entry.header.author for entry in said if entry.header.target == bytes.fromhex(work)][-1] == (
        head.agent.device
    )


async def test_a_head_teachers_device_gets_and_opens_what_is_handed_in(here: Class) -> None:
    territory, space = here.room.territory, here.room.space
    director = await territory.person("M. le directeur", PersonRole.TEACHER, space)
    head = await here.room.device(Role.HEAD, territory.replica.door.lineage(space)[1], person=director)
    await here.sync(head, here.machine)
    work = await here.work(opened=False)
    await here.sync(head)
    assert await head.agent.missing() == []
    assert await here.can_open(head, work)
    wishes = await Wishes.of(head.agent, space)
    assert wishes.wants(PackNote(bytes(32), 1, works=(bytes.fromhex(work),))), "from a disk too"


async def test_a_substitute_reads_what_is_handed_in_until_the_end_of_the_stay_and_nothing_from_before(
    here: Class,
) -> None:
    territory, space, clock = here.room.territory, here.room.space, here.room.territory.clock
    before = await here.work()
    person = await territory.person("M. Durand", PersonRole.TEACHER, space)
    keys = new_device(Random(77).randbytes)
    end_ms = clock() + 1_000_000
    grant = Grant(
        keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, person, None, end_ms
    ).encode()
    await territory.say(space, Kind.GRANT, grant)
    agent = await open_device(here.room.folder / "substitute", territory, keys, "PC 9", 9)
    way = MemoryTransport(here.room.frontage)
    substitute = Device(agent, Session(agent, way), way)
    here.room.devices.append(substitute)
    await here.sync(substitute, here.machine, here.teacher, substitute)
    during = await here.work(opened=False)
    await here.sync(substitute)
    assert await here.can_open(substitute, during)
    assert not await here.can_open(substitute, before)
    clock.advance(1_000_001)
    after = await here.work(opened=False)
    await here.sync(here.machine, substitute)
    assert not await here.can_open(substitute, after)
    assert await here.can_open(here.teacher, after)


async def test_what_is_held_back_of_a_laptop_that_came_back_keeps_no_other_from_being_given_a_key(here: Class) -> None:
    room, territory = here.room, here.room.territory
    work = await here.work()
    laptop, third = await room.teacher(), await room.teacher()
    await here.sync(laptop, third, here.teacher)
    await here.confirm(here.teacher, laptop)
    await here.sync(here.teacher, laptop)
    key = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    noise = KeyWraps(key.public, ((third.agent.keys.agreement.public, bytes(80)),)).encode()
    grant = (await laptop.agent.right(room.space, Kind.KEY_WRAP)).grant
    await laptop.agent.write(Draft(room.space, Kind.KEY_WRAP, grant, noise, subject=room.teacher_person))
    await here.sync(laptop)
    cut = await territory.say(room.space, Kind.REVOKE, Revocation(laptop.agent.device, ()).encode())
    await here.let_back(laptop, cut)
    await here.sync(laptop, here.teacher)
    await here.confirm(here.teacher, laptop, third)
    await here.sync(here.teacher, third)
    assert await here.can_open(third, work)
