"""What comes while a machine is just destroying what was erased, and what its looks cost (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import nullcontext

import pytest

from protocol.clock import DAY_MS
from protocol.limits import MAX_ERASED_PER_DAY
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.model.work import ContentRef, HandIn, ItemKind, Revision, content_of
from protocol.replica.at_work.replica import Draft
from protocol.replica.content.kept.packs import PackFolder
from protocol.replica.interfaces import Deciding, Held
from protocol.replica.upkeep.content_to_go import LEFT_MARKS, ContentToGo, _Named
from protocol.replica.upkeep.named_lists import LISTS_MARKS, NamedLists
from protocol.roles import PersonRole
from protocol.transfer.manifest import ManifestEntry, encode_manifest
from sync_agent.hand_ins.handing_in import give_feedback
from sync_agent.upkeep.erasing import destroy_erased
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, read


def when_next_content_is_looked_for(device: Device, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """A sweep knows by then what it will destroy, and has destroyed nothing."""
    content = device.agent.replica.content
    spaces_of = content.spaces_of

    async def after(streams: Collection[bytes]) -> set[bytes]:
        content.spaces_of = spaces_of  # type: ignore[method-assign]
        await meanwhile()
        return await spaces_of(streams)

    content.spaces_of = after  # type: ignore[method-assign]


def when_next_content_is_to_go(device: Device, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """A sweep has looked by then at all that names it."""
    content = device.agent.replica.content
    forget = content.forget

    async def after(
        spaces: Collection[bytes], streams: Collection[bytes], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        content.forget = forget  # type: ignore[method-assign]
        await meanwhile()
        return await forget(spaces, streams, deciding)

    content.forget = after  # type: ignore[method-assign]


def when_something_is_gone(device: Device, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """A sweep has destroyed by then what was to go in the classes, and has not come to its end."""
    store = device.agent.replica.store
    erase, held = store.erase, store.held

    async def before(ids: Iterable[bytes], marks: Mapping[str, bytes | None] | None = None) -> None:
        gone = list(ids)
        await erase(gone, marks)
        if gone:
            store.erase, store.held = erase, after  # type: ignore[method-assign]

    async def after(ids: Collection[bytes] | None = None) -> list[Held]:
        store.held = held  # type: ignore[method-assign]
        await meanwhile()
        return await held(ids)

    store.erase = before  # type: ignore[method-assign]


async def days_of_looking(room: Classroom, device: Device, days: int = 7) -> None:
    for _ in range(days):
        await destroy_erased(device.agent)
        room.territory.clock.advance(DAY_MS)


async def about(room: Classroom, device: Device, person: bytes) -> list[Entry]:
    stored = await device.agent.replica.store.scan(room.space)
    return [each.entry for each in stored if each.entry.header.subject == person]


async def says(room: Classroom, device: Device, kind: Kind, payload: bytes) -> None:
    """The kit's word, which comes to a machine at once."""
    territory = room.territory
    said = await territory.kit_says(territory.id, kind, payload)
    await device.agent.replica.admit([said], source=b"kit", now_ms=territory.clock())


async def _whatever_comes(*_: object) -> bool:
    return True


@attack("a stolen server wipes schools", off={"protocol.replica.upkeep.eraser.Eraser._count_still": _whatever_comes})
async def test_the_kits_word_is_heeded_by_a_sweep_that_is_under_way(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher):
        await device.session.sync()
    heads = {
        head
        for space in territory.replica.door.spaces()
        for head in await territory.replica.tips(space, territory.keys.signing.public)
    }
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)

    async def the_kit_cuts_off() -> None:
        cut = Revocation(territory.keys.signing.public, tuple(sorted(heads))).encode()
        await says(room, teacher, Kind.REVOKE, cut)

    when_next_content_is_looked_for(teacher, the_kit_cuts_off)
    swept = await destroy_erased(teacher.agent)
    assert (await teacher.agent.replica.view(room.space)).roster.cut  # it has come
    assert not swept.entries
    assert all(entry.payload for entry in await about(room, teacher, lea))


async def _no_place(*_: object) -> None:
    return


@attack("a stolen server wipes schools", off={"protocol.replica.upkeep.eraser.Eraser._take_places": _no_place})
async def test_an_order_that_is_taken_back_while_it_is_carried_out_makes_no_room_for_another(room: Classroom) -> None:
    """Somebody takes one of their own erasures back each time that the machine has destroyed whom it was about."""
    territory, pc = room.territory, await room.machine()
    pupils = [await territory.person(f"Élève {number}", PersonRole.PUPIL, room.space) for number in range(25)]
    erased = {pupil: await territory.say(territory.id, Kind.ERASE, Erasure(pupil).encode()) for pupil in pupils}
    await pc.session.sync()
    await days_of_looking(room, pc)
    taken_back = set[bytes]()

    async def takes_back_who_has_gone() -> None:
        gone = {pupil for pupil in pupils if not any(one.payload for one in await about(room, pc, pupil))}
        for pupil in sorted(gone - taken_back)[:1]:
            taken_back.add(pupil)
            when_something_is_gone(pc, takes_back_who_has_gone)
            await says(room, pc, Kind.RULING, Ruling((), (erased[pupil].id,)).encode())

    when_something_is_gone(pc, takes_back_who_has_gone)
    await destroy_erased(pc.agent)
    assert taken_back
    gone = [pupil for pupil in pupils if not any(one.payload for one in await about(room, pc, pupil))]
    assert len(gone) == MAX_ERASED_PER_DAY


async def test_words_about_other_things_postpone_no_sweep(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher):
        await device.session.sync()
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    other = await territory.say(territory.id, Kind.ERASE, Erasure(bytes(16)).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)

    async def takes_back_another() -> None:
        await says(room, teacher, Kind.RULING, Ruling((), (other.id,)).encode())
        when_next_content_is_looked_for(teacher, takes_back_another)

    when_next_content_is_looked_for(teacher, takes_back_another)
    assert (await destroy_erased(teacher.agent)).entries
    assert not any(entry.payload for entry in await about(room, teacher, lea))


REMARK = "Léa a triché".encode() * 50


async def remarked(room: Classroom, teacher: Device, pc: Device) -> bytes:
    """A teacher has said something about Léa's work in a file; its stream."""
    work = await room.hand_in(pc, await assignment(room, teacher, pc), WORK)
    for device in (pc, teacher):
        await device.session.sync()
    await give_feedback(teacher.agent, work, "vu", None, redo=False, incoming=Given({"remarque.txt": REMARK}))
    for device in (teacher, pc):
        await device.session.sync()
    feedback = (await teacher.agent.replica.view(room.space)).coursework.hand_ins[work].feedback
    assert feedback is not None
    assert feedback.record.content is not None
    (file,) = await teacher.agent.holdings.manifest(feedback.record.content.stream)
    return file.stream


def bad_list(*streams: bytes) -> bytes:
    """What names these streams as files, the last of which has a name that no disk takes."""
    named = [ManifestEntry(f"f{number}.txt", 1, stream) for number, stream in enumerate(streams)]
    good = encode_manifest([*named, ManifestEntry("z.txt", 1, bytes(32))])
    return good.replace(b"z.txt", b"z.tx ")


async def brought(room: Classroom, thief: Device, data: bytes) -> bytes:
    """A stream of these bytes, which the server has."""
    published = await room.publish(thief, {"x.bin": data})
    await thief.session.sync()
    item = (await thief.agent.replica.view(room.space)).coursework.items[published.item]
    assert item.shown.record.content is not None
    (file,) = await thief.agent.holdings.manifest(item.shown.record.content.stream)
    return file.stream


async def named_as_lessons(room: Classroom, *streams: bytes) -> None:
    """The server's key says that these are the files of so many lessons."""
    territory = room.territory
    drafts = [
        Draft(
            room.space,
            Kind.REVISION,
            territory.certificate.id,
            Revision(ItemKind.LESSON, f"Leçon {number}", None, None, ContentRef(stream, 1, 1)).encode(),
        )
        for number, stream in enumerate(streams)
    ]
    await territory.replica.write(
        drafts, author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )


def reads_of(device: Device, streams: Collection[bytes]) -> list[bytes]:
    """Grows with each look into one of these streams."""
    content, found = device.agent.replica.content, []
    read = content.read_stream

    def counting(stream: bytes, start: int = 0) -> AsyncIterator[bytes]:
        if stream in streams:
            found.append(stream)
        return read(stream, start)

    content.read_stream = counting  # type: ignore[method-assign]
    return found


_sought_in = NamedLists.sought_in


async def _each_time_anew(lists: NamedLists, stream: bytes) -> frozenset[bytes]:
    lists._names.clear()
    return await _sought_in(lists, stream)


_named = ContentToGo._named


async def _for_each_entry(content: ContentToGo, entries: Iterable[Entry], *, are_going: bool = False) -> _Named:
    found = _Named()
    for entry in entries:
        found.add(await _named(content, [entry], are_going=are_going))
    return found


LISTS = "one long list, named by thousands of lessons, keeps a machine from forgetting anybody"


@attack(
    LISTS,
    off={
        "protocol.replica.upkeep.named_lists.NamedLists.sought_in": _each_time_anew,
        "protocol.replica.upkeep.content_to_go.ContentToGo._named": _for_each_entry,
    },
)
async def test_a_sweep_looks_into_a_list_once_however_many_entries_name_it(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc, thief = await room.teacher(), await room.machine(), await room.teacher()
    await remarked(room, teacher, pc)
    stream = await brought(room, thief, bad_list(bytes(32)))
    await named_as_lessons(room, *[stream] * 30)
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)
    reads = reads_of(teacher, [stream])
    assert (await destroy_erased(teacher.agent)).entries
    assert len(reads) == 1


async def _nothing_is_noted(*_: object) -> None:
    """A sweep that is cut off begins anew."""


@attack(LISTS, off={"protocol.replica.upkeep.named_lists.NamedLists._note": _nothing_is_noted})
async def test_a_sweep_that_was_cut_off_goes_on_after_the_lists_that_it_has_looked_into(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc, thief = await room.teacher(), await room.machine(), await room.teacher()
    await remarked(room, teacher, pc)
    streams = [await brought(room, thief, bad_list(bytes([number]) * 32)) for number in range(6)]
    await named_as_lessons(room, *streams)
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)
    monkeypatch.setattr("protocol.replica.upkeep.named_lists._NOTED_AT_ONCE", 2)
    reads = reads_of(teacher, streams)
    with monkeypatch.context() as patched:

        async def cut_off(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(teacher.agent.replica.content, "forget", cut_off)
        with pytest.raises(KeyboardInterrupt):
            await destroy_erased(teacher.agent)
    assert sorted(reads) == sorted(streams)
    assert (await destroy_erased(teacher.agent)).entries
    assert len(reads) <= len(streams) + 1  # what was not noted yet
    assert not await teacher.agent.replica.store.marks(LISTS_MARKS)


def _names_do_not_matter(_data: bytes) -> None:
    """What is no good list keeps what it names."""


@attack(
    "a PC hands in what is to be forgotten",
    off={"protocol.replica.upkeep.named_lists.decode_manifest": _names_do_not_matter},
)
async def test_a_list_that_nobody_can_read_keeps_no_remark(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc, thief = await room.teacher(), await room.machine(), await room.teacher()
    remark = await remarked(room, teacher, pc)
    await named_as_lessons(room, await brought(room, thief, bad_list(remark)))
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)
    assert (await destroy_erased(teacher.agent)).entries
    assert not await teacher.agent.replica.content.known_streams([remark])


MODEL = "corrigé type".encode() * 1000


async def given_to_both(room: Classroom, teacher: Device, pc: Device) -> tuple[bytes, Callable[[], Awaitable[None]]]:
    """The stream of a file that Léa was given, who is to be forgotten; and how the teacher gives it to Tom."""
    territory, lea = room.territory, room.pupil_person
    task = await assignment(room, teacher, pc)
    hers = await room.hand_in(pc, task, WORK)
    room.pupil_person = await territory.person("Tom", PersonRole.PUPIL, room.space)
    await pc.session.sync()
    his = await room.hand_in(pc, task, {"tom.txt": b"tom"})
    for device in (pc, teacher):
        await device.session.sync()

    async def give(work: bytes) -> None:
        await give_feedback(teacher.agent, work, "vu", None, redo=False, incoming=Given({"corrige.txt": MODEL}))

    await give(hers)
    for device in (teacher, pc, teacher):
        await device.session.sync()
    feedback = (await teacher.agent.replica.view(room.space)).coursework.hand_ins[hers].feedback
    assert feedback is not None
    assert feedback.record.content is not None
    (file,) = await teacher.agent.holdings.manifest(feedback.record.content.stream)
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await teacher.session.sync()
    await days_of_looking(room, teacher)
    return file.stream, lambda: give(his)


async def _nothing_came(*_: object) -> bool:
    return False


@attack(
    "an erasure takes the work of others with it",
    off={"protocol.replica.upkeep.content_to_go.ContentToGo._has_more": _nothing_came},
)
async def test_what_is_given_while_a_sweep_is_under_way_stays(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    stream, give = await given_to_both(room, teacher, pc)
    when_next_content_is_to_go(teacher, give)
    assert (await destroy_erased(teacher.agent)).entries
    assert await teacher.agent.replica.content.known_streams([stream])
    assert await read(teacher.agent.replica, stream) == MODEL


async def _any_that_names_content(_content: ContentToGo, entries: Iterable[Entry], _going: frozenset[bytes]) -> bool:
    return any(content_of(entry) for entry in entries)


@pytest.mark.parametrize("kind", [Kind.HAND_IN, Kind.REVISION])
@attack(
    "a PC hands in what is to be forgotten",
    off={"protocol.replica.upkeep.content_to_go.ContentToGo._may_keep": _any_that_names_content},
)
async def test_words_about_other_content_between_the_rounds_of_a_look_keep_no_remark(
    room: Classroom, kind: Kind
) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    remark = await remarked(room, teacher, pc)
    lesson = (await room.publish(teacher, {"x.bin": b"une autre"})).item
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    for device in (teacher, pc):
        await device.session.sync()
    await days_of_looking(room, pc)
    items, writer = (await pc.agent.replica.view(room.space)).coursework.items, pc if kind == Kind.HAND_IN else teacher
    listed = items[lesson].shown.record.content
    assert listed is not None
    content, forget = pc.agent.replica.content, pc.agent.replica.content.forget

    async def says_something(
        spaces: Collection[bytes], streams: Collection[bytes], deciding: Deciding = nullcontext
    ) -> list[bytes]:
        right = (await writer.agent.right(room.space, kind)).grant
        for ref in (ContentRef(territory.entropy(32), 1000, 0), listed):
            if kind == Kind.HAND_IN:
                said = Draft(room.space, kind, right, HandIn(ref, None).encode(), subject=b"t" * 16, target=lesson)
            else:
                said = Draft(room.space, kind, right, Revision(ItemKind.LESSON, "x", None, None, ref).encode())
            written = await writer.agent.write(said)
            await pc.agent.replica.admit(written, source=b"thief", now_ms=territory.clock())
        return await forget(spaces, streams, deciding)

    content.forget = says_something  # type: ignore[method-assign]
    assert (await destroy_erased(pc.agent)).entries
    assert not await content.known_streams([remark])


async def test_content_waits_for_the_next_look_while_something_is_written_and_no_payload_does(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    lea = room.pupil_person
    stream, _ = await given_to_both(room, teacher, pc)
    content = teacher.agent.replica.content
    build = await content.build(room.space, unsent=True)
    assert (await destroy_erased(teacher.agent)).entries
    assert not any(entry.payload for entry in await about(room, teacher, lea))
    assert await content.known_streams([stream])
    await build.abort()
    await destroy_erased(teacher.agent)
    assert not await content.known_streams([stream])
    assert not await teacher.agent.replica.store.marks(LEFT_MARKS)


async def _whatever_is_open(folder: PackFolder) -> bool:
    return any(build.is_open for build in folder._builds)


@attack(
    "a PC hands in what is to be forgotten",
    off={"protocol.replica.content.kept.packs.PackFolder.is_building": _whatever_is_open},
)
async def test_who_hands_something_in_without_end_keeps_no_remark(room: Classroom) -> None:
    territory, lea = room.territory, room.pupil_person
    teacher, pc = await room.teacher(), await room.machine()
    remark = await remarked(room, teacher, pc)
    await territory.say(territory.id, Kind.ERASE, Erasure(lea).encode())
    await pc.session.sync()
    await days_of_looking(room, pc)
    content = pc.agent.replica.content
    assert await content.known_streams([remark])
    build = await content.build(room.space, unsent=True, sealed=True)
    assert (await destroy_erased(pc.agent)).entries
    assert not await content.known_streams([remark])
    await build.abort()
