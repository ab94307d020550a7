"""A former name is destroyed with its id, and comes from nowhere again: as docs/operate.md says (docs/adr/0430)."""

from __future__ import annotations

from pathlib import Path

from protocol.clock import DAY_MS
from protocol.limits import ERASURE_DELAY_MS
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.office_devices import Town, town

FORMER, NOW = "Zéphyrine", "Zéphyr"


def places_of(name: str, folder: Path) -> set[str]:
    """The folders, the server's and machines', in which a name stands in any file."""
    sought = name.encode()
    files = (path for path in folder.rglob("*") if path.is_file() and sought in path.read_bytes())
    return {path.relative_to(folder).parts[0] for path in files}


async def agree(here: Town) -> None:
    for _ in range(2):
        await here.sync()


async def pass_a_week_and_a_day(here: Town) -> None:
    for _ in range(ERASURE_DELAY_MS // DAY_MS + 2):
        await here.days_pass(1)
        await here.office.server.pace.look()


async def test_a_former_name_is_gone_once_its_id_is_erased_and_the_person_added_anew(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        office, kit = here.office, kit_in(tmp_path / "server" / "kit", None)
        person = await office.add_person(FORMER, "pupil")
        await here.class_in_step()
        await office.do("person rename", person=person, name=NOW)
        await agree(here)
        everywhere = places_of(FORMER, tmp_path)
        assert everywhere == {"server", "device-1", "device-2"}, "renamed alone it stays"
        await office.with_kit("erase", kit, person=[person])
        anew = await office.add_person(NOW, "pupil")
        await agree(here)
        await pass_a_week_and_a_day(here)
        assert places_of(FORMER, tmp_path) == set()
        listed = await office.do("person list", space=office.space)
        assert [row["person"] for row in listed if row["name"] == NOW] == [anew]
        newcomer = await here.device("machine")
        await newcomer.session.sync()
        assert places_of(FORMER, tmp_path) == set()
        assert places_of(NOW, tmp_path) > everywhere
