"""Attacks: whoever has the server's key says first, and less, what the kit is about to say, and takes that back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from protocol.entry import Kind
from protocol.replica.replica import Draft
from protocol.roles import Role
from protocol.structure import Grant, Revocation
from sync_server.handlers.territory import kit_in
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town

ROW = "a device is cut off beforehand, so that the kit's word of it is not said"


async def _anyone(*_: Any) -> bool:
    """As if any revocation were as good as the root's."""
    return True


OFF = {"protocol.replica.office.withdrawals._is_cut_by_root": _anyone}


async def _reads_after_a_grant_by_the_servers_key(here: Town, laptop: Any, person: str) -> bool:
    server, keys = here.office.server, laptop.agent.keys
    cuts = tuple((await server.replica.view(here.space)).roster.revocations)
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, bytes.fromhex(person), None, None)
    await server.write([Draft(here.space, Kind.GRANT, server.grant, again.encode(), parents=cuts)])
    return here.space in await server.replica.readable(keys.signing.public)


@attack(ROW, off=OFF)
async def test_a_laptop_that_a_thief_at_the_server_cuts_off_first_is_cut_off_by_the_kit(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        laptop = await here.device("teacher", person)
        server, device = here.office.server, laptop.agent.device
        await server.write([Draft(here.space, Kind.REVOKE, server.grant, Revocation(device, ()).encode())])
        await here.office.with_kit("revoke", kit_in(tmp_path / "server" / "kit", None), device=device.hex())
        assert not await _reads_after_a_grant_by_the_servers_key(here, laptop, person)


@attack(ROW, off=OFF)
async def test_a_laptop_that_a_heads_computer_reported_is_cut_off_by_the_kit_besides(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        laptop = await here.device("teacher", person)
        head = await here.head_of_the_school()
        await here.sync(head)
        await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
        await here.sync(head)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("revoke", kit, device=laptop.agent.device.hex())
        assert not await _reads_after_a_grant_by_the_servers_key(here, laptop, person)
