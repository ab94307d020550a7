"""Devices that do not find each other by multicast: met once by an address, they meet again after a restart (R15)."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from random import Random

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, LocalFailure, NoAnswer, Refused
from protocol.identity import three_words
from protocol.replica.console.frame import Notices
from protocol.replica.console.operation import NO_FILES
from protocol.roles import Role
from sync_agent.lan.exchange.peer_sync import NoSchool
from sync_agent.lan.exchange.peer_transport import PeerTransport
from sync_agent.lan.finding.multicast import leads_by
from sync_agent.lan.finding.places_met import NOBODY, may_be_of_the_school, places_mark, read_places, with_met
from sync_agent.lan.peer_commands import peer_add
from sync_agent.lan.school_lan import Lan
from sync_agent.machine.addresses import Address, address_of
from sync_agent.machine.marks import PLACES_MARK
from tests.harness.classroom import Classroom, Device, classroom
from tests.harness.enrolled import Class, enrolled_class
from tests.harness.lan import listening_device
from tests.harness.measures import impose, learn
from tests.harness.patience import eventually, until
from tests.harness.portal import portal
from tests.harness.ports import free_port
from tests.harness.territory import new_device
from tests.integration.test_lan_programs import has, port_of

HERE = Address("127.0.0.1", 0)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what multicast shows: on loopback it shows nobody."""
    for name in ("FIRST_S", "ALONE_S", "IN_TOUCH_S"):
        monkeypatch.setattr(f"sync_agent.lan.revisiting.{name}", (0.05, 0.1))


@asynccontextmanager
async def at_school(device: Device, listen: Address = HERE, *peers: Address) -> AsyncIterator[Lan]:
    """A device that listens, as one that has just been switched on."""
    lan = Lan(device.agent, news=lambda: None, draw=Random(1).uniform)
    async with lan.open(listen, peers):
        yield lan


def where(lan: Lan) -> Address:
    assert lan.url is not None
    return address_of(lan.url.removeprefix("https://"), "url")


async def add(device: Device, lan: Lan | NoSchool, address: Address) -> object:
    return await peer_add(device.agent, lan.keep)({"address": address.authority}, NO_FILES, Notices())


async def test_who_was_met_by_an_address_is_met_there_again_after_a_restart(room: Classroom, at_once: None) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await learn(teacher, pc)
    async with at_school(teacher) as school:
        async with at_school(pc, HERE, where(school)) as lan:
            await until(lambda: teacher.agent.device in lan.live_devices())
            await until(lambda: read_places(pc.agent.replica.store))
        async with at_school(pc) as lan:
            await until(lambda: teacher.agent.device in lan.live_devices())
        async with at_school(pc) as lan:
            lan._revisits._host = "192.0.2.7"
            await until(lambda: lan._revisits._round > 3)
            assert not lan.rows(), "only by the interface on which it listens"


async def test_where_nobody_is_any_more_others_are_looked_for_elsewhere(room: Classroom, at_once: None) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await learn(teacher, pc)
    async with at_school(teacher) as school:
        places = with_met((), where(school), teacher.agent.device, pc.agent.now_ms())
        for number in range(20):
            gone = Address("127.0.0.1", free_port())
            places = with_met(places, gone, new_device(Random(number).randbytes).signing.public, pc.agent.now_ms())
        await pc.agent.replica.store.set_marks(places_mark(places))
        async with at_school(pc) as lan:
            await until(lambda: teacher.agent.device in lan.live_devices())
            assert len(lan.rows()) <= 8


async def test_a_disk_that_has_no_room_to_note_where_somebody_was_met_keeps_nobody_from_being_linked_with(
    room: Classroom, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, other, pc = await room.teacher(), await room.machine(), await room.machine()
    await learn(teacher, other, pc)
    store = pc.agent.replica.store
    keep = store.set_marks

    async def no_room(marks: Mapping[str, bytes | None]) -> None:
        if PLACES_MARK in marks:
            raise LocalFailure(Code.DISK_FULL, "the disk is full")
        await keep(marks)

    async with at_school(teacher) as first, at_school(other) as second:
        two_days_ago_ms = pc.agent.now_ms() - 2 * DAY_MS
        await keep(places_mark(with_met((), where(first), teacher.agent.device, two_days_ago_ms)))
        monkeypatch.setattr(store, "set_marks", no_room)
        async with at_school(pc) as lan:
            await until(lambda: teacher.agent.device in lan.live_devices())
            lan._revisits.wanted.add(where(second))
            lan._look_around()
            await until(lambda: other.agent.device in lan.live_devices())
            assert not pc.agent.unforeseen.rows()


async def test_whoever_has_taken_the_address_gets_nothing_and_is_left_alone(
    room: Classroom, at_once: None, tmp_path: Path
) -> None:
    pc = await room.machine()
    async with classroom(tmp_path / "other", seed=99) as elsewhere:
        stranger = await elsewhere.machine()
        async with listening_device(stranger.agent) as address:
            with pytest.raises(NoAnswer, match="no device with which"):
                await peer_add(pc.agent, pc_keeps_nothing)({"address": address.authority}, NO_FILES, Notices())
            places = with_met((), address, stranger.agent.device, pc.agent.now_ms())
            await pc.agent.replica.store.set_marks(places_mark(places))
            async with at_school(pc) as lan:
                await until(lambda: lan._revisits._tried)
                await until(lambda: not lan.rows())
                assert not lan.live_devices()


async def pc_keeps_nothing(address: Address, device: bytes | None) -> None:
    raise AssertionError((address, device))


async def test_a_computer_that_somebody_names_is_linked_at_once_or_once_it_is_there(
    room: Classroom, at_once: None
) -> None:
    teacher, pc, other = await room.teacher(), await room.machine(), await room.machine()
    await learn(teacher, pc, other)
    async with at_school(pc) as lan:
        async with at_school(other) as first:
            named = await add(pc, lan, where(first))
            assert named == {
                "address": where(first).authority,
                "device": other.agent.device.hex(),
                "problem": None,
                "kept": True,
            }
            await until(lambda: other.agent.device in lan.live_devices())
            with pytest.raises(NoAnswer, match="itself"):
                await add(pc, lan, where(lan))
        later = Address("127.0.0.1", free_port())
        vain = await add(pc, lan, later)
        assert isinstance(vain, dict)
        assert vain["device"] is None
        assert vain["problem"]
        assert (later, NOBODY) in {(place.address, place.device) for place in await read_places(pc.agent.replica.store)}
        async with at_school(teacher, later):
            await until(lambda: teacher.agent.device in lan.live_devices())


async def test_an_address_outside_the_schools_network_is_kept_only_if_one_of_ours_answers_there(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    pc = await room.machine()

    async def nobody(transport: PeerTransport) -> bytes:
        raise NoAnswer(Code.UNREACHABLE, f"nobody answers at {transport.address.authority}")

    monkeypatch.setattr(PeerTransport, "certificate", nobody)
    async with at_school(pc) as lan, portal(pc.agent) as surfer:
        far = await add(pc, lan, Address("93.184.215.14", 443))
        assert isinstance(far, dict)
        assert far["kept"] is False
        gone = await surfer.send("/nearby", "/nearby", {"address": "93.184.215.14:443"})
        assert "n'est pas gardée" in html.unescape(await surfer.page(gone.headers["Location"]))
        assert not await read_places(pc.agent.replica.store)


def test_a_schools_network_is_private_or_that_of_an_address_of_ones_own() -> None:
    own = [ip_address("81.250.1.7"), ip_address("2a01:e0a:1:2::7")]
    near = ("192.168.7.1", "10.200.3.4", "100.70.1.1", "fd00::9", "81.250.9.9", "2a01:e0a:1:99::1")
    far = ("93.184.215.14", "2a01:e0b::1", "fe80::1", "169.254.3.4", "224.0.0.251", "0.0.0.0")  # noqa: S104
    assert all(may_be_of_the_school(ip_address(each), own) for each in near)
    assert not any(may_be_of_the_school(ip_address(each), own) for each in far)


async def test_without_the_schools_network_nobody_is_linked(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await learn(teacher, pc)
    async with at_school(teacher) as school:
        with pytest.raises(BadInput, match="--lan"):
            await add(pc, NoSchool(pc.agent), where(school))
        await impose(room)
        await learn(pc)
        with pytest.raises(Refused) as refused:
            await add(pc, NoSchool(pc.agent), where(school))
        assert refused.value.code is Code.QUARANTINED


def test_a_place_is_reached_by_the_interface_of_the_listener_or_not_at_all() -> None:
    assert leads_by("127.0.0.1", "127.0.0.1")
    assert leads_by("0.0.0.0", "127.0.0.1")  # noqa: S104  (nothing listens)
    assert not leads_by("192.0.2.7", "127.0.0.1")
    assert not leads_by("127.0.0.1", "::1")


async def test_the_page_shows_the_own_address_and_links_another(room: Classroom) -> None:
    teacher, pc = await room.teacher(), await room.machine()
    await learn(teacher, pc)
    async with portal(pc.agent) as surfer:
        assert 'href="/nearby"' in await surfer.page("/state")
        assert "n'écoute pas" in html.unescape(await surfer.page("/nearby"))
        pc.agent.listens_at = "127.0.0.1:8443"
        page = await surfer.page("/nearby")
        assert ">127.0.0.1:8443<" in page
        assert 'class="qr"' in page
        assert "Personne pour le moment" in page
        async with listening_device(teacher.agent) as address:
            answer = await surfer.send("/nearby", "/nearby", {"address": address.authority})
            assert (answer.status, answer.headers["Location"]) == (303, "/nearby?done=linked")
            (place,) = await read_places(pc.agent.replica.store)
            assert (place.address, place.device) == (address, teacher.agent.device)
        vain = await surfer.send("/nearby", "/nearby", {"address": f"127.0.0.1:{free_port()}"})
        assert vain.headers["Location"] == "/nearby?done=later"
        assert (await surfer.send("/nearby", "/nearby", {"address": "192.168.1.12"})).status == 400
        other = await room.machine()
        pc.agent.neighbours = lambda: [
            {"device": other.agent.device.hex(), "name": "Poste 4", "state": "live"},
            {"device": teacher.agent.device.hex(), "name": "Portable de Mme Dupont", "state": "live"},
        ]
        await learn(teacher, other, pc)
        page = await surfer.page("/nearby")
        assert "Poste 4" in page
        assert three_words(teacher.agent.device) in page
        assert "Dupont" not in page, "nobody signs in at a computer of a school to see who is there"
        assert "Other computers" in await surfer.page("/nearby?lang=en")


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def school(tmp_path: Path) -> Class:
    return await enrolled_class(tmp_path, {"prof": Role.TEACHER, "renard": Role.MACHINE})


@pytest.fixture
def ended(school: Class) -> Iterator[None]:
    yield
    for machine in school.devices.values():
        if machine.daemon is not None:
            machine.kill()


def test_an_address_that_was_carried_by_hand_links_two_computers_for_good(
    school: Class, ended: None, tmp_path: Path
) -> None:
    prof, renard = school["prof"], school["renard"]
    assert prof.ok("peer", "address") == {"addresses": []}
    prof.start("--lan", f"127.0.0.1:{free_port()}")
    (address,) = prof.ok("peer", "address")["addresses"]
    assert address == port_of(prof)
    assert renard.ok("peer", "add", address)["device"] == prof.ok("status")["device"]
    assert renard.run("peer", "add", "nowhere").status == 2

    def is_live() -> bool:
        return any(row["state"] == "live" for row in renard.ok("status")["peers"])

    for title in ("La mare", "Encore"):
        renard.start("--lan", "127.0.0.1:0")
        eventually("the line stands", is_live)
        (tmp_path / "mot.txt").write_text(title, encoding="utf-8")
        item = prof.ok("publish", str(tmp_path / "mot.txt"), "--space", school.space, "--title", title)["item"]
        eventually("the lesson is there", partial(has, renard, item))
        assert renard.stop() == 0
    assert prof.stop() == 0
