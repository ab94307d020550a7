"""What an operator can do, over a real store but without processes: classes, people, devices, upkeep; refusals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.identity import DeviceKeys, school_id
from protocol.limits import MAX_INVITED_DEVICES
from protocol.messages.calls import SyncRequest
from protocol.model.entry import Entry, Kind
from protocol.model.register import Health, RegisterKind, compose_register
from protocol.model.structure import Grant
from protocol.reconcile.checkpoint import Cursor
from protocol.replica.office.further_words import merge_persons
from protocol.replica.office.known_codes import KnownCodes
from protocol.replica.storage.sqlite import SqliteStore
from protocol.roles import Role
from sync_server.opened.app import opened
from tests.harness.server_in_process import Member, Office, office
from tests.harness.territory import SimClock

UNKNOWN_ID = "ab" * 32
UNKNOWN_PERSON = "ab" * 16


# --- spaces and people ------------------------------------------------------------------------------------------------


async def test_a_class_makes_its_school_once(desk: Office) -> None:
    other = await desk.do("space add", name="CM1", school=" 0180001d", year="2026-2027")
    rows = await desk.do("space list")
    assert [(row["name"], row["school"], row["entries"]) for row in rows] == [
        ("CM1", "0180001D", 2),
        ("CM2 B", "0180001D", 2),
    ]
    assert {row["space"] for row in rows} == {desk.space, other["space"]}
    assert all(len(row["fingerprint"]) == 32 for row in rows)
    assert desk.said.lines == []
    made = await desk.server.store.scan_kinds([Kind.SPACE])
    assert len(made) == 3, "two classes and one school"


async def test_two_classes_may_have_the_same_name(desk: Office) -> None:
    twin = await desk.do("space add", name="CM2 B", school="0180001D", year="none")
    assert twin["space"] != desk.space
    assert [row["name"] for row in await desk.do("space list")] == ["CM2 B", "CM2 B"]


async def test_classes_of_one_name_are_told_by_their_year_and_a_name_that_another_has_is_told(desk: Office) -> None:
    made = {
        year: (await desk.do("space add", name=year, school="0180001D", year=year))["space"]
        for year in ("2026-2027", "2027-2028")
    }
    for space in made.values():
        await desk.do("space rename", space=space, name="CE1")
        await desk.do("space rename", space=space, name="CE1")
    assert desk.said.lines == [], "of different years, and none is taken for its own namesake"
    assert {row["year"]: row["space"] for row in await desk.do("space list") if row["name"] == "CE1"} == made
    third = (await desk.do("space add", name="CE2", school="0180001D", year="2027-2028"))["space"]
    await desk.do("space rename", space=third, name="ce1")
    (told,) = desk.said.lines
    assert told.startswith(f"warning: this school has a class “ce1” already ({made['2027-2028']})")


async def test_a_wrong_check_letter_is_told_and_not_refused(desk: Office) -> None:
    await desk.do("space add", name="CP", school="0180001A", year="none")
    assert any("0180001" in line and "D" in line for line in desk.said.lines)
    assert {row["school"] for row in await desk.do("space list")} == {"0180001A", "0180001D"}


async def test_who_is_added_though_they_only_change_class_is_told_of_the_one_there(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    tom = await desk.add_person("Tom DURAND", "pupil")
    desk.said.lines.clear()
    again = await desk.add_person("DURAND Tom", "pupil", other)
    (told,) = desk.said.lines
    for part in (
        "“CM2 B”",
        f"`person retire {again}`",
        f"`grant --person {tom} --space {other}`",
        f"ungrant --person {tom}",
    ):
        assert part in told
    desk.said.lines.clear()
    await desk.add_person("Tom MARTIN", "pupil", other)
    await desk.add_person("Tom BLANC", "teacher", other)
    assert desk.said.lines == []


async def test_somebody_on_several_lists_is_one_person(desk: Office) -> None:
    other = (await desk.do("space add", name="CM1", school="0180001D", year="none"))["space"]
    person = await desk.add_person("Mme Petit", "teacher", desk.space, other, desk.space)
    await desk.add_person("Léa", "pupil")
    assert await desk.do("person list", space=other) == [
        {"person": person, "name": "Mme Petit", "role": "teacher", "called": "Mme Petit", "also_in": ""}
    ]
    assert [row["name"] for row in await desk.do("person list", space=desk.space)] == ["Léa", "Mme Petit"]


async def test_who_adds_a_namesake_is_told_how_the_two_are_told_apart(desk: Office) -> None:
    await desk.add_person("Léa", "pupil")
    assert desk.said.lines == []
    twin = await desk.add_person("Lea", "pupil")
    (warned,) = desk.said.lines
    assert f"`person retire {twin}`" in warned
    assert f'shown as “Lea (2)”: better give each a last initial before they hand in, `person rename {twin} "' in warned


async def test_a_school_is_named_by_its_code_wherever_a_space_is_asked_for(desk: Office) -> None:
    person = await desk.add_person("M. Blanc", "admin", "0180001d")
    assert (await desk.do("person list", space="0180001D"))[0]["person"] == person
    school = school_id(desk.server.replica.territory, "0180001D").hex()
    assert (await desk.do("person list", space=school))[0]["person"] == person


@pytest.mark.parametrize("uses", [-3, 0, MAX_INVITED_DEVICES + 1])
async def test_a_number_of_devices_that_no_code_lets_in_is_answered_with_those_that_one_does(
    desk: Office, uses: int
) -> None:
    with pytest.raises(BadInput, match=f"between 1 and {MAX_INVITED_DEVICES}"):
        await desk.do("invite", role="machine", space=[desk.space], uses=uses, ttl="1h")


@pytest.mark.parametrize(
    ("command", "params", "code"),
    [
        ("space add", {"name": "", "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "\udcff", "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "x" * 201, "school": "0180001D"}, Code.BAD_NAME),
        ("space add", {"name": "CM1", "school": ""}, Code.BAD_NAME),
        ("space add", {"name": "CM1", "school": "0" * 17}, Code.USAGE),
        ("space add", {"name": "CM1", "school": "0180001D", "year": "2026"}, Code.BAD_DATE),
        ("space add", {"school": "0180001D"}, Code.USAGE),
        ("person add", {"name": "Léa", "role": "pupil", "space": [UNKNOWN_ID]}, Code.UNKNOWN_SPACE),
        ("person add", {"name": "Léa", "role": "pupil", "space": []}, Code.UNKNOWN_SPACE),
        ("person add", {"name": "Léa", "role": "machine", "space": ["0180001D"]}, Code.UNKNOWN_ROLE),
        ("person add", {"name": " ", "role": "pupil", "space": ["0180001D"]}, Code.BAD_NAME),
        ("person list", {"space": "nonsense"}, Code.UNKNOWN_SPACE),
        ("person list", {"space": ""}, Code.UNKNOWN_SPACE),
        ("hand-ins", {"space": UNKNOWN_ID}, Code.UNKNOWN_SPACE),
        ("revoke", {"device": UNKNOWN_ID}, Code.UNKNOWN_DEVICE),
        ("revoke", {"device": "Renard"}, Code.UNKNOWN_DEVICE),
        ("grant", {"space": ["0180001D"]}, Code.USAGE),
        ("grant", {"device": UNKNOWN_ID, "person": UNKNOWN_PERSON, "space": ["0180001D"]}, Code.USAGE),
        ("grant", {"device": UNKNOWN_ID, "space": ["0180001D"]}, Code.UNKNOWN_DEVICE),
        ("grant", {"person": UNKNOWN_PERSON, "space": ["0180001D"]}, Code.UNKNOWN_PERSON),
        ("ungrant", {"person": "Léa", "space": ["0180001D"]}, Code.UNKNOWN_PERSON),
        ("ungrant", {"device": UNKNOWN_ID, "space": ["0180001D"]}, Code.UNKNOWN_DEVICE),
        ("invite", {"role": "server", "space": ["0180001D"], "uses": 1, "ttl": "1h"}, Code.UNKNOWN_ROLE),
        ("invite", {"role": "machine", "space": [UNKNOWN_ID], "uses": 1, "ttl": "1h"}, Code.UNKNOWN_SPACE),
        ("invite", {"role": "machine", "space": ["0180001D"], "uses": 0, "ttl": "1h"}, Code.USAGE),
        ("invite", {"role": "machine", "space": ["0180001D"], "uses": 1, "ttl": "tomorrow"}, Code.BAD_DATE),
        ("invite", {"role": "teacher", "space": ["0180001D"], "uses": 1, "ttl": "1h"}, Code.USAGE),
        (
            "invite",
            {"role": "teacher", "space": ["0180001D"], "uses": 1, "ttl": "1h", "person": UNKNOWN_PERSON},
            Code.UNKNOWN_PERSON,
        ),
        (
            "invite",
            {"role": "machine", "space": ["0180001D"], "uses": 1, "ttl": "1h", "person": UNKNOWN_PERSON},
            Code.USAGE,
        ),
    ],
)
async def test_what_cannot_be_is_refused_with_its_code_and_changes_nothing(
    desk: Office, command: str, params: dict[str, Any], code: Code
) -> None:
    before = await desk.counts()
    with pytest.raises(BadInput) as raised:
        await desk.do(command, **params)
    assert raised.value.code is code
    assert await desk.counts() == before


# --- devices, status, upkeep ------------------------------------------------------------------------------------------


async def caught_up(desk: Office, member: Member) -> None:
    """Two calls: everything, then cursors that say so."""
    answer = await member.sync()
    cursors = tuple(
        Cursor(page.checkpoint.space, page.checkpoint.count, page.checkpoint.chain, complete=True)
        for page in answer.pages
    )
    await member.sync(SyncRequest(generation=answer.generation, cursors=cursors))


async def test_a_device_is_followed_from_its_enrolment_on(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"), name="Renard")
    row = await desk.device(member)
    assert row == {
        "device": member.id,
        "name": "Renard",
        "role": "machine",
        "state": "syncing",
        "last_seen": "2026-11-18T11:06:40.000Z",
        "last_full_sync": None,
        "via": "direct",
        "backlog": {"entries": None, "bytes": None},
        "version": None,
        "clone_of": None,
        "confirmed": True,
    }
    desk.clock.advance(1_000)
    await caught_up(desk, member)
    row = await desk.device(member)
    assert (row["state"], row["last_seen"], row["last_full_sync"]) == (
        "up-to-date",
        "2026-11-18T11:06:41.000Z",
        "2026-11-18T11:06:41.000Z",
    )
    desk.clock.advance(16 * 60_000)
    assert (await desk.device(member))["state"] == "offline"
    desk.clock.advance(7 * DAY_MS)
    assert (await desk.device(member))["state"] == "silent"


async def test_what_a_device_reports_of_itself_is_shown(desk: Office) -> None:
    member = await desk.enrol(await desk.invite("machine"))
    health = Health("Hibou", "0.1.0", "Linux", "disk-full", 3, 4_000, 0)
    register = compose_register(
        member.keys.signing, RegisterKind.HEALTH, member.keys.signing.public, desk.clock(), health.encode()
    )
    await member.sync(SyncRequest(registers=(register.data,)))
    row = await desk.device(member)
    assert (row["name"], row["state"], row["backlog"], row["version"]) == (
        "Hibou",
        "disk-full",
        {"entries": 3, "bytes": 4_000},
        "0.1.0",
    )


async def test_who_called_is_remembered_over_a_restart_and_a_quiet_call_writes_nothing(tmp_path: Path) -> None:
    clock = SimClock()
    async with office(tmp_path / "server", clock) as desk:
        member = await desk.enrol(await desk.invite("machine"))
        await caught_up(desk, member)
        assert not await desk.server.store.marks("device/")
    async with opened(tmp_path / "server", now_ms=clock, entropy=os.urandom) as server:
        again = Office(server, clock, desk.space)
        assert (await again.device(member))["state"] == "up-to-date"


async def test_the_status_adds_up(desk: Office) -> None:
    await desk.add_person("Léa", "pupil")
    member = await desk.enrol(await desk.invite("machine"))
    status = await desk.do("status")
    assert set(status) == {
        "territory",
        "fingerprint",
        "generation",
        "spaces",
        "devices",
        "entries",
        "chunks",
        "bytes",
        "version",
        "erasures_waiting",
        "erasures_held_back",
        "restored",
        "overused_codes",
        "classes_not_closed",
        "left_pupils",
        "left_in_doubt",
        "reported_before",
        "frozen_persons",
        "came_after_closing",
        "unforeseen",
        "spoken_elsewhere",
    }
    assert status["territory"] == desk.server.replica.territory.hex()
    assert status["spaces"] == await desk.do("space list")
    assert status["entries"] == sum((await desk.counts()).values())
    assert status["spaces"][0]["entries"] == 6, "its key and who has it, a pupil, an invitation, a grant, its key"
    assert (status["devices"], status["chunks"], status["bytes"]) == (1, 0, 0)
    assert member.id not in str(status)


async def test_a_whole_store_verifies_and_a_damaged_one_says_what_is_bad(desk: Office) -> None:
    assert await desk.do("verify") == {"ok": True, "problems": []}
    build = await desk.server.replica.content.build(bytes.fromhex(desk.space), unsent=False)
    await build.chunk(os.urandom(20_000))
    (pack,) = await build.finish()
    (path,) = (desk.server.folder / "packs").rglob("*.pack")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    found = await desk.do("verify")
    assert not found["ok"]
    assert [problem["id"] for problem in found["problems"]] == [pack.hash.hex()]
    assert await desk.do("verify") == {"ok": True, "problems": []}, "it has been moved aside"
    assert await desk.do("repair") == {}


async def test_a_grant_from_outside_the_servers_hand_is_listed_too(desk: Office) -> None:
    admin = await desk.enrol(await desk.invite("admin"))
    keys = DeviceKeys.create(os.urandom(32), os.urandom(32), os.urandom(32))
    grant = Grant(keys.signing.public, keys.agreement.public, None, Role.MACHINE, None, None)
    await admin.write(Kind.GRANT, grant.encode())
    row = next(row for row in await desk.do("devices") if row["device"] == keys.signing.public.hex())
    assert (row["state"], row["last_seen"], row["name"]) == ("never-seen", None, None)


async def test_of_codes_only_those_are_read_that_have_come_since(desk: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, reads = KnownCodes(), []
    scan = SqliteStore.scan_kinds

    async def counted(self: SqliteStore, kinds: Sequence[int], after: int = 0) -> list[Entry]:
        found = await scan(self, kinds, after)
        if Kind.INVITE in kinds:
            reads.append(len(found))
        return found

    monkeypatch.setattr(SqliteStore, "scan_kinds", counted)
    await desk.invite("machine")
    for _ in range(50):
        assert len(await codes.of(desk.server)) == 1
    assert reads == [1]
    await desk.invite("relay", "0180001D")
    assert len(await codes.of(desk.server)) == 2, "a new one counts at once"
    assert reads == [1, 1], "and those that were there are not read again"
    await desk.server.replica.reload()
    assert len(await codes.of(desk.server)) == 2
    assert reads[-1] == 2, "but where something else has changed the set all are"
    desk.clock.advance(3 * 24 * 3600 * 1000)
    assert await codes.of(desk.server) == [], "and those that are long over no more"


async def test_whoever_names_the_id_that_was_merged_away_is_told_whose_it_is(tmp_path: Path) -> None:
    async with office(tmp_path) as here:
        kept, other = [await here.add_person("Zoé", "pupil") for _ in range(2)]
        await merge_persons(here.server, bytes.fromhex(other), bytes.fromhex(kept))
        await here.do("erase", person=[other])
        assert any(kept in line and "name that id as well if it is" in line for line in here.said.lines)
