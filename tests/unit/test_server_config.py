from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from protocol.errors import BadInput, Code
from protocol.identity import AgreementKey, SigningKey
from protocol.trust.kit import Argon2Cost, Kit, write_kit
from sync_server.config import RunConfig, Tls, address_of, check_kit, is_loopback, run_config

EVERYWHERE = "0.0.0.0"  # noqa: S104  (this is what is tried)
KIT = Kit("Cher", SigningKey(bytes(32)), AgreementKey(bytes(range(32))))


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("relais.example:80", ("relais.example", 80)),
    ],
)
def test_an_address_is_host_and_port(listen: str, address: tuple[str, int]) -> None:
    assert address_of(listen) == address


@pytest.mark.parametrize(
    "listen", ["", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "::1:80", "a:65536", "a:-1", "a:x", "a:٣", "[]:80"]
)
def test_what_is_no_address_is_named(listen: str) -> None:
    with pytest.raises(BadInput) as refusal:
        address_of(listen)
    assert refusal.value.code is Code.USAGE


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LocalHost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.4", "localhost.example", "relais", "127.0.0.1.example"])
def test_anything_else_may_be_reached_by_others(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("options", "spoken"),
    [
        ({"listen": "127.0.0.1:0"}, Tls.NONE),
        ({"listen": "127.0.0.1:0", "tls": True}, Tls.OWN),
        ({"listen": "0.0.0.0:80"}, Tls.OWN),
        ({"listen": "relais.example:80"}, Tls.OWN),
        ({"listen": "0.0.0.0:80", "behind_proxy": True}, Tls.NONE),
        ({"listen": "[::]:443", "tls_cert": "a", "tls_key": "b"}, Tls.OFFICIAL),
    ],
)
def test_only_loopback_and_a_proxy_are_spoken_to_in_clear(tmp_path: Path, options: dict[str, Any], spoken: Tls) -> None:
    assert run_config(tmp_path, **options).tls is spoken


@pytest.mark.parametrize(
    "options", [{"tls_cert": "a"}, {"tls_key": "b"}, {"tls": True, "behind_proxy": True},
                {"tls_cert": "a", "tls_key": "b", "behind_proxy": True}]
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refusal:
        run_config(tmp_path, listen="127.0.0.1:0", **options)
    assert (refusal.value.code, refusal.value.exit_status) == (Code.USAGE, 2)


@pytest.mark.parametrize("options", [{"database": "x://y"}, {"blobs": "x://y"}])
def test_engines_of_later_versions_are_refused_by_name(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"--{next(iter(options))}") as refusal:
        run_config(tmp_path, listen="127.0.0.1:0", **options)
    assert refusal.value.code is Code.NOT_YET


def reachable(folder: Path) -> RunConfig:
    return RunConfig(folder, EVERYWHERE, 80, behind_proxy=True)


@pytest.mark.parametrize("place", ["recovery-kit", "kit.txt", "old/kit"])
def test_a_bare_kit_anywhere_in_the_data_folder_keeps_the_server_at_home(tmp_path: Path, place: str) -> None:
    kit = tmp_path / place
    kit.parent.mkdir(exist_ok=True)
    kit.write_text(write_kit(KIT, passphrase=None, salt=bytes(16)), encoding="utf-8")
    with pytest.raises(BadInput, match="kit") as refusal:
        check_kit(reachable(tmp_path))
    assert refusal.value.code is Code.KIT_EXPOSED
    check_kit(RunConfig(tmp_path, "127.0.0.1", 80, behind_proxy=True))


def test_a_kit_under_a_passphrase_may_stay(tmp_path: Path) -> None:
    cheap = Argon2Cost(memory_kib=8, passes=1, lanes=1)
    text = write_kit(KIT, passphrase="mot de passe", salt=bytes(16), cost=cheap)
    (tmp_path / "recovery-kit").write_text(text, encoding="utf-8")
    (tmp_path / "note.bin").write_bytes(bytes(range(256)))
    check_kit(reachable(tmp_path))
