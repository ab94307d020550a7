"""A server in wrong hands shows of what teachers say the headers alone, and keeps the payloads back (docs/adr/0576)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import PeerFault
from protocol.folds.sign_in import Method, SignInKey, SignInRecord, SignInWraps, Verifier, holders
from protocol.limits import MAX_SIGN_IN_TRIES
from protocol.model.entry import Entry, Kind, parsed
from protocol.model.structure import Erasure, Revocation
from protocol.replica.at_work.replica import Draft, Heard, Replica
from protocol.roles import PersonRole, Role
from sync_agent.keys.phrases import new_phrase
from sync_agent.keys.places import Place
from sync_agent.school.sign_in import Try, tend_sign_in
from sync_agent.upkeep.erasing import destroy_erased
from tests.attacks.test_new_pictures_undone import NEW, tried
from tests.attacks.test_papers_in_whose_place_another_was_drawn import CHEAP, drawn, handed_in, opens
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom, work_of
from tests.harness.commands import Desk
from tests.harness.headers_alone import show_headers_alone
from tests.harness.lost_laptop import another_laptop
from tests.harness.sign_in import PICTURES, WRONG, SignedClass, signed_class
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device

ROW = "a server shows headers alone, and keeps the payloads back"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


def _by_headers(entries: Iterable[Entry]) -> frozenset[bytes]:
    """As if a header alone put a key in the place of another."""
    said = {entry.id: entry.header for entry in entries if entry.header.kind == Kind.PERSON_KEY}
    return frozenset(name for header in said.values() for name in header.parents if name in said)


@attack(ROW, off={"protocol.rights.roster.replaced_keys": _by_headers})
async def test_work_goes_on_being_sealed_to_a_teacher_whose_newest_key_a_pc_lacks(here: Here) -> None:
    territory, space, her = here.room.territory, here.room.space, here.room.teacher_person
    nobody = new_device(Random(5).randbytes)
    await territory.let_in(nobody, Role.TEACHER, space, person=her)
    await territory.say(space, Kind.REVOKE, Revocation(nobody.signing.public, ()).encode())
    for _ in range(2):
        await here.sync(here.teacher)
    said = [one.entry for one in await territory.replica.store.of_kinds(space, [Kind.PERSON_KEY])]
    assert said[-1].header.parents == (said[0].id,), "her laptop has made another key"
    await show_headers_alone(territory, space, her, said[-1].id)
    for _ in range(2):
        await here.sync(here.machine, here.teacher)
    work = await here.room.hand_in(here.machine, here.item, {"autre.odt": b"autre"})
    for _ in range(2):
        await here.sync(here.machine, here.teacher)
    assert len((await work_of(here.machine, here.room, work)).readers) == 2, "the kit and she read it"
    assert await Desk(here.teacher.agent).files("open-hand-in", id=work.hex()) == {"autre.odt": b"autre"}


def _by_payloads(place: Place) -> Iterable[bytes]:
    """As if a phrase alone that can be read ended another."""
    named = {name for entry, _ in place.phrases for name in entry.header.parents}
    return [phrase.agreement for entry, phrase in place.phrases_ever if entry.id in named]


@attack(ROW, off={"sync_agent.keys.places._replaced": _by_payloads})
async def test_a_lost_paper_is_over_for_a_laptop_that_lacks_the_next_one(here: Here) -> None:
    first, territory = here.teacher, here.room.territory
    second = await another_laptop(here, first)
    paper = await drawn(here, first, second, first)
    await new_phrase(second.agent, CHEAP)
    territory.clock.advance(1000)
    await second.session.sync()
    said = await territory.replica.store.scan_kinds([Kind.PHRASE])
    await show_headers_alone(territory, here.room.space, here.room.teacher_person, said[-1].id)
    for _ in range(3):
        territory.clock.advance(DAY_MS)
        await here.sync(first, second, here.machine)
    assert not await opens(here, paper, await handed_in(here, first, second))


async def _what_came_last(self: Replica) -> Heard:
    """As if what is filled were no news."""
    return await self.store.latest(), 0


@attack(ROW, off={"protocol.replica.at_work.replica.Replica.heard": _what_came_last})
async def test_what_is_whole_at_last_is_looked_at_whoever_brings_it(here: Here) -> None:
    first, territory, space = here.teacher, here.room.territory, here.room.space
    await new_phrase(first.agent, CHEAP)
    for _ in range(2):
        await here.sync(first, here.machine)
    (lost,) = [one.entry for one in await territory.replica.store.of_kinds(space, [Kind.PHRASE])]
    await show_headers_alone(territory, space, here.room.teacher_person, lost.id)
    second = await another_laptop(here, first)
    for _ in range(3):
        await here.sync(first, second, first)
    territory.clock.advance(10 * DAY_MS)
    await new_phrase(second.agent, CHEAP)
    for _ in range(3):
        await here.sync(second, first, here.machine)
    before = await _keys_by(second)
    await second.agent.replica.admit([lost], source=b"in a page", now_ms=territory.clock())
    for _ in range(3):
        territory.clock.advance(8 * DAY_MS)
        await here.sync(second)
    assert await _keys_by(second) == before + 1, "what the lost paper opens is over"


async def _keys_by(laptop: Device) -> int:
    said = await laptop.agent.replica.store.scan_kinds([Kind.PERSON_KEY])
    return sum(one.header.author == laptop.agent.device for one in said)


def _is_whole(entry: Entry) -> bool:
    return entry.payload is not None


@attack(ROW, off={"protocol.folds.coursework.is_said": _is_whole})
async def test_a_lesson_that_was_withdrawn_is_so_where_a_pc_lacks_the_payload_of_that(here: Here) -> None:
    territory, space = here.room.territory, here.room.space
    await Desk(here.teacher.agent).ask("withdraw", item=here.item.hex())
    await here.sync(here.teacher)
    (said,) = await territory.replica.store.scan_kinds([Kind.WITHDRAW])
    await show_headers_alone(territory, space, here.item, said.id)
    await here.sync(here.machine)
    assert (await here.machine.agent.replica.view(space)).coursework.items[here.item].withdrawn


# --- sign-in ----------------------------------------------------------------------------------------------------------


@attack(ROW, off={"protocol.folds.sign_in._is_lacking": lambda *_: False})
async def test_pictures_that_somebody_knows_prove_nobody_where_a_pc_lacks_the_next_ones(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        await school.book.set(room.space, {school.lea: (Method.PICTURES, NEW)})
        for _ in range(2):
            await school.teacher.session.sync()
        said = [one.entry for one in await room.territory.replica.store.of_kinds(room.space, [Kind.SIGN_IN])]
        newest = next(one for one in reversed(said) if one.header.subject == school.lea)
        await show_headers_alone(room.territory, room.space, school.lea, newest.id)
        await school.agree()
        assert await tried(school, PICTURES) is not Try.PROVEN
        await school.book.set(room.space, {school.lea: (Method.PICTURES, "7-7-7")})
        await school.agree()
        assert await tried(school, "7-7-7") is Try.PROVEN


@attack(ROW, off={"protocol.folds.sign_in.is_said": _is_whole})
async def test_who_has_guessed_too_often_elsewhere_guesses_no_more_where_a_pc_lacks_the_payload_of_that(
    tmp_path: Path,
) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        other = await room.machine()
        await school.agree()
        for _ in range(MAX_SIGN_IN_TRIES):
            room.territory.clock.advance(DAY_MS)
            await tried(school, WRONG)
        await school.pc.session.sync()
        (lock,) = await room.territory.replica.store.scan_kinds([Kind.SIGN_IN_LOCK])
        await show_headers_alone(room.territory, room.space, school.lea, lock.id)
        await other.session.sync()
        await tend_sign_in(school.teacher.agent)
        await school.teacher.session.sync()
        await other.session.sync()
        assert await tried(school, WRONG, other) is Try.LOCKED


async def _agree(school: SignedClass, *others: Device) -> None:
    for device in (school.teacher, school.pc, *others) * 3:
        await device.session.sync()
        if device not in others:
            await tend_sign_in(device.agent)


async def _a_thief_draws(school: SignedClass, thief: Device, invented: bytes, about: bytes | None) -> SignInKey:
    """M. X draws a key that goes before hers, seals it to himself and the PC, and sets something of nobody's under it.

    The server has it of him; his program says no more of it.
    """
    agent, space, server = thief.agent, school.room.space, school.room.territory
    in_use = (await school.book.of(space)).persons[school.lea].record.key or b""
    tried_keys = (SignInKey(Random(number).randbytes(32)) for number in range(1_000))
    key = next(each for each in tried_keys if each.commitment < in_use)
    roster = (await agent.replica.view(space)).roster
    hers = school.teacher.agent.keys.agreement.public
    to = [(one, key.wrap(space, one, agent.entropy(32))) for one in holders(roster, agent.replica.territory)]
    wraps = SignInWraps(key.commitment, tuple(each for each in to if each[0] != hers), drawn=True).encode()
    record = SignInRecord(
        key.commitment, key.seal(Verifier.of(Method.PIN, "6666", bytes(16)), space, invented, bytes(12))
    )
    right = (await agent.right(space, Kind.SIGN_IN)).grant
    said = await agent.write(
        Draft(space, Kind.SIGN_IN_WRAP, right, wraps, subject=about),
        Draft(space, Kind.SIGN_IN, right, record.encode(), subject=invented),
    )
    admission = await server.replica.admit(said, source=thief.agent.device, now_ms=server.clock())
    assert len(admission.admitted) == 2
    return key


def _under_which_it_was_set(entry: Entry) -> bytes | None:
    record = parsed(entry, SignInRecord.parse) if entry.header.kind == Kind.SIGN_IN else None
    return None if record is None else record.key


async def _thief_opens_what_is_set(tmp_path: Path, *, is_all_destroyed: bool) -> bool:
    """Whether M. X opens what an honest teacher sets once he is cut off, and what he had set is destroyed.

    Where his seals are not, it is the kit that has undone him.
    """
    async with classroom(tmp_path) as room:
        school, office, space = await signed_class(room), room.territory, room.space
        server, spaces = office.keys.signing.public, office.replica.door.spaces()
        heads = [tip for each in spaces for tip in await office.replica.tips(each, server)]
        x = await office.person("M. X", PersonRole.TEACHER, space)
        zoe = await office.person("Zoé", PersonRole.PUPIL, space)
        thief = await room.device(Role.TEACHER, person=x)
        await _agree(school, thief)
        key = await _a_thief_draws(school, thief, zoe, zoe if is_all_destroyed else None)
        await _agree(school)
        await school.book.set(space, {school.lea: (Method.PIN, "9876")})
        assert (await school.book.of(space)).persons[school.lea].record.key == key.commitment, "it is as good as any"
        await _agree(school)
        if is_all_destroyed:  # else her program would give the key to him, once what he gave himself is hidden
            tips = tuple(await office.replica.tips(space, thief.agent.device))
            await office.say(space, Kind.REVOKE, Revocation(thief.agent.device, tips).encode())
        await office.say(space, Kind.ERASE, Erasure(zoe).encode())
        for _ in range(10):
            await _agree(school)
            office.clock.advance(DAY_MS)
            for device in (school.teacher, school.pc):
                await destroy_erased(device.agent)
        if not is_all_destroyed:
            await office.kit_says(office.id, Kind.REVOKE, Revocation(server, tuple(heads)).encode())
            for each in spaces:
                said = [one.entry for one in await office.replica.store.scan(each)]
                await school.teacher.agent.replica.admit(said, source=b"a stick", now_ms=office.clock())
        assert thief.agent.device in (await school.teacher.agent.replica.view(space)).roster.cut
        assert school.lea in await school.book.opened_by_gone(space)
        await school.book.set(space, {school.lea: (Method.PIN, "123456")})
        sealed = (await school.book.of(space)).persons[school.lea].record.sealed or b""
        try:
            key.open(sealed, space, school.lea)
        except PeerFault:
            return False
        return True


@attack(
    ROW,
    off={
        "protocol.folds.sign_in._key_named": _under_which_it_was_set,
        "protocol.folds.sign_in._unknown": lambda *_: frozenset(),
    },
)
async def test_no_teacher_sets_anything_under_a_thiefs_key_once_what_he_set_is_destroyed(tmp_path: Path) -> None:
    assert not await _thief_opens_what_is_set(tmp_path, is_all_destroyed=False)


@attack(ROW, off={"protocol.folds.sign_in._unknown": lambda *_: frozenset()})
async def test_nor_where_nothing_is_left_that_names_it(tmp_path: Path) -> None:
    assert not await _thief_opens_what_is_set(tmp_path, is_all_destroyed=True)
