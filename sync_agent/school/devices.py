"""The devices of a school that a head teacher's device runs: which there are, in which classes, whom it may let in.

Rules:
- a device is listed where it may read, by the grants that hold, once for all of its classes; as whose, its first right
  says (`whose_device`). Who reads there by a right from above the school is listed as well, but for what runs something
  up there; that a report counts no more is told of whoever reads in the school (docs/adr/0539);
- what somebody of a higher rank has cut off is not let in here: the grant would be written and give nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import Code, Refused
from protocol.replica.office.device_cuts import TakenBack, reports_taken_back, standing_cuts
from protocol.replica.office.grants import has_already, standing_grants
from protocol.replica.office.whose_device import whose_device
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_agent.school.device_names import device_names
from sync_agent.school.office import SchoolOffice

LET_IN: Final = frozenset({Role.TEACHER, Role.RELAY, Role.MACHINE})
"""The roles of devices that a head teacher's may let into her classes."""


@dataclass(frozen=True, slots=True)
class SchoolDevice:
    """A device: what it calls itself, if that is known here; its highest role, whose it is, which spaces it reads."""

    key: bytes
    name: str | None
    role: Role
    person: bytes | None
    spaces: tuple[bytes, ...]


async def school_devices(office: SchoolOffice) -> list[SchoolDevice]:
    """The devices of the school, by name; those that were cut off everywhere are not among them."""
    replica, own = office.replica, set(office.replica.door.below(office.home))
    names = await device_names(office.agent)
    found = []
    for key, reading in (await _readers(office)).items():
        if not any(right.space in own or right.role in LET_IN for rights in reading.values() for right in rights):
            continue
        grants = await replica.authorities(key)
        if grants:
            highest = max(grants, key=lambda grant: (grant.rank, grant.grant))
            whose = await whose_device(replica, key)
            found.append(SchoolDevice(key, names.get(key), highest.role, whose.person, tuple(reading)))
    return sorted(found, key=lambda device: ((device.name or "").casefold(), device.key))


async def _readers(office: SchoolOffice) -> dict[bytes, dict[bytes, list[Authority]]]:
    """Who reads in which spaces of the school, and by which rights, those from above it included."""
    found: dict[bytes, dict[bytes, list[Authority]]] = {}
    for space in office.replica.door.below(office.home):
        roster = (await office.replica.view(space)).roster
        for right in roster.authorities:
            if roster.may_read(right.key):
                found.setdefault(right.key, {}).setdefault(space, []).append(right)
    return found


async def counted_again(office: SchoolOffice) -> dict[bytes, TakenBack]:
    """The devices that were reported, count again by others' word, and read in the school."""
    reports = await reports_taken_back(office)
    readers = await _readers(office) if reports else {}
    return {key: report for key, report in reports.items() if key in readers}


async def reported_ms(office: SchoolOffice, devices: Collection[bytes]) -> dict[bytes, int]:
    """Which of these devices somebody who runs a school has reported, or cut off, and when last, where that stands.

    Whoever lets one in should know (docs/adr/0234).
    """
    door = office.replica.door
    persons = {each.person for key in devices for each in door.authorities_of(key) if each.person is not None}
    cuts = sorted(await standing_cuts(office, devices, persons), key=lambda cut: cut.said_ms)
    return {cut.key: cut.said_ms for cut in cuts if not cut.by_server}


async def check_may_let_in(office: SchoolOffice, device: bytes, spaces: Sequence[bytes]) -> None:
    """Raise `Refused(NO_RIGHT)` where this office's grant would give a device nothing."""
    replica = office.replica
    standing = await standing_grants(office, device)
    above = [grant for grant in standing if grant.rank >= office.rank]
    if len(above) == len(standing) or has_already(office, above, spaces):
        raise Refused(Code.NO_RIGHT, "this device lets in teachers' laptops, relays and PCs, nobody of its own rank")
    for space in spaces:
        for near in replica.door.lineage(space):
            against = [name for name, key in (await replica.view(near)).roster.revocations.items() if key == device]
            orders = (await replica.store.get(against)).values()
            if any(replica.door.rank_of(order.header) > office.rank for order in orders):
                raise Refused(
                    Code.NO_RIGHT, "who runs the system has cut that device off, and alone can let it back in"
                )
