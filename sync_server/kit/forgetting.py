"""What the kit has forgotten: names that were typed, by words that were signed.

Rules: docs/adr/0128, docs/adr/0324 (an order once), docs/adr/0325 (a name beside the id). `taking_back` ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import PERSON_BYTES, Entry, Kind
from protocol.model.structure import Erasure
from protocol.portable_names import displayable
from protocol.trust.kit import Kit
from sync_server.kit.errand import NOT_SHOWN, Errand, Once, uncalled_for, whole_id, whole_person
from sync_server.kit.orders import erased_by, is_next
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
        covers = erased_by(entry)
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
        if erased_by(entry) != self._space:
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


def _check_turn(entry: Entry, evidence: Mapping[bytes, Entry], kit: Kit) -> None:
    """That an erasure is no word of later than it is: in a later turn only once it is shown that it was taken back."""
    if not is_next(Erasure.parse(entry.payload or b""), evidence, kit):
        raise uncalled_for(entry)
