"""Among the rights that wait is a thief's device, which one grant calls a teacher's (docs/attacks.md)."""

from __future__ import annotations

import re
from random import Random

import pytest

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
from tests.harness.spied_class import own_keys
from tests.harness.territory import new_device

__all__ = ["thieving"]

ROW = "a right that waits is a thief's, and somebody accepts it"


def _of_nothing(_entry: object) -> None:
    """What a right that waits let in, before it was looked at."""


async def _is_held_back(thieving: Thieving) -> tuple[DeviceKeys, str]:
    """His device, which waits as the teacher's since he was cut off; and the id of the grant."""
    ((his, grant),) = await _are_held_back(thieving, 1)
    return his, grant


async def _are_held_back(thieving: Thieving, count: int) -> list[tuple[DeviceKeys, str]]:
    """So many of them, in the order in which they came."""
    server, let_in = thieving.here.office.server, [new_device(Random(seed).randbytes) for seed in range(1, count + 1)]
    await thieving.is_stolen()
    given = next(each.grant for each in server.replica.door.authorities() if each.role is Role.SERVER)
    teacher = bytes.fromhex(thieving.year.person)
    said = [
        compose(
            author=server.keys.signing, space=thieving.here.space, kind=Kind.GRANT, grant=given,
            at=(thieving.clock() << 16) + place, salt=bytes(16),
            payload=Grant(his.signing.public, his.agreement.public, None, Role.TEACHER, teacher, None).encode(),
        )
        for place, his in enumerate(let_in)
    ]  # fmt: skip
    for each in said:
        assert (await server.replica.admit([each], source=b"a PC", now_ms=thieving.clock())).admitted
    await thieving.here.sync(*thieving.devices)
    await thieving.found_out()
    return [(his, each.id.hex()) for his, each in zip(let_in, said, strict=True)]


def _words(his: DeviceKeys) -> str:
    return device_words(own_keys(his))


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
    page = await _page(thieving)
    assert _words(his) in page
    assert f'Mme Petit <span class="under">{thieving.year.person[:8]}' in page


async def _page(thieving: Thieving) -> str:
    office = thieving.here.office
    await add_administrator(office.server, NAME, verifier_of(PASSPHRASE, bytes(16)))
    async with pages_over(office) as (url, _):
        return (await ask(url, "/admin/waiting", Cookie=cookie_of(await sign_in(url)))).body.decode()


def _nobodys(_given: object) -> None:
    """As if a right without words let nobody's own computer in."""


@attack(ROW, off={"sync_server.web.views.own_device": _nobodys})
async def test_the_page_accepts_none_whose_words_it_has_no_room_for(
    thieving: Thieving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_server.handlers.by_kit.held_rights.MAX_WORDS", 1)
    (first, shown), (later, hidden) = await _are_held_back(thieving, 2)
    page = await _page(thieving)
    assert [_words(his) in page for his in (first, later)] == [True, False]
    assert [_button_of(page, grant) for grant in (shown, hidden)] == [True, False]
    assert f"sync-server accept {hidden}" in page


def _button_of(page: str, grant: str) -> bool:
    row = page.split(f'name="id" value="{grant}"')[1].split("</form>", maxsplit=1)[0]
    return 'value="accept"' in row


async def test_who_accepts_many_at_once_is_told_the_words_of_each(thieving: Thieving) -> None:
    waiting = await _are_held_back(thieving, 25)
    await thieving.year.do("accept", named=[grant for _, grant in waiting])
    told = "\n".join(thieving.here.office.said.lines)
    assert all(_words(his) in told for his, _ in waiting)
