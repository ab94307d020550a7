"""Payloads of the kinds that make rights and rosters: classes 0 and 1, persons' keys, successors.

Each is a frozen dataclass with `parse(payload)` and `encode()`; docs/protocol.md, "Payloads", lists their keys. What
the payloads together mean is the fold's business (`protocol.rights.roster`), and the door's (`protocol.rights.door`).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

from protocol.canonical import encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.identity import SigningKey, school_id, verify
from protocol.limits import (
    MAX_CERTIFICATES_BESIDE,
    MAX_HOSTS_PER_INVITE,
    MAX_REVOCATION_LISTS,
    MAX_REVOKED_ABSENT,
    MAX_REVOKED_HEADS,
    MAX_RULED_ENTRIES,
    MAX_SPACES_PER_INVITE,
)
from protocol.model.entry import ID_BYTES, PERSON_BYTES, SIGNATURE_BYTES, Entry
from protocol.roles import ARE_TAUGHT, PersonRole, Role
from protocol.trust.invitation import Invitation, is_vouched

GENERATION_BYTES = 8
_MAX_ROLE_CHARS = 16
_UAI_CHARS = 16
_SUCCESSION = b"relais/0 succession"


def _role(fields: Fields, key: str = "role") -> Role:
    text = fields.text(key, _MAX_ROLE_CHARS)
    try:
        return Role(text)
    except ValueError:
        raise PeerFault(Code.MALFORMED, "a grant names a role that this version does not know", role=text) from None


@dataclass(frozen=True, slots=True)
class Certificate:
    """The server's grant, signed by the root: its Ed25519 and X25519 keys.

    `beside` are the certificates of the same root that count beside it; where there are none it says nothing of others.
    """

    signing: bytes
    agreement: bytes
    beside: tuple[bytes, ...] = ()

    role = Role.SERVER
    person = None
    tls_sha256 = None
    invite = None
    until_ms = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a certificate")
        beside: tuple[bytes, ...] = ()
        with suppress(PeerFault):  # what the door let in before this was read, it lets in for ever
            beside = fields.all_octets("beside", ID_BYTES, MAX_CERTIFICATES_BESIDE)
        return cls(fields.octets("signing", ID_BYTES), fields.octets("agreement", ID_BYTES), beside)

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(signing=self.signing, agreement=self.agreement, beside=list(self.beside)))


@dataclass(frozen=True, slots=True)
class RecoveryKey:
    """The X25519 key whose private half lies in the kit only; every hand-in is also wrapped to it."""

    agreement: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a recovery key").octets("agreement", ID_BYTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"agreement": self.agreement})


@dataclass(frozen=True, slots=True)
class Generation:
    """Opens a generation of the server's store: cursors of another generation mean nothing in it."""

    number: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a generation").octets("number", GENERATION_BYTES))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"number": self.number})


@dataclass(frozen=True, slots=True)
class Rewrap:
    """That the recovery key was used: how many hand-ins of a space it opened to a teacher, or to all of them."""

    space: bytes
    person: bytes | None
    works: int

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a use of the recovery key")
        return cls(
            fields.octets("space", ID_BYTES), fields.octets_or_none("person", PERSON_BYTES), fields.count("works")
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(space=self.space, person=self.person, works=self.works))


@dataclass(frozen=True, slots=True)
class SpaceRecord:
    """A school (it has a UAI, and lies in the territory) or a class, group or staff room (it lies in its school).

    Of a school any word that says it again counts where it is the earliest, and a school has no year, whatever one says
    (docs/adr/0604).
    """

    name: str
    uai: str | None = None
    year: str | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a space")
        uai, year = fields.text_or_none("uai", _UAI_CHARS), fields.name_or_none("year", _UAI_CHARS)
        return cls(fields.name("name"), uai, year_that_counts(uai, year))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(name=self.name, uai=self.uai, year=self.year))

    def space_of(self, entry: Entry, territory: bytes) -> bytes:
        """The id of the space that `entry`, whose payload this is, makes."""
        return entry.id if self.uai is None else school_id(territory, self.uai)


def year_that_counts(uai: str | None, year: str | None) -> str | None:
    """The school year of a space: what has a UAI is there in each."""
    return year if uai is None else None


@dataclass(frozen=True, slots=True)
class SpaceChange:
    """What a space is called from now on; it lies in the space itself."""

    name: str

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        return cls(Fields.of_payload(payload, "a change of a space").name("name"))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode({"name": self.name})


@dataclass(frozen=True, slots=True)
class Hosts:
    """Who may honour a code: these keys, and the server of a later certificate than this, in force when it was made."""

    keys: tuple[bytes, ...]
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class Invite:
    """What an enrolment code opens: a role in spaces.

    `uses` counts the devices it may admit, `expires_ms` is a time; `until_ms` is when the grants that it leads to are
    meant to end. Where there is a `key`, who shows the code proves by it that they have the whole one. Where there are
    `hosts`, `vouch` is that key's signature for all that stands here.
    """

    secret_hash: bytes
    role: Role
    spaces: tuple[bytes, ...]
    person: bytes | None
    uses: int
    expires_ms: int
    until_ms: int | None = None
    key: bytes | None = None
    hosts: Hosts | None = None
    vouch: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "an invitation")
        hosts = fields.all_octets("hosts", ID_BYTES, MAX_HOSTS_PER_INVITE)
        return cls(
            fields.octets("secret", ID_BYTES),
            _role(fields),
            fields.all_octets("spaces", ID_BYTES, MAX_SPACES_PER_INVITE),
            fields.octets_or_none("person", PERSON_BYTES),
            fields.count("uses"),
            fields.count("expires"),
            fields.count_or_none("until"),
            fields.octets_or_none("key", ID_BYTES),
            Hosts(hosts, fields.octets_or_none("server", ID_BYTES)) if hosts else None,
            fields.octets_or_none("vouch", SIGNATURE_BYTES),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return self._encoded(self.vouch)

    def vouched_by(self, invitation: Invitation) -> Self:
        """The same, with the word of its own code."""
        return replace(self, vouch=invitation.vouch(self._encoded(None)))

    @property
    def is_vouched(self) -> bool:
        """Whether its own code, by its key, said all of it: who has not the whole code cannot."""
        if self.key is None or self.vouch is None:
            return False
        return is_vouched(self.key, self._encoded(None), self.vouch)

    def _encoded(self, vouch: bytes | None) -> bytes:
        hosts = self.hosts or Hosts((), None)
        return encode(
            compact(
                secret=self.secret_hash,
                role=self.role.value,
                spaces=list(self.spaces),
                person=self.person,
                uses=self.uses,
                expires=self.expires_ms,
                until=self.until_ms,
                key=self.key,
                hosts=list(hosts.keys) or None,
                server=hosts.certificate,
                vouch=vouch,
            )
        )


@dataclass(frozen=True, slots=True)
class Grant:
    """Gives a device's keys a role in the space that holds the entry, and in those below it.

    `until_ms` says when it is meant to end: nobody's clock is trusted to refuse by it, so it ends by a revocation.
    """

    signing: bytes
    agreement: bytes
    tls_sha256: bytes | None
    role: Role
    person: bytes | None
    invite: bytes | None
    until_ms: int | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a grant")
        return cls(
            fields.octets("signing", ID_BYTES),
            fields.octets("agreement", ID_BYTES),
            fields.octets_or_none("tls", ID_BYTES),
            _role(fields),
            fields.octets_or_none("person", PERSON_BYTES),
            fields.octets_or_none("invite", ID_BYTES),
            fields.count_or_none("until"),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(
            compact(
                signing=self.signing,
                agreement=self.agreement,
                tls=self.tls_sha256,
                role=self.role.value,
                person=self.person,
                invite=self.invite,
                until=self.until_ms,
            )
        )


@dataclass(frozen=True, slots=True)
class Successor:
    """New keys of a cloned machine, signed by the old ones: the same minimal rights at once.

    The new key agrees (`proof`): nobody makes somebody else's key one of their own. They end when the grant does under
    which the old keys signed: that is the door's to say.
    """

    signing: bytes
    agreement: bytes
    tls_sha256: bytes | None
    proof: bytes

    role = Role.MACHINE
    person = None
    invite = None
    until_ms = None

    @classmethod
    def agreed(cls, new: SigningKey, agreement: bytes, tls_sha256: bytes | None, space: bytes, before: bytes) -> Self:
        """What the new key agrees to: to follow the key `before` in this space."""
        proof = new.sign(_SUCCESSION, _succession(space, before, agreement, tls_sha256))
        return cls(new.public, agreement, tls_sha256, proof)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a successor")
        return cls(
            fields.octets("signing", ID_BYTES),
            fields.octets("agreement", ID_BYTES),
            fields.octets_or_none("tls", ID_BYTES),
            fields.octets("proof", SIGNATURE_BYTES),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(signing=self.signing, agreement=self.agreement, tls=self.tls_sha256, proof=self.proof))

    def holds(self, space: bytes, before: bytes) -> bool:
        """Whether the new key has agreed to follow the key `before` in this space."""
        said = _succession(space, before, self.agreement, self.tls_sha256)
        return verify(self.signing, _SUCCESSION, said, self.proof)


def _succession(space: bytes, before: bytes, agreement: bytes, tls_sha256: bytes | None) -> bytes:
    return space + before + agreement + (tls_sha256 or bytes(ID_BYTES))


@dataclass(frozen=True, slots=True)
class Revocation:
    """Cuts a key off: of what it wrote in this space and below, only `heads` and their ancestors stay valid.

    But what is `absent`, which they name and was not here, does not, nor what is an ancestor through it alone.
    `lists` are `root account` entries that list more heads, for a root's revocation, which counts once all are here.
    """

    key: bytes
    heads: tuple[bytes, ...]
    lists: tuple[bytes, ...] = ()
    absent: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a revocation")
        return cls(
            fields.octets("key", ID_BYTES),
            fields.all_octets("heads", ID_BYTES, MAX_REVOKED_HEADS),
            fields.all_octets("lists", ID_BYTES, MAX_REVOCATION_LISTS),
            fields.all_octets("absent", ID_BYTES, MAX_REVOKED_ABSENT),
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(key=self.key, heads=list(self.heads), lists=list(self.lists), absent=list(self.absent)))


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a human says of entries that a revocation holds back: these count after all, those do not.

    A root's may take back by name instead: no erasure of what it `covers` counts that a root has signed in this `turn`
    or an earlier one (docs/adr/0324).
    """

    accepted: tuple[bytes, ...]
    refused: tuple[bytes, ...]
    covers: bytes | None = None
    turn: int = 0

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a ruling")
        return cls(
            fields.all_octets("accepted", ID_BYTES, MAX_RULED_ENTRIES),
            fields.all_octets("refused", ID_BYTES, MAX_RULED_ENTRIES),
            fields.octets("covers", most=ID_BYTES) if fields.has("covers") else None,
            fields.count_or_none("turn") or 0,
        )

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(
            compact(
                accepted=list(self.accepted), refused=list(self.refused), covers=self.covers, turn=self.turn or None
            )
        )


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """A person's name and role in one space; the entry's subject is the pseudonymous id."""

    name: str
    role: PersonRole
    left: bool = False
    same_as: bytes | None = None
    """Who this is too: the same person, added twice; what is about either is that one's."""
    frozen: bool = False
    """Whether what there is about a pupil, or a guardian, is kept and not used (GDPR, article 18)."""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a person")
        text = fields.text("role", _MAX_ROLE_CHARS)
        try:
            role = PersonRole(text)
        except ValueError:
            raise PeerFault(Code.MALFORMED, "a person has a role that this version does not know", role=text) from None
        same_as = fields.octets_or_none("same", PERSON_BYTES)
        return cls(fields.name("name"), role, fields.flag("left"), same_as, fields.flag("frozen"))

    @property
    def leaves(self) -> bool:
        """Whether this takes them off the list: who is the same as another is there under that one's id."""
        return self.left and self.same_as is None

    @property
    def freezes(self) -> bool:
        """Whether this freezes them: nobody else than a pupil, or a guardian, is.

        A teacher's words are about others as well, and what is said of their keys opens what others handed in.
        """
        return self.frozen and self.role in ARE_TAUGHT

    def encode(self) -> bytes:
        """To an entry's payload."""
        said = compact(name=self.name, role=self.role.value, left=self.left, same=self.same_as, frozen=self.frozen)
        return encode(said)


@dataclass(frozen=True, slots=True)
class PersonKey:
    """A reading key of a teacher: hand-ins of the space are wrapped to it. `name` is what its device calls itself."""

    agreement: bytes
    name: str | None = None

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a person's key")
        return cls(fields.octets("agreement", ID_BYTES), fields.name_or_none("name"))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(agreement=self.agreement, name=self.name))


@dataclass(frozen=True, slots=True)
class Erasure:
    """What is to be forgotten: a person (16 bytes), an item or a whole space (32 bytes).

    `turn` is how often the root had taken that back before; what others than the root say has none.
    """

    covers: bytes
    turn: int = 0

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "an erasure")
        covers = fields.octets("covers", most=ID_BYTES)
        if len(covers) not in (PERSON_BYTES, ID_BYTES):
            raise PeerFault(Code.MALFORMED, "an erasure does not say what it covers")
        turn = 0
        with suppress(PeerFault):  # the door has to read what it read before there were turns
            turn = fields.count_or_none("turn") or 0
        return cls(covers, turn)

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(covers=self.covers, turn=self.turn or None))
