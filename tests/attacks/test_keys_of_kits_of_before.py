"""The key of a kit of before, which somebody calls a reader's (docs/adr/0358)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, PersonKey, PersonRecord
from protocol.model.work import Receipt
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.replica import Replica
from protocol.roles import PersonRole, Role
from sync_server.keeping.kit_file import KitInFile
from tests.attacks.test_a_new_root_before_all_is_heard import Again, again, hide_what_was_signed
from tests.harness.attack import attack
from tests.harness.classroom import keeps_key_of
from tests.harness.server_in_process import rotate_root
from tests.harness.territory import new_device

ROW = "another root takes over before all that the old one said is heard"


async def _that_count(replica: Replica) -> frozenset[bytes]:
    return frozenset(await recovery_keys(replica))


async def _says_that_it_is_theirs(scene: Again) -> None:
    """Whoever has a copy of the server's key lists M. X, who says that the old kit's key is his, and opens by word."""
    here, server = scene.here, scene.here.office.server
    keys, person = new_device(os.urandom), os.urandom(16)

    def word(kind: Kind, payload: bytes, under: bytes, subject: bytes | None, target: bytes | None = None) -> Entry:
        return compose(
            author=server.keys.signing if under == server.grant else keys.signing,
            space=here.space,
            kind=kind,
            grant=under,
            at=at_from(here.office.clock()),
            payload=payload,
            salt=os.urandom(16),
            subject=subject,
            target=target,
        )

    right = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.TEACHER, person, None)
    grant = word(Kind.GRANT, right.encode(), server.grant, None)
    said = [
        grant,
        word(Kind.PERSON, PersonRecord("M. X", PersonRole.TEACHER).encode(), server.grant, person),
        word(Kind.PERSON_KEY, PersonKey(scene.old.recovery.public).encode(), grant.id, person),
    ]
    for work in (await server.replica.view(here.space)).coursework.hand_ins.values():
        opened = Receipt(work.record.content.stream).encode()
        said.append(word(Kind.RECEIPT_TEACHER, opened, grant.id, work.person, work.id))
    done = await server.replica.admit(said, source=b"a PC", now_ms=here.office.clock())
    assert len(done.admitted) == len(said)


@attack(
    ROW,
    off={
        f"{room}.recovery_keys_ever": _that_count
        for room in ("protocol.replica.office.opened", "sync_agent.hand_ins.for_good", "sync_agent.hand_ins.wraps")
    },
)
async def test_the_key_of_a_kit_of_before_is_nobodys_though_the_next_root_left_it_out(tmp_path: Path) -> None:
    async with again(tmp_path) as scene:
        server, clock = scene.here.office.server, scene.here.office.clock
        await scene.heard()
        root = scene.old.root.public
        first = await server.store.authored(server.replica.territory, root)
        certificate = next(one.id for one in first if one.header.kind == Kind.CERTIFICATE)
        clock.advance(60_000)
        with pytest.MonkeyPatch.context() as thief:
            hide_what_was_signed(thief, server, root, left=[certificate])
            chain = await rotate_root(
                server, scene.old, scene.new, anyway=True, remembered=KitInFile.read(scene.kit, None).said
            )
        scene.new = replace(scene.new, chain=chain)
        clock.advance(60_000)
        await scene.heard()
        await _says_that_it_is_theirs(scene)
        await scene.heard()
        clock.advance(8 * DAY_MS)
        for _ in range(3):
            clock.advance(60_000)
            await scene.heard()
        office = scene.office_of(server)
        with pytest.raises(BadInput, match="has opened 1 of the hand-ins"):
            await office.with_kit("space close", scene.new, space=scene.here.space.hex(), unheard_too=True)
        assert await keeps_key_of(scene.machine, scene.work)
