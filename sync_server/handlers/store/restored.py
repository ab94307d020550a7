"""That this server may lack what it once knew: what was erased comes back with machines that know of it.

Rules:
- it came out of a backup, or of the kit alone, or its database was damaged, and it went on with what could be read;
- an erasure is said again by every machine that has heard of it, once its sets were compared with this store's; until
  one has told that, such a server has no way to know, and says so wherever it names persons;
- that is said until every machine that counts has told this store all that it knows, or for `SAID_MS`: one that was
  thrown away and never let go does not keep it there for good. Whoever cuts lines lets a first question pass, and
  reports are carried by anybody: neither has told anything (docs/adr/0322); nor has who sent it what was not taken;
- those count that are in, and those that were cut off by a word that may be a thief's (`let_go`, docs/adr/0332); and
  who tells what it may read, since all else was closed to it by such a word, has not told all (docs/adr/0359). Of one
  of which nothing but its own word has it that it was in there this is not said (docs/adr/0379);
- a server that was made of the kit alone knows only those machines that somebody has brought word of: it is said for
  `KIT_ALONE_MS` whoever has told; so with one that has lost all that it had noted. One that has lost entries counts
  those too of which it remembers nothing but a call;
- when the backup was made is what it says itself, and nothing hangs on it here.

docs/operate.md, "Backups"; docs/adr/0198, docs/adr/0317, docs/adr/0322, docs/adr/0332, docs/adr/0338, docs/adr/0350,
docs/adr/0359, docs/adr/0379.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from protocol.clock import DAY_MS, rfc3339
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time
from protocol.replica.office.made_anew import MADE_ANEW_MARK, made_anew_ms
from protocol.roles import Role
from sync_server.handlers.overview.devices import Device, DeviceState, Member, device_of
from sync_server.handlers.overview.let_go import kept_from_telling, never_let_in, still_waited_for
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server
from sync_server.opened.contacts import UNTAKEN_MS

RESTORED_MARK: Final = "restored"
"""→ 8 bytes of ms: when this server was restored; 8 more: when its backup was made, as that says."""
SAID_MS: Final = 90 * DAY_MS
KIT_ALONE_MS: Final = 14 * DAY_MS
NAMED: Final = 5
"""Of more machines the sentence names the first alone; `status` has all."""
_TIME_BYTES: Final = 8


class Source(StrEnum):
    """What a server went on from."""

    BACKUP = "backup"
    KIT = "kit"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Restored:
    """When (ms) this server was made of what, of a backup of which time, and which machines have not told all since.

    `machines` are their names, by id; `doubted` those of them that are cut off, somewhere at least, by a word that may
    be a thief's; `unknown` those that say that they hold something of a class, and that nobody is known to have let in.
    """

    at_ms: int
    source: Source
    backup_ms: int | None
    machines: Mapping[bytes, str | None]
    doubted: frozenset[bytes] = frozenset()
    unknown: frozenset[bytes] = frozenset()

    @property
    def unheard(self) -> int:
        """How many these are."""
        return len(self.machines)

    def shown(self) -> JSON:
        """As `status` has it."""
        backup = None if self.backup_ms is None else rfc3339(self.backup_ms)
        machines: list[JSON] = [
            {"device": key.hex(), "name": name, "cut_off": key in self.doubted} for key, name in self.machines.items()
        ]
        return {
            "at": rfc3339(self.at_ms),
            "source": self.source.value,
            "backup": backup,
            "unheard": self.unheard,
            "machines": machines,
            "until": rfc3339(self.until_ms),
        }

    @property
    def until_ms(self) -> int:
        """Until when this is said at the longest."""
        return self.at_ms + (SAID_MS if self.machines else KIT_ALONE_MS)

    @property
    def notice(self) -> Notice:
        """As the overview has it."""
        return Notice(_TOPICS[self.source], {"at_ms": self._of_ms, "count": self.unheard})

    @property
    def _of_ms(self) -> int:
        """Since when it may lack something."""
        return self.at_ms if self.backup_ms is None else self.backup_ms

    @property
    def _named(self) -> str:
        names = [name or key.hex()[:16] for key, name in self.machines.items()]
        return f" ({', '.join(names[:NAMED])}{', …' if len(names) > NAMED else ''})" if names else ""

    @property
    def _told_of_doubted(self) -> str:
        count, unknown = len(self.doubted), len(self.unknown)
        cut_off = (
            f", {count} of them cut off, somewhere at least, by a word that was not said here (`revoke` and `ungrant` "
            "take off the list what is gone; `grant --device` lets in again)"
            if count
            else ""
        )
        of_unknown = f", {unknown} say that they hold something of classes into which nobody is known to have let them"
        return cut_off + (of_unknown if unknown else "")

    @property
    def sentence(self) -> str:
        """Beside what names persons."""
        made, until = (local_time(rfc3339(at_ms) or "") for at_ms in (self._of_ms, self.until_ms))
        unheard = (
            f"{self.unheard} {'has' if self.unheard == 1 else 'have'} not told all since{self._named}"
            f"{self._told_of_doubted}; this is said until they have, or {until}"
            if self.machines
            else f"none is known here of those that have not told all; there may be others: this is said until {until}"
        )
        return (
            f"this server was {_MADE[self.source].format(made)} may be named here until a machine that knows of it has "
            f"told; {unheard}. "
            "Print or pass on nothing of it before; who was cut off since may be in again: say `lost` once more"
        )


_TOPICS: Final = {Source.BACKUP: "restored", Source.KIT: "made-anew", Source.DAMAGED: "damaged"}
_MADE: Final = {
    Source.BACKUP: "restored from a backup of {}: who was erased after that",
    Source.KIT: "made anew from its kit on {}: who was ever erased",
    Source.DAMAGED: "made anew on {} from what could be read of its damaged database: who was erased before that",
}


async def unheard_since_made(server: Server) -> int | None:
    """How many machines have not told all to a server that was made anew: it may lack what another was given since.

    None where it never was, or long ago, or where all have told, of one at least.
    """
    lost_ms = None if server.loss is None else server.loss.at_ms
    made_ms = made_anew_ms(await server.store.mark(MADE_ANEW_MARK))
    if not (_is_said_of(server, lost_ms) or _is_said_of(server, made_ms)):
        return None
    devices = await _waited_for(server)
    unheard, _ = await _untold(server, devices)
    return len(unheard) if unheard or not devices else None


def told_since(unheard: int) -> str:
    """What to say where `unheard_since_made` is so many."""
    return f"{unheard} of its machines have not told all since" if unheard else "no machine has called since"


async def has_told(server: Server, device: Device) -> bool:
    """Whether a device has told this very store all that it knows of what it may read, and nothing was left out."""
    return device.heard.told == server.store_name and not await untaken(server, device)


async def untaken(server: Server, device: Device) -> int:
    """How much this store has lately not taken of a device, and has not got since; of more the latest alone."""
    sent = [name for name, ran_ms in device.heard.untaken if server.ran_ms - ran_ms < UNTAKEN_MS]
    return len(set(sent) - await server.store.present(sent)) if sent else 0


def restored_mark(at_ms: int, backup_ms: int) -> Mapping[str, bytes | None]:
    """The mark that says so."""
    return {RESTORED_MARK: at_ms.to_bytes(_TIME_BYTES, "big") + backup_ms.to_bytes(_TIME_BYTES, "big")}


async def restored(server: Server) -> Restored | None:
    """What is to be said; None for a server that was never made anew, or has heard of all since."""
    made = [each for each in await _made(server) if _is_said_of(server, each.at_ms)]
    if not made:
        return None
    untold, kept = await _untold(server, await _waited_for(server))
    said = [each for each in made if untold or _is_said_whoever_told(server, each)]
    if not said:
        return None
    untold.sort(key=lambda device: device.state is DeviceState.RETIRED)
    unknown = await _unknown(server, [device for device in untold if device.id in kept])
    doubted = kept.union(device.id for device in untold if device.state is DeviceState.RETIRED) - unknown
    machines = {device.id: device.name for device in untold}
    return replace(said[0], machines=machines, doubted=doubted, unknown=unknown)


def _is_said_of(server: Server, at_ms: int | None) -> bool:
    return at_ms is not None and server.now_ms() - at_ms < SAID_MS


def _is_said_whoever_told(server: Server, made: Restored) -> bool:
    is_blank = made.source is Source.DAMAGED and server.loss is not None and server.loss.is_blank
    return (made.source is Source.KIT or is_blank) and server.now_ms() - made.at_ms < KIT_ALONE_MS


async def _made(server: Server) -> list[Restored]:
    """Of what this server went on from and when, the latest first; of no machine anything as yet."""
    found = []
    if server.loss is not None:
        found.append(Restored(server.loss.at_ms, Source.DAMAGED, None, {}))
    mark, at_ms = await server.store.mark(RESTORED_MARK), made_anew_ms(await server.store.mark(MADE_ANEW_MARK))
    if mark is not None:
        backup_ms = int.from_bytes(mark[_TIME_BYTES:], "big")
        found.append(Restored(int.from_bytes(mark[:_TIME_BYTES], "big"), Source.BACKUP, backup_ms, {}))
    elif at_ms is not None:
        found.append(Restored(at_ms, Source.KIT, None, {}))
    return sorted(found, key=lambda each: each.at_ms, reverse=True)


async def _untold(server: Server, devices: Sequence[Device]) -> tuple[list[Device], frozenset[bytes]]:
    """Those of the devices that have not told all, and which of these have told but of what was closed to them."""
    kept = await kept_from_telling(server, devices)
    return [each for each in devices if each.id in kept or not await has_told(server, each)], kept


async def _unknown(server: Server, devices: Sequence[Device]) -> frozenset[bytes]:
    """Those of the devices that nobody is known to have let into any space of which they have not told."""
    known, knows_space = set[bytes](), server.replica.door.knows_space
    for space in {space for device in devices for space in device.heard.untold if knows_space(space)}:
        holding = [device.id for device in devices if space in device.heard.untold]
        known |= set(holding) - await never_let_in(server, holding, space)
    return frozenset([device.id for device in devices if device.id not in known])


async def _waited_for(server: Server) -> list[Device]:
    """Who is to tell: `still_waited_for`, and of whom a store that has lost entries remembers nothing but a call."""
    found, door = await still_waited_for(server), server.replica.door
    if server.loss is not None:
        for key in server.contacts.devices():
            if not door.authorities_of(key):
                member = Member(key, Role.MACHINE, (), cut=False)
                found.append(device_of(member, server.contacts.of(key), server.reports.of(key), server.now_ms()))
    return found
