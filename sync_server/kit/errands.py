"""What a command may have the kit sign and open: what its own words need, and nothing else (docs/adr/0128).

The program that has the store open says what is to be signed, and is not believed: it may be a thief's. Each errand
looks at every entry before the root signs it, and at whose work is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

from protocol.errors import BadInput, Code, PeerFault
from protocol.folds.hand_in_keys import info_of_hand_in, wraps_for
from protocol.identity import SigningKey
from protocol.model.entry import Entry, Kind, signature_holds
from protocol.model.structure import Certificate, PersonKey, RecoveryKey, Revocation, Rewrap, Ruling
from protocol.model.work import Wraps
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import Params
from protocol.rights.root_rotation import RootAccount, RootRotation
from protocol.rights.roster import is_acceptable
from protocol.rights.vouching import Device, device_words
from protocol.trust.kit import Kit
from sync_server.kit.errand import (
    NOT_SHOWN,
    Errand,
    Once,
    check_kind,
    not_needed,
    uncalled_for,
    whole_id,
    whole_person,
)
from sync_server.kit.forgetting import Closing, Erasing
from sync_server.kit.questions import Sealed
from sync_server.kit.root_line import Left, are_lists_needed, left_by, roots_before, words_of
from sync_server.kit.shown import Shown, persons_shown
from sync_server.kit.taking_back import TakingBack
from sync_server.kit.to_name import to_name


class Judging(Errand):
    """`accept` and `refuse`: these entries, or the work of these devices, by whole ids as they were typed.

    Of a root before the kit's all that it signed is accepted, its rights and names too.
    """

    elsewhere = frozenset({Kind.RULING})

    def __init__(self, kit: Kit, named: Collection[str], *, accept: bool) -> None:
        """Raises `BadInput` for ids that were cut short: whoever writes an entry can choose how its id begins."""
        super().__init__(kit)
        self._named = frozenset(map(whole_id, named))
        self._accept = accept
        self._earlier_roots = roots_before(kit)

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A ruling on what was named, which is shown."""
        check_kind(entry, Kind.RULING)
        ruling = Ruling.parse(entry.payload or b"")
        said, unsaid = (ruling.accepted, ruling.refused) if self._accept else (ruling.refused, ruling.accepted)
        judged = [
            each for each in map(evidence.get, said) if each is not None and self._is_meant(each, entry.header.space)
        ]
        if unsaid or ruling.covers is not None or len(judged) != len(said):
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
    """`export-person`: one person's work is opened, by a name that was typed and signed, and nothing is signed."""

    def __init__(self, kit: Kit, person: str, named: str | None = None, *, nameless_too: bool = False) -> None:
        """Raises `BadInput` for an id that was cut short: whoever lists somebody chooses how theirs begins."""
        super().__init__(kit)
        self._person = whole_person(person)
        self._named = [] if named is None else [named]
        self._nameless_too = nameless_too
        self._shown: Shown | None = None

    def opens(self, person: bytes) -> bool:
        """That person's."""
        return person == self._person

    def content_keys(self, works: Sequence[Sealed], evidence: Iterable[Entry]) -> list[bytes]:
        """Their keys; first, with no work, who that is is shown, and told."""
        if (shown := persons_shown(evidence).get(self._person)) is not None:
            self._shown = shown
        self._check_named()
        if not works:
            self.looked_at.append(f"the kit opens what {self._person.hex()} has handed in: {self._called()}")
        return super().content_keys(works, ())

    def _check_named(self) -> None:
        if self._nameless_too if self._shown is None else self._shown.is_meant(self._named):
            return
        raise BadInput(
            Code.NOT_YET,
            f"nothing has been opened yet. With the kit whose work it opens is named besides, as somebody has signed "
            f"it: {self._person.hex()} is {self._called()}. Who is meant is said with --named"
            + (", or, if they are on no list any more, with --nameless-too" if self._shown is None else ""),
        )

    def _called(self) -> str:
        return "somebody of whom nothing here shows a name" if self._shown is None else self._shown.told


class Rewrapping(Errand):
    """`rewrap`: a teacher's device with these words is sealed to, in the classes that were typed; who asks sees no key.

    A work's key is signed for under that work, once, and the work is shown: of another's nothing is opened, and it
    counts as given (docs/adr/0335).
    """

    elsewhere = frozenset({Kind.WRAP})

    def __init__(
        self, kit: Kit, person: str, words: str | None, spaces: Collection[str], entropy: Callable[[int], bytes]
    ) -> None:
        """Raises `BadInput` for an id that was cut short, and for a school's code."""
        super().__init__(kit)
        self._person = whole_person(person)
        self._spaces = frozenset(map(whole_id, spaces))
        self._words = words
        self._entropy = entropy
        self._once = Once()
        self._made: dict[tuple[bytes, bytes], bytes] = {}
        """What was sealed here, and what that is bound to."""

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """That the kit was used for this person, and what was sealed here of a work, under that work."""
        if entry.header.kind == Kind.REWRAP:
            said = Rewrap.parse(entry.payload or b"")
            is_fine = said.person == self._person and self._is_typed(said.space)
        else:
            check_kind(entry, Kind.WRAP)
            is_fine = self._is_of_its_work(entry, evidence)
        if not is_fine:
            raise uncalled_for(entry)

    def _is_typed(self, space: bytes) -> bool:
        """Whether work of a class is opened: where none was typed, of none."""
        return space in self._spaces

    def _is_of_its_work(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> bool:
        target = entry.header.target or b""
        if (work := evidence.get(target)) is None:
            raise PeerFault(
                Code.NO_RIGHT, f"the program that has the store open does not show what a key is to open{NOT_SHOWN}"
            )
        match Wraps.parse(entry.payload or b"").wraps:
            case [(reader, _) as wrap] if wrap in self._made:
                is_about = (entry.header.space, entry.header.subject) == (work.header.space, work.header.subject)
                is_bound = self._made[wrap] == info_of_hand_in(work)
                return is_about and is_bound and self._once.is_first(entry, target + reader)
            case _:
                return False

    def rewrapped(self, device: Device, reading_key: Entry, works: Sequence[Sealed]) -> list[bytes]:
        """As above, if the words are this device's, and the reading key its own word."""
        check_kind(reading_key, Kind.PERSON_KEY)
        is_its_own = reading_key.header.author == device[0] and signature_holds(reading_key)
        if not (is_shown(self._words, device) and is_its_own):
            raise uncalled_for(reading_key)
        if not all(self._is_typed(work.space) for work in works):
            raise PeerFault(
                Code.NO_RIGHT,
                "the program that has the store open asks for work of a class that nobody has named here with "
                f"--space{NOT_SHOWN}",
            )
        reader = PersonKey.parse(reading_key.payload or b"").agreement
        found = []
        for work in works:
            key = self._opened(work)
            wraps = wraps_for([reader], key, work.info, self._entropy).wraps if key else ()
            self._made |= dict.fromkeys(wraps, work.info)
            found.append(wraps[0][1] if wraps else b"")
        return found


class RotatingServer(Errand):
    """`rotate server`: one new certificate, and servers that are cut off."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._once = Once()
        self._roots = {kit.root.public, *roots_before(kit)}

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A certificate, a list of heads, or a revocation of a key that a root of the territory has certified."""
        match entry.header.kind:
            case Kind.ROOT_ACCOUNT:
                is_fine = _lists_no_root(entry, evidence)
            case Kind.CERTIFICATE:
                Certificate.parse(entry.payload or b"")
                is_fine = self._once.is_first(entry)
            case _:
                check_kind(entry, Kind.REVOKE)
                key = Revocation.parse(entry.payload or b"").key
                is_fine = key in servers_in(evidence.values(), self._roots) and self._once.is_first(entry, key)
        if not is_fine:
            raise uncalled_for(entry)


class CuttingOff(Errand):
    """`revoke`: this device, by its whole id as it was typed."""

    elsewhere = frozenset({Kind.REVOKE})

    def __init__(self, kit: Kit, device: str) -> None:
        """Raises `BadInput` for an id that was cut short: keys can be made until they begin as another does."""
        super().__init__(kit)
        self._device = whole_id(device)
        self._once = Once()

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A list of heads, or a revocation of the device, one in each space."""
        if entry.header.kind == Kind.ROOT_ACCOUNT:
            is_fine = _lists_no_root(entry, evidence)
        else:
            check_kind(entry, Kind.REVOKE)
            key = Revocation.parse(entry.payload or b"").key
            is_fine = key == self._device and self._once.is_first(entry, key)
        if not is_fine:
            raise uncalled_for(entry)


class RotatingRoot(Errand):
    """`rotate root`: the old root names the new one, which agrees, certifies a server and names its recovery key.

    What the old root has signed and the rotation does not lead to counts no more: so what that leads to is looked at,
    and told (docs/adr/0308). The new root agrees once, and to nothing that it is not shown: the old root's signature
    under that is anybody's who has its kit. Once the new kit is whole it has nothing left to agree to (docs/adr/0326).
    What the old kit remembers is not left out unasked, whatever is shown (docs/adr/0336), and is named by itself as far
    as there is room: who has the server keeps back what he likes of what leads to it (docs/adr/0343).
    """

    def __init__(self, kit: Kit, new: Kit, *, anyway: bool = False, remembered: Iterable[Entry] = ()) -> None:
        super().__init__(kit, new)
        self._remembered = words_of(kit.root.public, remembered)
        self.to_name = to_name(self._remembered.values())
        self._new = new
        self._anyway = anyway
        self._once = Once()
        self._accounts: dict[bytes, Entry] = {}
        self._agreed: bytes | None = None
        self._kept: set[bytes] = set()
        """The servers whose certificates stay."""

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """Accounts of what the old root has signed, and that the new one follows, as that has agreed."""
        self._check_not_whole()
        if entry.header.kind == Kind.ROOT_ACCOUNT:
            if not _lists_only(entry, words_of(self.kit.root.public, evidence.values())):
                raise uncalled_for(entry)
            self._accounts[entry.id] = entry
            return
        check_kind(entry, Kind.ROOT_ROTATION)
        if entry.payload != self._agreed or not self._once.is_first(entry):
            raise uncalled_for(entry)

    def agreed(self, version: int, heads: Sequence[bytes], evidence: Iterable[Entry]) -> bytes:
        """As above, once what it leaves was looked at; the same again, and no other. Nothing once the kit is whole."""
        self._check_not_whole()
        new, old = self._new.root, self.kit.root.public
        payload = RootRotation.agreed(new, self.kit.territory, old, version, tuple(heads)).encode()
        if self._agreed not in (None, payload):
            raise not_needed(Kind.ROOT_ROTATION)
        found = self._looked_at(heads, {**self._remembered, **words_of(old, evidence)})
        if self._agreed is None:
            self.looked_at.append(found.told())
        self._agreed = payload
        return payload

    def _check_not_whole(self) -> None:
        if self._new.chain:
            raise BadInput(
                Code.BAD_KIT,
                "the new kit is whole: its root has taken over, and agrees to nothing more. If this server was "
                "restored or made anew since then, with the old kit: do so again, with the new one",
            )

    def _looked_at(self, heads: Sequence[bytes], shown: Mapping[bytes, Entry]) -> Left:
        if not are_lists_needed(heads, self._accounts):
            raise PeerFault(
                Code.NO_RIGHT,
                "the program that has the store open has lists of what the kit has signed named by which it all counts "
                f"no more once they are kept back{NOT_SHOWN}",
            )
        found = left_by(heads, self._accounts, shown, self.kit.territory)
        self._kept = set() if found is None else servers_in(found.named, {self.kit.root.public})
        if found is None or not self._kept:
            raise PeerFault(
                Code.NO_RIGHT,
                "the program that has the store open does not show what the kit has signed so far, all of which would "
                f"count no more{NOT_SHOWN}",
            )
        if found.lacking and not self._anyway:
            raise BadInput(
                Code.NOT_YET,
                f"this server lacks {found.lacking} of the words that the kit has signed so far, which would count no "
                "more (an erasure, or that stolen keys are cut off), and nothing was signed: call this again once all "
                "machines have called; if that cannot be, with --anyway",
            )
        self._check_remembered(found)
        return found

    def _check_remembered(self, found: Left) -> None:
        gone = found.told_of_gone(self._remembered, self.to_name)
        if gone is None:
            return
        if not self._anyway:
            raise BadInput(
                Code.NOT_YET,
                f"this server leaves out what the kit remembers that it has signed ({gone}), which would count no "
                "more, and nothing was signed. If it was restored or made anew, with another copy of the kit: call "
                "this again once all machines have called. Else it is not what it was: make the server anew on "
                "another machine, with this kit, which knows that from the start. If it is to go, with --anyway",
            )
        self.looked_at.append(f"of what the kit remembers that it has signed this counts no more: {gone}")

    def check_new(self, entry: Entry) -> None:
        """One server's certificate, of one that the old root has certified and that stays, and the new recovery key."""
        if entry.header.kind == Kind.CERTIFICATE:
            is_fine = Certificate.parse(entry.payload or b"").signing in self._kept
        else:
            check_kind(entry, Kind.RECOVERY_KEY)
            is_fine = RecoveryKey.parse(entry.payload or b"").agreement == self._new.recovery.public
        if not (is_fine and self._once.is_first(entry)):
            raise uncalled_for(entry)


def errand_of(
    command: str,
    kit: Kit,
    params: Params,
    new: Kit | None,
    entropy: Callable[[int], bytes],
    remembered: Iterable[Entry] = (),
) -> Errand:
    """What a command needs of a kit, by the parameters that were typed, and what that kit remembers of its words.

    Raises `BadInput`.
    """
    match command:
        case "erase":
            named, nameless_too = given.texts(params, "named"), params.get("nameless_too") is True
            return Erasing(kit, given.texts(params, "person"), named, nameless_too=nameless_too)
        case "unerase":
            return TakingBack(
                kit,
                given.text(params, "covers"),
                given.text_or_none(params, "named"),
                given.texts(params, "dated"),
                remembered,
                counting_too=given.flag(params, "counting_too"),
                unseen_too=given.flag(params, "unseen_too"),
            )
        case "space close":
            return Closing(kit, given.text(params, "space"), given.text_or_none(params, "named"))
        case "accept" | "refuse":
            return Judging(kit, given.texts(params, "named"), accept=command == "accept")
        case "export-person":
            person, called = given.text(params, "person"), given.text_or_none(params, "named")
            return Exporting(kit, person, called, nameless_too=given.flag(params, "nameless_too"))
        case "revoke":
            return CuttingOff(kit, given.text(params, "device"))
        case "rewrap":
            words, spaces = given.text_or_none(params, "words"), given.texts(params, "space")
            return Rewrapping(kit, given.text(params, "person"), words, spaces, entropy)
        case "rotate server":
            return RotatingServer(kit)
        case "rotate root" if new is not None:
            return RotatingRoot(kit, new, anyway=params.get("anyway") is True, remembered=remembered)
        case _:
            return Errand(kit, new)


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


def servers_in(evidence: Iterable[Entry], roots: Container[bytes]) -> set[bytes]:
    """The keys that these roots have made a server's, as far as that is shown."""
    return {
        Certificate.parse(each.payload).signing
        for each in evidence
        if each.header.kind == Kind.CERTIFICATE and each.payload is not None
        if each.header.author in roots and signature_holds(each)
    }


def _lists_no_root(account: Entry, evidence: Mapping[bytes, Entry]) -> bool:
    """Whether a list holds words that are shown, and none of a root's: a list of these is for a rotation to name."""
    return _lists_only(account, {each.id: each for each in evidence.values() if each.header.grant is not None})


def _lists_only(account: Entry, names: Container[bytes]) -> bool:
    return all(name in names for name in RootAccount.parse(account.payload or b"").ids)
