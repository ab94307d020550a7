"""Publishing coursework from this device: revisions, withdrawing and restoring, settling conflicts (R5, R17).

Rules:
- files are cut and packed while they arrive, in constant memory; the packs become durable and visible first, then the
  one entry that names them: whatever ends a publication before that leaves nothing that anybody sees, and it can be
  repeated;
- a `Restart` throws away what came before it;
- with an item given, what is not given stays as one of its versions has it (`own_versions`), and the shown head with
  what that replaced are the parents;
- a text without a file is a file as well, `TEXT_FILE`, so that every version of every agent has it, and any program
  opens it (docs/adr/0099);
- what changes nothing is written only once: the same files and words again give the revision that is there already, but
  for one that is nobody's whose word stands for this teacher's;
- what it changes is said as a delta as well, before the entry, so that neither this line nor anybody's pays for more;
- every right is checked before a file is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from protocol.errors import BadInput, Code, LocalFailure
from protocol.folds.coursework import Item, Version
from protocol.limits import MAX_NAME_CHARS, MAX_PARENTS, MAX_TEXT_CHARS
from protocol.model.entry import Kind
from protocol.model.work import EMPTY_PAYLOAD, ContentRef, ItemKind, Revision
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import (
    Complete,
    FileData,
    FileEnd,
    FileEvent,
    FileStart,
    Incoming,
    Outgoing,
    Restart,
)
from protocol.replica.interfaces import PackBuild
from protocol.replica.office.not_shown import switched_by
from protocol.replica.office.said_before import overlooks
from protocol.shown_text import one_line
from protocol.transfer.chunking import ChunkRef, Cutter, cut
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from protocol.transfer.pack import FinishedPack
from sync_agent.app import Agent
from sync_agent.coursework.delta_bases import say_as_delta
from sync_agent.coursework.own_versions import Kept, check_seen, own_voice, to_keep
from sync_agent.coursework.reading import Manifests, find_item, need_of
from sync_agent.coursework.texts import TEXT_FILE, bytes_of


class Keep(Enum):
    """What is not given."""

    AS_IT_IS = "as it is"


TextOrKeep: TypeAlias = "str | Keep | None"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants published. `Keep` and None for `kind` and `title` leave what an existing item has.

    `text` is published as one more file: beside those that come, or without any beside those that the item has. An
    empty one takes it away. New files without a text leave none.

    `keep` names the version as which stays what is not given; `seen` is the head that whoever wishes this was shown.
    A program that publishes by itself (`is_unasked`) has asked nobody.
    """

    space: bytes | None
    item: bytes | None
    kind: ItemKind | None
    title: str | None
    subject: TextOrKeep = Keep.AS_IT_IS
    due_ms: int | Keep | None = Keep.AS_IT_IS
    text: str | Keep = Keep.AS_IT_IS
    keep: bytes | None = None
    seen: bytes | None = None
    is_unasked: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it says all words of a revision itself."""
        return None not in (self.kind, self.title) and Keep.AS_IT_IS not in (self.subject, self.due_ms)


@dataclass(frozen=True, slots=True)
class Published:
    """The item and the revision that now says what was wished."""

    item: bytes
    revision: bytes


async def publish(
    agent: Agent,
    wish: Wish,
    incoming: Incoming,
    outgoing: Outgoing,
    *,
    kept: Sequence[ManifestEntry] = (),
    marks: Callable[[bytes], Mapping[str, bytes | None]] | None = None,
) -> Published:
    """Make what `incoming` brings a revision of a new item, or of `wish.item`.

    `kept` are further files of it, whose content the space holds already. Without any file a given item keeps its
    files. `marks` gives, for the item, the marks to set together with the revision. Raises `BadInput` (UNKNOWN_SPACE,
    UNKNOWN_ITEM, BAD_NAME, NOTHING_TO_SEND …; NOT_YET where somebody is to be asked first: `to_keep`),
    `Refused(NO_RIGHT)`, `LocalFailure` (CHANGING_FILE, DISK_FULL, INTERRUPTED …).
    """
    before = None if wish.item is None else await find_item(agent, wish.item)
    space = _space(wish, before)
    authority = await agent.right(space, Kind.REVISION)
    if before is None and wish.title is None:
        raise BadInput(Code.USAGE, "a new item needs a title")
    if before is None and wish.keep is not None:
        raise BadInput(Code.USAGE, "a version to keep is one of an item: name that as well")
    _check_words(wish)
    wish = _on_one_line(wish)
    kept_as = None if before is None else await to_keep(agent, before, wish.keep, wish.seen)
    if kept_as is not None and kept_as.question is not None and not wish.is_whole:
        await outgoing.progress(kept_as.words)
    bases = () if before is None else (before.shown,)
    content = await store_files(agent, space, incoming, kept, bases=bases, said=_said(wish, kept_as))
    async with agent.writing:
        item = None if before is None else await find_item(agent, before.id)
        if item is not None:
            check_seen(agent, item, wish.seen)
        record = _record(wish, kept_as, content)
        if item is not None and item.withdrawn:
            await outgoing.progress("this item is withdrawn; `sync-agent restore` shows it again")
        draft = Draft(
            space,
            Kind.REVISION,
            authority.grant,
            record.encode(),
            target=None if item is None else item.id,
            parents=() if item is None else item.line,
        )
        if (
            item is not None
            and await _is_said(agent, item, record)
            and (wish.is_unasked or not await _hides(agent, draft))
        ):
            return Published(item.id, item.shown.id)
        noted = None if marks is None else (lambda entries: marks(wish.item or entries[0].id))
        (entry,) = await agent.write(draft, marks=noted, follows=not wish.is_unasked)
    return Published(entry.id if item is None else item.id, entry.id)


async def _is_said(agent: Agent, item: Item, record: Revision) -> bool:
    return item.shown.record == record and (await own_voice(agent, item.space)).stands_by(item.shown)


async def _hides(agent: Agent, draft: Draft) -> bool:
    return await overlooks(agent.replica, agent.device, draft)


async def withdraw(agent: Agent, wanted: bytes) -> bool:
    """Take an item out of sight everywhere; False where it is by this teacher's word already, and nothing changes."""
    return await _switch(agent, wanted, Kind.WITHDRAW)


async def restore(agent: Agent, wanted: bytes) -> bool:
    """Bring a withdrawn item back; False where it is there, by nobody else's word, and nothing changes."""
    return await _switch(agent, wanted, Kind.RESTORE)


async def restore_revision(agent: Agent, wanted: bytes, revision: bytes, outgoing: Outgoing) -> bool:
    """Say an earlier revision of an item once more, in place of the shown head; withdrawn, it comes back as well.

    False where the item is there and already says that: nothing changes. Raises `BadInput` (UNKNOWN_ITEM,
    UNKNOWN_REVISION), `Refused(NO_RIGHT)`.
    """
    async with agent.writing:
        item = await find_item(agent, wanted)
        authority = await agent.right(item.space, Kind.REVISION)
        version = item.versions.get(revision)
        if version is None:
            raise BadInput(
                Code.UNKNOWN_REVISION, f"this item has no revision “{revision.hex()}” here", revision=revision.hex()
            )
        if not await agent.holdings.is_complete(need_of(item, version)):
            await outgoing.progress("files of that version are not here any more; they come with the next sync")
        voice = await own_voice(agent, item.space)
        says_another = item.shown.record != version.record or (voice.has(version) and not voice.has(item.shown))
        if says_another:
            payload = version.record.encode()
            await agent.write(
                Draft(item.space, Kind.REVISION, authority.grant, payload, target=item.id, parents=item.line)
            )
    return await restore(agent, wanted) or says_another


async def settle(agent: Agent, wanted: bytes, keep: bytes, shown: Collection[str] | None = None) -> None:
    """End a conflict: the head `keep` is said once more, with all heads as parents, itself the first.

    `shown` are those, in hex, of which whoever chooses was shown; what has come since stays a version to choose from.
    Raises `BadInput` (UNKNOWN_ITEM; UNKNOWN_REVISION if `keep` is no head), `Refused(NO_RIGHT)`.
    """
    async with agent.writing:
        item = await find_item(agent, wanted)
        kept = next((head for head in item.heads if head.id == keep), None)
        authority = await agent.right(item.space, Kind.REVISION)
        if kept is None:
            raise BadInput(
                Code.UNKNOWN_REVISION,
                f"“{keep.hex()}” is none of the versions to choose from",
                revision=keep.hex(),
                heads=[head.id.hex() for head in item.heads],
            )
        payload = kept.record.encode()
        others = [head.id for head in item.heads if head.id != keep and (shown is None or head.id.hex() in shown)]
        while others:
            now, others = others[: MAX_PARENTS - 1], others[MAX_PARENTS - 1 :]
            draft = Draft(item.space, Kind.REVISION, authority.grant, payload, target=item.id, parents=(keep, *now))
            (entry,) = await agent.write(draft)
            keep = entry.id


async def _switch(agent: Agent, wanted: bytes, kind: Kind) -> bool:
    """False where the item is so already, and by nobody's word but one that this device would say itself.

    What somebody else said may count no more tomorrow, and hers was never said (docs/adr/0552).
    """
    async with agent.writing:
        item = await find_item(agent, wanted)
        authority = await agent.right(item.space, kind)
        draft = Draft(item.space, kind, authority.grant, EMPTY_PAYLOAD, target=item.id, parents=item.switches)
        if item.withdrawn is (kind is Kind.WITHDRAW) and not await _hides(agent, draft):
            word = await switched_by(agent.replica, item)
            if word is None or (await own_voice(agent, item.space)).stands_by_word(word):
                return False
        await agent.write(draft)
    return True


# --- words ------------------------------------------------------------------------------------------------------------


def check_text(given: str, what: str, max_chars: int, *, code: Code = Code.USAGE) -> str:
    """`given`, if it can be kept: not longer than `max_chars`, and text. Raises `BadInput(code)`."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise BadInput(code, f"the {what} is not valid text") from None
    if len(given) > max_chars:
        raise BadInput(
            code,
            f"the {what} is too long: {len(given)} characters, at most {max_chars}",
            chars=len(given),
            max=max_chars,
        )
    return given


def _check_words(wish: Wish) -> None:
    if wish.title is not None:
        check_text(wish.title, "title", MAX_NAME_CHARS, code=Code.BAD_NAME)
        if not one_line(wish.title).strip():
            raise BadInput(Code.BAD_NAME, "the title is empty")
    if isinstance(wish.subject, str):
        check_text(wish.subject, "subject", MAX_NAME_CHARS, code=Code.BAD_NAME)
    if isinstance(wish.text, str):
        check_text(wish.text, "text", MAX_TEXT_CHARS)


def _on_one_line(wish: Wish) -> Wish:
    title = None if wish.title is None else one_line(wish.title)
    return replace(wish, title=title, subject=one_line(wish.subject) if isinstance(wish.subject, str) else wish.subject)


def _said(wish: Wish, kept: Kept | None) -> Said | None:
    return None if isinstance(wish.text, Keep) else Said(bytes_of(wish.text), kept)


def _space(wish: Wish, before: Item | None) -> bytes:
    if before is None:
        if wish.space is None:
            raise BadInput(Code.USAGE, "a new item needs a space")
        return wish.space
    if wish.space is not None and wish.space != before.space:
        raise BadInput(Code.UNKNOWN_ITEM, f"the item “{before.id.hex()}” is not in the space “{wish.space.hex()}”")
    return before.space


def _record(wish: Wish, kept: Kept | None, content: ContentRef | None) -> Revision:
    """The whole revision: what is wished, and for the rest what the version to keep says."""
    if kept is None:
        if content is None:
            raise BadInput(Code.NOTHING_TO_SEND, "there is no file and no text to publish")
        subject = None if isinstance(wish.subject, Keep) else wish.subject
        due = None if isinstance(wish.due_ms, Keep) else wish.due_ms
        return Revision(wish.kind or ItemKind.LESSON, wish.title or "", subject or None, due, content)
    record = kept.version.record
    subject = record.subject if isinstance(wish.subject, Keep) else wish.subject
    due = record.due_ms if isinstance(wish.due_ms, Keep) else wish.due_ms
    title = record.title if wish.title is None else wish.title
    return Revision(wish.kind or record.kind, title, subject or None, due, content or kept.content)


# --- files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """A text to publish as one more file, and the version beside whose files it stands if no other file comes."""

    data: bytes
    beside: Kept | None


async def store_files(
    agent: Agent,
    space: bytes,
    incoming: Incoming,
    kept: Sequence[ManifestEntry] = (),
    *,
    bases: Sequence[Version] | None = None,
    said: Said | None = None,
) -> ContentRef | None:
    """Cut, pack and make durable the files that come, and the manifest that lists them with those that are `kept`.

    None if there is no file. With `bases`, the versions that it follows, the whole is said as a delta too; with `said`,
    a text is among the files.

    Raises what `incoming` raises, `BadInput` for names that no manifest holds, `LocalFailure`.
    """
    shelf = _Shelf(agent, space, kept, said)
    try:
        async for event in incoming:
            content = await shelf.take(event)
            if shelf.complete:
                if content is not None and bases is not None:
                    await say_as_delta(agent, space, content.stream, bases, shelf.packs)
                return content
    except BaseException:
        await shelf.drop()
        raise
    await shelf.drop()
    raise LocalFailure(Code.INTERRUPTED, "the files stopped coming before their end; nothing was published")


class _Shelf:
    """The files of one publication as they arrive."""

    def __init__(self, agent: Agent, space: bytes, kept: Sequence[ManifestEntry], said: Said | None) -> None:
        self._agent = agent
        self._space = space
        self._kept = kept
        self._said = said
        self._build: PackBuild | None = None
        self._files = [*kept]
        self._path = ""
        self._cutter = Cutter()
        self._chunks: list[ChunkRef] = []
        self.packs: list[FinishedPack] = []
        self.complete = False

    async def take(self, event: FileEvent) -> ContentRef | None:
        """Take the next event; what `Complete` gives is the whole."""
        match event:
            case FileStart(path, _):
                self._path, self._cutter, self._chunks = path, Cutter(), []
            case FileData(data):
                await self._add(self._cutter.feed(data))
            case FileEnd():
                await self._add(self._cutter.finish())
                size = sum(chunk.length for chunk in self._chunks)
                stream = await (await self._building()).stream(tuple(self._chunks))
                self._files.append(ManifestEntry(self._path, size, stream))
            case Restart():
                await self.drop()
            case Complete():
                if self._said is not None:
                    await self._say(self._said)
                content = await self._finish()
                self.complete = True
                return content
        return None

    async def drop(self) -> None:
        """Keep nothing of what came."""
        self._files = [*self._kept]
        if self._build is not None:
            build, self._build = self._build, None
            await build.abort()

    async def _say(self, said: Said) -> None:
        """Put the text among the files that came, or in the place of the one that the item has."""
        if not self._files:
            self._files += await self._others(said.beside)
        if any(file.path == TEXT_FILE for file in self._files):
            raise BadInput(Code.BAD_NAME, f"{TEXT_FILE}: a text is kept under this name; leave one out", path=TEXT_FILE)
        if said.data:
            await self.take(FileStart(TEXT_FILE, len(said.data)))
            await self.take(FileData(said.data))
            await self.take(FileEnd())
        elif not self._files:
            raise BadInput(Code.NOTHING_TO_SEND, "without its text nothing would be left; `withdraw` takes it away")

    async def _others(self, kept: Kept | None) -> list[ManifestEntry]:
        """All files of a version but its text."""
        if kept is None:
            return []
        files = await Manifests().of(self._agent, kept.content.stream)
        if files is None:
            raise LocalFailure(
                Code.INCOMPLETE,
                "the files beside this text have not all arrived on this device yet; sync and try again",
            )
        return [file for file in files if file.path != TEXT_FILE]

    async def _building(self) -> PackBuild:
        if self._build is None:
            self._build = await self._agent.replica.content.build(self._space, unsent=True)
        return self._build

    async def _add(self, chunks: Sequence[bytes]) -> None:
        build = await self._building()
        for chunk in chunks:
            self._chunks.append(ChunkRef(await build.chunk(chunk), len(chunk)))

    async def _finish(self) -> ContentRef | None:
        if not self._files:
            return None
        manifest = await asyncio.to_thread(encode_manifest, self._files)
        self._chunks = []
        await self._add(await asyncio.to_thread(cut, manifest))
        build = await self._building()
        stream = await build.stream(tuple(self._chunks))
        self.packs = await build.finish()
        content = ContentRef(stream, sum(file.size for file in self._files), len(self._files))
        # saying it as a delta needs the room
        self._files, self._build = [], None
        return content
