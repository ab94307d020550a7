"""What an archive says of an erasure that is under way: until when that can be taken back.

Rules:
- it is under way for somebody while it hides anything of theirs that is not destroyed here, whatever it names: them, or
  the class in which they learn;
- of several the first that is carried out sets the end; who was cut off since sets none ("Erasure").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.clock import rfc3339
from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.console.text import local_time
from protocol.replica.office.erasures import in_force
from protocol.rights.door import covering_names


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What is hidden of somebody, and not destroyed yet: so many hand-ins among it.

    It can be taken back here until `final_ms`; without an end where it waits for somebody else's word (None). `covers`
    is what is named, `by_kit` whether the kit has said so, which alone takes it back.
    """

    covers: tuple[bytes, ...]
    final_ms: int | None
    by_kit: bool
    hand_ins: int

    def as_json(self) -> JSON:
        """As `export-person` says it."""
        until = None if self.final_ms is None else rfc3339(self.final_ms)
        return {"until": until, "by_kit": self.by_kit, "hand_ins_hidden": self.hand_ins}

    @property
    def sentence(self) -> str:
        """For who writes the archive."""
        kit = " --kit KIT" if self.by_kit else ""
        back = " and ".join(f"`sync-server unerase {covers.hex()}{kit}`" for covers in self.covers)
        if self.final_ms is None:
            until = "Nothing is destroyed before somebody else says so too, and"
        else:
            until = f"Until {local_time(rfc3339(self.final_ms) or '')}"
        return (
            "this person is to be forgotten, and hidden until then: the archive has the hand-ins that are still held "
            f"({self.hand_ins}). {until} {back} takes that back"
        )


async def under_way(replica: Replica, hidden: Sequence[Entry], ends: Mapping[bytes, int | None]) -> UnderWay | None:
    """What erasures hide of somebody, if any does: these entries, which are `hidden` and not destroyed.

    `ends` says of each erasure until when it can be taken back here (`upkeep.orders.ends_of`).
    """
    if not hidden:
        return None
    named = {
        (space, name)
        for entry in hidden
        for space in replica.door.lineage(entry.header.space)
        for name in covering_names(entry)
    }
    said = [(one, covers) for one, covers in await in_force(replica) if (one.header.space, covers) in named]
    return UnderWay(
        covers=tuple(dict.fromkeys(covers for _, covers in said)),
        final_ms=min((end for one, _ in said if (end := ends.get(one.id)) is not None), default=None),
        by_kit=any(one.header.grant is None for one, _ in said),
        hand_ins=sum(entry.header.kind == Kind.HAND_IN for entry in hidden),
    )
