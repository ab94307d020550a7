"""`erasures` says whose word each is, for whoever decides whether it is to be taken back (docs/attacks.md)."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from protocol.clock import at_from
from protocol.identity import SigningKey
from protocol.model.entry import Kind, compose
from protocol.model.structure import Erasure
from protocol.replica.office.known_here import KnownHere
from protocol.rights.door import Authority
from protocol.roles import Role
from tests.harness.attack import attack
from tests.harness.copied_keys import brought, granted, said_by_copy
from tests.harness.kept_town import town_at_work
from tests.harness.office_devices import Town
from tests.harness.territory import new_device

HEAD = "Mme Durand"


async def _whoever(_: KnownHere, _right: Authority) -> bool:
    return True


async def _a_head(here: Town) -> str:
    listed = await here.office.do("person add", name=HEAD, role="teacher", space=[here.school.hex(), here.office.space])
    return str(listed["person"])


async def _who_is_said_to_erase(here: Town, pupil: str, author: SigningKey, grant: bytes) -> str:
    """Somebody brings an erasure that was said so; what `erasures` says of whose word it is."""
    payload, at = Erasure(bytes.fromhex(pupil)).encode(), at_from(here.office.clock())
    said = compose(
        author=author, space=here.school, kind=Kind.ERASE, grant=grant, at=at, payload=payload, salt=os.urandom(16)
    )
    await brought(here, said)
    (row,) = await here.office.do("erasures")
    return str(row["who"])


@attack("a stolen server wipes schools", off={"sync_server.handlers.record.erasures.KnownHere.knows": _whoever})
async def test_no_device_that_a_copied_key_calls_the_heads_erases_in_her_name(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        head, spy = await _a_head(here), new_device(Random(5).randbytes)
        grant = said_by_copy(here, Kind.GRANT, granted(spy, Role.HEAD, head), here.school)
        await brought(here, grant)
        who = await _who_is_said_to_erase(here, at_work.pupil, spy.signing, grant.id)
        assert who == f"the device {spy.signing.public.hex()}"


async def test_what_she_erases_on_a_computer_that_came_in_by_a_code_is_said_in_it(tmp_path: Path) -> None:
    async with town_at_work(tmp_path, kept_for=__name__) as (here, at_work):
        hers = (await here.device("head", await _a_head(here), here.school.hex())).agent
        (right,) = here.office.server.replica.door.authorities_of(hers.device)
        assert HEAD in await _who_is_said_to_erase(here, at_work.pupil, hers.keys.signing, right.grant)
