"""Whoever lets in a laptop that somebody else reported lost is told so, before and when it comes in (docs/adr/0234).

So is a server of what it cut off, and a head's computer lets in that has not heard of it (docs/adr/0236).
"""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant, Revocation
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.arrivals import note_arrivals
from protocol.rights.vouching import device_words
from protocol.roles import Role
from sync_agent.keys.confirming import own_device
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.handlers.overview.devices import Remark, remarks_on
from sync_server.handlers.overview.members import list_devices
from tests.harness.commands import Desk
from tests.harness.head_at_work import confirmed_head, take_back
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal
from tests.harness.server_in_process import Office
from tests.harness.spied_class import SpiedClass, spied_class
from tests.harness.territory import new_device
from tests.integration.test_my_school import a_class_more

REPORTED = "reported lost, or cut off"
SHOWN = "ignalé perdu ou retiré"


async def _reported_and_held_back(here: SpiedClass) -> Desk:
    """What another head's computer has reported, and a server holds back since, known at this head's."""
    reporting, _ = await confirmed_head(here)
    other, _ = await confirmed_head(here)
    await here.sync(reporting, other)
    await Desk(reporting.agent).ask("lost", device=here.teacher.agent.device.hex())
    await here.sync(reporting, other)
    await take_back(here.room.territory, reporting)
    await here.sync(reporting, other)
    return Desk(other.agent)


async def test_a_head_who_names_a_laptop_for_a_new_class_is_told_that_another_head_reported_it(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        desk, laptop = await _reported_and_held_back(here), here.teacher.agent.device.hex()
        space = (await desk.ask("space add", name="CE2", year="2026-2027"))["space"]
        assert REPORTED not in "".join(desk.told)
        await desk.ask("grant", device=laptop, space=[space])
        told = "".join(desk.told)
        assert REPORTED in told
        assert f"`sync-agent lost {laptop}` says so once more" in told
        later = Desk(desk.agent)
        await later.ask("devices")
        await later.ask("grant", device=laptop, space=[here.room.space.hex()])
        assert not [line for line in later.told if "reported" in line], "she was told, and has agreed"


async def test_where_she_chooses_who_comes_in_stands_which_computers_were_reported(tmp_path: Path) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        desk, laptop = await _reported_and_held_back(here), here.teacher.agent.device.hex()
        async with portal(desk.agent) as surfer:
            place = await a_class_more(surfer)
            (choice,) = re.findall(f'<option value="device:{laptop}">([^<]*)<', html.unescape(await surfer.page(place)))
            assert SHOWN in choice
            page = html.unescape((await surfer.send(place, f"{place}/let-in", {"who": f"device:{laptop}"})).text)
            assert SHOWN in page.partition('id="h-looked"')[2].partition("</section>")[0], "beside its six words"


async def test_at_the_server_it_is_told_that_a_grant_takes_a_heads_report_back(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        person = await here.office.add_person("M. Durand", "teacher")
        head, laptop = await here.head_of_the_school(), await here.device("teacher", person)
        await here.sync(head)
        device = laptop.agent.device.hex()
        await Desk(head.agent).ask("lost", device=device)
        await here.sync(head)
        await here.office.do("grant", device=device, space=[here.office.space])
        assert REPORTED in "".join(here.office.said.lines)


async def test_who_lets_her_into_a_class_reads_when_a_laptop_was_reported_and_by_whom_and_lets_it_in_once_found(
    tmp_path: Path,
) -> None:
    async with spied_class(tmp_path, kept_for=__name__) as here:
        head, _ = await confirmed_head(here)
        laptop, desk = here.teacher.agent.device.hex(), Desk(head.agent)
        await desk.ask("lost", device=laptop)
        async with portal(head.agent) as surfer:
            place, whom = await a_class_more(surfer), f"person:{here.room.teacher_person.hex()}"
            page = html.unescape((await surfer.send(place, f"{place}/let-in", {"who": whom})).text)
            looked = page.partition('id="h-looked"')[2].partition("</section>")[0]
            assert re.search(r"Il n'est pas entré : il a été signalé perdu, ou retiré, .* par cet ordinateur", looked)
            assert "Il a été retrouvé : faire entrer" in looked
            assert "quand même" not in looked
            found = (await surfer.send(place, f"{place}/let-in", {"who": f"device:{laptop}", "seen": ""})).text
            assert device_words(own_device(here.teacher.agent)) in html.unescape(found), "and looks at its screen first"


async def test_which_of_hers_stay_out_and_why_is_told_at_the_server_each_for_itself(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        desk, person = here.office, await here.office.add_person("Mme Petit", "teacher")
        lost, pc = (await here.device("teacher", person)).agent.device.hex(), new_device(os.urandom)
        await desk.do("lost", device=lost)
        server, whose = desk.server, bytes.fromhex(person)
        called = Grant(pc.signing.public, pc.agreement.public, pc.tls.fingerprint, Role.MACHINE, whose, None)
        await server.say([Draft(here.space, Kind.GRANT, server.grant, called.encode())])
        made = await desk.do("space add", name="CM2", school="0180001D", year="2027-2028")
        desk.said.lines.clear()
        await desk.do("grant", person=person, space=[made["space"]])
        told = {line.split()[2]: line for line in desk.said.lines}
        assert re.search(r"stays out: it was reported lost, or cut off, \d.* by this server;", told[lost])
        assert f"grant --device {lost}" not in told[lost]
        key = pc.signing.public.hex()
        assert "it stands for no teacher" in told[key]
        assert f"`sync-server grant --device {key} --space …`" in told[key]


@pytest.mark.parametrize("then", ["lost", "grant"])
async def test_at_the_server_it_is_told_that_a_head_who_had_not_heard_of_a_theft_let_the_computer_in(
    tmp_path: Path, then: str
) -> None:
    async with town(tmp_path) as here:
        desk, head, pc = here.office, await here.head_of_the_school(), await here.device("machine")
        device = pc.agent.device
        await here.sync(head)
        await desk.do("lost", device=device.hex())
        made = await Desk(head.agent).ask("space add", name="CE2", year="2026-2027")
        await Desk(head.agent).ask("grant", device=device.hex(), space=[made["space"]])
        assert not [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line]
        await here.sync(head)
        (told,) = [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line]
        assert f"`lost {device.hex()}`" in told
        (row,) = [each for each in await list_devices(desk.server) if each.id == device]
        assert Remark.LET_IN_SINCE in remarks_on(row, desk.clock())
        await desk.do(then, device=device.hex(), **({"space": [made["space"]]} if then == "grant" else {}))
        assert not [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line]
        reads = (await desk.server.replica.view(bytes.fromhex(made["space"]))).roster.may_read(device)
        assert reads == (then == "grant")


async def test_of_a_computer_that_was_in_another_class_before_it_left_one_nothing_is_told_at_the_server(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        desk, head, pc = here.office, await here.head_of_the_school(), await here.device("machine")
        made = await Desk(head.agent).ask("space add", name="CE2", year="2026-2027")
        await here.sync(head)
        device = pc.agent.device.hex()
        await Desk(head.agent).ask("grant", device=device, space=[made["space"]])
        await here.sync(head)
        await desk.do("ungrant", device=device, space=[desk.space])
        assert not [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line], (
            "it was there before"
        )
        await desk.do("grant", device=device, space=[desk.space])
        assert not [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line]


class _Thief:
    """Has copied the server's key a day after all that came before."""

    def __init__(self, here: Town) -> None:
        self._here = here
        self._key, self._grant = here.office.server.keys.signing, here.office.server.grant

    async def comes_a_day_later(self) -> None:
        await note_arrivals(self._here.office.server.store, self._here.office.clock())
        self._here.office.clock.advance(DAY_MS)

    async def cuts_off(self, device: bytes) -> None:
        said = compose(
            author=self._key,
            space=self._here.space,
            kind=Kind.REVOKE,
            grant=self._grant,
            at=self._here.office.clock() << 16,
            payload=Revocation(device, ()).encode(),
            salt=bytes(16),
        )
        done = await self._here.office.server.replica.admit([said], source=b"thief", now_ms=self._here.office.clock())
        assert done.admitted

    async def is_shut_out(self) -> None:
        kit = kit_in(self._here.folder / "server" / "kit", None)
        await self._here.office.with_kit("rotate server", kit, since="12h")


async def test_a_later_order_that_is_held_back_takes_no_warning_away(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        desk, head, pc, thief = here.office, await here.head_of_the_school(), await here.device("machine"), _Thief(here)
        device = pc.agent.device
        await here.sync(head)
        await desk.do("lost", device=device.hex())
        made = await Desk(head.agent).ask("space add", name="CE2", year="2026-2027")
        await Desk(head.agent).ask("grant", device=device.hex(), space=[made["space"]])
        await here.sync(head)
        await thief.comes_a_day_later()
        await thief.cuts_off(device)
        await thief.is_shut_out()
        assert [line for line in await _told_of_devices(desk) if "has let it in, perhaps" in line]


async def test_of_whom_a_thief_of_the_key_alone_has_cut_off_nothing_is_told(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        desk, head, thief = here.office, await here.head_of_the_school(), _Thief(here)
        keys = new_device(os.urandom)
        await thief.comes_a_day_later()
        await thief.cuts_off(keys.signing.public)
        made = await Desk(head.agent).ask("space add", name="CE2", year="2026-2027")
        granted = Grant(keys.signing.public, keys.agreement.public, keys.tls.fingerprint, Role.MACHINE, None, None)
        under = max(await head.agent.own_rights(), key=lambda each: each.rank).grant
        space = bytes.fromhex(made["space"])
        await head.agent.replica.write(
            [Draft(space, Kind.GRANT, under, granted.encode())],
            author=head.agent.keys.signing,
            now_ms=desk.clock(),
            entropy=os.urandom,
        )
        await here.sync(head)
        await thief.is_shut_out()
        (row,) = [each for each in await list_devices(desk.server) if each.id == keys.signing.public]
        assert not row.let_in_since


async def _told_of_devices(desk: Office) -> list[str]:
    desk.said.lines.clear()
    await desk.do("devices")
    return desk.said.lines
