"""A class whose server is in wrong hands: whoever has it has a device of its own, and lets it in as it pleases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from protocol.folds.hand_in_keys import content_key_of
from protocol.identity import AgreementKey, DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import PersonKey
from protocol.model.work import Feedback
from protocol.rights.vouching import Device as VouchedDevice
from protocol.roles import Role
from protocol.trust.person_keys import KeyWraps, open_reading_key
from tests.harness.attack import is_undefended
from tests.harness.beginnings import new_place
from tests.harness.classroom import WORK, Classroom, Device, Given, assignment, classroom
from tests.harness.commands import Desk
from tests.harness.kept_class import KeptClass
from tests.harness.portal import portal
from tests.harness.territory import new_device


@dataclass
class SpiedClass:
    """A class at work, in which a pupil's work was handed in, opened, and answered by nobody yet."""

    room: Classroom
    teacher: Device
    machine: Device
    item: bytes
    work: bytes
    spy: DeviceKeys
    grant: bytes = b""
    said: int = 0

    async def sync(self, *devices: Device) -> None:
        for device in devices or (self.teacher, self.machine):
            await device.session.sync()

    async def name_the_spy(
        self, person: bytes, role: Role = Role.TEACHER, *, back_ms: int = 10**9, space: bytes | None = None
    ) -> None:
        """The server grants it what a teacher's device has, in the class or in another `space`.

        It says a key of its own there, dated as it pleases.
        """
        (grant,) = await self.room.territory.let_in(self.spy, role, space or self.room.space, person=person)
        self.grant = grant.id
        key = PersonKey(self.spy.agreement.public).encode()
        await self.say(Kind.PERSON_KEY, key, person, back_ms=back_ms, space=space)

    async def say(
        self,
        kind: Kind,
        payload: bytes,
        subject: bytes | None,
        *,
        target: bytes | None = None,
        parents: tuple[bytes, ...] = (),
        back_ms: int = 0,
        space: bytes | None = None,
    ) -> Entry:
        territory = self.room.territory
        self.said += 1
        entry = compose(
            author=self.spy.signing,
            space=space or self.room.space,
            kind=kind,
            grant=self.grant,
            at=(max(territory.clock() - back_ms, 1) << 16) + self.said,
            payload=payload,
            salt=bytes(16),
            subject=subject,
            target=target,
            parents=parents,
        )
        admission = await territory.replica.admit([entry], source=b"the operator", now_ms=territory.clock())
        assert admission.admitted
        return entry

    async def opens(self, work: bytes) -> bool:
        """Whether the operator opens a hand-in, with all that the set holds for the spy's keys."""
        territory = self.room.territory
        keys: dict[bytes, AgreementKey] = {self.spy.agreement.public: self.spy.agreement}
        said = await territory.replica.store.scan_kinds([Kind.KEY_WRAP])
        for entry in (one for one in said if one.payload is not None):
            record = KeyWraps.parse(entry.payload or b"")
            for to, sealed in record.wraps:
                if to == self.spy.agreement.public:
                    key = open_reading_key(
                        sealed, entry.header.space, entry.header.subject or b"", record.agreement, self.spy.agreement
                    )
                    keys[key.public] = key
        works = (await territory.replica.view(self.room.space)).coursework.hand_ins
        return content_key_of(works[work], keys) is not None

    async def sealed_to_the_spy(self) -> int:
        """How many reading keys others have sealed to it: its own it seals to itself."""
        wraps = await self.room.territory.replica.store.scan_kinds([Kind.KEY_WRAP])
        by_others = [entry for entry in wraps if entry.header.author != self.spy.signing.public]
        sealed = [KeyWraps.parse(entry.payload or b"").wraps for entry in by_others]
        return sum(to == self.spy.agreement.public for each in sealed for to, _ in each)


Further: TypeAlias = "Callable[[SpiedClass], Awaitable[None]]"

_KEPT: Final[dict[str, tuple[SpiedClass, KeptClass]]] = {}


@asynccontextmanager
async def answered_class(
    folder: Path, text: str, files: Mapping[str, bytes] | None = None, *, kept_for: str
) -> AsyncIterator[SpiedClass]:
    """One in which the teacher has given a mark for the pupil's work, with a text and files."""
    async with spied_class(folder, kept_for=kept_for) as made:
        said = Given(files or {})
        await Desk(made.teacher.agent).ask("feedback", said, id=made.work.hex(), text=text, mark="18/20", redo=False)
        for _ in range(2):
            await made.sync()
        yield made


@asynccontextmanager
async def spied_class(
    folder: Path, *, kept_for: str | None = None, further: Further | None = None
) -> AsyncIterator[SpiedClass]:
    """See `SpiedClass`; the spy has not been let in.

    Tests that name themselves (`kept_for`) begin with one class that was made once in this process, with what happened
    in it `further`: it must have been made as they would have made it. One that has changed a bound already names
    nobody, and has a class made; so has an attack whose defence is switched off by now.
    """
    if kept_for is None or is_undefended():
        async with classroom(folder) as room:
            here = await _spied(room)
            if further is not None:
                await further(here)
            yield here
        return
    if kept_for not in _KEPT:
        async with classroom(new_place()) as room:
            here = await _spied(room)
            if further is not None:
                await further(here)
            _KEPT[kept_for] = here, KeptClass.of(room)
    was, kept = _KEPT[kept_for]
    async with kept.opened(folder) as room:
        teacher, machine, *_ = room.devices
        yield replace(was, room=room, teacher=teacher, machine=machine)


async def _spied(room: Classroom) -> SpiedClass:
    teacher, machine = await room.teacher(), await room.machine()
    await teacher.session.sync()
    item = await assignment(room, teacher, machine)
    work = await room.hand_in(machine, item, WORK)
    made = SpiedClass(room, teacher, machine, item, work, new_device(Random(666).randbytes))
    await made.sync(machine, teacher)
    await Desk(teacher.agent).ask("confirm-opened", id=work.hex())
    await made.sync(teacher, machine)
    return made


def own_keys(keys: DeviceKeys) -> VouchedDevice:
    """The pair of keys by which a device is confirmed."""
    return keys.signing.public, keys.agreement.public


async def heading_above(here: SpiedClass, words: str) -> str | None:
    """What stands above these words, said of the pupil's work by the spy, on the pupil's page; None if they do not."""
    pupil = here.room.pupil_person
    await here.say(Kind.FEEDBACK, Feedback(words, None, False, None).encode(), pupil, target=here.work)
    for _ in range(2):
        await here.sync()
    async with portal(here.machine.agent) as surfer:
        await surfer.send("/who", "/who", {"person": pupil.hex(), "back": "/"})
        page = await surfer.page(f"/work/{here.work.hex()}")
    return page.partition('id="h-note">')[2].partition("</h2>")[0] if words in page else None
