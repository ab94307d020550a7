"""The end of a school year on a teacher's device: pupils' work goes home (§5). Lessons: `coursework.carrying_over`.

Rules:
- a portfolio is what a family may have: what the pupil handed in, as files, and what was said of it. It is written from
  what this device can open, which writes no receipt; what it cannot open is named;
- what was said lies apart from what was handed in, a file for each who said something, which is called after them and
  after nothing else: no text, and no file that is handed in, passes for anybody's word (docs/adr/0371). It begins with
  its day. Of computers of one name that led to each other never, each has one (docs/adr/0401). What they gave
  with it (a corrected copy) lies beside it, in a folder that is called likewise (docs/adr/0386);
- a folder is called after the pupil, and by what else the lists called them; that of one who has by now a name, or a
  number among those of one name, that was another's is not written before it is asked for by the id (docs/adr/0289,
  0523);
- who was a pupil of the list and is none by now has a folder as well, which says so (docs/adr/0295);
- what lies here and is not shown is named, with whose word hides it, and nothing is written before it was said whether
  that is to be in it: who has the server's key hides it for an hour, and no portfolio looks as if it lacked something
  (docs/adr/0356). So is what was said with files that have not come, as what came as a header alone (docs/adr/0386);
- as of when this computer knows the class is told, and asked about where that is not of late (docs/adr/0380).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import Work
from protocol.limits import MAX_PATH_COMPONENT_BYTES
from protocol.model.entry import Entry
from protocol.portable_names import portable_name
from protocol.replica.access.works import FEEDBACK_FOLDER, WORK_FOLDER, Works
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import Outgoing
from protocol.replica.console.text import many_of
from protocol.replica.content.holdings import Need
from protocol.replica.office.frozen import frozen_fault
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.not_shown import NotShown, not_shown, why_hidden
from protocol.replica.office.off_the_list import OffTheList, off_the_list
from protocol.replica.office.people import first_names
from protocol.replica.office.renumbered import renumbered_of
from protocol.replica.office.replaced import replaced_of, sentence_of
from protocol.replica.office.taken_names import ask_about_names, called_otherwise, taken_names
from protocol.replica.office.whose_words import SAID_ENDING, names_of_words
from protocol.replica.upkeep.orders import DestroyedHere
from protocol.rights.roster import Roster
from protocol.roles import PersonRole
from sync_agent.app import Agent
from sync_agent.coursework.known_as_of import check_known
from sync_agent.hand_ins.looked_at import eyes_in
from sync_agent.hand_ins.opening import opening_key
from sync_agent.keys.key_wraps import open_given_keys
from sync_agent.school.office import list_words

_BEFORE_CHARS: Final = 40
_CUT_BYTES: Final = 4
"""Names that end so near to the longest possible may have been cut within a character."""
_TAG_CHARS: Final = 8
_GONE: Final = " (plus sur la liste)"
_HIDDEN: Final = " (masqué)"
_MOST_LINES: Final = 40
"""So many are told of what is not shown, the most first."""


@dataclass(frozen=True, slots=True)
class Portfolios:
    """How much work was written, how much does not open here, and how much waits for its pupil to be asked for.

    `hidden` is how much is not shown, or something that was said of it, or has not come with all its files.
    """

    written: int
    closed: int
    renamed: int
    hidden: int


async def portfolio(
    agent: Agent,
    space: bytes,
    person: bytes | None,
    outgoing: Outgoing,
    *,
    renamed_too: bool = False,
    hidden_too: bool = False,
    shown_only: bool = False,
    as_it_is_here: bool = False,
) -> Portfolios:
    """Give the files of pupils' work, a folder for each pupil.

    `renamed_too` says that the one `person` is meant, whoever had the name before; `hidden_too` that what is not shown
    is given as well, in folders that say so, and `shown_only` that it is left out; `as_it_is_here` that what has come
    is to do, however long ago the server proved that this is all.

    Raises `BadInput` (UNKNOWN_SPACE, UNKNOWN_PERSON; NOT_YET for a person whose name was another's, where something is
    not shown and neither was said, and where the class is not known of late), `LocalFailure`, `Refused(CANNOT_READ)`
    where there is work and none of it opens.
    """
    await agent.check_space(space)
    view = await agent.replica.view(space)
    listed = {one.id: one.name for one in view.roster.persons.values() if one.role is PersonRole.PUPIL}
    off = await off_the_list(agent.replica, space)
    gone = {each.person: each.name for each in off.gone}
    lying = await not_shown(agent.replica, view, (await DestroyedHere.of(agent.replica)).at(space))
    doubles = await _called_the_same(agent, view.roster, listed)
    unseen = await _once_listed(agent, space, {_whose(one) for one in lying.hand_ins} - {*listed, *gone, *doubles})
    frozen = view.roster.frozen
    pupils = {one: name for one, name in (listed | gone | doubles | unseen).items() if one not in frozen}
    if person in frozen:
        raise frozen_fault([person])
    if frozen:
        theirs = await _called(agent, frozen, {})
        await outgoing.progress(f"not in it: {'; '.join(sorted(theirs.values()))}, who are frozen")
    if person is not None and person not in pupils:
        raise BadInput(Code.UNKNOWN_PERSON, f"no pupil of this class is “{person.hex()}”", person=person.hex())
    await check_known(agent, space, outgoing, "nothing has been written yet", as_it_is=as_it_is_here)
    hidden = await _hidden(agent, view, lying, pupils if person is None else [person])
    await _tell_of_hidden(agent, hidden, pupils, outgoing)
    kept_back = 0 if person is not None else sum(_whose(one) in frozen for one in lying.hand_ins)
    _check_hidden(len(hidden) + kept_back, spoken_of=hidden_too or shown_only)
    waiting = await _waiting(agent, space, listed | gone | unseen, person, outgoing, renamed_too=renamed_too)
    await _tell_of_gone(off, person, waiting, outgoing)
    folders = await _folders(agent, pupils, gone.keys() | unseen)
    await open_given_keys(agent)
    written = closed = renamed = 0
    works = {**view.coursework.hand_ins, **(_with_hidden(view, lying, hidden) if hidden_too else {})}
    meant = [work for work in works.values() if work.person in pupils and person in (None, work.person)]
    await _tell_of_voices(agent, space, meant, outgoing)
    tags = _told_apart(work.id for work in meant)
    for work in sorted(meant, key=lambda work: (work.at_ms, work.id)):
        item = view.coursework.items.get(work.item) or lying.whole.items.get(work.item)
        title = work.item.hex()[:_TAG_CHARS] if item is None else item.shown.record.title
        then = "" if work.id in view.coursework.hand_ins else _HIDDEN
        name = _named(title, tags[work.id], first=f"{_day(work.at_ms)} ", then=then)
        if work.person in waiting:
            renamed += 1
        elif await _give(agent, lying, work, folders[work.person], name, outgoing):
            written += 1
        else:
            closed += 1
            whose = f"“{pupils[work.person]}”, {work.person.hex()}"
            await outgoing.progress(f"does not open on this device: {whose}: {title}")
    others = {other for other in doubles.keys() - gone.keys() if person == view.roster.who(other)}
    if person is not None:
        others |= {view.roster.who(person)} & pupils.keys() - {person}
    for other in sorted(others):
        await outgoing.progress(
            f"not in it: {pupils[other]}, {other.hex()}: the list says that this is the same person, added twice; "
            f"--person {other.hex()} writes that"
        )
    if closed and not written:
        raise Refused(
            Code.CANNOT_READ,
            f"none of the {closed} hand-ins opens on this device: a teacher of the class makes the portfolios, on a "
            "computer that opens its work",
            not_opened=closed,
        )
    return Portfolios(written, closed, renamed, len(hidden))


@dataclass(frozen=True, slots=True)
class _Hidden:
    """A hand-in that is not shown, or of which what was said is not, or is not all here; whose it is, and why."""

    work: bytes
    person: bytes
    why: str


async def _hidden(agent: Agent, view: SpaceView, lying: NotShown, of: Collection[bytes]) -> list[_Hidden]:
    """What is not shown of the work of these people."""
    shown = view.coursework.hand_ins
    theirs = [work for work in shown.values() if work.person in of]
    unsaid = {note.id: work.id for work in theirs for note in lying.remarks.get(work.id, ())}
    notes = (await agent.replica.store.get(list(unsaid))).values()
    entries = [*(one for one in lying.hand_ins if _whose(one) in of), *notes]
    why = await why_hidden(agent.replica, view.roster, entries)
    return [
        _Hidden(
            unsaid.get(one.id, one.id),
            _whose(one),
            f"what was said of it: {why[one.id]}" if one.id in unsaid else why[one.id],
        )
        for one in entries
    ] + [
        _Hidden(work.id, work.person, "what was said of it, whose files have not come: sync first")
        for work in theirs
        if await _lacks_files(agent, work)
    ]


async def _lacks_files(agent: Agent, work: Work) -> bool:
    """Whether something was said of it with files that are not all here, and may come."""
    needs = (Need(work.space, content.stream, sealed=False) for content in work.said_with_files.values())
    return bool(await agent.holdings.incomplete(needs, 1))


def _with_hidden(view: SpaceView, lying: NotShown, hidden: Iterable[_Hidden]) -> dict[bytes, Work]:
    """That work as it lies here; what is shown with what was said of it."""
    shown, whole = view.coursework.hand_ins, lying.whole.hand_ins
    return {
        name: replace(work, remarks=(*(work.remarks if name in shown else ()), *lying.remarks.get(name, ())))
        for name in (each.work for each in hidden)
        if (work := shown.get(name) or whole.get(name)) is not None
    }


async def _tell_of_hidden(
    agent: Agent, hidden: Iterable[_Hidden], pupils: Mapping[bytes, str], outgoing: Outgoing
) -> None:
    counted = Counter((each.person, each.why) for each in hidden)
    called = await _called(agent, {person for person, _ in counted}, pupils)
    for (person, why), many in counted.most_common(_MOST_LINES):
        await outgoing.progress(f"not shown: {many_of(many, 'hand-in')} of {called[person]}: {why}")
    if len(counted) > _MOST_LINES:
        await outgoing.progress(f"not shown: {sum(counted.values())} hand-ins in all")


def _check_hidden(hidden: int, *, spoken_of: bool) -> None:
    """Raise `BadInput(NOT_YET)` where something is not shown of which nobody has said what is to become of it."""
    if hidden and not spoken_of:
        lie, are = ("lies", "is") if hidden == 1 else ("lie", "are")
        raise BadInput(
            Code.NOT_YET,
            f"nothing has been written yet: {many_of(hidden, 'hand-in')} {lie} here that {are} hidden, or of which "
            "the rest, or what was said, is or has not come. Whoever has the server's key hides them for an hour, and "
            "portfolios without them look whole. Say --hidden-too to write those that open here as well, in folders "
            "that say so, or --shown-only",
        )


async def _tell_of_voices(agent: Agent, space: bytes, works: Iterable[Work], outgoing: Outgoing) -> None:
    """Say whose words are in it whom nobody of this computer's has confirmed: whoever has the server lists teachers."""
    eyes, roster = await eyes_in(agent, space), (await agent.replica.view(space)).roster
    said = [note.grant for work in works for note in work.remarks if not note.record.says_nothing]
    others = [grant for grant in said if not eyes.count([grant])]
    names = await names_of_words(agent.replica, roster, set(others))
    for name, many in Counter(names.get(grant) for grant in others).most_common(_MOST_LINES):
        who = "somebody of no name here" if name is None else f"“{name}”"
        what = many_of(many, "hand-in")
        await outgoing.progress(f"in it: what {who}, whom no computer of yours has confirmed, says of {what}")


async def _once_listed(agent: Agent, space: bytes, persons: Collection[bytes]) -> dict[bytes, str]:
    """Those of these people whom the list of this class ever named, by what came here last."""
    named = await mentioned(agent.replica, persons) if persons else {}
    return {person: each.last for person, each in named.items() if space in each.spaces}


async def _called(agent: Agent, persons: Collection[bytes], pupils: Mapping[bytes, str]) -> dict[bytes, str]:
    """These people by what they are called, what else lists ever called them, and their ids.

    Whoever decides over one of them by such a line takes nobody for a classmate who has now the name that was theirs.
    """
    return {
        person: f"{names.called(pupils.get(person, names.last))}, {person.hex()}"
        for person, names in (await mentioned(agent.replica, persons)).items()
    }


def _whose(entry: Entry) -> bytes:
    return entry.header.subject or b""


async def _waiting(
    agent: Agent,
    space: bytes,
    pupils: Mapping[bytes, str],
    person: bytes | None,
    outgoing: Outgoing,
    *,
    renamed_too: bool,
) -> Collection[bytes]:
    """Whose portfolio is not written before who asks has named that id.

    A name, or a number, of theirs was another's, or they may have been put in another's place.
    Raises `BadInput(NOT_YET)` if it is the one that was asked for.
    """
    if person is not None:
        said = "nothing has been written yet"
        words = await list_words(agent)
        await ask_about_names(agent.replica, [person], [person], outgoing, said, words=words, is_meant=renamed_too)
        return ()
    taken = await taken_names(agent.replica, {pupil: [name] for pupil, name in pupils.items()})
    waiting = [(each.person, each.sentence()) for each in taken.values()]
    renumbered = await renumbered_of(agent.replica, pupils)
    waiting += [(each.person, each.sentence(place)) for each, place in renumbered if each.space == space]
    waiting += await _in_anothers_place(agent, space, pupils.keys() - {one for one, _ in waiting})
    for pupil, why in waiting:
        await outgoing.progress(f"not written: {why}. `--person {pupil.hex()} --renamed-too` writes what is this one's")
    return {pupil for pupil, _ in waiting}


async def _in_anothers_place(agent: Agent, space: bytes, pupils: Collection[bytes]) -> list[tuple[bytes, str]]:
    """Which of these pupils may stand in the place of one whom the list called so, and has so no more; and why."""
    replica, words = agent.replica, await list_words(agent)
    listed = (await replica.view(space)).roster.persons.keys() & pupils
    found = [each for each in await replaced_of(replica, listed, words) if each.space == space]
    return [(each.person, f"{each.person.hex()}: {await sentence_of(replica, each, words)}") for each in found]


async def _tell_of_gone(off: OffTheList, person: bytes | None, waiting: Collection[bytes], outgoing: Outgoing) -> None:
    """Say whose folders are written though the list has them no more, and how much is nobody's that it ever had."""
    for each in off.gone:
        if person in (None, each.person) and each.person not in waiting:
            await outgoing.progress(f"in it all the same: {each.sentence()}")
    if person is None and off.strangers:
        await outgoing.progress(
            f"not in it: {many_of(off.of_strangers, 'hand-in')} of {many_of(off.strangers, 'id')} that never were "
            "pupils of this list"
        )


async def _folders(agent: Agent, pupils: Mapping[bytes, str], gone: Container[bytes]) -> dict[bytes, str]:
    """The folder of each of these pupils, for who hands it out: with the name before, and whether they are gone."""
    found, tags = {}, _told_apart(pupils)
    for pupil, names in (await mentioned(agent.replica, pupils)).items():
        name = pupils[pupil]
        before = called_otherwise(name, names.names)
        also = f" (auparavant {before[0][:_BEFORE_CHARS].strip()})" if before else ""
        found[pupil] = _named(name, tags[pupil], then=f"{also}{_GONE if pupil in gone else ''}")
    return found


async def _called_the_same(agent: Agent, roster: Roster, pupils: Container[bytes]) -> dict[bytes, str]:
    """The other ids of these pupils, and by which name each came here first."""
    others = {other for other, one in roster.aliases.items() if one in pupils and other not in pupils}
    called = await first_names(agent.replica, others)
    return {other: called.get(other, "?") for other in others}


async def _give(agent: Agent, lying: NotShown, work: Work, folder: str, name: str, outgoing: Outgoing) -> bool:
    """Whether it opens to its end: one that does not keeps nobody's portfolio from being written."""

    async def open_key(way: Work) -> bytes | None:
        return await opening_key(agent, way)

    works = Works(agent.replica, agent.holdings, open_key, outgoing)
    ways = [work, lying.whole.hand_ins.get(work.id, work)]
    if (await works.handed(ways, f"{folder}/{WORK_FOLDER}/{name}"))["files"] is None:
        return False
    notes = [note for note in work.remarks if not note.record.says_nothing]
    said = await works.said(lying.roster, notes, f"{folder}/{FEEDBACK_FOLDER}/{name}")
    let_count = (await agent.replica.view(work.space)).roster.let_count
    for note, (place, row) in zip(notes, said, strict=True):
        words = [part for part in (note.record.mark, note.record.text) if part]
        if words or note.record.content is None:
            text = "".join(f"{part}\n" for part in (_day(note.at_ms), *words)).encode()
            await outgoing.start(f"{place}{SAID_ENDING}", len(text))
            await outgoing.data(text)
            await outgoing.end()
        if note.id in let_count:
            await outgoing.progress(f"in it: {place}, which was held back, and counts by a ruling alone")
        if "missing" in row:
            await outgoing.progress(f"not in it: the files of {place}, which are not whole here")
    return True


def _told_apart(ids: Iterable[bytes]) -> dict[bytes, str]:
    """Each of these ids by its beginning; where two begin alike, as whoever writes one may have it, by the whole."""
    whole = {one: one.hex() for one in ids}
    begins = Counter(text[:_TAG_CHARS] for text in whole.values())
    return {one: text if begins[text[:_TAG_CHARS]] > 1 else text[:_TAG_CHARS] for one, text in whole.items()}


def _named(name: str, tag: str, *, first: str = "", then: str = "") -> str:
    """A name as part of a path, with what tells an id from others, so that two of one name do not meet.

    Of a long name as much as leaves room for what tells of it.
    """
    for kept in range(len(name), -1, -1):
        text = portable_name(f"{first}{name[:kept].rstrip()}{then} ({tag})")
        if len(text.encode()) <= MAX_PATH_COMPONENT_BYTES - _CUT_BYTES:
            break
    return text


def _day(at_ms: int) -> str:
    return (rfc3339(at_ms) or "")[: len("2026-11-27")]
