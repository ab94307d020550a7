"""What a server's chain proves to who has pinned a root (docs/protocol.md, "Strangers", "TLS of a server")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from protocol.errors import Code, PeerFault, Refused, RelaisError
from protocol.identity import territory_id
from protocol.messages.enrollment import parse_chain
from protocol.model.entry import Entry, Kind, signature_holds
from protocol.model.structure import Certificate
from protocol.rights.door import Authority, Door, Outcome
from protocol.rights.honouring import Age
from protocol.rights.root_rotation import rotations_in
from protocol.roles import RUNS_A_SCHOOL
from protocol.trust.server_tls import Binding

IsOurs: TypeAlias = Callable[[bytes], bool]
"""Whether a territory, by its id, is the one that this device belongs to, or has a code of."""


def newest_certificate(chain: tuple[Entry, ...], root: bytes, territory: bytes) -> Entry:
    """The newest certificate in a chain that `root` signed for its territory. Raises `Refused(WRONG_TERRITORY)`."""
    certificates = [
        entry
        for entry in chain
        if entry.header.kind == Kind.CERTIFICATE
        and (entry.header.author, entry.header.grant, entry.header.space) == (root, None, territory)
        and entry.payload is not None
        and signature_holds(entry)
    ]
    if not certificates:
        raise Refused(
            Code.WRONG_TERRITORY, "a server of another territory answers at this address; nothing was given to it"
        )
    return max(certificates, key=lambda entry: (entry.header.at, entry.id))


@dataclass(frozen=True, slots=True)
class Roots:
    """The first root of a territory, whose hash is its id, and the one in force as a chain shows it."""

    first: bytes
    now: bytes

    @property
    def territory(self) -> bytes:
        """The territory's id."""
        return territory_id(self.first)


def roots_in(chain: tuple[Entry, ...], is_ours: IsOurs) -> Roots | None:
    """The roots of our territory, if the chain names one of them that is ours; of its certificates nothing is proven.

    A code names the root that was in force when it was made; what a device has pinned is the first one.
    """
    names = {entry.header.author for entry in chain if entry.header.kind in (Kind.CERTIFICATE, Kind.ROOT_ROTATION)}
    ours = next((root for root in names if is_ours(territory_id(root))), None)
    if ours is None:
        return None
    first = now = ours
    rotations = rotations_in(chain)
    for entry, rotation in reversed(rotations):
        if rotation.root == first:
            first = entry.header.author
    for entry, rotation in rotations:
        if entry.header.author == now:
            now = rotation.root
    spaces = {entry.header.space for entry, _ in rotations}
    return Roots(first, now) if spaces <= {territory_id(first)} else None


@dataclass(frozen=True, slots=True)
class Host:
    """Who may let us in, as its chain shows: the root above it, its keys, the chain itself."""

    root: bytes
    signing: bytes
    agreement: bytes
    chain: tuple[Entry, ...]


def door_of(root: bytes, entries: Iterable[Entry]) -> Door:
    """What entries in an admissible order prove to who trusts a territory's first root, and nothing else."""
    door = Door(root)
    for entry in entries:
        if door.examine(entry).outcome is Outcome.ADMIT:
            door.learn(entry)
    return door


def host_in(chain: bytes, is_ours: IsOurs, is_in_force: IsOurs | None = None) -> Host | None:
    """Whom a chain proves: the server, or a device that runs a school, under a root that is ours, or none.

    With `is_in_force`, only if it says so of the root in force as the chain shows it.
    """
    try:
        entries = parse_chain(chain)
        roots = roots_in(entries, is_ours)
        if roots is None or (is_in_force is not None and not is_in_force(territory_id(roots.now))):
            return None
        door = Door(roots.first)
        last = None
        for entry in entries:
            if door.examine(entry).outcome is Outcome.ADMIT:
                door.learn(entry)
                last = entry.id
        authority = None if last is None else door.authority(last)
        if authority is not None and authority.role in RUNS_A_SCHOOL:
            return Host(roots.first, authority.key, authority.agreement, entries)
        certificate = Certificate.parse(newest_certificate(entries, roots.now, roots.territory).payload or b"")
        return Host(roots.first, certificate.signing, certificate.agreement, entries)
    except RelaisError:
        return None


def root_after(chain: tuple[Entry, ...], root: bytes, territory: bytes) -> bytes:
    """The root in force to who trusts `root` and is shown a chain: each one has named the next."""
    for entry, rotation in rotations_in(chain):
        if (entry.header.author, entry.header.space) == (root, territory):
            root = rotation.root
    return root


@dataclass(frozen=True, slots=True)
class KnownServers:
    """What a device knows of its servers: the root in force, the newest server that counts, and what does not count."""

    door: Door = field(compare=False)
    root: bytes
    newest: tuple[Authority, Age] | None
    cut: frozenset[bytes]
    held_back: frozenset[bytes]

    def in_chain(self, chain: tuple[Entry, ...]) -> Entry:
        """The certificate of the server that shows a chain: one that counts, or is newer than all that are known.

        Raises `Refused(WRONG_TERRITORY)` if there is none, `PeerFault(WRONG_KEY)` for one that counts no more.
        """
        territory = self.door.territory
        shown = newest_certificate(chain, root_after(chain, self.root, territory), territory)
        if self._is_older(shown) or self._is_cut_off(shown):
            raise PeerFault(
                Code.WRONG_KEY,
                "what answers is an older server than this machine has seen, or one that was cut off; ask who runs the"
                " system",
                shown=shown.id.hex(),
                known=None if self.newest is None else self.newest[0].grant.hex(),
            )
        return shown

    def _is_older(self, shown: Entry) -> bool:
        order = self.door.place_of_root(shown.header.author), shown.header.at, shown.id
        return self.newest is not None and order < self.newest[1]

    def _is_cut_off(self, shown: Entry) -> bool:
        """Of a certificate that is not here yet nothing says so: it may let the same key in again."""
        known = self.door.authority(shown.id)
        return known is not None and (known.key in self.cut or shown.id in self.held_back)


Knows: TypeAlias = Callable[[], Awaitable[KnownServers]]
"""What a device knows of its servers at this moment."""


class Whose(Enum):
    """Whose server shows a TLS certificate."""

    OURS = auto()
    FORMERLY_OURS = auto()
    ANOTHERS = auto()
    UNSAID = auto()


def whose_server(tls_certificate: bytes, is_ours: IsOurs, known: KnownServers | None) -> Whose:
    """Whose own TLS certificate (DER) this is; to who knows no server yet, one of any server of ours is ours."""
    try:
        binding = Binding.shown_in(tls_certificate)
    except PeerFault:
        return Whose.UNSAID
    if binding is None:
        return Whose.UNSAID
    otherwise = Whose.ANOTHERS
    try:
        chain = parse_chain(binding.chain)
        roots = roots_in(chain, is_ours)
        if roots is None:
            return Whose.ANOTHERS
        if known is None:
            newest = newest_certificate(chain, roots.now, roots.territory)
        else:
            otherwise = Whose.FORMERLY_OURS
            newest = known.in_chain(chain)
        signing = Certificate.parse(newest.payload or b"").signing
    except (PeerFault, Refused):
        return otherwise
    return Whose.OURS if binding.is_by(signing) else Whose.ANOTHERS
