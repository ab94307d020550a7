"""Pupils' work from this device, and what a teacher's device does with it: hand in, list, open, give feedback (§5).

Rules:
- the work is sealed while it arrives, under a key of its own, in constant memory; only readers learn names and sizes;
- the packs become durable first, then in one transaction the hand-in, the wraps of its key for all readers, and the
  mark with the key: no moment exists in which the hand-in is there and its key is lost;
- the key is kept in the mark, sealed, so that readers who come later can be given it (`sync_agent.hand_ins.wraps`);
- a hand-in is opened whole or not at all: it is read to its end once before a file appears, and the receipt is written
  after the last file is where the teacher wanted it;
- late work is taken and marked, and so is work for an item that was withdrawn meanwhile: nobody is turned away;
- no word of others' makes it late: a date that such a word has moved is told beside what the device knows itself;
- but a script in a pupil's browser is: what one pupil hands in on one device in a day has a bound, and so has what all
  do there, since all that the device may say in the class is everybody's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from protocol.clock import DAY_MS, rfc3339
from protocol.errors import BadInput, Code, LocalFailure, PeerFault, Refused
from protocol.folds.coursework import HandInState, Item, Work, by_turns, latest_first
from protocol.folds.hand_in_keys import wraps_for
from protocol.folds.remarks import FeedbackNote
from protocol.limits import MAX_MOVED_MS, MAX_PARENTS, MAX_TEXT_CHARS
from protocol.model.entry import Kind
from protocol.model.work import MAX_MARK_CHARS, ContentRef, Feedback, HandIn, ItemKind, Receipt
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import (
    JSON,
    Complete,
    FileData,
    FileEnd,
    FileStart,
    Incoming,
    Outgoing,
    Restart,
)
from protocol.replica.console.parameters import shown
from protocol.replica.content.holdings import work_need
from protocol.replica.interfaces import EntryStore
from protocol.replica.office.namesakes import called_in
from protocol.replica.office.said_before import overlooks
from protocol.replica.office.whose_words import names_of_words, whose_words
from protocol.rights.roster import Roster
from protocol.roles import SEES_ALL_WORK, PersonRole
from protocol.transfer.chunking import ChunkRef
from protocol.trust.sealing import CONTENT_KEY_BYTES, SealedFile, SealReader, SealWriter, wrap_info
from sync_agent.app import Agent
from sync_agent.coursework.past_years import past_spaces
from sync_agent.coursework.reading import Manifests, files_json, find_item, find_work
from sync_agent.hand_ins.copies import lasting_state
from sync_agent.hand_ins.file_names import SealedLists
from sync_agent.hand_ins.for_good import opened_for_good
from sync_agent.hand_ins.looked_at import all_eyes, eyes_in
from sync_agent.hand_ins.opening import opening_key
from sync_agent.hand_ins.own_words import OwnWords, own_words
from sync_agent.hand_ins.wraps import Kept, first_readers_of, mark_of, wrap_for_the_rest
from sync_agent.keys.key_wraps import open_given_keys
from sync_agent.machine.called import is_called_anothers
from sync_agent.machine.marks import CARRIED_MARKS, ENTRUSTED_MARKS, FORGETS_MARKS, REFUSED_MARKS

MAX_HAND_INS_A_DAY: Final = 500
MAX_HAND_INS_OF_ALL_A_DAY: Final = 1_000
"""Under all names together: whoever sits there may take any, and names are as many as pupils."""
_MOST_TOLD: Final = 10
"""Of what others say of a work."""

# --- handing in -------------------------------------------------------------------------------------------------------


async def hand_in(
    agent: Agent,
    wanted: bytes,
    person: bytes,
    files: Sequence[tuple[str, int]],
    incoming: Incoming,
    outgoing: Outgoing,
) -> bytes:
    """Seal `files` (path, size), whose bytes `incoming` brings in this order, as the work of `person`; its id.

    Raises `BadInput` (UNKNOWN_ITEM, NOT_AN_ASSIGNMENT, UNKNOWN_PERSON, NOTHING_TO_SEND, BAD_NAME, TOO_MANY_HAND_INS …),
    `Refused(NO_RIGHT)`, `LocalFailure` (CHANGING_FILE when the bytes are not those of `files`, DISK_FULL …).
    """
    item = await find_item(agent, wanted)
    if item.shown.record.kind is not ItemKind.ASSIGNMENT:
        raise BadInput(
            Code.NOT_AN_ASSIGNMENT, f"“{item.shown.record.title}” is no assignment; nothing can be handed in for it"
        )
    known = (await agent.replica.view(item.space)).roster.persons.get(person)
    if known is None:
        raise BadInput(Code.UNKNOWN_PERSON, f"nobody on this class list is “{person.hex()}”", person=person.hex())
    if known.role is not PersonRole.PUPIL:
        raise BadInput(Code.UNKNOWN_PERSON, f"“{known.name}” is no pupil of this class", person=person.hex())
    await _check_days_bound(agent, item.space, person)
    authority = await agent.right(item.space, Kind.HAND_IN)
    if item.withdrawn:
        await outgoing.progress("this assignment has been withdrawn; the work is handed in all the same")
    content_key = agent.entropy(CONTENT_KEY_BYTES)
    content = await _seal(agent, item.space, content_key, files, incoming)
    async with agent.writing:
        # again: others may have handed in while this was being sealed
        await _check_days_bound(agent, item.space, person)
        readers = await first_readers_of(agent, item.space)
        info = wrap_info(space=item.space, item=item.id, person=person, author=agent.device, commitment=content.stream)
        record = HandIn(content, item.shown.id, agent.enrolment.device_name, _clock_if_moved(agent))
        hand_in_draft = Draft(
            item.space,
            Kind.HAND_IN,
            authority.grant,
            record.encode(),
            subject=person,
            target=item.id,
            parents=await _before(agent, item, person),
        )
        wrap_draft = Draft(
            item.space,
            Kind.WRAP,
            authority.grant,
            wraps_for(readers, content_key, info, agent.entropy).encode(),
            subject=person,
            of_previous=True,
        )
        async with agent.key_slots.sealing(content_key) as sealed:
            kept = Kept(sealed).encode()
            entries = await agent.write(hand_in_draft, wrap_draft, marks=lambda written: {mark_of(written[0].id): kept})
        await wrap_for_the_rest(agent, entries[0], content_key)
    return entries[0].id


def _clock_if_moved(agent: Agent) -> int | None:
    """What this device knows of the time, where others' words date what it says now far beyond its own clock.

    A server's answer makes nothing surer here: whoever dates words may sign these too (docs/adr/0622).
    """
    now_ms = agent.now_ms()
    is_moved = agent.replica.next_ms(now_ms) > now_ms + MAX_MOVED_MS
    return max(now_ms, agent.replica.proven_ms or 0) if is_moved else None


async def _before(agent: Agent, item: Item, person: bytes) -> tuple[bytes, ...]:
    """What is known of this pupil's for this item: what is handed in now comes after it, whatever dates it bears."""
    view = await agent.replica.view(item.space)
    who = view.roster.who
    works = [each for each in view.coursework.hand_ins.values() if each.item == item.id]
    mine = latest_first((each for each in works if who(each.person) == who(person)), agent.now_ms())
    return tuple(each.id for each in by_turns(mine, MAX_PARENTS))


async def _check_days_bound(agent: Agent, space: bytes, person: bytes) -> None:
    """Raises `BadInput(TOO_MANY_HAND_INS)`. What this device said with keys that it had before counts as well."""
    now_ms = agent.now_ms()
    written = [
        entry for key in (agent.device, *agent.former) for entry in await agent.replica.store.authored(space, key)
    ]
    today = [
        entry.header.subject
        for entry in written
        if entry.header.kind == Kind.HAND_IN and abs(now_ms - entry.timestamp_ms) < DAY_MS
    ]
    if today.count(person) >= MAX_HAND_INS_A_DAY:
        raise BadInput(
            Code.TOO_MANY_HAND_INS,
            f"{today.count(person)} works of this pupil have been handed in on this computer within a day; "
            "go on tomorrow, or on another computer",
            person=person.hex(),
        )
    if len(today) >= MAX_HAND_INS_OF_ALL_A_DAY:
        raise BadInput(
            Code.TOO_MANY_HAND_INS,
            f"{len(today)} works for this class have been handed in on this computer within a day; "
            "go on tomorrow, or on another computer",
        )


async def _seal(
    agent: Agent, space: bytes, content_key: bytes, files: Sequence[tuple[str, int]], incoming: Incoming
) -> ContentRef:
    writer = SealWriter(content_key, [SealedFile(path, size) for path, size in files])
    build = await agent.replica.content.build(space, unsent=True, sealed=True)
    try:
        chunks = sealed_chunks(writer, files, incoming)
        refs = [ChunkRef(await build.chunk(chunk), len(chunk)) async for chunk in chunks]
        stream = await build.stream(tuple(refs))
        await build.finish()
    except BaseException:
        await build.abort()
        raise
    return ContentRef(stream, sum(ref.length for ref in refs), 0)


async def sealed_chunks(
    writer: SealWriter, files: Sequence[tuple[str, int]], incoming: Incoming
) -> AsyncIterator[bytes]:
    """The sealed chunks of what comes, which must be `files` exactly."""
    announced = iter(files)
    async for event in incoming:
        match event:
            case FileStart(path, size):
                if (path, size) != next(announced, None):
                    raise _changing()
            case FileData(data):
                for chunk in writer.feed(data):
                    yield chunk
            case FileEnd():
                pass
            case Restart():
                # the sizes were sealed before the first byte: the caller gives the command again with the new ones
                raise _changing()
            case Complete():
                if next(announced, None) is not None:
                    raise _changing()
                for chunk in writer.finish():
                    yield chunk
                return
    raise LocalFailure(Code.INTERRUPTED, "the files stopped coming before their end; nothing was handed in")


def _changing() -> LocalFailure:
    return LocalFailure(
        Code.CHANGING_FILE, "a file changes while it is being handed in; close the program that writes it"
    )


# --- opening ----------------------------------------------------------------------------------------------------------


async def open_hand_in(agent: Agent, wanted: bytes, outgoing: Outgoing) -> None:
    """Unseal a hand-in's files for a teacher, once all of it has proved whole.

    Raises `BadInput(UNKNOWN_HAND_IN)`, `Refused(CANNOT_READ)` where this device holds no key that opens it,
    `LocalFailure(INCOMPLETE | DAMAGED)`.
    """
    work = await find_work(agent, wanted)
    content_key = await _content_key(agent, work)
    if not await agent.holdings.is_complete(work_need(work)):
        raise LocalFailure(
            Code.INCOMPLETE, "this work has not arrived on this device yet; sync and try again", hand_in=wanted.hex()
        )
    async with aclosing(unsealed(agent, work, content_key)) as pieces:
        async for _ in pieces:
            pass
    await agent.note_opened(work.record.content.stream)
    opened = -1
    async with aclosing(unsealed(agent, work, content_key)) as pieces:
        async for files, index, piece in pieces:
            while opened < index:
                if opened >= 0:
                    await outgoing.end()
                opened += 1
                await outgoing.start(files[opened].path, files[opened].size)
            if piece:
                await outgoing.data(piece)
    if opened >= 0:
        await outgoing.end()


async def confirm_opened(agent: Agent, wanted: bytes) -> None:
    """Write the teacher's receipt for a hand-in whose files are where the teacher wanted them; once only.

    Raises as `open_hand_in` does, but for the content.
    """
    async with agent.writing:
        work = await find_work(agent, wanted)
        await _content_key(agent, work)
        is_said = any(said.by == agent.device and said.says is HandInState.TEACHER for said in work.witnesses)
        if is_said or (await _is_seen_and_for_good(agent, work)):
            return
        authority = await agent.right(work.space, Kind.RECEIPT_TEACHER)
        receipt = Receipt(work.record.content.stream).encode()
        await agent.write(
            Draft(
                work.space,
                Kind.RECEIPT_TEACHER,
                authority.grant,
                receipt,
                subject=work.person,
                target=work.id,
            )
        )


async def _is_seen_and_for_good(agent: Agent, work: Work) -> bool:
    """Whether it is said already, for whoever waits for it and for this device's own pages, that it was opened."""
    is_opened = await opened_for_good(agent, work.space)
    return is_opened(work) and (await eyes_in(agent, work.space)).count(work.opened_under)


async def _content_key(agent: Agent, work: Work) -> bytes:
    """The content key, by a wrap for this device's person. Raises `Refused(CANNOT_READ | NO_RIGHT)`."""
    try:
        await agent.right(work.space, Kind.RECEIPT_TEACHER)
    except Refused as refusal:
        raise (refusal if is_called_anothers(refusal) else _cannot_read(work)) from None
    await open_given_keys(agent)
    found = await opening_key(agent, work)
    if found is None:
        raise _cannot_read(work)
    return found


async def unsealed(
    agent: Agent, work: Work, content_key: bytes
) -> AsyncGenerator[tuple[tuple[SealedFile, ...], int, bytes], None]:
    """All files, the index of the one that goes on, and its next bytes; at the end the last index and no byte.

    Raises `LocalFailure(INCOMPLETE | DAMAGED)`.
    """
    stream = work.record.content.stream
    chunks = await agent.replica.content.chunk_list(stream) or ()
    reader = SealReader(content_key)
    left = len(chunks)
    try:
        async with aclosing(agent.holdings.read_checked(stream)) as sealed:
            async for chunk in sealed:
                left -= 1
                for index, piece in reader.feed(chunk, last=left == 0):
                    yield reader.files or (), index, piece
        reader.finish()
    except PeerFault as fault:
        raise LocalFailure(
            Code.DAMAGED,
            "this work cannot be opened: it was sealed wrongly or has been damaged; ask for it again",
            hand_in=work.id.hex(),
            reason=fault.code,
        ) from fault
    files = reader.files or ()
    yield files, len(files) - 1, b""


def _cannot_read(work: Work) -> Refused:
    return Refused(
        Code.CANNOT_READ,
        "this device cannot open this work: only a teacher of the class can, with the device that holds their key. "
        "A teacher's new computer gets it once another of theirs has confirmed it (`sync-agent key readers` on both "
        "shows the same six words), or by `sync-agent key open` with the eight words of a phrase; what somebody says "
        "to have opened once a colleague's computer that opens it has confirmed this one, or by "
        "`sync-server rewrap --kit`",
        hand_in=work.id.hex(),
    )


# --- feedback ---------------------------------------------------------------------------------------------------------


async def give_feedback(
    agent: Agent,
    wanted: bytes,
    words: str,
    mark: str | None,
    *,
    redo: bool,
    incoming: Incoming,
    take_back: bool = False,
) -> Sequence[FeedbackNote]:
    """Say something about a hand-in, with files if there are any; gives in whose place that is (`own_words`).

    What others said stands beside it. With `take_back` nothing takes its place, as it was for another pupil, say; else
    nothing is no feedback.

    Raises `BadInput` (UNKNOWN_HAND_IN, NOTHING_TO_SEND, USAGE for what is too long …), `Refused(NO_RIGHT)`,
    `LocalFailure`.
    """
    work = await find_work(agent, wanted)
    authority = await agent.right(work.space, Kind.FEEDBACK)
    from sync_agent.coursework.publisher import check_text, store_files  # noqa: PLC0415 — whoever reads does without

    check_text(words, "text", MAX_TEXT_CHARS)
    check_text(mark or "", "mark", MAX_MARK_CHARS)
    content = await store_files(agent, work.space, incoming)
    record = Feedback(words, mark or None, redo, content)
    _check_says_something(record, (await own_words(agent, work)).replaced, take_back=take_back)
    async with agent.writing:
        work = await find_work(agent, wanted)
        own = await own_words(agent, work)
        draft = Draft(
            work.space,
            Kind.FEEDBACK,
            authority.grant,
            record.encode(),
            subject=work.person,
            target=work.id,
            parents=_to_replace(work, own),
        )
        is_said = [note.record for note in own.replaced] == [record] and not own.by_ruling
        if is_said and not await overlooks(agent.replica, agent.device, draft):
            return ()
        await agent.write(draft)
    return own.replaced


def _to_replace(work: Work, own: OwnWords) -> tuple[bytes, ...]:
    """What this person said first: it is replaced though all others' words are kept from whoever reads this."""
    return tuple(dict.fromkeys((*(note.id for note in own.known), *work.remark_ids)))[:MAX_PARENTS]


def _check_says_something(record: Feedback, before: Sequence[FeedbackNote], *, take_back: bool) -> None:
    if take_back and not record.says_nothing:
        raise BadInput(Code.USAGE, "to take back what was said, say nothing else: no text, mark, try or file")
    if take_back and not before:
        raise BadInput(
            Code.NOTHING_TO_SEND,
            "nothing has been said of this work in your name, on this computer or on one that has confirmed it, that "
            "could be taken back",
        )
    if record.says_nothing and not take_back:
        add = "; `--take-back` takes back what you said" if before else ""
        raise BadInput(Code.NOTHING_TO_SEND, f"feedback says something: a text, a mark, another try, or files{add}")


async def told_of_feedback(agent: Agent, wanted: bytes, before: Sequence[FeedbackNote]) -> list[str]:
    """What is no longer said of a hand-in, and what others say beside it, with whose words these are."""
    work = await find_work(agent, wanted)
    roster, own = (await agent.replica.view(work.space)).roster, await own_words(agent, work)
    others = [note for note in work.remarks if note not in own.replaced and not note.record.says_nothing]
    names = await names_of_words(agent.replica, roster, {note.grant for note in (*others, *before)})

    def told(note: FeedbackNote) -> str:
        name, unseen = names.get(note.grant) or "somebody", ""
        if note in own.beside and note.author in roster.cut:
            name += ", on a computer that was cut off and had not confirmed this one,"
        elif note in own.beside:
            name += ", on a computer that has not confirmed this one,"
            unseen = ". Until it has (`key confirm` there), pupils may be shown what it says alone"
        return f"{name} had said: {_quoted(note.record)}{unseen}"

    lines = [f"this takes the place of what {told(note)}" for note in before[:_MOST_TOLD]]
    return lines + [f"this stands beside what {told(note)}" for note in others[:_MOST_TOLD]]


def _quoted(note: Feedback) -> str:
    count = 0 if note.content is None else note.content.files
    beside = [f"mark {shown(note.mark)}"] if note.mark else []
    beside += ["another try"] if note.redo else []
    beside += [f"{count} {'file' if count == 1 else 'files'}"] if count else []
    also = f" ({', '.join(beside)})" if beside else ""
    return f"“{shown(note.text)}”{also}"


# --- listing ----------------------------------------------------------------------------------------------------------


async def list_hand_ins(
    agent: Agent, item: bytes | None, manifests: Manifests, sealed_lists: SealedLists
) -> list[JSON]:
    """Hand-ins, oldest first: on a teacher's device those of all its spaces, else those made here, but for past years.

    Raises `BadInput(UNKNOWN_ITEM)`.
    """
    await open_given_keys(agent)
    found: list[Work] = []
    past, is_teachers = await past_spaces(agent), await agent.role() in SEES_ALL_WORK
    for space, authority in (await agent.spaces()).items():
        if space in past:
            continue
        works = (await agent.replica.view(space)).coursework.hand_ins.values()
        sees_all = is_teachers and authority.role in SEES_ALL_WORK and agent.replica.door.covers(authority, space)
        found += [work for work in works if sees_all or agent.made(work)]
    if item is not None:
        found = [work for work in found if work.item == item]
        if not found:
            await find_item(agent, item)
    refused = await fate_marks(agent.replica.store)
    eyes, said_by, called, names = await all_eyes(agent), {}, {}, {}
    for space in {work.space for work in found}:
        roster = (await agent.replica.view(space)).roster
        called[space] = await called_in(agent.replica, roster)
        here = [work for work in found if work.space == space]
        said_by[space] = await whose_words(agent.replica, roster, here)
        grants = {note.grant for work in here for note in work.remarks}
        names[space] = await names_of_words(agent.replica, roster, grants)
    return [
        await _work_row(agent, work, refused.keys(), manifests, sealed_lists, called[work.space])
        | {"remarks": [await _remark_row(agent, manifests, note, names[work.space]) for note in work.remarks]}
        | {"by": said_by[work.space](work), "to_open": work.space in eyes and eyes[work.space].have_to_open(work)}
        for work in reversed(latest_first(found, agent.now_ms()))
    ]


async def fate_marks(store: EntryStore) -> dict[str, bytes]:
    """What is known of hand-ins besides the set: refused for good, carried away, entrusted, copied to who forgets."""
    prefixes = (REFUSED_MARKS, CARRIED_MARKS, ENTRUSTED_MARKS, FORGETS_MARKS)
    return {mark: value for prefix in prefixes for mark, value in (await store.marks(prefix)).items()}


def state_of(agent: Agent, roster: Roster, work: Work, fates: Collection[str]) -> HandInState:
    """How far a hand-in has come, by the roster of its space; `fates` are the keys of `fate_marks`."""
    state = lasting_state(agent, roster, work, fates)
    if state is not HandInState.LOCAL:
        return state
    if f"{REFUSED_MARKS}{work.id.hex()}" in fates:
        return HandInState.FAILED
    return HandInState.CARRIED if f"{CARRIED_MARKS}{work.id.hex()}" in fates else HandInState.LOCAL


async def _work_row(
    agent: Agent,
    work: Work,
    refused: Collection[str],
    manifests: Manifests,
    sealed_lists: SealedLists,
    called: Mapping[bytes, str],
) -> dict[str, JSON]:
    view = await agent.replica.view(work.space)
    state = state_of(agent, view.roster, work, refused)
    person = view.roster.named(work.person)
    item = view.coursework.items.get(work.item)
    return {
        "id": work.id.hex(),
        "item": work.item.hex(),
        "person": work.person.hex(),
        "state": state.value,
        "at": rfc3339(work.at_ms),
        "title": None if item is None else item.shown.record.title,
        "name": None if person is None else person.name,
        "called": None if person is None else called[person.id],
        "late": work.late,
        "clock_doubtful": work.clock_doubtful,
        "files": [{"path": path, "size": size} for path, size in await sealed_lists.of(agent, work)],
        "feedback": None if work.feedback is None else await _said_json(agent, manifests, work.feedback.record),
    }


async def _remark_row(
    agent: Agent, manifests: Manifests, note: FeedbackNote, names: Mapping[bytes | None, str]
) -> dict[str, JSON]:
    said = {"id": note.id.hex(), "by": names.get(note.grant), "at": rfc3339(note.at_ms)}
    return {**said, **await _said_json(agent, manifests, note.record)}


async def _said_json(agent: Agent, manifests: Manifests, note: Feedback) -> dict[str, JSON]:
    files = await files_json(agent, manifests, note.content)
    return {"text": note.text, "mark": note.mark, "redo": note.redo, "files": files}
