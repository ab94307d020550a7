"""What is refused once: by whoever has a copy of the server's keys and a line for one question, or in good order."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Code
from protocol.messages.parts import Refusal, SpacePage
from protocol.model.entry import Entry, Kind, compose
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.at_work.replica import Draft
from protocol.replica.interfaces import EntryStore
from sync_agent.machine.marks import REFUSED_MARKS
from sync_agent.sync.asking import Asking, Said
from sync_agent.transport.sealed_calls import SealedCalls
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.opened.app import opened
from tests.harness.as_told import HOLDS_THE_SAME
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.entries import SOME_RECEIPT
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town

ROW = "a refusal outlives the answer that said it"
CLOSED = "a class is closed while a line keeps its work from the server"
WORK = frozenset({Kind.HAND_IN, Kind.WRAP})
WORDS = frozenset({Kind.REVOKE, Kind.ERASE})


async def _to_another_server_alone(_store: EntryStore, _refuser: bytes, _now_ms: int) -> None:
    """As if a server refused for good: nothing is offered to the same one again."""


def _by_its_code(_entry: Entry, code: Code) -> bool:
    return code in (Code.MISSING_GRANT, Code.OVER_QUOTA)


async def _none(*_: object) -> int:
    """As if whoever asks for nothing, and pushes nothing, had nothing more to say."""
    return 0


@asynccontextmanager
async def answered_once_by_a_thief(
    here: Town, folder: Path, device: Device, refuses: Collection[Kind], *, says_so: bool = True
) -> AsyncIterator[None]:
    """A copy of the server's disk is made; at the end the device asks it one question, and hears that it is refused.

    Or, unless it `says_so`, nothing: as if that had been taken.
    """
    shutil.copytree(folder / "server", folder / "copied", ignore=shutil.ignore_patterns("run", "kit"))
    yield
    async with opened(folder / "copied", now_ms=here.office.clock, entropy=os.urandom) as false:
        take: Callable[..., Any] = false.replica.admit

        async def admit(entries: Collection[Entry], **options: Any) -> Any:
            bad = [entry.id for entry in entries if entry.header.kind in refuses]
            done = await take([entry for entry in entries if entry.id not in bad], **options)
            refused = [Refusal(name, Code.MALFORMED) for name in bad if says_so]
            return replace(done, refused=(*done.refused, *refused))

        false.replica.admit = admit  # type: ignore[method-assign]
        false.responder.challenges = None
        here.frontage.responder = false.responder
        await device.session.sync()
        here.frontage.responder = here.office.server.responder


async def unheard(here: Town) -> list[tuple[str, int]]:
    told = await here.office.do("space close", space=here.office.space)
    return [(row["device"], row["refused"]) for row in told["unheard"]]


async def is_not_closed(here: Town, folder: Path) -> None:
    with pytest.raises(BadInput, match="have not told all") as refused:
        await here.office.with_kit("space close", kit_in(folder / "server" / "kit", None), space=here.office.space)
    assert refused.value.code is Code.NOT_YET


@attack(ROW, off={"sync_agent.sync.repair.offer_again": _to_another_server_alone})
async def test_work_that_a_copied_key_refuses_is_offered_to_the_honest_server_a_day_later(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        async with answered_once_by_a_thief(here, tmp_path, machine, WORK):
            hand_in = await here.work(machine, item, pupil)
        store = here.office.server.store
        assert f"{REFUSED_MARKS}{hand_in.hex()}" in await machine.agent.replica.store.marks(REFUSED_MARKS)
        await here.sync()
        assert not await store.present([hand_in])
        here.office.clock.advance(DAY_MS)
        await here.sync()
        assert await store.present([hand_in])
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unopened"], told["unheard"]) == (1, [])


async def _nothing(_agent: object) -> dict[bytes, int]:
    """As if what was acknowledged lay at the server."""
    return {}


UNSEEN = "sync_agent.sync.{}.unseen"


@attack(ROW, off={UNSEEN.format("repair"): _nothing, **HOLDS_THE_SAME})
async def test_work_that_a_copied_key_says_to_have_taken_reaches_the_honest_server_with_the_next_sync(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        async with answered_once_by_a_thief(here, tmp_path, machine, WORK, says_so=False):
            hand_in = await here.work(machine, item, pupil)
        assert not await machine.agent.replica.store.unsent(1 << 20)
        for _ in range(2):
            await here.sync(machine)
        assert await here.office.server.store.present([hand_in])


async def as_one_that_has_nothing_left(device: Device) -> None:
    """It asks the server so, and once more when it has been given a challenge."""
    quiet = (await Asking(device.agent).compose(Said())).request
    assert not quiet.push
    calls = SealedCalls(device.agent, device.way)
    answer = await calls.sync(quiet)
    await calls.sync(replace(quiet, challenge=answer.challenge))


@attack(CLOSED, off={UNSEEN.format("asking"): _nothing, UNSEEN.format("repair"): _nothing, **HOLDS_THE_SAME})
async def test_a_pc_to_which_a_copied_key_said_so_has_not_told_all_while_it_is_not_heard(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        async with answered_once_by_a_thief(here, tmp_path, machine, WORK, says_so=False):
            await here.work(machine, item, pupil)
        here.office.clock.advance(8 * DAY_MS)
        await as_one_that_has_nothing_left(machine)
        assert machine.agent.device.hex() in dict(await unheard(here))


@attack(
    CLOSED, off={"sync_agent.sync.asking.Asking._untaken": _none, UNSEEN.format("asking"): _nothing, **HOLDS_THE_SAME}
)
async def test_a_pc_that_holds_what_a_copied_key_refused_has_not_told_all(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        here.office.clock.advance(8 * DAY_MS)
        async with answered_once_by_a_thief(here, tmp_path, machine, WORK):
            await here.work(machine, item, pupil)
        for _ in range(3):
            await here.sync()
        assert machine.agent.device.hex() in dict(await unheard(here))
        await is_not_closed(here, tmp_path)


@asynccontextmanager
async def answered_by_a_thief_who_shows_where_the_server_stands(
    here: Town, folder: Path, device: Device
) -> AsyncIterator[None]:
    """As above, saying nothing; he has the server say as much, and shows that it stands where the device does."""
    server = here.office.server
    async with answered_once_by_a_thief(here, folder, device, WORK, says_so=False):
        yield
    held = (await device.agent.replica.position(here.space)).count
    word = Draft(here.space, Kind.RECEIPT_SAFE, None, SOME_RECEIPT, target=bytes(32))
    while (await server.replica.position(here.space)).count < held:
        await server.responder.say([word])
    place = await server.replica.position(here.space)
    assert place.count == held
    shown = Checkpoint(here.space, place.count, place.chain, await device.agent.replica.fingerprint(here.space))
    async with opened(folder / "copied", now_ms=here.office.clock, entropy=os.urandom) as false:

        async def pages(*_: object, **__: object) -> Any:
            return [SpacePage(shown, (), (), more=False)], [], False

        false.responder._news.pages = pages  # type: ignore[method-assign]
        false.responder.challenges = None
        here.frontage.responder = false.responder
        await device.session.sync()
        here.frontage.responder = server.responder


@attack(CLOSED, off=HOLDS_THE_SAME)
async def test_nor_has_one_of_which_a_copied_key_takes_nothing_and_shows_it_where_the_server_stands(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        async with answered_by_a_thief_who_shows_where_the_server_stands(here, tmp_path, machine):
            await here.work(machine, item, pupil)
        here.office.clock.advance(8 * DAY_MS)
        await as_one_that_has_nothing_left(machine)
        assert machine.agent.device.hex() in dict(await unheard(here))
        await is_not_closed(here, tmp_path)


@attack(ROW, off=HOLDS_THE_SAME)
async def test_what_such_a_one_holds_is_looked_for_as_soon_as_the_server_itself_hears_of_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__, in_step=True) as (here, (_, machine, _, pupil, item)):
        async with answered_by_a_thief_who_shows_where_the_server_stands(here, tmp_path, machine):
            hand_in = await here.work(machine, item, pupil)
        await here.sync(machine)
        assert await here.office.server.store.present([hand_in])
        told = await here.office.do("space close", space=here.office.space)
        assert (told["unopened"], told["unheard"]) == (1, [])


@attack(ROW, off={"sync_agent.sync.session.passes": _by_its_code})
async def test_whom_a_head_cuts_off_and_has_forgotten_the_honest_server_hears_with_the_next_sync(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        _, _, _, pupil, _ = await here.class_at_work()
        head, stolen = await here.head_of_the_school(), await here.device("machine")
        for _ in range(3):
            await here.sync()
        here.office.clock.advance(DAY_MS)
        async with answered_once_by_a_thief(here, tmp_path, head, WORDS):
            await Desk(head.agent).ask("lost", device=stolen.agent.device.hex())
            await Desk(head.agent).ask("erase", person=[pupil], alone=True)
        here.office.clock.advance(61_000)
        await here.sync(head)
        view = await here.office.server.replica.view(here.space)
        assert not view.roster.may_read(stolen.agent.device)
        assert "Léa" not in {person.name for person in view.roster.persons.values()}


@attack(
    CLOSED,
    off={
        "sync_agent.sync.asking.Asking._untaken": _none,
        UNSEEN.format("asking"): _nothing,
        "sync_server.handlers.store.restored.untaken": _none,
        **HOLDS_THE_SAME,
    },
)
async def test_nor_has_one_whose_work_is_refused_since_a_copy_of_it_has_said_all_that_both_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 40
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_DEVICE", most)
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_in_step()
        clock, server = here.office.clock, here.office.server
        agent = machine.agent
        right = (await agent.replica.authorities(agent.device))[0]
        flood = [
            compose(
                author=agent.keys.signing,
                space=here.space,
                kind=Kind.RECEIPT_SAFE,
                grant=right.grant,
                at=at_from(clock(), number),
                payload=SOME_RECEIPT,
                salt=os.urandom(16),
                target=bytes(32),
            )
            for number in range(most)
        ]
        await server.replica.admit(flood, source=agent.device, now_ms=clock(), bounded=True)
        work = await here.work(machine, item, pupil)
        for _ in range(10):
            clock.advance(DAY_MS)
            for _ in range(3):
                clock.advance(20_000)
                await here.sync()
        assert not await server.store.present([work])
        assert [named for named, _ in await unheard(here)] == [agent.device.hex()]
        await is_not_closed(here, tmp_path)


@attack(CLOSED, off={"sync_server.handlers.store.restored.untaken": _none})
async def test_nor_has_such_a_one_whose_program_says_nothing_of_what_it_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.sync.asking.Asking._untaken", _none)
    monkeypatch.setattr(UNSEEN.format("asking"), _nothing)
    monkeypatch.setattr("protocol.replica.at_work.quotas.MAX_ENTRIES_PER_KEY", 0)
    async with town(tmp_path) as here:
        _, machine, _, pupil, item = await here.class_at_work()
        await here.work(machine, item, pupil)
        for _ in range(4):
            here.office.clock.advance(20_000)
            await here.sync()
        assert machine.agent.device.hex() in dict(await unheard(here))
        await is_not_closed(here, tmp_path)
