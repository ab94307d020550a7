"""The office has frozen Léa; a copied key says that she is so no more, and an honest hand closes her class, or erases.

What follows cannot be undone: with the kit all goes everywhere (docs/adr/0446).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind
from protocol.model.structure import PersonRecord, Ruling
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.frozen import freezing_words
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.copied_keys import back_up, burnt_and_restored, thief_hides, thief_lists, thief_says
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town

ROW = "what is frozen is destroyed"
NO_MORE = PersonRecord("Léa", PersonRole.PUPIL)
AS_A_TEACHER = PersonRecord("Léa", PersonRole.TEACHER, frozen=True)


async def _as_shown(*_: object) -> Mapping[bytes, Sequence[Entry]]:
    return {}


WHAT_LISTS_SHOW: dict[str, object] = {"protocol.replica.office.frozen._not_lifted": _as_shown}


class Scene:
    """A class whose server's key somebody has as well, and in which Léa is frozen."""

    def __init__(self, here: Town, pupil: str) -> None:
        self.here, self.pupil, self.office = here, pupil, here.office
        self.kit = kit_in(here.folder / "server" / "kit", None)

    async def thief_lifts(self, said: PersonRecord = NO_MORE) -> None:
        await thief_lists(self.here, self.pupil, said)
        await self.here.sync()

    async def frozen(self) -> list[Any]:
        """As the operator reads it."""
        rows: list[Any] = (await self.office.do("status"))["frozen_persons"]
        return rows

    async def nothing_is_destroyed(self) -> None:
        """Each of the commands by which an office, or the kit, has her work destroyed is refused."""
        is_closed = {"space": self.office.space, "unopened_too": True, "unheard_too": True}
        for command, kit, params in (
            ("space close", self.kit, is_closed),
            ("erase", self.kit, {"person": [self.pupil]}),
            ("erase", None, {"person": [self.pupil]}),
        ):
            said = self.office.do(command, **params) if kit is None else self.office.with_kit(command, kit, **params)
            with pytest.raises(BadInput, match="frozen") as caught:
                await said
            assert caught.value.code is Code.NOT_YET


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        await here.office.do("person freeze", person=at_work.pupil)
        await here.sync()
        yield Scene(here, at_work.pupil)


@pytest.mark.parametrize("said", [NO_MORE, AS_A_TEACHER], ids=["no more", "as a teacher"])
@attack(ROW, off=WHAT_LISTS_SHOW)
async def test_what_is_frozen_is_destroyed_by_nobody_though_a_copied_key_has_lifted_that(
    scene: Scene, said: PersonRecord
) -> None:
    await scene.thief_lifts(said)
    await scene.nothing_is_destroyed()


@attack(ROW, off=WHAT_LISTS_SHOW)
async def test_nor_once_an_honest_word_follows_the_one_that_lifted_it(scene: Scene) -> None:
    await scene.thief_lifts()
    await scene.office.do("person rename", person=scene.pupil, name="Léa M.")
    await scene.nothing_is_destroyed()


@attack(ROW, off=WHAT_LISTS_SHOW)
async def test_nor_by_a_head_teachers_computer_which_cannot_tell_who_has_lifted_it(scene: Scene) -> None:
    head = await scene.here.head_of_the_school()
    await scene.thief_lifts()
    await scene.here.sync()
    with pytest.raises(BadInput, match="who has lifted that is known at the server alone"):
        await Desk(head.agent).ask("erase", person=[scene.pupil])


@attack(ROW, off=WHAT_LISTS_SHOW)
async def test_whoever_looks_reads_by_whose_word_lists_show_who_is_frozen(scene: Scene) -> None:
    (before,) = await scene.frozen()
    assert (before["person"], before["lifted"]) == (scene.pupil, [])
    scene.office.clock.advance(60_000)
    await scene.thief_lifts()
    rows, key = await scene.frozen(), scene.office.server.keys.signing.public.hex()
    assert [(row["person"], row["since"]) for row in rows] == [(scene.pupil, before["since"])]
    assert [(each["space"], each["device"]) for each in rows[0]["lifted"]] == [(scene.office.space, key)]


@attack(ROW, off={"protocol.replica.office.left_over.freezing_words": _as_shown})
async def test_nobody_is_named_as_one_who_has_left_while_they_are_frozen(scene: Scene) -> None:
    await scene.thief_lifts()
    await scene.office.do("person retire", person=scene.pupil)
    assert (await scene.office.do("status"))["left_pupils"] == []


async def test_the_command_lifts_it_where_a_copied_key_has_said_so_already(scene: Scene) -> None:
    await scene.thief_lifts()
    assert await scene.office.do("person unfreeze", person=scene.pupil) == {"person": scene.pupil, "lists": 1}
    assert await scene.frozen() == []
    assert await scene.office.do("person unfreeze", person=scene.pupil) == {"person": scene.pupil, "lists": 0}
    await scene.office.do("erase", person=[scene.pupil])


async def test_said_once_more_it_is_frozen_once_more(scene: Scene) -> None:
    await scene.office.do("person unfreeze", person=scene.pupil)
    await scene.office.do("person freeze", person=scene.pupil)
    await scene.thief_lifts()
    await scene.nothing_is_destroyed()


async def test_a_server_out_of_a_backup_has_whoever_was_ever_frozen_until_it_is_lifted_there(scene: Scene) -> None:
    await scene.office.do("person unfreeze", person=scene.pupil)
    await back_up(scene.here)
    async with burnt_and_restored(scene.here) as scene.office:
        assert [row["person"] for row in await scene.frozen()] == [scene.pupil]
        await scene.office.do("person unfreeze", person=scene.pupil)
        assert await scene.frozen() == []


async def _whose_list_says_so(replica: Replica, space: bytes) -> Collection[bytes]:
    freezing = await freezing_words(replica)
    return {person for person, words in freezing.items() if any(word.header.space == space for word in words)}


@attack(ROW, off={"sync_server.handlers.by_kit.closing.frozen_in": _whose_list_says_so})
async def test_nor_is_a_class_closed_that_was_hidden_for_the_hour_in_which_somebody_of_it_was_frozen(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        server, scene = here.office.server, Scene(here, at_work.pupil)
        other = (await here.office.do("space add", name="CE2", school="0180001D", year="none"))["space"]
        await here.office.do("grant", person=at_work.pupil, space=[other])
        hidden = await thief_hides(here, here.space)
        await here.office.do("person freeze", person=at_work.pupil)
        shows = Draft(here.school, Kind.RULING, server.grant, Ruling((), (hidden.id,)).encode())
        await thief_says(here.office, shows)
        await scene.nothing_is_destroyed()
