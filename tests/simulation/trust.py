"""What the world remembers of trust, to judge the end by: thefts, reports, words of people, keys and their heirs.

None of it is read by the product, and nothing here is read from the product's own notes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.identity import SigningKey
from protocol.model.entry import Entry
from sync_server.opened.keys import ServerKeys

if TYPE_CHECKING:
    from tests.simulation.world import World

Device = bytes
"""A device's Ed25519 key."""


@dataclass(frozen=True)
class Theft:
    """The true time since when a device is gone, and the entries that the server held then."""

    since_ms: int
    held: frozenset[bytes]
    vague: bool
    """Whether nobody knows since when, so that what the thief has said stands until somebody looks at it."""


@dataclass(frozen=True)
class Report:
    """`lost` was said, and that was acknowledged.

    `known` is what the server had noted as held by the time of the theft, `cuts` are all revocations in its set,
    `copies` the devices of which it said that their keys came of this one, and that they read on.
    """

    known: frozenset[bytes]
    cuts: frozenset[bytes]
    copies: frozenset[Device]


@dataclass(frozen=True)
class Gone:
    """A device was let go at the server, and that was acknowledged: by which revocations, and what it held then."""

    cuts: frozenset[bytes]
    grants: frozenset[bytes]


@dataclass(frozen=True)
class Former:
    """Keys that a server had until they were replaced, and that somebody else has now; what ends them.

    With them `kept_back`: a certificate of other keys that the root has signed before, and that lies nowhere; and
    `behind`, a grant that they have signed before, which a word that the server holds names.
    """

    keys: ServerKeys
    certificate: bytes
    cuts: frozenset[bytes]
    kept_back: Entry
    others: SigningKey
    behind: Entry


@dataclass(frozen=True)
class FormerRoot:
    """The key of a root in whose place another stands, which somebody else has; the `rotation` that all have heard of.

    With it one to the same root that was signed before, in a server of a thief's, and that lies nowhere.
    """

    key: SigningKey
    rotation: Entry
    kept_back: Entry


@dataclass(frozen=True)
class ReportAtSchool:
    """A head teacher's device has said of a laptop that it is lost: which one, by which revocations.

    `heads` are the latest entries of that device before, by space.
    """

    by: Device
    cuts: frozenset[bytes]
    heads: dict[bytes, tuple[bytes, ...]]


@dataclass
class Trust:
    """See the module."""

    stolen: dict[Device, Theft] = field(default_factory=dict)
    reports: dict[Device, Report] = field(default_factory=dict)
    thieves: set[Device] = field(default_factory=set)
    """All keys that thieves have."""
    let_in: dict[Device, Device] = field(default_factory=dict)
    """A thief's device → the stolen one whose code let it in."""
    let_in_by_head: set[Device] = field(default_factory=set)
    heirs: dict[Device, Device] = field(default_factory=dict)
    """New keys of a device → those that it had before."""
    confirmed: set[Device] = field(default_factory=set)
    """New keys that a person has confirmed."""
    accepted: set[bytes] = field(default_factory=set)
    """Entries that a human has accepted although a revocation holds them back."""
    taken_back: set[bytes] = field(default_factory=set)
    """Erasures that the server's ruling has taken back."""
    let_go_by_root: set[bytes] = field(default_factory=set)
    """Erasures that the kit may have taken back: what was destroyed for them is shown again where anybody has it."""
    closed: set[bytes] = field(default_factory=set)
    """Classes at the end of their year."""
    erased_by_thief: set[bytes] = field(default_factory=set)
    """Whom only thieves have erased."""
    erased_ms: dict[bytes, int] = field(default_factory=dict)
    """Since when somebody, or a class, is to be forgotten by anybody's word, by the true time."""
    destroyed: set[bytes] = field(default_factory=set)
    """Of whom something was destroyed somewhere."""
    destroyed_at: dict[str, set[bytes]] = field(default_factory=dict)
    """The same by machine."""
    made_spaces: list[bytes] = field(default_factory=list)
    impostors: set[Device] = field(default_factory=set)
    """Devices that the server alone names as a teacher's."""
    words: set[tuple[Device, Device]] = field(default_factory=set)
    """Who has confirmed whose device, among teachers; a grant is no such word, a head teacher's neither."""
    said_words: set[tuple[Device, Device]] = field(default_factory=set)
    """Those of them that were acknowledged."""
    met: set[frozenset[Device]] = field(default_factory=set)
    """Devices that have exchanged with one another."""
    liars: set[Device] = field(default_factory=set)
    """Devices that sign for copies which they do not hold."""
    overrun: set[Device] = field(default_factory=set)
    """Devices on which malware runs."""
    junk: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    """(space, stream) of content that malware made up → its size."""
    pins: dict[bytes, set[str]] = field(default_factory=dict)
    """The PINs that were ever set for a pupil."""
    locked: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Of whom a machine takes no more tries, and the verifier that was guessed at."""
    gone: dict[Device, Gone] = field(default_factory=dict)
    forged: set[bytes] = field(default_factory=set)
    """Words that somebody else than the server has signed with a key of its own."""
    former: list[Former] = field(default_factory=list)
    former_roots: list[FormerRoot] = field(default_factory=list)
    let_in_by_former: dict[Device, frozenset[bytes]] = field(default_factory=dict)
    """Devices that were let in with keys of a server, or of a root, that had been replaced; and by which entries."""
    lost_at_school: dict[Device, ReportAtSchool] = field(default_factory=dict)
    named: set[Device] = field(default_factory=set)
    """Devices that somebody at a head's computer has let into a class by their name."""
    agreed: set[tuple[Device, Device]] = field(default_factory=set)
    """At which head's computer somebody has named which laptop, told that it had been reported."""
    doubted: set[Device] = field(default_factory=set)
    """Honest laptops that a head has reported whom whoever has the server invented."""
    hidden: dict[Device, tuple[Device, bytes]] = field(default_factory=dict)
    """Honest laptops of which words were hidden; by which invented head, in which school."""
    strangers: set[Device] = field(default_factory=set)
    """Devices of somebody whom whoever has the server invented, and lists as a teacher."""
    claims: set[tuple[Device, Device]] = field(default_factory=set)
    """Of whose device one of these has said that it knows what its screen offers."""
    called_one: set[frozenset[bytes]] = field(default_factory=set)
    """Pairs of ids that a list of that server's calls one."""
    doubles: dict[bytes, bytes] = field(default_factory=dict)
    """The second id of a teacher who was added twice → the first."""
    false_grants: set[bytes] = field(default_factory=set)
    """Further grants of honest devices, by whoever has the server, that say something else than the first."""
    cut_by_kit: set[Device] = field(default_factory=set)
    """Stolen devices of which the kit has said so too: no word of the server's frees what that holds back."""
    accepted_by_server: set[bytes] = field(default_factory=set)
    """What of theirs the server has accepted since."""
    of_three: set[Device] = field(default_factory=set)
    """The three laptops of one teacher (`three_laptops`)."""
    moved: set[bytes] = field(default_factory=set)
    """Entries in spaces in which nobody who may has said them (`replaying`)."""
    ruled_by_kit: dict[bytes, bool] = field(default_factory=dict)
    """Of what was held back: whether the kit has accepted or refused it, the last time."""


def line_of(world: World, device: Device) -> set[Device]:
    """A device's keys, and all that came of them and nobody confirmed."""
    line = {device}
    while (
        fresh := {new for new, old in world.trust.heirs.items() if old in line and new not in world.trust.confirmed}
        - line
    ):
        line |= fresh
    return line
