"""A machine of the class seals noise in a key's name: whoever has the key gives it all the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from random import Random

from protocol.folds.sign_in import SignInWraps
from protocol.folds.space_keys import SpaceWraps
from protocol.model.entry import Kind, compose
from protocol.model.structure import Successor
from protocol.replica.at_work.keyring import Keyring
from protocol.replica.at_work.replica import Draft
from protocol.rights.given_keys import GivenKeys
from sync_agent.school.sign_in import Try
from tests.harness.attack import attack
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.couriers import courier_class, know_keys, tend_keys
from tests.harness.sign_in import PICTURES, signed_class
from tests.harness.territory import new_device

ROW = "a machine seals noise to others in a key's name"

Wraps = Callable[[bytes, tuple[tuple[bytes, bytes], ...]], SpaceWraps | SignInWraps]


def _anybodys_word(given: GivenKeys, name: bytes, wanted: Iterable[bytes], _own: Collection[bytes]) -> list[bytes]:
    return [one for one in wanted if one not in given.of(name)]


ANYBODY_BELIEVED: dict[str, object] = {"protocol.rights.given_keys.GivenKeys.lacking": _anybodys_word}


async def seal_noise(
    room: Classroom, hostile: Device, kind: Kind, wraps: Wraps, names: Iterable[bytes], to: bytes
) -> None:
    """What a machine says that has the right to, and no good will: it alone reaches the server."""
    right = await hostile.agent.right(room.space, kind)
    drafts = [Draft(room.space, kind, right.grant, wraps(name, ((to, bytes(80)),)).encode()) for name in names]
    said = await hostile.agent.write(*drafts)
    chain = await hostile.agent.replica.credentials([right.grant])
    server = room.territory.replica
    await server.admit([*chain, *said], source=hostile.agent.device, now_ms=room.territory.clock())
    assert await server.store.present([entry.id for entry in said]) == {entry.id for entry in said}


@attack(ROW, off=ANYBODY_BELIEVED)
async def test_a_server_made_anew_gets_the_key_of_a_class_in_which_one_machine_lies(tmp_path: Path) -> None:
    async with courier_class(tmp_path) as room:
        hostile, honest = await room.machine(), await room.machine()
        await know_keys(room, hostile, honest)
        key = await honest.agent.keyring.current(room.space)
        assert key is not None
        room.territory.clock.ms += 3_600_000
        await room.replace_server(await room.territory.reborn(tmp_path / "reborn"))
        server = room.territory.keys.agreement
        await seal_noise(room, hostile, Kind.SPACE_WRAP, SpaceWraps, [key.commitment], server.public)
        for _ in range(2):
            await honest.session.sync()
        found = await Keyring(room.territory.replica, (server,)).current(room.space)
        assert found is not None
        assert found.commitment == key.commitment


@attack(ROW, off=ANYBODY_BELIEVED)
async def test_pupils_sign_in_on_a_new_pc_of_a_class_in_which_one_machine_lies(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        hostile = await room.machine()
        for device in (hostile, school.pc, hostile):
            await device.session.sync()
        new = await room.machine()
        names = {each.record.key or b"" for each in (await school.fold_of(hostile).of(room.space)).persons.values()}
        for own in new.agent.agreements:
            await seal_noise(room, hostile, Kind.SIGN_IN_WRAP, SignInWraps, names, own.public)
        for device in (school.pc, new):
            await device.session.sync()
        assert (await school.fold_of(new).attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


async def test_once_all_have_what_they_need_nobody_says_more(tmp_path: Path) -> None:
    async with courier_class(tmp_path) as room:
        school = await signed_class(room)
        new = await room.machine()
        devices = [school.pc, school.teacher, new]
        for device in devices * 4:
            await device.session.sync()
            await tend_keys(room)
        before = await room.territory.replica.store.spaces()
        for device in devices * 2:
            await device.session.sync()
            await tend_keys(room)
        assert await room.territory.replica.store.spaces() == before
        assert (await school.fold_of(new).attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN


@attack(
    "a machine calls somebody else's key its own",
    off={"protocol.rights.given_keys.GivenKeys._says_so": lambda _given, _to, by, _own: bool(by)},
)
async def test_who_calls_anothers_agreement_key_its_own_speaks_for_nobody(tmp_path: Path) -> None:
    async with classroom(tmp_path) as room:
        school = await signed_class(room)
        hostile = await room.machine()
        for device in (hostile, school.pc, hostile):
            await device.session.sync()
        new = await room.machine()
        keys = new_device(Random(9).randbytes)
        victims = new.agent.keys.agreement.public
        (right,) = await hostile.agent.replica.authorities(hostile.agent.device)
        claim = Successor.agreed(keys.signing, victims, None, room.space, hostile.agent.device)
        (claimed,) = await hostile.agent.write(Draft(room.space, Kind.SUCCESSOR, right.grant, claim.encode()))
        names = {each.record.key or b"" for each in (await school.fold_of(hostile).of(room.space)).persons.values()}
        noise = [
            compose(
                author=keys.signing,
                space=room.space,
                kind=Kind.SIGN_IN_WRAP,
                grant=claimed.id,
                at=claimed.header.at + 1,
                payload=SignInWraps(name, ((victims, bytes(80)),)).encode(),
                salt=bytes(16),
            )
            for name in names
        ]
        server = room.territory.replica
        admission = await server.admit([claimed, *noise], source=hostile.agent.device, now_ms=room.territory.clock())
        assert len(admission.admitted) == 1 + len(noise)
        for device in (school.pc, new):
            await device.session.sync()
        assert (await school.fold_of(new).attempt(school.room.space, school.lea, PICTURES)).how is Try.PROVEN
