"""Who, and which class, is meant by a name: whoever alone ever had it, and of a closed class's the next one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.clock import DAY_MS
from protocol.errors import BadInput, Code
from protocol.model.entry import Kind
from protocol.model.structure import Erasure, Invite
from protocol.replica.at_work.replica import Draft
from protocol.replica.office.mentioned import day_of
from tests.harness.commands import Desk
from tests.harness.kept_town import town_at_work
from tests.harness.year_at_work import Year


@pytest.fixture
async def year(tmp_path: Path) -> AsyncIterator[Year]:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        yield Year(here, *at_work, tmp_path)


async def _invited_to(year: Year, name: str) -> list[str]:
    await year.here.office.invite("machine", name)
    *_, said = await year.here.office.server.store.scan_kinds([Kind.INVITE])
    return [space.hex() for space in Invite.parse(said.payload or b"").spaces]


async def _second(year: Year) -> str:
    made = await year.do("space add", name="CM2 B", school="0180001D", year="none")
    return str(made["space"])


async def test_the_only_class_of_a_name_is_told_and_meant(year: Year) -> None:
    space = year.here.office.space
    assert await _invited_to(year, "cm2 b") == [space]
    assert year.here.office.said.lines[-1] == f"“cm2 b” is CM2 B (0180001D, {space})"


async def test_once_the_kit_has_closed_a_class_its_name_means_the_next_one(year: Year) -> None:
    await year.with_kit("space close", space=year.here.office.space, unheard_too=True)
    following = await _second(year)
    assert await _invited_to(year, "CM2 B") == [following]
    head = Desk((await year.here.head_of_the_school()).agent)
    await head.ask("invite", role="machine", space=["CM2 B"], person=None, uses=1, ttl="24h")
    assert head.told[0] == f"“CM2 B” is CM2 B (0180001D, {following})"


async def test_a_class_that_somebody_else_than_the_kit_has_hidden_is_told_as_hidden(year: Year) -> None:
    hidden, following = year.here.office.space, await _second(year)
    office = year.here.office.server
    await office.say([Draft(office.replica.territory, Kind.ERASE, None, Erasure(bytes.fromhex(hidden)).encode())])
    with pytest.raises(BadInput) as refused:
        await _invited_to(year, "CM2 B")
    for told in (f"CM2 B (0180001D, hidden, {hidden})", f"CM2 B (0180001D, {following})"):
        assert told in refused.value.message


async def test_of_who_was_added_twice_it_is_told_which_id_is_not_listed_any_more(year: Year) -> None:
    first, again = [await year.here.office.add_person("Zoé", "pupil") for _ in range(2)]
    await Desk((await year.here.head_of_the_school()).agent).ask("person merge", person=again, into=first)
    await year.here.sync()
    with pytest.raises(BadInput, match="2 persons here are called “zoe”") as refused:
        await year.do("person rename", person="zoe", name="Zoé B.")
    for told in (f"Zoé (pupil, CM2 B, {first})", f"Zoé (added twice, CM2 B, {again})"):
        assert told in refused.value.message


async def test_of_several_who_ever_had_a_name_it_is_told_what_became_of_them(year: Year) -> None:
    lea, (renamed, retired, erased) = year.pupil, [await year.here.office.add_person("Léa", "pupil") for _ in range(3)]
    await year.do("person rename", person=renamed, name="Zoé")
    await year.here.sync()
    await year.here.work(year.machine, year.item, retired)
    await year.here.sync()
    await year.do("person retire", person=retired)
    await year.do("erase", person=[erased], alone=True)
    with pytest.raises(BadInput, match="4 persons here are called “léa”") as refused:
        await year.do("person rename", person="léa", name="Léa B.")
    for told in (
        f"Léa (pupil, CM2 B, {lea})",
        f"Léa (pupil, now “Zoé”, CM2 B, {renamed})",
        f"Léa (on no list now, CM2 B, {retired})",
        f"Léa (erased, CM2 B, {erased})",
    ):
        assert told in refused.value.message


async def test_where_nobody_ever_had_a_name_nobody_is_named_who_is_hidden(year: Year) -> None:
    await year.do("erase", person=[await year.here.office.add_person("Tom", "pupil")])
    with pytest.raises(BadInput) as refused:
        await year.do("person rename", person="Tim", name="Tim B.")
    assert refused.value.code is Code.UNKNOWN_PERSON
    assert "Léa" in refused.value.message
    assert "Tom" not in refused.value.message


async def test_of_a_pc_that_was_installed_anew_it_is_told_which_id_was_seen_last(year: Year) -> None:
    office, old = year.here.office, year.machine.agent.device.hex()
    name = next(row["name"] for row in await office.do("devices") if row["device"] == old)
    seen = day_of(office.clock())
    office.clock.advance(20 * DAY_MS)
    again = await office.enrol(await office.invite("machine"), name=name)
    await again.sync()
    with pytest.raises(BadInput, match=f"2 devices here are called “{name}”") as refused:
        await office.do("revoke", device=name)
    for device, day in ((old, seen), (again.id, day_of(office.clock()))):
        assert re.search(rf"machine, [a-z-]+, last seen {day}, {device}", refused.value.message)
    await office.do("revoke", device=old)
    assert {row["state"] for row in await office.do("devices") if row["device"] == old} == {"retired"}
