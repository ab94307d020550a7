"""Who has the server, and not the kit, names devices of its own as teachers' (docs/threat-model.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.entry import Entry, Kind, compose
from protocol.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, DeviceKeys
from protocol.kit import Argon2Cost
from protocol.person_keys import KeyWraps, PhraseKey, open_reading_key
from protocol.roles import PersonRole, Role
from protocol.sign_in import Method, SignInKey, SignInRecord, Verifier
from protocol.structure import PersonKey
from protocol.vouching import Circle, Voices, Vouch
from protocol.work import Feedback
from sync_agent.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import WORK, Classroom, Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES
from tests.harness.territory import new_device

ROW = "a server's operator names a device of their own as a teacher's"


def _everybody(voices: Voices, person: bytes, _start: object) -> Circle:
    """Belief in the server: whom it names as somebody's is theirs."""
    devices = frozenset(voices.persons)
    own = frozenset(device for device in devices if voices.persons[device] == person)
    return Circle(own, devices - own)


SERVER_BELIEVED: dict[str, object] = {"protocol.vouching.Voices.circle": _everybody}


@dataclass
class Here:
    """A class at work, in which a pupil's work was handed in, opened, and answered by nobody yet."""

    room: Classroom
    teacher: Device
    machine: Device
    item: bytes
    work: bytes
    spy: DeviceKeys
    grant: bytes = b""
    said: int = 0

    async def sync(self, *devices: Device) -> None:
        for device in devices or (self.teacher, self.machine):
            await device.session.sync()

    async def name_the_spy(self, person: bytes, role: Role = Role.TEACHER, *, back_ms: int = 10**9) -> None:
        """The server grants it what a teacher's device has; it says a key of its own, dated as it pleases."""
        (grant,) = await self.room.territory.let_in(self.spy, role, self.room.space, person=person)
        self.grant = grant.id
        await self.say(Kind.PERSON_KEY, PersonKey(self.spy.agreement.public).encode(), person, back_ms=back_ms)

    async def say(
        self,
        kind: Kind,
        payload: bytes,
        subject: bytes | None,
        *,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
        back_ms: int = 0,
    ) -> Entry:
        territory = self.room.territory
        self.said += 1
        entry = compose(
            author=self.spy.signing,
            space=self.room.space,
            kind=kind,
            grant=self.grant,
            at=(max(territory.clock() - back_ms, 1) << 16) + self.said,
            payload=payload,
            salt=bytes(16),
            subject=subject,
            target=target,
            parents=parents,
        )
        admission = await territory.replica.admit([entry], source=b"the operator", now_ms=territory.clock())
        assert admission.admitted
        return entry

    async def opens(self, work: bytes) -> bool:
        """Whether the operator opens a hand-in, with all that the set holds for the spy's keys."""
        territory = self.room.territory
        keys: dict[bytes, AgreementKey] = {self.spy.agreement.public: self.spy.agreement}
        for entry in await territory.replica.store.scan_kinds([Kind.KEY_WRAP]):
            record = KeyWraps.parse(entry.payload or b"")
            for to, sealed in record.wraps:
                if to == self.spy.agreement.public:
                    key = open_reading_key(sealed, entry.header.subject or b"", record.agreement, self.spy.agreement)
                    keys[key.public] = key
        works = (await territory.replica.view(self.room.space)).coursework.hand_ins
        return content_key_of(works[work], keys) is not None


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with classroom(tmp_path) as room:
        teacher, machine = await room.teacher(), await room.machine()
        await teacher.session.sync()
        item = await assignment(room, teacher, machine)
        work = await room.hand_in(machine, item, WORK)
        made = Here(room, teacher, machine, item, work, new_device(Random(666).randbytes))
        await made.sync(machine, teacher)
        await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
        await made.sync(teacher, machine)
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
    phrase = PhraseKey(here.spy.agreement.public, bytes(16), Argon2Cost(8, 1, 1), here.spy.signing.public)
    await here.say(Kind.PHRASE, phrase.encode(), here.room.teacher_person)
    await here.sync()
    await here.sync()
    assert not await here.opens(here.work)


@attack(ROW, off={"protocol.roster._unconfirmed": lambda *_: ()})
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


@attack(ROW, off={"protocol.roster._unconfirmed": lambda *_: ()})
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
        Kind.SIGN_IN, SignInRecord(key.commitment, sealed).encode(), pupil, parents=before.persons[pupil].heads
    )
    await here.say(Kind.SIGN_IN, SignInRecord(on=False).encode(), None, parents=before.switch)
    await here.sync()
    await here.sync()
    sign_ins = await SignInBook(here.machine.agent).of(room.space)
    assert sign_ins.on
    assert (await SignInBook(here.machine.agent).attempt(pupil, PICTURES)).how is Try.PROVEN
    assert all(here.spy.agreement.public not in sign_ins.given.of(name) for name in sign_ins.given.seals)
