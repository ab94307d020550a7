"""Where what people type is looked for: among all that ever had such a name, or such an id, here (docs/adr/0392).

Whoever writes lists, or has the server's key, says what is shown, and for how long; not what was here before. Who is
hidden for an hour leaves neither a name nor the first digits of an id to somebody else.

Rules:
- hidden, held back, erased for a week, gone, called otherwise since: all of them still have their names, as long as the
  entry that said so is here, and their ids for good;
- who was added twice and is one by now is two: a list says so, and for as long as its writer likes;
- a class is over where the kit has closed it, and nowhere else: then the next one has its name. So is who was on lists
  of such classes alone; and whom somebody has taken off all lists here, with a command, on whose id nothing ever hung
  (`mistaken`, docs/adr/0404);
- where nobody has a name, no names are told of who is hidden;
- a school's code is its name, where nothing else was ever called so, nor begins so (docs/adr/0529).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from protocol.beside_words import unlike_words
from protocol.errors import BadInput, Code
from protocol.model.entry import ID_BYTES, Kind
from protocol.replica.at_work.replica import Replica
from protocol.replica.at_work.space_names import changed_names, made_spaces
from protocol.replica.console.abbreviations import beginning_with, is_beginning
from protocol.replica.console.by_name import Named, compared
from protocol.replica.console.parameters import shown
from protocol.replica.office.erasures import closed_by_kit
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.mistaken import mistaken
from protocol.replica.office.spaces import is_hidden, pasts
from protocol.rights.roster import Roster


async def spaces_ever(replica: Replica) -> set[bytes]:
    """The ids of all spaces that were ever made here, or of which something lies here."""
    return {*replica.door.spaces(), *await replica.store.spaces()}


async def persons_ever(replica: Replica) -> set[bytes]:
    """The ids of all who were ever listed here, or as whom a device was let in."""
    listed = {entry.header.subject for entry in await replica.store.scan_kinds([Kind.PERSON])}
    return {one for one in (*listed, *(given.person for given in replica.door.authorities())) if one is not None}


async def entries_ever(replica: Replica) -> list[bytes]:
    """The ids of all entries here: those of items, of their versions, of hand-ins and of what was said of these."""
    return [entry for space in await replica.store.spaces() for _, entry in await replica.store.times(space)]


def devices_ever(replica: Replica) -> set[bytes]:
    """The keys of all devices that were ever let in here."""
    return {given.key for given in replica.door.authorities()}


async def persons_called(replica: Replica, text: str, beside: Container[bytes] | None = None) -> list[Named]:
    """Whom lists ever called `text`; if nobody, whom they show. With `beside`, of who was ever on lists of those."""
    ever = await mentioned(replica)
    if beside is not None:
        ever = {one: each for one, each in ever.items() if any(space in beside for space in each.spaces)}
    typed = _so_called(text, {one: each.names for one, each in ever.items()})
    closed = await closed_by_kit(replica) if typed else ()
    over = {one for one in typed if all(space in closed for space in ever[one].spaces)}
    over |= await mistaken(replica, typed)
    places = {space for one in typed or ever for space in ever[one].spaces}
    rosters = {space: (await replica.view(space)).roster for space in sorted(places)}
    names = await _names_now(replica)
    found = (
        _person(one, typed.get(one), {space: rosters[space] for space in ever[one].spaces}, names)
        for one in typed or ever
    )
    return [
        replace(person, is_over=person.id in over and not person.is_shown) for person in found if person is not None
    ]


def _person(
    person: bytes, typed: str | None, lists: Mapping[bytes, Roster], names: Mapping[bytes, str]
) -> Named | None:
    """Somebody under the name that was `typed`, or as these lists show them; None of whom they do not."""
    listed = next((roster.persons[person] for roster in lists.values() if person in roster.persons), None)
    now = None if listed is None else listed.name
    name = now if typed is None else typed
    if name is None:
        return None
    if listed is not None:
        state = listed.role.value
    elif any(person in roster.erased for roster in lists.values()):
        state = "erased"
    else:
        state = "added twice" if any(person in roster.aliases for roster in lists.values()) else "on no list now"
    about = [state, *_otherwise(name, now), *(names[space] for space in lists if space in names)]
    return Named(person, name, ", ".join(about), is_shown=listed is not None)


async def spaces_called(replica: Replica, text: str, among: Container[bytes] | None = None) -> list[Named]:
    """The schools and classes that were ever called `text`; if none was, all of them. With `among`, of those alone."""
    ever = {one: past for one, past in (await pasts(replica)).items() if among is None or one in among}
    typed = _so_called(text, {one: past.names.names for one, past in ever.items()})
    uai = {space: record.uai for space, record in (await made_spaces(replica)).items() if record.uai is not None}
    names, over = await _names_now(replica), await closed_by_kit(replica)
    found = []
    for one in typed or ever:
        school, name = uai.get(one) or uai.get(replica.door.parent(one) or b""), typed.get(one) or names[one]
        about = [part for part in (school, ever[one].year) if part] + _otherwise(name, names[one])
        is_shown = one not in over and not (one in typed and await is_hidden(replica, one))
        about += [] if is_shown else ["closed" if one in over else "hidden"]
        found.append(Named(one, name, ", ".join(about), one in over, is_shown))
    return found


async def check_code_alone(replica: Replica, text: str, school: bytes) -> None:
    """Whoever has a server's key makes a school whose code is the name of a class, or how its id begins.

    Raises `BadInput(UNKNOWN_SPACE)` where what was typed is the code of `school` and another space's (docs/adr/0529).
    """
    asked = compared(text)
    so_called = [one for one in await spaces_called(replica, text) if one.name and compared(one.name) == asked]
    others = {one.id.hex() for one in so_called if not one.is_over}
    if is_beginning(text, ID_BYTES):
        others.update(beginning_with(text, await spaces_ever(replica)))
    others.discard(school.hex())
    if others:
        ids = ", ".join(sorted(others)[:MAX_NAMES_SHOWN])
        raise BadInput(
            Code.UNKNOWN_SPACE,
            f"“{text}” is the code of a school, {school.hex()}, and something else is called so, or its id begins so: "
            f"{ids}; the whole id says which",
        )


async def _names_now(replica: Replica) -> dict[bytes, str]:
    made = {space: record.name for space, record in (await made_spaces(replica)).items()}
    return made | await changed_names(replica)


def _so_called(text: str, names: Mapping[bytes, Iterable[str]]) -> dict[bytes, str]:
    """Those of which one of the names was typed, with that name."""
    asked = compared(text)
    return {one: name for one, said in names.items() for name in said if asked and compared(name) == asked}


def _otherwise(name: str, now: str | None) -> list[str]:
    """What something is called now, if that is not the `name` by which it was found."""
    return [] if now is None or compared(now) == compared(name) else [f"now “{shown(unlike_words(now))}”"]
