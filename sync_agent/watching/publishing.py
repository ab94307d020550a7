"""A settled title on its way to being a revision: whose it is, what has become of its files, what must be read.

Rules (docs/adr/0013):
- a title's folder remembers its item. Renamed, it keeps it, and the item gets the new title; a copy is a new item;
- files that are as they were published are not read again; what was read decides, so that a title which was only
  touched makes no revision;
- a title is published as a whole, as it was at one moment, or not at all;
- nobody is there to be asked: what a folder does not say (subject, date, a title given elsewhere) stays as the last
  version has it that is its teacher's own word, whatever others have published since (docs/adr/0305).

Raises what `publisher.publish` raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from protocol.errors import LocalFailure
from protocol.folds.coursework import Version
from protocol.model.work import ItemKind
from protocol.portable_names import portable_form
from protocol.replica.console.frame import Notices
from protocol.transfer.manifest import ManifestEntry
from sync_agent.app import Agent
from sync_agent.coursework import publisher
from sync_agent.coursework.file_notes import FileNote, decode_notes, encode_notes
from sync_agent.coursework.own_versions import own_voice
from sync_agent.coursework.publisher import Keep, Wish
from sync_agent.coursework.reading import find_item
from sync_agent.machine.marks import WATCHED_FILES_MARKS
from sync_agent.machine.plain_files import stream_of
from sync_agent.watching.brake import HEAD_BYTES, Change, is_scrambled
from sync_agent.watching.files import Found, Look, TitleFiles, changed_files, head_of
from sync_agent.watching.folders import WatchedFolder, entries_of
from sync_agent.watching.rules import title_of
from sync_agent.watching.titles import Title

_HEADS_COMPARED: Final = 300


class _Quiet(Notices):
    """Nobody is there to be told."""

    async def progress(self, text: str) -> None:
        """Tell nobody."""


async def notes_of(agent: Agent, title: Title | None) -> dict[str, FileNote]:
    """The files of a title as they were published."""
    return {} if title is None else decode_notes(await agent.replica.store.mark(WATCHED_FILES_MARKS + title.key))


# --- whose a title is -------------------------------------------------------------------------------------------------


def is_renamed(title: Title, notes: Mapping[str, FileNote], look: Look) -> bool:
    """Whether what was looked at may be this title, whose own place is empty now.

    It is, if it has all of its files, or is the same folder by its number and has half of them at least. The number
    alone proves nothing: a disk gives it to another folder soon after this one is gone.
    """
    if not notes:
        return False
    there = {(file.size, file.changed_ns) for file in look.files}
    same = sum((note.size, note.changed_ns) in there for note in notes.values())
    as_whole = same == len(notes) == len(look.files)
    return as_whole or (title.inode == look.inode & (2**63 - 1) and same * 2 >= len(notes))


async def renamed_from(
    agent: Agent, folder: WatchedFolder, name: str, look: Look, known: Iterable[Title]
) -> Title | None:
    """The title of this folder that is now called `name`, if one that was published has been renamed."""
    inode = look.inode & (2**63 - 1)
    alike = [
        title
        for title in known
        if (title.folder, title.is_file) == (folder.id, look.is_file)
        and title.item is not None
        and title.name != name
        and (title.inode == inode or title.files == len(look.files))
    ]
    for title in await asyncio.to_thread(_gone, folder.place, name, alike) if alike else ():
        if is_renamed(title, await notes_of(agent, title), look):
            return title
    return None


def _gone(place: Path, present: str, among: Sequence[Title]) -> list[Title]:
    """Those titles whose names nothing has, but for what has the present one and differs only in capitals."""
    names = {portable_form(name) for name in entries_of(place)} - {portable_form(present)}
    return [title for title in among if portable_form(title.name) not in names]


async def same_item(agent: Agent, folder: WatchedFolder, name: str, look: Look, taken: set[bytes]) -> bytes | None:
    """The item that this device published under this title from these very files, if nothing is remembered of it.

    So a DIR whose database was lost and made anew does not publish everything a second time.
    """
    title = title_of(portable_form(name), is_file=look.is_file)
    shapes = [(file.path, file.size) for file in look.files]
    for item in (await agent.replica.view(folder.space)).coursework.items.values():
        shown = item.shown
        if shown.record.title == title and shown.author == agent.device and item.id not in taken and not item.withdrawn:
            try:
                manifest = await agent.holdings.manifest(shown.record.content.stream)
            except LocalFailure:
                continue
            if [(file.path, file.size) for file in manifest] == shapes:
                return item.id
    return None


# --- what has become of its files -------------------------------------------------------------------------------------


async def changes_of(agent: Agent, look: Look, notes: Mapping[str, FileNote]) -> dict[str, Change]:
    """What became of the published files, by path. Of very many rewritten ones only some are compared."""
    changes = changed_files(look, notes)
    places = {file.path: file.place for file in look.files}
    rewritten = [path for path, change in changes.items() if change is Change.REWRITTEN]
    for path in rewritten[:: -(-len(rewritten) // _HEADS_COMPARED) or 1]:
        before = await _published_head(agent, notes[path])
        if before and is_scrambled(before, await asyncio.to_thread(head_of, places[path])):
            changes[path] = Change.SCRAMBLED
    return changes


async def truly_changed(look: Look, notes: Mapping[str, FileNote], changes: Mapping[str, Change]) -> dict[str, Change]:
    """`changes` without the files that hold what they held, and were only written again."""
    places = {file.path: file.place for file in look.files}
    rewritten = [path for path, change in changes.items() if change is Change.REWRITTEN]
    same = {path for path in rewritten if await asyncio.to_thread(stream_of, places[path]) == notes[path].stream}
    return {path: change for path, change in changes.items() if path not in same}


async def _published_head(agent: Agent, note: FileNote) -> bytes:
    try:
        async for piece in agent.replica.content.read_stream(note.stream):
            return piece[:HEAD_BYTES]
    except LocalFailure:
        pass
    return b""


# --- publishing -------------------------------------------------------------------------------------------------------


async def publish_title(
    agent: Agent,
    folder: WatchedFolder,
    title: Title,
    look: Look,
    *,
    before: Title | None,
    notes: Mapping[str, FileNote],
) -> Title:
    """Make what the look found a revision; the title as it is to be remembered, which it is already in the store.

    `before` is what was remembered under the title's former name, if it had another one.
    """
    kept, changed = await _parted(agent, folder.space, look.files, notes)
    shown_title = title_of(portable_form(title.name), is_file=look.is_file)
    last = None if title.item is None else await _last_own(agent, title.item)
    wish = Wish(
        space=folder.space if title.item is None else None,
        item=title.item,
        kind=ItemKind.LESSON if last is None else None,
        title=shown_title if last is None or before is not None else None,
        subject=None if last is None else Keep.AS_IT_IS,
        due_ms=None if last is None else Keep.AS_IT_IS,
        keep=None if last is None else last.id,
        is_unasked=True,
    )
    fresh = replace(
        title,
        is_file=look.is_file,
        ticked=True,
        inode=look.inode & (2**63 - 1),
        likeness=look.likeness,
        files=len(look.files),
        obstacle=None,
    )
    forgotten = {} if before is None else before.no_mark()

    def marks(item: bytes) -> dict[str, bytes | None]:
        # the look is remembered only with the notes, below: until then the files count as changed, and are read again
        return {**forgotten, **replace(fresh, item=item, likeness=b"").mark()}

    files = TitleFiles(folder.place / title.name, look, changed)
    published = await publisher.publish(agent, wish, files, _Quiet(), kept=kept, marks=marks)
    fresh = replace(fresh, item=published.item)
    written = encode_notes(await _notes(agent, published, look.files))
    await agent.replica.store.set_marks({**forgotten, **fresh.mark(), WATCHED_FILES_MARKS + fresh.key: written})
    return fresh


async def _last_own(agent: Agent, wanted: bytes) -> Version | None:
    item = await find_item(agent, wanted)
    return (await own_voice(agent, item.space)).newest(item)


async def _parted(
    agent: Agent, space: bytes, files: Sequence[Found], notes: Mapping[str, FileNote]
) -> tuple[list[ManifestEntry], list[Found]]:
    """Files whose content is known and here, and those to be read."""
    alike = {file.path: notes[file.path].stream for file in files if file.is_like(notes.get(file.path))}
    lists = await agent.replica.content.chunk_lists(list(set(alike.values())))
    chunks = {ref for chunk_list in lists.values() for ref in chunk_list}
    missing = await agent.replica.content.missing_chunks(space, list(chunks))
    here = {stream for stream, refs in lists.items() if missing.isdisjoint(refs)}
    kept = [ManifestEntry(file.path, file.size, alike[file.path]) for file in files if alike.get(file.path) in here]
    return kept, [file for file in files if alike.get(file.path) not in here]


async def _notes(agent: Agent, published: publisher.Published, files: Sequence[Found]) -> list[FileNote]:
    item = await find_item(agent, published.item)
    manifest = await agent.holdings.manifest(item.versions[published.revision].record.content.stream)
    found = {file.path: file for file in files}
    return [
        FileNote(entry.path, entry.size, found[entry.path].changed_ns, found[entry.path].inode, entry.stream)
        for entry in manifest
    ]
