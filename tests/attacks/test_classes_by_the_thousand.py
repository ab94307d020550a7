"""Who had the server's key for an hour makes more classes than a request names: machines hear the kit all the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import PeerFault, RelaisError
from protocol.identity import DeviceKeys
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, SpaceRecord
from protocol.replica.answering.news import News
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.at_work.views import Basis, SpaceView, Views
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.storage import database
from protocol.roles import Role
from sync_agent.sync.asking import Asking, Said
from sync_server.handlers.by_kit.territory import kit_in
from tests.attacks.test_closed_to_who_would_tell import calls_for_an_hour
from tests.harness.attack import attack
from tests.harness.caller import Caller
from tests.harness.classroom import Device
from tests.harness.copied_keys import granted, thief_says
from tests.harness.in_this_thread import ConnectionInThisThread
from tests.harness.lan import exchange
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

ROW = "classes by the thousand, so that no machine can ask for news"
MOST = 24
"""Stands for the 4,096 spaces that one request may name: so many folds take minutes."""
CLASSES = MOST + 8


@pytest.fixture(autouse=True)
def few_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)
    for module in ("sync.cursors", "messages.calls", "replica.answering.named_cursors", "replica.answering.news"):
        package = "sync_agent" if module == "sync.cursors" else "protocol"
        monkeypatch.setattr(f"{package}.{module}.MAX_SPACES_PER_REQUEST", MOST)


async def invents_classes(here: Town, *opened_to: DeviceKeys) -> list[bytes]:
    """A thief with the server's key does, in the school; something lies in each of them. Their ids."""
    grant = here.office.server.grant
    drafts = [Draft(here.school, Kind.GRANT, grant, granted(keys, Role.MACHINE, None)) for keys in opened_to]
    for number in range(CLASSES):
        record = SpaceRecord(f"C{number}", year="2026-2027")
        drafts.append(Draft(here.school, Kind.SPACE, grant, record.encode()))
    made = [each.id for each in await thief_says(here.office, *drafts) if each.header.kind == Kind.SPACE]
    said = granted(new_device(os.urandom), Role.MACHINE, None)
    await thief_says(here.office, *(Draft(space, Kind.GRANT, grant, said) for space in made))
    return made


async def before_the_theft(here: Town) -> int:
    """Time passes; when the theft begins."""
    for _ in range(3):
        await note_arrivals(here.office.server.store, here.office.clock())
        here.office.clock.advance(3_600_000)
    since_ms = here.office.clock()
    here.office.clock.advance(3_600_000)
    return since_ms


async def kits_word(here: Town, tmp_path: Path, since_ms: int) -> None:
    """New keys for the server, an hour after the theft began."""
    here.office.clock.advance(600_000)
    await note_arrivals(here.office.server.store, here.office.clock())
    since = f"{(here.office.clock() - since_ms) // 1000}s"
    await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since=since)


async def shows(device: Device, here: Town, person: str) -> bool:
    return bytes.fromhex(person) in (await device.agent.replica.view(here.space)).roster.persons


def _all_of(spaces: Sequence[bytes], _learned: object) -> Sequence[bytes]:
    return spaces


async def _none_is(*_: object) -> frozenset[bytes]:
    return frozenset()


async def _also_deserted(_door: object, _by_root: object, spaces: Iterable[bytes]) -> set[bytes]:
    return set(spaces)


@attack(ROW, off={"sync_agent.sync.cursors._first_of": _all_of})
@pytest.mark.parametrize("way", ["server", "neighbour"])
async def test_who_may_read_more_classes_than_a_request_names_hears_the_kits_word(tmp_path: Path, way: str) -> None:
    async with town(tmp_path) as here:
        teacher, machine, petit, lea, _ = await here.class_in_step()
        head = await here.head_of_the_school()
        since_ms = await before_the_theft(here)
        erasure = Draft(here.school, Kind.ERASE, here.office.server.grant, Erasure(bytes.fromhex(lea)).encode())
        await thief_says(here.office, erasure)
        hers = Draft(
            here.school, Kind.GRANT, here.office.server.grant, granted(teacher.agent.keys, Role.TEACHER, petit)
        )
        await thief_says(here.office, hers)
        await invents_classes(here, machine.agent.keys)
        for device in (machine, teacher, head):
            with suppress(RelaisError):
                await device.session.sync()
            assert len(await device.agent.spaces()) > MOST
            assert not await shows(device, here, lea)
        await kits_word(here, tmp_path, since_ms)
        for device in (machine, teacher, head):
            with suppress(RelaisError):
                if way == "server" or device is machine:
                    await device.session.sync()
                else:
                    await exchange(device.agent, machine.agent)
            assert await shows(device, here, lea)


@attack(ROW, off={"protocol.replica.at_work.replica.deserted_by_root": _none_is})
async def test_what_the_kit_has_taken_back_lies_below_no_right_and_a_new_class_is_heard_of(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_in_step()
        head = await here.head_of_the_school()
        since_ms = await before_the_theft(here)
        await invents_classes(here)
        await head.session.sync()
        await kits_word(here, tmp_path, since_ms)
        fresh = await here.device("head", None, here.school.hex())
        made = await here.office.do("space add", name="CE2", school="0180001D", year="none")
        for device in (head, fresh):
            for _ in range(2):
                await device.session.sync()
        zoe = (await here.office.do("person add", space=[made["space"]], name="Zoé", role="pupil"))["person"]
        space = bytes.fromhex(made["space"])
        for device in (head, fresh):
            await device.session.sync()
            roster = (await device.agent.replica.view(space)).roster
            assert bytes.fromhex(zoe) in roster.persons
            assert set(await device.agent.spaces()) == {device.agent.replica.territory, here.school, here.space, space}


@attack(ROW, off={"protocol.replica.at_work.replica.deserted_by_root": _none_is})
async def test_a_class_that_the_kit_has_taken_back_is_read_again_once_somebody_is_let_in(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, _, _ = await here.class_in_step()
        head = await here.head_of_the_school()
        since_ms = await before_the_theft(here)
        honest = bytes.fromhex((await here.office.do("space add", name="CE2", school="0180001D", year="none"))["space"])
        await head.session.sync()
        await kits_word(here, tmp_path, since_ms)
        for _ in range(2):
            await head.session.sync()
        assert honest not in await head.agent.spaces()
        await here.office.do("grant", device=machine.agent.device.hex(), space=[honest.hex()])
        for device in (machine, head, head):
            await device.session.sync()
            assert honest in await device.agent.spaces()


def _every_one(_self: object) -> bool:
    return True


@attack(ROW, off={"protocol.replica.answering.named_cursors.NamedCursors.names_all": property(_every_one)})
async def test_what_a_machine_does_not_name_for_want_of_room_is_not_sent_to_it_over_and_over(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, _, _ = await here.class_in_step()
        made = await invents_classes(here, machine.agent.keys)
        for _ in range(2):
            await machine.session.sync()
        stranger = granted(machine.agent.keys, Role.MACHINE, None)
        await thief_says(here.office, Draft(made[-1], Kind.GRANT, here.office.server.grant, stranger))
        assert (await machine.session.sync()).bytes_in < 2_500


@attack(ROW, off={"protocol.replica.answering.news.MAX_SPACES_PER_REQUEST": 10**9})
@pytest.mark.parametrize("asked", ["news", "brief", "differing"])
async def test_an_answer_has_no_more_pages_than_an_answer_holds(tmp_path: Path, asked: str) -> None:
    async with town(tmp_path) as here:
        await here.class_in_step()
        head = await here.head_of_the_school()
        await invents_classes(here)
        server = here.office.server
        caller = Caller(server, server.responder, head.agent.keys, Random(1))  # type: ignore[arg-type]
        request = SyncRequest(brief=asked == "brief")
        if asked == "differing":
            readable = await server.replica.readable(head.agent.device)
            standing = await News(server.replica).standing(readable)
            request = SyncRequest(generation=server.responder.station.generation, standing=standing, sets=bytes(16))
        try:
            answer = await caller.sync(request)
        except PeerFault as fault:
            pytest.fail(str(fault))
        assert len(answer.pages) == MOST
        assert answer.pages[0].checkpoint.space == server.replica.territory


async def _told_by_the_kit(here: Town, folder: Path) -> Device:
    """A pupils' PC that has a thief's classes; the kit has spoken since, and the PC has not called yet."""
    _, machine, *_ = await here.class_in_step()
    since_ms = await before_the_theft(here)
    await invents_classes(here, machine.agent.keys)
    await machine.session.sync()
    await kits_word(here, folder, since_ms)
    return machine


@attack(ROW, off={"protocol.replica.answering.told.but_for_deserted": _also_deserted})
async def test_a_thiefs_classes_keep_no_machine_from_telling_what_it_has(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await _told_by_the_kit(here, tmp_path)
        here.office.clock.advance(DAY_MS)
        await calls_for_an_hour(here)
        assert here.office.server.contacts.of(machine.agent.device).untold == frozenset()


@attack(ROW, off={"sync_agent.sync.asking.but_for_deserted": _also_deserted})
async def test_nor_does_it_say_of_them_that_it_holds_something_of_them(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        machine = await _told_by_the_kit(here, tmp_path)
        await machine.session.sync()
        asked = await Asking(machine.agent).compose(Said(requests=1))
        assert asked.request.ended == ()


@attack(ROW, off={"sync_agent.sync.session.hear_what_lies_above": _none_is})
async def test_what_the_kit_has_said_is_heard_before_any_of_these_classes_is_folded_after_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.sync.above_first.MANY_CLASSES", MOST)
    folded = list[tuple[EntryStore, bytes]]()
    changed = Views.changed

    async def counted(views: Views, space: bytes, basis: Basis | None) -> SpaceView | None:
        folded.append((views._store, space))
        return await changed(views, space, basis)

    async with town(tmp_path) as here:
        _, machine, *_ = await here.class_in_step()
        since_ms = await before_the_theft(here)
        made = await invents_classes(here, machine.agent.keys)
        await machine.session.sync()
        assert set(made) <= (await machine.agent.spaces()).keys()
        await kits_word(here, tmp_path, since_ms)
        await machine.starts_again()
        monkeypatch.setattr(Views, "changed", counted)
        await machine.session.sync()
        assert not {space for store, space in folded if store is machine.agent.replica.store}.intersection(made)
        assert set(made).isdisjoint(await machine.agent.spaces())


async def test_what_a_reported_laptop_made_up_is_closed_to_nobody_by_a_servers_word(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.class_in_step()
        head = await here.head_of_the_school()
        laptop = await here.head_of_the_school()
        await head.session.sync()
        since_ms = await before_the_theft(here)
        replica: Replica = laptop.agent.replica
        (right,) = await laptop.agent.own_rights()
        draft = Draft(here.school, Kind.SPACE, right.grant, SpaceRecord("CP", year="2026-2027").encode())
        (made,) = await replica.write(
            [draft],
            author=laptop.agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=laptop.agent.entropy,
            unsent=True,
        )
        await laptop.session.sync()
        await note_arrivals(here.office.server.store, here.office.clock())
        since = f"{(here.office.clock() - since_ms) // 1000}s"
        await here.office.do("lost", device=laptop.agent.device.hex(), since=since)
        await head.session.sync()
        roster = (await head.agent.replica.view(here.school)).roster
        assert made.id in roster.held_back
        assert made.id in await head.agent.spaces()
