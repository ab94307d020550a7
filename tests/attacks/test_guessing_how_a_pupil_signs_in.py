"""Brute force of PINs and picture passwords: ten tries per pupil, then a teacher; nothing to guess at elsewhere."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import PeerFault
from protocol.folds.coursework import Work
from protocol.folds.sign_in import KINDS, SignInWraps, unwrap
from protocol.identity import AgreementKey, three_words
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.roles import PersonRole
from sync_agent.portal.each_page.visit import Visit
from sync_agent.school.sign_in import TRIES_MARKS, SignInBook, Try
from sync_agent.school.sign_in_tries import Tries
from tests.harness.attack import attack
from tests.harness.classroom import WORK, assignment, classroom
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, WRONG, SignedClass, sign_in, signed_class

LONG_MS = 3_600_000


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


def by_the_lists_alone(visit: Visit, work: Work) -> bool:
    return not visit.guards.guarded.isdisjoint((work.person, visit.owner(work)))


async def missed(school: SignedClass, times: int) -> list[Try]:
    """Somebody tries one after the other, each time as soon as it is allowed; a restart in between helps nothing."""
    ended = []
    for _ in range(times):
        ended.append((await SignInBook(school.pc.agent).attempt(school.room.space, school.lea, WRONG)).how)
        school.room.territory.clock.advance(LONG_MS)
    return ended


async def test_the_tenth_miss_locks_that_pupil_and_nobody_else_until_a_teacher_unlocks(school: SignedClass) -> None:
    ended = await missed(school, MAX_SIGN_IN_TRIES + 5)
    assert ended == [Try.WRONG] * (MAX_SIGN_IN_TRIES - 1) + [Try.LOCKED] * 6
    book = SignInBook(school.pc.agent)
    assert (await book.attempt(school.room.space, school.lea, PICTURES)).how is Try.LOCKED  # not even the right ones
    assert (
        await book.attempt(school.room.space, school.tom, "4711")
    ).how is Try.PROVEN  # throttled per pupil, never per machine

    async with portal(school.pc.agent) as surfer:
        assert "C&#39;est bloqué. Va voir Mme Petit" in (await surfer.get(f"/sign-in/{school.lea.hex()}")).text
    await school.pc.session.sync()
    await school.agree()
    page = f"/sign-ins/{school.room.space.hex()}"
    async with portal(school.teacher.agent) as surfer:
        assert "bloqué après trop d&#39;essais" in await surfer.page(page)
        await surfer.send(page, f"{page}/unlock", {"person": school.lea.hex()})
    await school.agree()
    assert (await book.attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


async def test_a_machine_that_locks_for_fun_is_named_and_its_locks_end_with_its_right(school: SignedClass) -> None:
    hostile = await school.room.machine()
    for device in (hostile, school.teacher, hostile):
        await device.session.sync()
    space, agent = school.room.space, hostile.agent
    persons = (await school.fold_of(hostile).of(space)).persons
    right = await agent.right(space, Kind.SIGN_IN_LOCK)
    for person in (school.lea, school.tom):
        await agent.write(
            Draft(space, Kind.SIGN_IN_LOCK, right.grant, b"\x80", subject=person, target=persons[person].entry)
        )
    for device in (hostile, school.pc, school.teacher):
        await device.session.sync()
    assert (await SignInBook(school.pc.agent).attempt(school.room.space, school.lea, PICTURES)).how is Try.LOCKED
    async with portal(school.teacher.agent) as surfer:
        page = await surfer.page(f"/sign-ins/{space.hex()}")
        assert page.count(three_words(agent.device)) == 2
        assert three_words(school.pc.agent.device) not in page
    await school.room.territory.say(
        space, Kind.REVOKE, Revocation(agent.device, tuple(await agent.replica.tips(space, agent.device))).encode()
    )
    for device in (school.pc, school.teacher):
        await device.session.sync()
    assert (await SignInBook(school.pc.agent).attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


async def test_between_tries_one_waits_and_the_right_answer_waits_as_long(school: SignedClass) -> None:
    book = SignInBook(school.pc.agent)
    for _ in range(3):
        await book.attempt(school.room.space, school.lea, WRONG)
    assert (await book.attempt(school.room.space, school.lea, PICTURES)).how is Try.WAIT
    async with portal(school.pc.agent) as surfer:
        assert "Attends un petit moment" in (await surfer.get(f"/sign-in/{school.lea.hex()}")).text
    school.room.territory.clock.advance(15_000)
    assert (await book.attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


@attack(
    "brute force of PINs and picture passwords",
    off={"sync_agent.portal.everybody.signing_in.MIN_MISSES_TOLD": MAX_SIGN_IN_TRIES},
)
async def test_who_signs_in_is_told_how_many_tries_had_failed_in_their_name_on_that_computer(
    school: SignedClass,
) -> None:
    async with portal(school.pc.agent) as surfer:
        await missed(school, 2)
        assert (await sign_in(surfer, school.lea, PICTURES)).headers["Location"] == "/", "one misses that often oneself"
        await missed(school, 4)
        assert "essais ratés" not in await surfer.page("/?missed=10"), "no more than there can be"
        there = (await sign_in(surfer, school.lea, PICTURES)).headers["Location"]
        told = html.unescape(await surfer.page(there))
        assert "Il y a eu 4 essais ratés à ton nom sur cet ordinateur. Si ce n'était pas toi, dis-le à" in told
        assert "essais ratés" not in await surfer.page("/"), "once"
    async with portal(school.teacher.agent) as surfer:
        assert "essais ratés" not in await surfer.page(there), "who is signed in alone"


async def test_other_machines_take_no_more_tries_once_they_have_heard_of_the_lock(school: SignedClass) -> None:
    other = await school.room.machine()
    for device in (other, school.teacher, other):
        await device.session.sync()
    assert (await SignInBook(other.agent).standing(school.room.space, school.lea))[0].how is Try.WRONG
    await missed(school, MAX_SIGN_IN_TRIES)
    for device in (school.pc, other):
        await device.session.sync()
    assert (await SignInBook(other.agent).attempt(school.room.space, school.lea, PICTURES)).how is Try.LOCKED


async def test_a_try_that_is_cut_off_before_its_answer_has_been_counted(school: SignedClass) -> None:
    store = school.pc.agent.replica.store
    task = asyncio.create_task(SignInBook(school.pc.agent).attempt(school.room.space, school.lea, WRONG))
    while not (counted := await store.marks(TRIES_MARKS)):  # noqa: ASYNC110  (what the task itself brings about)
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (mark,) = counted.values()
    entry = (await school.fold_of(school.pc).of(school.room.space)).persons[school.lea].entry
    assert Tries.of(mark, entry).count == 1


async def test_two_tries_at_once_are_two_tries(school: SignedClass) -> None:
    book = SignInBook(school.pc.agent)
    ended = await asyncio.gather(*(book.attempt(school.room.space, school.lea, WRONG) for _ in range(8)))
    assert [each.how for each in ended] == [Try.WRONG] * 3 + [Try.WAIT] * 5


@attack(
    "a pupil acts as another on a shared PC",
    off={"sync_agent.portal.each_page.visit.Visit.is_guarded": by_the_lists_alone},
)
async def test_what_was_handed_in_is_shown_to_nobody_else_though_a_list_says_that_its_pupil_has_left(
    school: SignedClass,
) -> None:
    task = await assignment(school.room, school.teacher, school.pc)
    work = (await school.room.hand_in(school.pc, task, WORK)).hex()
    room = school.room
    listed = (await room.territory.replica.view(room.space)).roster.persons[school.lea].entry
    left = PersonRecord("Léa", PersonRole.PUPIL, left=True).encode()
    await room.territory.say(room.space, Kind.PERSON, left, subject=school.lea, parents=(listed,))
    await school.agree()
    async with portal(school.pc.agent) as surfer:
        assert work not in await surfer.page("/work")
        assert work not in await surfer.page(f"/item/{task.hex()}")
        assert (await surfer.get(f"/work/{work}")).status == 404


async def test_neither_server_nor_recovery_kit_holds_anything_that_a_guess_could_be_tried_against(
    school: SignedClass,
) -> None:
    territory = school.room.territory
    keys = (territory.keys.agreement, territory.keys.recovery)
    entries = [entry for entry in await territory.replica.store.scan_kinds(KINDS) if entry.payload is not None]
    wraps = [SignInWraps.parse(entry.payload or b"") for entry in entries if entry.header.kind == KINDS[1]]
    assert wraps
    assert {recipient for wrap in wraps for recipient, _ in wrap.wraps} == {
        school.teacher.agent.keys.agreement.public,
        school.pc.agent.keys.agreement.public,
    }
    for wrap in wraps:
        for _, sealed in wrap.wraps:
            for key in keys:
                assert not opens(sealed, key, school.room.space, wrap.key)


def opens(sealed: bytes, key: AgreementKey, space: bytes, name: bytes) -> bool:
    try:
        unwrap(sealed, key, space, name)
    except PeerFault:
        return False
    return True
