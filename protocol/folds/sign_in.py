"""How people prove who they are on a shared machine (docs/protocol.md, "Sign-in").

Rules:
- what proves a pupil (three pictures, a PIN, a password) is an argon2id verifier, sealed under a key of the class that
  its school's own devices hold and nobody else: neither the server nor an administrator nor the recovery kit;
- a key is named by a commitment; a wrap counts only if it opens to that key, whoever made it; whom it counts as given
  to is `protocol.rights.given_keys`' to say;
- a key is theirs who say to have drawn it, and are not out: under no other one is anything set (docs/adr/0609);
- what a device says that stands for a teacher counts once one of the teacher's own has confirmed it, and until then no
  key is for it (`protocol.rights.vouching`);
- of several verifiers of a person the shown head counts, as with a name; so does the switch, which is about nobody;
- where a verifier that is held back would take its place, and whoever said it is let in again, nothing earlier proves
  that person, until a word that counts names it; while they are out it does, as a thief says verifiers too
  (docs/adr/0312). Nor where one that counts would, of which the header alone is here (docs/adr/0576);
- a lock names the verifier that was guessed at, or the word by which somebody was let try again: another of these
  lifts it. Who lets somebody try again sets nothing: whose verifier it is counts on, or does not (docs/adr/0345);
- a switch that says on stays on though it is held back, until a word that counts has taken its place, or names what
  cut somebody off: a report opens nothing, and one word of a teacher's settles it for good (docs/adr/0285);
- so does one that was said by whoever was a teacher there and speaks for nobody, as far as this machine knows: on is
  anybody's to say, off is said by a word that counts. Each such device took its own on back if its last word says off
  (docs/adr/0423);
- nothing here heeds a clock: how long one waits between tries is each machine's (`sync_agent.school.sign_in_tries`).
"""

from __future__ import annotations

import hmac
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.canonical import Value, decode, encode
from protocol.errors import Code, PeerFault
from protocol.fields import Fields, compact
from protocol.identity import AgreementKey, tagged
from protocol.limits import (
    MAX_PARENTS,
    MAX_SIGN_IN_CHARS,
    MAX_WRAPS_PER_ENTRY,
    MIN_PASSPHRASE_CHARS,
    MIN_PASSWORD_CHARS,
    MIN_PIN_DIGITS,
    SIGN_IN_PICTURES,
    SIGN_IN_PICTURES_CHOSEN,
)
from protocol.model.ancestry import heads, in_order_of_showing, marked, to_replace
from protocol.model.entry import ID_BYTES, Entry, Kind, KindClass, parsed
from protocol.model.payload_rules import is_said
from protocol.rights.door import WRITERS, Authority
from protocol.rights.given_keys import GivenKeys, GivenKeysFold
from protocol.rights.roster import Roster
from protocol.roles import HOLDS_SIGN_INS
from protocol.trust import hpke

SIGN_IN_KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
WRAP_BYTES: Final = SIGN_IN_KEY_BYTES + hpke.OVERHEAD_BYTES

_DERIVE: Final = b"relais/0 sign-in key"
_WRAP: Final = b"relais/0 sign-in wrap"
_SEAL: Final = b"relais/0 sign-in"
_MEMORY_KIB: Final = 19 * 1024
_PASSES: Final = 2
_LANES: Final = 1
_HASH_BYTES: Final = 32
_MAX_SEALED_BYTES: Final = 1_024


class Method(IntEnum):
    """What a person shows to sign in."""

    PICTURES = 0
    PIN = 1
    PASSWORD = 2
    PASSPHRASE = 3


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a secret is compared with: argon2id of it (RFC 9106; 19 MiB, 2 passes, 1 lane) under a salt of its own."""

    method: Method
    salt: bytes
    hash: bytes

    @classmethod
    def of(cls, method: Method, secret: str, salt: bytes) -> Self:
        """What proves `secret`, brought into `normal` form before. Some 30 ms and 19 MiB, on purpose."""
        return cls(method, salt, _argon2(method, secret, salt))

    def proves(self, secret: str) -> bool:
        """Whether this is the secret. Takes as long as `of`: call it in a thread."""
        return hmac.compare_digest(self.hash, _argon2(self.method, secret, self.salt))

    @classmethod
    def parse(cls, plain: bytes) -> Self:
        """From what was sealed. Raises `PeerFault`, `TooLarge`."""
        fields = Fields(decode(plain, max_bytes=_MAX_SEALED_BYTES), "a verifier")
        number = fields.count("method", max(Method))
        return cls(Method(number), fields.octets("salt", SALT_BYTES), fields.octets("hash", _HASH_BYTES))

    def encode(self) -> bytes:
        """To be sealed."""
        return encode({"method": int(self.method), "salt": self.salt, "hash": self.hash})


def normal(method: Method, secret: str) -> str | None:
    """The one form of a secret as it is compared; None for what can be none of this method.

    Pictures are the three numbers of those chosen, in order, parted by dashes: 1-12-3.
    """
    text = unicodedata.normalize("NFKC", secret).strip()
    if method is Method.PICTURES:
        parts = text.split("-")
        known = {str(number) for number in range(1, SIGN_IN_PICTURES + 1)}
        return text if len(parts) == SIGN_IN_PICTURES_CHOSEN and set(parts) <= known else None
    if len(text) > MAX_SIGN_IN_CHARS:
        return None
    if method is Method.PIN:
        return text if len(text) >= MIN_PIN_DIGITS and text.isascii() and text.isdecimal() else None
    least = MIN_PASSWORD_CHARS if method is Method.PASSWORD else MIN_PASSPHRASE_CHARS
    return text if len(text) >= least else None


class SignInKey:
    """The key under which verifiers of a class are sealed, and its name."""

    __slots__ = ("_seal", "commitment", "key")

    def __init__(self, key: bytes) -> None:
        """`key` is `SIGN_IN_KEY_BYTES` of randomness."""
        derived = HKDF(hashes.SHA256(), 64, salt=None, info=tagged(_DERIVE, b"")).derive(key)
        self.key: Final = key
        self.commitment: Final = derived[:32]
        self._seal: Final = ChaCha20Poly1305(derived[32:])

    def __repr__(self) -> str:
        return f"SignInKey({self.commitment.hex()})"

    def wrap(self, space: bytes, recipient: bytes, ephemeral: bytes) -> bytes:
        """The key for one device; `ephemeral` is 32 fresh random bytes. Raises `PeerFault(WEAK_KEY)`."""
        return hpke.seal(self.key, recipient, tagged(_WRAP, space + self.commitment), ephemeral)

    def seal(self, verifier: Verifier, space: bytes, person: bytes, nonce: bytes) -> bytes:
        """A verifier for those who hold the key, and for this person in this space only."""
        return nonce + self._seal.encrypt(nonce, verifier.encode(), tagged(_SEAL, space + person))

    def open(self, sealed: bytes, space: bytes, person: bytes) -> Verifier:
        """The verifier in `sealed`. Raises `PeerFault` (BAD_SEAL, MALFORMED)."""
        try:
            plain = self._seal.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], tagged(_SEAL, space + person))
        except (InvalidTag, ValueError) as reason:
            raise PeerFault(Code.BAD_SEAL, "what proves a person does not open with this key") from reason
        return Verifier.parse(plain)


def unwrap(sealed: bytes, recipient: AgreementKey, space: bytes, commitment: bytes) -> SignInKey:
    """The key of this name in a wrap. Raises `PeerFault(BAD_SEAL)` for another recipient, space or key."""
    key = hpke.open_(sealed, recipient, tagged(_WRAP, space + commitment))
    if len(key) != SIGN_IN_KEY_BYTES or (found := SignInKey(key)).commitment != commitment:
        raise PeerFault(Code.BAD_SEAL, "a wrap of a sign-in key holds another key")
    return found


# --- payloads ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignInRecord:
    """With a subject: their sealed verifier, and the name of its key. Without one: whether sign-in is on."""

    key: bytes | None = None
    sealed: bytes | None = None
    on: bool = False

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a sign-in")
        sealed = fields.octets("sealed", most=_MAX_SEALED_BYTES) if fields.has("sealed") else None
        return cls(fields.octets_or_none("key", ID_BYTES), sealed, fields.flag("on"))

    def encode(self) -> bytes:
        """To an entry's payload."""
        return encode(compact(key=self.key, sealed=self.sealed, on=self.on))


@dataclass(frozen=True, slots=True)
class SignInWraps:
    """One key, named by its commitment, sealed to several devices: (X25519 key, `enc` ‖ ciphertext ‖ tag).

    `drawn` says that its author drew that key itself.
    """

    key: bytes
    wraps: tuple[tuple[bytes, bytes], ...]
    drawn: bool = False

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From an entry's payload."""
        fields = Fields.of_payload(payload, "a wrap of a sign-in key")
        wraps = fields.pairs("wraps", (ID_BYTES, WRAP_BYTES), MAX_WRAPS_PER_ENTRY)
        return cls(fields.octets("key", ID_BYTES), wraps, fields.flag("drawn"))

    def encode(self) -> bytes:
        """To an entry's payload."""
        wraps: list[Value] = [[recipient, sealed] for recipient, sealed in self.wraps]
        return encode({**compact(drawn=self.drawn), "key": self.key, "wraps": wraps})


# --- the fold ---------------------------------------------------------------------------------------------------------

KINDS: Final = (Kind.SIGN_IN, Kind.SIGN_IN_WRAP, Kind.SIGN_IN_LOCK)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What is in force for one person, the line that another would replace, and where it was locked.

    `set_in` is the entry that says it; tries are counted from `entry` on: that one, or the word by which somebody let
    them try again since.
    """

    entry: bytes
    record: SignInRecord
    line: tuple[bytes, ...]
    set_in: bytes
    locked_by: tuple[bytes, ...] = ()

    @property
    def is_set(self) -> bool:
        """Whether there is something to compare with."""
        return self.record.key is not None and self.record.sealed is not None


@dataclass(frozen=True, slots=True)
class KeyUse:
    """Since when a key is in use, by the date of the earliest sign-in under it, and which devices have set such."""

    since: int
    by: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class SignIns:
    """Sign-in of one space. `on`: shared machines show a person's own things to that person only.

    `switch` is what another word about it names; `unsettled` are the words that say on, are held back or said by who
    speaks for nobody, and count nevertheless; it `lasts` if nothing that is held back would be shown before what
    counts. `undone` are, by person, verifiers that are held back and would take the place of what counts, the foremost
    first; of who is `in_doubt` nothing is set until another one names these. `uses` are the keys under which something
    counts that was set; `claimed` those under which a device has set something, or which it has sealed, that is cut off
    since, what is held back of it included, each with such devices; `unknown` are such of which a header alone is left.
    `drawn` are the keys of which somebody who is not out, and may set something, says to have drawn them.
    """

    on: bool
    switch: tuple[bytes, ...]
    persons: Mapping[bytes, SignIn]
    given: GivenKeys
    unsettled: frozenset[bytes] = frozenset()
    lasts: bool = True
    uses: Mapping[bytes, KeyUse] = field(default_factory=dict)
    claimed: Mapping[bytes, frozenset[bytes]] = field(default_factory=dict)
    unknown: frozenset[bytes] = frozenset()
    drawn: frozenset[bytes] = frozenset()
    undone: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    in_doubt: frozenset[bytes] = frozenset()

    def line(self, person: bytes) -> tuple[bytes, ...]:
        """What another verifier of a person names: what is held back above it, and what it replaces."""
        counting = self.persons.get(person)
        return (*self.undone.get(person, ()), *(() if counting is None else counting.line))[:MAX_PARENTS]


def lets_try_again(entry: Entry) -> bool:
    """Whether a `sign-in` sets nothing, and lets a person try again at the verifier that is its target.

    It repeats that for programs from before, to which it is another verifier.
    """
    header = entry.header
    return header.kind == Kind.SIGN_IN and header.subject is not None and header.target is not None


def fold_sign_ins(entries: Iterable[Entry], roster: Roster) -> SignIns:
    """Sign-in of a space from its entries.

    What is held back, erased, said by a device that nobody has confirmed, or cannot be read, is passed over, but for a
    switch that says on, and that something else is in force since a verifier is held back.
    """
    entries = sorted(entries, key=lambda entry: (entry.header.at, entry.id))
    versions: defaultdict[bytes, list[Entry]] = defaultdict(list)
    ever: defaultdict[bytes, list[Entry]] = defaultdict(list)
    again: defaultdict[bytes, list[Entry]] = defaultdict(list)
    records: dict[bytes, SignInRecord] = {}
    given = GivenKeysFold(roster, lambda grant: _may_make(grant, roster))
    locks: defaultdict[tuple[bytes | None, bytes | None], list[bytes]] = defaultdict(list)
    for entry in entries:
        header = entry.header
        if header.kind == Kind.SIGN_IN:
            ever[header.subject or b""].append(entry)
        if not is_said(entry) or roster.hides(entry):
            continue
        try:
            if header.kind == Kind.SIGN_IN and header.grant not in roster.unconfirmed:
                records[entry.id] = SignInRecord.parse(entry.payload or b"")
                (again if lets_try_again(entry) else versions)[header.subject or b""].append(entry)
            elif header.kind == Kind.SIGN_IN_WRAP:
                wraps = SignInWraps.parse(entry.payload or b"")
                given.add(entry, wraps.key, wraps.wraps)
            elif header.kind == Kind.SIGN_IN_LOCK and header.author not in roster.cut:
                locks[header.subject, header.target].append(header.author)
        except PeerFault:
            continue
    found = {
        subject: _in_force(written, ever[subject], again[subject], records, locks)
        for subject, written in versions.items()
    }
    switch = found.pop(b"", None)
    held = _passed_above(ever, versions, roster)
    above = [one.id for one in held.pop(b"", ())]
    in_doubt = _in_doubt(held, roster)
    for person in in_doubt & found.keys():
        found[person] = replace(found[person], record=SignInRecord())
    unsettled = _unsettled(entries, versions[b""], roster)
    settling, line = _to_settle(unsettled, roster), () if switch is None else switch.line
    return SignIns(
        on=(switch is not None and switch.record.on) or bool(unsettled),
        switch=tuple(dict.fromkeys((*settling, *above[: MAX_PARENTS // 8], *line)))[:MAX_PARENTS],
        persons=found,
        given=given.result(),
        unsettled=frozenset(one.id for one in unsettled),
        lasts=not above,
        uses=_uses(versions.values(), records),
        claimed=_claimed(entries, roster),
        unknown=_unknown(entries, roster),
        drawn=_drawn(entries, roster),
        undone={person: tuple(one.id for one in passed[: MAX_PARENTS // 4]) for person, passed in held.items()},
        in_doubt=in_doubt,
    )


def _in_force(
    written: Sequence[Entry],
    ever: Sequence[Entry],
    again: Sequence[Entry],
    records: Mapping[bytes, SignInRecord],
    locks: Mapping[tuple[bytes | None, bytes | None], Sequence[bytes]],
) -> SignIn:
    """What is in force of what was `written` about somebody, or of the switch, of all that `ever` was.

    `again` are who let them try again.
    """
    setting = [one for one in ever if not lets_try_again(one)]
    trying = [one for one in ever if lets_try_again(one)]
    shown = heads(written, setting)[0]
    tried = next((one.id for one in heads((one for one in again if one.header.target == shown.id), trying)), shown.id)
    # for programs from before also who let them try again, behind all that sets something
    line = (*to_replace(written, setting), *(one.id for one in heads(again, trying)))[:MAX_PARENTS]
    locked = tuple(sorted(set(locks.get((shown.header.subject, tried), ()))))
    return SignIn(tried, records[shown.id], line, shown.id, locked)


def _passed_above(
    ever: Mapping[bytes, Sequence[Entry]], counting: Mapping[bytes, Sequence[Entry]], roster: Roster
) -> dict[bytes, list[Entry]]:
    """By person, and of the switch, what would be shown before what counts, the foremost first.

    It is held back, or a header alone, though its author counts.
    """
    found = {}
    for person, said in ever.items():
        words = [one for one in said if not lets_try_again(one)]
        passed = {one.id: one for one in words if _is_lacking(one, roster) or _is_held_back(one, roster)}
        if passed:
            all_said = in_order_of_showing({**{one.id: one for one in counting.get(person, ())}, **passed}, words)
            shown = next((place for place, one in enumerate(all_said) if one.id not in passed), len(all_said))
            if above := all_said[:shown]:
                found[person] = above
    return found


def _in_doubt(passed: Mapping[bytes, Iterable[Entry]], roster: Roster) -> frozenset[bytes]:
    """Of whom something would be shown first that is not here, or whose author has access now."""
    back = _let_in(roster)
    return frozenset(
        person for person, above in passed.items() if any(_is_lacking(one, roster) or back(one) for one in above)
    )


def _is_held_back(entry: Entry, roster: Roster) -> bool:
    return entry.id in roster.held_back and not roster.is_erased(entry)


def _is_lacking(entry: Entry, roster: Roster) -> bool:
    """Whether only the payload is missing: what that says instead of what counts, this replica does not know yet."""
    return entry.payload is None and not roster.hides(entry) and entry.header.grant not in roster.unconfirmed


def _let_in(roster: Roster) -> Callable[[Entry], bool]:
    """Whether whoever said a verifier that is held back has access now, and spoke when they said it, or does again."""
    writers = WRITERS[KindClass.ANSWER]
    speaking = {one.key for one in roster.authorities if one.role in writers and one.grant not in roster.unconfirmed}

    def is_let_in(entry: Entry) -> bool:
        header = entry.header
        return header.author not in roster.cut and (header.author in speaking or header.grant not in roster.unconfirmed)

    return is_let_in


def _uses(versions: Iterable[Iterable[Entry]], records: Mapping[bytes, SignInRecord]) -> dict[bytes, KeyUse]:
    found: dict[bytes, KeyUse] = {}
    for entry in (entry for written in versions for entry in written):
        name, header = records[entry.id].key, entry.header
        if name is not None:
            before = found.get(name, KeyUse(header.at, frozenset()))
            found[name] = KeyUse(min(before.since, header.at), before.by | {header.author})
    return found


def _claimed(entries: Iterable[Entry], roster: Roster) -> dict[bytes, frozenset[bytes]]:
    """Who set something under a key, or sealed it, has it, though all that it ever said is held back since."""
    found: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for one in entries:
        if one.header.author in roster.cut and (name := _key_named(one)) is not None:
            found[name].add(one.header.author)
    return {name: frozenset(devices) for name, devices in found.items()}


def _unknown(entries: Iterable[Entry], roster: Roster) -> frozenset[bytes]:
    """Who is cut off, and has named a key of which nobody can say any more which that was: any may be theirs."""
    headers = (one.header for one in entries if one.payload is None and one.header.kind != Kind.SIGN_IN_LOCK)
    return frozenset(header.author for header in headers if header.author in roster.cut)


def _drawn(entries: Iterable[Entry], roster: Roster) -> frozenset[bytes]:
    """Of which keys somebody says to have drawn them whose word counts, and who is not cut off."""
    makers = {grant.grant for grant in roster.authorities if _may_make(grant, roster) and grant.key not in roster.cut}
    said = (one for one in entries if one.header.kind == Kind.SIGN_IN_WRAP and one.header.grant in makers)
    wraps = (parsed(one, SignInWraps.parse) for one in said if not roster.hides(one))
    return frozenset(each.key for each in wraps if each is not None and each.drawn)


def _may_make(grant: Authority, roster: Roster) -> bool:
    """Whether whoever has that grant may draw a key, and set something under it."""
    return grant.role in WRITERS[KindClass.ANSWER] and grant.grant not in roster.unconfirmed


def _key_named(entry: Entry) -> bytes | None:
    """The key under which an entry sets something, or which it seals."""
    if entry.header.kind == Kind.SIGN_IN_WRAP:
        wraps = parsed(entry, SignInWraps.parse)
        return None if wraps is None else wraps.key
    record = parsed(entry, SignInRecord.parse) if entry.header.kind == Kind.SIGN_IN else None
    return None if record is None else record.key


def _unsettled(entries: Iterable[Entry], counting: Sequence[Entry], roster: Roster) -> list[Entry]:
    """The switches that say on, are doubted, and no word that counts has settled.

    It settles what it leads to; and by naming what cut somebody off, all that this one says at any time, and whatever
    else is held back: who was cut off goes on saying on, and whoever has the server lets others in, and cuts them off.
    Not what a teacher's device said after that word, which was cut off since. Whoever names that, or how a device came
    in that speaks for nobody, was asked about such devices: all that these say at any time is settled by it.
    """
    switches = {one.id: one for one in entries if _is_switch(one)}
    doubted = [one for one in _doubted(switches.values(), roster) if _says_on(one)]
    if not doubted:
        return []
    settled: set[bytes] = set()  # by being led to
    pending = [word.id for word in counting]
    while pending:
        here = pending.pop()
        if here in switches and here not in settled:
            settled.add(here)
            pending.extend(switches[here].header.parents)
    naming = {word.id: _cut_by(word, roster) for word in counting}
    cut = frozenset[bytes]().union(*naming.values())
    following: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for one in switches.values():
        for parent in one.header.parents:
            following[parent].append(one.id)
    later = marked({word: 1 for word, keys in naming.items() if keys}, following)
    was_asked = bool(cut) or any(name in roster.granted for word in counting for name in word.header.parents)

    def is_settled(one: Entry) -> bool:
        if one.id in settled:
            return True
        if one.header.grant in roster.unconfirmed:
            return was_asked
        return bool(cut) and (one.header.author in cut or one.id not in later)

    return [one for one in doubted if not is_settled(one)]


def _doubted(switches: Iterable[Entry], roster: Roster) -> Iterable[Entry]:
    """The words about the switch that are held back; and of each device that speaks for nobody its last one besides.

    The last by its own date: who chooses that is heard no less where the word counts.
    """
    last: dict[bytes, Entry] = {}
    for one in sorted(switches, key=lambda entry: (entry.header.at, entry.id)):
        if roster.is_erased(one):
            continue
        if one.id in roster.held_back:
            yield one
        elif one.header.grant in roster.unconfirmed:
            last[one.header.author] = one
    yield from last.values()


def _cut_by(word: Entry, roster: Roster) -> frozenset[bytes]:
    """The keys of whose being cut off a word says that it knows."""
    return frozenset(roster.revocations[name] for name in word.header.parents if name in roster.revocations)


def _to_settle(unsettled: Sequence[Entry], roster: Roster) -> tuple[bytes, ...]:
    """What a word that settles these names: what cut their authors off, or somebody, and some of them.

    Between these, by which grants those came in who speak for nobody.
    """
    authors = {one.header.author for one in unsettled}
    named = {key: name for name, key in sorted(roster.revocations.items()) if key in authors}
    others = sorted(roster.revocations)[:1] if unsettled else []
    last = sorted(unsettled, key=lambda one: (one.header.at, one.id), reverse=True)
    reports = tuple(dict.fromkeys((*named.values(), *others)))[: MAX_PARENTS // 4]
    silent = dict.fromkeys(one.header.grant for one in last if one.header.grant and one.id not in roster.held_back)
    return (*reports, *tuple(silent)[: MAX_PARENTS // 4], *(one.id for one in last[: MAX_PARENTS // 4]))


def _is_switch(entry: Entry) -> bool:
    return entry.header.kind == Kind.SIGN_IN and entry.header.subject is None


def _says_on(entry: Entry) -> bool:
    record = parsed(entry, SignInRecord.parse)
    return record is not None and record.on


def holders(roster: Roster, territory: bytes) -> list[bytes]:
    """The X25519 keys of the school's own devices: those let into the class or its school, and not let go since.

    One that stands for a teacher is among them once one of the teacher's own has confirmed it.
    """
    found = (
        authority.agreement
        for authority in roster.authorities
        if authority.role in HOLDS_SIGN_INS
        and authority.space != territory
        and authority.key not in roster.cut
        and authority.grant not in roster.unconfirmed
    )
    return list(dict.fromkeys(found))


def newest_key(sign_ins: SignIns, wanted: Sequence[bytes]) -> bytes | None:
    """The name of a key in use that nobody else than `wanted` was ever given: what is set next may lie under it.

    One that somebody says to have drawn who is not out (docs/adr/0609): of any other nobody knows who has it.
    """
    allowed = set(wanted)
    in_use = {sign_in.record.key for sign_in in sign_ins.persons.values() if sign_in.record.key is not None}
    good = [name for name in in_use & sign_ins.drawn if allowed.issuperset(sign_ins.given.of(name))]
    return min(good, default=None)


def _argon2(method: Method, secret: str, salt: bytes) -> bytes:
    kdf = Argon2id(salt=salt, length=_HASH_BYTES, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return kdf.derive(bytes([method]) + secret.encode(errors="surrogatepass"))
