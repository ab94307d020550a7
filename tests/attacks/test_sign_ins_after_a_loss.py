"""Who has a lost computer finds out by what pupils sign in, and it stays good: that is told (docs/adr/0281)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.folds.opened_sign_ins import Gone
from protocol.folds.sign_in import KINDS, Method, SignInKey, SignInRecord, SignIns, SignInWraps, Verifier, holders
from protocol.identity import three_words
from protocol.model.entry import Entry, Kind, compose, parsed
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.roster import Roster
from protocol.rights.vouching import device_id
from protocol.roles import Role
from sync_agent.keys.confirming import confirm, own_device
from sync_agent.school.sign_in import SignInBook, Try
from tests.harness.attack import attack
from tests.harness.classroom import Device, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.portal import Surfer, portal
from tests.harness.sign_in import PICTURES, SignedClass, sign_in, signed_class
from tests.harness.territory import new_device

TOLD_FIRST = "2 élèves de la classe CM1 se connectent avec ce qu&#39;un ordinateur perdu"
ROW = "a lost computer opens by what pupils sign in"


@dataclass
class School:
    """A class that signs in, the teacher's second laptop, which she confirmed, and the head teacher's computer."""

    signed: SignedClass
    second: Device
    head: Device

    @property
    def space(self) -> bytes:
        return self.signed.room.space

    @property
    def page(self) -> str:
        return f"/sign-ins/{self.space.hex()}"

    async def agree(self, *without: Device) -> None:
        everybody = [each for each in self.signed.room.devices if each not in without]
        for device in (*everybody, *everybody):
            await device.session.sync()

    async def report(self, device: Device, since: str | None = None) -> dict[str, object]:
        told: dict[str, object] = await Desk(self.head.agent).ask("lost", device=device.agent.device.hex(), since=since)
        await self.agree(device)
        return told

    async def key_of(self, device: Device, person: bytes) -> bytes:
        """The key under which lies what proves somebody, as a device sees it."""
        name = (await SignInBook(device.agent).of(self.space)).persons[person].record.key
        assert name is not None
        return name

    async def sealed_to(self, name: bytes) -> set[bytes]:
        """To which X25519 keys a key was ever sealed."""
        entries = await self.signed.room.territory.replica.store.scan_kinds(KINDS)
        wraps = [parsed(one, SignInWraps.parse) for one in entries if one.header.kind == Kind.SIGN_IN_WRAP]
        return {to for each in wraps if each is not None and each.key == name for to, _ in each.wraps}

    async def notice(self, surfer: Surfer) -> str:
        """What the class's page says of lost computers; empty for nothing."""
        return html.unescape(await surfer.page(self.page)).partition('id="h-opened"')[2].partition("</section>")[0]


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[School]:
    async with classroom(tmp_path) as room:
        signed = await signed_class(room)
        made = School(signed, await room.teacher(), await room.head())
        await made.agree()
        for one, other in ((signed.teacher, made.second), (made.second, signed.teacher)):
            await confirm(one.agent, device_id(own_device(other.agent)), shown_as="own")
            await made.agree()
        yield made


async def _nobody(*_: object) -> tuple[()]:
    return ()


def _none(*_: object) -> dict[bytes, list[bytes]]:
    return {}


# --- it is told -------------------------------------------------------------------------------------------------------


@attack(ROW, off={"protocol.replica.office.losses.sign_ins_of_lost": _nobody})
async def test_as_a_laptop_is_reported_it_is_said_of_which_classes_it_could_open_the_sign_ins(school: School) -> None:
    lost, desk = school.signed.teacher, Desk(school.head.agent)
    first = await desk.ask("lost", device=lost.agent.device.hex(), dry_run=True)
    assert first["sign_ins"] == [{"space": school.space.hex(), "name": "CM1", "pupils": 2}]
    assert (await desk.ask("lost", device=lost.agent.device.hex()))["sign_ins"] == first["sign_ins"]
    assert "found out with it in “CM1” (2 pupils)" in "".join(desk.told)


@attack(ROW, off={"protocol.replica.office.losses.sign_ins_of_lost": _nobody})
async def test_a_heads_page_names_the_classes_whose_sign_ins_a_lost_pc_could_open(school: School) -> None:
    async with portal(school.head.agent) as surfer:
        told = await surfer.send("/lost", "/lost", {"device": school.signed.pc.agent.device.hex(), "meant": "yes"})
    named = html.unescape(told.text).partition('id="h-sign-ins"')[2].partition("</section>")[0]
    assert "<strong>CM1</strong> : 2 élèves" in named
    assert f'href="{school.page}"' in named


@attack(ROW, off={"sync_agent.school.sign_in.opened_by": _none})
@pytest.mark.parametrize("which", ["laptop", "pc"])
async def test_the_classs_page_says_whose_secret_a_lost_computer_could_open_until_new_ones_are_drawn(
    school: School, which: str
) -> None:
    signed = school.signed
    lost = signed.teacher if which == "laptop" else signed.pc
    other = await signed.room.machine()
    await school.agree()
    async with portal(school.second.agent) as surfer:
        assert await school.notice(surfer) == ""
        assert TOLD_FIRST not in await surfer.page("/")
        await school.report(lost)
        assert TOLD_FIRST in await surfer.page("/"), "also on her first page"
        said = await school.notice(surfer)
        assert "Ces secrets ont été choisis avant qu'un ordinateur ne soit perdu, volé ou retiré :" in said
        assert three_words(lost.agent.device) in said
        assert "<strong>Léa, Tom</strong>" in said
        drawn = await surfer.send(school.page, f"{school.page}/draw", {"opened": "yes"})
        assert TOLD_FIRST not in await surfer.page("/")
        assert "Cartes à imprimer" in drawn.text
        assert await school.notice(surfer) == ""
    await school.agree(lost)
    assert (await Desk(school.head.agent).ask("lost", device=lost.agent.device.hex()))["sign_ins"] == []
    book = SignInBook(other.agent)
    assert (await book.attempt(school.space, signed.tom, "4711")).how is Try.WRONG, (
        "what the thief found is good no more"
    )


async def test_the_page_calls_the_lost_computers_what_people_know_them_by(school: School) -> None:
    laptop, pc, room = school.signed.teacher, school.signed.pc, school.signed.room
    await room.hand_in(pc, await assignment(room, laptop, pc), {"recit.odt": b"Il faisait beau."})
    await school.agree()
    for lost in (laptop, pc):
        await Desk(school.head.agent).ask("lost", device=lost.agent.device.hex())
    await school.agree(laptop, pc)
    async with portal(school.second.agent) as surfer:
        said = await school.notice(surfer)
    assert f"{pc.agent.enrolment.device_name} ({three_words(pc.agent.device)})" in said, "as it handed in"
    assert f"{three_words(laptop.agent.device)} (Mme Petit)" in said, "whose it is"


@attack(ROW, off={"sync_agent.school.sign_in.opened_by": _none})
async def test_the_list_of_a_classs_sign_ins_says_whose_secret_a_lost_computer_could_open(school: School) -> None:
    await school.report(school.signed.teacher)
    rows = (await Desk(school.second.agent).ask("sign-in-list", space=school.space.hex()))["people"]
    opened = {row["name"]: row["opened_by_lost"] for row in rows}
    assert opened == {"Léa": True, "Tom": True, "Mme Petit": False}


# --- and ends for the right reason ------------------------------------------------------------------------------------


async def _sealed_anew(self: SignInBook, space: bytes, person: bytes) -> None:
    verifier = await self._verifier(space, (await self.of(space)).persons.get(person), person)
    assert verifier is not None
    await self._say(space, {person: verifier})


@attack(ROW, off={"sync_agent.school.sign_in.SignInBook.unlock": _sealed_anew})
async def test_letting_a_pupil_try_again_makes_nobody_forget_that_a_lost_laptop_could_open_her_secret(
    school: School,
) -> None:
    await school.report(school.signed.teacher)
    async with portal(school.second.agent) as surfer:
        await surfer.send(school.page, f"{school.page}/unlock", {"person": school.signed.lea.hex()})
        assert "Léa" in await school.notice(surfer)


def _any_in_use(sign_ins: SignIns, _wanted: Sequence[bytes]) -> bytes | None:
    return min((each.record.key for each in sign_ins.persons.values() if each.record.key is not None), default=None)


@attack(ROW, off={"sync_agent.school.sign_in.newest_key": _any_in_use})
async def test_what_is_drawn_after_a_report_lies_under_a_key_that_the_lost_laptop_was_never_given(
    school: School,
) -> None:
    signed, lost = school.signed, school.signed.teacher
    await school.report(lost)
    await SignInBook(school.second.agent).set(school.space, {signed.lea: (Method.PICTURES, "1-2-3")})
    await school.agree(lost)
    given = await school.sealed_to(await school.key_of(school.second, signed.lea))
    assert signed.pc.agent.keys.agreement.public in given
    assert lost.agent.keys.agreement.public not in given
    assert (await SignInBook(signed.pc.agent).attempt(school.space, signed.lea, "1-2-3")).how is Try.PROVEN


async def _thief_sets(school: School, lost: Device, person: bytes, *, drawn: bool = True) -> bytes:
    """On the stolen laptop a secret is set under a key of the thief's own, the first of all by its name.

    It says to have `drawn` it, or does not.
    """
    agent, others = lost.agent, await school.key_of(lost, school.signed.lea)
    tried = (SignInKey(Random(number).randbytes(32)) for number in range(1_000))
    key = next(key for key in tried if key.commitment < others)
    roster = (await agent.replica.view(school.space)).roster
    right = (await agent.right(school.space, Kind.SIGN_IN)).grant
    to = [(one, key.wrap(school.space, one, agent.entropy(32))) for one in holders(roster, agent.replica.territory)]
    sealed = key.seal(Verifier.of(Method.PIN, "6666", bytes(16)), school.space, person, bytes(12))
    mine = (await SignInBook(agent).of(school.space)).persons[person]
    record = SignInRecord(key.commitment, sealed).encode()
    await agent.write(
        Draft(school.space, Kind.SIGN_IN_WRAP, right, SignInWraps(key.commitment, tuple(to), drawn).encode()),
        Draft(school.space, Kind.SIGN_IN, right, record, subject=person, parents=mine.line),
    )
    return key.commitment


def _whoever_says_so(entries: Iterable[Entry], _roster: Roster) -> frozenset[bytes]:
    wraps = [parsed(one, SignInWraps.parse) for one in entries if one.header.kind == Kind.SIGN_IN_WRAP]
    return frozenset(each.key for each in wraps if each is not None and each.drawn)


@attack(ROW, off={"protocol.folds.sign_in._drawn": _whoever_says_so})
async def test_nothing_more_is_set_under_a_key_that_a_thief_drew_though_all_that_he_said_is_held_back(
    school: School,
) -> None:
    signed, lost, clock = school.signed, school.signed.teacher, school.signed.room.territory.clock
    await note_arrivals(school.head.agent.replica.store, clock())
    clock.advance(2 * DAY_MS)
    thiefs = await _thief_sets(school, lost, signed.tom)
    await school.agree()
    book = SignInBook(school.second.agent)
    await book.set(school.space, {signed.lea: (Method.PICTURES, "1-2-3")})
    assert await school.key_of(school.second, signed.lea) == thiefs, "before the report it is as good as any"
    await school.agree()
    await school.report(lost, since="36h")
    await book.tend()
    await book.set(school.space, {signed.tom: (Method.PICTURES, "4-5-6")})
    assert await school.key_of(school.second, signed.tom) != thiefs


@attack(ROW, off={"sync_agent.school.sign_in.newest_key": _any_in_use})
async def test_nothing_is_set_under_a_key_that_nobody_says_to_have_drawn(school: School) -> None:
    signed, lost = school.signed, school.signed.teacher
    thiefs = await _thief_sets(school, lost, signed.tom, drawn=False)
    await school.agree()
    await SignInBook(school.second.agent).set(school.space, {signed.lea: (Method.PICTURES, "1-2-3")})
    assert await school.key_of(school.second, signed.lea) != thiefs


# --- and by nobody's making alone -------------------------------------------------------------------------------------


@attack(ROW, off={"protocol.folds.sign_in._drawn": lambda *_: frozenset()})
async def test_who_is_cut_off_and_names_each_new_key_as_its_own_has_nobody_draw_again_and_again(school: School) -> None:
    signed, lost, clock = school.signed, school.signed.teacher, school.signed.room.territory.clock
    grant = (await lost.agent.right(school.space, Kind.SIGN_IN_WRAP)).grant
    await school.report(lost)
    book, thief = SignInBook(school.second.agent), lost.agent
    await book.set(school.space, {signed.lea: (Method.PICTURES, "1-2-3"), signed.tom: (Method.PICTURES, "4-5-6")})
    await school.agree(lost)
    name = await school.key_of(school.second, signed.lea)
    claim = compose(
        author=thief.keys.signing,
        space=school.space,
        kind=Kind.SIGN_IN_WRAP,
        grant=grant,
        at=clock() << 16,
        payload=SignInWraps(name, ((thief.keys.agreement.public, bytes(80)),), drawn=True).encode(),
        salt=bytes(16),
    )
    await school.second.agent.replica.admit([claim], source=b"a stick", now_ms=clock())
    assert thief.device in (await book.of(school.space)).claimed[name]
    assert await book.opened_by_gone(school.space) == {}
    await book.set(school.space, {signed.tom: (Method.PICTURES, "7-8-9")})
    assert await school.key_of(school.second, signed.tom) == name


def _who_was_given_it(sign_ins: SignIns, name: bytes, device: Gone) -> bool:
    return not device.agreements.isdisjoint(sign_ins.given.of(name))


@attack(ROW, off={"protocol.folds.opened_sign_ins._had": _who_was_given_it})
async def test_a_pc_that_says_that_it_gave_new_keys_to_a_lost_laptop_has_nobody_draw_again_and_again(
    school: School,
) -> None:
    signed, lost = school.signed, school.signed.teacher
    await school.report(lost)
    book, agent = SignInBook(school.second.agent), signed.pc.agent
    await book.set(school.space, {signed.lea: (Method.PICTURES, "1-2-3"), signed.tom: (Method.PICTURES, "4-5-6")})
    await school.agree(lost)
    name = await school.key_of(signed.pc, signed.lea)
    right = (await agent.right(school.space, Kind.SIGN_IN_WRAP)).grant
    noise = SignInWraps(name, ((lost.agent.keys.agreement.public, bytes(80)),))
    await agent.write(Draft(school.space, Kind.SIGN_IN_WRAP, right, noise.encode()))
    await school.agree(lost)
    assert await book.opened_by_gone(school.space) == {}


async def _cut_off(school: School, key: bytes) -> None:
    territory = school.signed.room.territory
    tips = tuple(await territory.replica.tips(school.space, key))
    await territory.say(school.space, Kind.REVOKE, Revocation(key, tips).encode())


@attack(ROW, off={"protocol.folds.opened_sign_ins.holders": lambda *_: []})
async def test_a_device_that_the_server_invents_with_the_key_of_an_honest_pc_raises_no_alarm_without_end(
    school: School,
) -> None:
    pc = school.signed.pc.agent.keys  # a grant names any key
    invented = replace(new_device(Random(9).randbytes), agreement=pc.agreement)
    await school.signed.room.territory.let_in(invented, Role.MACHINE, school.space)
    await _cut_off(school, invented.signing.public)
    await school.agree()
    assert await SignInBook(school.second.agent).opened_by_gone(school.space) == {}


async def test_a_server_that_cuts_a_pc_off_makes_a_notice_and_keeps_no_pupil_from_signing_in(school: School) -> None:
    signed, cut = school.signed, await school.signed.room.machine()
    await school.agree()
    await _cut_off(school, cut.agent.device)
    await school.agree(cut)
    async with portal(school.second.agent) as surfer:
        assert "<strong>Léa, Tom</strong>" in await school.notice(surfer)
    async with portal(signed.pc.agent) as surfer:
        assert (await sign_in(surfer, signed.lea, PICTURES)).status == 303
