"""A word of a device of the class that it has dated some hours ahead: who hears it dates what it says after it."""

from __future__ import annotations

from protocol.clock import at_from
from protocol.model.entry import Kind, compose
from tests.harness.classroom import Classroom, Device

HOUR_MS = 3_600_000


async def moved(room: Classroom, other: Device, *hearing: Device, hours: int = 20) -> None:
    """A word about nothing that a device of the class has dated some hours ahead comes to others."""
    now_ms = room.territory.clock()
    word = compose(
        author=other.agent.keys.signing,
        space=room.space,
        kind=Kind.SIGN_IN_LOCK,
        grant=(await other.agent.right(room.space, Kind.SIGN_IN_LOCK)).grant,
        at=at_from(now_ms + hours * HOUR_MS),
        payload=b"\x80",
        salt=bytes(16),
        subject=bytes(16),
        target=bytes(32),
    )
    for device in hearing:
        admission = await device.agent.replica.admit([word], source=b"a stick", now_ms=now_ms)
        assert len(admission.admitted) == 1
