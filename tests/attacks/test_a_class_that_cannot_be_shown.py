"""One false answer leaves a class on a PC that no honest server can be shown; what it led past is heard yet."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from protocol.canonical import decode, encode
from protocol.clock import at_from
from protocol.identity import SigningKey, school_id
from protocol.limits import MAX_PAYLOAD_BYTES
from protocol.messages.parts import SpacePage
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import SpaceRecord
from protocol.reconcile.checkpoint import Checkpoint
from protocol.replica.answering.news import News
from protocol.roles import Role
from sync_agent.sync.acknowledged import unseen
from sync_agent.sync.asking import Asking
from sync_agent.sync.cursors import read_cursors
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import answered_by_a_copy, granted
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

HOUR_MS: Final = 3_600_000
UAI: Final = "0189998X"
_sets = Asking._sets


def _large(payload: bytes) -> bytes:
    """The same with a field that nobody reads: five of these are more than a device can show of itself."""
    said = decode(payload, max_bytes=MAX_PAYLOAD_BYTES)
    assert isinstance(said, dict)
    return encode({**said, "zz": bytes(MAX_PAYLOAD_BYTES - 500)})


async def _class_of_a_thiefs(here: Town, device: Device) -> tuple[bytes, list[Entry]]:
    """In a school of his own, with an administrator and a head; and what lets the device in, which he keeps."""
    server, salt = here.office.server, partial(os.urandom, 16)
    admin, head = (new_device(Random(seed).randbytes) for seed in (71, 72))

    def say(author: SigningKey, grant: bytes, space: bytes, kind: Kind, payload: bytes) -> Entry:
        at, said = at_from(here.office.clock()), _large(payload)
        return compose(author=author, space=space, kind=kind, grant=grant, at=at, payload=said, salt=salt())

    territory, own = server.replica.territory, partial(say, server.keys.signing, server.grant)
    school = school_id(territory, UAI)
    made = [own(territory, Kind.SPACE, SpaceRecord("École", uai=UAI).encode())]
    made.append(own(territory, Kind.GRANT, granted(admin, Role.ADMIN, None)))
    made.append(say(admin.signing, made[1].id, school, Kind.GRANT, granted(head, Role.HEAD, None)))
    made.append(say(admin.signing, made[1].id, school, Kind.SPACE, SpaceRecord("Soutien", year="2026-2027").encode()))
    admission = await server.replica.admit(made, source=bytes(32), now_ms=here.office.clock())
    assert len(admission.admitted) == len(made)
    right = granted(device.agent.keys, Role.MACHINE, None)
    return made[-1].id, [say(head.signing, made[2].id, made[-1].id, Kind.GRANT, right) for _ in range(3)]


async def _false_answer(here: Town, folder: Path, device: Device, his: bytes, said: list[Entry]) -> None:
    """It leads past what is new in the class, and brings his one, of which it counts less than it brings."""
    replica, class_, given = device.agent.replica, here.space, set[bytes]()
    place = await here.office.server.replica.position(class_)
    shown = SpacePage(
        Checkpoint(class_, place.count, place.chain, await replica.fingerprint(class_)), (), (), more=False
    )

    async def pages(news: News, *args: Any, **options: Any) -> Any:
        found, stale, _ = await News.pages(news, *args, **options)
        kept = [page for page in found if page.checkpoint.space not in {class_, *given}]
        kept = [
            replace(page, checkpoint=replace(page.checkpoint, count=1)) if page.checkpoint.space == his else page
            for page in kept
        ]
        kept += [] if class_ in given else [shown]
        given.update(page.checkpoint.space for page in kept if page.checkpoint.space in (class_, his))
        return kept, [one for one in stale if one not in given], False

    async with answered_by_a_copy(here, folder) as false:
        await false.replica.admit(said, source=bytes(32), now_ms=here.office.clock())
        false.responder._news.pages = partial(pages, false.responder._news)  # type: ignore[method-assign]
        await device.session.sync()
    assert (await read_cursors(replica.store))[class_].count == place.count


async def _but_where_more_lies_here(asking: Asking, spaces: list[bytes]) -> bytes | None:
    return None if await unseen(asking._agent) else await _sets(asking, spaces)


@attack("freeze, withholding", off={"sync_agent.sync.asking.Asking._sets": _but_where_more_lies_here})
async def test_a_report_is_heard_that_one_answer_led_past_though_it_left_a_class_that_no_server_can_be_shown(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        _, machine, *_ = await here.class_in_step()
        stolen = await here.device("teacher", await here.office.add_person("M. Roy", "teacher"))
        his, said = await _class_of_a_thiefs(here, machine)
        for _ in range(3):
            await here.sync()
        await here.office.do("lost", device=stolen.agent.device.hex())
        await _false_answer(here, tmp_path, machine, his, said)
        assert await unseen(machine.agent)
        for _ in range(3):
            here.office.clock.advance(HOUR_MS + 60_000)
            await here.sync(machine)
        assert await unseen(machine.agent), "more lies there for good"
        assert not (await machine.agent.replica.view(here.space)).roster.may_read(stolen.agent.device)
