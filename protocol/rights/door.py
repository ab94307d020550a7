"""Who may write what: the door that every replica keeps alike (R7; docs/protocol.md, "Admission").

Rules:
- the door looks at the header, the commitment, the named grant, the `space` entries between two spaces, and whether
  what a pupils' machine may write is what its kind says (`protocol.model.payload_rules`), nothing else;
- a verdict never depends on the order of arrival: what is missing makes an entry wait, never be refused;
- a grant holds in its space and in those below it, and confers only ranks strictly below its author's;
- time, revocation, roster and erasure act in the fold (`roster`), never here.

`WRITERS` and `protocol.roles.RANK` are the rules; the rest reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from protocol.errors import Code, PeerFault
from protocol.identity import territory_id
from protocol.model.entry import Entry, Header, Kind, KindClass, class_of, signature_holds
from protocol.model.payload_rules import fault_of
from protocol.model.structure import Certificate, Erasure, Grant, SpaceRecord, Successor
from protocol.rights.root_rotation import RootRotation
from protocol.roles import DEVICES, RANK, Role

WRITERS: Final[Mapping[int, frozenset[Role]]] = MappingProxyType(
    {
        KindClass.AUTHORITY: frozenset({Role.ROOT}),
        KindClass.STRUCTURE: frozenset({Role.ROOT, Role.SERVER, Role.ADMIN, Role.HEAD}),
        KindClass.COURSE: frozenset({Role.SERVER, Role.ADMIN, Role.HEAD, Role.TEACHER}),
        KindClass.ANSWER: frozenset({Role.HEAD, Role.TEACHER}),
        KindClass.WORK: frozenset({Role.HEAD, Role.TEACHER, Role.RELAY, Role.MACHINE, Role.ROOT}),
        KindClass.WITNESS: DEVICES | {Role.SERVER},
        KindClass.OFFICE: frozenset({Role.SERVER}),
    }
)

_NEVER_ERASED: Final = frozenset({KindClass.AUTHORITY, KindClass.STRUCTURE})
OF_KEYS: Final = frozenset({Kind.PERSON_KEY, Kind.KEY_WRAP, Kind.PHRASE, Kind.VOUCH})
"""What is said of keys, and of whose devices are whose."""
_GOES_WITH_ITS_PERSON: Final = OF_KEYS | {
    Kind.PERSON,
    Kind.SUCCESSOR,
    Kind.SPACE_WRAP,
    Kind.SIGN_IN,
    Kind.SIGN_IN_WRAP,
    Kind.SIGN_IN_LOCK,
}


class Outcome(StrEnum):
    """What the door says of an entry."""

    ADMIT = "admit"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The door's answer: `missing` is the id that an entry waits for, `code` why it is refused."""

    outcome: Outcome
    missing: bytes | None = None
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class Authority:
    """What an admitted grant, certificate or successor entry gives to a key: a role in a space and below it."""

    grant: bytes
    key: bytes
    agreement: bytes
    role: Role
    space: bytes
    person: bytes | None
    tls_sha256: bytes | None
    invite: bytes | None
    predecessor: bytes | None
    author: bytes
    until_ms: int | None = None
    """When it is meant to end; whoever may, then writes the revocation that ends it (docs/adr/0031)."""
    under: bytes | None = None
    """The grant under which it was written; None for what a root says."""
    at: int = 0

    @property
    def rank(self) -> int:
        """The rank of the role, root 6 … machine 1."""
        return RANK[self.role]

    @property
    def pair(self) -> tuple[bytes, bytes]:
        """The device that it names (`vouching.Device`): the key that signs, and the X25519 key."""
        return self.key, self.agreement


@dataclass(frozen=True, slots=True, order=True)
class _Succession:
    """A rotation: of several by one root, the least leads on, so that the set alone decides (docs/adr/0042)."""

    at: int
    entry: bytes
    version: int
    root: bytes
    size: int


_ADMIT: Final = Verdict(Outcome.ADMIT)


class Door:
    """What a replica must remember to judge entries: authorities, the tree of spaces, erasures.

    `examine` is pure; `learn` is called with every admitted entry, once, in any order.
    """

    def __init__(self, root: bytes) -> None:
        """`root` is the territory's first Ed25519 public key, whose hash is the territory's id."""
        self.root: Final = root
        self.territory: Final = territory_id(root)
        self._roots: tuple[bytes, ...] = (root,)
        self._steps: tuple[_Succession, ...] = ()
        self._proofs: tuple[bytes, ...] = ()
        self._followed: frozenset[bytes] = frozenset()
        self._first_certified: dict[bytes, int] = {}
        self._known_roots: set[bytes] = {root}
        self._rotations: defaultdict[bytes, dict[bytes, _Succession]] = defaultdict(dict)
        self._authorities: dict[bytes, Authority] = {}
        self._by_key: defaultdict[bytes, list[Authority]] = defaultdict(list)
        self._by_space: defaultdict[bytes, list[Authority]] = defaultdict(list)
        self._origins: dict[bytes, bytes] = {}
        self._began: dict[bytes, bytes] = {}
        self._parents: dict[bytes, bytes] = {}
        self._children: defaultdict[bytes, dict[bytes, None]] = defaultdict(dict)
        self._erased: dict[bytes, set[bytes]] = {}
        self._lines: dict[bytes, tuple[bytes, ...]] = {}

    def examine(self, entry: Entry, *, signed: bool | None = None) -> Verdict:
        """Judge one entry. `signed` may bring a signature check that was already made for exactly this entry."""
        header = entry.header
        kind_class = class_of(header.kind)
        writers = WRITERS.get(kind_class)
        if writers is None:
            return _refuse(Code.UNKNOWN_KIND)
        holds = signature_holds(entry) if signed is None else signed
        if not holds:
            return _refuse(Code.BAD_SIGNATURE)
        if entry.payload is None:
            if not is_erasable(header):
                return _refuse(Code.BAD_COMMITMENT)
            if not self._is_erased(entry):
                return Verdict(Outcome.WAIT, missing=None)
        role = self._role_of_author(header)
        if isinstance(role, Verdict):
            return role
        if role not in writers:
            return _refuse(Code.NO_RIGHT)
        if kind_class == KindClass.AUTHORITY and header.space != self.territory:
            return _refuse(Code.NO_RIGHT)
        unfit = fault_of(entry)
        return self._examine_structure(entry, role) if unfit is None else _refuse(unfit)

    def learn(self, entry: Entry) -> bytes | None:
        """Remember what an admitted entry means for later verdicts; entries of other kinds mean nothing here.

        A successor ends when the grant does under which it was written, and which was therefore admitted before it.

        Returns the id that other entries may have waited for: a grant, a space, something erased.
        """
        if entry.payload is None:
            return None
        kind = entry.header.kind
        if kind in _AUTHORITY_READERS:
            try:
                authority = _authority_in(entry.payload, entry)
            except PeerFault:
                return None  # a successor from before the new key had to agree: it gives nothing
            if kind == Kind.SUCCESSOR and (before := self.authority(entry.header.grant)) is not None:
                authority = replace(authority, until_ms=before.until_ms)
            if entry.id not in self._authorities:
                before_it = authority.predecessor
                if before_it is None:
                    self._origins[authority.key] = authority.key
                else:
                    self._origins.setdefault(authority.key, self._origins.get(before_it, before_it))
                    self._began.setdefault(authority.key, self._began.get(before_it, before_it))
                self._by_key[authority.key].append(authority)
                self._by_space[authority.space].append(authority)
            self._authorities[entry.id] = authority
            if kind == Kind.CERTIFICATE:
                root = entry.header.author
                self._first_certified[root] = min(entry.header.at, self._first_certified.get(root, entry.header.at))
            return entry.id
        if kind == Kind.ROOT_ROTATION:
            rotation = RootRotation.parse(entry.payload)
            self._known_roots.add(rotation.root)
            said = _Succession(entry.header.at, entry.id, rotation.version, rotation.root, entry.said_bytes)
            self._rotations[entry.header.author][entry.id] = said
            self._follow_roots()
            return rotation.root
        if kind == Kind.SPACE:
            space = SpaceRecord.parse(entry.payload).space_of(entry, self.territory)
            self._parents[space] = entry.header.space
            self._children[entry.header.space][space] = None
            return space
        if kind == Kind.ERASE:
            try:
                erasure = Erasure.parse(entry.payload)
            except PeerFault:
                return None
            self._erased.setdefault(erasure.covers, set()).add(entry.header.space)
            return erasure.covers
        return None

    @property
    def roots(self) -> tuple[bytes, ...]:
        """The roots of the territory one after the other; of a root's rotations to others the earlier one leads on."""
        return self._roots

    @property
    def steps(self) -> tuple[bytes, ...]:
        """One rotation from each root of the line to the next, the smallest: they prove it, though more were said."""
        return self._proofs

    def is_followed(self, rotation: bytes) -> bool:
        """Whether this is the entry of a rotation that leads from one root of the line to the next.

        Of several that name the same one each does, also one that turned up late: what any of them leaves stays.
        """
        return rotation in self._followed

    @property
    def has_erasures(self) -> bool:
        """Whether anything was ever to be forgotten, and bare headers may therefore have come in."""
        return bool(self._erased)

    @property
    def contested_roots(self) -> tuple[bytes, ...]:
        """The roots after which several would come: somebody else has the key of one, or it was replaced twice."""
        found = []
        for version, root in enumerate(self._roots, 1):
            if len({said.root for said in self._successions(root, version)}) > 1:
                found.append(root)
        return tuple(found)

    @property
    def root_now(self) -> bytes:
        """The root in force."""
        return self._roots[-1]

    def place_of_root(self, key: bytes) -> int:
        """Which of the line a root is, from 0; of a key that is none of them, as if it came next.

        Of what two roots say of one thing, the later root's counts: who has the earlier one's kit dates as he likes.
        """
        return self._roots.index(key) if key in self._roots else len(self._roots)

    def said_at(self, header: Header) -> int:
        """The time that an admitted entry counts as said at: of what a root said, none after the next took its place.

        Whoever has had the earlier one's kit has dated as they like.
        """
        ended = None if header.grant is not None else self._ended_at(header.author)
        return header.at if ended is None else min(header.at, ended)

    def standing_of(self, header: Header) -> int:
        """The rank by which an admitted word stands above others of the same thing, whatever their dates.

        Of a root in whose place another stands as a server's: whoever runs the territory now takes its word back.
        """
        is_over = header.grant is None and header.author in self._roots[:-1]
        return RANK[Role.SERVER] if is_over else self.rank_of(header)

    def is_false_root(self, header: Header) -> bool:
        """Whether an admitted entry was written as a root by a key that is none of the territory's."""
        return header.grant is None and header.author not in self._roots

    def awaited(self, entry: Entry) -> tuple[bytes, ...]:
        """The ids of which an erasure, or a `space` entry, may let a bare header in."""
        return (*erasable_names(entry), self.lineage(entry.header.space)[-1])

    def authority(self, grant: bytes | None) -> Authority | None:
        """What the grant of this id gives, if it has been admitted."""
        return None if grant is None else self._authorities.get(grant)

    def authorities(self) -> Collection[Authority]:
        """All admitted grants, certificates and successors, in the order in which they came."""
        return self._authorities.values()

    def authorities_of(self, key: bytes) -> Sequence[Authority]:
        """What all admitted grants, certificates and successors give to one key."""
        return tuple(self._by_key.get(key, ()))

    def origin(self, key: bytes) -> bytes:
        """The first key of a device's line of successors: what a device says with several keys, it says once.

        What was heard first of a key counts, here: nobody makes somebody else's key one of its own afterwards. Who is
        granted a right, as a clone that was confirmed, is a device of its own from then on.
        """
        return self._origins.get(key, key)

    def began_as(self, key: bytes) -> bytes:
        """As `origin`, whoever was granted what since: which machine it is hangs on no right."""
        return self._began.get(key, key)

    def began_with(self, given: Authority) -> Authority:
        """What was heard first of the machine that passed a right on to keys of its own; else the right itself."""
        while given.predecessor is not None:
            given = self.authorities_of(given.predecessor)[0]
        return given

    def authorities_in(self, space: bytes) -> Sequence[Authority]:
        """All admitted grants, certificates and successors of one space, without those of the spaces above it."""
        return tuple(self._by_space.get(space, ()))

    def server_keys(self) -> Sequence[bytes]:
        """The keys that were ever a server's, each once."""
        servers = (each.key for each in self.authorities_in(self.territory) if each.role is Role.SERVER)
        return tuple(dict.fromkeys(servers))

    def is_a_servers(self, key: bytes) -> bool:
        """Whether anything ever called a key a server's."""
        return any(authority.role is Role.SERVER for authority in self._by_key.get(key, ()))

    def rank_of(self, header: Header) -> int:
        """The rank with which an admitted entry was written."""
        if header.grant is None:
            return RANK[Role.ROOT]
        authority = self._authorities.get(header.grant)
        return 0 if authority is None else authority.rank

    def parent(self, space: bytes) -> bytes | None:
        """The space above, if the `space` entry that links them is known."""
        return self._parents.get(space)

    def lineage(self, space: bytes) -> tuple[bytes, ...]:
        """The space and those above it, nearest first, as far as they are known."""
        known = self._lines.get(space)
        if known is None:
            line = [space]
            while (above := self._parents.get(line[-1])) is not None and above not in line:
                line.append(above)
            known = tuple(line)
            if known[-1] == self.territory:
                self._lines[space] = known
        return known

    def knows_space(self, space: bytes) -> bool:
        """Whether the space is the territory or linked to it by admitted `space` entries."""
        return self.lineage(space)[-1] == self.territory

    def spaces(self) -> tuple[bytes, ...]:
        """Every known space in the order in which they became known, the territory first, parents before children."""
        return (self.territory, *self._parents)

    def below(self, space: bytes) -> Iterator[bytes]:
        """The space and all known below it, parents before children."""
        level = [space]
        while level:
            yield from level
            level = [child for parent in level for child in self._children.get(parent, ())]

    def children(self, space: bytes) -> tuple[bytes, ...]:
        """The known spaces that lie in this one."""
        return tuple(self._children.get(space, ()))

    def covers(self, authority: Authority, space: bytes) -> bool:
        """Whether a grant holds in `space`: its own or one below it."""
        return authority.space in self.lineage(space)

    def opens(self, authority: Authority, space: bytes) -> bool:
        """Whether a grant opens `space` to who holds it, where nothing holds it back: its own, one below or above."""
        return self.covers(authority, space) or space in self.lineage(authority.space)

    def _follow_roots(self) -> None:
        line, followed, steps, proofs = [self.root], set[bytes](), [], []
        while following := [said for said in self._successions(line[-1], len(line)) if said.root not in line]:
            step = min(following)
            same = [said for said in following if said.root == step.root]
            followed |= {said.entry for said in same}
            line.append(step.root)
            steps.append(step)
            proofs.append(min(same, key=lambda said: (said.size, said)).entry)
        self._roots, self._followed = tuple(line), frozenset(followed)
        self._steps, self._proofs = tuple(steps), tuple(proofs)

    def _ended_at(self, root: bytes) -> int | None:
        """When the next of the line took a root's place: by its own first certificate, where one is known.

        A rotation's date is the old root's word: who has that kit says the same again, of whatever day he likes.
        """
        step = self._steps[self._roots.index(root)] if root in self._roots[:-1] else None
        return None if step is None else self._first_certified.get(step.root, step.at)

    def _successions(self, root: bytes, version: int) -> list[_Succession]:
        return [said for said in self._rotations.get(root, {}).values() if said.version == version]

    def _role_of_author(self, header: Header) -> Role | Verdict:
        if header.grant is None:
            if header.author in self._known_roots:
                return Role.ROOT
            if Role.ROOT not in WRITERS[class_of(header.kind)]:
                return _refuse(Code.MISSING_GRANT)
            # a root that is not known yet is made known by the rotation that names it
            return Verdict(Outcome.WAIT, missing=header.author)
        authority = self._authorities.get(header.grant)
        if authority is None:
            return Verdict(Outcome.WAIT, missing=header.grant)
        if authority.key != header.author:
            return _refuse(Code.FOREIGN_GRANT)
        line = self.lineage(header.space)
        if authority.space in line:
            return authority.role
        if line[-1] != self.territory:
            return Verdict(Outcome.WAIT, missing=line[-1])
        return _refuse(Code.FOREIGN_GRANT)

    def _examine_structure(self, entry: Entry, role: Role) -> Verdict:
        kind = entry.header.kind
        if entry.payload is None:
            return _ADMIT
        try:
            if kind in _AUTHORITY_READERS:
                conferred = _AUTHORITY_READERS[kind].parse(entry.payload)
                if kind == Kind.GRANT and RANK[conferred.role] >= RANK[role]:
                    return _refuse(Code.NO_RIGHT)
                if isinstance(conferred, Successor) and not conferred.holds(entry.header.space, entry.header.author):
                    return _refuse(Code.BAD_SIGNATURE)
            elif kind == Kind.ROOT_ROTATION:
                if not RootRotation.parse(entry.payload).holds(self.territory, entry.header.author):
                    return _refuse(Code.BAD_SIGNATURE)
            elif kind == Kind.SPACE:
                record = SpaceRecord.parse(entry.payload)
                return self._examine_space(entry, record)
        except PeerFault as fault:
            return _refuse(fault.code)
        return _ADMIT

    def _examine_space(self, entry: Entry, record: SpaceRecord) -> Verdict:
        """A school lies in the territory and a class in a school, nothing else anywhere."""
        here = entry.header.space
        if record.uai is not None:
            return _ADMIT if here == self.territory else _refuse(Code.NO_RIGHT)
        if here == self.territory:
            return _refuse(Code.NO_RIGHT)
        above = self._parents.get(here)
        if above is None:
            return Verdict(Outcome.WAIT, missing=here)
        return _ADMIT if above == self.territory else _refuse(Code.NO_RIGHT)

    def _is_erased(self, entry: Entry) -> bool:
        """Whether an admitted erasure, in the entry's space or above, covers its subject, its item or its space."""
        line = self.lineage(entry.header.space)
        return any(not self._erased.get(name, set()).isdisjoint(line) for name in erasable_names(entry))


_AUTHORITY_READERS: Final[Mapping[int, type[Certificate | Grant | Successor]]] = MappingProxyType(
    {Kind.CERTIFICATE: Certificate, Kind.GRANT: Grant, Kind.SUCCESSOR: Successor}
)


def is_erasable(header: Header) -> bool:
    """Whether an erasure may take the payload: never from what the door itself needs."""
    if header.kind in (Kind.PERSON, Kind.SUCCESSOR):  # the door needs the latter, though any device may write it
        return header.kind == Kind.PERSON
    return class_of(header.kind) not in _NEVER_ERASED


def erasable_names(entry: Entry) -> tuple[bytes, ...]:
    """The names of which an erasure lets the bare entry in: whom it is about, its item or hand-in, itself, its space.

    What is said of keys and names goes with its person, or its space: an erasure of one such entry would take away that
    a lost laptop was given a key, who confirmed whom, or what somebody was called first (docs/adr/0200). So does what
    an office orders: an erasure has no rank, and would lift the kit's quarantine or bring an earlier sign-in back.
    """
    header = entry.header
    is_order = class_of(header.kind) in _NEVER_ERASED or header.kind in _GOES_WITH_ITS_PERSON
    alone = () if is_order else (header.target, entry.id)
    return tuple(name for name in (header.subject, *alone, header.space) if name is not None)


def covering_names(entry: Entry) -> tuple[bytes, ...]:
    """The names of which an erasure covers the entry, for the folds and for whoever destroys.

    Its own id is among them where it is what people call a thing: a hand-in, or an item by its first revision. An
    erasure of one remark, one later version, one withdrawal or one wrap would put in force again what its author has
    said before it, and taken back. The door goes on letting bare headers in by any id: its verdicts never change.
    """
    names = erasable_names(entry)
    return names if _makes_a_thing(entry.header) else tuple(name for name in names if name != entry.id)


def _makes_a_thing(header: Header) -> bool:
    return header.kind == Kind.HAND_IN or (header.kind == Kind.REVISION and header.target is None)


def _authority_in(payload: bytes, entry: Entry) -> Authority:
    given = _AUTHORITY_READERS[entry.header.kind].parse(payload)
    return Authority(
        grant=entry.id,
        key=given.signing,
        agreement=given.agreement,
        role=given.role,
        space=entry.header.space,
        person=given.person,
        tls_sha256=given.tls_sha256,
        invite=given.invite,
        predecessor=entry.header.author if entry.header.kind == Kind.SUCCESSOR else None,
        author=entry.header.author,
        until_ms=given.until_ms,
        under=entry.header.grant,
        at=entry.header.at,
    )


def _refuse(code: Code) -> Verdict:
    return Verdict(Outcome.REFUSE, code=code)
