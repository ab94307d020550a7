"""What the kit has forgotten, and takes back: names that were typed, by words that were signed.

Rules: docs/adr/0128, docs/adr/0324 (an order once, and back by name), docs/adr/0325 (a name beside the id).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind, signature_holds
from protocol.model.structure import Erasure, Ruling
from protocol.portable_names import displayable
from protocol.rights.erasures import order_in
from protocol.trust.kit import Kit
from sync_server.kit.errand import NOT_SHOWN, Errand, Once, check_kind, uncalled_for, whole, whole_id, whole_person
from sync_server.kit.root_line import roots_before
from sync_server.kit.shown import Shown, class_shown, persons_shown


class Erasing(Errand):
    """`erase`: these people, by whole ids as they were typed, and by names that were signed."""

    def __init__(
        self, kit: Kit, persons: Collection[str], named: Collection[str] = (), *, nameless_too: bool = False
    ) -> None:
        """Raises `BadInput` for ids that were cut short."""
        super().__init__(kit)
        self._persons = frozenset(map(whole_person, persons))
        self._named = named
        self._nameless_too = nameless_too
        self._once = Once()

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """An erasure of one of them. Who was added twice has to be named twice.

        Whoever lists somebody chooses their id: it may begin as a class's does, which nobody is asked to type.
        """
        covers = _erased(entry)
        if len(covers) != PERSON_BYTES:
            raise uncalled_for(entry)
        if covers not in self._persons:
            raise BadInput(
                Code.USAGE,
                f"{covers.hex()} is said to be the same person, and nobody has been forgotten yet: with the kit each "
                f"is named by whoever asks, with one more --person {covers.hex()}",
            )
        _check_turn(entry, evidence, self.kit)
        shown = persons_shown(evidence.values())
        self._check_named(covers, shown)
        if not self._once.is_first(entry, covers):
            raise uncalled_for(entry)
        told = shown[covers].told if covers in shown else "of whom nothing here shows a name"
        self.looked_at.append(f"the kit has {covers.hex()} forgotten: {told}")

    def _check_named(self, covers: bytes, shown: Mapping[bytes, Shown]) -> None:
        unsaid = [
            f"{person.hex()} is {shown[person].told}"
            for person in sorted(self._persons & shown.keys())
            if not shown[person].is_meant(self._named)
        ]
        if unsaid:
            raise BadInput(
                Code.NOT_YET,
                f"nobody has been forgotten yet. With the kit each is named besides, as somebody has signed it: "
                f"{'; '.join(unsaid)}. Who is meant is said with --named, a name for each",
            )
        if covers not in shown and not self._nameless_too:
            raise BadInput(
                Code.NOT_YET,
                f"nobody has been forgotten yet: nothing here shows a name of {covers.hex()}. If they were forgotten "
                "here already, or never were on a list, and are meant, say --nameless-too",
            )


class Closing(Errand):
    """`space close`: this class, by its whole id as it was typed, and by name, year and school as it was made."""

    elsewhere = frozenset({Kind.ERASE})

    def __init__(self, kit: Kit, space: str, named: str | None = None) -> None:
        """Raises `BadInput` for an id that was cut short."""
        super().__init__(kit)
        self._space = whole_id(space)
        self._named = [] if named is None else [named]
        self._once = Once()

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """An erasure of the class, in its school; the entry that made it is shown, and nobody can show another one."""
        if _erased(entry) != self._space:
            raise uncalled_for(entry)
        made = evidence.get(self._space)
        shown = None if made is None else class_shown(made, self.kit.territory, evidence.values())
        if made is None or shown is None:
            raise PeerFault(Code.NO_RIGHT, f"the program that has the store open does not show that class{NOT_SHOWN}")
        if not shown.is_meant(self._named):
            raise BadInput(
                Code.NOT_YET,
                f"nothing has been closed yet. With the kit a class is named besides, as it was when it was made: the "
                f"one with this id is {shown.told}. If it is meant, say --named “{displayable(shown.names[0])}”",
            )
        _check_turn(entry, evidence, self.kit)
        if entry.header.space != made.header.space or not self._once.is_first(entry, self._space):
            raise uncalled_for(entry)
        self.looked_at.append(f"the kit has this class forgotten: {shown.told}")


class TakingBack(Errand):
    """`unerase`: the erasures that cover this name, by its whole id as it was typed; the kit's own if that was said.

    Then by name what it has signed, shown or not: as far as something of that is shown, or it was asked for so.
    """

    elsewhere = frozenset({Kind.RULING})

    def __init__(self, kit: Kit, covers: str, *, counting_too: bool, unseen_too: bool = False) -> None:
        """Raises `BadInput` for an id that was cut short: a person's may begin as that of a class does."""
        super().__init__(kit)
        self._covers = whole(covers, PERSON_BYTES, ID_BYTES)
        self._counting_too = counting_too
        self._unseen_too = unseen_too
        self._once = Once()

    def check(self, entry: Entry, evidence: Mapping[bytes, Entry]) -> None:
        """A ruling that refuses erasures of it, which are shown; or by its name what this root has signed."""
        check_kind(entry, Kind.RULING)
        ruling = Ruling.parse(entry.payload or b"")
        if ruling.covers is not None:
            self._check_by_name(entry, ruling, evidence)
            return
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

    def _check_by_name(self, entry: Entry, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> None:
        is_plain = ruling.covers == self._covers and not (ruling.accepted or ruling.refused)
        is_fine = self._is_shown(ruling, evidence) or self._may_be_unseen(ruling, evidence)
        if not (is_plain and is_fine and entry.header.space == self.kit.territory):
            raise uncalled_for(entry)
        if not self._once.is_first(entry, self._covers):
            raise uncalled_for(entry)
        self.looked_at.append(
            f"what the kit has signed to have {self._covers.hex()} forgotten counts no more, seen here or not, up to "
            f"its order no. {ruling.turn + 1}"
        )

    def _is_shown(self, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> bool:
        """Whether the kit has ordered what is taken back: one of what it did not would end what it orders later."""
        is_ordered = (Kind.ERASE, ruling.covers, ruling.turn) in _turns_in(evidence, {self.kit.root.public})
        is_of_before = ruling.turn == 0 and (Kind.ERASE, ruling.covers) in {
            (kind, covers) for kind, covers, _ in _turns_in(evidence, roots_before(self.kit))
        }
        return self._counting_too and (is_ordered or is_of_before)

    def _may_be_unseen(self, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> bool:
        return self._unseen_too and _is_next(ruling, evidence, self.kit)

    def _check_own(self, refused: Collection[Entry]) -> None:
        if not self._counting_too and any(each.header.grant is None for each in refused):
            raise BadInput(
                Code.NOT_YET,
                "the kit itself has said so, and nothing was taken back of that: if it is to go, say --counting-too",
            )

    def _is_meant(self, erasure: Entry, ruling: Entry) -> bool:
        return erasure.header.space == ruling.header.space and _erased(erasure) == self._covers


def _check_turn(entry: Entry, evidence: Mapping[bytes, Entry], kit: Kit) -> None:
    """That an erasure is no word of later than it is: in a later turn only once it is shown that it was taken back."""
    if not _is_next(Erasure.parse(entry.payload or b""), evidence, kit):
        raise uncalled_for(entry)


def _is_next(said: Erasure | Ruling, evidence: Mapping[bytes, Entry], kit: Kit) -> bool:
    """Whether this is of the first turn, or the kit's taking back of the one before is shown."""
    return said.turn == 0 or (Kind.RULING, said.covers, said.turn - 1) in _turns_in(evidence, {kit.root.public})


def _turns_in(evidence: Mapping[bytes, Entry], roots: Container[bytes]) -> set[tuple[int, bytes | None, int]]:
    """What some roots have had forgotten, and taken back by name: the kind, the name, the turn."""
    by_root = (
        (one, order_in(one))
        for one in evidence.values()
        if one.header.grant is None and one.header.author in roots and signature_holds(one)
    )
    return {(one.header.kind, said.covers, said.turn) for one, said in by_root if said is not None}


def _erased(entry: Entry) -> bytes:
    check_kind(entry, Kind.ERASE)
    return Erasure.parse(entry.payload or b"").covers


def _whose(entry: Entry) -> str:
    return "the kit" if entry.header.grant is None else f"the key {entry.header.author.hex()}"
