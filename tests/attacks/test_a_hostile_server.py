"""Who has the server, and not the kit, names devices of its own as teachers' (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.folds.coursework import Work
from protocol.folds.hand_in_keys import content_key_of
from protocol.folds.sign_in import Method, SignInKey, SignInRecord, Verifier
from protocol.identity import AgreementKey
from protocol.limits import MAX_TRIED_PHRASES
from protocol.messages.lives import Twin
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, Revocation
from protocol.model.work import Feedback, Receipt
from protocol.replica.at_work.replica import Draft
from protocol.replica.content.holdings import Need
from protocol.rights.door import Authority
from protocol.rights.roster import Roster
from protocol.rights.vouching import Circle, Voices, Vouch, Word, device_id, drawn_by
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Argon2Cost
from protocol.trust.person_keys import PhraseKey, phrase_key
from sync_agent.app import Agent, RoomLimits
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.keys.key_wraps import reading_keys
from sync_agent.keys.phrases import new_phrase, open_with_phrase
from sync_agent.keys.reading_key import tend_reading_keys
from sync_agent.keys.succession import TELLINGS, Place, Told
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Device, assignment, classroom, keeps_key_of, work_of
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.spied_class import own_keys, spied_class

ROW = "a server's operator names a device of their own as a teacher's"


def _everybody(voices: Voices, person: bytes, _start: object) -> Circle:
    """Belief in the server: whom it names as somebody's is theirs."""
    own = frozenset(device for device, whose in voices.standings if whose == person)
    others = frozenset(device for device, _ in voices.standings) - own
    return Circle(own, others, others_as=voices.standings)


SERVER_BELIEVED: dict[str, object] = {"protocol.rights.vouching.Voices.circle": _everybody}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with spied_class(tmp_path, kept_for=__name__) as made:
        yield made


@attack(ROW, off=SERVER_BELIEVED)
async def test_the_servers_word_gives_a_device_no_key_of_a_teacher_and_no_earlier_work(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    await here.sync()
    await here.sync()
    assert not await here.opens(here.work)


@attack(ROW, off=SERVER_BELIEVED)
async def test_what_is_handed_in_later_is_not_sealed_to_a_device_that_only_the_server_names(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    await here.sync()
    later = await here.room.hand_in(here.machine, here.item, WORK)
    await here.sync()
    await here.sync()
    assert not await here.opens(later)
    assert await Desk(here.teacher.agent).files("open-hand-in", id=later.hex()) == WORK


@attack(ROW, off=SERVER_BELIEVED)
async def test_a_colleague_whom_only_the_server_names_gets_nothing_from_before_and_is_shown(here: Here) -> None:
    person = await here.room.territory.person("M. Personne", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(person)
    await here.sync()
    await here.sync()
    assert not await here.opens(here.work)
    async with portal(here.teacher.agent) as surfer:
        assert "M. Personne lit les travaux de cette classe" in await surfer.page("/")


@attack(ROW, off=SERVER_BELIEVED)
async def test_a_head_whom_only_the_server_names_confirms_nobody_for_a_teacher(here: Here) -> None:
    director = await here.room.territory.person("M. Personne", PersonRole.TEACHER, here.room.space)
    await here.name_the_spy(director, Role.HEAD)
    (own,) = await here.room.territory.let_in(here.spy, Role.TEACHER, here.room.space, person=here.room.teacher_person)
    await here.say(Kind.VOUCH, Vouch().encode(), here.room.teacher_person, target=own.id)
    await here.sync()
    await here.sync()
    assert not await here.opens(here.work)


@attack(ROW, off=SERVER_BELIEVED)
async def test_a_phrase_of_an_unconfirmed_device_is_given_no_key(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    spy = here.spy
    proof = drawn_by(spy.signing, here.room.teacher_person, own_keys(spy))
    phrase = PhraseKey(spy.agreement.public, bytes(16), Argon2Cost(8, 1, 1), spy.signing.public, proof)
    await here.say(Kind.PHRASE, phrase.encode(), here.room.teacher_person)
    await here.sync()
    await here.sync()
    assert not await here.opens(here.work)


def _whoever_says_it(*_: object) -> bool:
    """Belief that who says a phrase drew it."""
    return True


@attack(
    ROW,
    off={
        "protocol.rights.voices.is_drawn_by": _whoever_says_it,
        "protocol.rights.keys_in_use.is_drawn_by": _whoever_says_it,
    },
)
async def test_a_copied_phrase_makes_nobody_the_one_who_drew_it(here: Here) -> None:
    words = await new_phrase(here.teacher.agent, Argon2Cost(64, 1, 1))
    await here.sync(here.teacher)
    (hers,) = await here.room.territory.replica.store.scan_kinds([Kind.PHRASE])
    await here.name_the_spy(here.room.teacher_person)
    await here.say(Kind.PHRASE, hers.payload or b"", here.room.teacher_person, back_ms=10**9)
    # her laptop is lost; on a new one, which remembers nothing, she types what stands on her paper
    other = await here.room.teacher()
    await here.sync(other)
    assert await open_with_phrase(other.agent, words)
    await here.sync(other)
    await here.sync(other)
    assert not await here.opens(here.work)


@attack("phrases without end, for who types one", off={"protocol.trust.person_keys.MAX_TRIED_PHRASES": 1 << 30})
async def test_who_types_a_phrase_computes_no_more_for_all_that_somebody_says(here: Here) -> None:
    words = await new_phrase(here.teacher.agent, Argon2Cost(64, 1, 1))
    await here.sync(here.teacher)
    spy = here.spy
    await here.name_the_spy(here.room.teacher_person)
    for number in range(300):
        phrase = PhraseKey(spy.agreement.public, number.to_bytes(16, "big"), Argon2Cost(8, 1, 1), spy.signing.public)
        await here.say(Kind.PHRASE, phrase.encode(), here.room.teacher_person)
    other = await here.room.teacher()
    await here.sync(other)
    tried: list[bytes] = []

    def noting(drawn: bytes, person: bytes, salt: bytes, cost: Argon2Cost) -> AgreementKey:
        tried.append(salt)
        return phrase_key(drawn, person, salt, cost)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sync_agent.keys.phrases.phrase_key", noting)
        assert await open_with_phrase(other.agent, words), "hers is among those that are tried"
    assert len(tried) <= MAX_TRIED_PHRASES


@attack(ROW, off={"protocol.rights.roster.unconfirmed": lambda *_: ()})
async def test_what_an_unconfirmed_device_says_is_not_shown_as_the_teachers_word(here: Here) -> None:
    await here.name_the_spy(here.room.teacher_person)
    words = Feedback("Travail nul. Viens me voir.", "0/20", False, None).encode()
    await here.say(Kind.FEEDBACK, words, here.room.pupil_person, target=here.work)
    await here.sync()
    async with portal(here.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": here.room.pupil_person.hex(), "back": "/"})
        assert "Travail nul" not in await surfer.page(f"/work/{here.work.hex()}")
    async with portal(here.teacher.agent) as surfer:
        assert "Est-ce bien votre nouvel ordinateur" in await surfer.page("/")


@attack(ROW, off={"protocol.rights.roster.unconfirmed": lambda *_: ()})
async def test_what_an_unconfirmed_device_says_changes_no_pupils_way_to_sign_in(here: Here) -> None:
    room, pupil = here.room, here.room.pupil_person
    book = SignInBook(here.teacher.agent)
    await book.set(room.space, {pupil: (Method.PICTURES, PICTURES)})
    await book.switch(room.space, on=True)
    await here.sync()
    await here.name_the_spy(room.teacher_person)
    before = await book.of(room.space)
    key = SignInKey(bytes(32))
    sealed = key.seal(Verifier.of(Method.PIN, "0000", bytes(16)), room.space, pupil, bytes(12))
    await here.say(
        Kind.SIGN_IN, SignInRecord(key.commitment, sealed).encode(), pupil, parents=before.persons[pupil].line
    )
    await here.say(Kind.SIGN_IN, SignInRecord(on=False).encode(), None, parents=before.switch)
    await here.sync()
    await here.sync()
    sign_ins = await SignInBook(here.machine.agent).of(room.space)
    assert sign_ins.on
    assert (await SignInBook(here.machine.agent).attempt(room.space, pupil, PICTURES)).how is Try.PROVEN
    assert all(here.spy.agreement.public not in sign_ins.given.of(name) for name in sign_ins.given.seals)


def _taken_for_a_teacher(authorities: Iterable[Authority], *_: object) -> Iterable[bytes]:
    """Only who stands beside somebody is asked about: what nobody's list shows is believed."""
    return ()


@attack(ROW, off={"protocol.rights.roster.unconfirmed": _taken_for_a_teacher})
@pytest.mark.parametrize("names_a_person", [False, True])
async def test_a_teacher_whom_nobodys_page_shows_opens_and_answers_nothing(here: Here, names_a_person: bool) -> None:
    room = here.room
    person = await room.territory.person("M. Personne", PersonRole.TEACHER, room.space) if names_a_person else None
    work = await room.hand_in(here.machine, here.item, {"autre.odt": b"autre"})
    await here.sync()
    (grant,) = await room.territory.let_in(here.spy, Role.TEACHER, room.space, person=person)
    here.grant = grant.id
    record = (await work_of(here.machine, room, work)).record
    receipt, words = Receipt(record.content.stream), Feedback("Travail nul.", "0/20", False, None)
    await here.say(Kind.RECEIPT_TEACHER, receipt.encode(), room.pupil_person, target=work)
    await here.say(Kind.FEEDBACK, words.encode(), room.pupil_person, target=work)
    await here.sync()
    await here.sync()
    found = await work_of(here.machine, room, work)
    assert not found.opened
    assert found.feedback is None
    assert await keeps_key_of(here.machine, work), "its key is here until a teacher has opened it"


async def _whoever_says_so(_agent: Agent, _hand_in: bytes, work: Work | None, _roster: Roster) -> bool:
    return work is not None and work.opened


@attack(ROW, off={"sync_agent.hand_ins.wraps.has_heard_opened": _whoever_says_so})
async def test_who_only_the_server_names_frees_no_key_of_a_work_by_saying_that_it_was_opened(here: Here) -> None:
    room = here.room
    work = await room.hand_in(here.machine, here.item, {"autre.odt": b"autre"})
    await here.sync()
    await here.name_the_spy(await room.territory.person("M. Personne", PersonRole.TEACHER, room.space))
    record = (await work_of(here.machine, room, work)).record
    receipt = Receipt(record.content.stream).encode()
    await here.say(Kind.RECEIPT_TEACHER, receipt, room.pupil_person, target=work)
    await here.sync()
    await here.sync()
    found = await work_of(here.machine, room, work)
    assert found.opened, "it is a teacher's word, as far as anybody can see"
    assert await keeps_key_of(here.machine, work)
    await Desk(here.teacher.agent).ask("confirm-opened", id=work.hex())
    await here.sync(here.teacher, here.machine)
    assert not await keeps_key_of(here.machine, work)


def _by_the_servers_dates(_seen: object, backups: object, _now: object) -> bool:
    return bool(backups)


@attack(ROW, off={"sync_agent.sync.worth.is_safe_elsewhere": _by_the_servers_dates})
async def test_a_server_that_dates_its_receipt_a_month_back_takes_no_work_from_its_author(here: Here) -> None:
    room, machine = here.room, here.machine
    work = await room.hand_in(machine, here.item, {"a.odt": Random(3).randbytes(300_000)})
    await machine.session.sync()
    territory = room.territory
    record = (await work_of(machine, room, work)).record
    receipt = compose(
        author=territory.keys.signing,
        space=room.space,
        kind=Kind.RECEIPT_SERVER,
        grant=territory.certificate.id,
        at=(territory.clock() - 31 * DAY_MS) << 16,
        payload=Receipt(record.content.stream).encode(),
        salt=bytes(16),
        subject=room.pupil_person,
        target=work,
    )
    await territory.replica.admit([receipt], source=territory.keys.signing.public, now_ms=territory.clock())
    room.frontage.responder.backup_ms = territory.clock()
    await machine.session.sync()
    _, _, taken = await machine.agent.replica.content.totals()
    machine.agent.room_limits = RoomLimits(taken + 50_000, 0)
    await room.publish(here.teacher, {"film.bin": Random(9).randbytes(250_000)})
    await here.sync(here.teacher, machine)
    assert await machine.agent.holdings.is_complete(Need(room.space, record.content.stream, sealed=True))


async def _nothing(*_: object) -> list[object]:
    return []


@attack("a stolen server wipes schools", off={"sync_agent.sync.worth.Worths.passed_over": _nothing})
async def test_what_is_only_hidden_makes_no_way_for_anything(here: Here) -> None:
    room, territory, machine = here.room, here.room.territory, here.machine
    work = await room.hand_in(machine, here.item, {"b.odt": Random(3).randbytes(300_000)})
    await here.sync(machine, here.teacher)
    need = Need(room.space, (await work_of(machine, room, work)).record.content.stream, sealed=True)
    devices = (machine, here.teacher)
    assert all([await device.agent.holdings.is_complete(need) for device in devices])
    payload = Erasure(room.pupil_person).encode()
    await territory.replica.write(
        [Draft(territory.id, Kind.ERASE, territory.certificate.id, payload)],
        author=territory.keys.signing,
        now_ms=territory.clock(),
        entropy=territory.entropy,
        unsent=False,
    )
    await here.sync()
    for device in devices:
        _, _, taken = await device.agent.replica.content.totals()
        device.agent.room_limits = RoomLimits(taken + 50_000, 0)
    other = await room.teacher()
    await here.sync(other)
    await room.publish(other, {"film.bin": Random(9).randbytes(250_000)})
    await here.sync(other, *devices)
    missing = [await device.agent.replica.content.missing_streams(room.space, [need.stream]) for device in devices]
    assert not any(missing)


def _due_when_told(role: Role | None, *, elsewhere: bool, told: Told, **_: bool) -> bool:
    return role is not None and (elsewhere or told.times >= TELLINGS)


@attack("a hostile or broken peer", off={"sync_agent.keys.succession.is_due": _due_when_told})
async def test_a_server_that_tells_of_a_twin_takes_no_teacher_a_right(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        teacher = await room.teacher()
        await teacher.session.sync()
        folder, entropy, device = teacher.agent.folder, teacher.agent.entropy, teacher.agent.device
        await teacher.agent.close()
        place = Place({})
        teacher.agent = await place.open(folder, room.territory.clock, entropy)
        for _ in range(TELLINGS):
            teacher.agent.on_twin(Twin.LATER)
        if place.gives_way.is_set():
            await teacher.agent.close()
            teacher.agent = await place.open(folder, room.territory.clock, entropy)
        assert teacher.agent.device == device
        assert await teacher.agent.role() is Role.TEACHER


async def second_laptop(here: Here) -> Device:
    """Another computer of the teacher's, confirmed by her first."""
    laptop = await here.room.teacher()
    await here.sync(laptop, here.teacher)
    await confirm(here.teacher.agent, device_id(own_device(laptop.agent)), shown_as="own")
    await here.sync(here.teacher, laptop, here.machine)
    return laptop


def _confirmed_for_ever(self: Any, voices: Voices, *_: object) -> Voices:
    everybody = {
        back.device: voices.words.get(back.device, frozenset()) | said.words for back, said in self._said.items()
    }
    named = {Word(device, person, person) for device, person in voices.standings}
    words = {device: frozenset(named) for device, _ in voices.standings}
    return replace(voices, let_back=frozenset(), words={**words, **everybody})


@attack(ROW, off={"protocol.rights.letting_back.Returns.joined": _confirmed_for_ever})
async def test_a_lost_laptop_that_the_server_lets_in_again_opens_nothing_new_until_somebody_confirms_it(
    here: Here,
) -> None:
    room, territory = here.room, here.room.territory
    lost = await second_laptop(here)
    heads = tuple(await territory.replica.tips(room.space, lost.agent.device))
    cut = await territory.say(room.space, Kind.REVOKE, Revocation(lost.agent.device, heads).encode())
    for _ in range(3):
        await here.sync()
    meanwhile = await room.hand_in(here.machine, here.item, {"b.odt": b"bonjour"})
    await here.sync()
    keys = lost.agent.keys
    again = Grant(
        keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, room.teacher_person, None
    )
    draft = Draft(room.space, Kind.GRANT, territory.certificate.id, again.encode(), parents=(cut.id,))
    await territory.replica.write(
        [draft], author=territory.keys.signing, now_ms=territory.clock(), entropy=territory.entropy, unsent=False
    )
    for _ in range(2):
        await here.sync(here.teacher, lost, here.machine)
    afterwards = await room.hand_in(here.machine, here.item, {"c.odt": b"bonsoir"})
    for _ in range(2):
        await here.sync(here.machine, here.teacher, lost)
    works = (await territory.replica.view(room.space)).coursework.hand_ins
    opened = [content_key_of(works[work], reading_keys(lost.agent)) is not None for work in (meanwhile, afterwards)]
    assert opened == [False, False]
    await confirm(here.teacher.agent, device_id(own_device(lost.agent)), shown_as="own")
    await here.sync(here.teacher, lost)
    assert content_key_of(works[meanwhile], reading_keys(lost.agent)) is not None


def _all_that_was_said(own: Iterable[tuple[Entry, bytes]], _roster: Roster, _grant: bytes) -> Iterable[bytes]:
    return (key for _, key in own)


@attack(
    "a thief cuts a teacher off, and lets her back in as one who says nothing",
    off={"sync_agent.keys.places._said": _all_that_was_said},
)
async def test_who_was_cut_off_with_all_that_she_said_and_let_back_in_says_her_key_again(here: Here) -> None:
    territory, keys = here.room.territory, here.teacher.agent.keys
    pair = keys.signing.public, keys.agreement.public
    cut = await territory.say(here.room.space, Kind.REVOKE, Revocation(pair[0], ()).encode())
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await territory.say(here.room.space, Kind.GRANT, again, parents=(cut.id,))
    for _ in range(2):
        await here.sync(here.teacher, here.machine)
    item = await assignment(here.room, here.teacher, here.machine)
    work = await here.room.hand_in(here.machine, item, WORK)
    await here.sync(here.machine, here.teacher)
    sealed = (await here.teacher.agent.replica.view(here.room.space)).coursework.hand_ins[work]
    assert content_key_of(sealed, reading_keys(here.teacher.agent)) is not None


async def _widest(agent: Agent, rights: Iterable[Authority], space: bytes) -> list[Authority]:
    door = agent.replica.door
    covering = [right for right in rights if door.covers(right, space)]
    return sorted(covering, key=lambda right: len(door.lineage(right.space)))


def _what_counts(own: Iterable[tuple[Entry, bytes]], roster: Roster, _grant: bytes) -> Iterable[bytes]:
    return (key for entry, key in own if entry.id not in roster.held_back)


@attack(
    "a thief cuts a teacher off, and lets her back in as one who says nothing",
    off={
        "sync_agent.keys.places._said": _what_counts,
        "sync_agent.app.Agent.counting_first": _widest,
    },
)
async def test_a_key_is_said_once_under_each_grant_however_often_it_is_held_back(here: Here) -> None:
    territory, keys, agent = here.room.territory, here.teacher.agent.keys, here.teacher.agent
    lineage = territory.replica.door.lineage(here.room.space)
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, here.room.teacher_person, None, None).encode()
    await territory.say(lineage[1], Kind.GRANT, again)
    cut = await territory.say(here.room.space, Kind.REVOKE, Revocation(pair[0], ()).encode())
    await territory.say(here.room.space, Kind.GRANT, again, parents=(cut.id,))
    said = []
    for _ in range(6):
        await here.sync(here.machine)
        for brought in [await territory.replica.store.scan(space) for space in lineage]:
            await agent.replica.admit([one.entry for one in brought], source=b"the server", now_ms=territory.clock())
        await tend_reading_keys(agent)
        written = await agent.replica.store.authored(here.room.space, agent.device)
        said.append(sum(entry.header.kind == Kind.PERSON_KEY for entry in written))
    assert said[-1] == said[-3]
