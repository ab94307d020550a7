"""Among the rights that wait is a thief's device, which one grant calls a teacher's (docs/threat-model.md)."""

from __future__ import annotations

import re
from random import Random

from protocol.identity import DeviceKeys
from protocol.model.entry import Kind, compose
from protocol.model.structure import Grant
from protocol.rights.vouching import device_words
from protocol.roles import Role
from sync_server.handlers.accounts.administrators import add_administrator, verifier_of
from tests.attacks.test_decoys_among_erasures import Thieving, thieving
from tests.harness.administration import NAME, ask, cookie_of, sign_in
from tests.harness.attack import attack
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.territory import new_device

__all__ = ["thieving"]

ROW = "a right that waits is a thief's, and somebody accepts it"


def _of_nothing(_entry: object) -> None:
    """What a right that waits let in, before it was looked at."""


async def _is_held_back(thieving: Thieving) -> tuple[DeviceKeys, str]:
    """His device, which waits as the teacher's since he was cut off; and the id of the grant."""
    server, his = thieving.here.office.server, new_device(Random(1).randbytes)
    await thieving.is_stolen()
    given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
    teacher = bytes.fromhex(thieving.year.person)
    said = compose(
        author=server.keys.signing, space=thieving.here.space, kind=Kind.GRANT, grant=given,
        at=thieving.clock() << 16, salt=bytes(16),
        payload=Grant(his.signing.public, his.agreement.public, None, Role.TEACHER, teacher, None).encode(),
    )  # fmt: skip
    assert (await server.replica.admit([said], source=b"a PC", now_ms=thieving.clock())).admitted
    await thieving.here.sync(*thieving.devices)
    await thieving.found_out()
    return his, said.id.hex()


def _words(his: DeviceKeys) -> str:
    return device_words((his.signing.public, his.agreement.public))


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.lets_in": _of_nothing})
async def test_as_whose_a_right_that_waits_lets_in_is_said_and_by_which_six_words(thieving: Thieving) -> None:
    his, grant = await _is_held_back(thieving)
    (row,) = (row for row in await thieving.year.do("waiting") if row["id"] == grant)
    assert (row["person"], row["name"], row["words"]) == (thieving.year.person, "Mme Petit", _words(his))


@attack(ROW, off={"sync_server.handlers.by_kit.held_rights.lets_in": _of_nothing})
async def test_who_accepts_it_is_told_whose_screen_has_to_show_these_words(thieving: Thieving) -> None:
    his, grant = await _is_held_back(thieving)
    await thieving.year.do("accept", named=[grant])
    told = "\n".join(thieving.here.office.said.lines)
    assert re.search(
        f"{his.signing.public.hex()} is let in: .*“{_words(his)}”.* a teacher, of “Mme Petit”.*{thieving.year.person}"
        f".*, in {thieving.here.space.hex()}",
        told,
    )


@attack(ROW, off={"sync_server.handlers.by_kit.waiting.lets_in": _of_nothing})
async def test_the_page_shows_both_beside_the_button_that_accepts(thieving: Thieving) -> None:
    his, _ = await _is_held_back(thieving)
    office = thieving.here.office
    await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(office) as (url, _):
        page = (await ask(url, "/admin/waiting", Cookie=cookie_of(await sign_in(url)))).body.decode()
    assert _words(his) in page
    assert f'Mme Petit <span class="under">{thieving.year.person[:8]}' in page
