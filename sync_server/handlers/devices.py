"""Devices: who they are by their grants, how they are by their health reports, when they were heard of by us.

`state_of` is the rule: the first of `_STATES` that holds. Times are this server's, in ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.errors import Code, PeerFault, TooLarge
from protocol.register import Health, RegisterKind, parse_register
from protocol.rights import DEVICES, Authority
from protocol.roles import Role
from sync_server.app import Server
from sync_server.contacts import Heard

SILENT_AFTER_MS: Final = 7 * 24 * 3600 * 1000
OFFLINE_AFTER_MS: Final = 15 * 60 * 1000
LATE_AFTER_MS: Final = 60 * 60 * 1000


class DeviceState(StrEnum):
    """How a device is. Nothing pauses one yet; the word belongs to the contract."""

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


_STATES: Final[tuple[tuple[DeviceState, Callable[[Signs], bool]], ...]] = (
    (DeviceState.RETIRED, lambda signs: signs.cut),
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
    return next((state for state, holds in _STATES if holds(signs)), DeviceState.UP_TO_DATE)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it is listed; `health` is its last report, `spaces` are those that it was granted."""

    id: bytes
    role: Role
    state: DeviceState
    heard: Heard
    health: Health | None
    spaces: tuple[bytes, ...]

    @property
    def name(self) -> str | None:
        """The name that it gave last."""
        return self.heard.name if self.health is None else self.health.name


async def list_devices(server: Server) -> list[Device]:
    """Every device that was ever granted anything, in the order of their first grants."""
    health = await _health(server)
    grants: dict[bytes, list[Authority]] = {}
    for authority in server.replica.door.authorities():
        if authority.role in DEVICES:
            grants.setdefault(authority.key, []).append(authority)
    open_grants = await _open_grants(server, (grant for held in grants.values() for grant in held))
    return [
        _device(server, key, held, health.get(key), cut=not any(grant.grant in open_grants for grant in held))
        for key, held in grants.items()
    ]


def _device(server: Server, key: bytes, grants: Iterable[Authority], health: Health | None, *, cut: bool) -> Device:
    held = list(grants)
    heard = server.contacts.of(key)
    signs = Signs(
        now_ms=server.now_ms(),
        cut=cut,
        trouble=None if health is None else health.trouble,
        seen_ms=heard.seen_ms,
        current_ms=heard.current_ms,
        enrolled_ms=heard.enrolled_ms,
        backlog=0 if health is None else health.backlog_entries,
    )
    spaces = tuple(dict.fromkeys(grant.space for grant in held))
    return Device(key, max(held, key=lambda grant: grant.rank).role, state_of(signs), heard, health, spaces)


async def _open_grants(server: Server, grants: Iterable[Authority]) -> set[bytes]:
    """Those grants that no revocation cuts; each space is folded once."""
    by_space: dict[bytes, list[Authority]] = {}
    for grant in grants:
        by_space.setdefault(grant.space, []).append(grant)
    found: set[bytes] = set()
    for space, granted in by_space.items():
        roster = (await server.replica.view(space)).roster
        found |= {
            grant.grant for grant in granted if grant.key not in roster.cut and grant.grant not in roster.held_back
        }
    return found


async def _health(server: Server) -> Mapping[bytes, Health]:
    found = {}
    for row in await server.store.registers(RegisterKind.HEALTH):
        try:
            found[row.device] = Health.parse(parse_register(row.data).body)
        except (PeerFault, TooLarge):
            continue
    return found
