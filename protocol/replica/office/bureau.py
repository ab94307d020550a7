"""What the rules of an office need of the program that holds it: a server, or the device of a head teacher.

What may be written where is the door's business: an office says what it wants to say, and the program adds the grant
under which it may (docs/adr/0031).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from protocol.model.entry import Entry
from protocol.replica.at_work.replica import Draft, Entropy, Notes, Replica
from protocol.replica.office.arrivals import RunningTime
from protocol.rights.vouching import Device


class Met(NamedTuple):
    """Devices that came to a machine in one look, and whether that is long ago: a week that it has watched."""

    devices: frozenset[Device] = frozenset()
    for_long: bool = False


class Office(Protocol):
    """The server of a territory, or who runs a school of it."""

    @property
    def replica(self) -> Replica:
        """What is known here."""
        ...

    @property
    def now_ms(self) -> Callable[[], int]:
        """The rim's clock."""
        ...

    @property
    def running(self) -> RunningTime:
        """How long programs have run here, by a clock that nobody sets."""
        ...

    @property
    def entropy(self) -> Entropy:
        """The rim's randomness."""
        ...

    @property
    def territory_name(self) -> str:
        """What people call the territory."""
        ...

    @property
    def home(self) -> bytes:
        """Where it says what names no space: the territory, or the school for which it was let in first."""
        ...

    @property
    def reach(self) -> Sequence[bytes]:
        """The spaces in which, and below which, it may say anything: its home first."""
        ...

    @property
    def rank(self) -> int:
        """The rank of the grants under which it writes: a revocation cuts off lower ones only."""
        ...

    @property
    def own_device(self) -> Device:
        """The keys of the machine that holds it."""
        ...

    def met_first(self, person: bytes, without: Collection[bytes]) -> Met:
        """Of a person's devices, but for those `without`, those met before the others, and who was called theirs then.

        `without` are signing keys.
        """
        ...

    async def say(self, drafts: Sequence[Draft], notes: Notes | None = None) -> list[Entry]:
        """Write all of it or nothing, durably, each under a grant that allows it. Raises `Refused(NO_RIGHT)`.

        A server sets what `notes` gives of these entries, by which it knows them as its own: others go by whose key
        it is.
        """
        ...

    async def tend_keys(self, spaces: Iterable[bytes], *, let_in: bool = False, asked: bool = True) -> None:
        """Make, give out and replace the keys of spaces where something happened; `let_in`: somebody came in.

        `asked` says that somebody ordered it here: what others' words make due may wait.
        """
        ...


def reaches(office: Office, space: bytes) -> bool:
    """Whether an office may say anything in a space."""
    return not set(office.reach).isdisjoint(office.replica.door.lineage(space))


def is_own(office: Office, entry: Entry) -> bool:
    """Whether the machine that holds an office wrote an entry."""
    return entry.header.author == office.own_device[0]


def is_ours(office: Office, entry: Entry) -> bool:
    """Whether that machine did, or the root: what others say goes as their keys do."""
    return entry.header.grant is None or is_own(office, entry)
