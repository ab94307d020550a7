"""A teacher's laptop makes a reading key for each class (docs/protocol.md, "Reading keys")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Refused
from protocol.identity import AgreementKey
from protocol.limits import MAX_PARENTS, MAX_READING_KEYS_AT_ONCE, READING_KEY_LONG_PAUSE_MS, READING_KEY_PAUSE_MS
from protocol.model.entry import Kind, parsed
from protocol.model.structure import Erasure, Grant, PersonKey, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, PhraseKey, open_reading_key
from sync_agent.app import Agent
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import open_given_keys, reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.keys.reported import reported
from sync_agent.machine.enrolled import DAMAGED_FILE, PERSON_KEY_FILE, READING_KEYS_FILE
from sync_agent.machine.reading_key_file import ROW_BYTES, OwnKey, file_of, own_keys_in
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.lost_laptop import (
    another_laptop,
    confirm_each_other,
    invent_and_cut_off,
    keys_said,
    teach_too,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


async def test_a_laptop_says_another_key_in_each_class_and_reads_all_of_them(here: Here) -> None:
    other = await here.room.territory.classroom("CM2")
    await teach_too(here, other, here.teacher)
    await here.sync(here.teacher, here.teacher)
    agent = here.teacher.agent
    keys = {space: (await agent.replica.view(space)).roster.reading_keys for space in (here.room.space, other)}
    said = {space: found[here.room.teacher_person] for space, found in keys.items()}
    assert [len(each) for each in said.values()] == [1, 1]
    assert len(set(said.values())) == 2


async def test_a_laptop_that_is_confirmed_is_given_the_keys_of_the_classes_that_both_teach_and_no_others(
    here: Here,
) -> None:
    other = await here.room.territory.classroom("CM2")
    await teach_too(here, other, here.teacher)
    await here.sync(here.teacher, here.teacher)
    second = await another_laptop(here, here.teacher)
    await here.sync(here.teacher, second)
    given = second.agent.reading_keys.given
    assert {space for (space, _), keys in given.items() if keys} == {here.room.space}


async def test_keys_of_an_earlier_version_open_what_was_sealed_to_them_and_are_replaced(here: Here) -> None:
    agent, space = here.teacher.agent, here.room.space
    old = AgreementKey(b"\7" * 32)
    (agent.folder / PERSON_KEY_FILE).write_bytes(old.seed)
    (agent.folder / READING_KEYS_FILE).unlink()
    grant = (await agent.right(space, Kind.PERSON_KEY)).grant
    said = Draft(space, Kind.PERSON_KEY, grant, PersonKey(old.public).encode(), subject=here.room.teacher_person)
    await agent.write(said)
    with pytest.MonkeyPatch.context() as before_the_update:
        before_the_update.setattr("sync_agent.sync.after_news.tend_reading_keys", _nothing_due)
        await here.sync(here.teacher, here.machine)
        work = (await here.room.hand_in(here.machine, here.item, {"a.odt": b"alt"})).hex()
        await here.sync(here.machine, here.teacher)
    assert old.public in (await here.machine.agent.replica.view(space)).roster.reading_keys[here.room.teacher_person]
    await tend_reading_keys(agent)
    await here.sync(here.teacher, here.machine, here.teacher)
    assert await Desk(agent).files("open-hand-in", id=work) == {"a.odt": b"alt"}
    in_use = (await here.machine.agent.replica.view(space)).roster.reading_keys[here.room.teacher_person]
    assert old.public not in in_use
    newest = agent.reading_keys.newest_of(space)
    assert newest is not None
    assert newest.public in in_use


async def _nothing_due(_agent: object) -> int:
    return 0


async def _called_anothers(here: Here, laptop: Device, person: bytes) -> None:
    """A laptop's access as somebody's ends, and it is let in as somebody else's, with the same keys: by no command."""
    room, territory = here.room, here.room.territory
    (grant,) = (each.grant for each in territory.replica.door.authorities_of(laptop.agent.device))
    heads = tuple(await territory.replica.tips(room.space, laptop.agent.device))
    await territory.say(room.space, Kind.REVOKE, Revocation(laptop.agent.device, heads).encode(), target=grant)
    (entry,) = await territory.let_in(laptop.agent.keys, Role.TEACHER, room.space, person=person)
    for brought in await territory.replica.credentials([entry.id]):
        await laptop.agent.replica.admit([brought], source=territory.keys.signing.public, now_ms=territory.clock())


async def test_what_a_laptop_was_given_as_one_colleagues_it_gives_no_laptop_of_another(here: Here) -> None:
    room, territory = here.room, here.room.territory
    durand = await territory.person("M. Durand", PersonRole.TEACHER, room.space)
    yvon = await territory.person("Mme Yvon", PersonRole.TEACHER, room.space)
    laptop, his = await room.device(Role.TEACHER, person=durand), await room.device(Role.TEACHER, person=durand)
    await here.sync(laptop, his, laptop, his)
    await confirm_each_other(here, laptop, his)
    await here.sync(laptop, his, laptop)
    his_key = his.agent.reading_keys.newest_of(room.space)
    assert his_key is not None
    assert his_key.public in reading_keys(laptop.agent)
    await _called_anothers(here, laptop, yvon)
    hers = await room.device(Role.TEACHER, person=yvon)
    await here.sync(laptop, hers, laptop, hers, his)
    await confirm(hers.agent, device_id(own_device(laptop.agent)), shown_as="own")
    with pytest.raises(Refused, match=r"calls this computer Mme Yvon's"):
        await confirm(laptop.agent, device_id(own_device(hers.agent)), shown_as="own")
    await here.sync(laptop, hers, laptop, hers)
    assert his_key.public not in reading_keys(hers.agent)


async def test_a_laptop_that_is_restored_from_before_a_class_is_given_its_key_of_that_class_by_the_set(
    here: Here,
) -> None:
    agent = here.teacher.agent
    backup = agent.secrets.read(READING_KEYS_FILE)
    later = await here.room.territory.classroom("CM2")
    await teach_too(here, later, here.teacher)
    await here.sync(here.teacher, here.teacher)
    made = agent.reading_keys.newest_of(later)
    assert made is not None
    agent.secrets.keep(READING_KEYS_FILE, backup)
    await tend_reading_keys(agent)
    assert made.public in reading_keys(agent)
    newest = agent.reading_keys.newest_of(later)
    assert newest is not None
    assert newest.public != made.public


async def test_many_keys_of_one_class_keep_no_other_from_having_one(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.keys.reading_key.MAX_OWN_READING_KEYS", 2)
    for number in range(4):
        await invent_and_cut_off(here, number)
        await here.sync(here.teacher)
    later = await here.room.territory.classroom("CM2")
    await teach_too(here, later, here.teacher)
    await here.sync(here.teacher, here.teacher)
    assert len(await keys_said(here, here.teacher.agent.device)) == 2
    assert here.teacher.agent.reading_keys.newest_of(later) is not None


async def test_a_laptop_that_her_other_one_led_to_is_replaced_for_at_once_after_many_invented_ones(here: Here) -> None:
    second = await another_laptop(here, here.teacher)
    for number in range(2 * MAX_READING_KEYS_AT_ONCE):
        await invent_and_cut_off(here, number)
        await here.sync(second)
        here.room.territory.clock.advance(READING_KEY_PAUSE_MS)
    flooded = len(await keys_said(here, second.agent.device))
    await here.room.territory.say(here.room.space, Kind.REVOKE, Revocation(here.teacher.agent.device, ()).encode())
    await here.sync(second)
    assert len(await keys_said(here, second.agent.device)) == flooded + 1


async def test_an_invented_laptop_that_found_no_key_left_in_the_week_has_one_made_in_the_next(here: Here) -> None:
    for number in range(2 * MAX_READING_KEYS_AT_ONCE):
        await invent_and_cut_off(here, number)
        await here.sync(here.teacher)
    assert len(await keys_said(here, here.teacher.agent.device)) == MAX_READING_KEYS_AT_ONCE
    here.room.territory.clock.advance(READING_KEY_LONG_PAUSE_MS)
    await tend_reading_keys(here.teacher.agent)
    await here.sync(here.teacher)
    assert len(await keys_said(here, here.teacher.agent.device)) == MAX_READING_KEYS_AT_ONCE + 1


async def test_a_key_that_was_said_more_often_than_one_entry_names_is_replaced_all_the_same(here: Here) -> None:
    agent, space, person = here.teacher.agent, here.room.space, here.room.teacher_person
    before = agent.reading_keys.newest_of(space)
    assert before is not None
    grant = (await agent.right(space, Kind.PERSON_KEY)).grant
    for _ in range(MAX_PARENTS + 1):
        await agent.write(Draft(space, Kind.PERSON_KEY, grant, PersonKey(before.public).encode(), subject=person))
    await invent_and_cut_off(here, 1)
    await here.sync(here.teacher, here.machine)
    said = await here.room.territory.replica.store.scan_kinds([Kind.PERSON_KEY])
    of_before = {
        entry.id
        for entry in said
        if entry.header.author == agent.device
        and (key := parsed(entry, PersonKey.parse)) is not None
        and key.agreement == before.public
    }
    assert len(of_before) > MAX_PARENTS
    assert of_before <= (await here.machine.agent.replica.view(space)).roster.replaced


async def opens_a_later_class(here: Here, phrase: str) -> bool:
    """Whether a new laptop opens by the phrase what the teacher's first one made for a class that comes now."""
    later = await here.room.territory.classroom("CM2")
    await teach_too(here, later, here.teacher)
    await here.sync(here.teacher, here.teacher)
    made = here.teacher.agent.reading_keys.newest_of(later)
    assert made is not None
    new = await here.room.device(Role.TEACHER, here.room.space, later, person=here.room.teacher_person)
    await here.sync(new)
    await open_with_phrase(new.agent, phrase)
    return made.public in reading_keys(new.agent)


async def test_the_phrase_opens_a_class_that_came_after_it_was_drawn(here: Here) -> None:
    phrase = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher)
    assert await opens_a_later_class(here, phrase)


async def test_the_phrase_opens_a_class_of_the_next_year_when_those_of_the_last_are_closed(here: Here) -> None:
    phrase = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher)
    territory = here.room.territory
    await territory.say(here.room.space, Kind.ERASE, Erasure(here.room.space).encode())
    await here.sync(here.teacher)
    later = await territory.classroom("CM2")
    await teach_too(here, later, here.teacher)
    await here.sync(here.teacher, here.teacher)
    made = here.teacher.agent.reading_keys.newest_of(later)
    assert made is not None
    new = await here.room.device(Role.TEACHER, later, person=here.room.teacher_person)
    await here.sync(new)
    await open_with_phrase(new.agent, phrase)
    assert made.public in reading_keys(new.agent)


async def test_a_phrase_that_was_seen_replaced_is_not_in_force_again_in_the_next_year(here: Here) -> None:
    second = await another_laptop(here, here.teacher)
    await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher, second)
    territory = here.room.territory
    (_, old), *_ = (await territory.replica.view(here.room.space)).roster.phrases[here.room.teacher_person]
    territory.clock.advance(1_000)
    await new_phrase(second.agent, Argon2Cost(8, 1, 1))
    await here.sync(second, here.teacher)
    await territory.say(here.room.space, Kind.ERASE, Erasure(here.room.space).encode())
    await here.sync(here.teacher, second)
    later = await territory.classroom("CM2")
    await teach_too(here, later, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    said = [each for each in await territory.replica.store.scan_kinds([Kind.PHRASE]) if each.header.space == later]
    assert said
    assert old.agreement not in {phrase.agreement for each in said if (phrase := parsed(each, PhraseKey.parse))}


async def test_the_phrase_of_a_laptop_that_was_cut_off_with_all_it_said_is_said_again_once_it_is_let_in(
    here: Here,
) -> None:
    await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher)
    territory, keys = here.room.territory, here.teacher.agent.keys
    cut = await territory.say(here.room.space, Kind.REVOKE, Revocation(keys.signing.public, ()).encode())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None).encode()
    await territory.say(here.room.space, Kind.GRANT, again, parents=(cut.id,))
    await here.sync(here.teacher, here.teacher)
    roster = (await territory.replica.view(here.room.space)).roster
    assert roster.phrases.get(here.room.teacher_person)


async def test_a_phrase_that_another_of_hers_has_replaced_opens_no_class_that_came_later(here: Here) -> None:
    second = await another_laptop(here, here.teacher)
    old = await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher, second)
    here.room.territory.clock.advance(1_000)
    await new_phrase(second.agent, Argon2Cost(8, 1, 1))
    await here.sync(second, here.teacher)
    assert not await opens_a_later_class(here, old)


def with_rot(file: bytes, row: int) -> bytes:
    rotten = bytearray(file)
    rotten[row * ROW_BYTES + 50] ^= 1
    return bytes(rotten)


async def tells_of_lost_keys(agent: Agent) -> bool:
    problems = (await Desk(agent).ask("doctor"))["problems"]
    return "cannot-read" in {problem["code"] for problem in problems}


async def two_classes(here: Here) -> Agent:
    await teach_too(here, await here.room.territory.classroom("CM2"), here.teacher)
    await here.sync(here.teacher, here.teacher)
    assert len(here.teacher.agent.reading_keys.own()) == 2
    return here.teacher.agent


@pytest.mark.parametrize("row", [0, 1, None])
async def test_what_has_rotted_of_the_keys_comes_back_by_what_their_device_sealed_to_itself(
    here: Here, row: int | None
) -> None:
    agent = await two_classes(here)
    before = {(each.key.public, each.space, each.person) for each in agent.reading_keys.own()}
    agent.secrets.keep(READING_KEYS_FILE, b"" if row is None else with_rot(agent.secrets.read(READING_KEYS_FILE), row))
    assert await tells_of_lost_keys(agent)
    assert await tend_reading_keys(agent) == 0, "nobody else hears of it"
    assert {(each.key.public, each.space, each.person) for each in agent.reading_keys.own()} == before
    assert not await tells_of_lost_keys(agent)
    agent.secrets.keep(READING_KEYS_FILE, with_rot(agent.secrets.read(READING_KEYS_FILE), 0))
    assert await tells_of_lost_keys(agent), "a second time, too"


async def test_a_key_that_rotted_for_good_takes_no_other_with_it_and_is_told(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        # an earlier version sealed none of its keys to itself
        earlier.setattr("sync_agent.keys.reading_key.seals", lambda *_, **__: [])
        agent = await two_classes(here)
    before, file = agent.reading_keys.own(), agent.secrets.read(READING_KEYS_FILE)
    agent.secrets.keep(READING_KEYS_FILE, with_rot(file, 0))
    await here.sync(here.teacher)
    await tend_reading_keys(agent)
    assert before[1].key.public in {each.key.public for each in agent.reading_keys.own()}
    assert len(agent.reading_keys.own()) == 2, "another was made in its place"
    assert agent.secrets.read(DAMAGED_FILE.format(READING_KEYS_FILE)) == with_rot(file, 0)
    assert await tells_of_lost_keys(agent)
    agent.secrets.keep(READING_KEYS_FILE, file)
    await tend_reading_keys(agent)
    assert not await tells_of_lost_keys(agent), "it was put back from a copy"


@pytest.mark.parametrize("becomes", [with_rot, None])
async def test_a_key_that_was_replaced_is_not_said_again_when_what_replaced_it_is_lost(
    here: Here, becomes: Callable[[bytes, int], bytes] | None
) -> None:
    agent, space = here.teacher.agent, here.room.space
    first, file = agent.reading_keys.newest_of(space), agent.secrets.read(READING_KEYS_FILE)
    await invent_and_cut_off(here, 1)
    await here.sync(here.teacher)
    second = agent.reading_keys.newest_of(space)
    assert first is not None
    assert second is not None
    assert first.public != second.public
    changed = file if becomes is None else becomes(agent.secrets.read(READING_KEYS_FILE), 0)
    agent.secrets.keep(READING_KEYS_FILE, changed)
    await tend_reading_keys(agent)
    in_use = (await agent.replica.view(space)).roster.reading_keys[here.room.teacher_person]
    newest = agent.reading_keys.newest_of(space)
    assert newest is not None
    assert newest.public in in_use
    assert first.public not in in_use, "a lost laptop may have it"
    assert {first.public, second.public} <= set(reading_keys(agent))
    assert [await tend_reading_keys(agent) for _ in range(2)] == [0, 0]


async def test_what_opens_nothing_is_tried_once(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def noting(sealed: bytes, *of: Any) -> AgreementKey:
        tried.append(sealed)
        return open_reading_key(sealed, *of)

    monkeypatch.setattr("sync_agent.keys.key_wraps.open_reading_key", noting)
    second = await another_laptop(here, here.teacher)
    noise = KeyWraps(b"k" * 32, ((second.agent.keys.agreement.public, b"n" * 80),))
    grant = (await here.teacher.agent.right(here.room.space, Kind.KEY_WRAP)).grant
    person = here.room.teacher_person
    await here.teacher.agent.write(Draft(here.room.space, Kind.KEY_WRAP, grant, noise.encode(), subject=person))
    await here.sync(here.teacher, second)
    for _ in range(3):
        await open_given_keys(second.agent)
    assert tried.count(b"n" * 80) == 2, "as sealed for the class, and as an earlier version sealed"


async def test_a_copy_of_a_seal_under_another_name_takes_nothing_from_the_right_one(here: Here) -> None:
    second = await another_laptop(here, here.teacher)
    key = here.teacher.agent.reading_keys.newest_of(here.room.space)
    assert key is not None
    grant = (await here.teacher.agent.right(here.room.space, Kind.KEY_WRAP)).grant
    sealed = await here.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP])
    right = [
        KeyWraps.parse(entry.payload or b"") for entry in sealed if entry.header.author == here.teacher.agent.device
    ]
    copies = [
        Draft(
            here.room.space,
            Kind.KEY_WRAP,
            grant,
            KeyWraps(bytes([number]) * 32, each.wraps).encode(),
            subject=here.room.teacher_person,
        )
        for number in range(40)
        for each in right
    ]
    await here.teacher.agent.write(*copies)
    await here.sync(here.teacher, second)
    second.agent.reading_keys.given.clear()
    await open_given_keys(second.agent)
    assert key.public in reading_keys(second.agent)


async def test_a_phrase_that_was_replaced_in_some_class_is_said_in_no_later_one(here: Here) -> None:
    last_year = await here.room.territory.classroom("CE2")
    await teach_too(here, last_year, here.teacher)
    await here.sync(here.teacher, here.teacher)
    second = await another_laptop(here, here.teacher)
    await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
    await here.sync(here.teacher, second)
    here.room.territory.clock.advance(1_000)
    await new_phrase(second.agent, Argon2Cost(8, 1, 1))
    await here.sync(second, here.teacher)
    later = await here.room.territory.classroom("CM2")
    await teach_too(here, later, here.teacher, second)
    await here.sync(here.teacher, second, here.teacher, second)
    said = (await here.teacher.agent.replica.view(later)).roster.phrases.get(here.room.teacher_person, ())
    assert {device[0] for device, _ in said} <= {second.agent.device}


async def test_a_laptop_whose_access_to_one_class_has_ended_needs_no_new_word_in_the_next(here: Here) -> None:
    room, territory = here.room, here.room.territory
    second = await another_laptop(here, here.teacher)
    (grant,) = (each.grant for each in territory.replica.door.authorities_of(second.agent.device))
    heads = tuple(await territory.replica.tips(room.space, second.agent.device))
    await territory.say(room.space, Kind.REVOKE, Revocation(second.agent.device, heads).encode(), target=grant)
    await here.sync(here.teacher)
    assert second.agent.device not in await reported(here.teacher.agent)


async def test_of_a_teacher_who_was_forgotten_nothing_more_is_said(here: Here) -> None:
    territory, person = here.room.territory, here.room.teacher_person
    await territory.say(here.room.space, Kind.ERASE, Erasure(person).encode())
    await here.sync(here.teacher, here.teacher)
    assert [await tend_reading_keys(here.teacher.agent) for _ in range(3)] == [0, 0, 0]


async def test_what_is_held_back_of_seals_is_said_again_once_under_each_grant(here: Here) -> None:
    territory, laptop, space = here.room.territory, here.teacher.agent, here.room.space
    cut = await territory.say(space, Kind.REVOKE, Revocation(laptop.device, ()).encode())
    (before,) = [each for each in territory.replica.door.authorities_of(laptop.device) if each.space == space]
    keys = laptop.keys
    public = (keys.signing.public, keys.agreement.public, keys.tls.fingerprint)
    given = Grant(*public, Role.TEACHER, before.person, None).encode()
    await territory.say(space, Kind.GRANT, given, parents=(cut.id,))
    await here.sync(here.teacher, here.teacher)
    assert [await tend_reading_keys(laptop) for _ in range(3)] == [0, 0, 0]


async def test_where_nothing_has_changed_nothing_is_said_of_keys(here: Here) -> None:
    await invent_and_cut_off(here, 1)
    await here.sync(here.teacher)
    assert [await tend_reading_keys(here.teacher.agent) for _ in range(3)] == [0, 0, 0]


def test_a_file_of_keys_holds_what_was_put_into_it_the_newest_first() -> None:
    keys = [OwnKey(AgreementKey(bytes([n]) * 32), bytes([n % 2]) * 32, b"p" * 16) for n in range(5)]
    old = [AgreementKey(bytes([n]) * 32) for n in (8, 9)]
    read = own_keys_in(file_of(keys), b"".join(key.seed for key in old))
    assert not read.is_damaged
    assert not own_keys_in(None, b"").is_damaged
    assert own_keys_in(b"", b"").is_damaged
    assert [(each.key.seed, each.space) for each in read.keys] == [
        *((each.key.seed, each.space) for each in keys),
        *((key.seed, None) for key in old),
    ]
