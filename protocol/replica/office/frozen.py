"""What there is about a pupil, or a guardian, is kept and not used: restriction (GDPR, article 18; docs/adr/0429).

Rules:
- it is said on each list that names them, under the id that was named and those that were made one with it
  (`doubles`), by the word that says what they are called: who is frozen is on no list, and the folds pass over their
  work and what was said of it (`rights.roster`); so it is lifted, and of nobody else, whom a list may call the same;
- nothing of it is destroyed: no office erases them, or closes their class, before that is lifted;
- whoever has a copy of the server's key says likewise that it is. For what destroys, somebody is frozen as long as any
  word that froze them, shown or not, is not noted as lifted at this very server: that notes each that is there as
  `person unfreeze` is said, and a head teacher's computer, or a server out of a backup, none (docs/adr/0446);
- but nobody is frozen whom lists have by words alone that the root holds back, nor by a word that the kit has refused:
  a flood of a copied key's would keep a class from ever being closed (docs/adr/0590); nor by one that came under a
  server's key once the root had ended it: there would be no end to them (docs/adr/0606);
- who is being erased is not frozen: that is taken back first;
- what no word of the server's present key says, it says, though one of an earlier key does (docs/adr/0505);
- lifted, all is as it was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.operation import JSON
from protocol.replica.office.bureau import Office
from protocol.replica.office.doubles import made_one_with
from protocol.replica.office.known_here import leave_marks, own_leaves
from protocol.replica.office.people import list_draft, listings, listings_of
from protocol.replica.office.said_here import LIFTED_MARKS, noted_lifted, said_by_this_key
from protocol.replica.office.said_too_late import said_too_late
from protocol.rights.roster import Roster
from protocol.roles import ARE_TAUGHT, RANK, Role

MAX_NAMED: Final = 10
"""So many who are frozen a refusal names."""
LIFTED_BY: Final = "`sync-server person unfreeze ID` lifts that"


@dataclass(frozen=True, slots=True)
class Frozen:
    """Somebody who is frozen, and since when; an id alone, as names are looked for with it.

    `lifted` are the words of lists by which they are shown all the same, though no command of this server's has lifted
    it: what a copied key says, or a list says that was hidden as somebody froze them (docs/adr/0574).
    """

    person: bytes
    since_ms: int
    lifted: tuple[Entry, ...] = ()

    def row(self) -> JSON:
        """As `status` has it."""
        lifted: list[JSON] = [
            {
                "space": said.header.space.hex(),
                "device": said.header.author.hex(),
                "since": rfc3339(said.timestamp_ms),
            }
            for said in self.lifted
        ]
        return {"person": self.person.hex(), "since": rfc3339(self.since_ms), "lifted": lifted}


async def freeze_person(office: Office, person: bytes) -> int:
    """Freeze somebody on every list that names them; on how many that was said anew.

    Raises `BadInput` (UNKNOWN_PERSON; USAGE for who is no pupil or guardian; NOT_YET for who is being erased).
    """
    await listings(office.replica, person)
    drafts = []
    for one, lists in (await listings_of(office.replica, await _ids_of(office, person))).items():
        own = await said_by_this_key(office, {each.entry for each in lists.values()})
        for space, listed in lists.items():
            if listed.role not in ARE_TAUGHT:
                raise BadInput(Code.USAGE, f"a {listed.role} is not frozen: what they said is about others as well")
            if one in (await office.replica.view(space)).roster.erased:
                raise BadInput(Code.NOT_YET, "this person is being forgotten; `sync-server unerase` takes that back")
            if not (listed.frozen and listed.lasts) or listed.entry not in own:
                said = PersonRecord(listed.name, listed.role, listed.left, listed.same_as, frozen=True)
                drafts.append(list_draft(one, said, space, listed.line))
    await _say(office, drafts)
    return len(drafts)


async def unfreeze_person(office: Office, person: bytes) -> int:
    """Lift that, whoever said it and whoever says that it is over, and note it; on how many lists it was so.

    Raises `BadInput(UNKNOWN_PERSON)`.
    """
    ids, freezing = await _ids_of(office, person), await freezing_words(office.replica)
    words = [word for one in ids for word in freezing.get(one, ())]
    if not words:
        await listings(office.replica, person)
    drafts = []
    for one, lists in (await listings_of(office.replica, ids)).items():
        own = await said_by_this_key(office, {each.entry for each in lists.values()})
        froze = {word.header.space for word in freezing.get(one, ())}
        for space, listed in lists.items():
            if listed.frozen or (space in froze and not (listed.entry in own and listed.lasts)):
                said = PersonRecord(listed.name, listed.role, listed.left, listed.same_as)
                drafts.append(list_draft(one, said, space, listed.line))
    await _say(office, drafts)
    if words:
        await office.replica.store.set_marks({LIFTED_MARKS + word.id.hex(): b"" for word in words})
    where = {(draft.subject, draft.space) for draft in drafts}
    return len(where | {(word.header.subject, word.header.space) for word in words})


async def _ids_of(office: Office, person: bytes) -> list[bytes]:
    return [person, *await made_one_with(office, [person])]


async def _say(office: Office, drafts: Sequence[Draft]) -> None:
    """Say who is frozen or is so no more; who is off a list by this office's own word stays so by its own.

    Repeated is the word that the list shows, the first that each of these names; whatever else it names is over.
    """
    if drafts:
        own = await own_leaves(office, {shown for each in drafts for shown in each.parents[:1]})
        await office.say(
            drafts,
            lambda said: leave_marks([each for each in said if not own.isdisjoint(each.header.parents[:1])]),
        )


async def freezing_words(replica: Replica) -> Mapping[bytes, Sequence[Entry]]:
    """For each person the words that froze them on any list, shown or not, and were not lifted at this server."""
    return await _not_lifted(replica, await _ever_said(replica))


async def _ever_said(replica: Replica) -> Mapping[bytes, Sequence[Entry]]:
    """Of whoever was ever on a list by more than what the root holds back, but for what the kit has refused.

    And for what was said too late to be anybody's who is honest.
    """
    found = defaultdict[bytes, list[Entry]](list)
    listed, rosters, late = set[bytes](), dict[bytes, Roster](), await said_too_late(replica)
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        person, space = entry.header.subject or b"", entry.header.space
        roster = rosters[space] = rosters.get(space) or (await replica.view(space)).roster
        if _is_listed(entry, roster):
            listed.add(person)
        record = parsed(entry, PersonRecord.parse)
        if record is not None and record.freezes and entry.id not in late and _counts(entry, roster):
            found[person].append(entry)
    return {person: words for person, words in found.items() if person in listed}


def _is_listed(said: Entry, roster: Roster) -> bool:
    """Whether whom this word of a list is about is somebody: be it hidden, but not by the root alone."""
    return said.id not in roster.held_by_root


def _counts(said: Entry, roster: Roster) -> bool:
    """Whether somebody is frozen by this word, shown or not, until that is lifted here: the kit has not refused it."""
    return said.id not in roster.refused_by_root


async def _not_lifted(replica: Replica, ever: Mapping[bytes, Sequence[Entry]]) -> Mapping[bytes, Sequence[Entry]]:
    lifted = await noted_lifted(replica.store)
    held = {person: [word for word in words if word.id not in lifted] for person, words in ever.items()}
    return {person: words for person, words in held.items() if words}


async def frozen_in(replica: Replica, space: bytes) -> Collection[bytes]:
    """Who is frozen, and was ever on a class's list: a list that was hidden that day has no word of it."""
    there = {one.entry.header.subject or b"" for one in await replica.store.of_kinds(space, [Kind.PERSON])}
    return (there & (await freezing_words(replica)).keys()) | (await replica.view(space)).roster.frozen


async def check_none_frozen(office: Office, persons: Collection[bytes]) -> None:
    """Raise `BadInput(NOT_YET)` where one of these people is frozen, under any of their ids."""
    replica, freezing = office.replica, await freezing_words(office.replica)
    frozen = [
        person
        for person, lists in (await listings_of(replica, persons)).items()
        if person in freezing or any([person in (await replica.view(space)).roster.frozen for space in lists])
    ]
    if frozen and office.rank < RANK[Role.SERVER]:
        raise BadInput(
            Code.NOT_YET,
            f"what there is about {_some(frozen)} is frozen (`person freeze`), or was: who has lifted that is "
            "known at the server alone. Nothing was done; who runs the server has them forgotten (`sync-server erase`)",
            persons=_some(frozen),
        )
    if frozen:
        raise frozen_fault(frozen)


def frozen_fault(persons: Collection[bytes]) -> BadInput:
    """What to say where something would destroy, or change, what there is about somebody who is frozen."""
    return BadInput(
        Code.NOT_YET,
        f"what there is about {_some(persons)} is frozen (`person freeze`), and is to be kept as it is: nothing "
        f"was done. {LIFTED_BY}; `sync-server status` (`frozen_persons`) has all of them, and says by whose word lists "
        "show them all the same. What a copy of the server's key said is refused with the kit (`refuse DEVICE --kit`)",
        persons=_some(persons),
    )


def _some(persons: Collection[bytes]) -> str:
    named, more = sorted(persons)[:MAX_NAMED], len(persons) - MAX_NAMED
    return ", ".join(person.hex() for person in named) + (f" and {more} more" if more > 0 else "")


async def frozen_persons(replica: Replica) -> list[Frozen]:
    """Who is frozen on some list, longest first; those whom no list shows so, and nobody has lifted it here, too."""
    ever = await _ever_said(replica)
    freezing, found = await _not_lifted(replica, ever), list[Frozen]()
    for person, lists in (await listings_of(replica, ever.keys())).items():
        since = [*freezing.get(person, ())]
        since += (await replica.store.get([each.entry for each in lists.values() if each.frozen])).values()
        froze = {word.header.space for word in freezing.get(person, ())}
        shows = [space for space, each in lists.items() if not each.frozen and (space in froze or not each.left)]
        lifting = [lists[space].entry for space in shows if froze]
        lifted = sorted((await replica.store.get(lifting)).values(), key=lambda said: (said.timestamp_ms, said.id))
        if since:
            found.append(Frozen(person, min(each.timestamp_ms for each in since), tuple(lifted)))
    return sorted(found, key=lambda each: (each.since_ms, each.person))
