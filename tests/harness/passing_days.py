"""Days that pass while machines are on, and look for what is to be destroyed as `run` does."""

from __future__ import annotations

from protocol.clock import DAY_MS
from protocol.replica.upkeep.eraser import Eraser
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.classroom import Device
from tests.harness.territory import Territory


async def pass_days(territory: Territory, count: int, *devices: Device) -> None:
    """So many days, at whose beginning and end each of these devices, and the server, looks; so every day between."""
    eraser = Eraser(territory.replica, territory.holdings)
    for day in range(count + 1):
        if day:
            territory.clock.advance(DAY_MS)
        for device in devices:
            await destroy_erased(device.agent)
        await eraser.sweep(territory.clock())


async def sweep(territory: Territory, days: int) -> None:
    """The server looks for what is to be destroyed, now and after these days."""
    eraser = Eraser(territory.replica, territory.holdings)
    await eraser.sweep(territory.clock())
    territory.clock.advance(days * DAY_MS)
    await eraser.sweep(territory.clock())
