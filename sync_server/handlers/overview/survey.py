"""The survey: all devices and classes as they are now, for the administrators' pages and for Prometheus.

It is taken when somebody asks, and kept for as long as taking it anew would cost too much: at most a twentieth of the
server's time goes into it, however often it is asked for. A large one is taken in slices, so that no sync waits for it.
A device of which nothing new is known is judged again after ten seconds only: time alone moves states by the minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import RelaisError
from protocol.model.register import Health
from sync_server.handlers.overview.awaited import Awaited, Waiting
from sync_server.handlers.overview.devices import Device, DeviceState, Member, device_of, needs_somebody
from sync_server.handlers.overview.members import Members
from sync_server.handlers.overview.places import NOWHERE, Places, places_of
from sync_server.opened.app import Server
from sync_server.opened.contacts import Heard

SHARE_OF_TIME: Final = 20
LONGEST_KEPT_S: Final = 30.0
LOOKING_S: Final = 0.05
JUDGED_FOR_MS: Final = 10_000
_SLICE_DEVICES: Final = 1_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Group:
    """Devices that stand in the same spaces: how many in each state, how many need somebody, the newest proof.

    `freshest_ms` is when one of them last held all that we hold; devices that were let go count for nothing but their
    state.
    """

    counts: Counter[DeviceState] = field(default_factory=Counter)
    needing: int = 0
    freshest_ms: int | None = None

    def add(self, device: Device, *, needing: bool) -> None:
        """One more device."""
        self.counts[device.state] += 1
        self.needing += needing
        if device.state is not DeviceState.RETIRED:
            self.freshest_ms = later(self.freshest_ms, device.heard.current_ms)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the survey found at `now_ms`. `mark` differs when something differs that a person would notice.

    `needing` are the devices that a person should look at, `groups` what can be said of all devices of the same spaces.
    `awaited` is known of every class if `whole`, else of those that there was time to look at.
    """

    now_ms: int
    devices: tuple[Device, ...]
    by_id: Mapping[bytes, Device]
    needing: tuple[Device, ...]
    groups: Mapping[tuple[bytes, ...], Group]
    places: Places
    awaited: Mapping[bytes, Awaited]
    whole: bool
    mark: int


@dataclass(frozen=True, slots=True)
class _Judged:
    """A device as it was judged at `at_ms`, from these very objects, and what follows for the whole."""

    member: Member
    heard: Heard
    health: Health | None
    pending_ms: int | None
    at_ms: int
    device: Device
    needs: bool
    mark: int

    def holds(self, member: Member, heard: Heard, health: Health | None, pending_ms: int | None, now_ms: int) -> bool:
        """Whether it would be judged the same from these, but for the seconds that have passed."""
        return (
            member is self.member
            and heard is self.heard
            and health is self.health
            and pending_ms == self.pending_ms
            and 0 <= now_ms - self.at_ms < JUDGED_FOR_MS
        )


class Survey:
    """Takes snapshots of a server. `clock_s` is a monotonic clock."""

    def __init__(self, server: Server, clock_s: Callable[[], float], *, kept_for: int = SHARE_OF_TIME) -> None:
        """`kept_for`: how many times as long as it took a snapshot is kept."""
        self.server = server
        self._kept_for = kept_for
        self._clock_s = clock_s
        self._members = Members(server)
        self._waiting = Waiting(server)
        self._places = NOWHERE
        self._known_spaces = 0
        self._judged: dict[bytes, _Judged] = {}
        self._latest: Snapshot | None = None
        self._keep_until_s = 0.0
        self._one_at_a_time = asyncio.Lock()
        self._looking_on: asyncio.Task[None] | None = None

    async def snapshot(self, *, whole: bool = False) -> Snapshot:
        """The devices and classes as they are, or were a moment ago; with `whole`, once every class was looked at."""
        latest = self._latest
        if latest is not None and not whole and (self._clock_s() < self._keep_until_s or self._one_at_a_time.locked()):
            return latest
        async with self._one_at_a_time:
            begun_s = self._clock_s()
            self._latest = latest = await self._take(None if whole else begun_s + LOOKING_S)
            ended_s = self._clock_s()
            self._keep_until_s = ended_s + min((ended_s - begun_s) * self._kept_for, LONGEST_KEPT_S)
        if not latest.whole and (self._looking_on is None or self._looking_on.done()):
            self._looking_on = asyncio.create_task(self._look_on())
        return latest

    async def close(self) -> None:
        """Stop looking on."""
        if self._looking_on is not None:
            self._looking_on.cancel()
            await asyncio.wait([self._looking_on])

    async def _look_on(self) -> None:
        """Look at the classes that there was no time for; whoever asks meanwhile gets what was found before."""
        try:
            await self.snapshot(whole=True)
        except RelaisError as error:
            _log.warning("not every class could be looked at: %s", error)

    async def _take(self, until_s: float | None) -> Snapshot:
        server = self.server
        counts = await server.store.spaces()
        known_spaces = len(server.replica.door.spaces())
        if known_spaces != self._known_spaces:
            self._places = await places_of(server)
            self._known_spaces = known_spaces
        members = await self._members.list(counts)
        whole = await self._look(counts, until_s)
        awaited = dict(self._waiting.known)
        pending: dict[bytes, int] = {}
        for found in awaited.values():
            for author, at_ms in found.hand_ins:
                pending[author] = min(pending.get(author, at_ms), at_ms)
        now_ms = server.now_ms()
        devices: list[Device] = []
        needing: list[Device] = []
        groups: defaultdict[tuple[bytes, ...], Group] = defaultdict(Group)
        mark = hash((known_spaces, *(hash((each.hand_ins, each.conflicts)) for each in awaited.values())))
        for number, member in enumerate(members, 1):
            judged = self._judge(member, now_ms, pending.get(member.id))
            device = judged.device
            devices.append(device)
            if judged.needs:
                needing.append(device)
            groups[device.spaces].add(device, needing=judged.needs)
            mark ^= judged.mark
            if number % _SLICE_DEVICES == 0:
                await asyncio.sleep(0)
        return Snapshot(
            now_ms=now_ms,
            devices=tuple(devices),
            by_id={device.id: device for device in devices},
            needing=tuple(needing),
            groups=groups,
            places=self._places,
            awaited=awaited,
            whole=whole,
            mark=mark,
        )

    def _judge(self, member: Member, now_ms: int, pending_ms: int | None) -> _Judged:
        key = member.id
        heard, health = self.server.contacts.of(key), self.server.reports.of(key)
        before = self._judged.get(key)
        if before is not None and before.holds(member, heard, health, pending_ms, now_ms):
            return before
        device = device_of(member, heard, health, now_ms, pending_ms)
        needs = needs_somebody(device, now_ms)
        judged = _Judged(member, heard, health, pending_ms, now_ms, device, needs, _mark_of(device))
        self._judged[key] = judged
        return judged

    async def _look(self, counts: Mapping[bytes, int], until_s: float | None) -> bool:
        """Look at the classes that have changed, until then; whether all have been looked at."""
        looking = self._waiting.catch_up(self._places.class_names, counts)
        async for _ in looking:
            await asyncio.sleep(0)
            if until_s is not None and self._clock_s() > until_s:
                await looking.aclose()
                return False
        return True


def later(one_ms: int | None, other_ms: int | None) -> int | None:
    """The later of two times of which either may be unknown."""
    if one_ms is None or other_ms is None:
        return other_ms if one_ms is None else one_ms
    return max(one_ms, other_ms)


def _mark_of(device: Device) -> int:
    """What a person would notice of a device; when it was last seen moves all the time, and is left out."""
    heard, health = device.heard, device.health
    said = None
    if health is not None:
        said = (health.name, health.version, health.trouble, health.backlog_entries, health.skew_ms)
    known = (heard.name, heard.via, len(heard.troubles), device.oldest_ms)
    return hash((device.id, device.state, device.spaces, known, said))
