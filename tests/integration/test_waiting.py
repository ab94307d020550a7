"""What turns up from a device after it was cut off waits for a human, who accepts or refuses it."""

from __future__ import annotations

import html
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, Refused
from protocol.model.entry import Kind
from protocol.model.work import ItemKind
from protocol.replica.console.frame import Notices
from protocol.replica.office.arrivals import note_arrivals
from protocol.replica.office.further_words import merge_persons
from sync_agent.coursework.publisher import Wish, publish
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.classroom import SMALL, WORK, Device, Given
from tests.harness.commands import Desk
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town, town
from tests.harness.portal import portal
from tests.harness.territory import new_device


class Cut:
    """A class whose pupils' machine was cut off while two pieces of work lay on it that nobody else had."""

    def __init__(self, here: Town, teacher: Device, machine: Device, works: list[bytes]) -> None:
        self.here, self.office = here, here.office
        self.teacher, self.machine, self.works = teacher, machine, works

    async def brought(self) -> None:
        """Somebody carries the lost machine's entries and its content to the server."""
        replica = self.machine.agent.replica
        entries = [stored.entry for stored in await replica.store.scan(self.here.space)]
        server = self.office.server
        await server.replica.admit(entries, source=b"carrier", now_ms=self.office.clock())
        for need in [need for work in self.works for need in await self._needs(work)]:
            for pack in await self.machine.agent.holdings.packs(need):
                data = await replica.content.read_pack(pack.hash, 0, pack.size)
                await server.replica.content.ingest(need.space, data)

    async def _needs(self, work: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202
        view = await self.machine.agent.replica.view(self.here.space)
        return [
            need
            for need in await self.machine.agent.needs(
                self.here.space, (await self.machine.agent.spaces())[self.here.space]
            )
            if need.stream == view.coursework.hand_ins[work].record.content.stream
        ]

    async def shown(self) -> set[str]:
        """The hand-ins that count, at the server."""
        return {row["id"] for row in await self.office.do("hand-ins", space=self.office.space)}

    async def waiting(self, *, refused: bool = False) -> set[str]:
        """The ids of what waits."""
        return {row["id"] for row in await self.office.do("waiting", refused=refused)}


@pytest.fixture
async def cut(tmp_path: Path) -> AsyncIterator[Cut]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, machine, _, pupil, item)):
        before = await here.work(machine, item, pupil)
        await here.sync(machine)
        works = [await here.work(machine, item, pupil) for _ in range(2)]
        await here.office.do("revoke", device=machine.agent.device.hex())
        found = Cut(here, teacher, machine, works)
        await found.brought()
        assert await found.shown() == {before.hex()}
        yield found


async def test_work_from_after_the_cut_is_listed_with_whose_it_is_and_counts_for_nothing(cut: Cut) -> None:
    rows = await cut.office.do("waiting")
    assert [row["id"] for row in rows] == [work.hex() for work in cut.works]
    assert {(row["kind"], row["name"], row["title"], row["device"]) for row in rows} == {
        ("hand-in", "Léa", "Racontez", cut.machine.agent.device.hex())
    }


async def test_work_of_who_was_added_twice_waits_under_the_name_of_the_list(cut: Cut) -> None:
    own = (await cut.office.do("waiting"))[0]["person"]
    other = await cut.office.add_person("Léa Martin", "pupil")
    await merge_persons(cut.office.server, bytes.fromhex(own), bytes.fromhex(other))
    assert {row["name"] for row in await cut.office.do("waiting")} == {"Léa Martin"}


async def test_accepted_work_reaches_the_teacher_and_opens(cut: Cut) -> None:
    first, second = (work.hex() for work in cut.works)
    assert await cut.office.do("accept", named=[first[:10]]) == {"accepted": 1}
    assert first in await cut.shown()
    assert await cut.waiting() == {second}
    await cut.here.sync(cut.teacher, cut.teacher)
    assert await Desk(cut.teacher.agent).files("open-hand-in", id=first) == WORK


@pytest.mark.parametrize("by_kit", [False, True])
async def test_what_a_ruling_lets_count_is_refused_by_its_id_and_by_the_kit_for_good(
    cut: Cut, tmp_path: Path, *, by_kit: bool
) -> None:
    office, work = cut.office, cut.works[0].hex()
    await office.do("accept", named=[work])
    if by_kit:
        done = await office.with_kit("refuse", kit_in(tmp_path / "server" / "kit", None), named=[work])
    else:
        done = await office.do("refuse", named=[work])
    assert done == {"refused": 1}
    assert work not in await cut.shown()
    assert work in await cut.waiting(refused=True)
    await cut.here.sync(cut.teacher)
    assert cut.works[0] not in (await cut.teacher.agent.replica.view(cut.here.space)).coursework.hand_ins
    if by_kit:
        with pytest.raises(Refused):
            await office.do("accept", named=[work])
    else:
        assert await office.do("accept", named=[work]) == {"accepted": 1}


@pytest.mark.parametrize("command", ["accept", "refuse"])
async def test_of_work_that_waits_by_the_kits_word_nobody_is_told_that_the_servers_counts(
    tmp_path: Path, command: str
) -> None:
    async with town(tmp_path) as here:
        office = here.office
        person, pupil = await office.add_person("Mme Petit", "teacher"), await office.add_person("Léa", "pupil")
        item = await here.assignment(await here.device("teacher", person))
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        machine = await here.device("machine")  # the old key lets it in, after the time that is given below
        work = (await here.work(machine, item, pupil)).hex()
        await here.sync(machine)
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        assert work in {row["id"] for row in await office.do("waiting")}
        with pytest.raises(
            Refused, match=f"1 of these wait by the kit's word.*sync-server {command} ID --kit"
        ) as caught:
            await office.do(command, named=[work])
        assert caught.value.code is Code.NO_RIGHT
        assert work in {row["id"] for row in await office.do("waiting")}
        await office.do("grant", device=machine.agent.device.hex(), space=[office.space])
        await here.sync(machine)
        again = (await here.work(machine, item, pupil)).hex()
        await here.sync(machine)
        assert {row["id"] for row in await office.do("hand-ins", space=office.space)} == {again}


@asynccontextmanager
async def waiting_by_the_kits_word(folder: Path) -> AsyncIterator[tuple[Town, Device, Device, bytes]]:
    """A town whose server's keys were replaced as of twelve hours ago; its teacher; a PC let in since, and its work."""
    async with town(folder) as here:
        office = here.office
        person, pupil = await office.add_person("Mme Petit", "teacher"), await office.add_person("Léa", "pupil")
        teacher = await here.device("teacher", person)
        item = await here.assignment(teacher)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        machine = await here.device("machine")
        work = await here.work(machine, item, pupil)
        await here.sync(machine)
        await office.with_kit("rotate server", kit_in(folder / "server" / "kit", None), since="12h")
        yield here, teacher, machine, work


@pytest.mark.parametrize("by_device", [False, True])
async def test_work_that_waits_by_the_kits_word_counts_by_the_kits_word_and_opens(
    tmp_path: Path, *, by_device: bool
) -> None:
    async with waiting_by_the_kits_word(tmp_path) as (here, teacher, machine, work):
        kit = kit_in(tmp_path / "server" / "kit", None)
        named = machine.agent.device if by_device else work
        assert await here.office.with_kit("accept", kit, named=[named.hex()]) == {"accepted": 1}
        assert [row["id"] for row in await here.office.do("hand-ins", space=here.office.space)] == [work.hex()]
        assert {row["kind"] for row in await here.office.do("waiting", refused=False)} == {"grant"}
        told = "\n".join(here.office.said.lines)
        assert f"by the kit's word counts, written by the device {machine.agent.device.hex()}: 1 × hand-in" in told
        await here.sync(teacher, teacher)
        assert await Desk(teacher.agent).files("open-hand-in", id=work.hex()) == WORK


async def test_what_waits_by_the_kits_word_is_taken_off_the_list_by_it_and_may_count_later(tmp_path: Path) -> None:
    async with waiting_by_the_kits_word(tmp_path) as (here, _, machine, work):
        kit = kit_in(tmp_path / "server" / "kit", None)
        assert await here.office.with_kit("refuse", kit, named=[machine.agent.device.hex()]) == {"refused": 1}
        left = [row["id"] for row in await here.office.do("waiting", refused=False)]
        assert work.hex() not in left
        assert await here.office.with_kit("refuse", kit, named=left) == {"refused": 1}
        assert await here.office.do("waiting", refused=False) == []
        with pytest.raises(Refused):
            await here.office.do("accept", named=[work.hex()])
        assert await here.office.with_kit("accept", kit, named=[work.hex()]) == {"accepted": 1}


async def test_a_right_that_waits_by_the_kits_word_leaves_the_list_once_it_is_said_again(tmp_path: Path) -> None:
    async with waiting_by_the_kits_word(tmp_path) as (here, _, machine, work):
        rows = await here.office.do("waiting", refused=False)
        (right,) = [row for row in rows if row["kind"] == "grant"]
        assert right["title"] == f"machine {machine.agent.device.hex()} (“PC 2”)"
        here.office.clock.advance(1_000)
        anew = f"grant --device … --space {here.space.hex()}"
        assert any(right["id"] in line and anew in line for line in here.office.said.lines), "whoever lists it is told"
        with pytest.raises(BadInput, match=anew):
            await here.office.do("accept", named=[right["id"]])
        await here.office.do("grant", device=machine.agent.device.hex(), space=[here.space.hex()])
        assert {row["id"] for row in await here.office.do("waiting", refused=False)} == {work.hex()}
        await here.sync(machine)


async def test_the_kit_rules_on_what_is_named_by_a_whole_id_and_on_no_right(tmp_path: Path) -> None:
    async with waiting_by_the_kits_word(tmp_path) as (here, _, _, work):
        kit = kit_in(tmp_path / "server" / "kit", None)
        with pytest.raises(BadInput, match="all of its 64 digits"):
            await here.office.with_kit("accept", kit, named=[work.hex()[:16]])
        grant = next(row["id"] for row in await here.office.do("waiting", refused=False) if row["kind"] == "grant")
        with pytest.raises(BadInput, match=f"{grant} lets a shared machine in: `sync-server grant"):
            await here.office.with_kit("accept", kit, named=[grant])
        other = kit_in(tmp_path / "server" / "kit", None)
        with pytest.raises(BadInput) as caught:
            await here.office.with_kit(
                "accept", replace(other, root=new_device(os.urandom).signing), named=[work.hex()]
            )
        assert caught.value.code is Code.BAD_KIT


async def test_refused_work_leaves_the_list_is_kept_and_may_be_accepted_later(cut: Cut) -> None:
    device = cut.machine.agent.device.hex()
    assert await cut.office.do("refuse", named=[device]) == {"refused": 2}
    assert await cut.waiting() == set()
    assert await cut.waiting(refused=True) == {work.hex() for work in cut.works}
    first = cut.works[0].hex()
    assert await cut.office.do("accept", named=[first]) == {"accepted": 1}
    assert f"{first} had been refused: that is taken back" in cut.office.said.lines
    assert first in await cut.shown()
    assert len(await cut.office.server.store.scan_kinds([Kind.HAND_IN])) == 3


@pytest.mark.parametrize("word", ["accept", "refuse"])
async def test_one_word_for_a_device_is_for_its_work_in_all_classes(tmp_path: Path, word: str) -> None:
    async with town(tmp_path) as here:
        desk = here.office
        second = (await desk.do("space add", name="CE2", school="0180001D", year="none"))["space"]
        petit = await desk.add_person("Mme Petit", "teacher")
        teacher, pc = await here.device("teacher", petit), await here.device("machine")
        await desk.do("grant", person=petit, space=[second])
        await desk.do("grant", device=pc.agent.device.hex(), space=[second])
        await here.sync(teacher, pc)
        asked = []
        for space in (desk.space, second):
            wish = Wish(bytes.fromhex(space), None, ItemKind.ASSIGNMENT, "Racontez")
            item = (await publish(teacher.agent, wish, Given(SMALL), Notices())).item
            asked.append((item, await desk.add_person("Léa", "pupil", space)))
        await here.sync(teacher, pc)
        for item, pupil in asked:
            await here.work(pc, item, pupil)
        await desk.do("revoke", device=pc.agent.device.hex())
        for space in (desk.space, second):
            entries = [stored.entry for stored in await pc.agent.replica.store.scan(bytes.fromhex(space))]
            await desk.server.replica.admit(entries, source=b"carrier", now_ms=desk.clock())
        assert len(await desk.do("waiting", refused=False)) == 2
        await desk.do(word, named=[pc.agent.device.hex()])
        assert await desk.do("waiting", refused=False) == []
        assert len(await desk.do("waiting", refused=True)) == (2 if word == "refuse" else 0)


@pytest.mark.parametrize("named", [["00" * 32], ["rien"], ["00" * 16]])
async def test_what_does_not_wait_cannot_be_ruled_on(cut: Cut, named: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        await cut.office.do("accept", named=named)
    assert caught.value.code is Code.UNKNOWN_HAND_IN
    assert await cut.waiting() == {work.hex() for work in cut.works}


async def test_a_proof_of_work_that_waits_says_so(cut: Cut) -> None:
    from protocol.trust.receipt_code import proof_code  # noqa: PLC0415

    code = proof_code(cut.works[0])
    assert (await cut.office.do("check-receipt", code=code))["why"] == "held-back"
    await cut.office.do("accept", named=[cut.works[0].hex()])
    assert (await cut.office.do("check-receipt", code=code))["valid"] is True


async def test_the_page_names_the_command_for_what_waits_by_the_kits_word(tmp_path: Path) -> None:
    async with waiting_by_the_kits_word(tmp_path) as (here, _, _, work):
        await add_administrator(here.office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        async with pages_over(here.office) as (url, _):
            cookie = cookie_of(await sign_in(url))
            for said in ("accept", "refuse"):
                form = {"id": work.hex(), "say": said}
                page = await ask(url, "/admin/waiting", method="POST", form=form, Cookie=cookie, Origin=url)
                assert f"sync-server {said} {work.hex()} --kit" in page.body.decode()


async def test_an_administrator_decides_on_a_page(cut: Cut) -> None:
    await add_administrator(cut.office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    first, second = (work.hex() for work in cut.works)
    async with pages_over(cut.office) as (url, _):
        cookie = cookie_of(await sign_in(url))
        page = (await ask(url, "/admin/waiting", Cookie=cookie)).body.decode()
        assert page.count("Racontez") == 4 * 1 + 2  # each row, and what its two buttons say
        assert "Léa" in page
        assert re.search(f'"Où">[^<0-9]+[^<]* <span class="under whole">{cut.office.space}', page), "first its name"
        assert page.count('<button class="button"') == 2 * len(cut.works), "neither answer is the nearer one"
        assert "admis comme" not in page, "a shared machine is nobody's"
        for one, said in ((first, "accept"), (second, "refuse")):
            form = {"id": one, "say": said}
            # a page of somebody else's cannot send it
            foreign = await ask(url, "/admin/waiting", method="POST", form=form, Cookie=cookie, Origin="http://x.test")
            assert foreign.status == 403
            done = await ask(url, "/admin/waiting", method="POST", form=form, Cookie=cookie, Origin=url)
            assert done.status == 303
        assert first in await cut.shown()
        assert await cut.waiting() == set()
        again = await ask(url, "/admin/waiting", method="POST", form={"id": "00"}, Cookie=cookie, Origin=url)
        assert (again.status, 'role="alert"' in again.body.decode()) == (200, True)
        stranger = await ask(url, "/admin/waiting", method="POST", form={"id": second, "say": "accept"}, Origin=url)
        assert stranger.status == 303
        assert second not in await cut.shown()


async def test_the_page_says_whose_laptop_said_what_waits(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, (teacher, _, _, _, _)):
        await here.office.do("revoke", device=teacher.agent.device.hex())
        await publish(teacher.agent, Wish(here.space, None, ItemKind.LESSON, "Après"), Given(SMALL), Notices())
        entries = [stored.entry for stored in await teacher.agent.replica.store.scan(here.space)]
        await here.office.server.replica.admit(entries, source=b"carrier", now_ms=here.office.clock())
        await add_administrator(here.office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
        async with pages_over(here.office) as (url, _):
            cookie = cookie_of(await sign_in(url))
            page = (await ask(url, "/admin/waiting", Cookie=cookie)).body.decode()
            home = (await ask(url, "/admin/", Cookie=cookie)).body.decode()
    assert "Après" in page
    assert "admis comme poste de Mme Petit" in page
    assert '<a href="/admin/waiting">À décider</a></p>' in home, "what is told of there leads there"


async def test_the_heads_page_calls_a_former_server_that_and_what_it_said_until_it_is_said_anew(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        office = here.office
        pupil, head = await office.add_person("Léa", "pupil"), await here.head_of_the_school()
        await here.sync(head)
        await Desk(head.agent).ask("erase", person=[pupil])
        await here.sync(head)
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(DAY_MS)
        await office.do("unerase", covers=pupil)
        await here.sync(head)
        await office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        await here.sync(head)
        assert [row["kind"] for row in await office.do("waiting")] == ["ruling"]
        async with portal(head.agent) as surfer:
            assert "coupé : le serveur, avec ses clés d'avant." in html.unescape(await surfer.page("/school"))
            await office.do("unerase", covers=pupil)
            await here.sync(head)
            assert await office.do("waiting") == []
            assert 'id="held-back"' not in await surfer.page("/school")


async def test_where_nothing_is_noted_yet_of_when_it_came_it_is_said_when_that_will_be_known(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        office, kit = here.office, kit_in(tmp_path / "server" / "kit", None)
        await office.add_person("Léa", "pupil")
        office.clock.advance(DAY_MS)
        with pytest.raises(BadInput, match="It is noted every 10 minutes while `run` is up") as refused:
            await office.with_kit("rotate server", kit, since="1h")
        assert refused.value.code is Code.BAD_DATE
        await note_arrivals(office.server.store, office.clock())
        office.clock.advance(60_000)
        await office.with_kit("rotate server", kit, since="30s")
