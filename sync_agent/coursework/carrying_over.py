"""Lessons go on to the next class at the end of a school year, on a teacher's device (§5).

Rules:
- a lesson is carried over once: the same title with the same files in the next class is left alone, where it is a word
  of these teachers there, and nobody else has withdrawn it;
- whose lessons go on unasked is whose versions this device signs at all (`own_versions`): its teacher's own, and those
  of whom theirs have confirmed. Any other's, a colleague's or an id's that the server invents, is left, and goes on
  once that very version is named: who was in a class before this device met it is nobody for that (docs/adr/0388).
  A computer that is called this teacher's own, and never led here, as one that was lost, is heeded as this one is
  where it is named (docs/adr/0403);
- assignments and announcements are of their year and stay; an item is a lesson where whom this device heeds have it as
  one, or it is shown as one, and where they have none of it, if any version ever was: whoever has the server's key says
  another kind of anything (docs/adr/0410);
- each lesson that is left is named, and why; who says that what is not shown stays is told how many. Where one of
  theirs is not shown as they have it (it is hidden, or its newest version is; somebody whom this device does not heed
  has withdrawn it, or said another version), nothing is published before it was named by its id, or said that it stays:
  whoever has the server's key does so for an hour, and the class is closed afterwards (docs/adr/0356);
- what was withdrawn is shown again by those whom this device heeds: where it is by anybody else's word, or since a
  withdrawal of theirs is hidden, it is told, and asked about likewise (docs/adr/0487);
- as of when this computer knows the class is told, and asked about where that is not of late (docs/adr/0380).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from protocol.clock import milliseconds_of
from protocol.errors import BadInput, Code
from protocol.folds.coursework import Item, Version
from protocol.limits import FILE_PIECE_BYTES
from protocol.model.ancestry import in_order_of_showing
from protocol.model.entry import Entry, Kind
from protocol.model.work import ItemKind
from protocol.replica.at_work.views import SpaceView
from protocol.replica.console.operation import Complete, FileData, FileEnd, FileEvent, FileStart, Outgoing
from protocol.replica.console.parameters import shown
from protocol.replica.office.mentioned import day_of
from protocol.replica.office.not_shown import NotShown, not_shown, switched_by, whose_word, why_hidden
from protocol.replica.upkeep.orders import DestroyedHere
from sync_agent.app import Agent
from sync_agent.coursework.known_as_of import check_known
from sync_agent.coursework.own_versions import OwnVoice, own_voice
from sync_agent.coursework.publisher import Wish, publish
from sync_agent.coursework.reading import need_of


@dataclass(frozen=True, slots=True)
class Left:
    """A lesson of theirs that was left, since it is not shown as they have it, and why."""

    item: bytes
    title: str
    why: str


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """How many lessons were, and the titles of those that were left.

    `there` are those that the next class has already, `incomplete` are not whole on this device, `unconfirmed` are the
    word of nobody whom theirs have confirmed, and `left` are theirs and not shown. Of so many `bare` items of the class
    nothing but that there was one has come.
    """

    lessons: int
    there: Sequence[str]
    incomplete: Sequence[str]
    unconfirmed: Sequence[str]
    left: Sequence[Left]
    bare: int


async def carry_over(
    agent: Agent,
    source: bytes,
    target: bytes,
    outgoing: Outgoing,
    *,
    also: Collection[str] = (),
    shown_only: bool = False,
    as_it_is_here: bool = False,
) -> CarriedOver:
    """Publish a class's lessons in another; `also` are what would be left, each by its id, and computers of hers.

    `shown_only` says that what is not shown stays, `as_it_is_here` that what has come is to do. Raises `BadInput`
    (UNKNOWN_SPACE; NOT_YET, before anything is published, where there is need of either and it was not said;
    UNKNOWN_ITEM for one of `also` that is none of these), `Refused(NO_RIGHT)`, `LocalFailure`.
    """
    if source == target:
        raise BadInput(Code.USAGE, "these are the same class")
    for space in (source, target):
        await agent.check_space(space)
    await check_known(agent, source, outgoing, "nothing has been carried over yet", as_it_is=as_it_is_here)
    there = await _there(agent, target)
    view = await agent.replica.view(source)
    lying = await not_shown(agent.replica, view, (await DestroyedHere.of(agent.replica)).at(source))
    voice = await own_voice(agent, source)
    by_computer = _on_computers_called_own(lying.whole.items.values(), voice)
    computers = {one for one in by_computer if one.hex() in {text.lower() for text in also}}
    lessons = [(each, each.is_in(there)) for each in await _lessons(agent, view, lying, voice.and_of(computers))]
    named = _named(also, computers.union(each.id for each, _ in lessons if each.is_left_alone))
    already = [each.title for each, is_there in lessons if is_there]
    lacking = [each for each, is_there in lessons if not is_there]
    asked = {each.id for each in lacking if each.asks} - named
    bare = sum(entry.payload is None for entry in lying.items)
    carried = [each for each in lacking if each.id in named or not each.is_left_alone]
    staying = [each for each in lacking if each.id not in named and each.is_left_alone]
    strange = [each for each in staying if each.version is None]
    left = [Left(each.id, each.title, each.why or "") for each in staying if each.version is not None]
    if not shown_only:
        for each in staying:
            await outgoing.progress(await _why_it_stays(agent, view, each))
    elif staying:
        counted = f"{len(left)} lessons that are not shown as you have them, and {len(strange)}"
        await outgoing.progress(
            f"left, and named without --shown-only: {counted} whose author no computer of yours has confirmed"
        )
    await _tell_of_computers(agent, by_computer, {each.item.id for each in strange}, outgoing)
    if bare:
        await outgoing.progress(f"left: {bare} items of which only that there is one has come; sync first")
    _check_asked(len(asked), bare, shown_only=shown_only)
    if already:
        await outgoing.progress(f"there already: {', '.join(already)}")
    incomplete = list[str]()
    for each in carried:
        version = each.taken
        if not await agent.holdings.is_complete(need_of(each.item, version)):
            incomplete.append(each.title)
            await outgoing.progress(f"left, since it is not whole on this device: {each.title}")
            continue
        wish = Wish(target, None, ItemKind.LESSON, version.record.title, version.record.subject, None)
        await publish(agent, wish, _Files(agent, version), outgoing)
        await outgoing.progress(f"carried over: {each.title}")
    unconfirmed = [each.title for each in strange]
    return CarriedOver(len(carried) - len(incomplete), already, incomplete, unconfirmed, left, bare)


@dataclass(frozen=True, slots=True)
class _Lesson:
    """A lesson that lies here, with the newest version that may be said again, if any; `why` it is not shown as that.

    `asks` says that nobody whose word this teacher's computer heeds has wished it so.
    """

    item: Item
    title: str
    version: Version | None
    why: str | None = None
    asks: bool = False

    @property
    def id(self) -> bytes:
        """By which it is named: an item of theirs by its own, else the very version that somebody has looked at."""
        return self.taken.id if self.version is None else self.item.id

    @property
    def is_left_alone(self) -> bool:
        """Whether it goes on only once somebody names it."""
        return self.version is None or self.why is not None

    @property
    def taken(self) -> Version:
        """What is said again."""
        return self.item.shown if self.version is None else self.version

    def is_in(self, there: Container[tuple[str, bytes]]) -> bool:
        """Whether the next class has it, as this teacher's computer takes it for theirs."""
        return (self.title, self.taken.record.content.stream) in there


def _named(also: Iterable[str], possible: Iterable[bytes]) -> set[bytes]:
    by_text = {name.hex(): name for name in possible}
    for text in also:
        if text.lower() not in by_text:
            raise BadInput(
                Code.UNKNOWN_ITEM, f"“{shown(text)}” names no lesson that would be left here, as it is shown by now"
            )
    return {by_text[text.lower()] for text in also}


def _on_computers_called_own(items: Iterable[Item], voice: OwnVoice) -> Mapping[bytes, Collection[bytes]]:
    """By the computers that are called this teacher's own, and of which no word leads here, what they have said."""
    found = defaultdict[bytes, set[bytes]](set)
    for item in items:
        for version in item.versions.values():
            if voice.is_called_own(version) and not voice.has(version) and version.id not in voice.roster.let_count:
                found[version.author].add(item.id)
    return found


async def _tell_of_computers(
    agent: Agent, by_computer: Mapping[bytes, Collection[bytes]], left: Collection[bytes], outgoing: Outgoing
) -> None:
    """Of the items that are `left`, those of which none of theirs has a version."""
    for device, said in by_computer.items():
        if not (theirs := sum(item in said for item in left)):
            continue
        let_in = min(milliseconds_of(each.at) for each in agent.replica.door.authorities_of(device))
        was, them = ("was", "it") if theirs == 1 else ("were", "them")
        await outgoing.progress(
            f"{theirs} of these {was} written on the computer {device.hex()}, which has been called yours "
            f"since {day_of(let_in)}, and is not confirmed on this one. Whoever has the server's key calls any "
            "computer yours: if you know it by its id, which `lost` said as well, `--also` with that id takes "
            f"{them} along as that computer has {them}"
        )


async def _why_it_stays(agent: Agent, view: SpaceView, lesson: _Lesson) -> str:
    if lesson.version is not None:
        return f"left, {lesson.id.hex()[:12]}, {lesson.why}: {lesson.title}"
    kind, hidden = lesson.taken.record.kind, "" if lesson.why is None else f", and it is {lesson.why}"
    other = "" if kind is ItemKind.LESSON else f", as an {kind}, which it was not before"
    accepted = "it was held back, and counts by a ruling alone"
    why = accepted if lesson.taken.id in view.roster.let_count else "no computer of yours has confirmed who wrote it"
    return (
        f"left, {lesson.id.hex()[:12]}, since {why}, "
        f"{await _by_whom(agent, view, lesson.taken)}{other}{hidden}: {lesson.title}"
    )


async def _by_whom(agent: Agent, view: SpaceView, version: Version) -> str:
    (said,) = (await agent.replica.store.get([version.id])).values()
    return await whose_word(agent.replica, view.roster, said)


def _check_asked(hidden: int, bare: int, *, shown_only: bool) -> None:
    """Raise `BadInput(NOT_YET)` where something is left that nobody has spoken of."""
    if (hidden or bare) and not shown_only:
        raise BadInput(
            Code.NOT_YET,
            f"nothing has been carried over yet: {hidden + bare} lessons or items lie here that are hidden, or that "
            "somebody whom your computers have not confirmed has withdrawn or changed. Whoever has the server's key "
            "does so for an hour. Say `--also ID` for each that is to go on as you have it, and --shown-only if the "
            "rest may stay",
        )


async def _there(agent: Agent, space: bytes) -> set[tuple[str, bytes]]:
    """The lessons that the next class has: those of whom this device heeds there, shown, or withdrawn by them."""
    voice, found = await own_voice(agent, space), set()
    for item in (await agent.replica.view(space)).coursework.items.values():
        word = await switched_by(agent.replica, item) if item.withdrawn else None
        if voice.has(item.shown) and (word is None or voice.said(word)):
            found.add((item.shown.record.title, item.shown.record.content.stream))
    return found


async def _lessons(agent: Agent, view: SpaceView, lying: NotShown, voice: OwnVoice) -> list[_Lesson]:
    """Those of a class, the oldest first, hidden and withdrawn ones included, as those of a voice have them."""
    replica, shown_here, items = agent.replica, view.coursework.items, lying.whole.items
    mine = {item.id: voice.newest(item) for item in items.values()}
    hidden = {
        item.id: version.id
        for item in items.values()
        if (version := _hidden_version(item, shown_here.get(item.id), mine[item.id])) is not None
    }
    entries = await replica.store.get(list(hidden.values()))
    why = await why_hidden(replica, view.roster, entries.values())
    shown_again = await _shown_again(agent, view, voice, replace(voice, roster=lying.roster))
    found = []
    for item in sorted(items.values(), key=lambda item: (item.shown.at_ms, item.id)):
        here, own = shown_here.get(item.id, item), mine[item.id]
        if not _is_a_lesson(item, here, own):
            continue
        said = (here.shown if own is None else own).record
        word = await switched_by(replica, here) if here.withdrawn else None
        if word is not None:
            told = f"withdrawn {await whose_word(replica, view.roster, word)}"
            found.append(_Lesson(item, said.title, own, told, own is not None and not voice.said(word)))
        elif item.id in hidden:
            found.append(_Lesson(item, said.title, own, why[hidden[item.id]], own is not None))
        elif own is not None and item.id in shown_again:
            found.append(_Lesson(item, said.title, own, shown_again[item.id], asks=True))
        elif own is None or voice.has(here.shown):
            found.append(_Lesson(here, here.shown.record.title, None if own is None else here.shown))
        else:
            told = f"shown as somebody else has it, {await _by_whom(agent, view, here.shown)}"
            found.append(_Lesson(here, said.title, own, told, asks=True))
    return found


async def _shown_again(agent: Agent, view: SpaceView, voice: OwnVoice, unhidden: OwnVoice) -> dict[bytes, str]:
    """Of the items that are shown those that a voice had withdrawn, or that somebody else shows again; by whose words.

    `unhidden` is the voice as if nobody were cut off: their withdrawals count by their headers, whatever hides them.
    """
    replica, switches = agent.replica, defaultdict[bytes, dict[bytes, Entry]](dict)
    for one in await replica.store.of_kinds(view.roster.space, (Kind.WITHDRAW, Kind.RESTORE)):
        switches[one.entry.header.target or b""][one.entry.id] = one.entry
    heeded, found = {Kind.WITHDRAW: unhidden, Kind.RESTORE: voice}, dict[bytes, str]()
    for item in view.coursework.items.values():
        if item.withdrawn or item.id not in switches:
            continue
        about, told = switches[item.id], list[str]()
        theirs = (word for word in in_order_of_showing(about) if heeded[Kind(word.header.kind)].said(word))
        newest, shows = next(theirs, None), about.get(item.switches[0]) if item.switches else None
        if newest is not None and newest.header.kind == Kind.WITHDRAW:
            hidden = (await why_hidden(replica, view.roster, [newest]))[newest.id] if shows is None else ""
            told.append(f"withdrawn {await whose_word(replica, view.roster, newest)}{hidden and f' ({hidden})'}")
        if shows is not None and not voice.said(shows):
            told.append(f"shown again {await whose_word(replica, view.roster, shows)}")
        if told:
            found[item.id] = ", and ".join(told)
    return found


def _is_a_lesson(item: Item, here: Item, own: Version | None) -> bool:
    """Whether an item is one, as it lies here and as it is shown, of which `own` is what those who are heeded have."""
    if own is None:
        return item.was_ever(ItemKind.LESSON)
    return ItemKind.LESSON in (own.record.kind, here.shown.record.kind)


def _hidden_version(item: Item, here: Item | None, own: Version | None) -> Version | None:
    """The version that is hidden, of an item as it lies here and as it is shown: theirs, else of what is not shown."""
    if here is None:
        return own or item.shown
    return own if own is not None and own.id not in here.versions else None


class _Files:
    """The files of a version, as a command would hand them to an operation."""

    def __init__(self, agent: Agent, version: Version) -> None:
        self._agent = agent
        self._version = version

    async def __aiter__(self) -> AsyncIterator[FileEvent]:
        for file in await self._agent.holdings.manifest(self._version.record.content.stream):
            yield FileStart(file.path, file.size)
            async for piece in self._agent.holdings.read_checked(file.stream):
                for at in range(0, len(piece), FILE_PIECE_BYTES):
                    yield FileData(piece[at : at + FILE_PIECE_BYTES])
            yield FileEnd()
        yield Complete()
