"""Whoever had the kit dated something years ahead before another root took over (docs/attacks.md)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.clock import at_from
from protocol.errors import PeerFault, Refused
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Certificate, Erasure, RecoveryKey, Ruling
from protocol.replica.at_work.keyring import recovery_keys
from protocol.replica.at_work.replica import Draft, Replica
from protocol.trust.kit import Kit
from sync_agent.transport.sealed_calls import server_of
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.new_root import NewKit
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.office_devices import Town, town

ROW = "an old root's word is dated years ahead"
CALLED = "a replaced kit calls a laptop a server"
OFF = {"protocol.rights.door.Door.place_of_root": lambda *_: 0}
THIRTY_YEARS_MS = 30 * 365 * 86_400_000


@dataclass
class Stolen:
    """A territory whose kit lay in other hands for a while, and a PC of it."""

    here: Town
    folder: Path
    kit: Kit
    machine: Device

    def signed(self, kind: Kind, payload: bytes, space: bytes | None = None) -> Entry:
        """What the thief says by the old root, of a day that is far ahead."""
        return compose(
            author=self.kit.root,
            space=space or self.here.office.server.replica.territory,
            kind=kind,
            grant=None,
            at=at_from(self.here.office.clock() + THIRTY_YEARS_MS, 0),
            payload=payload,
            salt=os.urandom(16),
        )

    async def bring(self, said: Entry) -> None:
        """It comes to everybody by some way, before anybody has noticed the theft."""
        for replica in (self.here.office.server.replica, self.machine.agent.replica):
            admission = await replica.admit([said], source=b"a stick", now_ms=self.here.office.clock())
            assert admission.admitted

    async def rotate(self) -> Kit:
        """Another root takes over; its kit."""
        self.here.office.clock.advance(60_000)
        made = NewKit(self.folder / "server" / "kit", None, self.folder / "kit-2", None, os.urandom)
        done = await self.here.office.with_kit("rotate root", self.kit, made.kit)
        made.keep(done)
        with contextlib.suppress(PeerFault):  # "an older server", where the thief's counts as the newer
            await self.here.sync(self.machine)
        return kit_in(self.folder / "kit-2", None)


@asynccontextmanager
async def stolen(folder: Path) -> AsyncIterator[Stolen]:
    async with town(folder) as here:
        machine = await here.device("machine")
        yield Stolen(here, folder, kit_in(folder / "server" / "kit", None), machine)


@attack(ROW, off=OFF)
async def test_a_recovery_key_that_a_thief_dated_ahead_is_in_force_no_more_after_the_rotation(tmp_path: Path) -> None:
    async with stolen(tmp_path) as there:
        here, thief = there.here, AgreementKey(os.urandom(32))
        person, pupil = (
            await here.office.add_person("Mme Petit", "teacher"),
            await here.office.add_person("Léa", "pupil"),
        )
        laptop = await here.device("teacher", person)
        item = await here.assignment(laptop)
        await there.bring(there.signed(Kind.RECOVERY_KEY, RecoveryKey(thief.public).encode()))
        kit = await there.rotate()
        work = await here.work(there.machine, item, pupil)
        await here.sync(there.machine)
        replica = here.office.server.replica
        handed_in = (await replica.view(here.space)).coursework.hand_ins[work]
        assert content_key_of(handed_in, {kit.recovery.public: kit.recovery}) is not None
        assert content_key_of(handed_in, {thief.public: thief}) is None
        for each in (replica, there.machine.agent.replica):
            assert await recovery_keys(each) == [kit.recovery.public]


@attack(ROW, off=OFF)
async def test_a_certificate_that_a_thief_dated_ahead_leads_nobody_to_him_after_the_rotation(tmp_path: Path) -> None:
    async with stolen(tmp_path) as there:
        thief, seal = SigningKey(os.urandom(32)), AgreementKey(os.urandom(32))
        await there.bring(there.signed(Kind.CERTIFICATE, Certificate(thief.public, seal.public).encode()))
        here, replica = there.here, there.machine.agent.replica
        assert (await server_of(replica)).key == thief.public, "the old kit was as good as any"
        await there.rotate()
        assert (await server_of(replica)).key == here.office.server.keys.signing.public


async def test_who_was_shown_again_by_a_thiefs_ruling_is_forgotten_by_a_new_word_after_the_rotation(
    tmp_path: Path,
) -> None:
    async with stolen(tmp_path) as there:
        here, server = there.here, there.here.office.server
        pupil = bytes.fromhex(await here.office.add_person("Léa", "pupil"))
        (forgotten,) = await server.write([Draft(here.space, Kind.ERASE, server.grant, Erasure(pupil).encode())])

        async def is_listed(replica: Replica) -> bool:
            return pupil in (await replica.view(here.space)).roster.persons

        assert not await is_listed(server.replica)
        await there.bring(there.signed(Kind.RULING, Ruling((), (forgotten.id,)).encode(), here.space))
        assert await is_listed(server.replica), "the old kit was as good as any"
        await there.rotate()
        await server.write([Draft(here.space, Kind.ERASE, server.grant, Erasure(pupil).encode())])
        await here.sync(there.machine)
        for each in (server.replica, there.machine.agent.replica):
            assert not await is_listed(each)


async def _called_one(replica: Replica, key: bytes) -> bool:
    return replica.door.is_a_servers(key)


@attack(CALLED, off={"protocol.replica.at_work.replica.Replica.was_a_servers": _called_one})
async def test_whom_a_replaced_kit_calls_a_server_is_answered_as_before(tmp_path: Path) -> None:
    async with stolen(tmp_path) as there:
        here = there.here
        laptop = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        await there.rotate()
        await here.sync(laptop, there.machine)
        keys = laptop.agent.keys
        said = there.signed(Kind.CERTIFICATE, Certificate(keys.signing.public, keys.agreement.public).encode())
        await there.bring(said)
        assert await _is_answered(here, laptop)


async def _is_answered(here: Town, device: Device) -> bool:
    try:
        await here.sync(device)
    except Refused:
        return False
    return True
