"""The trail of what was done to rights, keys and spaces: the entries that did it, which nobody can take back.

Names are no part of it: they are erased when somebody asks to be forgotten, and this stays. Entries that the server has
signed say nothing of who had it do so: beside them stands what this server has noted of that (`office.acts`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from protocol.errors import PeerFault
from protocol.folds.measures import QuarantineOrder
from protocol.model.entry import Entry, Kind, kind_name
from protocol.model.structure import Certificate, Erasure, Grant, Invite, RecoveryKey, Revocation, Rewrap, Ruling
from protocol.rights.vouching import Vouch
from sync_server.opened.app import Server

_ABOUT: Final[Mapping[int, Callable[[bytes], str]]] = MappingProxyType(
    {
        Kind.CERTIFICATE: lambda payload: Certificate.parse(payload).signing.hex(),
        Kind.GENERATION: lambda _: "",
        Kind.ROOT_ROTATION: lambda _: "",
        Kind.ROOT_ACCOUNT: lambda _: "",
        Kind.RECOVERY_KEY: lambda payload: RecoveryKey.parse(payload).agreement.hex(),
        Kind.SPACE: lambda _: "",
        Kind.REWRAP: lambda payload: _rewrapped(Rewrap.parse(payload)),
        Kind.INVITE: lambda payload: Invite.parse(payload).role.value,
        Kind.GRANT: lambda payload: _granted(Grant.parse(payload)),
        Kind.REVOKE: lambda payload: Revocation.parse(payload).key.hex(),
        Kind.ERASE: lambda payload: Erasure.parse(payload).covers.hex(),
        Kind.RULING: lambda payload: _ruled(Ruling.parse(payload)),
        Kind.SPACE_CHANGE: lambda _: "",
        Kind.QUARANTINE: lambda payload: "on" if QuarantineOrder.parse(payload).on else "off",
        Kind.VOUCH: lambda payload: "by phrase" if Vouch.parse(payload).proof else "by hand",
    }
)


_MAX_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that was done: by which role, and about whom or what, as ids."""

    entry: Entry
    what: str
    role: str
    about: str


async def trail(server: Server) -> list[Act]:
    """Everything that was done, oldest first."""
    door = server.replica.door
    found = []
    for entry in await server.store.scan_kinds(list(_ABOUT)):
        authority = door.authority(entry.header.grant)
        role = "root" if entry.header.grant is None else "" if authority is None else authority.role.value
        try:
            about = _ABOUT[entry.header.kind](entry.payload or b"")
        except PeerFault:
            about = ""
        if entry.header.kind == Kind.VOUCH:
            whom = door.authority(entry.header.target)
            about = f"{'' if whom is None else whom.key.hex()} {about}".strip()
        found.append(Act(entry, kind_name(entry.header.kind), role, about))
    return sorted(found, key=lambda act: (act.entry.header.at, act.entry.id))


def broken_trail(numbers: Sequence[int]) -> str:
    """What to tell of lines of this server's own trail that do not follow the one before."""
    told = ", ".join(map(str, numbers[:_MAX_TOLD]))
    more = f" and {len(numbers) - _MAX_TOLD} more" if len(numbers) > _MAX_TOLD else ""
    return (
        f"the trail of who did what does not hold at {told}{more}: a line there, or before, was altered or taken out, "
        "or lost with a damaged database. Compare it with a backup from before; `repair` notes that this was told"
    )


def _rewrapped(said: Rewrap) -> str:
    whom = "all" if said.person is None else said.person.hex()
    return f"{whom} {said.works} {said.space.hex()}"


def _granted(grant: Grant) -> str:
    return f"{grant.role.value} {grant.signing.hex()}"


def _ruled(ruling: Ruling) -> str:
    by_name = "" if ruling.covers is None else f", what the kit has signed of {ruling.covers.hex()}"
    return f"accepted {len(ruling.accepted)}, refused {len(ruling.refused)}{by_name}"
