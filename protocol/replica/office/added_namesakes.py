"""What is told to whoever has put somebody on a list: who has that name there, or elsewhere in the school, already.

Rules:
- of those of one name none is offered before others, on whichever list, and each is told: whoever has the server's key
  makes a class, and lists one of any name there, or takes one off a list whom people know (docs/adr/0564);
- they are told in the order in which lists first called them so here, with the list, and by whose word they are on it;
- a list that somebody hides for a moment has its names still: closed is what the kit has closed (docs/adr/0596).

docs/protocol.md, "Coursework".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from protocol.model.entry import Entry, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.office.bureau import Office
from protocol.replica.office.called_here import namesakes_before
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.heard import Word, said_by
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.namesakes import called_in, heard, pupils_called
from protocol.replica.office.other_lists import names_of_lists
from protocol.replica.office.people import described, duplicates_in, listings_of
from protocol.replica.office.spaces import is_hidden, space_records
from protocol.replica.office.whose_words import signatures
from protocol.rights.roster import Person
from protocol.roles import RANK, PersonRole, Role

_MOST_NAMED: Final = 4
_MOST_PLACED: Final = 20
"""Of so many pupils of one name the lists are told, of others the ids."""


async def told_of_namesakes(office: Office, person: bytes, spaces: Sequence[bytes], if_one: str) -> list[str]:
    """What to say to whoever has put somebody on lists that have one of that name already, or whose school has.

    `if_one` says what to do where it is the same person. A list that does not show them here (the class is hidden, or
    what this office says is held back) has nothing to say of them.
    """
    told = []
    for space in spaces:
        if person not in (await office.replica.view(space)).roster.persons:
            continue
        groups = await duplicates_in(office.replica, space)
        if any(person in {one.id for one in group} for group in groups):
            told.append(await _told(office, space, person, if_one))
        elif (warning := await _told_of_signature(office, space, person, if_one)) is not None:
            told.append(warning)
        if (hint := await _told_of_other_classes(office, space, person, if_one)) is not None:
            told.append(hint)
    return told


async def _told_of_other_classes(office: Office, space: bytes, person: bytes, if_one: str) -> str | None:
    """What to say of a pupil who may only have changed class: their work would stay another's."""
    door, added = office.replica.door, (await office.replica.view(space)).roster.persons[person]
    if added.role is not PersonRole.PUPIL or door.parent(space) in (None, door.territory):
        return None
    found = await _called_elsewhere(office.replica, space, added)
    lists = await names_of_lists(office, {other for said in found.values() for other in said})
    placed = {one: [await _placed(office, lists, said, added.name) for said in found[one].values()] for one in found}
    known = [f"{one.hex()}, {'; '.join(places)}" for one, places in list(placed.items())[:_MOST_PLACED]]
    if rest := [one.hex() for one in found][_MOST_PLACED:]:
        known.append(f"and so {len(rest)} more: {', '.join(rest)}")
    if not found:
        return None
    here = f"--space {space.hex()}"
    if len(found) > 1:
        return (
            f"{len(found)} pupils of that name are, or were, on other lists of this school. In the order in which they "
            f"came here: {'; '.join(known)}. Whoever writes a list, or has the server's key, adds others of one name: "
            f"ask in these classes. If one of them is the same, who changes class, {if_one}; `grant --person ID "
            f"{here}` puts the one who has that id on this list, and `ungrant --person ID --space ID` takes them off "
            "the other"
        )
    ((before, said),) = found.items()
    off = " and ".join([f"`ungrant --person {before.hex()} --space {other.hex()}`" for other in said])
    return (
        f"a pupil of that name is, or was, on another list of this school: {known[0]}. If that is the same one, who "
        f"changes class, {if_one}; `grant --person {before.hex()} {here}` puts that one on this list, and {off} takes "
        "them off the other"
    )


async def _called_elsewhere(replica: Replica, space: bytes, added: Person) -> dict[bytes, dict[bytes, Entry]]:
    """Whom other lists of the school ever called so, by the first word of each list, in the order of arrival.

    Also whom they have no more, or otherwise, by now: that, too, is said by whoever has the server's key.
    """
    others = set(replica.door.below(replica.door.parent(space) or b"")) - {space}
    open_ = others.difference(await closed_by_kit(replica))
    found: dict[bytes, dict[bytes, Entry]] = {}
    for entry in await replica.store.scan_kinds([Kind.PERSON]):
        if entry.header.space in open_ and entry.header.subject != added.id:
            for one, name, _ in pupils_called([entry]):
                if name == heard(added.name):
                    found.setdefault(one, {}).setdefault(entry.header.space, entry)
    return found


async def _placed(office: Office, lists: Mapping[bytes, str], said: Entry, name: str) -> str:
    """On which list somebody is called so, since when and by whose word, and how that list has them by now."""
    space, one = said.header.space, said.header.subject or b""
    own = b"" if office.rank >= RANK[Role.SERVER] else office.own_device[0]
    by = said_by(office.replica, Word(said.header.author, said.header.grant, said.timestamp_ms), own)
    now = (await office.replica.view(space)).roster.persons.get(one)
    if now is None:
        as_now = ", and hidden at present" if await is_hidden(office.replica, space) else ", and no longer"
    else:
        as_now = "" if heard(now.name) == heard(name) else f", called “{now.name}” by now"
    return f"on the list of “{lists[space]}” ({space.hex()}) since {day_of(said.timestamp_ms)} by {by}{as_now}"


async def _told(office: Office, space: bytes, person: bytes, if_one: str) -> str:
    view = await office.replica.view(space)
    record = (await space_records(office)).get(space)
    name, called = view.roster.persons[person].name, (await called_in(office.replica, view.roster))[person]
    told = (
        f"somebody of that name is on the list of “{space.hex() if record is None else record.name}” already. "
        f"If it is the same person, {if_one}"
    )
    if called == name:
        return told
    return (
        f"{told}. If not, this one is shown as “{called}”: better give each a last initial before they "
        f'hand in, `person rename {person.hex()} "{name} D."`'
    )


async def _told_of_signature(office: Office, space: bytes, person: bytes, if_one: str) -> str | None:
    """The same, where another list of the school has one of that name who teaches."""
    roster = (await office.replica.view(space)).roster
    name, signed = roster.persons[person].name, await signatures(office.replica, roster, [person])
    if roster.persons[person].role is not PersonRole.TEACHER or signed[person] == name:
        return None
    before = (await namesakes_before(office.replica, roster, {person: name}))[person]
    known = "; ".join([await described(office, one) for one in before[:_MOST_NAMED]])
    # whom no list has, nor had until they left, is let in nowhere
    back = [one.hex() for one, lists in (await listings_of(office.replica, before)).items() if lists]
    which = back[0] if len(back) == 1 else "ID"
    is_same = (
        f"{if_one}, and `grant --person {which} --space {space.hex()}` lets the one whom lists have had into this class"
        if back
        else "they go on as this one: no list here has the other any more"
    )
    return (
        f"somebody of that name teaches in this school, or did: {known}. If it is the same person, {is_same}. If not, "
        f"what this one says is signed “{signed[person]}”: better give them an initial, "
        f'`person rename {person.hex()} "{name} D."`'
    )
