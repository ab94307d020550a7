"""`lost --since`: what a device said in wrong hands waits for a person's word; erasures can be taken back."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.folds.sign_in import Method
from protocol.identity import territory_id
from protocol.limits import SINCE_REACHES_MS
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Invite, PersonRecord
from protocol.model.work import EMPTY_PAYLOAD
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole, Role
from protocol.trust.invitation import Invitation
from sync_agent.school.sign_in import SignInBook
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.by_kit.waiting import waiting_notices
from sync_server.handlers.record.erasures import confirm_destroyed
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.classroom import Device
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.office_devices import Town, town

NOE = bytes(15) + b"\1"
ZOE = bytes(15) + b"\2"


class Theft:
    """A class with Léa in it; its head teacher's laptop adds Noé, is stolen a day later, and erases Léa."""

    def __init__(self, here: Town, head: Device, school: bytes, lea: str) -> None:
        self.here, self.office, self.head, self.school, self.lea = here, here.office, head, school, lea
        self.device = head.agent.device.hex()

    async def say(self, *drafts: Draft) -> None:
        replica = self.head.agent.replica
        grant = max(await replica.authorities(self.head.agent.device), key=lambda each: each.rank).grant
        said = [replace(draft, grant=grant) for draft in drafts]
        keys = self.head.agent.keys.signing
        await replica.write(said, author=keys, now_ms=self.office.clock(), entropy=os.urandom)
        await self.here.sync(self.head)

    async def forgets_what_came_when(self) -> None:
        """As a server that was made anew has."""
        store = self.office.server.store
        await store.set_marks(dict.fromkeys(await store.marks("arrivals/")))

    async def listed(self) -> set[str]:
        return {row["name"] for row in await self.office.do("person list", space=self.office.space)}

    async def waiting(self) -> dict[str, str]:
        return {row["kind"]: row["id"] for row in await self.office.do("waiting")}

    async def sweep(self) -> None:
        server = self.office.server
        await Eraser(server.replica, server.holdings).sweep(self.office.clock())

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.office.do("erasures")]


@pytest.fixture
async def theft(tmp_path: Path) -> AsyncIterator[Theft]:
    async with town(tmp_path) as here:
        server, clock = here.office.server, here.office.clock
        lea = await here.office.add_person("Léa", "pupil")
        found = Theft(here, await here.head_of_the_school(), here.school, lea)
        await note_arrivals(server.store, clock())
        clock.advance(DAY_MS)
        record = PersonRecord("Noé", PersonRole.PUPIL).encode()
        await found.say(Draft(here.space, Kind.PERSON, None, record, subject=NOE))
        clock.advance(DAY_MS)
        await note_arrivals(server.store, clock())
        clock.advance(DAY_MS // 12)
        await found.say(Draft(here.school, Kind.ERASE, None, Erasure(bytes.fromhex(lea)).encode()))
        assert await found.listed() == {"Noé"}
        yield found


async def test_what_was_said_since_waits_and_a_name_is_accepted_by_being_said_again(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device, since="36h")
    assert await theft.listed() == {"Léa"}
    waiting = await theft.waiting()
    assert waiting.keys() == {"person", "erase"}
    await theft.office.do("accept", named=[waiting["person"]])
    await theft.office.do("refuse", named=[waiting["erase"]])
    assert await theft.listed() == {"Léa", "Noé"}
    assert not await theft.waiting()


async def test_who_lists_what_waits_sees_whom_a_list_adds_and_what_says_an_erasure_anew(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device, since="36h")
    told = len(theft.office.said.lines)
    rows = {row["kind"]: row for row in await theft.office.do("waiting")}
    assert {kind: row["name"] for kind, row in rows.items()} == {"person": "Noé", "erase": "Léa"}
    (line,) = theft.office.said.lines[told:]
    assert rows["erase"]["id"] in line
    assert f"`sync-server erase --person {theft.lea}`" in line
    await theft.office.do("refuse", named=[row["id"] for row in rows.values()])
    told = len(theft.office.said.lines)
    assert {row["name"] for row in await theft.office.do("waiting", refused=True)} == {"Noé", "Léa"}
    assert theft.office.said.lines[told:] == []


async def test_an_erasure_that_was_right_after_all_is_the_servers_own_word(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device, since="36h")
    waiting = (await theft.waiting())["erase"]
    with pytest.raises(BadInput, match=f"erase --person {theft.lea}` says that, and asks who that is.*{theft.lea} "):
        await theft.office.do("accept", named=[waiting])
    await theft.office.do("erase", person=[theft.lea])
    assert "erase" not in await theft.waiting()
    assert await theft.listed() == set()
    await theft.sweep()
    theft.office.clock.advance(8 * DAY_MS)
    await theft.sweep()
    assert await theft.states() == ["destroyed"]


async def test_that_it_had_been_in_wrong_hands_is_said_later_as_well(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device)
    assert await theft.listed() == {"Noé"}
    await theft.office.do("lost", device=theft.device, since="1h")
    assert await theft.listed() == {"Léa", "Noé"}


async def test_without_a_time_the_list_says_what_the_device_has_said(theft: Theft) -> None:
    loss = await theft.office.do("lost", device=theft.device, dry_run=True)
    space = theft.here.space.hex()
    assert [(row["kind"], row["about"], row["counts"]) for row in loss["said"]] == [
        ("erase", f"{theft.lea} (“Léa”; {space} (“CM2 B”))", True),
        ("person", "Noé", True),
    ]


async def test_the_server_says_of_which_classes_a_device_could_open_how_pupils_sign_in(theft: Theft) -> None:
    space = theft.here.space
    await SignInBook(theft.head.agent).set(space, {NOE: (Method.PIN, "4711")})
    await theft.here.sync(theft.head)
    loss = await theft.office.do("lost", device=theft.device)
    assert [(row["space"], row["pupils"]) for row in loss["sign_ins"]] == [(space.hex(), 1)]
    loss = await theft.office.do("lost", device=theft.device, since="1h")
    assert loss["sign_ins"] == [], "what it set since then counts no more"


async def test_who_was_let_in_by_a_code_of_the_device_is_its_doing(theft: Theft) -> None:
    member = await theft.office.enrol(await _code_of(theft))
    loss = await theft.office.do("lost", device=theft.device)
    key = member.keys.signing.public.hex()
    assert f"machine {key} (“Renard”)" in {row["about"] for row in loss["said"]}
    assert await member.spaces()
    await theft.office.do("lost", device=theft.device, since="1h")
    assert not await member.spaces()


async def _code_of(theft: Theft) -> str:
    root = theft.office.server.replica.door.root_now
    invitation = Invitation.create(territory_id(root), os.urandom(10))
    lasts_until_ms = theft.office.clock() + DAY_MS
    record = Invite(invitation.secret_hash, Role.MACHINE, (theft.here.space,), None, 1, lasts_until_ms)
    await theft.say(Draft(theft.school, Kind.INVITE, None, record.encode()))
    return invitation.code()


async def test_an_erasure_is_taken_back_while_its_author_is_trusted_too(theft: Theft) -> None:
    assert await theft.states() == ["hidden"]
    assert (await theft.office.do("unerase", covers=theft.lea[:12]))["taken_back"] == 1
    assert await theft.listed() == {"Léa", "Noé"}
    assert await theft.states() == []
    await theft.here.sync(theft.head)
    assert bytes.fromhex(theft.lea) in (await theft.head.agent.replica.view(theft.here.space)).roster.persons
    with pytest.raises(BadInput):
        await theft.office.do("unerase", covers=theft.lea)
    await theft.office.do("erase", person=[theft.lea])
    assert await theft.listed() == {"Noé"}


async def test_what_waits_since_its_author_was_cut_off_is_confirmed_by_erasing_again(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device)
    assert await theft.states() == ["waiting"]
    await theft.sweep()
    theft.office.clock.advance(8 * DAY_MS)
    await theft.sweep()
    assert await theft.states() == ["waiting"]
    await theft.office.do("erase", person=[theft.lea])
    await theft.sweep()
    assert await theft.states() == ["waiting", "hidden"]
    theft.office.clock.advance(6 * DAY_MS)
    await theft.sweep()
    assert await theft.states() == ["waiting", "hidden"], "that a thief said it before shortens no week"
    theft.office.clock.advance(2 * DAY_MS)
    await theft.sweep()
    assert set(await theft.states()) == {"destroyed"}


async def test_what_was_destroyed_before_its_author_left_is_said_again_for_machines_that_come_later(
    theft: Theft,
) -> None:
    await theft.sweep()
    theft.office.clock.advance(8 * DAY_MS)
    await theft.sweep()
    await theft.office.do("revoke", device=theft.device)
    server, clock = theft.office.server, theft.office.clock
    assert await confirm_destroyed(server, clock()) == 0, "somebody may say yet since when it was in other hands"
    clock.advance(SINCE_REACHES_MS)
    assert await confirm_destroyed(server, clock()) == 1
    assert await confirm_destroyed(server, clock()) == 0
    assert [row["state"] for row in await theft.office.do("erasures")] == ["destroyed", "destroyed"]


@pytest.mark.parametrize("text", ["bientôt", "2099-01-01", "36 h", ""])
async def test_a_time_that_has_not_been_is_refused(theft: Theft, text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        await theft.office.do("lost", device=theft.device, since=text)
    assert refusal.value.code is Code.BAD_DATE
    assert (await theft.office.do("lost", device=theft.device, dry_run=True, since="2026-01-01T08:30"))["held"]


async def test_where_nothing_was_noted_by_then_nothing_is_taken_that_it_ever_said(theft: Theft) -> None:
    with pytest.raises(BadInput) as refusal:
        await theft.office.do("lost", device=theft.device, since="60d")
    assert refusal.value.code is Code.BAD_DATE
    assert "--anyway" in str(refusal.value)
    assert await theft.listed() == {"Noé"}, "nothing was done"
    assert str(refusal.value).startswith("nothing was done, and the device may do all that it could: ")
    assert str(refusal.value).endswith(f"`lost {theft.device}`")
    await theft.forgets_what_came_when()
    with pytest.raises(BadInput):
        await theft.office.do("lost", device=theft.device, since="36h")
    with pytest.raises(BadInput):
        await theft.office.do("revoke", device=theft.device, since="36h")
    assert await theft.listed() == {"Noé"}


async def test_who_means_it_takes_all_that_a_device_ever_said(theft: Theft) -> None:
    await theft.forgets_what_came_when()
    await theft.office.do("lost", device=theft.device, since="36h", anyway=True)
    assert await theft.listed() == {"Léa"}
    assert (await theft.waiting()).keys() == {"person", "erase"}


async def test_a_device_that_came_since_is_taken_at_its_word_or_not_at_all(theft: Theft) -> None:
    """What came when is known: that it had said nothing by then is no lack of notes."""
    clock = theft.office.clock
    clock.advance(DAY_MS)
    await note_arrivals(theft.office.server.store, clock())
    clock.advance(DAY_MS)
    other = Theft(theft.here, await theft.here.head_of_the_school(), theft.school, theft.lea)
    zoe = PersonRecord("Zoé", PersonRole.PUPIL).encode()
    await other.say(Draft(theft.here.space, Kind.PERSON, None, zoe, subject=ZOE))
    assert await other.listed() == {"Noé", "Zoé"}
    await other.office.do("lost", device=other.device, since="36h")
    assert await other.listed() == {"Noé"}


async def test_the_overview_says_that_what_a_teacher_said_waits_until_somebody_has_said_whether_it_counts(
    theft: Theft,
) -> None:
    await theft.say(Draft(theft.here.space, Kind.WITHDRAW, None, EMPTY_PAYLOAD, target=bytes(32)))
    await theft.office.do("lost", device=theft.device, since="36h")
    (notice,) = await waiting_notices(theft.office.server)
    assert (notice.topic, notice.facts["count"]) == ("words-waiting", 1)
    await add_administrator(theft.office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(theft.office) as (url, _):
        page = (await ask(url, "/admin/", Cookie=cookie_of(await sign_in(url)))).body.decode()
        assert "travaux mis de côté" in page
    await theft.office.do("refuse", named=[(await theft.waiting())["withdraw"]])
    assert await waiting_notices(theft.office.server) == []


async def test_an_administrator_decides_on_a_page_about_what_waits(theft: Theft) -> None:
    await theft.office.do("lost", device=theft.device, since="36h")
    await add_administrator(theft.office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(theft.office) as (url, _):
        cookie = cookie_of(await sign_in(url))
        page = (await ask(url, "/admin/waiting", Cookie=cookie)).body.decode()
        assert "Noé" in page
        assert "Léa" in page
        assert re.search(r">CM2 B <span class=\"under whole\">[0-9a-f]{64}<", page), "its class by name, and by id"
        form = {"id": (await theft.waiting())["person"], "say": "accept"}
        assert (await ask(url, "/admin/waiting", method="POST", form=form, Cookie=cookie, Origin=url)).status == 303
    assert await theft.listed() == {"Léa", "Noé"}
