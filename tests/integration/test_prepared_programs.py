"""A command that tests fork (`tests/harness/prepared.py`) is what it would be if it were started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness.machines import environment, program
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


def test_forked_commands_share_nothing_but_their_folder(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        return run_prepared("sync-server", [*words, "--json"], cwd=tmp_path, env=environment(), timeout_s=60.0)

    assert [run("init", "--name", "Cher", "--data", folder).returncode for folder in ("a", "b")] == [0, 0]
    keys = {(tmp_path / folder / "keys" / "server").read_bytes() for folder in ("a", "b")}
    assert len(keys) == 2, "their chance is their own"
    assert run("init", "--name", "Cher", "--data", "a").returncode == 2
    assert run("status", "--data", "a").returncode == 0
