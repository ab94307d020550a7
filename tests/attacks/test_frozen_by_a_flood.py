"""A copied key freezes whom it likes, and who does not exist: no class is ever closed (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.said_too_late import said_too_late
from protocol.roles import PersonRole
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.copied_keys import back_up, brought, burnt_and_restored, signed_with, thief_says
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town

ROW = "a class is frozen for good"
MADE_UP = 300
FROZEN = PersonRecord("Léa", PersonRole.PUPIL, frozen=True).encode()


async def _in_time(_replica: Replica) -> frozenset[bytes]:
    """As if words under a key that was ended came as any others do."""
    return frozenset()


@dataclass
class Frozen:
    """A class in which a copied key says that people are frozen."""

    here: Town
    pupil: bytes
    kit: Kit

    async def next_day(self) -> None:
        office = self.here.office
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)

    async def freeze(self, *persons: bytes) -> None:
        office = self.here.office
        await self.next_day()
        said = [
            Draft(bytes.fromhex(office.space), Kind.PERSON, office.server.grant, FROZEN, subject=one) for one in persons
        ]
        await thief_says(office, *said)
        await self.here.sync()
        office.clock.advance(DAY_MS // 24)

    async def after_the_end(self, subject: bytes, said: PersonRecord) -> None:
        """The kit ends the key before anything was said with its copy; weeks later that says this, by any PC."""
        server = self.here.office.server
        copied, grant = server.keys.signing, server.grant
        await self.next_day()
        await self.rotate()
        self.here.office.clock.advance(20 * DAY_MS)
        at_ms, payload = self.here.office.clock(), said.encode()
        await brought(
            self.here, signed_with(copied, grant, self.here.space, at_ms, Kind.PERSON, payload, subject=subject)
        )

    async def rotate(self) -> None:
        await self.here.office.with_kit("rotate server", self.kit, since="12h")

    async def close(self) -> Any:
        is_meant = {"unopened_too": True, "unheard_too": True}
        return await self.here.office.with_kit("space close", self.kit, space=self.here.office.space, **is_meant)


@pytest.fixture
async def frozen(tmp_path: Path) -> AsyncIterator[Frozen]:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, at_work):
        yield Frozen(here, bytes.fromhex(at_work.pupil), kit_in(here.folder / "server" / "kit", None))


@attack(ROW, off={"protocol.replica.office.frozen._is_listed": lambda *_: True})
async def test_whom_lists_have_by_words_that_the_kit_holds_back_keep_no_class_from_being_closed(frozen: Frozen) -> None:
    people = Random(0)
    await frozen.freeze(*(people.randbytes(16) for _ in range(MADE_UP)))
    await frozen.rotate()
    try:
        await frozen.close()
    except BadInput as refused:
        pytest.fail(str(refused))


@attack(ROW, off={"protocol.replica.office.frozen._counts": lambda *_: True})
async def test_nor_does_a_word_that_the_kit_has_refused(frozen: Frozen) -> None:
    await frozen.freeze(frozen.pupil)
    await frozen.rotate()
    with pytest.raises(BadInput, match=frozen.pupil.hex()) as caught:
        await frozen.close()
    assert caught.value.code is Code.NOT_YET
    waiting: Any = await frozen.here.office.do("waiting")
    await frozen.here.office.with_kit("refuse", frozen.kit, named=[row["id"] for row in waiting])
    try:
        await frozen.close()
    except BadInput as refused:
        pytest.fail(str(refused))


@attack(ROW, off={"protocol.replica.office.frozen.said_too_late": _in_time})
async def test_nor_does_a_word_under_a_key_that_the_kit_had_ended_by_then(frozen: Frozen) -> None:
    await frozen.after_the_end(frozen.pupil, PersonRecord("Léa", PersonRole.PUPIL, frozen=True))
    try:
        await frozen.close()
    except BadInput as refused:
        pytest.fail(str(refused))


@attack(ROW, off={"protocol.replica.office.list_words.said_too_late": _in_time})
async def test_nor_is_whoever_has_left_in_doubt_by_such_a_word(frozen: Frozen) -> None:
    office = frozen.here.office
    gone = await office.add_person("Zoé", "pupil")
    await office.do("person retire", person=gone)
    await frozen.after_the_end(bytes.fromhex(gone), PersonRecord("Zoé", PersonRole.PUPIL))
    status: Any = await office.do("status")
    assert [row["person"] for row in status["left_pupils"]] == [gone]
    assert not status["left_in_doubt"]


async def test_what_the_office_froze_before_it_has_new_keys_is_not_said_too_late(frozen: Frozen) -> None:
    await frozen.next_day()
    await frozen.here.office.do("person freeze", person=frozen.pupil.hex())
    await frozen.rotate()
    with pytest.raises(BadInput, match=frozen.pupil.hex()):
        await frozen.close()


async def test_a_server_out_of_a_backup_takes_no_word_for_one_that_came_too_late(frozen: Frozen) -> None:
    await frozen.after_the_end(frozen.pupil, PersonRecord("Léa", PersonRole.PUPIL, frozen=True))
    assert await said_too_late(frozen.here.office.server.replica)
    await back_up(frozen.here)
    async with burnt_and_restored(frozen.here) as office:
        assert not await said_too_late(office.server.replica)


async def test_a_refusal_names_few_and_says_how_many_more_are_frozen(frozen: Frozen) -> None:
    people = Random(0)
    await frozen.freeze(*(people.randbytes(16) for _ in range(MADE_UP)))
    with pytest.raises(BadInput, match="and 290 more"):
        await frozen.close()
