"""A server in wrong hands shows the id of another class, or pupil, than the kit is to have forgotten.

docs/attacks.md, docs/adr/0325.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code, PeerFault
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, SpaceRecord
from protocol.replica.at_work.replica import Draft
from sync_server.handlers.by_kit.territory import kit_in
from sync_server.kit.away import RootAway
from sync_server.kit.shown import Shown
from tests.attacks.test_the_kit_on_a_hostile_server import Thief
from tests.harness.attack import attack
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import refusal

ROW = "a page shows the id of another than the kit is to have forgotten"


async def school_class(here: Town, name: str, school: str, year: str | None) -> str:
    return str((await here.office.do("space add", name=name, school=school, year=year))["space"])


async def closing(here: Town, kit: Any, typed: str, named: str | None) -> None:
    """What `space close` signs on a server whose program says that this is the class that is meant."""
    thief = Thief(here, kit, "space close", space=typed, named=named)
    space = bytes.fromhex(typed)
    above = here.office.server.replica.door.parent(space)
    assert above is not None
    await thief.has_signed_of_a_header(Draft(above, Kind.ERASE, None, Erasure(space).encode()))


def _whoever(_shown: Shown, _named: object) -> bool:
    return True


@attack(ROW, off={"sync_server.kit.shown.Shown.is_meant": _whoever})
async def test_the_class_that_the_kit_closes_has_the_name_the_year_and_the_school_that_were_typed(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        last = await school_class(here, "CM2 A", "0180001D", "2025-2026")
        for other in (
            await school_class(here, "CM2 A", "0180001D", "2026-2027"),
            await school_class(here, "CM2 A", "0180002A", "2025-2026"),
            await school_class(here, "CM2 C", "0180001D", "2025-2026"),
            here.office.space,
        ):
            await here.office.do("space rename", space=other, name="CM2 A")  # as whoever has the server does it
            with pytest.raises(BadInput, match="nothing has been closed yet"):
                await closing(here, kit, other, "CM2 A, 2025-2026, 0180001D")
        await closing(here, kit, last, "cm2 a 2025-2026 0180001d")


@attack(ROW, off={"sync_server.kit.shown.Shown.is_meant": _whoever})
async def test_who_does_not_say_which_class_it_is_is_told_by_what_was_signed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        space = await school_class(here, "CM2 A", "0180001D", "2026-2027")
        await here.office.do("space rename", space=space, name="CM2 B")
        with pytest.raises(BadInput) as asked:
            await closing(here, kit, space, None)
        assert asked.value.code is Code.NOT_YET
        for part in ("“CM2 A”", "2026-2027", "0180001D", "--named “CM2 A, 2026-2027, 0180001D”"):
            assert part in asked.value.message
        assert "CM2 B" not in asked.value.message


async def _with_another_class(away: RootAway, _names: object) -> list[Entry]:
    """What a thief's program shows for a class: an entry of his own, in the name that was typed, and its school."""
    server = away._server
    spaces = await server.store.scan_kinds([Kind.SPACE])
    school = next(one for one in spaces if SpaceRecord.parse(one.payload or b"").uai is not None)
    forged = compose(
        author=server.keys.signing,
        space=server.replica.door.spaces()[-1],
        kind=Kind.SPACE,
        grant=server.grant,
        at=1,
        payload=SpaceRecord("CM2 A", year="2025-2026").encode(),
        salt=os.urandom(16),
    )
    return [forged, school]


async def test_nobody_shows_another_class_for_the_one_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        monkeypatch.setattr("sync_server.kit.away.RootAway.called", _with_another_class)
        with pytest.raises(PeerFault, match="does not show that class"):
            await closing(here, kit, here.office.space, "CM2 A, 2025-2026, 0180001D")


@attack(ROW, off={"sync_server.kit.forgetting.Closing.check": lambda *_: None})
async def test_a_class_is_closed_in_its_school_alone(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        params = {"space": here.office.space}
        thief = Thief(here, kit, "space close", **params, **await here.office.named_for("space close", params))
        wish = Draft(here.office.server.replica.territory, Kind.ERASE, None, Erasure(here.space).encode())
        with pytest.raises(PeerFault, match="does not need"):
            await thief.has_signed_of_a_header(wish)


async def forgetting(here: Town, kit: Any, person: str, **params: Any) -> None:
    thief = Thief(here, kit, "erase", person=[person], **params)
    territory = here.office.server.replica.territory
    wish = Draft(territory, Kind.ERASE, None, Erasure(bytes.fromhex(person)).encode())
    await thief.has_signed_of_a_header(wish)


@attack(ROW, off={"sync_server.kit.shown.Shown.is_meant": _whoever})
async def test_whom_the_kit_forgets_is_called_as_it_was_typed_by_what_somebody_signed(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        lea, tom = [await here.office.add_person(name, "pupil") for name in ("Léa", "Tom")]
        with pytest.raises(BadInput, match="nobody has been forgotten yet") as asked:
            await forgetting(here, kit, tom, named=["Léa"])
        assert f"{tom} is “Tom”" in asked.value.message
        assert here.office.server.keys.signing.public.hex() in asked.value.message, "whose word that is"
        await forgetting(here, kit, lea, named=["lea"])


async def test_of_several_each_is_named(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        people = {name: await here.office.add_person(name, "pupil") for name in ("Léa", "Tom", "Ana")}
        persons = list(people.values())
        with pytest.raises(BadInput) as asked:
            await here.office.with_kit("erase", kit, person=persons, named=["Léa"])
        assert people["Léa"] not in asked.value.message
        assert all(f"{people[name]} is “{name}”" in asked.value.message for name in ("Tom", "Ana"))
        assert await here.office.with_kit("erase", kit, person=persons, named=["Léa", "Tom", "Ana"]) == {}


@attack(ROW, off={"sync_server.kit.forgetting.Erasing._check_named": lambda *_: None})
async def test_who_is_shown_without_a_name_is_asked_about(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        kit = kit_in(tmp_path / "server" / "kit", None)
        somebody = os.urandom(16).hex()
        assert await refusal(forgetting(here, kit, somebody, named=["Léa"])) is Code.NOT_YET
        await forgetting(here, kit, somebody, nameless_too=True)
