"""What is here, for a person at this device: items and their files, people, one file, a whole folder.

Rules:
- a version is read only when all of its content is here and verified; until then one shown before it is (R17): what
  the same person wrote, or whom they have confirmed, before what others did, and always as what it is (docs/adr/0306);
- a list of files that is not here yet is an empty list, never an error;
- content that turns out to be damaged is set aside by the store; its marks of completeness go with it, so that the next
  sync fetches it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from protocol.clock import rfc3339
from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.coursework import Coursework, Item, Version, Work
from protocol.model.work import ContentRef
from protocol.portable_names import portable_form
from protocol.replica.console.operation import JSON, Outgoing
from protocol.replica.console.parameters import shown
from protocol.replica.content.holdings import Need, work_need
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.whose_words import names_of_words
from protocol.transfer.manifest import ManifestEntry
from sync_agent.app import Agent
from sync_agent.coursework.past_years import past_spaces

_MANIFEST_CACHE_FILES: Final = 20_000


class Manifests:
    """Lists of files that were read before; the longest unused go first, so that their number stays bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[ManifestEntry, ...]] = OrderedDict()
        self._files = 0

    async def of(self, agent: Agent, stream: bytes) -> tuple[ManifestEntry, ...] | None:
        """The list with this stream id, or None while it is not here."""
        found = self._known.get(stream)
        if found is None:
            try:
                found = await agent.holdings.manifest(stream)
            except LocalFailure as failure:
                if failure.code not in (Code.INCOMPLETE, Code.DAMAGED):
                    raise
                if "chunk" in failure.facts:
                    await agent.holdings.forget()
                return None
            self._known[stream] = found
            self._files += len(found)
            while self._files > _MANIFEST_CACHE_FILES and len(self._known) > 1:
                self._files -= len(self._known.popitem(last=False)[1])
        self._known.move_to_end(stream)
        return found


# --- finding ----------------------------------------------------------------------------------------------------------


async def find_item(agent: Agent, wanted: bytes) -> Item:
    """The item with this id. Raises `BadInput(UNKNOWN_ITEM)`, `Refused(NO_RIGHT)` in a class that was lost."""
    for space in await agent.spaces():
        item = (await agent.replica.view(space)).coursework.items.get(wanted)
        if item is not None:
            return item
    await _check_lost(agent, wanted)
    raise BadInput(Code.UNKNOWN_ITEM, f"there is no item “{wanted.hex()}” here", item=wanted.hex())


async def find_work(agent: Agent, wanted: bytes) -> Work:
    """The hand-in with this id. Raises `BadInput(UNKNOWN_HAND_IN)`, `Refused(NO_RIGHT)` in a class that was lost."""
    for space in await agent.spaces():
        work = (await agent.replica.view(space)).coursework.hand_ins.get(wanted)
        if work is not None:
            return work
    await _check_lost(agent, wanted)
    raise BadInput(Code.UNKNOWN_HAND_IN, f"there is no hand-in “{wanted.hex()}” here", hand_in=wanted.hex())


async def _check_lost(agent: Agent, wanted: bytes) -> None:
    """Raise `Refused(NO_RIGHT)` for what is here still of a class to which the access of this device has ended."""
    for space in await agent.ended_classes():
        coursework = (await agent.replica.view(space)).coursework
        if wanted in coursework.items or wanted in coursework.hand_ins:
            await agent.check_space(space)


def others_called(coursework: Coursework, item: Item) -> list[Item]:
    """Items of the same kind that are there under the same title, but for capitals and spaces; the last said first."""
    title, kind = _plain(item), item.shown.record.kind
    found = (other for other in coursework.items.values() if other.id != item.id and not other.withdrawn)
    alike = [other for other in found if other.shown.record.kind is kind and _plain(other) == title]
    return sorted(alike, key=lambda other: (other.shown.at_ms, other.id), reverse=True)


def _plain(item: Item) -> str:
    return " ".join(portable_form(item.shown.record.title).casefold().split())


# --- lists ------------------------------------------------------------------------------------------------------------


async def list_items(agent: Agent, manifests: Manifests) -> list[JSON]:
    """Every item of this device's spaces, parents before children, in each space oldest first."""
    rows: list[JSON] = []
    for space in await agent.spaces():
        view = await agent.replica.view(space)
        oldest_first = sorted(view.coursework.items.values(), key=lambda item: (item.shown.at_ms, item.id))
        rows.extend([await _item_row(agent, manifests, item) for item in oldest_first])
    return rows


async def list_versions(agent: Agent, wanted: bytes) -> list[JSON]:
    """Every version of an item, each before those that it replaces, with time and by whom. Raises `UNKNOWN_ITEM`.

    `by` is who has said it, as far as a list has a name and somebody of theirs has confirmed the device.
    """
    item = await find_item(agent, wanted)
    versions = list(item.versions.values())
    roster = (await agent.replica.view(item.space)).roster
    names = await names_of_words(agent.replica, roster, {version.grant for version in versions})
    return [
        {
            "revision": version.id.hex(),
            "at": rfc3339(version.at_ms),
            "author": _author(agent, version).hex(),
            "by": names.get(version.grant),
            "title": version.record.title,
            "files": version.record.content.files,
            "bytes": version.record.content.size,
            "shown": version is item.shown,
        }
        for version in versions
    ]


async def list_people(agent: Agent, space: bytes) -> list[JSON]:
    """The class list of a space, by name; nobody where its year is past. Raises `BadInput(UNKNOWN_SPACE)`."""
    await agent.check_space(space)
    if space in await past_spaces(agent):
        return []
    roster = (await agent.replica.view(space)).roster
    called = await called_in(agent.replica, roster)
    return [
        {"person": person.id.hex(), "name": person.name, "role": person.role.value, "called": called[person.id]}
        for person in sorted(roster.persons.values(), key=lambda person: (person.name.casefold(), person.id))
    ]


async def files_json(agent: Agent, manifests: Manifests, content: ContentRef | None) -> list[JSON]:
    """Path and size of each file, or nothing while the list is not here."""
    files = None if content is None else await manifests.of(agent, content.stream)
    return [{"path": file.path, "size": file.size} for file in files or ()]


async def files_of_versions(agent: Agent, manifests: Manifests, wanted: bytes) -> set[str]:
    """The streams, in hexadecimal, of all files that an item's versions are known to hold; none for a hand-in's id."""
    found: set[str] = set()
    for space in await agent.spaces():
        item = (await agent.replica.view(space)).coursework.items.get(wanted)
        for version in () if item is None else item.versions.values():
            files = await manifests.of(agent, version.record.content.stream) or ()
            found.update(file.stream.hex() for file in files)
    return found


async def _item_row(agent: Agent, manifests: Manifests, item: Item) -> dict[str, JSON]:
    version = item.shown
    record = version.record
    return {
        "item": item.id.hex(),
        "space": item.space.hex(),
        "kind": record.kind.value,
        "title": record.title,
        "subject": record.subject,
        "due": rfc3339(record.due_ms),
        "revision": version.id.hex(),
        "author": _author(agent, version).hex(),
        "at": rfc3339(version.at_ms),
        "versions": len(item.versions),
        "clock_doubtful": item.clock_doubtful,
        "complete": await agent.holdings.is_complete(need_of(item, version)),
        "withdrawn": item.withdrawn,
        "conflict": item.conflict,
        "heads": [head.id.hex() for head in item.heads],
        "files": await files_json(agent, manifests, record.content),
    }


def _author(agent: Agent, version: Version) -> bytes:
    """Whom the grant of this very entry names, the same on all machines, else the device."""
    given = agent.replica.door.authority(version.grant)
    person = None if given is None else given.person
    return person or version.author


# --- files ------------------------------------------------------------------------------------------------------------


async def send_file(agent: Agent, wanted: bytes, path: str, outgoing: Outgoing) -> None:
    """Give one file of an item, or of the feedback to a hand-in.

    Raises `BadInput` (UNKNOWN_ITEM, UNKNOWN_PATH), `LocalFailure(INCOMPLETE | DAMAGED)`.
    """
    content = await _readable_content(agent, wanted, None, outgoing)
    asked = portable_form(path.replace("\\", "/").removeprefix("./"))
    files = () if content is None else await _manifest(agent, content)
    for file in files:
        if file.path == asked:
            await _send(agent, [file], outgoing)
            return
    raise BadInput(Code.UNKNOWN_PATH, f"there is no file “{shown(path)}” in it", path=path)


async def send_all(agent: Agent, wanted: bytes, revision: bytes | None, outgoing: Outgoing) -> None:
    """Give all files of an item (at a revision), or of the feedback to a hand-in.

    Raises `BadInput` (UNKNOWN_ITEM, UNKNOWN_REVISION), `LocalFailure(INCOMPLETE | DAMAGED)`.
    """
    content = await _readable_content(agent, wanted, revision, outgoing)
    if content is not None:
        await _send(agent, await _manifest(agent, content), outgoing)


async def _readable_content(
    agent: Agent, wanted: bytes, revision: bytes | None, outgoing: Outgoing
) -> ContentRef | None:
    """The content to read under this id; feedback without files has none."""
    for space in await agent.spaces():
        coursework = (await agent.replica.view(space)).coursework
        item, work = coursework.items.get(wanted), coursework.hand_ins.get(wanted)
        if item is not None:
            return (await _readable_version(agent, item, revision, outgoing)).record.content
        if work is not None:
            return await _feedback_content(agent, work, revision)
    await _check_lost(agent, wanted)
    raise BadInput(Code.UNKNOWN_ITEM, f"there is no item “{wanted.hex()}” here", item=wanted.hex())


async def _readable_version(agent: Agent, item: Item, revision: bytes | None, outgoing: Outgoing) -> Version:
    """The version asked for; else the shown one, or while that is not complete what is read meanwhile."""
    if revision is not None:
        version = item.versions.get(revision)
        if version is None:
            raise BadInput(
                Code.UNKNOWN_REVISION, f"this item has no revision “{revision.hex()}” here", revision=revision.hex()
            )
        if await agent.holdings.is_complete(need_of(item, version)):
            await agent.note_opened(version.record.content.stream)
            return version
        raise _incomplete(agent, item.id)
    found = await readable_version(agent, item)
    if found is None:
        raise _incomplete(agent, item.id)
    if found is not item.shown:
        await outgoing.progress(await _instead(agent, item, found))
    await agent.note_opened(found.record.content.stream)
    return found


async def _instead(agent: Agent, item: Item, found: Version) -> str:
    """What is said of a version that is read in the place of the shown one: whose each is."""
    roster = (await agent.replica.view(item.space)).roster
    names = await names_of_words(agent.replica, roster, {item.shown.grant, found.grant})

    def told(version: Version) -> str:
        return f"by {names.get(version.grant, 'nobody whom this device knows by name')}, {rfc3339(version.at_ms)}"

    return (
        f"the newest version ({told(item.shown)}) has not arrived as a whole; this is one from before it "
        f"({told(found)}): “{shown(found.record.title)}”"
    )


async def readable_version(agent: Agent, item: Item) -> Version | None:
    """The shown version if all of it is here, else what is read meanwhile; its own words and author go with it."""
    if await agent.holdings.is_complete(need_of(item, item.shown)):
        return item.shown
    if len(item.versions) == 1:
        return None
    versions = await _in_order_of_reading(agent, item)
    place = await agent.holdings.first_complete([need_of(item, version) for version in versions])
    return None if place is None else versions[place]


async def _in_order_of_reading(agent: Agent, item: Item) -> list[Version]:
    """All versions, as they are shown; but those of one voice with the shown one before the others.

    Whoever has the server puts a version before a teacher's, and keeps the files back by which she replaces it.
    """
    versions = list(item.versions.values())
    roster, authority = (await agent.replica.view(item.space)).roster, agent.replica.door.authority
    author = authority(item.shown.grant)
    person = roster.spoken_as(author)
    if author is None or person is None or {each.author for each in versions} == {author.key}:
        return versions
    circle = roster.voices.with_over().circle(person, author.pair)
    devices = circle.own | circle.others

    def is_of_one_voice(version: Version) -> bool:
        given = authority(version.grant)
        said_as = roster.spoken_as(given)
        return given is not None and said_as is not None and (said_as == person or given.pair in devices)

    return sorted(versions, key=is_of_one_voice, reverse=True)


async def put_away_here(agent: Agent, wanted: bytes, revision: bytes | None) -> Need | None:
    """What to fetch so that somebody can read this, if it made way for other content, or is an earlier version."""
    for space in await agent.spaces():
        coursework = (await agent.replica.view(space)).coursework
        item, work = coursework.items.get(wanted), coursework.hand_ins.get(wanted)
        if item is not None:
            version = item.versions.get(item.shown.id if revision is None else revision)
            if version is None or await agent.holdings.is_complete(need := need_of(item, version)):
                return None
            is_shown = version.id in {head.id for head in item.heads}
            return need if not is_shown or agent.comes_on_demand(need) else None
        if work is not None:
            files = work.said_with_files.values()
            needs = [*(Need(space, content.stream, sealed=False) for content in files), work_need(work)]
            return next((need for need in needs if agent.comes_on_demand(need)), None)
    return None


async def _feedback_content(agent: Agent, work: Work, revision: bytes | None) -> ContentRef | None:
    """The files of one remark; without its id those of the first that brings some."""
    said = {note.id: content for note, content in work.said_with_files.items()}
    if revision is not None and revision not in said:
        raise BadInput(
            Code.UNKNOWN_REVISION, f"no remark “{revision.hex()}” brings files here", revision=revision.hex()
        )
    content = next(iter(said.values()), None) if revision is None else said[revision]
    if content is not None and not await agent.holdings.is_complete(Need(work.space, content.stream, sealed=False)):
        raise _incomplete(agent, work.id)
    return content


async def _manifest(agent: Agent, content: ContentRef) -> Sequence[ManifestEntry]:
    try:
        return await agent.holdings.manifest(content.stream)
    except LocalFailure:
        await agent.holdings.forget()
        raise


async def _send(agent: Agent, files: Sequence[ManifestEntry], outgoing: Outgoing) -> None:
    for file in files:
        await outgoing.start(file.path, file.size)
        async for piece in agent.holdings.read_checked(file.stream):
            await outgoing.data(piece)
        await outgoing.end()


def need_of(item: Item, version: Version) -> Need:
    """The content of one version."""
    return Need(item.space, version.record.content.stream, sealed=False)


def _incomplete(agent: Agent, what: bytes) -> LocalFailure:
    why = ": this disk has no room for them. Make some, sync" if agent.has_no_room else " yet; sync"
    return LocalFailure(
        Code.INCOMPLETE, f"the files have not all arrived on this device{why} and try again", id=what.hex()
    )
