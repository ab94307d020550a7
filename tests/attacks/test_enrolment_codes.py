"""Codes in the wrong hands (docs/attacks.md)."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.canonical import encode
from protocol.clock import DAY_MS, rfc3339
from protocol.errors import Code, NoAnswer, PeerFault, Refused, RelaisError
from protocol.identity import AgreementKey, DeviceKeys, territory_id, three_words
from protocol.messages.enrollment import EnrollAnswer, EnrollRequest
from protocol.messages.wire import Call
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Grant, Invite, PersonRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.text import local_time
from protocol.replica.office.bureau import Office as Bureau
from protocol.replica.office.enrolment import Enrolment
from protocol.replica.office.known_codes import KnownCodes
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from protocol.trust.envelope import OpenedRequest, open_request, seal_answer
from protocol.trust.invitation import Invitation, invitation_hash, parse_code, veiled
from sync_agent.courier.disk import CourierDisk
from sync_agent.courier.letters import Letter, name_of, write_letter
from sync_agent.enrollment.by_code import sealed_ask
from sync_agent.enrollment.by_stick import enroll_by_stick
from sync_agent.school.letting_in import own_answer
from sync_agent.school.office import SchoolOffice
from sync_agent.transport.server_chain import Host
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.couriers import export, silent
from tests.harness.head_at_work import confirmed_head
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office, opened_request
from tests.harness.server_in_process import office as new_office
from tests.harness.spied_class import spied_class
from tests.harness.territory import new_device
from tests.harness.wire import URL
from tests.harness.work import Work, counted_work

OPEN_FOR_EVER = {"protocol.replica.office.enrolment.Enrolment._check_open": lambda *_: None}


async def nothing(*_: object) -> None:
    """A check that looks at nothing."""


@pytest.fixture(autouse=True)
def answers_at_once() -> None:
    """Here databases have threads of their own: who waits for whom is what is looked at."""


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with new_office(tmp_path / "server") as made:
        yield made


@attack("stolen enrolment code", off=OPEN_FOR_EVER)
async def test_a_code_that_was_used_lets_no_other_device_in(office: Office) -> None:
    code = await office.invite("teacher", person=await office.add_person("Mme Petit", "teacher"))
    await office.enrol(code)
    with pytest.raises(RelaisError):
        await office.enrol(code, name="Voleur")


def _nothing_more(_: object) -> Refused:
    return Refused(Code.CODE_USED, "this code has been used already")


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment._used": _nothing_more})
async def test_whoever_shows_a_code_that_was_used_is_told_when_and_by_which_words_of_whose_key(office: Office) -> None:
    code = await office.invite("machine")
    thief, when = await office.enrol(code, name="Renard"), local_time(rfc3339(office.clock()) or "")
    office.clock.advance(DAY_MS // 2)
    with pytest.raises(Refused) as used:
        await office.enrol(code, name="Renard")
    assert used.value.code is Code.CODE_USED
    assert when in used.value.message
    assert f"{thief.id[:8]}, three words “{three_words(thief.keys.signing.public)}”" in used.value.message


@attack("stolen enrolment code", off=OPEN_FOR_EVER)
async def test_a_code_found_a_week_later_opens_nothing(office: Office) -> None:
    code = await office.invite("machine", uses=30, ttl="24h")
    office.clock.advance(7 * DAY_MS)
    with pytest.raises(RelaisError):
        await office.enrol(code)


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._check_not_cut": nothing})
async def test_a_device_that_was_let_go_does_not_come_back_with_its_old_key(office: Office) -> None:
    member = await office.enrol(await office.invite("machine", uses=2))
    await office.do("revoke", device=member.id)
    with pytest.raises(RelaisError):
        await office.enrol(await office.invite("machine"), member.keys)


async def listed_for_ever(*_: object) -> bool:
    return True


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._is_listed": listed_for_ever})
@pytest.mark.parametrize("command", ["person retire", "ungrant"])
async def test_who_was_let_go_comes_back_by_no_code_from_before(office: Office, command: str) -> None:
    person = await office.add_person("M. Gris", "teacher")
    code = await office.invite("teacher", person=person, uses=2, ttl="30d")
    laptop = await office.enrol(code)
    await office.do(command, person=person, space=[office.space])
    assert await laptop.spaces() == set()
    with pytest.raises(Refused):
        await office.enrol(code, name="Clone")


async def _whoever_names_it(enrolment: Enrolment, invites: Collection[bytes]) -> list[Authority]:
    return [each for each in enrolment._office.replica.door.authorities() if each.invite in invites]


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._granted": _whoever_names_it})
async def test_a_thief_who_was_cut_off_uses_up_no_code_of_others(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        thief = await here.head_of_the_school()
        code = await here.office.invite("machine")
        await here.sync(thief)
        replica = here.office.server.replica
        invite = (await replica.store.scan_kinds([Kind.INVITE]))[-1]
        await here.office.do("revoke", device=thief.agent.device.hex())
        keys = new_device(os.urandom)
        false = Grant(
            keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, invite.id
        ).encode()
        grant = thief.agent.replica.door.authorities_of(thief.agent.device)[0].grant
        said = await thief.agent.replica.write(
            [Draft(here.space, Kind.GRANT, grant, false)],
            author=thief.agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=os.urandom,
        )
        await replica.admit(said, source=b"a stick", now_ms=here.office.clock())
        honest = None
        with contextlib.suppress(Refused):
            honest = await here.office.enrol(code)
        assert honest is not None
        with pytest.raises(Refused):
            await here.office.enrol(code, name="Deuxième PC")


def _by_its_own_end(enrolment: Enrolment, invite: Invite, granted: Sequence[Authority]) -> None:
    if invite.expires_ms <= enrolment._office.now_ms() or len({each.key for each in granted}) >= invite.uses:
        raise Refused(Code.CODE_EXPIRED, "this code is no longer valid")


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._check_open": _by_its_own_end})
async def test_no_code_opens_a_stay_that_is_over(office: Office) -> None:
    person = await office.add_person("M. Roux", "teacher")
    wanted = {"role": "teacher", "space": [office.space], "person": person, "uses": 2, "ttl": "90d", "for": "15d"}
    code = (await office.do("invite", **wanted))["code"]
    await office.enrol(code)
    office.clock.advance(15 * DAY_MS)
    with pytest.raises(Refused) as refused:
        await office.enrol(code, name="Deuxième portable")
    assert refused.value.code is Code.CODE_EXPIRED


async def _void_of_devices_alone(enrolment: Enrolment, entry: Entry, invite: Invite) -> bool:
    door = enrolment._office.replica.door
    author = door.authority(entry.header.grant)
    views = [await enrolment._office.replica.view(space) for space in invite.spaces]
    return author is not None and author.role is not Role.SERVER and any(author.key in v.roster.cut for v in views)


@attack("stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._is_void": _void_of_devices_alone})
async def test_a_code_that_a_thief_made_with_the_servers_key_ends_with_that_key(tmp_path: Path) -> None:
    async with new_office(tmp_path / "server") as here:
        server = here.server
        code = Invitation.create(territory_id(server.replica.door.root_now), os.urandom(10))
        forever = Invite(code.secret_hash, Role.ADMIN, (bytes.fromhex(here.space),), None, 10_000, 2**62)
        await server.write([Draft(bytes.fromhex(here.space), Kind.INVITE, server.grant, forever.encode())])
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.with_kit("rotate server", kit)
        assert "codes" in here.said.lines[-1]
        with pytest.raises(Refused):
            await here.enrol(code.code())
        await here.enrol(await here.invite("machine"))


@attack("stolen enrolment code", off={"protocol.trust.invitation.Invitation.matches": lambda *_: True})
async def test_a_false_chain_on_a_stick_is_told_no_code(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    stick = tmp_path / "stick"
    async with town(tmp_path) as ours, town(theirs) as mallory:
        person = await mallory.office.add_person("Mallory", "teacher")
        device = await mallory.device("teacher", person)
        await export(device, stick)
        code = await ours.office.invite("machine")
        with pytest.raises((NoAnswer, Refused)):
            await enroll_by_stick(
                tmp_path / "pc", stick, code, "Merle", now_ms=ours.office.clock, entropy=os.urandom, say=silent
            )
    assert not list(stick.rglob("*.ask")), "nothing was sealed to who is of another root"


# --- told by a stick to whom was let go long ago ----------------------------------------------------------------------


@asynccontextmanager
async def thief_on_a_stick(folder: Path) -> AsyncIterator[tuple[Town, Device, Path]]:
    """A head teacher's laptop, stolen and cut off long ago, whose chain lies on a stick: no newcomer can know."""
    stick = folder / "stick"
    async with town(folder) as here:
        thief = await here.head_of_the_school()
        await export(thief, stick)
        await here.office.do("revoke", device=thief.agent.device.hex())
        yield here, thief, stick


async def asks(here: Town, stick: Path, folder: Path, code: str) -> None:
    """Somebody tries a code with the stick."""
    await enroll_by_stick(folder, stick, code, "Merle", now_ms=here.office.clock, entropy=os.urandom, say=silent)


def opened_by(thief: Device, stick: Path) -> tuple[bytes, OpenedRequest]:
    """What on the stick is sealed to the thief."""
    for letter in sorted(stick.rglob("*.ask")):
        with contextlib.suppress(PeerFault):
            return letter.read_bytes(), open_request(letter.read_bytes(), [thief.agent.keys.agreement])
    raise AssertionError("nothing was asked of the thief")


async def code_of_before(here: Town, person: str) -> str:
    """One that an earlier program made: of version 0, its `invite` without a key."""
    server = here.office.server
    old = Invitation(territory_id(server.replica.door.root_now)[:10], os.urandom(10), version=0)
    opens = Invite(old.secret_hash, Role.TEACHER, (here.space,), bytes.fromhex(person), 1, here.office.clock() + DAY_MS)
    await server.write([Draft(here.space, Kind.INVITE, server.grant, opens.encode())])
    return old.code()


@attack("stolen enrolment code", off={"sync_agent.enrollment.by_code.veiled": lambda secret, *_: secret})
async def test_what_a_key_that_was_cut_off_is_told_of_a_code_lets_nobody_in(tmp_path: Path) -> None:
    async with thief_on_a_stick(tmp_path) as (here, thief, stick):
        person = await here.office.add_person("Mme Petit", "teacher")
        code = await code_of_before(here, person)
        with pytest.raises(NoAnswer):
            await asks(here, stick, tmp_path / "pc", code)
        told = EnrollRequest.parse(opened_by(thief, stick)[1].payload).secret
        spy = new_device(os.urandom)
        for in_clear in (True, False):
            request = EnrollRequest(told, spy.agreement.public, spy.tls.fingerprint, "Voleur", in_clear)
            with pytest.raises(Refused):
                await here.office.enrolment.answer(
                    opened_request(here.office.server, spy, Call.ENROLL, request.encode())
                )


# --- told to whom has the invitation ----------------------------------------------------------------------------------

WHOEVER_SHOWS_IT: dict[str, object] = {"protocol.messages.enrollment.EnrollRequest.proves": lambda *_: True}


def shown_by_a_thief(opened: OpenedRequest, secret_hash: bytes) -> tuple[DeviceKeys, EnrollRequest]:
    """A device of the thief's, and what it asks with, from what a newcomer has told whoever has the `invite`."""
    told, spy = EnrollRequest.parse(opened.payload), new_device(os.urandom)
    shown = veiled(told.secret, secret_hash, opened.device)
    assert invitation_hash(shown) == secret_hash, "what the newcomer told was read"
    again = veiled(shown, secret_hash, spy.signing.public)
    return spy, EnrollRequest(again, spy.agreement.public, spy.tls.fingerprint, "Portable", proof=told.proof)


def asked_of(head: Device, keys: DeviceKeys, asked: EnrollRequest) -> OpenedRequest:
    """As it has come to a head teacher's computer, over the network or by a stick."""
    reply = AgreementKey(os.urandom(32)).public
    return OpenedRequest(
        keys.signing.public, reply, Call.ENROLL, asked.encode(), os.urandom(32), head.agent.keys.agreement
    )


@attack("stolen enrolment code", off=WHOEVER_SHOWS_IT)
async def test_what_a_stolen_server_is_told_of_a_heads_code_lets_nobody_in_at_her_computer(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        territory, desk = here.room.territory, Desk(head.agent)
        space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
        person = (await desk.ask("person add", name="M. Durand", role="teacher", space=[space]))["person"]
        code = (await desk.ask("invite", role="teacher", space=[space], person=person, ttl="24h", uses=1))["code"]
        known, laptop, keys = parse_code(code), new_device(os.urandom), territory.keys
        server = Host(keys.root.public, keys.signing.public, keys.agreement.public, (territory.certificate,))
        sealed, _ = sealed_ask(laptop, server, known, "Portable", os.urandom)
        office, codes = await SchoolOffice.of(head.agent), KnownCodes()
        spy, asked = shown_by_a_thief(open_request(sealed, [keys.agreement]), known.secret_hash)
        with pytest.raises(Refused) as refused:
            await own_answer(head.agent, office, asked_of(head, spy, asked), codes)
        assert refused.value.code is Code.CODE_WRONG
        honest = replace(asked, secret=known.shown, in_clear=True, proof=known.proof(laptop.signing.public))
        assert await own_answer(head.agent, office, asked_of(head, laptop, honest), codes)


@attack("stolen enrolment code", off=WHOEVER_SHOWS_IT)
async def test_a_key_that_was_cut_off_lets_nobody_in_with_a_code_that_a_machine_of_the_class_reads(
    tmp_path: Path,
) -> None:
    async with thief_on_a_stick(tmp_path) as (here, thief, stick):
        person = await here.office.add_person("Mme Petit", "teacher")
        code = await here.office.invite("teacher", person=person)
        with pytest.raises(NoAnswer):
            await asks(here, stick, tmp_path / "pc", code)
        read_in_the_class = parse_code(code).secret_hash
        spy, asked = shown_by_a_thief(opened_by(thief, stick)[1], read_in_the_class)
        with pytest.raises(Refused):
            await here.office.enrolment.answer(opened_request(here.office.server, spy, Call.ENROLL, asked.encode()))
        await here.office.enrol(code)


async def _the_first_that_counts(
    enrolment: Enrolment, shown: Sequence[Entry], request: EnrollRequest, device: bytes
) -> tuple[Entry, Invite]:
    """As if of a code whatever counts could stand for what whoever made it has said."""
    for entry in shown:
        invite = Invite.parse(entry.payload or b"")
        if request.proves(invite.key, device) and await enrolment._counts(entry, invite):
            return entry, invite
    raise Refused(Code.CODE_WRONG, "this code opens nothing here")


@pytest.mark.parametrize("role", [Role.TEACHER, Role.MACHINE])
@attack(
    "stolen enrolment code", off={"protocol.replica.office.enrolment.Enrolment._invitation": _the_first_that_counts}
)
async def test_an_honest_code_of_which_a_thief_makes_another_lets_nobody_in_as_what_that_says(
    tmp_path: Path, role: Role
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        territory, desk, other = here.room.territory, Desk(head.agent), here.room.teacher_person
        space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
        person = (await desk.ask("person add", name="M. Durand", role="teacher", space=[space]))["person"]
        made = await desk.ask("invite", role="teacher", space=[space], person=person, ttl="24h", uses=1)
        await here.sync(head)
        known, at, whom = parse_code(made["code"]), bytes.fromhex(space), bytes.fromhex(person)
        (honest,) = [
            invite
            for each in await territory.replica.store.scan_kinds([Kind.INVITE])
            if (invite := Invite.parse(each.payload or b"")).secret_hash == known.secret_hash
        ]
        # with the server's key: another one of that code, and for a moment whom the honest one is for is off the list
        false = replace(honest, role=role, person=other if role is Role.TEACHER else None)
        await territory.say(at, Kind.INVITE, false.encode())
        await territory.say(at, Kind.PERSON, PersonRecord("Mme Petit", PersonRole.TEACHER).encode(), subject=other)
        listed = (await territory.replica.view(at)).roster.persons[whom].entry
        gone = PersonRecord("M. Durand", PersonRole.TEACHER, left=True)
        left = await territory.say(at, Kind.PERSON, gone.encode(), subject=whom, parents=(listed,))
        await here.sync(head)
        laptop = new_device(os.urandom)
        key = laptop.signing.public
        asked = EnrollRequest(
            veiled(known.shown, known.secret_hash, key),
            laptop.agreement.public,
            laptop.tls.fingerprint,
            "Portable",
            proof=known.proof(key),
        )
        office, codes = await SchoolOffice.of(head.agent), KnownCodes()
        with pytest.raises(Refused):
            await own_answer(head.agent, office, asked_of(head, laptop, asked), codes)
        back = PersonRecord("M. Durand", PersonRole.TEACHER)
        await territory.say(at, Kind.PERSON, back.encode(), subject=whom, parents=(left.id,))
        await here.sync(head)
        assert await own_answer(head.agent, office, asked_of(head, laptop, asked), codes)
        (given,) = head.agent.replica.door.authorities_of(key)
        assert (given.role, given.person) == (Role.TEACHER, whom)


@attack("stolen enrolment code", off={"sync_agent.enrollment.by_code._honoured": lambda *_: None})
async def test_whom_a_key_that_was_cut_off_lets_in_believes_nothing_of_it(tmp_path: Path) -> None:
    async with thief_on_a_stick(tmp_path) as (here, thief, stick):
        code, folder, agent = await here.office.invite("machine"), tmp_path / "pc", thief.agent
        with pytest.raises(NoAnswer):
            await asks(here, stick, folder, code)
        letter, opened = opened_by(thief, stick)
        request = EnrollRequest.parse(opened.payload)
        grant = Grant(opened.device, request.agreement, request.tls_sha256, Role.MACHINE, None, None).encode()
        own = max(agent.replica.door.authorities_of(agent.device), key=lambda each: each.rank)
        (said,) = await agent.replica.write(
            [Draft(here.space, Kind.GRANT, own.grant, grant)],
            author=agent.keys.signing,
            now_ms=here.office.clock(),
            entropy=os.urandom,
        )
        entries = await agent.replica.credentials([said.id])
        payload = EnrollAnswer(here.office.clock(), "Cher", entries, URL).encode()
        answer = seal_answer(payload, opened, server=agent.keys.signing, ephemeral=os.urandom(32))
        disk = CourierDisk(stick, agent.replica.territory)
        write_letter(disk, Letter.ANSWER, name_of(letter), encode({"answer": answer}))
        with pytest.raises(PeerFault):
            await asks(here, stick, folder, code)


# --- wrong codes without end ------------------------------------------------------------------------------------------


async def _each_read_anew(_codes: KnownCodes, office: Bureau, request: EnrollRequest, device: bytes) -> list[Entry]:
    made = await office.replica.store.scan_kinds([Kind.INVITE])
    return [entry for entry in made if request.tells(Invite.parse(entry.payload or b"").secret_hash, device)]


@attack(
    "a stranger tries wrong codes without end",
    off={"protocol.replica.office.known_codes.KnownCodes.shown": _each_read_anew},
)
async def test_a_wrong_code_keeps_nobody_waiting_however_many_were_made(office: Office) -> None:
    server, space = office.server, bytes.fromhex(office.space)
    codes = [
        Invite(os.urandom(32), Role.MACHINE, (space,), None, 1, office.clock() + (number % 3 - 1) * DAY_MS)
        for number in range(1_000)
    ]
    await server.write([Draft(space, Kind.INVITE, None, code.encode()) for code in codes])
    stretches, is_over = [0], asyncio.Event()

    async def others(work: Work) -> None:
        """They come to their turn again and again; so much was done for the stranger meanwhile."""
        while not is_over.is_set():
            before = work.lines
            await asyncio.sleep(0)
            stretches.append(work.lines - before)

    stranger = new_device(os.urandom)
    wrong = EnrollRequest(os.urandom(10), stranger.agreement.public, stranger.tls.fingerprint, "Inconnu").encode()
    for _ in range(2):
        with counted_work() as work:
            waiting = asyncio.create_task(others(work))
            with pytest.raises(Refused) as refused:
                await office.enrolment.answer(opened_request(server, stranger, Call.ENROLL, wrong))
            is_over.set()
            await waiting
        assert refused.value.code is Code.CODE_WRONG
        # what was made before is read once, after a start
        longest, stretches, is_over = max(stretches), [0], asyncio.Event()
    assert longest < 1_000, f"nobody else came to their turn for {longest} lines"
