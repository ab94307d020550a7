"""Somebody names, in a class of theirs, the key of another one: who has opened it seals it to nobody there.

A key's name is no secret: it stands at the head of each stick, and in the set.
"""

from __future__ import annotations

from random import Random

from protocol.folds.sign_in import SignInKey, SignInRecord, SignInWraps
from protocol.folds.space_keys import SpaceKeyRecord, SpaceSecret, SpaceWraps
from protocol.identity import AgreementKey
from protocol.model.entry import Kind, parsed
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft
from sync_agent.app import Agent
from sync_agent.school.sign_in import SignInBook
from tests.attacks.test_classes_beside_one_with_sign_in import Hers, hers
from tests.harness.attack import attack
from tests.harness.classroom import above
from tests.harness.next_year import NextYear
from tests.harness.sign_in import class_beside

__all__ = ["hers"]

ROW = "a key is named in another class"


async def _secret_by_name(keyring: Keyring, space: bytes, commitment: bytes) -> SpaceSecret | None:
    known = next((secret for (_, name), secret in keyring._opened.items() if name == commitment), None)
    if known is None:
        known = await keyring._open(space, await keyring.keys(space), commitment)
    if known is not None:
        keyring._opened[space, commitment] = known
    return known


async def _key_by_name(book: SignInBook, space: bytes, name: bytes) -> SignInKey | None:
    known = next((key for (_, other), key in book._keys.items() if other == name), None)
    if known is None:
        wraps = (await book.of(space)).given.of(name)
        book._unwrap(space, name, [(to, sealed) for to, each in wraps.items() for sealed in each])
    return known or book._keys.get((space, name))


async def _is_given(agent: Agent, space: bytes, name: bytes) -> bool:
    """Whether anybody has sealed a key of this name to a device in a space."""
    own = agent.keys.agreement.public
    for entry in await agent.replica.store.scan_kinds([Kind.SPACE_WRAP, Kind.SIGN_IN_WRAP]):
        is_spaces = entry.header.kind == Kind.SPACE_WRAP
        said = parsed(entry, SpaceWraps.parse) if is_spaces else parsed(entry, SignInWraps.parse)
        named = said.commitment if isinstance(said, SpaceWraps) else None if said is None else said.key
        if said is not None and entry.header.space == space and named == name and own in dict(said.wraps):
            return True
    return False


@attack(ROW, off={"protocol.replica.at_work.keyring.Keyring.secret": _secret_by_name})
async def test_who_works_in_two_schools_gives_a_heads_computer_of_one_no_key_to_the_sticks_of_the_other(
    year: NextYear,
) -> None:
    here = year.here
    elsewhere = bytes.fromhex((await here.office.do("space add", name="6e A", school="0180002E"))["space"])
    await year.lets_her_in(elsewhere)
    stolen = await here.device("head", None, above(here.office.server.replica, elsewhere).hex())
    await year.sync()
    on_the_stick = await year.teacher.agent.keyring.current(here.space)
    assert on_the_stick is not None
    assert here.space not in await stolen.agent.spaces()
    epoch = (await stolen.agent.keyring.keys(elsewhere)).next_epoch
    right = await stolen.agent.right(elsewhere, Kind.SPACE_KEY)
    named = SpaceKeyRecord(epoch, on_the_stick.commitment, AgreementKey(Random(5).randbytes(32)).public, None)
    await stolen.agent.write(Draft(elsewhere, Kind.SPACE_KEY, right.grant, named.encode()))
    await year.sync(stolen, year.teacher, stolen)
    assert not await _is_given(stolen.agent, elsewhere, on_the_stick.commitment)


@attack(ROW, off={"sync_agent.school.sign_in.SignInBook.key": _key_by_name})
async def test_a_pc_of_two_classes_gives_a_teacher_of_one_no_key_to_what_pupils_of_the_other_sign_in_by(
    hers: Hers,
) -> None:
    school, room = hers.school, hers.school.room
    choir = await class_beside(school, "Chorale", "M. Roy", pictures=None)
    while choir < room.space:
        choir = await class_beside(school, "Chorale", "M. Roy", pictures=None)
    stolen = room.devices[-1]
    name = (await SignInBook(school.pc.agent).of(room.space)).persons[school.lea].record.key
    assert name is not None
    right = await stolen.agent.right(choir, Kind.SIGN_IN)
    said = SignInRecord(name, b"x").encode()
    await stolen.agent.write(Draft(choir, Kind.SIGN_IN, right.grant, said, subject=school.lea))
    await room.machine()
    for _ in range(3):
        for device in (stolen, school.pc, school.teacher, stolen):
            await device.session.sync()
    assert not await _is_given(stolen.agent, choir, name)
