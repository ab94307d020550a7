"""On a server in wrong hands the kit is to certify a computer of somebody else's as the server."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import Code, PeerFault
from protocol.model.entry import Kind
from protocol.model.structure import Certificate, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.as_root import write_as_root
from sync_server.handlers.by_kit.territory import kit_in, new_kit
from tests.attacks.test_the_kit_on_a_hostile_server import Thief
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town

ROW = "the kit is to certify a teacher's computer as the server"
ASKED_OF_NOBODY: dict[str, object] = {"sync_server.kit.desk.consents": lambda *_: True}


def certified(here: Town, laptop: Device) -> Draft:
    payload = Certificate(laptop.agent.keys.signing.public, laptop.agent.keys.agreement.public).encode()
    return Draft(here.office.server.replica.territory, Kind.CERTIFICATE, None, payload)


@attack(ROW, off=ASKED_OF_NOBODY)
async def test_no_teachers_laptop_is_certified_as_the_server_and_cut_off_as_one_the_next_time(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, machine, _, _, item = await here.class_at_work()
        kit, server = kit_in(tmp_path / "server" / "kit", None), here.office.server
        with suppress(PeerFault):
            await Thief(here, kit, "rotate server").has_signed(certified(here, laptop))
            cut = Revocation(laptop.agent.device, ()).encode()
            next_time = Thief(here, kit, "rotate server")
            await next_time.has_signed(Draft(server.replica.territory, Kind.REVOKE, None, cut))
        await here.sync(machine)
        view = await machine.agent.replica.view(here.space)
        assert laptop.agent.device not in view.roster.cut
        assert item in view.coursework.items, "her lessons are there"


@attack(ROW, off=ASKED_OF_NOBODY)
async def test_nor_does_a_new_root_certify_a_laptop_that_the_old_one_was_made_to(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        laptop, *_ = await here.class_at_work()
        kit, new = kit_in(tmp_path / "server" / "kit", None), new_kit("Cher", os.urandom)
        server = here.office.server
        (made,) = await write_as_root(server, kit, [certified(here, laptop)])  # by an earlier state
        server.territory = replace(server.territory, certificate=made.id)  # the one that is shown
        thief = Thief(here, kit, "rotate root", new)
        await thief.takes_over()
        with pytest.raises(PeerFault, match="does not show that this is its own") as raised:
            await thief.has_signed_of_a_header(certified(here, laptop), new=True)
        assert raised.value.code is Code.NO_RIGHT


async def test_the_command_says_which_key_the_kit_has_certified(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, office = kit_in(tmp_path / "server" / "kit", None), here.office
        await office.with_kit("rotate server", kit)
        key = office.server.keys.signing.public.hex()
        assert f"the kit has certified this key as the server's: {key}" in office.said.lines
