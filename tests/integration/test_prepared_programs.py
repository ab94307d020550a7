"""A program that tests fork (`tests/harness/prepared.py`) is what it would be if it were started."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from protocol.errors import Code
from tests.harness.machines import Machine, environment, program
from tests.harness.patience import PATIENCE_S
from tests.harness.prepared import run_prepared


@pytest.mark.parametrize("name", ["sync-agent", "sync-server"])
@pytest.mark.parametrize(
    ("words", "env"),
    [
        (["--help"], {"COLUMNS": "70"}),
        (["--version"], {}),
        (["dance"], {"SYNC_AGENT_JSON": "1"}),
        (["status", "--data", "nothing", "--json"], {}),
        (["verify", "--data", "elsewhere"], {"SYNC_SERVER_JSON": "yes"}),
        (["status", "--data", "été", "--no-such-option"], {}),
    ],
)
def test_a_forked_command_ends_and_says_as_a_started_one(
    tmp_path: Path, name: str, words: list[str], env: dict[str, str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    started = subprocess.run(
        [*program(name), *words], capture_output=True, check=False, cwd=tmp_path, env=environment(**env)
    )
    forked = run_prepared(name, words, cwd=tmp_path, env=environment(**env), timeout_s=60.0)
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_a_forked_daemon_serves_says_and_ends_as_a_started_one(tmp_path: Path) -> None:
    server = Machine("server", tmp_path / "server", "sync-server")
    server.ok("init", "--name", "Cher", "--kit", str(tmp_path / "kit"))
    seen = []
    for from_nothing in (False, True):
        server.start("--listen", "127.0.0.1:0", from_nothing=from_nothing)
        again = server.run("run", "--listen", "127.0.0.1:0")
        assert server.daemon is not None
        server.daemon.send_signal(signal.SIGKILL)
        killed = server.daemon.wait(PATIENCE_S)
        line = server.start("--listen", "127.0.0.1:0", from_nothing=from_nothing)
        stopped = server.stop()
        log = server.log.read_text(encoding="utf-8")
        seen.append((again.status, again.code, killed, stopped, log.replace(line.rpartition(":")[2], "PORT")))
    assert seen[0] == seen[1]
    assert seen[0][:4] == (1, Code.STORE_LOCKED, -signal.SIGKILL, 0)


def test_forked_commands_share_nothing_but_their_folder(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return run_prepared("sync-server", [*words, "--json"], cwd=tmp_path, env=environment(), timeout_s=60.0)

    assert [run("init", "--name", "Cher", "--data", folder).returncode for folder in ("a", "b")] == [0, 0]
    keys = {(tmp_path / folder / "keys" / "server").read_bytes() for folder in ("a", "b")}
    assert len(keys) == 2, "their chance is their own"
    assert run("init", "--name", "Cher", "--data", "a").returncode == 2
    assert run("status", "--data", "a").returncode == 0
