"""Of what waits after a theft a thief's word stands beside the honest one: accepted, nothing unseen is said again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.canonical import decode, encode
from protocol.clock import DAY_MS, at_from
from protocol.errors import BadInput, Refused
from protocol.limits import MAX_PAYLOAD_BYTES
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Invite, PersonRecord, Ruling
from protocol.replica.office.arrivals import note_arrivals
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import Invitation
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.by_kit import said_again
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.office_devices import AtWork, Town, town
from tests.harness.territory import new_device

ROW = "a thief's word that waits looks like an honest one"


@dataclass
class Theft:
    """A class, and what somebody says with a copy of its server's keys, of which the operator hears an hour later."""

    here: Town
    at_work: AtWork
    folder: Path

    async def says(
        self,
        kind: Kind,
        payload: bytes,
        subject: str | None = None,
        parents: tuple[bytes, ...] = (),
        space: bytes | None = None,
    ) -> Entry:
        server, clock = self.here.office.server, self.here.office.clock
        said = compose(
            author=server.keys.signing,
            space=space or self.here.space,
            kind=kind,
            grant=server.grant,
            at=at_from(clock()),
            payload=payload,
            salt=os.urandom(16),
            subject=None if subject is None else bytes.fromhex(subject),
            parents=parents,
        )
        assert (await server.replica.admit([said], source=b"a PC", now_ms=clock())).admitted
        return said

    async def is_found_out(self) -> None:
        office = self.here.office
        await self.here.sync()
        office.clock.advance(3_600_000)
        kit = kit_in(self.folder / "server" / "kit", None)
        await office.with_kit("rotate server", kit, since="6h")
        office.clock.advance(60_000)

    async def row_of(self, said: Entry) -> dict[str, Any] | None:
        rows = {row["id"]: row for row in await self.here.office.do("waiting")}
        return rows.get(said.id.hex())

    async def accepts(self, said: Entry) -> None:
        """The operator takes it for his own, and is told where it is said in another way."""
        with suppress(BadInput):
            await self.here.office.do("accept", named=[said.id.hex()])

    async def names(self, device: Device | None = None) -> dict[str, str]:
        replica = self.here.office.server.replica if device is None else device.agent.replica
        return {
            person.id.hex(): person.name for person in (await replica.view(self.here.space)).roster.persons.values()
        }

    @property
    def pupil(self) -> str:
        return self.at_work.pupil


@asynccontextmanager
async def theft(folder: Path) -> AsyncIterator[Theft]:
    async with town(folder) as here:
        at_work = await here.class_at_work()
        for _ in range(3):
            here.office.clock.advance(DAY_MS)
            await here.sync()
            await note_arrivals(here.office.server.store, here.office.clock())
        here.office.clock.advance(DAY_MS)
        yield Theft(here, at_work, folder)


def _a_copy(entry: Entry) -> bytes | None:
    """As if whatever an entry holds were said again."""
    return entry.payload


def _nothing(_entry: Entry, **_how: bool) -> None:
    """As if all were said again."""


ALL_IS_SAID_AGAIN = {
    "sync_server.handlers.by_kit.waiting.why_not_again": _nothing,
    "sync_server.handlers.by_kit.said_again.payload_again": _a_copy,
    "sync_server.handlers.by_kit.waiting.SAID_AGAIN": frozenset({*said_again.BY_ITSELF, Kind.INVITE}),
    "sync_server.handlers.by_kit.waiting.BY_ITSELF": frozenset({*said_again.BY_ITSELF, Kind.INVITE}),
    "sync_server.handlers.by_kit.waiting.MAY_WAIT": frozenset(Kind),
}


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_code_of_a_thiefs_for_a_teacher_who_is_new_lets_his_device_in_as_her_first(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office, server = found.here.office, found.here.office.server
        roy = await office.add_person("Mme Roy", "teacher")
        await office.invite("teacher", person=roy, ttl="7d")
        secret = Invitation.create(server.replica.territory, os.urandom(10))
        until_ms = office.clock() + 300 * DAY_MS
        invite = Invite(
            secret.secret_hash, Role.TEACHER, (found.here.space,), bytes.fromhex(roy), 1, until_ms, None, secret.key
        )
        said = await found.says(Kind.INVITE, invite.encode())
        await found.is_found_out()
        (listed,) = [row for row in await office.do("waiting") if row["kind"] == "person"]
        await office.do("accept", named=[listed["id"]])
        await found.accepts(said)
        with pytest.raises(Refused):
            await office.enrol(secret.code(), new_device(os.urandom), "PC de Mme Roy")


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_nobody_is_made_another_by_an_accepted_name(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        tom = await found.here.office.add_person("Tom", "pupil")
        listed = (await found.here.office.server.replica.view(found.here.space)).roster.persons
        record = PersonRecord("Léa", PersonRole.PUPIL, same_as=bytes.fromhex(tom))
        said = await found.says(Kind.PERSON, record.encode(), found.pupil, (listed[bytes.fromhex(found.pupil)].entry,))
        await found.is_found_out()
        (honest,) = [row for row in await found.here.office.do("waiting") if row["title"] == "Tom"]
        await found.here.office.do("accept", named=[honest["id"]])
        row = await found.row_of(said)
        assert row is not None
        assert row["same"] == tom
        await found.accepts(said)
        assert {found.pupil, tom} <= (await found.names()).keys()


@attack(ROW, off=ALL_IS_SAID_AGAIN)
async def test_no_decision_of_a_thiefs_shows_again_who_was_forgotten(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office = found.here.office
        await office.do("erase", person=[found.pupil])
        (erasure,) = await office.server.store.scan_kinds([Kind.ERASE])
        office.clock.advance(DAY_MS)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        said = await found.says(Kind.RULING, Ruling((), (erasure.id,)).encode(), space=erasure.header.space)
        await found.is_found_out()
        row = await found.row_of(said)
        assert row is not None
        assert row["title"] == f"{found.pupil} (Léa)"
        await found.accepts(said)
        await found.here.sync()
        assert found.pupil not in await found.names()
        assert found.pupil not in await found.names(found.at_work.machine)


@attack(ROW, off={"sync_server.handlers.by_kit.said_again.payload_again": _a_copy})
async def test_nothing_goes_into_the_servers_word_that_was_not_shown(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        theirs = decode(PersonRecord("Léa", PersonRole.PUPIL).encode(), max_bytes=MAX_PAYLOAD_BYTES)
        assert isinstance(theirs, dict)
        said = await found.says(Kind.PERSON, encode({**theirs, "of a later version": bytes(60_000)}), found.pupil)
        await found.is_found_out()
        await found.accepts(said)
        server = found.here.office.server
        own = await server.store.authored(found.here.space, server.keys.signing.public)
        (again,) = [one for one in own if one.header.kind == Kind.PERSON]
        assert again.payload == PersonRecord("Léa", PersonRole.PUPIL).encode()
        assert await found.row_of(said) is None


def _no_more(_entry: Entry) -> said_again.Facts:
    return said_again.Facts()


NOT_SHOWN = {"sync_server.handlers.by_kit.waiting.facts_of": _no_more}


@attack(ROW, off=NOT_SHOWN)
async def test_of_a_name_it_is_shown_as_what_and_that_it_leaves_the_list(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        said = await found.says(Kind.PERSON, PersonRecord("Léa", PersonRole.TEACHER, left=True).encode(), found.pupil)
        await found.is_found_out()
        row = await found.row_of(said)
        assert row is not None
        assert (row["name"], row["title"], row["role"], row["leaves"]) == ("Léa", "Léa", "teacher", True)


@attack(ROW, off=NOT_SHOWN)
async def test_of_a_right_it_is_shown_when_it_ends(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        his, until_ms = new_device(os.urandom), found.here.office.clock() + 900 * DAY_MS
        teacher = bytes.fromhex(found.at_work.person)
        given = Grant(his.signing.public, his.agreement.public, None, Role.TEACHER, teacher, None, until_ms)
        said = await found.says(Kind.GRANT, given.encode())
        await found.is_found_out()
        row = await found.row_of(said)
        assert row is not None
        assert row["until"] is not None


@attack(ROW, off={**NOT_SHOWN, "sync_server.web.views.why_not_again": _nothing})
async def test_the_page_shows_the_same_and_offers_no_button_for_what_is_said_in_another_way(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office = found.here.office
        record = PersonRecord("Léa", PersonRole.PUPIL, same_as=bytes.fromhex(found.at_work.person))
        await found.says(Kind.PERSON, record.encode(), found.pupil)
        await found.is_found_out()
        await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        async with pages_over(office) as (url, _):
            page = (await ask(url, "/admin/waiting", Cookie=cookie_of(await sign_in(url)))).body.decode()
        assert found.at_work.person[:8] in page
        assert 'value="refuse"' in page
        assert 'value="accept"' not in page


async def test_what_is_said_in_another_way_says_how(tmp_path: Path) -> None:
    async with theft(tmp_path) as found:
        office = found.here.office
        await office.invite("machine")
        (*_, code) = await office.server.store.scan_kinds([Kind.INVITE])
        zoe = await office.add_person("Zoé", "pupil")
        await office.do("erase", person=[zoe])
        await office.do("unerase", covers=zoe)
        (ruling,) = await office.server.store.scan_kinds([Kind.RULING])
        await found.is_found_out()
        with pytest.raises(BadInput, match="make a new one"):
            await office.do("accept", named=[code.id.hex()])
        with pytest.raises(BadInput, match="`unerase` for whom it shows again"):
            await office.do("accept", named=[ruling.id.hex()])
        row = await found.row_of(ruling)
        assert row is not None
        assert row["title"] == f"{zoe} (Zoé)"
        kit = kit_in(tmp_path / "server" / "kit", None)
        assert await office.with_kit("refuse", kit, named=[ruling.id.hex()]) == {"refused": 1}
        assert await found.row_of(ruling) is None
