"""A computer that falls with the server's key which let it in had found out by what pupils sign in (docs/adr/0346)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import PeerFault
from protocol.folds.opened_sign_ins import Gone
from protocol.folds.sign_in import Method, SignInKey, SignInRecord, SignIns, SignInWraps, Verifier, holders, unwrap
from protocol.identity import DeviceKeys, three_words
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import Role
from sync_agent.school.sign_in import SignInBook, Try, tend_sign_in
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom
from tests.harness.office_devices import town
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, signed_class
from tests.harness.territory import new_device

HOUR_MS = 3_600_000
ROW = "a computer that fell with the server's key opens by what pupils sign in"


@dataclass
class Stolen:
    """A class that signs in, of whose server somebody has a copy of the key since the `heads`."""

    school: SignedClass
    heads: tuple[bytes, ...]

    @property
    def space(self) -> bytes:
        return self.school.room.space

    async def agree(self, *others: Device) -> None:
        """Who is of the class gives keys to who came, as its programs do by themselves."""
        for _ in range(3):
            for device in (self.school.teacher, self.school.pc, *others):
                await device.session.sync()
                if device not in others:
                    await tend_sign_in(device.agent)

    async def replaced(self) -> None:
        """`rotate server --since` with a time before: the root cuts that key off as of then, and all hear of it."""
        await self.kit_cuts_off()
        await self.hear()

    async def kit_cuts_off(self) -> None:
        """The root's word, of which nobody has heard."""
        office = self.school.room.territory
        await office.kit_says(office.id, Kind.REVOKE, Revocation(office.keys.signing.public, self.heads).encode())

    async def hear(self) -> None:
        """A stick from the office comes to the teacher's laptop and the PC."""
        office = self.school.room.territory
        now_ms = office.clock()
        for device in (self.school.teacher, self.school.pc):
            for space in office.replica.door.spaces():
                said = [one.entry for one in await office.replica.store.scan(space)]
                await device.agent.replica.admit(said, source=b"a stick", now_ms=now_ms)

    async def meet(self) -> None:
        """The teacher's laptop and the PC, at school."""
        replicas = self.school.teacher.agent.replica, self.school.pc.agent.replica
        for here, there in (replicas, replicas[::-1]):
            said = [one.entry for one in await here.store.scan(self.space)]
            await there.admit(said, source=b"a neighbour", now_ms=self.school.room.territory.clock())

    async def told(self) -> dict[bytes, list[bytes]]:
        """Whose sign-in computers could open that are out, as the teacher is told."""
        return await self.school.book.opened_by_gone(self.space)


@pytest.fixture
async def stolen(tmp_path: Path) -> AsyncIterator[Stolen]:
    async with classroom(tmp_path) as room:
        school, office = await signed_class(room), room.territory
        spaces, key = office.replica.door.spaces(), office.keys.signing.public
        yield Stolen(school, tuple([tip for space in spaces for tip in await office.replica.tips(space, key)]))


def _never(*_: object) -> None:
    """Who fell with others was not cut off."""


def _just_now(*_: object) -> int:
    return 1 << 62


@attack(ROW, off={"protocol.folds.opened_sign_ins._Fell.at": _never})
async def test_the_classs_page_names_whose_secret_it_could_open_until_new_ones_are_drawn(stolen: Stolen) -> None:
    school, page = stolen.school, f"/sign-ins/{stolen.space.hex()}"
    thief = await school.room.machine()
    await stolen.agree(thief)
    mine = (await SignInBook(thief.agent).of(stolen.space)).persons[school.lea].record
    assert mine.key is not None
    assert await SignInBook(thief.agent).key(stolen.space, mine.key) is not None, "the class gave it the key"
    assert await stolen.told() == {}
    await stolen.replaced()
    assert (await school.fold_of(school.pc).attempt(stolen.space, school.lea, PICTURES)).how is Try.PROVEN
    async with portal(school.teacher.agent) as surfer:
        assert "2 élèves de la classe CM1 se connectent avec ce qu&#39;un ordinateur" in await surfer.page("/")
        said = html.unescape(await surfer.page(page)).partition('id="h-opened"')[2].partition("</section>")[0]
        assert three_words(thief.agent.device) in said
        assert "<strong>Léa, Tom</strong>" in said
        await surfer.send(page, f"{page}/draw", {"opened": "yes"})
        assert 'id="h-opened"' not in await surfer.page(page)
    await stolen.meet()
    assert (await school.fold_of(school.pc).attempt(stolen.space, school.lea, PICTURES)).how is Try.WRONG


def _by_what_counts(sign_ins: SignIns, name: bytes, device: Gone) -> bool:
    use, given = sign_ins.uses[name], sign_ins.given
    return device.key in use.by or not device.agreements.isdisjoint(given.of(name))


async def _thief_draws(stolen: Stolen, *, hours_ahead: int = 0) -> tuple[Device, SignInKey]:
    """A head's computer of the thief's draws a key that goes before the class's, and sets Tom's secret under it."""
    school, space, thief = stolen.school, stolen.space, await stolen.school.room.head()
    await stolen.agree(thief)
    agent = thief.agent
    in_use = (await SignInBook(agent).of(space)).persons[school.lea].record.key
    assert in_use is not None
    tried = (SignInKey(Random(number).randbytes(32)) for number in range(1_000))
    key = next(key for key in tried if key.commitment < in_use)
    roster = (await agent.replica.view(space)).roster
    to = [(one, key.wrap(space, one, agent.entropy(32))) for one in holders(roster, agent.replica.territory)]
    sealed = key.seal(Verifier.of(Method.PIN, "6666", bytes(16)), space, school.tom, bytes(12))
    payloads = {
        Kind.SIGN_IN_WRAP: SignInWraps(key.commitment, tuple(to), drawn=True).encode(),
        Kind.SIGN_IN: SignInRecord(key.commitment, sealed).encode(),
    }
    grant = (await agent.right(space, Kind.SIGN_IN)).grant
    now_ms, line = stolen.school.room.territory.clock(), (await school.book.of(space)).line(school.tom)
    said = [
        compose(
            author=agent.keys.signing,
            space=space,
            kind=kind,
            grant=grant,
            at=(now_ms + hours_ahead * HOUR_MS) << 16 | number,
            payload=payload,
            salt=bytes(16),
            subject=school.tom if kind is Kind.SIGN_IN else None,
            parents=line if kind is Kind.SIGN_IN else (),
        )
        for number, (kind, payload) in enumerate(payloads.items())
    ]
    await school.teacher.agent.replica.admit(said, source=b"a stick", now_ms=now_ms)
    return thief, key


async def _opens(stolen: Stolen, key: SignInKey) -> bool:
    """Whether a key opens what proves Léa."""
    sealed = (await stolen.school.book.of(stolen.space)).persons[stolen.school.lea].record.sealed or b""
    try:
        key.open(sealed, stolen.space, stolen.school.lea)
    except PeerFault:
        return False
    return True


@attack(ROW, off={"protocol.folds.opened_sign_ins._had": _by_what_counts})
async def test_it_names_also_whose_secret_she_set_under_a_key_that_it_had_drawn(stolen: Stolen) -> None:
    school, (thief, key) = stolen.school, await _thief_draws(stolen)
    await school.book.set(stolen.space, {school.lea: (Method.PIN, "9876")})
    assert await _opens(stolen, key), "before anybody knows, it is as good as any"
    await stolen.agree(thief)
    await stolen.replaced()
    assert school.lea in await stolen.told()


def _was_cut_off_before(*_: object) -> bool:
    """By the dates of this test it had nothing any more."""
    return False


@attack(ROW, off={"protocol.folds.opened_sign_ins._has_drawn": _was_cut_off_before})
@pytest.mark.parametrize("when", ["after the kit's word, of which she has not heard", "before it, by a clock of his"])
async def test_by_no_date_is_what_she_set_under_a_key_that_it_had_drawn_her_own(stolen: Stolen, when: str) -> None:
    school, clock, is_after = stolen.school, stolen.school.room.territory.clock, when.startswith("after")
    _, key = await _thief_draws(stolen, hours_ahead=0 if is_after else 20)
    secret = {school.lea: (Method.PIN, "9876")}
    if not is_after:
        await school.book.set(stolen.space, secret)
    clock.advance(HOUR_MS)
    await stolen.kit_cuts_off()
    if is_after:
        clock.advance(HOUR_MS)
        await school.book.set(stolen.space, secret)
    await stolen.hear()
    assert await _opens(stolen, key)
    assert school.lea in await stolen.told()
    await school.book.set(stolen.space, {school.lea: (Method.PIN, "6789"), school.tom: (Method.PIN, "9876")})
    assert not await _opens(stolen, key)
    assert await stolen.told() == {}


@attack(ROW, off={"protocol.folds.opened_sign_ins._named_beside": lambda *_: ()})
@pytest.mark.parametrize("beside", ["pc", "teacher"])
async def test_it_names_whose_secret_an_x25519_key_opens_that_was_named_beside_an_honest_computers(
    stolen: Stolen, beside: str
) -> None:
    school, page = stolen.school, f"/sign-ins/{stolen.space.hex()}"
    agent, thiefs = getattr(school, beside).agent, new_device(Random(9).randbytes).agreement
    keys = agent.keys
    grant = Grant(keys.signing.public, thiefs.public, keys.tls.fingerprint, Role.MACHINE, None, None, None)
    await school.room.territory.say(stolen.space, Kind.GRANT, grant.encode())
    await stolen.agree()
    name = (await school.book.of(stolen.space)).persons[school.lea].record.key or b""
    given = (await school.book.of(stolen.space)).given.of(name)
    assert unwrap(given[thiefs.public][0], thiefs, stolen.space, name).commitment == name, "the class gave it the key"
    await stolen.replaced()
    assert set(await stolen.told()) == {school.lea, school.tom}
    async with portal(school.teacher.agent) as surfer:
        said = html.unescape(await surfer.page(page)).partition('id="h-opened"')[2].partition("</section>")[0]
        assert "perdu, volé ou retiré" not in said, "that computer is where it always was"
        assert "une clé d'ailleurs sous le nom d'un ordinateur qui n'y est pour rien" in said
        assert three_words(agent.device) in said
        await surfer.send(page, f"{page}/draw", {"opened": "yes"})
        assert 'id="h-opened"' not in await surfer.page(page)


@attack(ROW, off={"protocol.folds.opened_sign_ins._Fell.at": _just_now})
async def test_a_pc_that_says_that_it_gave_it_new_keys_has_nobody_draw_again_and_again(stolen: Stolen) -> None:
    school, thief = stolen.school, await stolen.school.room.machine()
    await stolen.agree(thief)
    await stolen.replaced()
    assert set(await stolen.told()) == {school.lea, school.tom}
    await school.book.set(stolen.space, {school.lea: (Method.PIN, "9876"), school.tom: (Method.PIN, "6789")})
    await stolen.meet()
    agent = school.pc.agent
    name = (await SignInBook(agent).of(stolen.space)).persons[school.lea].record.key
    assert name is not None
    right = (await agent.right(stolen.space, Kind.SIGN_IN_WRAP)).grant
    noise = SignInWraps(name, ((thief.agent.keys.agreement.public, bytes(80)),))
    await agent.write(Draft(stolen.space, Kind.SIGN_IN_WRAP, right, noise.encode()))
    await stolen.meet()
    assert await stolen.told() == {}


async def _nobody(*_: object) -> tuple[()]:
    return ()


@attack(ROW, off={"sync_server.operations.lifecycle.sign_ins_of_gone": _nobody})
async def test_the_command_that_replaces_the_key_names_the_classes(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        work, desk = await here.class_at_work(), here.office
        lea = bytes.fromhex(work.pupil)
        book = SignInBook(work.teacher.agent)
        await book.set(here.space, {lea: (Method.PICTURES, PICTURES)})
        await book.switch(here.space, on=True)
        await here.sync()
        await note_arrivals(desk.server.store, desk.clock())
        desk.clock.advance(DAY_MS)
        thief: DeviceKeys = new_device(Random(7).randbytes)
        await desk.enrol(await desk.invite("machine"), thief, "PC 9")
        await here.sync(work.teacher)
        await tend_sign_in(work.teacher.agent)
        await here.sync(work.teacher)
        kit = kit_in(tmp_path / "server" / "kit", None)
        assert "sign_ins" not in await desk.with_kit("rotate server", kit), "it is still there"
        done = await desk.with_kit("rotate server", kit, since="12h")
        assert done.get("sign_ins") == [{"space": here.space.hex(), "name": "CM2 B", "pupils": 1}]
        assert any("found out with computers that are out in “CM2 B” (1 pupil)" in line for line in desk.said.lines)
