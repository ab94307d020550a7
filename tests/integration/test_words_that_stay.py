"""What a teacher's computer answered stays shown as hers once its right is over (docs/adr/0161)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.entry import Kind
from protocol.roles import PersonRole
from protocol.structure import Revocation
from protocol.vouching import device_id
from protocol.work import Feedback
from sync_agent.confirming import confirm
from tests.harness.spied_class import SpiedClass, own_keys, spied_class


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[SpiedClass]:
    async with spied_class(tmp_path) as made:
        yield made


async def answers(here: SpiedClass) -> None:
    """The computer that is let in here (an honest one, for once) answers the pupil."""
    words = Feedback("Bien vu.", None, redo=False, content=None).encode()
    await here.say(Kind.FEEDBACK, words, here.room.pupil_person, target=here.work)


async def ends(here: SpiedClass) -> None:
    """Its right is over, all that it has said so far named."""
    territory, space, key = here.room.territory, here.room.space, here.spy.signing.public
    said = tuple(each.id for each in await territory.replica.store.authored(space, key))
    await territory.say(space, Kind.REVOKE, Revocation(key, said).encode(), target=here.grant)
    for _ in range(2):
        await here.sync()


async def named(here: SpiedClass) -> bytes | None:
    """Whose word the answer is, on the pupil's PC."""
    for _ in range(2):
        await here.sync()
    replica = here.machine.agent.replica
    view = await replica.view(here.room.space)
    note = view.coursework.hand_ins[here.work].feedback
    return None if note is None else view.roster.spoken_as(replica.door.authority(note.grant))


async def test_what_a_substitute_answered_stays_hers_after_the_last_day(here: SpiedClass) -> None:
    substitute = await here.room.territory.person("Mme R", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(substitute)
    await answers(here)
    assert await named(here) == substitute
    await ends(here)
    assert await named(here) == substitute


async def test_what_a_teachers_second_laptop_answered_stays_hers_once_that_is_out_of_use(here: SpiedClass) -> None:
    petit = here.room.teacher_person
    await here.name_the_spy(petit)
    await answers(here)
    assert await named(here) is None
    await confirm(here.teacher.agent, device_id(own_keys(here.spy)), shown_as="own")
    assert await named(here) == petit
    await ends(here)
    assert await named(here) == petit
