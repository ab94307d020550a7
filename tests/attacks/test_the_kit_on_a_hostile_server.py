"""The kit is used on a server that somebody else had (docs/threat-model.md)."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.clock import at_from
from protocol.entry import Kind, compose
from protocol.hand_in_keys import content_key_of
from protocol.replica.replica import Draft
from protocol.roles import Role
from protocol.structure import Grant, PersonKey
from protocol.vouching import device_words
from sync_agent.confirming import own_device
from sync_server.handlers.territory import kit_in
from tests.harness.attack import attack
from tests.harness.commands import Desk
from tests.harness.office_devices import town
from tests.harness.territory import new_device


@attack(
    "a server's operator names a device of their own as a teacher's",
    off={"sync_server.handlers.rewrapping.is_shown": lambda *_: True},
)
async def test_the_kit_opens_earlier_work_to_the_device_that_was_shown_and_to_no_other(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        petit, lea = await here.office.add_person("Mme Petit", "teacher"), await here.office.add_person("Léa", "pupil")
        lost, machine = await here.device("teacher", petit), await here.device("machine")
        item = await here.assignment(lost)
        await here.sync(machine)
        work = await here.work(machine, item, lea)
        await here.sync(machine, lost)
        await Desk(lost.agent).ask("confirm-opened", id=work.hex())
        await here.sync(lost, machine)
        await here.office.do("revoke", device=lost.agent.device.hex())
        laptop = await here.device("teacher", petit)
        # meanwhile somebody has the server, and names a device of theirs as hers
        server, spy = here.office.server, new_device(os.urandom)
        space, person = bytes.fromhex(here.office.space), bytes.fromhex(petit)
        given = Grant(spy.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.TEACHER, person, None)
        (grant,) = await server.write([Draft(space, Kind.GRANT, server.grant, given.encode())])
        for ahead_ms in (-(30 * 86_400_000), 60_000):
            said = compose(
                author=spy.signing,
                space=space,
                kind=Kind.PERSON_KEY,
                grant=grant.id,
                at=at_from(here.office.clock() + ahead_ms),
                payload=PersonKey(spy.agreement.public).encode(),
                salt=bytes(16),
                subject=person,
            )
            assert (await server.replica.admit([said], source=b"x", now_ms=here.office.clock())).admitted
        words = device_words(own_device(laptop.agent))
        keys = {"root": kit.root.seed.hex(), "recovery": kit.recovery.seed.hex()}
        assert await here.office.do("rewrap", **keys, person=petit, words=words, space=[]) == {"hand_ins": 1}
        found = (await server.replica.view(space)).coursework.hand_ins[work]
        assert content_key_of(found, {spy.agreement.public: spy.agreement}) is None
        await here.sync(laptop)
        assert await Desk(laptop.agent).files("open-hand-in", id=work.hex())
