"""What a machine that was cut off was called is remembered for a year (docs/privacy.md, "How long")."""

from __future__ import annotations

from typing import Any

from protocol.clock import DAY_MS, at_from
from protocol.limits import CUT_OFF_KEPT_MS, SALT_BYTES
from protocol.model.entry import Kind, compose
from protocol.model.structure import Revocation
from sync_server.handlers.record.destroying import destroy_what_is_due
from tests.harness.server_in_process import Office


async def _called(desk: Office) -> dict[str, tuple[Any, Any]]:
    return {row["device"]: (row["name"], row["last_seen"] is None) for row in await desk.do("devices")}


async def _days(desk: Office, number: int) -> None:
    """So many days pass, and the server looks on each."""
    for _ in range(number):
        desk.clock.advance(DAY_MS)
        await destroy_what_is_due(desk.server)


async def test_a_machine_that_was_cut_off_has_no_name_a_year_later_and_others_have(desk: Office) -> None:
    gone, here = [await desk.enrol(await desk.invite("machine"), name=name) for name in ("PC 1", "PC 2")]
    await desk.do("revoke", device=gone.id)
    desk.clock.advance(CUT_OFF_KEPT_MS - 9 * DAY_MS)
    await _days(desk, 8)
    assert await _called(desk) == {gone.id: ("PC 1", False), here.id: ("PC 2", False)}
    await _days(desk, 2)
    assert await _called(desk) == {gone.id: (None, True), here.id: ("PC 2", False)}
    assert desk.server.contacts.of(bytes.fromhex(gone.id)).as_gone() == desk.server.contacts.of(bytes.fromhex(gone.id))
    kept = await desk.server.store.marks(f"device/{gone.id}")
    assert all(b"PC 1" not in data for data in kept.values())


async def test_a_word_that_is_dated_long_ago_takes_no_name_of_a_machine_that_was_heard_of_lately(desk: Office) -> None:
    machine, server = await desk.enrol(await desk.invite("machine"), name="PC 1"), desk.server
    desk.clock.advance(DAY_MS)
    entry = compose(
        author=server.keys.signing,
        space=server.replica.territory,
        kind=Kind.REVOKE,
        grant=server.grant,
        at=at_from(desk.clock() - 3 * CUT_OFF_KEPT_MS),
        payload=Revocation(bytes.fromhex(machine.id), ()).encode(),
        salt=bytes(SALT_BYTES),
    )
    await server.replica.admit([entry], source=server.keys.signing.public, now_ms=desk.clock())
    (row,) = await desk.do("devices")
    assert row["state"] == "retired"
    await _days(desk, 9)
    assert await _called(desk) == {machine.id: ("PC 1", False)}


async def test_nor_of_one_that_is_heard_of_within_the_last_week_of_that_year(desk: Office) -> None:
    machine = await desk.enrol(await desk.invite("machine"), name="PC 1")
    await desk.do("revoke", device=machine.id)
    desk.clock.advance(CUT_OFF_KEPT_MS - 9 * DAY_MS)
    await _days(desk, 8)
    desk.server.contacts.note_enrolment(bytes.fromhex(machine.id), "PC 1", desk.clock())
    await _days(desk, 9)
    assert await _called(desk) == {machine.id: ("PC 1", False)}
