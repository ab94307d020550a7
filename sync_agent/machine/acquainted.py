"""Whom this device has seen in its classes, and since when: what its marks say, at hand.

What that is good for is `keys.acquaintances`', `keys.confirming`'s and `hand_ins.known_machines`'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from protocol.replica.interfaces import EntryStore
from protocol.rights.speaking import Remembered
from protocol.rights.vouching import Device
from sync_agent.machine.marks import (
    FIRST_MARKS,
    HEARD_MARKS,
    MACHINES_MARKS,
    MET_MARKS,
    heard_in,
    machines_in,
    met_in,
    remembered_in,
)


@dataclass(slots=True)
class Acquainted:
    """Each by space first; times are in ms."""

    first: dict[bytes, dict[bytes, tuple[Device, ...]]] = field(default_factory=dict)
    """By person: the devices that this one saw first (`confirming`)."""
    met: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    """By device: since when this one knows them (`acquaintances`)."""
    machines: dict[bytes, dict[bytes, int]] = field(default_factory=dict)
    """By beginning of their keys: since when this one knows the machines there (`known_machines`)."""
    heard: dict[bytes, dict[bytes, dict[Device, int]]] = field(default_factory=dict)
    """By person: the devices that have said a reading key, and since when this one knows them."""

    @classmethod
    async def of(cls, store: EntryStore) -> Self:
        """What a store has noted. Raises `LocalFailure`."""
        return cls(
            remembered_in(await store.marks(FIRST_MARKS)),
            met_in(await store.marks(MET_MARKS)),
            machines_in(await store.marks(MACHINES_MARKS)),
            heard_in(await store.marks(HEARD_MARKS)),
        )

    def meetings_ms(self) -> Iterator[int]:
        """The times at which this device has met any other, in whatever class."""
        yield from (met_ms for met in self.met.values() for met_ms in met.values())
        yield from (met_ms for heard in self.heard.values() for met in heard.values() for met_ms in met.values())

    def remembered(self) -> dict[bytes, Remembered]:
        """What folds go by: copies, since of what is noted here in place no fold could tell that it has changed."""
        return {
            space: Remembered(dict(self.first.get(space, {})), dict(self.heard.get(space, {})))
            for space in {*self.first, *self.heard}
        }
