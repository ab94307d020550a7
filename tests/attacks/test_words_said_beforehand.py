"""Attacks: whoever has the server's key says first what others are about to say, so that it goes with that key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput
from protocol.folds.measures import Measures, QuarantineOrder
from protocol.limits import ERASURE_DELAY_MS
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, Grant, PersonRecord, Revocation, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.bureau import Office
from protocol.replica.office.erasures import in_force
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole, Role
from protocol.trust.kit import Kit
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Desk
from tests.harness.office_devices import Town, town
from tests.harness.territory import new_device

KIT = "a device is cut off beforehand, so that the kit's word of it is not said"
HEAD = "somebody is let go, reported or erased beforehand, so that a head teacher's word is not said"
CLOSED = "a class is erased beforehand, so that the kit's closing of it is not said"


async def _whoever_said_it(
    office: Office, devices: Sequence[bytes], *, by_kit: bool = False
) -> dict[bytes, set[bytes]]:
    """As if any revocation were as good as one's own, or the root's."""
    del by_kit
    cut = {space: (await office.replica.view(space)).roster.cut for space in office.replica.door.spaces()}
    return {device: {space for space, keys in cut.items() if device in keys} for device in devices}


async def _whoever_erased(office: Office, home: bytes, *, by_kit: bool) -> set[bytes]:
    del home, by_kit
    return {covers for _, covers in await in_force(office.replica)}


async def _any_word(_office: object, names: Collection[bytes]) -> Collection[bytes]:
    return names


def _unless_anybody_has(measures: Measures, school: bytes, grant: bytes, _key: bytes, *, in_doubt: bool) -> list[Draft]:
    """As if any quarantine were as good as one's own."""
    del in_doubt
    on = QuarantineOrder(on=True).encode()
    return [] if measures.quarantines else [Draft(school, Kind.QUARANTINE, grant, on)]


WHOSE_LEAVES = ("own_leaves", "said_by_this_key")
SAID = {"protocol.replica.office.withdrawals._said_in": _whoever_said_it}
ERASED = {"protocol.replica.office.erasures.said_already": _whoever_erased}


def _kit(folder: Path) -> Kit:
    return kit_in(folder / "server" / "kit", None)


async def _say_with_the_servers_key(here: Town, space: bytes, kind: Kind, payload: bytes, **more: Any) -> Entry:
    server = here.office.server
    (said,) = await server.write([Draft(space, kind, server.grant, payload, **more)])
    return said


async def _reads_after_a_grant_by_the_servers_key(here: Town, laptop: Device, person: str) -> bool:
    server, keys = here.office.server, laptop.agent.keys
    pair, cuts = (
        (keys.signing.public, keys.agreement.public),
        tuple((await server.replica.view(here.space)).roster.revocations),
    )
    again = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, bytes.fromhex(person), None, None)
    await _say_with_the_servers_key(here, here.space, Kind.GRANT, again.encode(), parents=cuts)
    return here.space in await server.replica.readable(keys.signing.public)


@attack(KIT, off=SAID)
async def test_a_laptop_that_a_thief_at_the_server_cuts_off_first_is_cut_off_by_the_kit(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        laptop = await here.device("teacher", person)
        device = laptop.agent.device
        await _say_with_the_servers_key(here, here.space, Kind.REVOKE, Revocation(device, ()).encode())
        await here.office.with_kit("revoke", _kit(tmp_path), device=device.hex())
        assert not await _reads_after_a_grant_by_the_servers_key(here, laptop, person)


@attack(KIT, off=SAID)
async def test_a_laptop_that_a_heads_computer_reported_is_cut_off_by_the_kit_besides(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("Mme Petit", "teacher")
        laptop, head = await here.device("teacher", person), await here.head_of_the_school()
        await Desk(head.agent).ask("lost", device=laptop.agent.device.hex())
        await here.sync(head)
        await here.office.with_kit("revoke", _kit(tmp_path), device=laptop.agent.device.hex())
        assert not await _reads_after_a_grant_by_the_servers_key(here, laptop, person)


async def _a_day_goes_by(here: Town) -> None:
    """So that `--since` has notes of the time before the theft."""
    await note_arrivals(here.office.server.store, here.office.clock())
    here.office.clock.advance(DAY_MS)


async def _rotate_the_server(here: Town, folder: Path) -> None:
    await note_arrivals(here.office.server.store, here.office.clock())
    await here.office.with_kit("rotate server", _kit(folder), since="12h")


@attack(HEAD, off=SAID)
async def test_whom_a_head_lets_go_after_a_thief_did_stays_out_when_the_thiefs_words_end(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        durand = await here.office.add_person("M. Durand", "teacher")
        head, laptop = await here.head_of_the_school(), await here.device("teacher", durand)
        await here.sync(head, laptop, head)
        await _a_day_goes_by(here)
        key = laptop.agent.device
        heads = tuple(await here.office.server.replica.tips(here.space, key))
        await _say_with_the_servers_key(here, here.space, Kind.REVOKE, Revocation(key, heads).encode())
        await here.sync(head)
        await Desk(head.agent).ask("ungrant", person=durand, space=[here.office.space])
        await here.sync(head)
        await _rotate_the_server(here, tmp_path)
        assert here.space not in await here.office.server.replica.readable(key)


@attack(HEAD, off=SAID)
async def test_a_pc_that_a_head_reports_after_a_thief_did_stays_out_when_the_thiefs_words_end(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        head, pc = await here.head_of_the_school(), await here.device("machine")
        await here.sync(head, pc, head)
        await _a_day_goes_by(here)
        key = pc.agent.device
        await _say_with_the_servers_key(here, here.space, Kind.REVOKE, Revocation(key, ()).encode())
        await here.sync(head)
        await Desk(head.agent).ask("lost", device=key.hex())
        await here.sync(head)
        await _rotate_the_server(here, tmp_path)
        assert here.space not in await here.office.server.replica.readable(key)


@attack(HEAD, off={f"protocol.replica.office.further_words.{asked}": _any_word for asked in WHOSE_LEAVES})
async def test_who_was_taken_off_the_list_by_a_thief_first_stays_off_it_by_the_heads_word(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        durand = await here.office.add_person("M. Durand", "teacher")
        head = await here.head_of_the_school()
        await _a_day_goes_by(here)
        left = PersonRecord("M. Durand", PersonRole.TEACHER, left=True).encode()
        listed = (await here.office.server.replica.view(here.space)).roster
        assert [person.name for person in listed.persons.values()] == ["M. Durand"]
        lists = await here.office.server.store.scan_kinds([Kind.PERSON])
        before = tuple(entry.id for entry in lists if entry.header.subject == bytes.fromhex(durand))
        await _say_with_the_servers_key(
            here, here.space, Kind.PERSON, left, subject=bytes.fromhex(durand), parents=before
        )
        await here.sync(head)
        await Desk(head.agent).ask("ungrant", person=durand, space=[here.office.space])
        await here.sync(head)
        await _rotate_the_server(here, tmp_path)
        assert not (await here.office.server.replica.view(here.space)).roster.persons


@attack(HEAD, off=ERASED)
async def test_who_is_erased_by_a_head_after_a_thief_did_stays_erased_when_the_thiefs_words_end(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        lea = await here.office.add_person("Léa", "pupil")
        head, pc = await here.head_of_the_school(), await here.device("machine")
        await here.sync(head, pc, head)
        await _a_day_goes_by(here)
        school = here.school
        await _say_with_the_servers_key(here, school, Kind.ERASE, Erasure(bytes.fromhex(lea)).encode())
        await here.sync(head)
        await Desk(head.agent).ask("erase", person=[lea])
        await here.sync(head, pc)
        await _rotate_the_server(here, tmp_path)
        await here.sync(head, pc, pc)
        assert not (await pc.agent.replica.view(here.space)).roster.persons


@attack(HEAD, off={"sync_agent.school.measure_commands.quarantine_drafts": _unless_anybody_has})
async def test_a_quarantine_that_a_head_imposes_after_a_thief_did_lasts_when_the_thiefs_words_end(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        head = await here.head_of_the_school()
        await _a_day_goes_by(here)
        on = QuarantineOrder(on=True).encode()
        await _say_with_the_servers_key(here, here.school, Kind.QUARANTINE, on)
        await here.sync(head)
        for _ in range(2):
            await Desk(head.agent).ask("quarantine start")
        await here.sync(head)
        measures = (await here.office.server.replica.view(here.school)).measures
        assert len(measures.quarantines) == 2, "hers is said once"
        await _rotate_the_server(here, tmp_path)
        measures = (await here.office.server.replica.view(here.school)).measures
        assert [each.by for each in measures.quarantines] == [head.agent.device]


@attack(CLOSED, off={"sync_server.handlers.by_kit.closing.said_already": _whoever_erased})
async def test_a_class_that_a_thief_erased_first_is_closed_and_destroyed_by_the_kit(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        await here.office.add_person("Léa", "pupil")
        pc = await here.device("machine")
        school = here.school
        said = await _say_with_the_servers_key(here, school, Kind.ERASE, Erasure(here.space).encode())
        with pytest.raises(BadInput, match="somebody has erased this class already"):
            await here.office.with_kit("space close", _kit(tmp_path), space=here.office.space)
        also = {"unopened_too": True, "unheard_too": True}
        await here.office.with_kit("space close", _kit(tmp_path), space=here.office.space, **also)
        await here.sync(pc, pc)
        eraser = Eraser(pc.agent.replica, pc.agent.holdings)
        for _ in range(4):
            await eraser.sweep(here.office.clock())
            here.office.clock.advance(ERASURE_DELAY_MS // 2)
        left = [each.entry for each in await pc.agent.replica.store.scan(here.space) if each.entry.payload]
        assert not [entry for entry in left if entry.header.kind is Kind.PERSON]
        await _say_with_the_servers_key(here, school, Kind.RULING, Ruling((), (said.id,)).encode())
        await here.sync(pc, pc)
        assert here.space in (await pc.agent.replica.view(here.space)).roster.erased


async def test_a_teacher_of_whom_a_server_invents_computers_is_let_go_after_one_look_at_what_was_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("M. Durand", "teacher")
        head = await here.head_of_the_school()
        invented = [new_device(Random(number).randbytes) for number in range(12)]
        for keys in invented:
            pair = keys.signing.public, keys.agreement.public
            named = Grant(*pair, keys.tls.fingerprint, Role.TEACHER, bytes.fromhex(person), None, None)
            await _say_with_the_servers_key(here, here.space, Kind.GRANT, named.encode())
        await here.sync(head)
        looks, scan = Counter[tuple[Kind, ...]](), head.agent.replica.store.scan_kinds

        async def counted(kinds: Sequence[Kind]) -> Sequence[Entry]:
            looks[tuple(kinds)] += 1
            return await scan(kinds)

        monkeypatch.setattr(head.agent.replica.store, "scan_kinds", counted)
        await Desk(head.agent).ask("ungrant", person=person, space=[here.office.space])
        assert here.space not in await head.agent.replica.readable(invented[-1].signing.public)
        assert looks[Kind.REVOKE,] <= 2
