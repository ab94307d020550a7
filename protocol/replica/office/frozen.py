"""What there is about a pupil, or a guardian, is kept and not used: restriction (GDPR, article 18; docs/adr/0429).

Rules:
- it is said on each list that names them, under each of their ids, by the word that says what they are called: who is
  frozen is on no list, and the folds pass over their work and what was said of it (`rights.roster`);
- nothing of it is destroyed: no office erases them, or closes their class, before that is lifted;
- who is being erased is not frozen: that is taken back first;
- lifted, all is as it was.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from protocol.clock import milliseconds_of, rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Replica
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.people import ids_of, list_draft, listings, listings_of
from protocol.rights.roster import MAY_BE_FROZEN

LIFTED_BY: Final = "`sync-server person unfreeze ID` lifts that"


@dataclass(frozen=True, slots=True)
class Frozen:
    """Somebody who is frozen, and since when; an id alone, as names are looked for with it."""

    person: bytes
    since_ms: int

    def row(self) -> JSON:
        """As `status` has it."""
        return {"person": self.person.hex(), "since": rfc3339(self.since_ms)}


async def freeze_person(office: Office, person: bytes, *, frozen: bool) -> int:
    """Freeze somebody on every list that names them, or lift that; on how many that was said anew.

    Raises `BadInput` (UNKNOWN_PERSON; USAGE for who is no pupil or guardian; NOT_YET for who is being erased).
    """
    await listings(office.replica, person)
    drafts = []
    for one, lists in (await listings_of(office.replica, await ids_of(office.replica, person))).items():
        for space, listed in lists.items():
            if frozen and listed.role not in MAY_BE_FROZEN:
                raise BadInput(Code.USAGE, f"a {listed.role} is not frozen: what they said is about others as well")
            if frozen and one in (await office.replica.view(space)).roster.erased:
                raise BadInput(Code.NOT_YET, "this person is being forgotten; `sync-server unerase` takes that back")
            if listed.frozen is not frozen:
                said = PersonRecord(listed.name, listed.role, listed.left, listed.same_as, frozen)
                drafts.append(list_draft(one, said, space, listed.line))
    if drafts:
        await office.say(drafts)
    return len(drafts)


async def check_none_frozen(replica: Replica, persons: Collection[bytes]) -> None:
    """Raise `BadInput(NOT_YET)` where one of these people is frozen, under any of their ids."""
    frozen = [
        person.hex()
        for person, lists in (await listings_of(replica, persons)).items()
        if any([person in (await replica.view(space)).roster.frozen for space in lists])
    ]
    if frozen:
        raise frozen_fault(frozen)


def frozen_fault(persons: Collection[str]) -> BadInput:
    """What to say where something would destroy, or change, what there is about somebody who is frozen."""
    return BadInput(
        Code.NOT_YET,
        f"what there is about {', '.join(persons)} is frozen (`person freeze`), and is to be kept as it is: nothing "
        f"was done. {LIFTED_BY}",
        persons=", ".join(persons),
    )


async def frozen_persons(replica: Replica) -> list[Frozen]:
    """Who is frozen on some list, longest first."""
    said = {
        entry.header.subject
        for entry in await replica.store.scan_kinds([Kind.PERSON])
        if (record := parsed(entry, PersonRecord.parse)) is not None and record.frozen
    }
    found = list[Frozen]()
    for person, lists in (await listings_of(replica, [one for one in said if one is not None])).items():
        if words := [listed.entry for listed in lists.values() if listed.frozen]:
            entries = await replica.store.get(words)
            found.append(Frozen(person, milliseconds_of(min(each.header.at for each in entries.values()))))
    return sorted(found, key=lambda each: (each.since_ms, each.person))
