"""A computer that falls with the server's key which let it in had found out by what pupils sign in (docs/adr/0346)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.folds.opened_sign_ins import Gone
from protocol.folds.sign_in import Method, SignInKey, SignInRecord, SignIns, SignInWraps, Verifier, holders
from protocol.identity import DeviceKeys, three_words
from protocol.model.entry import Kind
from protocol.model.structure import Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from sync_agent.school.sign_in import SignInBook, Try, tend_sign_in
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device, classroom
from tests.harness.office_devices import town
from tests.harness.portal import portal
from tests.harness.sign_in import PICTURES, SignedClass, signed_class
from tests.harness.territory import new_device

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
        office = self.school.room.territory
        now_ms = office.clock()
        await office.kit_says(office.id, Kind.REVOKE, Revocation(office.keys.signing.public, self.heads).encode())
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


@attack(ROW, off={"protocol.folds.opened_sign_ins._had": _by_what_counts})
async def test_it_names_also_whose_secret_she_set_under_a_key_that_it_had_drawn(stolen: Stolen) -> None:
    school, thief = stolen.school, await stolen.school.room.head()
    await stolen.agree(thief)
    agent = thief.agent
    in_use = (await SignInBook(agent).of(stolen.space)).persons[school.lea].record.key
    assert in_use is not None
    tried = (SignInKey(Random(number).randbytes(32)) for number in range(1_000))
    key = next(key for key in tried if key.commitment < in_use)
    roster = (await agent.replica.view(stolen.space)).roster
    to = [(one, key.wrap(stolen.space, one, agent.entropy(32))) for one in holders(roster, agent.replica.territory)]
    right = (await agent.right(stolen.space, Kind.SIGN_IN)).grant
    sealed = key.seal(Verifier.of(Method.PIN, "6666", bytes(16)), stolen.space, school.tom, bytes(12))
    record, line = SignInRecord(key.commitment, sealed).encode(), (await school.book.of(stolen.space)).line(school.tom)
    await agent.write(
        Draft(stolen.space, Kind.SIGN_IN_WRAP, right, SignInWraps(key.commitment, tuple(to)).encode()),
        Draft(stolen.space, Kind.SIGN_IN, right, record, subject=school.tom, parents=line),
    )
    await stolen.agree(thief)
    await school.book.set(stolen.space, {school.lea: (Method.PIN, "9876")})
    hers = (await school.book.of(stolen.space)).persons[school.lea].record.key
    assert hers == key.commitment, "before anybody knows, it is as good as any"
    await stolen.agree(thief)
    await stolen.replaced()
    assert school.lea in await stolen.told()


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
