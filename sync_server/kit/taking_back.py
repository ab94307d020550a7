"""What the kit takes back of what was forgotten: a name that was typed, and besides what that is, as it was signed.

Rules:
- of a class that is its name, year and school, as of one that is to be closed: its id proves them;
- whoever else was forgotten has no name left once they were destroyed, or one that a server in other hands has signed.
  What is bound to them is when they were forgotten: each erasure that goes is dated on a day that was typed, those too
  that the kit remembers by itself; and where a name is shown, that was typed as well.

docs/adr/0128, docs/adr/0324 (back by name), docs/adr/0342 (what is taken back is named besides).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import ID_BYTES, PERSON_BYTES, Entry, Kind, parsed, signature_holds
from protocol.model.structure import Erasure, Ruling
from protocol.portable_names import displayable
from protocol.replica.console.text import local_time
from protocol.trust.kit import Kit
from sync_server.kit.dated import Days, days_of
from sync_server.kit.errand import NOT_SHOWN, Errand, Once, check_kind, uncalled_for, whole
from sync_server.kit.orders import erased_by, is_next, turns_in
from sync_server.kit.root_line import roots_before
from sync_server.kit.shown import Shown, class_shown, persons_shown

_MAX_TOLD: Final = 10
"""How many erasures of one name are told, the kit's own first: who has the server's key says as many as they like."""


class TakingBack(Errand):
    """`unerase`: the erasures that cover this name, by its whole id as it was typed; the kit's own if that was said.

    Then by name what it has signed, shown or not: as far as something of that is shown, or it was asked for so.
    """

    elsewhere = frozenset({Kind.RULING})

    def __init__(
        self,
        kit: Kit,
        covers: str,
        named: str | None = None,
        dated: Iterable[str] = (),
        remembered: Iterable[Entry] = (),
        *,
        counting_too: bool,
        unseen_too: bool = False,
    ) -> None:
        """Raises `BadInput` for an id that was cut short: a person's may begin as that of a class does."""
        super().__init__(kit)
        self._covers = whole(covers, PERSON_BYTES, ID_BYTES)
        self._named = [] if named is None else [named]
        self._dated = Days(dated)
        self._counting_too = counting_too
        self._unseen_too = unseen_too
        self._once = Once()
        self._earlier_roots = roots_before(kit)
        roots = {kit.root.public, *self._earlier_roots}
        own = (each for each in self._about(remembered) if each.header.author in roots)
        self._remembered = [each for each in own if signature_holds(each)]

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
        self._check_named(entry, evidence)
        self.looked_at += [
            f"by the kit's word counts no more, written by {self._whose(each)}: the erasure {each.id.hex()}"
            for each in refused
        ]

    def _check_by_name(self, entry: Entry, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> None:
        is_plain = ruling.covers == self._covers and not (ruling.accepted or ruling.refused)
        is_fine = self._is_shown(ruling, evidence) or self._may_be_unseen(ruling, evidence)
        if not (is_plain and is_fine and entry.header.space == self.kit.territory):
            raise uncalled_for(entry)
        if not self._once.is_first(entry, self._covers):
            raise uncalled_for(entry)
        told = self._check_named(entry, evidence, self._remembered)
        self.looked_at.append(
            f"what the kit has signed to have {self._covers.hex()} forgotten counts no more, seen here or not, up to "
            f"its order no. {ruling.turn + 1}. That is {told}"
        )

    def _check_named(self, entry: Entry, evidence: Mapping[bytes, Entry], besides: Iterable[Entry] = ()) -> str:
        """What goes by this word, as it is told. Raises where that is not what was typed."""
        said = self._about(evidence.values())
        if not all(map(signature_holds, said)):
            raise uncalled_for(entry)
        going = list({each.id: each for each in (*said, *besides)}.values())
        shown = self._shown(evidence)
        told = "; ".join([_called(shown), *self._told_of(going)])
        asked = self._asked(going, shown)
        if asked:
            raise BadInput(
                Code.NOT_YET,
                f"nothing has been taken back yet. With the kit it is said besides what that is: {self._covers.hex()} "
                f"is {told}. If that is meant, say so: {'; '.join(asked)}. Else that id is another's, and what "
                "showed it may be in other hands",
            )
        return told

    def _asked(self, going: Collection[Entry], shown: Shown | None) -> list[str]:
        """What has to be typed besides for this to go."""
        is_proven = shown is not None and len(self._covers) == ID_BYTES
        asked = []
        if shown is not None and not shown.is_meant(self._named):
            asked.append(f"--named “{displayable(shown.names[0])}”" if is_proven else "a name with --named")
        if shown is None and self._named:
            asked.append("without --named")
        if (self._dated or not is_proven) and not all(map(self._dated.hold, going)):
            asked.append("the day of each erasure with --dated (2026-03-02; of many 2026-03-02..2026-03-09)")
        return asked

    def _shown(self, evidence: Mapping[bytes, Entry]) -> Shown | None:
        """Who or what that is, by what was signed. Raises where a class that the kit has closed is not shown."""
        if len(self._covers) == PERSON_BYTES:
            return persons_shown(evidence.values()).get(self._covers)
        made = evidence.get(self._covers)
        shown = None if made is None else class_shown(made, self.kit.territory, evidence.values())
        is_own = any(each.header.grant is None for each in self._about((*evidence.values(), *self._remembered)))
        if shown is None and is_own:
            raise PeerFault(
                Code.NO_RIGHT,
                "the program that has the store open does not show that class, which a server that was made anew knows "
                f"once a machine has told{NOT_SHOWN}",
            )
        return shown

    def _told_of(self, erasures: Iterable[Entry]) -> list[str]:
        """Whose word each is, and of when."""
        ordered = sorted(erasures, key=lambda each: (each.header.grant is not None, each.header.at, each.id))
        lines = [f"forgotten by {self._whose(each)}" for each in ordered[:_MAX_TOLD]]
        if more := ordered[_MAX_TOLD:]:
            days = sorted(days_of(each)[0] for each in more)
            lines.append(f"and by {len(more)} more, dated {days[0]}..{days[-1]}")
        return lines

    def _whose(self, erasure: Entry) -> str:
        """Whose word it is, and of when: its date is signed with it."""
        author = erasure.header.author
        by = f"the key {author.hex()}"
        if erasure.header.grant is None:
            by = "the kit" if author == self.kit.root.public else "a kit before this one"
        return f"{by}, dated {local_time(rfc3339(erasure.timestamp_ms) or '')}"

    def _about(self, entries: Iterable[Entry]) -> list[Entry]:
        """The erasures of this name."""
        erasures = ((each, parsed(each, Erasure.parse)) for each in entries if each.header.kind == Kind.ERASE)
        return [each for each, said in erasures if said is not None and said.covers == self._covers]

    def _is_shown(self, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> bool:
        """Whether the kit has ordered what is taken back: one of what it did not would end what it orders later."""
        is_ordered = (Kind.ERASE, ruling.covers, ruling.turn) in turns_in(evidence, {self.kit.root.public})
        is_of_before = ruling.turn == 0 and (Kind.ERASE, ruling.covers) in {
            (kind, covers) for kind, covers, _ in turns_in(evidence, self._earlier_roots)
        }
        return self._counting_too and (is_ordered or is_of_before)

    def _may_be_unseen(self, ruling: Ruling, evidence: Mapping[bytes, Entry]) -> bool:
        return self._unseen_too and is_next(ruling, evidence, self.kit)

    def _check_own(self, refused: Collection[Entry]) -> None:
        if not self._counting_too and any(each.header.grant is None for each in refused):
            raise BadInput(
                Code.NOT_YET,
                "the kit itself has said so, and nothing was taken back of that: if it is to go, say --counting-too",
            )

    def _is_meant(self, erasure: Entry, ruling: Entry) -> bool:
        return erasure.header.space == ruling.header.space and erased_by(erasure) == self._covers


def _called(shown: Shown | None) -> str:
    return "something of which nothing here shows a name" if shown is None else shown.told
