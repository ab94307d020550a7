"""A word that is held back was said again once what stands says the same: one that changes nothing silences nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Refused
from protocol.limits import SALT_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonRecord, Revocation, SpaceChange
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.people import list_draft, listings_of
from protocol.roles import PersonRole, Role
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.copied_keys import granted, thief_lists, thief_says
from tests.harness.last_word import NOTICE
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal

ROW = "a teacher's last word is undone"
TIM = PersonRecord("Tim", PersonRole.PUPIL)


class Held(NamedTuple):
    """A head teacher has put right what a copied key wrote, and that is held back; it may write her again."""

    here: Town
    head: Device
    pupil: str
    hers: Entry

    async def waits(self) -> bool:
        """Whether the server asks about her word."""
        return self.hers.id.hex() in {row["id"] for row in await self.here.office.do("waiting", refused=False)}

    async def told(self) -> int:
        """Of how many words her computer tells."""
        count: int = (await Desk(self.head.agent).ask("status"))["held_back"]["count"]
        return count

    async def listed(self) -> list[str]:
        """Whom the class's list has."""
        rows = await self.here.office.do("person list", space=self.here.space.hex())
        return [row["name"] for row in rows]


async def _held_back(here: Town, *, is_list: bool) -> Held:
    """Tim is taken off the list, or the class is called something; the head says what is right, and that is undone."""
    office, server = here.office, here.office.server
    pupil = await office.add_person("Tim", "pupil")
    head = await here.head_of_the_school()
    await here.sync()
    office.clock.advance(60_000)
    if is_list:
        await thief_lists(here, pupil, replace(TIM, left=True))
    else:
        await thief_says(office, Draft(here.space, Kind.SPACE_CHANGE, server.grant, SpaceChange("Nuls").encode()))
    await here.sync()
    office.clock.advance(60_000)
    spaces = (here.school, here.space)
    before = [tip for space in spaces for tip in await server.replica.tips(space, head.agent.device)]
    draft = await _puts_right(head, here, bytes.fromhex(pupil), is_list=is_list)
    (hers,) = await head.agent.write(draft)
    await here.sync()
    office.clock.advance(60_000)
    cut = Revocation(head.agent.device, tuple(before)).encode()
    (said,) = await thief_says(office, Draft(here.school, Kind.REVOKE, server.grant, cut))
    back = granted(head.agent.keys, Role.HEAD, None)
    await thief_says(office, Draft(here.school, Kind.GRANT, server.grant, back, parents=(said.id,)))
    await here.sync()
    await here.sync()
    return Held(here, head, pupil, hers)


async def _puts_right(head: Device, here: Town, pupil: bytes, *, is_list: bool) -> Draft:
    store = head.agent.replica.store
    if is_list:
        line = (await listings_of(head.agent.replica, [pupil]))[pupil][here.space].line
        draft = list_draft(pupil, TIM, here.space, line)
    else:
        names = tuple(one.id for one in await store.scan_kinds([Kind.SPACE_CHANGE]))
        draft = Draft(here.space, Kind.SPACE_CHANGE, None, SpaceChange("CM1").encode(), parents=names)
    return replace(draft, grant=(await head.agent.right(here.space, draft.kind)).grant)


async def _says_it_behind(held: Held, *, is_list: bool) -> None:
    """Whoever has a copy of the key says the very same, dated at the beginning of all time, and naming nothing."""
    server = held.here.office.server
    behind = compose(
        author=server.keys.signing,
        space=held.here.space,
        kind=Kind.PERSON if is_list else Kind.SPACE_CHANGE,
        grant=server.grant,
        at=1 << 16,
        payload=TIM.encode() if is_list else SpaceChange("CM1").encode(),
        subject=bytes.fromhex(held.pupil) if is_list else None,
        salt=bytes(SALT_BYTES),
    )
    assert (await server.replica.admit([behind], source=b"a thief", now_ms=held.here.office.clock())).admitted
    await held.here.sync()
    await held.here.sync()


async def _all(_replica: object, counting: Iterable[Entry]) -> set[bytes]:
    return {one.id for one in counting}


@pytest.mark.parametrize("is_list", [True, False])
@attack(ROW, off={"sync_server.handlers.by_kit.waiting.binding": _all})
async def test_a_heads_name_waits_though_a_copied_key_says_the_same_behind_what_is_shown(
    tmp_path: Path, *, is_list: bool
) -> None:
    async with town(tmp_path) as here:
        held = await _held_back(here, is_list=is_list)
        assert await held.waits()
        await _says_it_behind(held, is_list=is_list)
        assert await held.waits()


@pytest.mark.parametrize("is_list", [True, False])
@attack(ROW, off={"sync_agent.school.held_back.binding": _all})
async def test_her_computer_tells_of_it_too(tmp_path: Path, *, is_list: bool) -> None:
    async with town(tmp_path) as here:
        held = await _held_back(here, is_list=is_list)
        await _says_it_behind(held, is_list=is_list)
        assert await held.told() == 1
        async with portal(held.head.agent) as surfer:
            assert NOTICE in await surfer.page("/")


async def _of_whom_it_shows(_replica: object, persons: Iterable[bytes]) -> Mapping[bytes, Mapping[bytes, object]]:
    """As if a list said nothing of who has left it."""
    return {person: {} for person in persons}


@attack(ROW, off={"sync_server.handlers.by_kit.said_again.listings_of": _of_whom_it_shows})
async def test_who_was_taken_off_a_list_again_and_again_is_on_it_once_a_heads_word_is_accepted(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        held = await _held_back(here, is_list=True)
        for _ in range(3):
            await thief_lists(here, held.pupil, replace(TIM, left=True))
        with contextlib.suppress(Refused):
            await here.office.do("accept", named=[held.hers.id.hex()])
        assert await held.listed() == ["Tim"]
        assert not await held.waits()


@attack(ROW, off={"sync_agent.school.held_back.binding": _all})
async def test_what_was_accepted_and_is_undone_once_more_her_computer_tells_again(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        held = await _held_back(here, is_list=True)
        await here.office.do("accept", named=[held.hers.id.hex()])
        await here.sync()
        assert await held.told() == 0
        await thief_lists(here, held.pupil, replace(TIM, left=True))
        await here.sync()
        assert await held.told() == 1


async def test_what_changes_nothing_though_it_is_said_again_is_not_accepted_and_waits_on(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        held = await _held_back(here, is_list=True)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("erase", kit, person=[held.pupil], named=["Tim"])
        with pytest.raises(Refused, match="change nothing"):
            await here.office.do("accept", named=[held.hers.id.hex()])
        assert await held.waits()


def _whoever(*_: object) -> bool:
    return False


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.is_out": _whoever})
async def test_a_right_of_who_is_out_by_a_report_is_given_by_its_own_command_and_never_told_as_accepted(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        office = here.office
        laptop = await here.device("teacher", await office.add_person("Mme Petit", "teacher"))
        device = laptop.agent.device.hex()
        await here.sync()
        office.clock.advance(60_000)
        await office.do("revoke", device=device, since=None)
        office.clock.advance(DAY_MS)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(3_600_000)
        await office.do("grant", device=device, space=[here.space.hex()])
        office.clock.advance(600_000)
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="30m")
        (right,) = [row for row in await office.do("waiting", refused=False) if row["kind"] == "grant"]
        with pytest.raises(BadInput, match=f"grant --device {device}"):
            await office.do("accept", named=[right["id"]])
