"""A teacher corrects an answer, and by a cut that names what she had said before, the earlier one is in force again."""

from __future__ import annotations

from typing import Any, Final

from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.roles import Role
from tests.harness.commands import Desk
from tests.harness.lost_laptop import let_in_again
from tests.harness.spied_class import SpiedClass

BEFORE: Final = "Nul. Tu recommences tout."
AFTER: Final = "Pardon, je m'étais trompée de copie : très bien."
NOTICE: Final = 'id="held-back"'


async def undone(here: SpiedClass) -> None:
    """She corrects an answer; by a cut that names what she had said before, the earlier one is in force again."""
    room, hers, desk = here.room, here.teacher, Desk(here.teacher.agent)
    await desk.ask("feedback", id=here.work.hex(), text=BEFORE, mark="2/20", redo=True)
    await here.sync(hers, here.machine)
    before = tuple(await room.territory.replica.tips(room.space, hers.agent.device))
    await desk.ask("feedback", id=here.work.hex(), text=AFTER, mark="18/20")
    await here.sync(hers, here.machine)
    await hold_back_since(here, before)
    view = await here.machine.agent.replica.view(room.space)
    feedback = view.coursework.hand_ins[here.work].feedback
    assert feedback is not None
    assert feedback.record.text == BEFORE


async def hold_back_since(here: SpiedClass, heads: tuple[bytes, ...]) -> None:
    """Her laptop is cut off but for what these lead to, and let in again in the same breath."""
    room, hers = here.room, here.teacher
    await room.territory.say(room.space, Kind.REVOKE, Revocation(hers.agent.device, heads).encode())
    await let_in_again(here, hers, Role.TEACHER, room.teacher_person)
    for _ in range(2):
        await here.sync(hers, here.machine)


async def her_last_word(here: SpiedClass) -> bytes:
    store = here.teacher.agent.replica.store
    said = await store.authored(here.room.space, here.teacher.agent.device)
    return [entry.id for entry in said if entry.header.kind == Kind.FEEDBACK][-1]


async def told_by_status(here: SpiedClass) -> dict[str, Any]:
    told: dict[str, Any] = (await Desk(here.teacher.agent).ask("status"))["held_back"]
    return told
