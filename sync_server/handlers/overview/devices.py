"""Devices: who they are by their grants, how they are by their health reports, when they were heard of by us.

`state_of` is the rule: the first of `_STATES` that holds. `needs_somebody` says who is to be looked at. Times are this
server's, in ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.errors import Code
from protocol.limits import MiB
from protocol.model.register import Health
from protocol.roles import Role
from sync_server.opened.contacts import Heard

SILENT_AFTER_MS: Final = 7 * 24 * 3600 * 1000
OFFLINE_AFTER_MS: Final = 15 * 60 * 1000
LATE_AFTER_MS: Final = 60 * 60 * 1000
WRONG_CLOCK_MS: Final = 10 * 60 * 1000
WAITING_WORK_MS: Final = 24 * 3600 * 1000
LITTLE_ROOM_BYTES: Final = 512 * MiB


class DeviceState(StrEnum):
    """How a device is; `paused` is a person's doing there, for as long as they like."""

    RETIRED = "retired"
    PAUSED = "paused"
    NEVER_SEEN = "never-seen"
    DISK_FULL = "disk-full"
    ERROR = "error"
    SILENT = "silent"
    OFFLINE = "offline"
    LATE = "late"
    SYNCING = "syncing"
    UP_TO_DATE = "up-to-date"


@dataclass(frozen=True, slots=True)
class Signs:
    """What a device's state follows from: its grants cut or not, its last report, when it called and was current.

    `seen_ms` is None before it has ever called as a member of the territory; `current_ms` is the last call at which it
    held all that we hold; `trouble` the code of what it reports, `backlog` the entries that it has still to send.
    """

    now_ms: int
    cut: bool
    trouble: str | None
    seen_ms: int | None
    current_ms: int | None
    enrolled_ms: int | None
    backlog: int

    @property
    def silence_ms(self) -> int:
        """How long ago it called."""
        return self.now_ms - (self.seen_ms or 0)

    @property
    def is_current(self) -> bool:
        """Whether it held all that we hold when it last called, and had nothing left to send."""
        return self.current_ms is not None and self.current_ms == self.seen_ms and not self.backlog

    @property
    def behind_ms(self) -> int:
        """For how long it has not been current: since it was, or since it enrolled."""
        since_ms = self.enrolled_ms if self.current_ms is None else self.current_ms
        return 0 if self.is_current else self.now_ms - (self.now_ms if since_ms is None else since_ms)

    @property
    def unproven_ms(self) -> int | None:
        """How long ago it last held all that we hold, or enrolled if it never did; None if neither is known."""
        since_ms = self.enrolled_ms if self.current_ms is None else self.current_ms
        return None if since_ms is None else max(self.now_ms - since_ms, 0)


_STATES: Final[tuple[tuple[DeviceState, Callable[[Signs], bool]], ...]] = (
    (DeviceState.RETIRED, lambda signs: signs.cut),
    (DeviceState.PAUSED, lambda signs: signs.trouble == Code.PAUSED),
    (DeviceState.NEVER_SEEN, lambda signs: signs.seen_ms is None),
    (DeviceState.DISK_FULL, lambda signs: signs.trouble == Code.DISK_FULL),
    (DeviceState.ERROR, lambda signs: signs.trouble is not None),
    (DeviceState.SILENT, lambda signs: signs.silence_ms >= SILENT_AFTER_MS),
    (DeviceState.OFFLINE, lambda signs: signs.silence_ms > OFFLINE_AFTER_MS),
    (DeviceState.LATE, lambda signs: signs.behind_ms > LATE_AFTER_MS),
    (DeviceState.SYNCING, lambda signs: not signs.is_current),
)


def state_of(signs: Signs) -> DeviceState:
    """The first state that holds."""
    for state, holds in _STATES:
        if holds(signs):
            return state
    return DeviceState.UP_TO_DATE


class Remark(StrEnum):
    """What is worth a look besides the state."""

    WRONG_CLOCK = "wrong-clock"
    WAITING_WORK = "waiting-work"
    LITTLE_ROOM = "little-room"
    CLONE = "clone"
    LET_IN_SINCE = "let-in-since"


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it is listed; `health` is its last report, `spaces` are those that it was granted.

    `lag_ms` says for how long nothing has proved that it holds all that we hold: 0 if it is up to date, None if that
    was never known. `oldest_ms` is the time of the oldest hand-in of its that is not here, as far as we know.
    `clone_of` is the device whose keys let it in, if it found itself cloned; `confirmed` is false until a person has
    looked at that. `let_in_since`: a server has cut it off, or who made the code by which it came, and others alone
    have let it in, or a grant that came later (docs/adr/0236, docs/adr/0276).
    """

    id: bytes
    role: Role
    state: DeviceState
    heard: Heard
    health: Health | None
    spaces: tuple[bytes, ...]
    lag_ms: int | None
    oldest_ms: int | None = None
    clone_of: bytes | None = None
    confirmed: bool = True
    let_in_since: bool = False

    @property
    def name(self) -> str | None:
        """The name that it gave last."""
        return self.heard.name if self.health is None else self.health.name

    @property
    def trouble(self) -> str | None:
        """The code of the error that it last reported."""
        return None if self.health is None else self.health.trouble


@dataclass(frozen=True, slots=True)
class Member:
    """What a device's grants say: its highest role, the spaces that it was granted, whether all of that is cut.

    `clone_of`, `confirmed` and `let_in_since` as of `Device`.
    """

    id: bytes
    role: Role
    spaces: tuple[bytes, ...]
    cut: bool
    clone_of: bytes | None = None
    confirmed: bool = True
    let_in_since: bool = False


def device_of(
    member: Member, heard: Heard, health: Health | None, now_ms: int, pending_ms: int | None = None
) -> Device:
    """The device that follows from its grants and from what is known of it.

    `pending_ms` is the time of its oldest hand-in that is awaited.
    """
    signs = Signs(
        now_ms=now_ms,
        cut=member.cut,
        trouble=None if health is None else health.trouble,
        seen_ms=heard.seen_ms,
        current_ms=heard.current_ms,
        enrolled_ms=heard.enrolled_ms,
        backlog=0 if health is None else health.backlog_entries,
    )
    state = state_of(signs)
    lag_ms = 0 if state is DeviceState.UP_TO_DATE else signs.unproven_ms
    told_ms = None if health is None else health.oldest_ms
    if told_ms is None or (pending_ms is not None and pending_ms < told_ms):
        told_ms = pending_ms
    return Device(
        member.id,
        member.role,
        state,
        heard,
        health,
        member.spaces,
        lag_ms,
        told_ms,
        clone_of=member.clone_of,
        confirmed=member.confirmed,
        let_in_since=member.let_in_since,
    )


def remarks_on(device: Device, now_ms: int) -> tuple[Remark, ...]:
    """What is worth a look besides the state; nothing of a device that was let go."""
    if device.state is DeviceState.RETIRED:
        return ()
    health = device.health
    found = []
    if not device.confirmed:
        found.append(Remark.CLONE)
    if device.let_in_since:
        found.append(Remark.LET_IN_SINCE)
    if health is not None and abs(health.skew_ms or 0) >= WRONG_CLOCK_MS:
        found.append(Remark.WRONG_CLOCK)
    if device.oldest_ms is not None and now_ms - device.oldest_ms >= WAITING_WORK_MS:
        found.append(Remark.WAITING_WORK)
    if health is not None and health.free_bytes < LITTLE_ROOM_BYTES and device.state is not DeviceState.DISK_FULL:
        found.append(Remark.LITTLE_ROOM)
    return tuple(found)


NEEDS_SOMEBODY: Final = frozenset({DeviceState.DISK_FULL, DeviceState.ERROR, DeviceState.SILENT, DeviceState.LATE})


def needs_somebody(device: Device, now_ms: int) -> bool:
    """Whether a person should look at it: it will not come right by itself."""
    return device.state in NEEDS_SOMEBODY or bool(remarks_on(device, now_ms))
