"""Pupils' work in other people's hands (docs/attacks.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from protocol.errors import PeerFault
from protocol.identity import AgreementKey
from protocol.messages.calls import SyncRequest
from protocol.messages.parts import InlinePack, Wanted
from protocol.replica.at_work.replica import Replica
from protocol.rights.door import Authority
from protocol.roles import PersonRole, Role
from protocol.trust.sealing import SealedFile, SealWriter, unwrap_key, wrap_info, wrap_key
from tests.harness.attack import attack
from tests.harness.caller import Caller, caller, pack_files
from tests.harness.territory import Territory

READER = AgreementKey(bytes([7]) * 32)
CONTENT_KEY = bytes([9]) * 32


def binding(person: bytes, author: bytes) -> bytes:
    return wrap_info(space=bytes(32), item=bytes(32), person=person, author=author, commitment=bytes(32))


@attack(
    "a pupil hands in another's sealed bytes, from the same PC too",
    off={"protocol.trust.sealing.tagged": lambda domain, _bound: domain},
)
async def test_a_wrap_that_was_made_for_one_pupil_opens_for_no_other() -> None:
    stolen = wrap_key(CONTENT_KEY, READER.public, binding(b"L" * 16, b"P" * 32), bytes([1]) * 32)
    with pytest.raises(PeerFault):
        unwrap_key(stolen, READER, binding(b"T" * 16, b"P" * 32))


@attack(
    "content-length leak of hand-ins",
    off={"protocol.trust.sealing.bucket": lambda size: size},
)
async def test_the_size_of_sealed_work_tells_a_bucket_and_no_more() -> None:
    sizes = {sealed_bytes("redaction.odt", length) for length in (20_600, 20_900, 21_300)}
    assert len(sizes) == 1


@attack(
    "content-length leak of hand-ins",
    off={"protocol.trust.sealed_chunks.SealedChunks.seal": lambda _keys, plain, _number, **_last: plain},
)
async def test_neither_a_name_nor_a_word_shows_in_sealed_work() -> None:
    sealed = seal("lettre-de-lea.odt", b"mon chien s'appelle Plume " * 40)
    assert b"lettre-de-lea" not in sealed
    assert b"Plume" not in sealed


def seal(name: str, data: bytes) -> bytes:
    writer = SealWriter(CONTENT_KEY, [SealedFile(name, len(data))])
    return b"".join([*writer.feed(data), *writer.finish()])


def sealed_bytes(name: str, length: int) -> int:
    return len(seal(name, bytes(length)))


class Office:
    """A server over which devices of two classes call."""

    def __init__(self, territory: Territory, room: bytes, other: bytes, pupil: bytes) -> None:
        self.territory, self.room, self.other, self.pupil = territory, room, other, pupil
        self.responder = territory.responder()

    async def device(self, role: Role, space: bytes, seed: int) -> Caller:
        return await caller(self.territory, self.responder, role, space, seed=seed)


@pytest_asyncio.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    territory = await Territory.create(tmp_path / "server")
    room, other = await territory.classroom(), await territory.classroom("CM2")
    yield Office(territory, room, other, await territory.person("Léa", PersonRole.PUPIL, room))
    await territory.close()


async def everywhere(replica: Replica, key: bytes) -> dict[bytes, Authority]:
    """What a device would read if its grants opened every space."""
    return dict.fromkeys(replica.door.spaces(), replica.door.authorities_of(key)[0])


@attack("chunk as an oracle", off={"protocol.replica.at_work.replica.Replica.readable": everywhere})
async def test_who_knows_the_hash_of_a_content_of_another_class_gets_nothing_for_it(office: Office) -> None:
    teacher = await office.device(Role.TEACHER, office.room, 1)
    packed = await pack_files({"sujet.txt": b"Le sujet du controle de demain"})
    lesson = teacher.lesson(office.room, packed.ref)
    await teacher.sync(SyncRequest(push=(lesson,), packs=(InlinePack(office.room, packed.packs[0]),)))
    curious = await office.device(Role.MACHINE, office.other, 2)
    await curious.catch_up()
    for space in (office.room, office.other):
        answer = await curious.sync(SyncRequest(want=(Wanted(space, packed.ref.stream),)))
        assert (answer.packs, answer.links) == ((), ())
