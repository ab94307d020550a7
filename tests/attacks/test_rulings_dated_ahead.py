"""Whoever has the server's key for an hour dates a ruling on the last day that there is (docs/adr/0275)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from protocol.clock import MAX_AT
from protocol.errors import Refused
from protocol.model.entry import Entry, Kind, compose
from protocol.model.structure import Erasure, Revocation, Ruling
from protocol.model.work import EMPTY_PAYLOAD
from protocol.replica.at_work.replica import Draft
from sync_server.handlers.by_kit.territory import kit_in, new_kit
from tests.harness.attack import attack
from tests.harness.office_devices import Town, town
from tests.harness.server_in_process import Sayings, another_root, rotate_root

ROW = "a ruling is dated ahead"


def _by_their_dates(known: dict[bytes, Entry], said_at: object = None) -> dict[bytes, int]:
    del said_at
    return {name: entry.header.at for name, entry in known.items()}


async def _ruled_ahead(here: Town, ruling: Ruling) -> None:
    """What a thief says with the server's key."""
    server = here.office.server
    said = compose(
        author=server.keys.signing,
        space=here.space,
        kind=Kind.RULING,
        grant=server.grant,
        at=MAX_AT,
        payload=ruling.encode(),
        salt=os.urandom(16),
    )
    admission = await server.replica.admit([said], source=b"a stick", now_ms=here.office.clock())
    assert admission.admitted


async def _forgotten_by_a_thief(here: Town) -> bytes:
    server = here.office.server
    pupil = bytes.fromhex(await here.office.add_person("Léa", "pupil"))
    (erasure,) = await server.write([Draft(here.space, Kind.ERASE, server.grant, Erasure(pupil).encode())])
    await _ruled_ahead(here, Ruling((erasure.id,), ()))
    here.office.clock.advance(60_000)
    return pupil


async def _is_listed(here: Town, pupil: bytes) -> bool:
    return pupil in (await here.office.server.replica.view(here.space)).roster.persons


async def test_whom_the_kit_shows_again_is_shown_whatever_date_a_thief_gave_his_word(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pupil = await _forgotten_by_a_thief(here)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("unerase", kit, covers=pupil.hex(), counting_too=True)
        assert await _is_listed(here, pupil)


async def test_whom_the_server_shows_again_is_shown_whatever_date_a_thief_gave_his_word(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pupil = await _forgotten_by_a_thief(here)
        await here.office.do("unerase", covers=pupil.hex())
        assert await _is_listed(here, pupil)


@attack(ROW, off={"protocol.rights.erasures.moments": _by_their_dates})
async def test_what_a_thief_refused_ahead_counts_once_the_server_accepts_it(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        server = here.office.server
        teacher = await here.device("teacher", await here.office.add_person("Mme Petit", "teacher"))
        right = await teacher.agent.right(here.space, Kind.WITHDRAW)
        (said,) = await teacher.agent.write(
            Draft(here.space, Kind.WITHDRAW, right.grant, EMPTY_PAYLOAD, target=bytes(32))
        )
        await here.sync(teacher)
        cut = Revocation(teacher.agent.device, ()).encode()
        await server.write([Draft(here.space, Kind.REVOKE, server.grant, cut)])
        await _ruled_ahead(here, Ruling((), (said.id,)))
        with contextlib.suppress(Refused):  # "the kit's word stands above the server's", where a thief's does
            await here.office.do("accept", named=[said.id.hex()])
        assert said.id not in (await server.replica.view(here.space)).roster.held_back


async def test_whom_the_kit_has_shown_again_is_shown_after_another_root_took_over_whatever_the_thief_had_ruled(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as here:
        pupil = await _forgotten_by_a_thief(here)
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.with_kit("unerase", kit, covers=pupil.hex(), counting_too=True)
        await another_root(here.office.server, kit, Sayings())
        assert await _is_listed(here, pupil)


async def test_a_new_root_that_hides_nobody_has_nothing_to_rule_anew(tmp_path: Path) -> None:
    async with town(tmp_path) as here:
        pupil = await here.office.add_person("Léa", "pupil")
        kit = kit_in(tmp_path / "server" / "kit", None)
        await here.office.do("erase", person=[pupil])
        await here.office.with_kit("unerase", kit, covers=pupil, counting_too=True)
        said = Sayings()
        await rotate_root(here.office.server, kit, new_kit("Cher", os.urandom), said=said)
        assert await _is_listed(here, bytes.fromhex(pupil))
        assert not any("unerase" in line for line in said.lines)
