"""A server's key is replaced where it has said something in more classes than one revocation names heads."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonRecord, SpaceRecord
from protocol.replica.at_work.replica import Draft
from protocol.replica.office import heads
from protocol.roles import PersonRole, Role
from sync_server.handlers.by_kit import rotation
from sync_server.handlers.by_kit.rotation import rotate_server
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.server_in_process import office
from tests.harness.territory import new_device

CLASSES = 30


@pytest.fixture(autouse=True)
def few_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation names eight heads and two lists of sixteen."""
    monkeypatch.setattr(heads, "MAX_REVOKED_HEADS", 8)
    monkeypatch.setattr(heads, "MAX_ROOT_ACCOUNT_IDS", 16)
    monkeypatch.setattr(rotation, "MOST_LISTED_HEADS", 8 + 2 * 16)


async def test_no_class_is_cut_off_with_the_key_that_made_it(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        server = desk.server
        school = server.replica.door.parent(bytes.fromhex(desk.space))
        assert school is not None
        record = SpaceRecord("Classe", year=None).encode()
        classes = [entry.id for entry in await server.say([Draft(school, Kind.SPACE, None, record)] * CLASSES)]
        pc = new_device(Random(1).randbytes)
        right = Grant(pc.signing.public, pc.agreement.public, pc.tls.fingerprint, Role.MACHINE, None, None).encode()
        lea = PersonRecord("Léa", PersonRole.PUPIL).encode()
        await server.say([Draft(space, Kind.GRANT, None, right) for space in classes])
        await server.say([Draft(space, Kind.PERSON, None, lea, subject=os.urandom(16)) for space in classes])

        before = server.keys.signing.public
        await rotate_server(server, kit_in(tmp_path / "server" / "kit", None))

        for space in classes:
            roster = (await server.replica.view(space)).roster
            assert before in roster.cut
            assert roster.may_read(pc.signing.public)
            assert [person.name for person in roster.persons.values()] == ["Léa"]


async def test_what_somebody_writes_with_the_old_key_afterwards_counts_for_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "server") as desk:
        server, old = desk.server, desk.server.keys.signing
        grant = server.grant
        await rotate_server(server, kit_in(tmp_path / "server" / "kit", None))
        lea = PersonRecord("Intrus", PersonRole.PUPIL).encode()
        space = bytes.fromhex(desk.space)
        (said,) = await server.replica.write(
            [Draft(space, Kind.PERSON, grant, lea, subject=os.urandom(16))],
            author=old,
            now_ms=server.now_ms(),
            entropy=os.urandom,
        )
        assert said.id in (await server.replica.view(space)).roster.held_back
