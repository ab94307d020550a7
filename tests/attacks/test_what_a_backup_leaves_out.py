"""What a backup holds, and what it leaves out, has a restored server know nobody (docs/attacks.md)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import Code, Refused
from protocol.identity import DeviceKeys
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Grant, Invite, Revocation
from protocol.replica.office.bureau import Office as Bureau
from protocol.replica.office.known_here import CODE_MARKS, KnownHere
from protocol.replica.office.stays_out import Reported
from protocol.rights.door import Authority
from protocol.rights.vouching import Device as Pair
from protocol.rights.vouching import Vouch, device_words
from protocol.roles import Role
from protocol.trust.invitation import SECRET_BYTES, Invitation
from sync_agent.keys.confirming import own_device
from sync_server.handlers.store.restored import restored
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.copied_keys import back_up, brought, burnt_and_restored, granted, next_class, said_by_copy
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Office
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device

ROW = "a backup that leaves out what was honest"


def _of_the_backup(known: KnownHere, name: bytes) -> bool:
    """As it was: what came in the backup was there before anything was noted."""
    return name not in known._later


def _as_it_came(said: Sequence[Authority]) -> list[Authority]:
    return list(said)


def _first_of_the_backup(said: Sequence[Authority], _now_ms: int) -> Authority:
    return said[0]


KNOWN_BY_IT = {"protocol.replica.office.known_here.KnownHere._is_of_before": _of_the_backup}


async def _reads(office: Office, device: bytes, space: bytes) -> bool:
    return space in await office.server.replica.readable(device)


def _is_told(office: Office, pair: Pair) -> bool:
    return device_words(pair) in " ".join(office.said.lines)


@attack(ROW, off=KNOWN_BY_IT)
async def test_a_laptop_that_is_hers_alone_in_a_backup_comes_along_into_no_class_once_hers_has_called(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        person, spy = await here.office.add_person("Mme Petit", "teacher"), new_device(os.urandom)
        given = said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person))
        await brought(here, given)
        await back_up(here)  # one of before her laptop came in
        laptop = await here.device("teacher", person)
        async with burnt_and_restored(here) as office:
            replica, clock = office.server.replica, office.clock
            hers = next(each for each in replica.door.authorities_of(laptop.agent.device) if each.space == here.space)
            word = compose(  # so that she is led to, and nothing is told of hers
                author=spy.signing,
                space=here.space,
                kind=Kind.VOUCH,
                grant=given.id,
                at=clock() << 16,
                payload=Vouch().encode(),
                salt=bytes(16),
                subject=bytes.fromhex(person),
                target=hers.grant,
            )
            assert (await replica.admit([word], source=b"the thief's", now_ms=clock())).admitted
            space = await next_class(office, person)
            assert await _reads(office, laptop.agent.device, space)
            assert not await _reads(office, spy.signing.public, space)
            assert _is_told(office, own_keys(spy))
            assert _is_told(office, own_device(laptop.agent))


async def _lies_in_a_drawer_cut_off(here: Town) -> tuple[str, DeviceKeys, Device]:
    """A copied key has called a device of a thief's hers, and cut off her own; who she is, and both devices."""
    person, spy = await here.office.add_person("Mme Petit", "teacher"), new_device(os.urandom)
    laptop = await here.device("teacher", person)
    await here.sync()
    here.devices.remove(laptop)
    await laptop.close()
    heads = tuple(await here.office.server.replica.tips(here.space, laptop.agent.device))
    await brought(
        here,
        said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person)),
        said_by_copy(here, Kind.REVOKE, Revocation(laptop.agent.device, heads).encode()),
    )
    await back_up(here)
    return person, spy, laptop


async def _all_cuts(office: Bureau) -> list[Entry]:
    """As it was: whomever any word cuts off had never been anybody's."""
    return await office.replica.store.scan_kinds([Kind.REVOKE])


@attack(ROW, off={"protocol.replica.office.acquaintance.cuts_said_here": _all_cuts})
async def test_nor_does_a_laptop_that_is_left_alone_since_a_copied_key_has_cut_off_hers(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person, spy, _ = await _lies_in_a_drawer_cut_off(here)
        async with burnt_and_restored(here) as office:
            assert not await _reads(office, spy.signing.public, await next_class(office, person))
            assert _is_told(office, own_keys(spy))


async def _only_the_command(_office: Bureau, reported: Reported, program: str) -> list[str]:
    """A line that has hers reported, as a thief would like it."""
    return [f"`{program} lost {device[0].hex()}`" for device, _ in reported.lost]


@attack(ROW, off={"protocol.replica.office.commands.lines_of": _only_the_command})
async def test_who_is_led_to_report_hers_is_told_first_whose_it_is_and_whom_that_would_let_in(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person, spy, laptop = await _lies_in_a_drawer_cut_off(here)
        hers, shows = laptop.agent.device, device_words(own_device(laptop.agent))
        async with burnt_and_restored(here) as office:
            await next_class(office, person)
            told = office.said.lines
            (out,) = [line for line in told if line.startswith(f"the device {hers.hex()} stays out")]
            assert "by a server's key, and by no command that this server has noted" in out
            assert f"grant --device {hers.hex()}" not in out, "of what may be in a thief's hands no line lets it in"
            assert any(f"of “Mme Petit” ({person})" in line and shows in line for line in told), "whom to ask of which"
            (asked,) = [line for line in told if f"sync-server lost {hers.hex()}" in line]
            assert asked.startswith("before anything else ask them")
            assert device_words(own_keys(spy)) in asked, "she has none that shows these"
            assert "report nothing" in asked


@attack(ROW, off=KNOWN_BY_IT)
async def test_of_a_teacher_without_a_computer_whatever_a_backup_calls_theirs_is_told(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person, spy = await here.office.add_person("M. Roy", "teacher"), new_device(os.urandom)
        await brought(here, said_by_copy(here, Kind.GRANT, granted(spy, Role.TEACHER, person)))
        await back_up(here)
        async with burnt_and_restored(here) as office:
            await next_class(office, person)
            assert _is_told(office, own_keys(spy))


async def _let_in_by_a_restored_server(here: Town, role: Role, person: str | None) -> Role:
    """As what a PC comes into the next class of which a backup knows only what a copy of the key calls it."""
    keys = new_device(os.urandom)
    await brought(here, said_by_copy(here, Kind.GRANT, granted(keys, role, person)))
    await back_up(here)
    machine = await here.device("machine", keys=keys)
    async with burnt_and_restored(here) as office:
        made = await office.do("space add", name="CM2", school="0180001D", year="2027-2028")
        await office.do("grant", device=machine.agent.device.hex(), space=[made["space"]])
        space, given = bytes.fromhex(made["space"]), office.server.replica.door.authorities_of(keys.signing.public)
        (role,) = [each.role for each in given if each.space == space]
        return role


@attack(ROW, off={"protocol.replica.office.grants.least_of": _first_of_the_backup})
async def test_a_pc_that_is_an_administrators_alone_in_a_backup_is_let_in_as_a_pc(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        assert await _let_in_by_a_restored_server(here, Role.ADMIN, None) is Role.MACHINE


@attack(ROW, off={"protocol.replica.office.grants.least_first": _as_it_came})
async def test_a_pc_that_is_a_teachers_alone_in_a_backup_is_let_in_as_a_pc(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("M. Roy", "teacher")
        assert await _let_in_by_a_restored_server(here, Role.TEACHER, person) is Role.MACHINE


async def _made_by_a_copy(here: Town, person: str) -> str:
    """A code that the honest program has made on a copy of the disk: this server has no note of it."""
    store = here.office.server.store
    before = set(await store.marks(CODE_MARKS))
    code = await here.office.invite("teacher", person=person, ttl="4800h")
    await store.set_marks(dict.fromkeys(set(await store.marks(CODE_MARKS)) - before))
    return code


@attack(ROW, off=KNOWN_BY_IT)
async def test_who_comes_in_by_a_code_that_lies_in_a_backup_is_not_known_by_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        person, spy = at_work.person, new_device(os.urandom)
        code = await _made_by_a_copy(here, person)
        await here.sync()
        await back_up(here)
        async with burnt_and_restored(here) as office:
            assert await restored(office.server) is None, "all have told: codes of before let in again"
            await office.enrol(code, spy)
            space = await next_class(office, person)
            assert not await _reads(office, spy.signing.public, space)
            assert _is_told(office, own_keys(spy))


async def _codes_of(head: DeviceKeys, right: bytes, here: Town, office: Office, person: str) -> str:
    code = replace(Invitation.create(office.server.replica.territory, os.urandom(SECRET_BYTES)), version=1)
    lasts_ms = office.clock() + 90 * DAY_MS
    said = Invite(code.secret_hash, Role.TEACHER, (here.space,), bytes.fromhex(person), 1, lasts_ms, None, code.key)
    made = compose(
        author=head.signing,
        space=here.school,
        kind=Kind.INVITE,
        grant=right,
        at=office.clock() << 16,
        payload=said.encode(),
        salt=os.urandom(16),
    )
    assert (await office.server.replica.admit([made], source=b"a PC", now_ms=office.clock())).admitted
    return code.code()


@attack(ROW, off=KNOWN_BY_IT)
async def test_codes_of_a_head_whom_a_thief_had_put_into_a_backup_open_nothing_once_the_keys_are_replaced(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        person, head = at_work.person, new_device(os.urandom)
        right = said_by_copy(here, Kind.GRANT, granted(head, Role.HEAD, None), here.school)
        await brought(here, right)
        await here.sync()
        await back_up(here)
        async with burnt_and_restored(here) as office:
            await office.with_kit_in("rotate server", here.folder / "server" / "kit", anyway=True)
            assert _is_told(office, own_keys(head))
            code = await _codes_of(head, right.id, here, office, person)
            with pytest.raises(Refused) as refused:
                await office.enrol(code, new_device(os.urandom))
            assert refused.value.code is Code.CODE_WRONG


async def test_a_head_teacher_is_let_in_by_name_once_after_a_restore_and_whom_she_lets_in_is_known(
    tmp_path: Path,
) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        person = at_work.person
        head = await here.head_of_the_school()
        await here.sync()
        await back_up(here)
        async with burnt_and_restored(here) as office:
            by_code, by_name = new_device(os.urandom), new_device(os.urandom)
            await office.do("grant", device=head.agent.device.hex(), space=[here.school.hex()])
            assert _is_told(office, own_device(head.agent))
            office.said.lines.clear()
            await office.with_kit_in("rotate server", here.folder / "server" / "kit")
            assert not any(device_words(own_device(head.agent)) in line for line in office.said.lines)
            right = _right_of(office, head)
            await office.enrol(await _codes_of(head.agent.keys, right, here, office, person), by_code)
            given = compose(
                author=head.agent.keys.signing,
                space=here.space,
                kind=Kind.GRANT,
                grant=right,
                at=office.clock() << 16,
                payload=granted(by_name, Role.TEACHER, person),
                salt=os.urandom(16),
            )
            assert (await office.server.replica.admit([given], source=b"hers", now_ms=office.clock())).admitted
            space = await next_class(office, person)
            for keys in (by_code, by_name):
                assert await _reads(office, keys.signing.public, space)
                assert not _is_told(office, own_keys(keys))


def _right_of(office: Office, head: Device) -> bytes:
    """The latest under which a head teacher's computer speaks."""
    return [each.grant for each in office.server.replica.door.authorities_of(head.agent.device)][-1]


async def _untold(*_: object) -> None:
    return None


@attack(ROW, off={"protocol.replica.office.commands._tell_what_it_shows": _untold})
async def test_who_names_a_computer_at_the_server_is_told_with_which_keys_a_backup_has_it_let_in(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        head, spy = new_device(os.urandom), new_device(os.urandom)
        beside = Grant(head.signing.public, spy.agreement.public, spy.tls.fingerprint, Role.HEAD, None, None)
        await brought(here, said_by_copy(here, Kind.GRANT, beside.encode(), here.school))
        await back_up(here)  # without the head's own
        hers = await here.device("head", None, here.school.hex(), keys=head)
        async with burnt_and_restored(here) as office:
            office.said.lines.clear()
            await office.do("grant", device=hers.agent.device.hex(), space=[here.school.hex()])
            assert _is_told(office, (head.signing.public, spy.agreement.public)), "her own page shows others"
