"""A teacher corrects an answer, and by a cut that names what she had said before, the earlier one is in force again."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from protocol.limits import SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import PersonRecord, Revocation
from protocol.roles import PersonRole, Role
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.lost_laptop import let_in_again
from tests.harness.spied_class import SpiedClass
from tests.harness.territory import new_device

BEFORE: Final = "Nul. Tu recommences tout."
AFTER: Final = "Pardon, je m'étais trompée de copie : très bien."
NOTICE: Final = 'id="held-back"'


async def undone(here: SpiedClass, *, ahead_ms: int = 0) -> None:
    """She corrects an answer; by a cut that names what she had said before, the earlier one is in force again.

    As she said the earlier one the server had proven a time that was so far `ahead_ms`; it is right again by now.
    """
    room, hers, desk = here.room, here.teacher, Desk(here.teacher.agent)
    if ahead_ms:
        await _shows_a_time(here, ahead_ms)
    await desk.ask("feedback", id=here.work.hex(), text=BEFORE, mark="2/20", redo=True)
    await here.sync(hers, here.machine)
    if ahead_ms:
        here.room.frontage.responder._now_ms = room.territory.clock
        room.territory.clock.advance(60_000)
        await here.sync(hers, here.machine)
    before = tuple(await room.territory.replica.tips(room.space, hers.agent.device))
    await desk.ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
    await here.sync(hers, here.machine)
    await hold_back_since(here, before)
    view = await here.machine.agent.replica.view(room.space)
    feedback = view.coursework.hand_ins[here.work].feedback
    assert feedback is not None
    assert feedback.record.text == BEFORE


async def _shows_a_time(here: SpiedClass, ahead_ms: int) -> None:
    """The server says a time, and shows her laptop an entry of then, so that this follows."""
    territory, space = here.room.territory, here.room.space
    clock = territory.clock
    here.room.frontage.responder._now_ms = lambda: clock() + ahead_ms
    await here.sync(here.teacher)
    then = compose(
        author=territory.keys.signing, space=space, kind=Kind.PERSON, grant=territory.certificate.id,
        at=(clock() + ahead_ms) << 16, payload=PersonRecord("Tom", PersonRole.PUPIL).encode(), salt=bytes(SALT_BYTES),
        subject=b"t" * 16,
    )  # fmt: skip
    assert (await territory.replica.admit([then], source=b"a thief", now_ms=clock())).admitted
    await here.sync(here.teacher)


async def hold_back_since(here: SpiedClass, heads: tuple[bytes, ...]) -> None:
    """Her laptop is cut off but for what these lead to, and let in again in the same breath."""
    room, hers = here.room, here.teacher
    await room.territory.say(room.space, Kind.REVOKE, Revocation(hers.agent.device, heads).encode())
    await let_in_again(here, hers, Role.TEACHER, room.teacher_person)
    for _ in range(2):
        await here.sync(hers, here.machine)


async def an_administrator_cuts_off(here: SpiedClass, hers: Device, before: tuple[bytes, ...], seed: int = 666) -> None:
    """Another device that whoever has a copy of the server's key lets in, but for what these lead to."""
    here.spy = new_device(Random(seed).randbytes)
    (right,) = await here.room.territory.let_in(here.spy, Role.ADMIN, here.room.space)
    here.grant = right.id
    await here.say(Kind.REVOKE, Revocation(hers.agent.device, before).encode(), None)


async def and_is_cut_off(here: SpiedClass) -> None:
    """By whoever found out, or by the thief: what that device said hides nothing any more."""
    ended = Revocation(here.spy.signing.public, ()).encode()
    await here.room.territory.say(here.room.space, Kind.REVOKE, ended)


async def her_last_word(here: SpiedClass) -> bytes:
    store = here.teacher.agent.replica.store
    said = await store.authored(here.room.space, here.teacher.agent.device)
    return [entry.id for entry in said if entry.header.kind == Kind.FEEDBACK][-1]


async def told_by_status(here: SpiedClass) -> dict[str, Any]:
    told: dict[str, Any] = (await Desk(here.teacher.agent).ask("status"))["held_back"]
    return told
