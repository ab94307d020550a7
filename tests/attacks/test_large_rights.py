"""Who had the server's key says rights of 64 KiB, or by the dozen, to honest devices: they show who they are still."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest

from protocol.canonical import decode, encode
from protocol.errors import RelaisError
from protocol.identity import DeviceKeys
from protocol.limits import MAX_PAYLOAD_BYTES, MAX_PUSHED_BYTES, MAX_REQUEST_BYTES
from protocol.model.entry import Kind
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.storage import database
from protocol.roles import Role
from sync_agent.transport.sealed_calls import SealedCalls
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.copied_keys import granted, thief_hides, thief_says
from tests.harness.couriers import bring
from tests.harness.in_this_thread import ConnectionInThisThread
from tests.harness.lan import exchange
from tests.harness.office_devices import Town, town

ROW = "rights as large as they may be, or by the dozen, so that nobody can show who they are"
MANY = 100


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_Connection", ConnectionInThisThread)


def _large(keys: DeviceKeys) -> bytes:
    said = decode(granted(keys, Role.MACHINE, None), max_bytes=MAX_PAYLOAD_BYTES)
    assert isinstance(said, dict)
    return encode({**said, "zz": bytes(MAX_PAYLOAD_BYTES - 400)})


async def lets_in(here: Town, keys: DeviceKeys, *, large: bool, spaces: Collection[bytes]) -> None:
    """The thief lets a device in, over and over."""
    said = _large(keys) if large else granted(keys, Role.MACHINE, None)
    grant = here.office.server.grant
    await thief_says(here.office, *(Draft(space, Kind.GRANT, grant, said) for _ in range(MANY) for space in spaces))


@attack(ROW, off={"sync_agent.transport.sealed_calls.MAX_CREDENTIAL_BYTES": 10**9})
async def test_what_shows_who_calls_leaves_room_for_what_it_brings(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        _, machine, _, _, _ = await here.class_in_step()
        own = machine.agent.replica.door.authorities_of(machine.agent.device)
        await lets_in(here, machine.agent.keys, large=True, spaces=[here.school])
        for _ in range(3):
            await machine.session.sync()
        shown = await SealedCalls(machine.agent, machine.way)._credentials(None)
        assert {each.grant for each in own} <= {entry.id for entry in shown}
        assert sum(entry.wire_bytes for entry in shown) + MAX_PUSHED_BYTES < MAX_REQUEST_BYTES // 2


@attack(ROW, off={"sync_agent.courier.exporting._CLEAR_AT_MOST_BYTES": 10**9})
async def test_a_stick_is_read_whatever_rights_of_64_kib_lie_in_a_class(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, _, lea, item = await here.class_in_step()
        await lets_in(here, machine.agent.keys, large=True, spaces=[here.space])
        for _ in range(3):
            await machine.session.sync()
        work = await here.work(machine, item, lea)
        with suppress(RelaisError):
            await here.write_stick(machine, tmp_path / "stick", online=False)
            await bring(teacher, tmp_path / "stick")
        assert await teacher.agent.replica.store.present([work])


async def test_who_heard_the_kit_tells_a_neighbour_that_a_thief_let_in_by_the_dozen(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        teacher, machine, _, lea, _ = await here.class_in_step()
        for _ in range(3):
            await note_arrivals(here.office.server.store, here.office.clock())
            here.office.clock.advance(3_600_000)
        since_ms = here.office.clock()
        here.office.clock.advance(3_600_000)
        await thief_hides(here, bytes.fromhex(lea))
        await lets_in(here, machine.agent.keys, large=False, spaces=[here.school])
        for device in (machine, teacher):
            await device.session.sync()
        here.office.clock.advance(600_000)
        await note_arrivals(here.office.server.store, here.office.clock())
        since = f"{(here.office.clock() - since_ms) // 1000}s"
        await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since=since)
        await teacher.session.sync()
        with suppress(RelaisError):
            await exchange(teacher.agent, machine.agent)
        assert bytes.fromhex(lea) in (await machine.agent.replica.view(here.space)).roster.persons
