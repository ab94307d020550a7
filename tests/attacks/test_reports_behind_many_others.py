"""A report of before a restore, behind those of people whom a copied key has made up (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.model.entry import Kind
from protocol.replica.console.operation import Outgoing
from protocol.replica.office import commands
from protocol.replica.office.device_cuts import key_cut_off
from protocol.replica.office.stays_out import Reported, lines_of, reported_before
from protocol.rights.vouching import device_id
from sync_agent.keys.confirming import confirm, own_device
from sync_server.opened.app import Server
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import back_up, burnt_and_restored
from tests.harness.office_devices import Town, town

ROW = "a backup that leaves out what was honest"
TOLD = 2


async def _as_they_were_reported(server: Server, outgoing: Outgoing) -> Sequence[Reported]:
    """As it was: who was reported first stands first, and whoever finds no place is left out."""
    orders = [key_cut_off(order) for order in await server.replica.store.scan_kinds([Kind.REVOKE])]
    reported = sorted(await reported_before(server), key=lambda each: orders.index(each.lost[0][0][0]))
    for each in reported[: commands.MAX_TOLD_DEVICES]:
        for line in await lines_of(server, each, "sync-server"):
            await outgoing.progress(line)
    return reported


async def _with_laptops(here: Town, person: str) -> Device:
    """Three laptops of somebody's, of which the others have confirmed each other; the first of them is reported."""
    lost, *others = [await here.device("teacher", person) for _ in range(3)]
    await here.office.do("lost", device=lost.agent.device.hex())
    for _ in range(2):
        await here.sync(*others)
    for one, other in (others, reversed(others)):
        await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
    for _ in range(2):
        await here.sync(*others)
    return lost


@attack(ROW, off={"sync_server.operations.table._told_of_reported": _as_they_were_reported})
async def test_whose_laptop_was_reported_is_told_before_people_whom_a_thief_made_up_since_and_the_others_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MAX_TOLD_DEVICES", TOLD)
    async with town(tmp_path) as here:
        hers = await here.office.add_person("Mme Petit", "teacher")
        made_up = [await here.office.add_person(f"M. X {number}", "teacher") for number in range(TOLD)]
        gone = [await _with_laptops(here, person) for person in (*made_up, hers)]
        lost = gone[-1].agent.device.hex()
        for each in gone:
            here.devices.remove(each)
            await each.close()
        await back_up(here)
        async with burnt_and_restored(here) as office:
            office.said.lines.clear()
            rows = (await office.do("status"))["reported_before"]
            told = "\n".join(office.said.lines)
            assert lost in told
            assert f"“Mme Petit” ({hers})" in told
            assert "and 1 more people of whom a computer was reported before" in told
            assert [row["person"] for row in rows] == [hers, *made_up]
            assert [each["device"] for each in rows[0]["lost"]] == [lost]
            assert len(rows[0]["waiting"]) == len(("the second", "the third"))
