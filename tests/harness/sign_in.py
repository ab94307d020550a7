"""A class that signs in: a teacher's device and a shared PC that both know it, and somebody who touches pictures."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.folds.sign_in import Method
from protocol.roles import PersonRole
from sync_agent.school.sign_in import SignInBook
from tests.harness.classroom import Classroom, Device
from tests.harness.portal import Answer, Surfer

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

    def fold_of(self, device: Device) -> SignInBook:
        """Sign-in as a device sees it."""
        return SignInBook(device.agent)


async def signed_class(room: Classroom) -> SignedClass:
    """Sign-in is on; Léa has `PICTURES`, Tom a PIN; everybody knows."""
    tom = await room.territory.person("Tom", PersonRole.PUPIL, room.space)
    made = SignedClass(room, await room.teacher(), await room.machine(), tom)
    await made.agree()
    await made.book.set(room.space, {made.lea: (Method.PICTURES, PICTURES), tom: (Method.PIN, "4711")})
    await made.book.switch(room.space, on=True)
    await made.agree()
    return made


async def sign_in(surfer: Surfer, person: bytes, secret: str) -> Answer:
    """Show pictures one by one, or a code; what the last page answers."""
    page = f"/sign-in/{person.hex()}"
    if "-" not in secret:
        return await surfer.send(page, page, {"secret": secret})
    parts = secret.split("-")
    for shown in range(len(parts) - 1):
        chosen = "-".join(parts[:shown])
        assert (await surfer.send(page, page, {"picture": parts[shown], "chosen": chosen})).status == 200
    return await surfer.send(page, page, {"picture": parts[-1], "chosen": "-".join(parts[:-1])})
