"""A copy of the server's database, without the keys beside it, makes no second factor (docs/attacks.md)."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from protocol.replica.at_work.replica import Entropy
from protocol.replica.storage.sqlite import SqliteStore
from sync_server.handlers.accounts.second_factor import (
    Made,
    SecondFactor,
    code_at,
    second_factor,
    set_second_factor,
    use_second_factor,
)
from sync_server.opened.app import Server, opened
from sync_server.opened.data_folder import KEYS_FOLDER
from sync_server.opened.keys import ServerKeys
from sync_server.opened.sealed_marks import SECOND_FACTOR_MARKS
from tests.harness.administration import NAME, with_account
from tests.harness.attack import attack
from tests.harness.server_in_process import office
from tests.harness.territory import SimClock

ROW = "a copy of the server's database, without its keys"
MARK = SECOND_FACTOR_MARKS + NAME.casefold()


def _bare(_keys: ServerKeys, _mark: str, plain: bytes, _entropy: Entropy) -> bytes:
    """As it was."""
    return plain


async def _as_it_was_left(_store: SqliteStore, _keys: ServerKeys, _entropy: Entropy) -> None:
    """As if it stayed so."""


def secret_of(made: Made) -> bytes:
    """What the application was shown."""
    key = parse_qs(urlsplit(made.uri).query)["secret"][0]
    return base64.b32decode(key)


def copied(folder: Path) -> bytes:
    """All that lies in a server's folder, but for its keys."""
    files = (each for each in folder.rglob("*") if each.is_file() and KEYS_FOLDER not in each.parts)
    return b"".join(each.read_bytes() for each in files)


async def opens_at(server: Server, secret: bytes) -> bool:
    """Whether a code of this secret opens now."""
    return await use_second_factor(server, NAME, code_at(secret, server.now_ms() // 30_000))


@attack(ROW, off={"sync_server.handlers.accounts.second_factor.sealed": _bare})
async def test_a_copy_of_the_database_makes_no_code(tmp_path: Path) -> None:
    async with office(tmp_path) as made:
        await with_account(made)
        secret = secret_of(await set_second_factor(made.server, NAME))
        assert await opens_at(made.server, secret), "what a code has opened is kept as well"
        factor = await second_factor(made.server, NAME)
        assert factor is not None
        assert not [each for each in (secret, *factor.recovery) if each in copied(tmp_path)]


@attack(ROW, off={"sync_server.opened.app.seal_bare": _as_it_was_left})
async def test_what_an_earlier_version_left_in_the_database_is_in_no_copy_of_later(tmp_path: Path) -> None:
    clock = SimClock()
    async with office(tmp_path, clock) as made:
        await with_account(made)
        secret = os.urandom(20)
        await made.server.store.set_marks({MARK: SecondFactor(secret, 0, ()).encode()})
    assert secret in copied(tmp_path), "as it was"
    async with opened(tmp_path, now_ms=clock, entropy=os.urandom) as server:
        assert secret not in copied(tmp_path)
        assert await opens_at(server, secret), "and it goes on opening"


@attack(ROW, off={"sync_server.opened.sealed_marks._cipher": lambda _keys: _NoCipher()})
async def test_another_servers_keys_and_another_accounts_name_open_nothing(tmp_path: Path) -> None:
    async with office(tmp_path / "one") as made, office(tmp_path / "other") as other:
        for each in (made, other):
            await with_account(each)
        secret = secret_of(await set_second_factor(made.server, NAME))
        held = await made.server.store.mark(MARK)
        await other.server.store.set_marks({MARK: held})
        assert not await opens_at(other.server, secret)
        await made.server.store.set_marks({MARK: None, f"{SECOND_FACTOR_MARKS}eve": held})
        theirs = await second_factor(made.server, "Eve")
        assert theirs is not None
        assert theirs.secret != secret


class _NoCipher:
    """Seals nothing, and binds to nothing."""

    def encrypt(self, _nonce: bytes, plain: bytes, _to: bytes) -> bytes:
        return plain

    def decrypt(self, _nonce: bytes, plain: bytes, _to: bytes) -> bytes:
        return plain
