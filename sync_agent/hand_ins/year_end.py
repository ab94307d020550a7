"""The end of a school year on a teacher's device: lessons go on to the next class, pupils' work goes home (§5).

Rules:
- a lesson is carried over once: the same title with the same files in the next class is left alone;
- a lesson that is nobody's word who teaches (by the server, an administrator, a head who is named as nobody, or by a
  device that none of its teacher's own has confirmed) is not said again in this teacher's name; nor is one of a teacher
  whom theirs have not confirmed and this device did not meet first in the class: an id that the server invents speaks
  for itself (docs/adr/0253);
- assignments and announcements are of their year and stay;
- a portfolio is what a family may have: what the pupil handed in, as files, and what was said of it. It is written from
  what this device can open, which writes no receipt; what it cannot open is named;
- a folder is called after the pupil, and by what else the lists called them; that of one who has by now a name that was
  another's is not written before it is asked for by the id (docs/adr/0289);
- who was a pupil of the list and is none by now has a folder as well, which says so (docs/adr/0295).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, Refused
from protocol.folds.coursework import Item, Work
from protocol.limits import FILE_PIECE_BYTES, MAX_PATH_COMPONENT_BYTES
from protocol.model.work import ItemKind
from protocol.portable_names import portable_name
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart, Outgoing
from protocol.replica.content.holdings import work_need
from protocol.replica.office.mentioned import mentioned
from protocol.replica.office.off_the_list import OffTheList, off_the_list
from protocol.replica.office.people import first_names, whose_words
from protocol.replica.office.taken_names import ask_about_names, called_otherwise, taken_names
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole
from protocol.trust.sealing import SealedFile
from sync_agent.app import Agent
from sync_agent.coursework.own_versions import OwnVoice, own_voice
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.coursework.reading import need_of, read_checked
from sync_agent.coursework.space_folders import compared, free_name
from sync_agent.hand_ins.handing_in import unsealed
from sync_agent.hand_ins.opening import opening_key
from sync_agent.keys.acquaintances import known_in
from sync_agent.keys.key_wraps import open_given_keys

SAID_FILE: Final = "correction.txt"
_BEFORE_CHARS: Final = 40
_CUT_BYTES: Final = 4
"""Names that end so near to the longest possible may have been cut within a character."""
_GONE: Final = " (plus sur la liste)"


# --- lessons ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """How many lessons were, and the titles of those that were left.

    `incomplete` are not whole on this device; `unconfirmed` are the word of nobody of these teachers (`_heeded`).
    """

    lessons: int
    incomplete: Sequence[str]
    unconfirmed: Sequence[str]


async def carry_over(agent: Agent, source: bytes, target: bytes, outgoing: Outgoing) -> CarriedOver:
    """Publish a class's lessons in another.

    Raises `BadInput(UNKNOWN_SPACE)`, `Refused(NO_RIGHT)`, `LocalFailure`.
    """
    if source == target:
        raise BadInput(Code.USAGE, "these are the same class")
    for space in (source, target):
        await agent.check_space(space)
    there = {
        (item.shown.record.title, item.shown.record.content.stream)
        for item in (await agent.replica.view(target)).coursework.items.values()
    }
    view = await agent.replica.view(source)
    lessons = [
        item
        for item in view.coursework.items.values()
        if not item.withdrawn and item.shown.record.kind is ItemKind.LESSON
    ]
    voice = await _heeded(agent, source)
    carried, left, strange = 0, [], []
    for item in sorted(lessons, key=lambda item: (item.shown.at_ms, item.id)):
        record = item.shown.record
        if (record.title, record.content.stream) in there:
            continue
        if not voice.has(item.shown):
            strange.append(record.title)
            await outgoing.progress(f"left, since no confirmed device of a teacher's wrote it: {record.title}")
            continue
        if not await agent.holdings.is_complete(need_of(item, item.shown)):
            left.append(record.title)
            continue
        wish = Wish(target, None, ItemKind.LESSON, record.title, record.subject, None)
        await publish(agent, wish, _Files(agent, item), outgoing)
        carried += 1
        await outgoing.progress(f"carried over: {record.title}")
    return CarriedOver(carried, left, strange)


async def _heeded(agent: Agent, space: bytes) -> OwnVoice:
    """Whose lessons of a class this device may say again.

    Its teacher's own and whom these have confirmed; whom it met first there, and whom those have confirmed. What it
    says again is its teacher's own, and stays when what others said is held back.
    """
    roster, first = (await agent.replica.view(space)).roster, known_in(agent, space).first
    ever = roster.voices.with_over()
    circles = [
        ever.circle(person, start)
        for person, starts in roster.starts.items()
        for start in starts
        if device_id(start) in first
    ]
    voice = await own_voice(agent, space)
    return replace(voice, confirmed=frozenset(voice.confirmed).union(*(each.own | each.others for each in circles)))


class _Files:
    """The files of an item's shown version, as a command would hand them to an operation."""

    def __init__(self, agent: Agent, item: Item) -> None:
        self._agent = agent
        self._item = item

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        for file in await self._agent.holdings.manifest(self._item.shown.record.content.stream):
            yield FileStart(file.path, file.size)
            async for piece in read_checked(self._agent, file.stream):
                for at in range(0, len(piece), FILE_PIECE_BYTES):
                    yield FileData(piece[at : at + FILE_PIECE_BYTES])
            yield FileEnd()
        yield Complete()


# --- portfolios -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Portfolios:
    """How much work was written, how much does not open here, and how much waits for its pupil to be asked for."""

    written: int
    closed: int
    renamed: int


async def portfolio(
    agent: Agent, space: bytes, person: bytes | None, outgoing: Outgoing, *, renamed_too: bool = False
) -> Portfolios:
    """Give the files of pupils' work, a folder for each pupil.

    `renamed_too` says that the one `person` is meant, whoever had the name before.

    Raises `BadInput` (UNKNOWN_SPACE, UNKNOWN_PERSON; NOT_YET for a person whose name was another's), `LocalFailure`,
    `Refused(CANNOT_READ)` where there is work and none of it opens.
    """
    await agent.check_space(space)
    view = await agent.replica.view(space)
    listed = {one.id: one.name for one in view.roster.persons.values() if one.role is PersonRole.PUPIL}
    off = await off_the_list(agent.replica, space)
    gone = {each.person: each.name for each in off.gone}
    pupils = listed | gone | await _called_the_same(agent, view.roster, listed)
    if person is not None and person not in pupils:
        raise BadInput(Code.UNKNOWN_PERSON, f"no pupil of this class is “{person.hex()}”", person=person.hex())
    waiting = await _waiting(agent, listed | gone, person, outgoing, renamed_too=renamed_too)
    await _tell_of_gone(off, person, waiting, outgoing)
    folders = await _folders(agent, pupils, gone)
    await open_given_keys(agent)
    written = closed = renamed = 0
    for work in sorted(view.coursework.hand_ins.values(), key=lambda work: (work.at_ms, work.id)):
        if work.person not in pupils or person not in (None, work.person):
            continue
        item = view.coursework.items.get(work.item)
        title = work.item.hex()[:8] if item is None else item.shown.record.title
        folder = f"{folders[work.person]}/{_named(title, work.id, first=f'{_day(work.at_ms)} ')}"
        if work.person in waiting:
            renamed += 1
        elif await _give(agent, work, folder, outgoing):
            written += 1
        else:
            closed += 1
            await outgoing.progress(f"does not open on this device: {pupils[work.person]}, {title}")
    for other in pupils.keys() - listed.keys() - gone.keys():
        if person == view.roster.who(other):
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
    return Portfolios(written, closed, renamed)


async def _waiting(
    agent: Agent, pupils: Mapping[bytes, str], person: bytes | None, outgoing: Outgoing, *, renamed_too: bool
) -> Collection[bytes]:
    """Whose portfolio is not written before who asks has named that id: they have by now a name that was another's.

    Raises `BadInput(NOT_YET)` if it is the one that was asked for.
    """
    if person is not None:
        said = "nothing has been written yet"
        await ask_about_names(agent.replica, [person], [person], outgoing, said, is_meant=renamed_too)
        return ()
    waiting = await taken_names(agent.replica, {pupil: [name] for pupil, name in pupils.items()})
    for each in waiting.values():
        await outgoing.progress(
            f"not written: {each.sentence()}. `--person {each.person.hex()} --renamed-too` writes what is this one's"
        )
    return waiting


async def _tell_of_gone(off: OffTheList, person: bytes | None, waiting: Collection[bytes], outgoing: Outgoing) -> None:
    """Say whose folders are written though the list has them no more, and how much is nobody's that it ever had."""
    for each in off.gone:
        if person in (None, each.person) and each.person not in waiting:
            await outgoing.progress(f"in it all the same: {each.sentence()}")
    if person is None and off.strangers:
        await outgoing.progress(
            f"not in it: {off.of_strangers} hand-ins of {off.strangers} ids that never were pupils of this list"
        )


async def _folders(agent: Agent, pupils: Mapping[bytes, str], gone: Container[bytes]) -> dict[bytes, str]:
    """The folder of each of these pupils, for who hands it out: with the name before, and whether they are gone."""
    found = {}
    for pupil, names in (await mentioned(agent.replica, pupils)).items():
        name = pupils[pupil]
        before = called_otherwise(name, names.names)
        also = f" (auparavant {before[0][:_BEFORE_CHARS].strip()})" if before else ""
        found[pupil] = _named(name, pupil, then=f"{also}{_GONE if pupil in gone else ''}")
    return found


async def _called_the_same(agent: Agent, roster: Roster, pupils: Container[bytes]) -> dict[bytes, str]:
    """The other ids of these pupils, and by which name each came here first."""
    others = {other for other, one in roster.aliases.items() if one in pupils and other not in pupils}
    called = await first_names(agent.replica, others)
    return {other: called.get(other, "?") for other in others}


async def _give(agent: Agent, work: Work, folder: str, outgoing: Outgoing) -> bool:
    content_key = await opening_key(agent, work)
    if content_key is None or not await agent.holdings.is_complete(work_need(work)):
        return False
    begun = -1
    async for files, index, piece in unsealed(agent, work, content_key):
        while begun < index:
            if begun >= 0:
                await outgoing.end()
            begun += 1
            await outgoing.start(f"{folder}/{_beside_what_is_said(files[begun].path, files)}", files[begun].size)
        if piece:
            await outgoing.data(piece)
    if begun >= 0:
        await outgoing.end()
    if work.feedback is not None:
        note = work.feedback.record
        roster = (await agent.replica.view(work.space)).roster
        said_by = await whose_words(agent.replica, roster, [work])
        # whose word it is: whoever has the server answers in a name of their own
        signed = f"({said_by(work) or '?'})"
        said = "\n".join(part for part in (note.mark, note.text, signed) if part) + "\n"
        await outgoing.start(f"{folder}/{SAID_FILE}", len(said.encode()))
        await outgoing.data(said.encode())
        await outgoing.end()
    return True


def _beside_what_is_said(path: str, files: Sequence[SealedFile]) -> str:
    """The path of a pupil's file: a word of the teacher's is never somebody else's."""
    first, slash, rest = path.partition("/")
    if compared(first) != compared(SAID_FILE):
        return path
    taken = {file.path.partition("/")[0] for file in files}
    return f"{free_name(first, taken, is_file=not slash)}{slash}{rest}"


def _named(name: str, one: bytes, *, first: str = "", then: str = "") -> str:
    """A name as part of a path, with the beginning of an id, so that two of one name do not meet.

    Of a long name as much as leaves room for what tells of it.
    """
    for kept in range(len(name), -1, -1):
        text = portable_name(f"{first}{name[:kept].rstrip()}{then} ({one.hex()[:8]})")
        if len(text.encode()) <= MAX_PATH_COMPONENT_BYTES - _CUT_BYTES:
            break
    return text


def _day(at_ms: int) -> str:
    return (rfc3339(at_ms) or "")[: len("2026-11-27")]
