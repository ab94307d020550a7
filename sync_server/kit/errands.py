"""What a command may have the kit sign and open: what its own words need, and nothing else (docs/adr/0128).

The program that has the store open says what is to be signed, and is not believed: it may be a thief's. Each errand
looks at every entry before the root signs it, and at whose work is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import ClassVar

from protocol.errors import BadInput, Code, PeerFault
from protocol.folds.hand_in_keys import wraps_for
from protocol.identity import SigningKey
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind, signature_holds
from protocol.model.structure import Certificate, Erasure, PersonKey, RecoveryKey, Revocation, Rewrap, Ruling
from protocol.model.work import Wraps
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import Params
from protocol.rights.root_rotation import RootRotation
from protocol.rights.roster import is_acceptable
from protocol.rights.vouching import Device, device_words
from protocol.trust.kit import Kit
from protocol.trust.sealing import unwrap_key
from sync_server.kit.questions import Sealed
from sync_server.kit.root_line import left_by, roots_in


class Errand:
    """One command's need of a kit. This one needs nothing; what is not needed is refused."""

    elsewhere: ClassVar[frozenset[Kind]] = frozenset()
    """The kinds that it has said in other spaces than the territory's: where that is, the command need not know."""

    def __init__(self, kit: Kit, new: Kit | None = None) -> None:
        self.kit = kit
        self.new = new
        self.looked_at: list[str] = []
        """What the root says, as the command has seen it itself: told once it is signed."""

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """Raise what keeps the root of the kit from signing this entry."""
        del evidence
        raise uncalled_for(entry)

    def check_new(self, entry: Entry) -> None:
        """Raise what keeps the new root from signing this entry."""
        raise uncalled_for(entry)

    def opens(self, person: bytes) -> bool:
        """Whether somebody's work may be opened."""
        del person
        return False

    def content_key(self, work: Sealed) -> bytes:
        """The content key of a work, empty where nothing opens it. Raises `PeerFault` if that is no part of this."""
        return self._opened(work) if self.opens(work.person) else b""

    def rewrapped(self, device: Device, reading_key: Entry, works: Sequence[Sealed]) -> list[bytes]:
        """The content key of each, sealed to a device's reading key; empty where nothing opens it."""
        del device, works
        raise uncalled_for(reading_key)

    def _opened(self, work: Sealed) -> bytes:
        for key, wrap in product(self.kit.opening, work.wraps):
            with suppress(PeerFault):
                return unwrap_key(wrap, key, work.info)
        return b""


class Erasing(Errand):
    """`erase`: these people, by whole ids as they were typed."""

    def __init__(self, kit: Kit, persons: Collection[str]) -> None:
        """Raises `BadInput` for ids that were cut short."""
        super().__init__(kit)
        self._persons = frozenset(map(_whole_person, persons))

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """An erasure of one of them. Who was added twice has to be named twice.

        Whoever lists somebody chooses their id: it may begin as a class's does, which nobody is asked to type.
        """
        del evidence
        covers = _erased(entry)
        if len(covers) != PERSON_BYTES:
            raise uncalled_for(entry)
        if covers not in self._persons:
            raise BadInput(
                Code.USAGE,
                f"{covers.hex()} is said to be the same person, and nobody has been forgotten yet: with the kit each "
                f"is named by whoever asks, with one more --person {covers.hex()}",
            )


class Closing(Errand):
    """`space close`: this class, by its whole id as it was typed."""

    elsewhere = frozenset({Kind.ERASE})

    def __init__(self, kit: Kit, space: str) -> None:
        """Raises `BadInput` for an id that was cut short."""
        super().__init__(kit)
        self._space = _whole_id(space)

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """An erasure of the class."""
        del evidence
        if _erased(entry) != self._space:
            raise uncalled_for(entry)


class TakingBack(Errand):
    """`unerase`: the erasures that cover this name, by its whole id as it was typed; the kit's own if that was said."""

    elsewhere = frozenset({Kind.RULING})

    def __init__(self, kit: Kit, covers: str, *, counting_too: bool) -> None:
        """Raises `BadInput` for an id that was cut short: a person's may begin as that of a class does."""
        super().__init__(kit)
        self._covers = _whole(covers, PERSON_BYTES, ID_BYTES)
        self._counting_too = counting_too

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A ruling that refuses erasures of it, which are shown."""
        _check_kind(entry, Kind.RULING)
        ruling = Ruling.parse(entry.payload or b"")
        refused = [
            each for each in map(evidence.get, ruling.refused) if each is not None and self._is_meant(each, entry)
        ]
        if ruling.accepted or len(refused) != len(ruling.refused):
            raise uncalled_for(entry)
        self._check_own(refused)
        self.looked_at += [
            f"by the kit's word counts no more, written by {_whose(each)}: the erasure {each.id.hex()}"
            for each in refused
        ]

    def _check_own(self, refused: Collection[Entry]) -> None:
        if not self._counting_too and any(each.header.grant is None for each in refused):
            raise BadInput(
                Code.NOT_YET,
                "the kit itself has said so, and nothing was taken back of that: if it is to go, say --counting-too",
            )

    def _is_meant(self, erasure: Entry, ruling: Entry) -> bool:
        return erasure.header.space == ruling.header.space and _erased(erasure) == self._covers


class Judging(Errand):
    """`accept` and `refuse`: these entries, or the work of these devices, by whole ids as they were typed.

    Of a root before the kit's all that it signed is accepted, its rights and names too.
    """

    elsewhere = frozenset({Kind.RULING})

    def __init__(self, kit: Kit, named: Collection[str], *, accept: bool) -> None:
        """Raises `BadInput` for ids that were cut short: whoever writes an entry can choose how its id begins."""
        super().__init__(kit)
        self._named = frozenset(map(_whole_id, named))
        self._accept = accept
        self._earlier_roots = roots_before(kit)

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A ruling on what was named, which is shown."""
        _check_kind(entry, Kind.RULING)
        ruling = Ruling.parse(entry.payload or b"")
        said, unsaid = (ruling.accepted, ruling.refused) if self._accept else (ruling.refused, ruling.accepted)
        judged = [
            each for each in map(evidence.get, said) if each is not None and self._is_meant(each, entry.header.space)
        ]
        if unsaid or len(judged) != len(said):
            raise uncalled_for(entry)
        counted = Counter((each.header.author, Kind(each.header.kind).name.lower()) for each in judged)
        word = "counts" if self._accept else "is refused"
        self.looked_at += [
            f"by the kit's word {word}, written by the device {author.hex()}: {count} × {kind.replace('_', '-')}"
            for (author, kind), count in counted.items()
        ]

    def _is_meant(self, judged: Entry, space: bytes) -> bool:
        header = judged.header
        is_an_earlier_roots = self._accept and header.grant is None and header.author in self._earlier_roots
        if header.space != space or not (is_an_earlier_roots or may_be_judged_by_kit(judged, accept=self._accept)):
            return False
        if judged.id in self._named or (header.kind == Kind.WRAP and header.target in self._named):
            return True
        return header.author in self._named and signature_holds(judged)


class Exporting(Errand):
    """`export-person`: one person's work is opened, and nothing is signed."""

    def __init__(self, kit: Kit, person: str) -> None:
        """Raises `BadInput` for an id that was cut short: whoever lists somebody chooses how theirs begins."""
        super().__init__(kit)
        self._person = _whole_person(person)

    def opens(self, person: bytes) -> bool:
        """That person's."""
        return person == self._person


class Rewrapping(Errand):
    """`rewrap`: a teacher's device with these words is sealed to; who asks sees no key."""

    elsewhere = frozenset({Kind.WRAP})

    def __init__(
        self, kit: Kit, person: str, words: str | None, spaces: Collection[str], entropy: Callable[[int], bytes]
    ) -> None:
        """Raises `BadInput` for a person's id that was cut short.

        Classes that are named by their whole ids are the only ones whose work is opened; a name, or a school's code,
        means what the program that has the store open says.
        """
        super().__init__(kit)
        self._person = _whole_person(person)
        typed = [_octets(text) or b"" for text in spaces]
        self._spaces = frozenset(typed)
        self._is_all_said = bool(spaces) and all(len(each) == ID_BYTES for each in typed)
        self._words = words
        self._entropy = entropy
        self._made: set[tuple[bytes, bytes]] = set()

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """That the kit was used for this person, and wraps that were made here."""
        del evidence
        if entry.header.kind == Kind.REWRAP:
            said = Rewrap.parse(entry.payload or b"")
            is_fine = said.person == self._person
        else:
            _check_kind(entry, Kind.WRAP)
            is_fine = self._made.issuperset(Wraps.parse(entry.payload or b"").wraps)
        if not is_fine:
            raise uncalled_for(entry)

    def rewrapped(self, device: Device, reading_key: Entry, works: Sequence[Sealed]) -> list[bytes]:
        """As above, if the words are this device's, and the reading key its own word."""
        _check_kind(reading_key, Kind.PERSON_KEY)
        is_its_own = reading_key.header.author == device[0] and signature_holds(reading_key)
        is_typed = not self._is_all_said or all(work.space in self._spaces for work in works)
        if not (is_shown(self._words, device) and is_its_own and is_typed):
            raise uncalled_for(reading_key)
        reader = PersonKey.parse(reading_key.payload or b"").agreement
        found = []
        for work in works:
            key = self._opened(work)
            wraps = wraps_for([reader], key, work.info, self._entropy).wraps if key else ()
            self._made.update(wraps)
            found.append(wraps[0][1] if wraps else b"")
        return found


class _Once:
    """What a command says once; a second entry of the kind is not what it was typed for."""

    def __init__(self) -> None:
        self._said: dict[int, bytes] = {}

    def is_first(self, entry: Entry) -> bool:
        """Whether this is the first of its kind, or that one again."""
        return self._said.setdefault(entry.header.kind, entry.id) == entry.id


class RotatingServer(Errand):
    """`rotate server`: one new certificate, and servers that are cut off."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._once = _Once()
        self._roots = {kit.root.public, *roots_before(kit)}

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A certificate, a list of heads, or a revocation of a key that a root of the territory has certified."""
        match entry.header.kind:
            case Kind.ROOT_ACCOUNT:
                return
            case Kind.CERTIFICATE:
                Certificate.parse(entry.payload or b"")
                is_fine = self._once.is_first(entry)
            case _:
                _check_kind(entry, Kind.REVOKE)
                is_fine = Revocation.parse(entry.payload or b"").key in servers_in(evidence.values(), self._roots)
        if not is_fine:
            raise uncalled_for(entry)


class CuttingOff(Errand):
    """`revoke`: this device, by its whole id as it was typed."""

    elsewhere = frozenset({Kind.REVOKE})

    def __init__(self, kit: Kit, device: str) -> None:
        """Raises `BadInput` for an id that was cut short: keys can be made until they begin as another does."""
        super().__init__(kit)
        self._device = _whole_id(device)

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A list of heads, or a revocation of the device."""
        del evidence
        if entry.header.kind == Kind.ROOT_ACCOUNT:
            return
        _check_kind(entry, Kind.REVOKE)
        if Revocation.parse(entry.payload or b"").key != self._device:
            raise uncalled_for(entry)


class RotatingRoot(Errand):
    """`rotate root`: the old root names the new one, which agrees, certifies a server and names its recovery key.

    What the old root has signed and the rotation does not lead to counts no more: so what that leads to is looked at,
    and told (docs/adr/0308).
    """

    def __init__(self, kit: Kit, new: Kit, *, anyway: bool = False) -> None:
        super().__init__(kit, new)
        self._new = new
        self._anyway = anyway
        self._once = _Once()
        self._accounts: dict[bytes, Entry] = {}
        self._kept: set[bytes] = set()
        """The servers whose certificates stay."""

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """Accounts of what the old root has signed, and that the new one follows."""
        if entry.header.kind == Kind.ROOT_ACCOUNT:
            self._accounts[entry.id] = entry
            return
        _check_kind(entry, Kind.ROOT_ROTATION)
        rotation = RootRotation.parse(entry.payload or b"")
        if not (rotation.root == self._new.root.public and self._once.is_first(entry)):
            raise uncalled_for(entry)
        found = left_by(entry, rotation, self._accounts, evidence.values())
        self._kept = servers_in(found.stays, {self.kit.root.public})
        if not (self._kept and entry.header.prev):
            raise PeerFault(
                Code.NO_RIGHT,
                "the program that has the store open does not show what the kit has signed so far, all of which would "
                "count no more, and nothing was signed: if it was started before an update, start it again; else it is "
                "not what it was: make the server anew on another machine",
            )
        if found.lacking and not self._anyway:
            raise BadInput(
                Code.NOT_YET,
                f"this server lacks {found.lacking} of the words that the kit has signed so far, which would count no "
                "more (an erasure, or that stolen keys are cut off), and nothing was signed: call this again once all "
                "machines have called; if that cannot be, with --anyway",
            )
        self.looked_at.append(found.told())

    def check_new(self, entry: Entry) -> None:
        """One server's certificate, of one that the old root has certified and that stays, and the new recovery key."""
        if entry.header.kind == Kind.CERTIFICATE:
            is_fine = Certificate.parse(entry.payload or b"").signing in self._kept
        else:
            _check_kind(entry, Kind.RECOVERY_KEY)
            is_fine = RecoveryKey.parse(entry.payload or b"").agreement == self._new.recovery.public
        if not (is_fine and self._once.is_first(entry)):
            raise uncalled_for(entry)


def errand_of(command: str, kit: Kit, params: Params, new: Kit | None, entropy: Callable[[int], bytes]) -> Errand:
    """What a command needs of a kit, by the parameters that were typed. Raises `BadInput`."""
    match command:
        case "erase":
            return Erasing(kit, given.texts(params, "person"))
        case "unerase":
            return TakingBack(kit, given.text(params, "covers"), counting_too=params.get("counting_too") is True)
        case "space close":
            return Closing(kit, given.text(params, "space"))
        case "accept" | "refuse":
            return Judging(kit, given.texts(params, "named"), accept=command == "accept")
        case "export-person":
            return Exporting(kit, given.text(params, "person"))
        case "revoke":
            return CuttingOff(kit, given.text(params, "device"))
        case "rewrap":
            words, spaces = given.text_or_none(params, "words"), given.texts(params, "space")
            return Rewrapping(kit, given.text(params, "person"), words, spaces, entropy)
        case "rotate server":
            return RotatingServer(kit)
        case "rotate root" if new is not None:
            return RotatingRoot(kit, new, anyway=params.get("anyway") is True)
        case _:
            return Errand(kit, new)


def agreement_of(errand: Errand, version: int, heads: tuple[bytes, ...]) -> bytes:
    """The payload in which the new root agrees to follow that of the kit. Raises `PeerFault` where none does."""
    if errand.new is None:
        raise PeerFault(Code.NO_RIGHT, "no root takes over by this command")
    kit, new = errand.kit, errand.new.root
    return RootRotation.agreed(new, kit.territory, kit.root.public, version, heads).encode()


def signer_of(errand: Errand, *, new: bool) -> SigningKey:
    """The root's key, of the kit or of the new one. Raises `PeerFault` where there is no new one."""
    kit = errand.new if new else errand.kit
    if kit is None:
        raise PeerFault(Code.NO_RIGHT, "no root takes over by this command")
    return kit.root


def is_shown(words: str | None, device: Device) -> bool:
    """Whether these are the words that a device shows, as somebody types them."""
    return (words or "").casefold().split() == device_words(device).split()


def may_be_judged_by_kit(entry: Entry, *, accept: bool) -> bool:
    """Whether the root accepts, or refuses, an entry like this: work; an erasure is refused by `unerase`."""
    return is_acceptable(entry.header.kind) if accept else entry.header.kind != Kind.ERASE


def _whole_id(text: str) -> bytes:
    return _whole(text, ID_BYTES)


def _whole_person(text: str) -> bytes:
    return _whole(text, PERSON_BYTES)


def _whole(text: str, *sizes: int) -> bytes:
    found = _octets(text)
    if found is not None and len(found) in sizes:
        return found
    digits = " or ".join(str(2 * size) for size in sizes)
    raise BadInput(
        Code.USAGE,
        f"“{given.shown(text)}” is no whole id: with the kit everything is named by all of its {digits} digits, as "
        "`--json` shows them",
    )


def _octets(text: str) -> bytes | None:
    with suppress(ValueError):
        return bytes.fromhex(text)
    return None


def _erased(entry: Entry) -> bytes:
    _check_kind(entry, Kind.ERASE)
    return Erasure.parse(entry.payload or b"").covers


def _whose(entry: Entry) -> str:
    return "the kit" if entry.header.grant is None else f"the key {entry.header.author.hex()}"


def servers_in(evidence: Iterable[Entry], roots: Container[bytes]) -> set[bytes]:
    """The keys that these roots have made a server's, as far as that is shown."""
    return {
        Certificate.parse(each.payload or b"").signing
        for each in evidence
        if each.header.kind == Kind.CERTIFICATE and each.header.author in roots and signature_holds(each)
    }


def roots_before(kit: Kit) -> set[bytes]:
    """The territory's roots before that of a kit, which holds the rotations that prove them."""
    return set() if kit.first_root is None else {*roots_in(kit.chain, kit.first_root)} - {kit.root.public}


def _check_kind(entry: Entry, kind: Kind) -> None:
    if entry.header.kind != kind or entry.payload is None:
        raise uncalled_for(entry)


def uncalled_for(entry: Entry) -> PeerFault:
    """What to raise for an entry that a command does not need."""
    return PeerFault(
        Code.NO_RIGHT,
        "the program that has the store open asks the kit for something that this command does not need: it is not "
        "what it was, and nothing more was signed; make the server anew on another machine (docs/operate.md, "
        "“What to do when …”)",
        kind=entry.header.kind,
    )
