"""Pupils' PCs that wrap a work for its readers: keys that open nothing, where wraps of worth are to be crowded out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from random import Random
from typing import Final

from protocol.identity import DeviceKeys
from protocol.limits import MAX_WRAPS_BY_ONE, MAX_WRAPS_BY_OTHERS
from protocol.model.entry import Entry, Kind, compose
from protocol.model.work import Wraps
from protocol.roles import Role
from protocol.trust.sealing import WRAP_BYTES
from tests.harness.classroom import Classroom, Device
from tests.harness.territory import new_device

EARLY: Final = bytes([8]) + bytes(31)


async def first_wrap_of(room: Classroom, work: bytes, giver: Device) -> bytes:
    """The least id of what somebody has wrapped of a work."""
    said = await room.territory.replica.store.authored(room.space, giver.agent.device)
    return min(entry.id for entry in said if entry.header.kind == Kind.WRAP and entry.header.target == work)


async def crowd_with_wraps(room: Classroom, work: bytes, readers: Sequence[bytes], *, before: bytes) -> set[bytes]:
    """As many PCs of the class as have wraps tried each say so many of these, with ids before one; their keys."""
    territory, pcs = room.territory, set[bytes]()
    for number in range(MAX_WRAPS_BY_OTHERS // MAX_WRAPS_BY_ONE):
        keys = new_device(Random(7_000 + number).randbytes)
        (grant,) = await territory.let_in(keys, Role.MACHINE, room.space)
        wraps = Wraps(tuple((reader, Random(number).randbytes(WRAP_BYTES)) for reader in readers) * MAX_WRAPS_BY_ONE)
        noise = next(each for each in _said(room, work, keys, grant.id, wraps.encode()) if each.id < before)
        admission = await territory.replica.admit([noise], source=keys.signing.public, now_ms=territory.clock())
        assert admission.admitted
        pcs.add(keys.signing.public)
    return pcs


def _said(room: Classroom, work: bytes, keys: DeviceKeys, grant: bytes, payload: bytes) -> Iterable[Entry]:
    for number in count():
        yield compose(
            author=keys.signing,
            space=room.space,
            kind=Kind.WRAP,
            grant=grant,
            at=(room.territory.clock() << 16) + number,
            payload=payload,
            salt=bytes(16),
            subject=room.pupil_person,
            target=work,
        )
