"""Codes that have let in more devices than they are good for (docs/protocol.md, "Enrolment"; docs/adr/0328).

Whoever honours a code counts its uses in the set as it has it: a server and a head teacher's computer that do not reach
each other, or a server that was made anew, count apart. Once both have told, the set says what neither could see. One
of these devices may be a finder's, and no program knows which: so people are told of all.

Rules:
- a device counts while its grant that names the code holds, and its key is not cut off: whoever cuts off the one that
  nobody knows has done what there is to do. A copy of the server's key cuts it off for a breath, so that the grant is
  held back: this server's own words and the root's alone say that it does not hold (docs/adr/0502);
- it is told for `TOLD_MS` from the last of them on, by the dates of whoever let in: who finds all in order has nothing
  to say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import DAY_MS, milliseconds_of, rfc3339
from protocol.model.entry import Kind, parsed
from protocol.model.structure import Invite
from protocol.replica.console.operation import JSON
from protocol.replica.office.held_by_others import grants_not_held_back_by_this_office
from protocol.replica.office.spaces import space_records
from protocol.rights.door import Authority
from protocol.roles import Role
from sync_server.handlers.overview.members import list_devices
from sync_server.handlers.store.notices import Notice
from sync_server.opened.app import Server

TOLD_MS: Final = 90 * DAY_MS
NAMED: Final = 8
"""Of more devices the overview names the last alone; `status` has all."""


@dataclass(frozen=True, slots=True)
class Overused:
    """A code: where it lets in, as what, how many, and whom it did let in (name and time in ms), the first first."""

    code: bytes
    places: Sequence[str]
    role: Role
    uses: int
    devices: Sequence[tuple[bytes, str | None, int]]

    @property
    def last_ms(self) -> int:
        """When the last was let in, as whoever did so says."""
        return self.devices[-1][2]

    def row(self) -> JSON:
        """As `status` has it."""
        devices: list[JSON] = [
            {"device": key.hex(), "name": name, "at": rfc3339(at_ms)} for key, name, at_ms in self.devices
        ]
        places: list[JSON] = list(self.places)
        return {
            "code": self.code.hex(),
            "spaces": places,
            "role": self.role.value,
            "uses": self.uses,
            "devices": devices,
        }

    @property
    def sentence(self) -> str:
        """Beside the list of devices."""
        who = ", ".join(f"{name or '?'} ({key.hex()})" for key, name, _ in self.devices)
        return (
            f"a code for {self.uses} ({self.role.value}, {', '.join(self.places)}) has let in {len(self.devices)}, as "
            f"hosts that had not heard of each other count apart: {who}. Whoever found it may be one of them: "
            "`lost DEVICE` cuts off the one that nobody knows"
        )


async def overused_codes(server: Server) -> list[Overused]:
    """All that are to be told, the latest first."""
    found = await _beyond_their_uses(server)
    records = await space_records(server) if found else {}
    names = {device.id: device.name for device in await list_devices(server)} if found else {}
    told = [
        Overused(
            code,
            [records[space].name if space in records else space.hex() for space in said.spaces],
            said.role,
            said.uses,
            [(each.key, names.get(each.key), milliseconds_of(each.at)) for each in led],
        )
        for code, (said, led) in found.items()
    ]
    lately = (each for each in told if server.now_ms() - each.last_ms < TOLD_MS)
    return sorted(lately, key=lambda each: each.last_ms, reverse=True)


async def _beyond_their_uses(server: Server) -> dict[bytes, tuple[Invite, list[Authority]]]:
    """By code what it says, and one grant of each device that it let in, in their order."""
    led: dict[bytes, dict[bytes, Authority]] = {}
    for given in server.replica.door.authorities():
        if given.invite is not None:
            led.setdefault(given.invite, {}).setdefault(given.key, given)
    found = {}
    for code, entry in (await server.store.get([code for code, each in led.items() if len(each) > 1])).items():
        said = parsed(entry, Invite.parse) if entry.header.kind == Kind.INVITE else None
        if said is not None and len(led[code]) > said.uses:
            holding = await _holding(server, led[code].values())
            if len(holding) > said.uses:
                found[code] = said, sorted(holding, key=lambda each: (each.at, each.key))
    return found


async def overused_notices(server: Server) -> list[Notice]:
    """The last of them, as the overview has it."""
    return [
        Notice(
            "overused-code",
            {
                "uses": each.uses,
                "count": len(each.devices),
                "places": ", ".join(each.places),
                "devices": ", ".join(f"{name or '?'} ({key.hex()[:16]})" for key, name, _ in each.devices[-NAMED:]),
                "at_ms": each.last_ms,
            },
        )
        for each in (await overused_codes(server))[:1]
    ]


async def _holding(server: Server, given: Collection[Authority]) -> list[Authority]:
    counting = await grants_not_held_back_by_this_office(server, given)
    return [each for each in counting if each.key not in (await server.replica.view(each.space)).roster.cut]
