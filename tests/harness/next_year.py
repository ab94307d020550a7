"""A class begins in September: a teacher, a PC that has known her for two months, and a copy of the server's key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from protocol.clock import DAY_MS
from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey, Revocation
from protocol.model.work import Feedback, Receipt
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.console.operation import NO_FILES
from protocol.replica.office.further_words import repeated
from protocol.replica.office.spaces import uai_of
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import device_id
from protocol.roles import Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.classroom import Device, Given
from tests.harness.commands import Desk, Received
from tests.harness.copied_keys import granted, thief_says
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.territory import new_device


class NextYear:
    """Mme Petit, the school's PC, a pupil; and somebody with a copy of the server's key, and a device of their own."""

    def __init__(self, here: Town, teacher: Device, machine: Device, person: str, pupil: str) -> None:
        self.here, self.teacher, self.machine = here, teacher, machine
        self.person, self.pupil = person, pupil
        self.spy = new_device(Random(666).randbytes)
        self.said = 0
        self.grants: dict[bytes, bytes] = {}

    @property
    def server(self) -> Replica:
        return self.here.office.server.replica

    def pass_days(self, days: int) -> None:
        self.here.office.clock.advance(days * DAY_MS)

    async def sync(self, *devices: Device) -> None:
        for _ in range(3):
            await self.here.sync(*devices)
            self.here.office.clock.advance(60_000)

    async def new_class(self) -> bytes:
        """With the PC in it, and the pupil."""
        space = await self.class_without_the_pc()
        await self.lets_the_pc_in(space)
        return space

    async def class_without_the_pc(self) -> bytes:
        school = await uai_of(self.here.office.server, self.here.school)
        space = (await self.here.office.do("space add", name="CM2", school=school))["space"]
        said = await repeated(self.here.office.server, bytes.fromhex(self.pupil), [bytes.fromhex(space)])
        await self.here.office.do("grant", person=self.pupil, space=[space], called=said.name)
        return bytes.fromhex(space)

    async def lets_the_pc_in(self, space: bytes) -> None:
        await self.here.office.do("grant", device=self.machine.agent.device.hex(), space=[space.hex()])

    async def lets_her_in(self, space: bytes) -> None:
        await self.here.office.do("grant", person=self.person, space=[space.hex()])

    async def spy_comes(
        self, space: bytes, *, dated_days_ago: int, person: str | None = None, code: bytes | None = None
    ) -> None:
        """As Mme Petit, or somebody else, with a reading key; by a code, as the grant has it."""
        person = person or self.person
        given = granted(self.spy, Role.TEACHER, person, code=code)
        self.grants[space] = (await self.thief_says(space, Kind.GRANT, given)).id
        key = PersonKey(self.spy.agreement.public).encode()
        await self.spy_says(space, Kind.PERSON_KEY, key, person, days_ago=dated_days_ago)

    async def spy_is_there_before_her(self) -> bytes:
        """A new class in which the PC has heard it as Mme Petit when she is let in."""
        space = await self.new_class()
        await self.spy_comes(space, dated_days_ago=0)
        await self.sync(self.machine)
        await self.lets_her_in(space)
        return space

    async def thief_cuts_her_off(self, space: bytes, *heads: bytes, right: bytes | None = None) -> Entry:
        """Her laptop has left with what these lead to, or this right of its has ended, as the copied key says."""
        cut = Revocation(self.teacher.agent.device, heads).encode()
        return await self.thief_says(space, Kind.REVOKE, cut, target=right)

    async def thief_says(
        self,
        space: bytes,
        kind: Kind,
        payload: bytes,
        *,
        subject: str | None = None,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
    ) -> Entry:
        """By the copied key."""
        office, about = self.here.office, None if subject is None else bytes.fromhex(subject)
        draft = Draft(space, kind, office.server.grant, payload, subject=about, target=target, parents=parents)
        (said,) = await thief_says(office, draft)
        return said

    async def spy_says(
        self, space: bytes, kind: Kind, payload: bytes, subject: str, *, target: bytes | None = None, days_ago: int = 0
    ) -> None:
        self.said += 1
        now_ms = self.here.office.clock()
        entry = compose(
            author=self.spy.signing,
            space=space,
            kind=kind,
            grant=self.grants[space],
            at=((now_ms - days_ago * DAY_MS) << 16) + self.said,
            payload=payload,
            salt=bytes(16),
            subject=bytes.fromhex(subject),
            target=target,
        )
        admission = await self.server.admit([entry], source=b"a PC", now_ms=now_ms)
        assert admission.admitted

    async def hand_in(self, space: bytes) -> bytes:
        """Work that Mme Petit asks for in a class, and that the pupil hands in there."""
        item = await self.here.asks_for_work(self.teacher, space)
        await self.sync()
        work = await self.here.work(self.machine, item, self.pupil)
        await self.sync()
        return work

    async def opens(self, work: bytes) -> None:
        """Mme Petit reads it, and says so."""
        desk = Desk(self.teacher.agent)
        await desk.files("open-hand-in", id=work.hex())
        await desk.ask("confirm-opened", id=work.hex())
        await self.sync()

    async def opened_work(self, space: bytes) -> bytes:
        """The same of work that is handed in to her."""
        work = await self.hand_in(space)
        await self.opens(work)
        return work

    async def is_given(self, space: bytes, work: bytes, keys: DeviceKeys) -> bool:
        """Whether these open it, as the PC has it."""
        shown = (await self.machine.agent.replica.view(space)).coursework.hand_ins[work]
        return content_key_of(shown, {keys.agreement.public: keys.agreement}) is not None

    async def answers(self, work: bytes) -> None:
        desk = Desk(self.teacher.agent)
        await desk.ask("feedback", Given({}), id=work.hex(), text="Très bien raconté", mark="18/20", redo=False)
        await self.sync()

    async def spy_answers(self, space: bytes, work: bytes) -> None:
        said = Feedback("Copié sur le voisin", "0/20", redo=False, content=None).encode()
        await self.spy_says(space, Kind.FEEDBACK, said, self.pupil, target=work)
        await self.sync()

    async def spy_opens(self, space: bytes, work: bytes) -> None:
        """It says so, and nobody has heard of it yet but the server."""
        stream = (await self.server.view(space)).coursework.hand_ins[work].record.content.stream
        await self.spy_says(space, Kind.RECEIPT_TEACHER, Receipt(stream).encode(), self.pupil, target=work)

    async def archive(self) -> str:
        """The page of what the server writes for the pupil's family."""
        got = Received()
        await self.here.office.table["export-person"]({"person": self.pupil, "renamed_too": True}, NO_FILES, got)
        return got.files["index.html"].decode()

    async def who_speaks(self, replica: Replica, space: bytes) -> frozenset[Pair]:
        return (await replica.view(space)).roster.speaking[bytes.fromhex(self.person)]

    async def second_laptop(self, *, confirmed: bool = True) -> Device:
        """One more of hers, by a code; she has compared six words on both, or not."""
        first, second = self.teacher, await self.here.device("teacher", self.person)
        await self.sync()
        for one, other in ((first, second), (second, first)) if confirmed else ():
            reader = device_id(own_device(other.agent))
            await confirm(one.agent, reader, shown_as="own", person=bytes.fromhex(self.person))
        await self.sync()
        return second


@asynccontextmanager
async def next_year(folder: Path, *, kept_for: str) -> AsyncIterator[NextYear]:
    """Two months after they have met; until then kept for the tests of a file, as `town_at_work` keeps it."""
    async with town_at_work(folder, kept_for=kept_for, in_step=True) as (here, (teacher, machine, person, pupil, _)):
        found = NextYear(here, teacher, machine, person, pupil)
        found.pass_days(60)
        await found.sync()
        yield found
