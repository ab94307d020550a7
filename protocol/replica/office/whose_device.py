"""Whose a device is, and what: as the first right that came here let it in; and as whose others have it besides.

Rules (docs/adr/0515):
- whoever has a copy of a server's key writes further rights of any device, as anybody's, and ends the first one or
  holds it back for a minute; they write none in front of what had come here. So who reports a laptop, or lets one in,
  is shown by its first right whose it is, whatever has become of that right since; but for one that the root's own word
  holds back;
- what came in as nobody's own is nobody's. Keys that a machine took are that machine's, as it was let in first;
- whom else rights name is told beside it: where a false one was shown first, the true one stands there.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import BadInput, Code
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.held_in_space import grants_not_undone
from protocol.roles import Role


@dataclass(frozen=True, slots=True)
class Whose:
    """As what a device came in, and as whose; nobody's own is no person's. `others` are named by further rights."""

    role: Role
    person: bytes | None
    others: tuple[bytes, ...] = ()


async def whose_device(replica: Replica, device: bytes) -> Whose:
    """Raises `BadInput(UNKNOWN_DEVICE)`."""
    given = replica.door.authorities_of(device)
    if not given:
        raise BadInput(Code.UNKNOWN_DEVICE, f"there is no device {device.hex()}; `devices` shows those that there are")
    standing = await grants_not_undone(replica, given) or given
    first = replica.door.began_with(standing[0])
    named = dict.fromkeys(each.person for each in standing if each.person is not None)
    return Whose(first.role, first.person, tuple(person for person in named if person != first.person))
