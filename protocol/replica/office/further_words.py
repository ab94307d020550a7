"""A further word about somebody whom lists have: on one list more, off one, called otherwise, made one with another.

Rules (docs/adr/0489):
- whoever says it repeats what lists say, in a word of their own, which stays when a server's key is replaced. Who has a
  copy of that key exchanges two names for an hour, or on last year's list alone, which nobody looks at;
- repeated is what the lists that count show: those of the school, of no past year, that have them. Where none does, all
  lists of the school; where that has none, all others;
- it is asked about where these differ; proposed is what is said by a sure word (`list_words`), or was heard first;
- where no such word says it, it is asked about as well where lists of the school ever called them anything else, be it
  by a letter, or had them in another role: no command changes that;
- the yes names what is to be said, which is said or nothing: lists are others the moment after (docs/adr/0517);
- so what somebody here, somebody known or the kit has corrected is asked about no more;
- who is called something new is asked about likewise, unless it is a name that lists had for them besides: that puts
  right what was exchanged (docs/adr/0534);
- who is let in, by a code too, or has work opened to them, is asked about where a list has them by no sure word though
  nothing is said anew: a name led to that id (docs/adr/0545);
- what is not said by the office's present key, the root's, or a device that it knows, it says itself: on a list, off
  one, called something. What others say goes as their keys do, as with rights (docs/adr/0188), be it what a server said
  with an earlier key (docs/adr/0505);
- nor does it stay where it gives way to what is held back, once that counts again (docs/adr/0572);
- of roles the first counts that nothing holds back but others' words: by these a copied key's is the first;
- of who is frozen it says nothing: a server's key alone freezes, and a copied one too. Whoever runs the server does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.errors import BadInput, Code
from protocol.model.entry import Entry, parsed
from protocol.model.structure import PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.at_work.space_names import made_spaces
from protocol.replica.console import parameters as given
from protocol.replica.console.operation import Outgoing, Params
from protocol.replica.office.bureau import Office
from protocol.replica.office.held_without import held_surely
from protocol.replica.office.known_here import leave_marks, listed_marks, own_leaves
from protocol.replica.office.list_words import SURE, ListWords, Whose
from protocol.replica.office.mentioned import MAX_NAMES_SHOWN, mentioned
from protocol.replica.office.names import name_of
from protocol.replica.office.people import Listing, list_draft, listings, listings_of, mentions
from protocol.replica.office.said_here import said_by_this_key
from protocol.replica.office.taken_names import called_otherwise
from protocol.roles import ARE_TAUGHT, RANK, PersonRole, Role
from protocol.school_years import past_from_ms
from protocol.shown_text import name_shown

_NOTHING_SAID = "nothing has been said yet"


@dataclass(frozen=True, slots=True)
class Repeated:
    """What a further word calls somebody, and as what.

    `names` and `roles` are what else lists have, or had, where that is to be asked about first.
    """

    name: str
    role: PersonRole
    names: tuple[str, ...] = ()
    roles: tuple[PersonRole, ...] = ()

    @property
    def is_doubted(self) -> bool:
        """Whether that is to be asked about."""
        return bool(self.names or self.roles)

    def who(self, person: bytes) -> str:
        """Who that is, for a line of a command."""
        return f"{person.hex()}, “{self.name}”, a {self.role}"

    def otherwise(self) -> str:
        """What else lists have them as, for such a line."""
        return ", ".join([*_quoted(self.names), *(f"a {role}" for role in self.roles)])


def _quoted(names: Sequence[str]) -> list[str]:
    return [f"“{name}”" for name in names[:MAX_NAMES_SHOWN]]


async def repeated(office: Office, person: bytes, spaces: Iterable[bytes]) -> Repeated:
    """What a further word repeats of somebody on the lists of `spaces`. Raises `BadInput(UNKNOWN_PERSON)`."""
    door, listed = office.replica.door, await listings(office.replica, person)
    line = {above for space in spaces for above in door.lineage(space)} - {office.replica.territory}
    beside = {space: each for space, each in listed.items() if line.intersection(door.lineage(space))}
    near = beside or listed
    now = await _that_count(office, near) or list(near.values())
    sure = await _surely_said(office, now)
    said = [(each.name, each.role) for each in now]
    ever = (await mentions(office.replica, [person]))[person]
    there = [space for space in ever if not beside or line.intersection(door.lineage(space))]
    first = [(each.name, each.role) for space in there for each in _records(ever[space])]
    said += [] if sure else first
    heard = {name: place for place, name in enumerate((await mentioned(office.replica, [person]))[person].names)}
    best = min(sure or now, key=lambda each: heard.get(each.name, len(heard)))
    name, role = best.name, best.role if sure else first[0][1]
    names = called_otherwise(name, dict.fromkeys(each for each, _ in said))
    roles = dict.fromkeys(each for _, each in said if each is not role)
    return Repeated(name, role, tuple(names), tuple(roles))


async def _that_count(office: Office, listed: Mapping[bytes, Listing]) -> list[Listing]:
    """Of what these lists say that of those which have them, and are of no past year."""
    made, now_ms = await made_spaces(office.replica), max(office.now_ms(), office.replica.proven_ms or 0)
    ends = {space: past_from_ms(made[space].year) for space in listed if space in made}
    past = {space for space, end_ms in ends.items() if end_ms is not None and end_ms <= now_ms}
    return [each for space, each in listed.items() if not each.left and space not in past]


async def _surely_said(office: Office, listed: Collection[Listing]) -> list[Listing]:
    """Of what lists say that which nobody says who has no more than a copied key."""
    words, said = await ListWords.of(office), await office.replica.store.get([each.entry for each in listed])
    sure = {entry.id for entry in said.values() if await words.whose(entry) in SURE}
    return [each for each in listed if each.entry in sure]


def _records(entries: Iterable[Entry]) -> list[PersonRecord]:
    return [record for record in (parsed(entry, PersonRecord.parse) for entry in entries) if record is not None]


async def doubted_to_let_in(office: Office, person: bytes, spaces: Collection[bytes]) -> Repeated | None:
    """What lists have somebody as who is put on those of `spaces`, or let in there; it may be `is_doubted`.

    None where nothing is said of them, and they are there by sure words, or where no list ever had them.
    """
    listed = (await listings_of(office.replica, [person]))[person]
    there = [listed[space] for space in spaces if space in listed and not listed[space].left]
    is_sure = len(await _surely_said(office, there)) == len(there)
    if not listed or (is_sure and not await _to_list(office, listed, spaces)):
        return None
    return await repeated(office, person, spaces)


async def doubted_to_leave(office: Office, person: bytes, spaces: Collection[bytes] | None = None) -> Repeated | None:
    """The same of who is taken off the lists of `spaces`, or off all. Raises `BadInput(UNKNOWN_PERSON)`."""
    listed = await listings(office.replica, person)
    leaving = await _leaving(office, listed, listed if spaces is None else spaces)
    return await repeated(office, person, leaving) if leaving else None


def called_by(params: Params) -> str | None:
    """By which name whoever asks means somebody whom lists called otherwise as well."""
    return given.text_or_none(params, "called")


def each_called_by(params: Params, persons: int) -> Sequence[str | None]:
    """The same of so many persons, in their order. Raises `BadInput(USAGE)` where only some have a name."""
    names = given.texts(params, "called")
    if names and len(names) != persons:
        raise BadInput(Code.USAGE, "--called is said once for each --person, in the same order, or not at all")
    return names or [None] * persons


async def ask_whether_meant(person: bytes, found: Repeated | None, outgoing: Outgoing, *, called: str | None) -> None:
    """Say what else lists have, or had, somebody as; and not go on before who is meant was `called` what is said.

    Raises `BadInput(NOT_YET)`, also where lists have them say something else by now.
    """
    if found is None:
        return
    if called is not None and name_shown(called) != name_shown(found.name):
        raise BadInput(
            Code.NOT_YET,
            f"{_NOTHING_SAID}: what lists say by now of {person.hex()} is “{found.name}”, not “{called}”. Look again",
        )
    if not found.is_doubted:
        return
    who, otherwise = found.who(person), found.otherwise()
    await outgoing.progress(
        f"warning: lists have, or had, {who}, otherwise as well: {otherwise}. Whoever writes a list, or has a copy of "
        "the server's key, can exchange two names, and this would say it anew: find out which id is whose"
    )
    if called is None:
        raise BadInput(
            Code.NOT_YET,
            f"{_NOTHING_SAID}, since lists have {who}, otherwise as well: {otherwise}. --called NAME, with the name "
            "that is to be said, says that this is the one who is meant; `person rename` puts a name right, on every "
            "list",
        )


async def listing_drafts(office: Office, person: bytes, spaces: Iterable[bytes]) -> list[Draft]:
    """What puts somebody on the lists that they are not on, have left, or are on by no word that stays (`_to_list`).

    Raises `BadInput` (UNKNOWN_PERSON; NOT_YET for who is frozen, but at a server).
    """
    listed = await listings(office.replica, person)
    lacking = await _to_list(office, listed, spaces)
    if not lacking:
        return []
    found = await repeated(office, person, lacking)
    is_frozen = found.role in ARE_TAUGHT and any(each.frozen for each in listed.values())
    _check_may_repeat(office, person, is_frozen=is_frozen)
    record = PersonRecord(found.name, found.role, frozen=is_frozen)
    lines = {space: listed[space].line if space in listed else () for space in lacking}
    return [list_draft(person, record, space, line) for space, line in lines.items()]


async def _to_list(office: Office, listed: Mapping[bytes, Listing], spaces: Iterable[bytes]) -> list[bytes]:
    """On which of these lists an office is to put somebody whom these lists have: where no word stays that does.

    Nor does one that gives way to what is held back, once that counts again.
    """
    words, there = await ListWords.of(office), {space: listed[space] for space in spaces if space in listed}
    said = await office.replica.store.get([each.entry for each in there.values() if not each.left])
    stay = await said_by_this_key(office, said)
    stay |= {name for name, entry in said.items() if await words.whose(entry) is Whose.KNOWN}
    stay &= {each.entry for each in there.values() if each.lasts}
    return [space for space in spaces if space not in there or there[space].entry not in stay]


async def leaving_drafts(
    office: Office, person: bytes, listed: Mapping[bytes, Listing], spaces: Collection[bytes]
) -> list[Draft]:
    """What takes somebody off those of `spaces` whose lists have them, or had, by no sure word of its present key's."""
    leaving = await _leaving(office, listed, spaces)
    if not leaving:
        return []
    found = await repeated(office, person, leaving)
    return [
        list_draft(
            person,
            PersonRecord(found.name, found.role, left=True, frozen=listed[space].frozen),
            space,
            listed[space].line,
        )
        for space in leaving
    ]


async def _leaving(office: Office, listed: Mapping[bytes, Listing], spaces: Collection[bytes]) -> list[bytes]:
    sure = await own_leaves(office, {each.entry for each in listed.values() if each.leaves})
    own = await said_by_this_key(office, sure) & {each.entry for each in listed.values() if each.lasts}
    return [
        space
        for space, each in listed.items()
        if space in spaces and each.entry not in own and _may_repeat(office, is_frozen=each.frozen)
    ]


def stays_frozen(office: Office, listed: Mapping[bytes, Listing], spaces: Collection[bytes]) -> list[bytes]:
    """Which of `spaces`, whose lists freeze somebody, this office takes nobody off."""
    held = {space for space, each in listed.items() if not _may_repeat(office, is_frozen=each.frozen)}
    return [space for space in spaces if space in held]


async def doubted_to_rename(office: Office, person: bytes, name: str) -> list[str]:
    """What else lists ever called somebody who is to be called `name`, where that is to be asked about first.

    Where lists show them by no sure word, a spelling would be put right of whoever was exchanged for them. Raises
    `BadInput(UNKNOWN_PERSON)`.
    """
    there = [each for each in (await listings(office.replica, person)).values() if not each.left]
    if len(await _surely_said(office, there)) == len(there):
        return []
    ever = (await mentioned(office.replica, [person]))[person].names
    others = {other for each in there for other in called_otherwise(each.name, ever)}
    is_put_right = len(called_otherwise(name, others)) < len(others)
    return [] if is_put_right else [other for other in ever if other in others]


async def ask_whether_renamed(person: bytes, others: Sequence[str], outgoing: Outgoing, *, is_meant: bool) -> None:
    """Say what else lists called somebody who gets another name. Raises `BadInput(NOT_YET)` before it is meant."""
    if others:
        await _ask_by_id(person.hex(), ", ".join(_quoted(others)), outgoing, _NOTHING_SAID, is_meant=is_meant)


async def ask_who_is_let_in(
    office: Office, person: bytes, spaces: Collection[bytes], outgoing: Outgoing, nothing_yet: str, *, is_meant: bool
) -> None:
    """The same of who is let in there, or has work opened to them; `nothing_yet` says what has not been done."""
    found = await doubted_to_let_in(office, person, spaces)
    if found is not None and found.is_doubted:
        await _ask_by_id(f"{found.who(person)},", found.otherwise(), outgoing, nothing_yet, is_meant=is_meant)


async def _ask_by_id(who: str, otherwise: str, outgoing: Outgoing, nothing_yet: str, *, is_meant: bool) -> None:
    await outgoing.progress(
        f"warning: lists have, or had, {who} otherwise as well: {otherwise}. Whoever writes a list, or has a copy of "
        "the server's key, can exchange two names: find out which id is whose"
    )
    if not is_meant:
        raise BadInput(
            Code.NOT_YET,
            f"{nothing_yet}, since lists have, or had, {who} otherwise as well: {otherwise}. --renamed-too says that "
            "who has this id is meant all the same",
        )


async def rename_person(office: Office, person: bytes, name: str) -> None:
    """Call somebody something else on every list that they are on.

    Raises `BadInput` (UNKNOWN_PERSON, BAD_NAME; NOT_YET for who is frozen, but at a server).
    """
    called, listed = name_of(name, "a person"), await listings(office.replica, person)
    there = {space: each for space, each in listed.items() if not each.left}
    _check_may_repeat(office, person, is_frozen=any(each.frozen for each in there.values()))
    ever, to_list = (await mentions(office.replica, [person]))[person], await _to_list(office, listed, there)
    sure = await _surely_said(office, there.values())
    drafts = []
    for space, each in there.items():
        # no command gives another role: the first that a list said is theirs
        role = each.role if each in sure else await _first_role(office, space, ever[space])
        if (called, role) != (each.name, each.role) or space in to_list or each not in sure:
            drafts.append(list_draft(person, PersonRecord(called, role, frozen=each.frozen), space, each.line))
    await office.say(drafts, listed_marks)


async def _first_role(office: Office, space: bytes, ever: Iterable[Entry]) -> PersonRole:
    roster, held = (await office.replica.view(space)).roster, (await held_surely(office, [space]))[space]
    said = [entry for entry in ever if not roster.is_erased(entry)]
    return _records([entry for entry in said if entry.id not in held] or said)[0].role


async def merge_persons(office: Office, person: bytes, into: bytes, spaces: Collection[bytes] | None = None) -> int:
    """Say that somebody who was added twice is one: `person` is `into`; in how many spaces that was said.

    On the lists of `spaces`, or on all that ever had `person`. Nothing is lost: what is about either is shown there as
    the one's, who is on that list by a word that stays (docs/adr/0531). Raises `BadInput` (UNKNOWN_PERSON, USAGE,
    NOT_YET).
    """
    if person == into:
        raise BadInput(Code.USAGE, "these are the same already")
    kept, other = await listings(office.replica, into), await listings(office.replica, person)
    if any(each.frozen for each in (*kept.values(), *other.values())):
        raise BadInput(
            Code.NOT_YET, "what there is about one of them is frozen; `sync-server person unfreeze` lifts that"
        )
    said = {space: listed for space, listed in other.items() if spaces is None or space in spaces}
    if spaces is not None and set(spaces) - said.keys():
        raise BadInput(Code.UNKNOWN_PERSON, f"not each of these lists has {person.hex()}; `person list` shows them")
    known, drafts = await repeated(office, into, said), list[Draft]()
    to_list = await _to_list(office, kept, said)
    for space, listed in said.items():
        if listed.role is not known.role:
            raise BadInput(Code.USAGE, f"a {listed.role} cannot be the same as somebody in another role")
        record = PersonRecord(listed.name, listed.role, left=True, same_as=into)
        drafts.append(list_draft(person, record, space, listed.line))
        if space in to_list:
            here = kept.get(space)
            again = PersonRecord(known.name, known.role)
            drafts.append(list_draft(into, again, space, () if here is None else here.line))
    await office.say(drafts, leave_marks)
    return len(said)


def _may_repeat(office: Office, *, is_frozen: bool) -> bool:
    return not is_frozen or office.rank >= RANK[Role.SERVER]


def _check_may_repeat(office: Office, person: bytes, *, is_frozen: bool) -> None:
    if not _may_repeat(office, is_frozen=is_frozen):
        raise BadInput(
            Code.NOT_YET,
            f"{_NOTHING_SAID}: a list says that what there is about {person.hex()} is frozen (`person freeze`), and "
            "that is said and lifted at the server alone. Who runs it does this there, or `sync-server person "
            "unfreeze`, where nobody has decided it",
        )
