"""What an operation does is done before anything is told: whoever cuts the caller's line leaves nobody in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sync_server.handlers.by_kit.territory import kit_in
from sync_server.operations.newcomers import CutOffNewcomers
from tests.attacks.test_after_a_theft import AT_THE_HEADS, two_who_came_in_at_the_heads
from tests.harness.attack import attack
from tests.harness.office_devices import town


class _LineIsCut(Exception):
    """The caller's line fell."""


async def _nobody_yet(*_: object) -> CutOffNewcomers:
    return CutOffNewcomers()


@attack(AT_THE_HEADS, off={"sync_server.operations.lifecycle.cut_off_newcomers": _nobody_yet})
async def test_who_cuts_the_line_of_whoever_has_new_keys_made_leaves_no_thief_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        before, since = await two_who_came_in_at_the_heads(here)
        old = here.office.server.keys.signing.public

        async def cut(_line: str) -> None:
            if here.office.server.keys.signing.public != old:
                raise _LineIsCut

        monkeypatch.setattr(here.office.said, "progress", cut)
        with pytest.raises(_LineIsCut):
            await here.office.with_kit("rotate server", kit_in(tmp_path / "server" / "kit", None), since="12h")
        readable = here.office.server.replica.readable
        assert here.space in await readable(before)
        assert not await readable(since)


async def test_who_teaches_in_a_new_class_is_on_its_list_though_the_line_of_whoever_makes_it_falls_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path) as here:
        office, class_of = here.office, {"school": "0180001D", "year": "2026-2027"}
        petit, roux = [await office.add_person(name, "teacher") for name in ("Mme Petit", "M. Roux")]
        lost = await here.device("teacher", petit)
        await office.do("lost", device=lost.agent.device.hex())  # it stays out, which is told

        async def cut(_line: str) -> None:
            raise _LineIsCut

        with monkeypatch.context() as patch:
            patch.setattr(office.said, "progress", cut)
            with pytest.raises(_LineIsCut):
                await office.do("space add", name="CM2 Z", **class_of, person=[petit, roux])
        (made,) = [row["space"] for row in await office.do("space list") if row["name"] == "CM2 Z"]
        assert {row["name"] for row in await office.do("person list", space=made)} == {"Mme Petit", "M. Roux"}
