"""A head teacher's computer, and what she does on it, in a class whose server may be in wrong hands."""

from __future__ import annotations

from protocol.model.entry import Kind
from protocol.model.structure import Grant, Revocation
from protocol.rights.vouching import device_id
from protocol.roles import PersonRole, Role
from sync_agent.keys.confirming import confirm, own_device
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.spied_class import SpiedClass as Here
from tests.harness.territory import Territory


async def confirmed_head(here: Here) -> tuple[Device, bytes]:
    """A head teacher's computer, which the teacher rightly confirmed as one; and who the head teacher is."""
    room = here.room
    person = await room.territory.person("Mme H", PersonRole.TEACHER, room.space)
    head = await room.head(person=person)
    await here.sync(head, here.teacher, here.machine)
    await confirm(here.teacher.agent, device_id(own_device(head.agent)), shown_as="head")
    await here.sync(here.teacher, head)
    return head, person


async def let_into_another_class(head: Device, person: bytes, name: str = "CE2") -> tuple[set[bytes], str]:
    """Who is in it once the head's computer has let somebody in, and what it told."""
    desk = Desk(head.agent)
    space = (await desk.ask("space add", name=name, year="2026-2027"))["space"]
    await desk.ask("grant", person=person.hex(), space=[space])
    return {each.key for each in head.agent.replica.door.authorities() if each.space.hex() == space}, "".join(desk.told)


async def take_back(territory: Territory, head: Device) -> None:
    """The server cuts a head's computer off, with all that it ever said, and lets it in again."""
    keys = head.agent.keys
    (held,) = head.agent.replica.door.authorities_of(head.agent.device)
    cut = await territory.say(held.space, Kind.REVOKE, Revocation(head.agent.device, ()).encode())
    pair = keys.signing.public, keys.agreement.public
    again = Grant(*pair, keys.tls.fingerprint, Role.HEAD, held.person, None, None).encode()
    await territory.say(held.space, Kind.GRANT, again, parents=(cut.id,))
