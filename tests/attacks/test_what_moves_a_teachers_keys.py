"""What a server, or a colleague's laptop, in wrong hands says around a teacher's keys (docs/attacks.md)."""

from __future__ import annotations

from pathlib import Path
from random import Random

from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey
from protocol.limits import MAX_READING_KEYS_AT_ONCE, READING_KEY_PAUSE_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, PersonKey, PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import KeyWraps, seal_reading_key
from sync_agent.app import Agent
from sync_agent.hand_ins.wraps import tend_hand_ins
from sync_agent.keys.key_wraps import open_given_keys, reading_keys
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.places import Place
from sync_agent.keys.reading_key import _notes_of, tend_reading_keys
from tests.attacks.test_confirmed_colleagues import confirmed_colleague
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head
from tests.harness.lost_laptop import (
    another_laptop,
    keys_said,
    report_by_head,
    report_by_kit,
    teach_too,
)
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "what is said around a teacher's reading keys"
GHOST = bytes(range(16))
"""An id under which nobody is."""


async def added_twice(here: Here) -> tuple[bytes, Entry]:
    """The teacher stands on the list once more; that other id, and what calls both the same."""
    territory, space = here.room.territory, here.room.space
    twice = await territory.person("Mme Petit", PersonRole.TEACHER, space)
    return twice, await call_the_same(here, twice)


async def call_the_same(here: Here, other: bytes) -> Entry:
    """The list says that an id is the teacher's too."""
    territory, space = here.room.territory, here.room.space
    listed = (await territory.replica.view(space)).roster.persons[other].entry
    same = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=here.room.teacher_person).encode()
    return await territory.say(space, Kind.PERSON, same, subject=other, parents=(listed,))


async def part(here: Here, twice: bytes, same: Entry) -> None:
    """The list says so no more."""
    alone = PersonRecord("Mme Petit", PersonRole.TEACHER).encode()
    await here.room.territory.say(here.room.space, Kind.PERSON, alone, subject=twice, parents=(same.id,))


async def handed_in_now(here: Here, *hearers: Device) -> Work:
    """What a pupil hands in from now on, as the server knows it once these have synced."""
    work = await here.room.hand_in(here.machine, here.item, {"b.odt": b"written afterwards"})
    await here.sync(here.machine, *hearers)
    return (await here.room.territory.replica.view(here.room.space)).coursework.hand_ins[work]


async def she_opens_what_is_handed_in_now(here: Here) -> bool:
    handed_in = await handed_in_now(here, here.teacher)
    return content_key_of(handed_in, reading_keys(here.teacher.agent)) is not None


async def _nothing_was_said(_agent: object) -> set[object]:
    return set()


@attack(ROW, off={"sync_agent.keys.confirming._vouched": _nothing_was_said})
async def test_a_laptop_that_is_let_back_into_one_class_says_once_there_what_it_said_elsewhere(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, first = here.room.territory, here.teacher
        second = await another_laptop(here, first)
        other = await territory.classroom("CM2")
        await teach_too(here, other, first, second)
        await here.sync(first, second, first, second)
        keys = first.agent.keys
        cut = await territory.say(other, Kind.REVOKE, Revocation(first.agent.device, ()).encode())
        again = Grant(
            keys.signing.public,
            keys.agreement.public,
            keys.tls.fingerprint,
            Role.TEACHER,
            here.room.teacher_person,
            None,
            None,
        )
        let_in = await territory.say(other, Kind.GRANT, again.encode(), parents=(cut.id,))
        server, now_ms = territory.keys.signing.public, territory.clock()
        await first.agent.replica.admit([cut, let_in], source=server, now_ms=now_ms)
        said = [await tend_reading_keys(first.agent) for _ in range(5)]
        assert said[-2:] == [0, 0]


@attack(ROW, off={"protocol.rights.spent_keys._kept_by": lambda *_: frozenset()})
async def test_a_key_of_nobody_beside_her_own_ends_no_key_of_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, agent = here.room.territory, here.room.space, here.teacher.agent
        ghost = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=here.room.teacher_person)
        await territory.say(space, Kind.PERSON, ghost.encode(), subject=GHOST)
        nobody = new_device(Random(77).randbytes)
        beside = Grant(
            nobody.signing.public,
            agent.keys.agreement.public,
            nobody.tls.fingerprint,
            Role.TEACHER,
            GHOST,
            None,
            None,
        )
        await territory.say(space, Kind.GRANT, beside.encode())
        await territory.say(space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
        for _ in range(6):
            await here.sync(here.teacher, here.machine)
        handed_in = await handed_in_now(here, here.teacher)
        assert content_key_of(handed_in, reading_keys(agent)) is not None


@attack(ROW, off={"protocol.rights.spent_keys._of_phrases": lambda *_: ()})
async def test_a_key_of_nobody_beside_that_of_her_phrase_ends_no_key_of_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space = here.room.territory, here.room.space
        await new_phrase(here.teacher.agent, Argon2Cost(8, 1, 1))
        await here.sync(here.teacher, here.machine, here.teacher)
        ((_, phrase),) = (await territory.replica.view(space)).roster.phrases[here.room.teacher_person]
        nobody = new_device(Random(78).randbytes)
        pair = nobody.signing.public, phrase.agreement
        beside = Grant(*pair, nobody.tls.fingerprint, Role.TEACHER, GHOST, None, None)
        await territory.say(space, Kind.GRANT, beside.encode())
        await territory.say(space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
        for _ in range(6):
            await here.sync(here.teacher, here.machine)
        assert await she_opens_what_is_handed_in_now(here)


def _by_who_signs(agent: Agent, place: Place) -> tuple[frozenset[bytes], frozenset[bytes]]:
    roster = place.roster
    away = roster.cut.union(key for (key, _), _ in roster.away.back) - {agent.device}
    named = {key: agent.replica.door.authorities_of(key) for key in away}
    theirs = {key for key, grants in named.items() if any(each.agreement in place.given_to for each in grants)}
    return _notes_of(theirs), _notes_of(theirs)


@attack(ROW, off={"sync_agent.keys.reading_key._away_of_theirs": _by_who_signs})
async def test_keys_of_nobody_beside_that_of_a_lost_laptop_call_for_one_new_key(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, lost, space = here.room.territory, here.teacher, here.room.space
        second = await another_laptop(here, lost)
        await here.sync(second, here.machine)
        await report_by_kit(here, second)
        await here.sync(second, second)
        before = len(await keys_said(here, second.agent.device))
        for number in range(10):
            nobody = new_device(Random(50_000 + number).randbytes)
            pair = nobody.signing.public, lost.agent.keys.agreement.public
            beside = Grant(*pair, nobody.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None)
            await territory.say(space, Kind.GRANT, beside.encode())
            await territory.say(space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
            await here.sync(second)
            territory.clock.advance(READING_KEY_PAUSE_MS // 2)
        assert len(await keys_said(here, second.agent.device)) <= before + MAX_READING_KEYS_AT_ONCE


def _also_by_the_list(place: Place) -> bool:
    return not place.roster.erased.isdisjoint((place.space, place.person, place.roster.who(place.person)))


@attack(ROW, off={"sync_agent.keys.places.Place.is_closed": property(_also_by_the_list)})
async def test_an_id_that_nobody_has_and_that_is_forgotten_silences_no_laptop(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
        second = await another_laptop(here, here.teacher)
        listed = (await territory.replica.view(space)).roster.persons[hers].entry
        as_ghost = PersonRecord("Mme Petit", PersonRole.TEACHER, same_as=GHOST).encode()
        await territory.say(space, Kind.PERSON, as_ghost, subject=hers, parents=(listed,))
        await territory.say(space, Kind.ERASE, Erasure(GHOST).encode())
        head, _ = await confirmed_head(here)
        await here.sync(head, second, here.machine)
        before = await keys_said(here, second.agent.device)
        await report_by_head(here, head)
        await here.sync(head, second, here.machine, second)
        assert await keys_said(here, second.agent.device) > before


@attack(ROW, off={"sync_agent.keys.key_wraps._is_hers": lambda *_: True})
async def test_a_colleagues_laptop_gives_no_teacher_keys_of_its_own(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        space, hers, mine = here.room.space, here.room.teacher_person, here.teacher.agent.keys.agreement.public
        person = await here.room.territory.person("M. Roux", PersonRole.TEACHER, space)
        colleague = (await here.room.device(Role.TEACHER, person=person)).agent
        planted = AgreementKey(bytes([7]) * 32)
        right = await colleague.right(space, Kind.KEY_WRAP)
        sealed = seal_reading_key(planted, space, hers, mine, colleague.entropy(32))
        gift = KeyWraps(planted.public, ((mine, sealed),)).encode()
        said = await colleague.write(Draft(space, Kind.KEY_WRAP, right.grant, gift, subject=hers))
        await here.teacher.session.sync()
        await here.teacher.agent.replica.admit(said, source=colleague.device, now_ms=here.room.territory.clock())
        await open_given_keys(here.teacher.agent)
        assert planted.public not in reading_keys(here.teacher.agent)


@attack(ROW, off={"sync_agent.hand_ins.wraps._says_something": lambda _wraps: True})
async def test_a_colleagues_key_with_which_nobody_reads_has_nothing_said_again_and_again(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        colleague = await confirmed_colleague(here)
        said = await here.room.territory.replica.store.scan_kinds([Kind.PERSON_KEY])
        before = tuple(entry.id for entry in said if entry.header.author == here.spy.signing.public)
        await Desk(here.teacher.agent).ask("confirm-opened", id=here.work.hex())
        await here.sync(here.teacher)
        weak = await here.say(Kind.PERSON_KEY, PersonKey(bytes(32), "PC").encode(), colleague, parents=before)
        now_ms = here.room.territory.clock()
        await here.teacher.agent.replica.admit([weak], source=here.spy.signing.public, now_ms=now_ms)
        assert [await tend_hand_ins(here.teacher.agent) for _ in range(3)][1:] == [0, 0]


async def _let_in_and_cut_off(here: Here, person: bytes) -> bytes:
    """The X25519 key of a device of nobody, of which the server says both."""
    territory, space = here.room.territory, here.room.space
    nobody = new_device(Random(77).randbytes)
    await territory.let_in(nobody, Role.TEACHER, space, person=person)
    await territory.say(space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
    return nobody.agreement.public


def _none(_said: object) -> frozenset[tuple[bytes, bytes]]:
    return frozenset()


@attack(ROW, off={"protocol.rights.spent_keys._made_by_their_own": _none})
async def test_who_says_her_key_as_somebody_elses_ends_no_key_of_hers(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, space, hers = here.room.territory, here.room.space, here.room.teacher_person
        other = await territory.person("M. Renard", PersonRole.TEACHER, space)
        await here.name_the_spy(other)
        await here.sync(here.teacher, here.machine, here.teacher)
        as_the_other = here.grant
        (as_hers,) = await territory.let_in(here.spy, Role.TEACHER, space, person=hers)
        nobody = await _let_in_and_cut_off(here, other)
        for _ in range(6):
            for key in await keys_said(here, here.teacher.agent.device):
                here.grant = as_the_other
                await here.say(Kind.PERSON_KEY, PersonKey(key).encode(), other)
                here.grant = as_hers.id
                await here.say(Kind.KEY_WRAP, KeyWraps(key, ((nobody, bytes(80)),)).encode(), hers)
            await here.sync(here.teacher, here.machine, here.teacher)
        assert await she_opens_what_is_handed_in_now(here)


@attack(ROW, off={"protocol.rights.roster.Roster.is_away": lambda *_: False})
async def test_what_a_lost_laptop_says_was_given_calls_for_no_new_keys(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        territory, lost, space = here.room.territory, here.teacher, here.room.space
        second = await another_laptop(here, lost)
        await here.sync(second, lost, second, here.machine)
        strangers = [new_device(Random(60_000 + number).randbytes) for number in range(12)]
        right = await lost.agent.right(space, Kind.KEY_WRAP)
        given = tuple((each.agreement.public, bytes(80)) for each in strangers)
        for key in await keys_said(here, second.agent.device):
            said = KeyWraps(key, given).encode()
            await lost.agent.write(Draft(space, Kind.KEY_WRAP, right.grant, said, subject=here.room.teacher_person))
        await here.sync(lost, second)
        await report_by_kit(here, second)
        await here.sync(second, second)
        before = len(await keys_said(here, second.agent.device))
        for each in strangers:
            await territory.let_in(each, Role.TEACHER, space, person=here.room.teacher_person)
            await territory.say(space, Kind.REVOKE, Revocation(each.signing.public, ()).encode())
            await here.sync(second)
            territory.clock.advance(READING_KEY_PAUSE_MS // 2)
        assert len(await keys_said(here, second.agent.device)) <= before + MAX_READING_KEYS_AT_ONCE
