"""What an archive says of an erasure that is under way: until when that can be taken back.

Rules:
- it is under way for somebody while it hides anything of theirs that is not destroyed here, whatever it names: them, or
  a class in which they are;
- of a class that was closed that is said, and not that somebody is to be forgotten: what is about them elsewhere stays.
  What another than the kit hides of it is not destroyed;
- of several of one name the first that is carried out sets the end; who was cut off since sets none ("Erasure").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.beside_words import beside_words
from protocol.clock import rfc3339
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time
from protocol.replica.office.erasures import in_force
from protocol.replica.office.taking_back import kits_line
from protocol.rights.door import covering_names


@dataclass(frozen=True, slots=True)
class Covered:
    """A name that is to be forgotten: somebody, a thing of theirs, or a class; `hand_ins` of theirs are hidden by it.

    It can be taken back here until `final_ms`; without an end where it waits for somebody else's word (None). `by_kit`
    says whether the kit has said so, which alone takes it back.
    """

    name: bytes
    final_ms: int | None
    by_kit: bool
    hand_ins: int

    @property
    def taken_back(self) -> str:
        """The command that does it."""
        return kits_line(self.name) if self.by_kit else f"`sync-server unerase {self.name.hex()}`"


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What is hidden of somebody, and not destroyed yet: so many hand-ins among it.

    `theirs` are they, and things of theirs; `classes` those that are hidden as a whole, with what each is called.
    """

    theirs: tuple[Covered, ...]
    classes: tuple[tuple[Covered, str], ...]
    hand_ins: int

    @property
    def final_ms(self) -> int | None:
        """Until when what names them can be taken back; None: nobody's word sets an end."""
        return _first(self.theirs)

    def as_json(self) -> JSON:
        """As `export-person` says it."""
        every = [*self.theirs, *(one for one, _ in self.classes)]
        until, by_kit = rfc3339(_first(every)), any(each.by_kit for each in every)
        return {"until": until, "by_kit": by_kit, "hand_ins_hidden": self.hand_ins}

    @property
    def sentences(self) -> list[str]:
        """For who writes the archive."""
        return [*([self._of_them()] if self.theirs else []), *(_of_class(one, name) for one, name in self.classes)]

    def _of_them(self) -> str:
        back = " and ".join(each.taken_back for each in self.theirs)
        if self.final_ms is None:
            until = "Nothing is destroyed before somebody else says so too, and"
        else:
            until = f"Until {_day(self.final_ms)}"
        return (
            "this person is to be forgotten, and hidden until then: the archive has the hand-ins that are still held "
            f"({sum(each.hand_ins for each in self.theirs)}). {until} {back} takes that back"
        )


def _first(some: Iterable[Covered]) -> int | None:
    return min((each.final_ms for each in some if each.final_ms is not None), default=None)


def _day(at_ms: int | None) -> str:
    return local_time(rfc3339(at_ms) or "")


def _of_class(one: Covered, name: str) -> str:
    called = f"the class “{beside_words(name)}”"
    held = f"the archive has the hand-ins of this person that are still held there ({one.hand_ins})"
    if one.by_kit:
        return f"{called} was closed, and is destroyed from {_day(one.final_ms)} on: {held}"
    return f"{called} is hidden, not by the kit, and is not destroyed: {held}. {one.taken_back} shows it again"


async def under_way(
    replica: Replica, hidden: Sequence[Entry], ends: Mapping[bytes, int | None], names: Mapping[bytes, str]
) -> UnderWay | None:
    """What erasures hide of somebody, if any does: these entries, which are `hidden` and not destroyed.

    `ends` says of each erasure until when it can be taken back here (`upkeep.orders.ends_of`), `names` what spaces are
    called.
    """
    if not hidden:
        return None
    covering = defaultdict[tuple[bytes, bytes], list[Entry]](list)
    for entry in hidden:
        for space in replica.door.lineage(entry.header.space):
            for name in covering_names(entry):
                covering[space, name].append(entry)
    said = defaultdict[bytes, list[Entry]](list)
    covered = defaultdict[bytes, set[bytes]](set)
    for one, covers in await in_force(replica):
        if there := covering.get((one.header.space, covers)):
            said[covers].append(one)
            covered[covers].update(each.id for each in there if each.header.kind == Kind.HAND_IN)
    found = [
        Covered(
            name,
            min((end for one in words if (end := ends.get(one.id)) is not None), default=None),
            any(one.header.grant is None for one in words),
            len(covered[name]),
        )
        for name, words in said.items()
    ]
    spaces = set(replica.door.spaces())
    return UnderWay(
        tuple(each for each in found if each.name not in spaces),
        tuple((each, names.get(each.name, each.name.hex())) for each in found if each.name in spaces),
        sum(entry.header.kind == Kind.HAND_IN for entry in hidden),
    )
