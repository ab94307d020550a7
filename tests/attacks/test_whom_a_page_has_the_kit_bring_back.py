"""A server in wrong hands shows the id of another than the kit is to bring back, or to open the work of.

docs/attacks.md, docs/adr/0342.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import Entry, Kind
from protocol.model.structure import Erasure, PersonRecord, Ruling
from protocol.replica.at_work.replica import Draft
from protocol.replica.console.operation import Params
from protocol.replica.office.as_root import write_as_root
from protocol.replica.upkeep.eraser import Eraser
from protocol.roles import PersonRole
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.keeping.kit_file import KitInFile
from sync_server.kit.away import KitAway
from sync_server.kit.dated import days_of
from sync_server.kit.desk import KitDesk
from sync_server.kit.errands import errand_of
from sync_server.kit.shown import Shown
from tests.attacks.test_the_kit_on_a_hostile_server import Thief, handed_in
from tests.harness.attack import attack
from tests.harness.classroom import Device
from tests.harness.commands import Received
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import refusal

ROW = "a page shows the id of another than the kit is to bring back, or to open the work of"


def _not_named(*_: object) -> str:
    """What the command asked for while it told no name and no date."""
    return ""


def _whoever(_shown: Shown, _named: object) -> bool:
    return True


@dataclass
class Forgotten:
    """Léa was forgotten, by the kit's word or the server's, and destroyed everywhere; Tom by mistake, yesterday."""

    here: Town
    devices: tuple[Device, Device]
    kit: Path
    lea: str
    tom: str
    work: bytes
    old_copy: list[Entry]

    @property
    def replicas(self) -> list[Any]:
        return [self.here.office.server.replica, *(device.agent.replica for device in self.devices)]

    async def yesterday(self) -> str:
        """The day on which Tom was, as whoever knows of that types it."""
        said = await self.here.office.server.store.scan_kinds([Kind.ERASE])
        (toms,) = [each for each in said if Erasure.parse(each.payload or b"").covers.hex() == self.tom]
        return days_of(toms)[0].isoformat()

    async def a_page_calls_lea_tom(self) -> str:
        """The thief signs with the server's key that she is called so."""
        server = self.here.office.server
        record = PersonRecord("Tom", PersonRole.PUPIL).encode()
        await server.write([Draft(self.here.space, Kind.PERSON, server.grant, record, subject=bytes.fromhex(self.lea))])
        return self.lea

    async def are_back(self) -> list[bool]:
        """Whether they are, at each, once the thief has brought what there was before."""
        await self.replicas[0].admit(
            self.old_copy, source=b"a thief's PC", now_ms=self.here.office.clock(), bounded=False
        )
        for _ in range(3):
            await self.here.sync()
        views = [await replica.view(self.here.space) for replica in self.replicas]
        return [
            bytes.fromhex(self.lea) in view.roster.persons or self.work in view.coursework.hand_ins for view in views
        ]


@asynccontextmanager
async def forgotten(folder: Path, *, by_kit: bool = True) -> AsyncIterator[Forgotten]:
    async with town(folder) as here:
        laptop, machine, _, lea, item = await here.class_at_work()
        tom = await here.office.add_person("Tom", "pupil")
        work = await here.work(machine, item, lea)
        for _ in range(2):
            await here.sync()
        server, clock, kit = here.office.server, here.office.clock, folder / "server" / "kit"
        old = [each.entry for space in server.replica.door.spaces() for each in await server.store.scan(space)]
        if by_kit:
            await here.office.with_kit_in("erase", kit, person=[lea])
        else:
            await here.office.do("erase", person=[lea])
        await here.sync()
        at = [
            (server.replica, server.holdings),
            *((one.agent.replica, one.agent.holdings) for one in (laptop, machine)),
        ]
        for _ in range(3):
            for replica, holdings in at:
                await Eraser(replica, holdings).sweep(clock())
            clock.advance(8 * DAY_MS)
        clock.advance(60 * DAY_MS)
        await here.office.with_kit_in("erase", kit, person=[tom])
        clock.advance(DAY_MS)
        yield Forgotten(here, (laptop, machine), kit, lea, tom, work, old)


@pytest.mark.parametrize("by_kit", [True, False])
@attack(ROW, off={"sync_server.kit.taking_back.TakingBack._check_named": _not_named})
async def test_whom_a_page_calls_by_the_name_that_was_typed_stays_forgotten_on_every_machine(
    tmp_path: Path, by_kit: bool
) -> None:
    async with forgotten(tmp_path, by_kit=by_kit) as scene:
        covers, yesterday = await scene.a_page_calls_lea_tom(), await scene.yesterday()
        typed = {"covers": covers, "named": "Tom", "dated": [yesterday], "counting_too": True, "destroyed_too": True}
        with pytest.raises(BadInput, match="nothing has been taken back yet") as asked:
            await scene.here.office.with_kit_in("unerase", scene.kit, **typed)
        assert ("forgotten by the kit, dated" in asked.value.message) == by_kit
        assert not any(await scene.are_back())


async def test_who_was_forgotten_by_mistake_is_shown_again_by_name_and_day(tmp_path: Path) -> None:
    async with forgotten(tmp_path) as scene:
        yesterday, do = await scene.yesterday(), scene.here.office.with_kit_in
        for typed, lacks in (
            ({"named": "Tom", "dated": []}, "the day of each erasure with --dated"),
            ({"named": None, "dated": [yesterday]}, "a name with --named"),
            ({"named": "Léa", "dated": [yesterday]}, "a name with --named"),
        ):
            with pytest.raises(BadInput, match=lacks) as asked:
                await do("unerase", scene.kit, covers=scene.tom, counting_too=True, **typed)
            assert asked.value.code is Code.NOT_YET
            assert f"{scene.tom} is “Tom”" in asked.value.message
        await do("unerase", scene.kit, covers=scene.tom, counting_too=True, named="tom", dated=[yesterday])
        roster = (await scene.here.office.server.replica.view(scene.here.space)).roster
        assert bytes.fromhex(scene.tom) in roster.persons
        assert bytes.fromhex(scene.lea) not in roster.persons


@attack(ROW, off={"sync_server.kit.taking_back.TakingBack._about": lambda *_: []})
async def test_what_the_kit_remembers_that_it_ordered_is_taken_back_by_its_day_alone_though_nothing_shows_it(
    tmp_path: Path,
) -> None:
    async with forgotten(tmp_path) as scene:
        covers, yesterday = bytes.fromhex(scene.lea), await scene.yesterday()
        server, found = scene.here.office.server, KitInFile.read(scene.kit, None)
        typed: Params = {"covers": scene.lea, "dated": [yesterday], "counting_too": True, "unseen_too": True}
        desk = KitDesk(
            errand_of("unerase", found.kit, typed, None, os.urandom, found.said),
            scene.here.office.said,
            scene.here.office.clock,
        )
        away = KitAway(server, desk.keys, desk, desk)
        with pytest.MonkeyPatch.context() as program:
            program.setattr("sync_server.kit.away.RootAway._turns_of", _shows_nothing)
            with pytest.raises(BadInput, match="forgotten by the kit, dated"):
                await write_as_root(
                    server, away, [Draft(server.replica.territory, Kind.RULING, None, Ruling((), (), covers).encode())]
                )


async def _shows_nothing(*_: object) -> list[Entry]:
    return []


@attack(ROW, off={"sync_server.kit.taking_back.signature_holds": lambda _: True})
async def test_no_order_is_told_as_the_kits_that_the_kit_has_not_signed(tmp_path: Path) -> None:
    async with forgotten(tmp_path) as scene:
        server, kit = scene.here.office.server, kit_in(scene.kit, None)
        said = await server.store.scan_kinds([Kind.ERASE])
        forged = [replace(each, signature=bytes(64)) for each in said]

        async def shows_forged(*_: object) -> list[Entry]:
            return forged

        typed = {"covers": scene.lea, "unseen_too": True, "dated": []}
        with pytest.MonkeyPatch.context() as program:
            program.setattr("sync_server.kit.away.RootAway._turns_of", shows_forged)
            wish = Draft(server.replica.territory, Kind.RULING, None, Ruling((), (), bytes.fromhex(scene.lea)).encode())
            told = await _told(Thief(scene.here, kit, "unerase", **typed).has_signed_of_a_header(wish))
        assert "forgotten by the kit" not in told
        assert "does not need" in told


async def _told(asked: Any) -> str:
    with pytest.raises((BadInput, PeerFault)) as refused:
        await asked
    return refused.value.message


async def _closed(here: Town, kit: Path, name: str, year: str) -> str:
    space = str((await here.office.do("space add", name=name, school="0180001D", year=year))["space"])
    await here.office.with_kit_in("space close", kit, space=space)
    return space


@attack(ROW, off={"sync_server.kit.shown.Shown.is_meant": _whoever})
async def test_the_class_that_the_kit_brings_back_has_the_name_the_year_and_the_school_that_were_typed(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        kit = tmp_path / "server" / "kit"
        last, this = [await _closed(here, kit, "CM2 A", year) for year in ("2024-2025", "2025-2026")]
        with pytest.raises(BadInput) as asked:
            await here.office.with_kit_in(
                "unerase", kit, covers=last, named="CM2 A, 2025-2026, 0180001D", dated=[], counting_too=True
            )
        assert "--named “CM2 A, 2024-2025, 0180001D”" in asked.value.message
        await here.office.with_kit_in(
            "unerase", kit, covers=this, named="cm2 a 2025-2026 0180001d", dated=[], counting_too=True
        )


async def test_a_class_that_the_kit_closed_is_not_brought_back_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        kit = tmp_path / "server" / "kit"
        space = await _closed(here, kit, "CM2 A", "2025-2026")
        typed = await here.office.named_for("unerase", {"covers": space})
        monkeypatch.setattr("sync_server.kit.away.RootAway.called", _shows_nothing)
        for named in (typed["named"], None):
            with pytest.raises(PeerFault, match="does not show that class"):
                await here.office.with_kit_in(
                    "unerase", kit, covers=space, **{**typed, "named": named}, counting_too=True
                )


async def test_many_erasures_of_one_name_go_by_the_first_day_and_the_last(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit, server = tmp_path / "server" / "kit", here.office.server
        lea = await here.office.add_person("Léa", "pupil")
        for _ in range(12):  # as whoever has the server's key says it
            here.office.clock.advance(DAY_MS)
            wish = Draft(server.replica.territory, Kind.ERASE, server.grant, Erasure(bytes.fromhex(lea)).encode())
            await server.write([wish])
        said = await server.store.scan_kinds([Kind.ERASE])
        first, *_, last = sorted(days_of(each)[0] for each in said)
        typed: dict[str, Any] = {"covers": lea, "named": "Léa", "counting_too": True}
        with pytest.raises(BadInput, match=f"and by 2 more, dated .*{last}"):
            await here.office.with_kit_in("unerase", kit, **typed, dated=[f"{first}..{first}"])
        done = await here.office.with_kit_in("unerase", kit, **typed, dated=[f"{first}..{last}"])
        assert done["taken_back"] == len(said)


async def _keys(thief: Thief, shown: Iterable[str], work: Any) -> bytes | None:
    for person in shown:
        await thief.kit.shows(bytes.fromhex(person))
    return await thief.kit.content_key(work)


@attack(ROW, off={"sync_server.kit.shown.Shown.is_meant": _whoever})
async def test_no_work_is_opened_of_whom_somebody_has_signed_another_name(tmp_path: Path) -> None:
    await _opens_nothing(tmp_path, shown=True)


@attack(ROW, off={"sync_server.kit.errands.Exporting._check_named": _not_named})
async def test_nor_of_whom_nothing_is_shown(tmp_path: Path) -> None:
    await _opens_nothing(tmp_path, shown=False)


async def _opens_nothing(folder: Path, *, shown: bool) -> None:
    async with town(folder) as here:
        *_, work = await handed_in(here)
        found = (await here.office.server.replica.view(here.space)).coursework.hand_ins[work]
        kit, lea = kit_in(folder / "server" / "kit", None), found.person.hex()
        thief = Thief(here, kit, "export-person", person=lea, named="Tom")
        assert await refusal(_keys(thief, [lea] * shown, found)) is Code.NOT_YET
        assert await _keys(Thief(here, kit, "export-person", person=lea, named="lea"), [lea], found)
        assert await _keys(Thief(here, kit, "export-person", person=lea, nameless_too=True), [], found)


async def test_whose_work_the_kit_opens_is_told_with_whose_word_that_is(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        *_, work = await handed_in(here)
        office, out = here.office, Received()
        lea = (await office.server.replica.view(here.space)).coursework.hand_ins[work].person.hex()
        for also in ({}, {"named": "Léa"}):
            typed = {"person": lea, **also}
            kit = kit_in(tmp_path / "server" / "kit", None)
            desk = KitDesk(errand_of("export-person", kit, typed, None, os.urandom), out, office.clock)
            made = office.table["export-person"]({**typed, "kit": desk.keys}, desk, desk)
            if not also:
                assert await refusal(made) is Code.NOT_YET
                assert not out.files
        await made
        by = office.server.keys.signing.public.hex()
        assert any("the kit opens" in line and "“Léa”" in line and by in line for line in out.lines)
        assert any(path.endswith("reponse.odt") for path in out.files)
