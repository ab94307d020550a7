"""A class that signs in: a teacher's device and a shared PC that both know it, and somebody who touches pictures."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from protocol.folds.sign_in import Method
from protocol.model.entry import Kind
from protocol.model.structure import Grant, PersonRecord, Revocation
from protocol.roles import PersonRole, Role
from sync_agent.school.sign_in import SignInBook
from tests.harness.classroom import Classroom, Device
from tests.harness.portal import Answer, Surfer, portal

PICTURES = "3-9-12"
WRONG = "1-1-1"


@dataclass
class SignedClass:
    """The class, its devices, and Tom beside Léa."""

    room: Classroom
    teacher: Device
    pc: Device
    tom: bytes

    @property
    def lea(self) -> bytes:
        return self.room.pupil_person

    @property
    def book(self) -> SignInBook:
        """Sign-in as the teacher's device sees it."""
        return SignInBook(self.teacher.agent)

    async def agree(self) -> None:
        """What the teacher has said reaches the PC, by way of the server."""
        for device in (self.teacher, self.pc, self.teacher):
            await device.session.sync()

    async def tips(self) -> tuple[bytes, ...]:
        """What the teacher's device said last, as the server has it."""
        return tuple(await self.room.territory.replica.tips(self.room.space, self.teacher.agent.device))

    async def cut_off(self, heads: tuple[bytes, ...]) -> bytes:
        """The teacher's device is cut off but for what these lead to; the revocation."""
        cut = Revocation(self.teacher.agent.device, heads).encode()
        return (await self.room.territory.say(self.room.space, Kind.REVOKE, cut)).id

    async def let_in_again(self, *cuts: bytes) -> None:
        """It is let in again, as the same teacher's, and everybody hears of it."""
        keys, room = self.teacher.agent.keys, self.room
        again = Grant(
            keys.signing.public,
            keys.agreement.public,
            keys.tls.fingerprint,
            Role.TEACHER,
            room.teacher_person,
            None,
            None,
        ).encode()
        await room.territory.say(room.space, Kind.GRANT, again, parents=cuts)
        await self.agree()
        await self.agree()

    def fold_of(self, device: Device) -> SignInBook:
        """Sign-in as a device sees it."""
        return SignInBook(device.agent)


async def class_beside(
    school: SignedClass, name: str, teacher: str, *, pictures: str | None, first: bool = False
) -> bytes:
    """Another class of the PC's, with a teacher of its own, that lists Léa, and has sign-in if it sets pictures.

    Whoever has the server makes such a class, also one whose id is the `first`.
    """
    room, territory = school.room, school.room.territory
    space = await territory.classroom(name)
    while first and space > room.space:
        space = await territory.classroom(name)
    person = await territory.person(teacher, PersonRole.TEACHER, space)
    device = await room.device(Role.TEACHER, space, person=person)
    await territory.let_in(school.pc.agent.keys, Role.MACHINE, space)
    await territory.say(space, Kind.PERSON, PersonRecord("Léa", PersonRole.PUPIL).encode(), subject=school.lea)
    await _agree(device, school.pc, device)
    if pictures is not None:
        book = SignInBook(device.agent)
        await book.set(space, {school.lea: (Method.PICTURES, pictures)})
        await book.switch(space, on=True)
    await _agree(device, school.pc, device, school.pc)
    return space


async def leaves(school: SignedClass, space: bytes | None = None) -> None:
    """Léa is taken off the list of her class, or of another."""
    territory, space = school.room.territory, space or school.room.space
    listed = (await territory.replica.view(space)).roster.persons[school.lea].entry
    left = PersonRecord("Léa", PersonRole.PUPIL, left=True).encode()
    await territory.say(space, Kind.PERSON, left, subject=school.lea, parents=(listed,))
    await school.agree()


async def _agree(*devices: Device) -> None:
    for device in devices:
        await device.session.sync()


async def signed_class(room: Classroom) -> SignedClass:
    """Sign-in is on; Léa has `PICTURES`, Tom a PIN; everybody knows."""
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    made = SignedClass(room, await room.teacher(), await room.machine(), tom)
    await made.agree()
    await made.book.set(room.space, {made.lea: (Method.PICTURES, PICTURES), tom: (Method.PIN, "4711")})
    await made.book.switch(room.space, on=True)
    await made.agree()
    return made


async def answers_unasked(school: SignedClass, work: str, item: str) -> tuple[int, int]:
    """The PC's statuses for whoever looks at a work of Léa's, and hands in as her, without having signed in."""
    async with portal(school.pc.agent) as surfer:
        shown = await surfer.get(f"/work/{work}")
        sent = await surfer.send(
            f"/item/{item}", f"/item/{item}/hand-in", {"person": school.lea.hex()}, [("a.txt", b"x")]
        )
    return shown.status, sent.status


async def sign_in(surfer: Surfer, person: bytes, secret: str, space: bytes | None = None) -> Answer:
    """Show pictures one by one, or a code, in a class where there are several; what the last page answers."""
    at, there = f"/sign-in/{person.hex()}", {} if space is None else {"space": space.hex()}
    page = f"{at}?{urlencode(there)}"
    if "-" not in secret:
        return await surfer.send(page, at, {"secret": secret, **there})
    parts = secret.split("-")
    for shown in range(len(parts) - 1):
        chosen = "-".join(parts[:shown])
        assert (await surfer.send(page, at, {"picture": parts[shown], "chosen": chosen, **there})).status == 200
    return await surfer.send(page, at, {"picture": parts[-1], "chosen": "-".join(parts[:-1]), **there})
