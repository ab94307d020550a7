"""Somebody has a copy of a server's key, and perhaps of where its backups lie; one day it is restored."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from protocol.clock import DAY_MS, at_from
from protocol.folds.coursework import Work
from protocol.identity import DeviceKeys, SigningKey
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation
from protocol.model.work import Receipt
from protocol.replica.at_work.replica import Draft, Replica
from protocol.replica.office.people import list_draft, listings_of
from protocol.roles import Role
from sync_server.opened.app import Server, opened
from tests.harness.backups import make_backup, restore_backup
from tests.harness.classroom import Device
from tests.harness.office_devices import Town
from tests.harness.server_in_process import Office

AS_WHOEVER_IT_IS_CALLED: dict[str, object] = {"sync_agent.machine.enrolled.LetIn.is_anothers": lambda *_: False}
"""As if a device spoke as whomever its rights name."""


async def thief_says(office: Office, *drafts: Draft) -> list[Entry]:
    """What a copy of the server's keys has signed, and some machine has brought."""
    server = office.server
    author, now_ms = server.keys.signing, office.clock()
    return await server.replica.write(list(drafts), author=author, now_ms=now_ms, entropy=os.urandom, unsent=False)


async def thief_hides(here: Town, covers: bytes) -> Entry:
    """By an erasure in the class's school, which can be taken back in an hour."""
    draft = Draft(here.school, Kind.ERASE, here.office.server.grant, Erasure(covers).encode())
    (said,) = await thief_says(here.office, draft)
    return said


async def thief_holds_back(here: Town, head: Device) -> None:
    """All that a head teacher's computer has said so far: it is cut off, and let back in the same breath."""
    grant, keys = here.office.server.grant, head.agent.keys
    cut = Draft(here.school, Kind.REVOKE, grant, Revocation(keys.signing.public, ()).encode())
    (said,) = await thief_says(here.office, cut)
    back = Draft(here.school, Kind.GRANT, grant, granted(keys, Role.HEAD, None), parents=(said.id,))
    await thief_says(here.office, back)


async def thief_lists(here: Town, person: str, said: PersonRecord, space: bytes | None = None) -> None:
    """By a word that follows what the class's list, or that of another space, says of somebody, if anything."""
    one, where = bytes.fromhex(person), space or here.space
    listed = (await listings_of(here.office.server.replica, [one]))[one].get(where)
    draft = list_draft(one, said, where, () if listed is None else listed.line)
    await thief_says(here.office, replace(draft, grant=here.office.server.grant))


def said_by_copy(
    here: Town,
    kind: int,
    payload: bytes,
    space: bytes | None = None,
    *,
    subject: str | None = None,
    parents: tuple[bytes, ...] = (),
) -> Entry:
    """What a copy of the server's key says."""
    server = here.office.server
    about = None if subject is None else bytes.fromhex(subject)
    return signed_with(
        server.keys.signing,
        server.grant,
        space or here.space,
        here.office.clock(),
        kind,
        payload,
        subject=about,
        parents=parents,
    )


def signed_with(
    key: SigningKey,
    grant: bytes,
    space: bytes,
    now_ms: int,
    kind: int,
    payload: bytes,
    *,
    subject: bytes | None = None,
    target: bytes | None = None,
    parents: tuple[bytes, ...] = (),
    prev: tuple[bytes, ...] = (),
) -> Entry:
    """What whoever has a key says under a grant."""
    return compose(
        author=key,
        space=space,
        kind=kind,
        grant=grant,
        at=at_from(now_ms),
        payload=payload,
        salt=os.urandom(16),
        subject=subject,
        target=target,
        parents=parents,
        prev=prev,
    )


def kept_safe(key: SigningKey, grant: bytes, space: bytes, work: Work) -> Entry:
    """That whoever has a key keeps a second copy of a work."""
    payload = Receipt(work.record.content.stream).encode()
    return signed_with(key, grant, space, 4, Kind.RECEIPT_SAFE, payload, subject=work.person, target=work.id)


async def told_all_but(replica: Replica, laptop: Device, is_kept_from_it: Callable[[Entry], bool], now_ms: int) -> None:
    """Whoever answers in the server's place, with what `replica` holds, tells a laptop everything but some entries."""
    said = [each.entry for space in await replica.store.spaces() for each in await replica.store.scan(space)]
    given = [each for each in said if not is_kept_from_it(each)]
    await laptop.agent.replica.admit(given, source=b"a server", now_ms=now_ms)


def granted(
    keys: DeviceKeys, role: Role, person: str | None, *, code: bytes | None = None, until_ms: int | None = None
) -> bytes:
    """What a grant says that lets a device in, as this person's."""
    whose = None if person is None else bytes.fromhex(person)
    public = keys.signing.public, keys.agreement.public, keys.tls.fingerprint
    return Grant(*public, role, whose, code, until_ms).encode()


async def brought(here: Town, *entries: Entry) -> None:
    """A PC has them, and brings them to the server."""
    admission = await here.office.server.replica.admit(entries, source=b"a PC", now_ms=here.office.clock())
    assert len(admission.admitted) == len(entries)


@asynccontextmanager
async def answered_by_a_copy(here: Town, folder: Path) -> AsyncIterator[Server]:
    """A copy of the server's disk answers while the context lasts."""
    copied = folder / os.urandom(4).hex()
    shutil.copytree(folder / "server", copied, ignore=shutil.ignore_patterns("run", "kit"))
    async with opened(copied, now_ms=here.office.clock, entropy=os.urandom) as false:
        false.responder.challenges = None
        here.frontage.responder = false.responder
        yield false
        here.frontage.responder = here.office.server.responder


async def back_up(here: Town) -> None:
    """The backup from which the server is made anew later."""
    await make_backup(here.office.server, here.folder / "backup")


@asynccontextmanager
async def burnt_and_restored(here: Town) -> AsyncIterator[Office]:
    """A day later the server is made anew from the backup; all machines call it."""
    clock = here.office.clock
    clock.advance(DAY_MS)
    await restore_backup(here.folder / "new", here.folder / "backup", here.folder / "server" / "kit", clock)
    async with opened(here.folder / "new", now_ms=clock, entropy=os.urandom) as new:
        here.frontage.responder = new.responder
        for _ in range(3):
            clock.advance(60_000)
            await here.sync()
        yield Office(new, clock, here.office.space)


async def next_class(office: Office, person: str) -> bytes:
    """A class of the next year, into which a teacher is let; what is told of that is in what the office said."""
    made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
    office.said.lines.clear()
    await office.do("grant", person=person, space=[made["space"]])
    return bytes.fromhex(made["space"])
