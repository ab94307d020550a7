"""An account counts under the server's key under which it was made: what whoever runs the server is told, and does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.errors import BadInput, Code
from protocol.trust.kit import Kit
from sync_server.handlers.accounts.administrators import ACCOUNT_MARKS, Administrator, verifier_of
from sync_server.handlers.by_kit.territory import kit_in
from tests.harness.administration import NAME, cookie_of, sign_in, with_account
from tests.harness.fleet import PASSPHRASE, pages_over
from tests.harness.server_in_process import Office, another_root, office

ANOTHER = "une phrase toute neuve"


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path / "server") as opened:
        yield opened


def _kit(made: Office) -> Kit:
    return kit_in(made.server.folder / "kit", None)


async def _rotated(made: Office) -> list[str]:
    """What `rotate server` tells of accounts."""
    made.said.lines.clear()
    await made.with_kit("rotate server", _kit(made))
    return [line for line in made.said.lines if "signs in no more" in line]


async def test_new_keys_name_the_accounts_that_end_and_each_is_made_again_under_its_name(made: Office) -> None:
    await with_account(made)
    await made.do("administrator second-factor", name=NAME)
    (told,) = await _rotated(made)
    assert NAME in told
    assert "nothing here compares them" in told
    async with pages_over(made) as (url, _):
        assert (await sign_in(url)).status != 303
        await made.do("administrator add", name=NAME, verifier=verifier_of(ANOTHER, bytes(16)))
        assert (await sign_in(url)).status == 403, "the passphrase of before is none"
        assert cookie_of(await sign_in(url, passphrase=ANOTHER)), "no second factor of before is asked for"


async def test_a_list_shows_who_can_sign_in_and_says_who_cannot_any_more(made: Office) -> None:
    await with_account(made)
    await _rotated(made)
    made.said.lines.clear()
    assert await made.do("administrator list") == []
    assert NAME in made.said.lines[0], "also where the command that told it first was cut short"
    with pytest.raises(BadInput) as caught:
        await made.do("administrator second-factor", name=NAME)
    assert caught.value.code is Code.UNKNOWN_PERSON
    await made.do("administrator remove", name=NAME)
    assert not await _rotated(made), "what was removed is told no more"


async def test_an_account_that_is_made_again_counts_until_there_are_new_keys_again(made: Office) -> None:
    await with_account(made)
    await _rotated(made)
    await with_account(made)
    (row,) = await made.do("administrator list")
    assert row["administrator"] == NAME
    assert await _rotated(made)
    assert await made.do("administrator list") == []


async def test_another_root_for_the_same_server_ends_no_account(made: Office) -> None:
    await with_account(made)
    async with pages_over(made) as (url, _):
        await another_root(made.server, _kit(made))
        assert (await sign_in(url)).status == 303


async def test_an_account_of_an_earlier_version_signs_in_as_long_as_the_server_has_its_first_keys(made: Office) -> None:
    before = Administrator(NAME, verifier_of(PASSPHRASE, bytes(16)), made.clock())
    await made.server.store.set_marks({f"{ACCOUNT_MARKS}{NAME.casefold()}": before.encode()})
    async with pages_over(made) as (url, _):
        assert (await sign_in(url)).status == 303
        await _rotated(made)
        assert (await sign_in(url)).status != 303
