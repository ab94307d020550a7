"""A device is lost: what did it hold, and it is cut off (§5)."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.entry import Kind
from protocol.errors import BadInput, Code, PeerFault
from protocol.person_keys import KeyWraps
from protocol.replica.office.grants import revoke_device
from protocol.replica.office.spaces import space_records
from protocol.roles import DEVICES, HAS_READING_KEYS
from protocol.roster import Roster
from protocol.structure import PersonKey
from sync_server.app import Server
from sync_server.handlers.devices import Device
from sync_server.handlers.members import list_devices
from sync_server.handlers.words_of_office import Said, let_in_by_held_codes, words_of_office


@dataclass(frozen=True, slots=True)
class HeldSpace:
    """What a device could read in one space, as far as this server knows.

    `people` are the names on the list; `made` the hand-ins that were made on it: the names of their files are there;
    `opened` those that can be read with it, by its teacher's keys, or because it made them and keeps their keys until a
    teacher has opened them.
    """

    space: bytes
    name: str
    people: int
    items: int
    made: int
    opened: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What somebody who has the device, and gets past its own locks, can read."""

    device: Device
    person: str | None
    spaces: tuple[HeldSpace, ...]
    said: tuple[Said, ...]

    @property
    def teaches(self) -> bool:
        """Whether it held a key that opens pupils' work."""
        return self.device.role in HAS_READING_KEYS


async def lost(server: Server, device: bytes, *, cut: bool, since_ms: int | None = None) -> Loss:
    """What the device held, and what it has said that others are bound by; with `cut` it is revoked as well.

    With `since_ms`, what it has brought since then counts no more either, and whoever came in by a code that it made
    since is cut off too. Raises `BadInput(UNKNOWN_DEVICE)`.
    """
    grants = [grant for grant in server.replica.door.authorities_of(device) if grant.role in DEVICES]
    if not grants:
        raise BadInput(Code.UNKNOWN_DEVICE, f"there is no device {device.hex()}; `devices` shows those that there are")
    records = await space_records(server)
    known = next(each for each in await list_devices(server) if each.id == device)
    persons = {grant.person for grant in grants if grant.person is not None}
    names = []
    spaces = []
    within = dict.fromkeys(space for grant in grants for space in server.replica.door.below(grant.space))
    agreements = {grant.agreement for grant in grants}
    for space in within:
        view = await server.replica.view(space)
        names += [view.roster.persons[person].name for person in persons if person in view.roster.persons]
        keys = await _keys_held(server, space, device, agreements, view.roster)
        works = view.coursework.hand_ins.values()
        spaces.append(
            HeldSpace(
                space,
                records[space].name if space in records else "",
                len(view.roster.persons),
                sum(not item.withdrawn for item in view.coursework.items.values()),
                sum(work.author == device for work in works),
                sum(not keys.isdisjoint(work.readers) or (work.author == device and not work.opened) for work in works),
            )
        )
    if cut:
        await revoke_device(server, device, since_ms=since_ms)
        for other in await let_in_by_held_codes(server, device):
            await revoke_device(server, other)
    return Loss(known, next(iter(names), None), tuple(spaces), await words_of_office(server, device))


async def _keys_held(server: Server, space: bytes, device: bytes, agreements: set[bytes], roster: Roster) -> set[bytes]:
    """The reading keys that the device made, or was given, in a space."""
    found = set()
    for entry in await server.store.scan_kinds([Kind.PERSON_KEY, Kind.KEY_WRAP]):
        if entry.header.space != space or roster.hides(entry):
            continue
        try:
            if entry.header.kind == Kind.PERSON_KEY:
                if entry.header.author == device:
                    found.add(PersonKey.parse(entry.payload or b"").agreement)
            else:
                wrap = KeyWraps.parse(entry.payload or b"")
                if any(recipient in agreements for recipient, _ in wrap.wraps):
                    found.add(wrap.agreement)
        except PeerFault:
            continue
    return found
