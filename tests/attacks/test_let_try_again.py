"""A teacher lets a pupil try again, at what somebody else has set (docs/attacks.md, docs/adr/0345)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.folds.sign_in import Method
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.rights.vouching import device_id
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, WRONG, SignedClass, signed_class

ROW = "what a thief had set for a pupil outlives the thief"
HIS, WRONG_PIN = "2580", "0000"
HOUR_MS = 3_600_000


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[SignedClass]:
    async with classroom(tmp_path) as room:
        yield await signed_class(room)


def _sets_it(_entry: object) -> bool:
    """Whoever lets somebody try again says in their own name by what they sign in."""
    return False


OFF = {"protocol.folds.sign_in.lets_try_again": _sets_it}


async def tried(school: SignedClass, secret: str) -> Try:
    """How it ends on the shared PC."""
    return (await school.fold_of(school.pc).attempt(school.room.space, school.lea, secret)).how


async def agree(school: SignedClass, *devices: Device) -> None:
    for device in (*devices, school.teacher, school.pc, *devices, school.teacher, school.pc):
        await device.session.sync()


async def locked(school: SignedClass, wrong: str = WRONG_PIN) -> None:
    """Somebody at the PC misses until it takes no more, and the teacher hears of it."""
    ended = []
    for _ in range(MAX_SIGN_IN_TRIES):
        ended.append(await tried(school, wrong))
        school.room.territory.clock.advance(HOUR_MS)
    assert ended[-1] is Try.LOCKED
    await school.agree()


async def unlocked(school: SignedClass, by: str) -> None:
    """On her page, or by the command of her laptop."""
    space, lea = school.room.space.hex(), school.lea.hex()
    if by == "command":
        await Desk(school.teacher.agent).ask("sign-in-unlock", space=space, person=lea)
    else:
        async with portal(school.teacher.agent) as surfer:
            await surfer.send(f"/sign-ins/{space}", f"/sign-ins/{space}/unlock", {"person": lea})
    await school.agree()


@attack(ROW, off=OFF)
@pytest.mark.parametrize("by", ["page", "command"])
async def test_it_goes_with_the_servers_key_that_let_him_in_though_her_teacher_let_her_try_again(
    school: SignedClass, by: str
) -> None:
    room, office = school.room, school.room.territory
    spaces = office.replica.door.spaces()
    before = [tip for space in spaces for tip in await office.replica.tips(space, office.keys.signing.public)]
    thief = await room.head()
    await agree(school, thief)
    await SignInBook(thief.agent).set(room.space, {school.lea: (Method.PIN, HIS)})
    await agree(school, thief)
    await locked(school)
    await unlocked(school, by)
    assert await tried(school, HIS) is Try.PROVEN, "while he is in, it is by what she signs in"
    now_ms = office.clock()
    await office.kit_says(office.id, Kind.REVOKE, Revocation(office.keys.signing.public, tuple(before)).encode())
    for device in (school.teacher, school.pc):
        for space in spaces:
            said = [one.entry for one in await office.replica.store.scan(space)]
            await device.agent.replica.admit(said, source=b"a stick", now_ms=now_ms)
    assert [await tried(school, each) for each in (HIS, PICTURES)] == [Try.WRONG, Try.PROVEN]


@attack(ROW, off=OFF)
async def test_it_goes_with_a_stolen_laptop_that_is_reported_though_its_teacher_had_confirmed_that_one(
    school: SignedClass,
) -> None:
    room = school.room
    second = await room.teacher()
    await agree(school, second)
    await confirm(school.teacher.agent, device_id(own_device(second.agent)), shown_as="own")
    await agree(school, second)
    before = tuple(await room.territory.replica.tips(room.space, second.agent.device))
    await SignInBook(second.agent).set(room.space, {school.lea: (Method.PIN, HIS)})
    await agree(school, second)
    await locked(school)
    await unlocked(school, "page")
    assert await tried(school, HIS) is Try.PROVEN
    await room.territory.say(room.space, Kind.REVOKE, Revocation(second.agent.device, before).encode())
    await school.agree()
    assert [await tried(school, each) for each in (HIS, PICTURES)] == [Try.WRONG, Try.PROVEN]


@attack("new pictures are undone", off=OFF)
async def test_a_server_that_holds_back_who_let_a_pupil_try_again_shuts_nobody_out_but_who_was_locked(
    school: SignedClass,
) -> None:
    await locked(school, WRONG)
    before = await school.tips()
    await unlocked(school, "page")
    assert await tried(school, PICTURES) is Try.PROVEN
    await school.let_in_again(await school.cut_off(before))
    assert (await school.book.of(school.room.space)).in_doubt == frozenset()
    assert await tried(school, PICTURES) is Try.LOCKED
    assert (await Desk(school.teacher.agent).ask("status"))["held_back"]["count"] == 0
    await unlocked(school, "page")
    assert await tried(school, PICTURES) is Try.PROVEN
