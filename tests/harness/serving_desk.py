"""Who answers at a server, and its callers: a territory with a class, a teacher's device and a pupils' machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from protocol.messages.calls import SyncAnswer, SyncRequest
from protocol.messages.parts import InlinePack, SpacePage
from protocol.model.entry import Entry, Kind
from protocol.replica.answering.serving import Responder
from protocol.replica.answering.station import Contact
from protocol.roles import PersonRole, Role
from tests.harness.caller import Caller, Packed, caller, pack_files, pack_sealed
from tests.harness.territory import Territory

FILES = {"leçon.txt": b"Le cycle de l'eau. " * 20}


@dataclass
class Desk:
    """A territory, who answers for it, a class, its people and devices."""

    territory: Territory
    responder: Responder
    room: bytes
    pupil: bytes
    adult: bytes
    teacher: Caller
    machine: Caller
    contacts: list[Contact]

    async def device(self, role: Role, *spaces: bytes, seed: int) -> Caller:
        return await caller(self.territory, self.responder, role, *spaces, seed=seed)

    async def names(self, space: bytes | None = None) -> list[bytes]:
        """The ids of a space's entries, in order of arrival."""
        return [stored.entry.id for stored in await self.territory.replica.store.scan(space or self.room)]

    async def of_kind(self, kind: Kind) -> list[Entry]:
        return await self.territory.replica.store.scan_kinds([kind])

    async def publish(self, files: dict[str, bytes] | None = None) -> tuple[Entry, Packed]:
        """A lesson that the server has, content included."""
        packed = await pack_files(files or FILES)
        entry = self.teacher.lesson(self.room, packed.ref)
        await self.push(self.teacher, entry)
        for pack in packed.packs:
            await self.territory.replica.content.ingest(self.room, pack)
        return entry, packed

    async def hand_in(self, item: Entry, data: bytes = b"s" * 4096, by: Caller | None = None) -> tuple[Entry, Packed]:
        """A work that the server has, content included."""
        packed = await pack_sealed(data)
        entry = (by or self.machine).hand_in(self.room, item.id, self.pupil, packed.ref)
        await self.push(by or self.machine, entry, packs=packed.packs)
        return entry, packed

    async def push(self, who: Caller, *entries: Entry, packs: list[bytes] | None = None) -> SyncAnswer:
        return await who.sync(
            SyncRequest(push=entries, packs=tuple(InlinePack(self.room, pack) for pack in packs or ()))
        )

    async def standing(self, who: Caller, *, complete: bool = False, prefix: bool = False) -> SyncRequest:
        """A quiet request of somebody who has everything."""
        answers = await who.catch_up()
        assert not answers[-1].more
        cursors = tuple(
            replace(cursor, space=cursor.space[:4] if prefix else cursor.space, complete=complete)
            for cursor in who.cursors.values()
        )
        return SyncRequest(generation=who.generation, cursors=cursors)


@asynccontextmanager
async def serving_desk(folder: Path) -> AsyncIterator[Desk]:
    """One whose server's files are in `folder`."""
    territory = await Territory.create(folder / "server")
    room = await territory.classroom()
    pupil = await territory.person("Léa", PersonRole.PUPIL, room)
    adult = await territory.person("Mme Petit", PersonRole.TEACHER, room)
    responder = territory.responder()
    contacts: list[Contact] = []
    responder.on_contact = contacts.append
    teacher = await caller(territory, responder, Role.TEACHER, room, seed=1, person=adult)
    machine = await caller(territory, responder, Role.MACHINE, room, seed=2)
    yield Desk(territory, responder, room, pupil, adult, teacher, machine, contacts)
    await territory.close()


def entries_of(answer: SyncAnswer) -> list[bytes]:
    return [entry.id for page in answer.pages for entry in page.entries]


def page_of(answer: SyncAnswer, space: bytes) -> SpacePage | None:
    return next((page for page in answer.pages if page.checkpoint.space == space), None)
