"""Invitations: a code opens a role in some spaces, for a while, for a number of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.errors import BadInput, Code
from protocol.identity import territory_id
from protocol.limits import MAX_INVITED_DEVICES, MAX_SPACES_PER_INVITE
from protocol.model.entry import Kind
from protocol.model.structure import Invite
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.bureau import Office
from protocol.replica.office.spaces import smallest_cover, space_records
from protocol.rights.honouring import hosts_of
from protocol.rights.roster import Person
from protocol.roles import SHARED, PersonRole, Role
from protocol.trust.invitation import SECRET_BYTES, Invitation, territory_fingerprint

_RUNS_IT: Final = (PersonRole.TEACHER, PersonRole.ADMIN)
_MAY_BE_THEIRS: Final[Mapping[Role, Sequence[PersonRole]]] = {
    Role.TEACHER: (PersonRole.TEACHER,),
    Role.HEAD: _RUNS_IT,
    Role.ADMIN: _RUNS_IT,
}
"""What a list has to call whoever a device of a role is said to be of."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a code shall open: a role in spaces, for `uses` devices, for `lifetime_ms`.

    `stay_ms` is how long what it opens is meant to last, from now; None is for good.
    """

    role: Role
    spaces: Sequence[bytes]
    person: bytes | None
    uses: int
    lifetime_ms: int
    stay_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Invited:
    """The code, to be handed over, and the time in ms when it ends.

    `fingerprint` is what the code says of the territory, which the device shows too once it is in.
    """

    code: str
    expires_ms: int
    fingerprint: str


async def invite(office: Office, wanted: Wanted) -> Invited:
    """Make a code. Its secret is in the code alone; the `invite` entry holds the hash of what it shows, and its key.

    The entry says who may honour it, and the code vouches for that (docs/adr/0315).

    Raises `BadInput` (USAGE, UNKNOWN_PERSON).
    """
    if not 1 <= wanted.uses <= MAX_INVITED_DEVICES:
        raise BadInput(Code.USAGE, f"a code lets in between 1 and {MAX_INVITED_DEVICES} devices")
    if len(wanted.spaces) > MAX_SPACES_PER_INVITE:
        raise BadInput(Code.USAGE, f"a code opens at most {MAX_SPACES_PER_INVITE} spaces")
    if wanted.role is Role.HEAD and any(
        office.replica.door.parent(space) != office.replica.territory for space in wanted.spaces
    ):
        raise BadInput(Code.USAGE, "a head teacher's code is for a school: give its UAI as --space")
    await _check_person(office, wanted)
    invitation = Invitation.create(territory_id(office.replica.door.root_now), office.entropy(SECRET_BYTES))
    expires_ms = office.now_ms() + wanted.lifetime_ms
    until_ms = None if wanted.stay_ms is None else office.now_ms() + wanted.stay_ms
    home = smallest_cover(office.replica.door, wanted.spaces)
    roster = (await office.replica.view(home)).roster
    record = Invite(
        invitation.secret_hash,
        wanted.role,
        tuple(wanted.spaces),
        wanted.person,
        wanted.uses,
        expires_ms,
        until_ms,
        invitation.key,
        hosts_of(office.replica.door, office.own_device[0], home, roster.cut, roster.held_back),
    )
    await office.say([Draft(home, Kind.INVITE, None, record.vouched_by(invitation).encode())])
    return Invited(invitation.code(), expires_ms, territory_fingerprint(invitation.fingerprint))


async def _check_person(office: Office, wanted: Wanted) -> None:
    """A teacher's device is its teacher's; an administrator's may be an adult's of the school; others are nobody's."""
    if wanted.person is None:
        if wanted.role is Role.TEACHER:
            raise BadInput(Code.USAGE, "a teacher's code needs --person, the id that `person add` gave")
        return
    if wanted.role in SHARED:
        raise BadInput(Code.USAGE, f"a {wanted.role} belongs to no person; leave --person out")
    for space in wanted.spaces:
        listed = (await office.replica.view(space)).roster.persons.get(wanted.person)
        if listed is None or listed.role not in _MAY_BE_THEIRS[wanted.role]:
            record = (await space_records(office)).get(space)
            of = space.hex() if record is None else f"“{record.name}” ({space.hex()})"
            raise BadInput(Code.UNKNOWN_PERSON, _not_theirs(wanted.role, wanted.person, listed, of))


def _not_theirs(role: Role, person: bytes, listed: Person | None, of: str) -> str:
    """Why no device of that role is made theirs, who are on the list `of` a class as `listed`."""
    among = " or ".join(each.value for each in _MAY_BE_THEIRS[role])
    if listed is None:
        return f"the list of {of} has nobody with the id {person.hex()}; `person add` puts a {among} on it"
    return f"“{listed.name}” is a {listed.role.value} on the list of {of}: this code is for the device of a {among}"
