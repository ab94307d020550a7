"""Foreign code is led into a process that Relais starts: a proxy's script, or a file in the folder one stands in."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import LocalFailure
from protocol.replica.content.strong_worker import StrongWorker
from sync_agent.network import pac
from sync_agent.network.pac_program import answer
from tests.harness.attack import attack

SECRET = "the token of the agent"  # noqa: S105  (nobody's)

SCRIPT = """
var got = [];
function take(way) { try { got.push(JSON.stringify(way())); } catch (reason) { got.push("nothing"); } }
import(MODULE).then(function (found) { got.push(found.default); }, function () { got.push("nothing"); });
function FindProxyForURL(url, host) {
  take(function () { return call_python("dukpy.load_module", TEXT); });
  take(function () { return call_python("dukpy.normalize_module", "", TEXT); });
  take(function () { return require(COMMON); });
  take(function () { return process.env; });
  take(function () { return dukpy; });
  return got.join("|");
}
"""


def whatever(_engine: Any) -> None:
    """The engine as it comes."""


@attack(
    "a proxy script from the network reads what the agent may", off={"sync_agent.network.pac_program._strip": whatever}
)
async def test_a_proxy_script_reads_no_file_and_no_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "TEXT": ("control.json", json.dumps({"token": SECRET})),
        "COMMON": ("common.cjs", f'module.exports = "{SECRET}";'),
        "MODULE": ("module.mjs", f'export default "{SECRET}";'),
    }
    script = SCRIPT
    for name, (file, text) in files.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
        script = script.replace(name, json.dumps(str(tmp_path / file)))
    monkeypatch.setenv("SYNC_AGENT_PROXY", f"http://school:{SECRET}@proxy.lan:3128")
    said = answer(script, "https://relais.example.org/", "relais.example.org")
    assert SECRET not in said
    assert said.count("nothing") >= 4, said


def by_name(module: str) -> list[str]:
    """As it is usually done: the current folder is looked into first."""
    return [sys.executable, "-m", module]


@attack(
    "a file of a pupil's that is named like a part of the library",
    off={
        "sync_agent.network.pac.starting": by_name,
        "sync_agent.network.pac.STANDS_IN": ".",
        "protocol.replica.content.strong_worker.starting": by_name,
        "protocol.replica.content.strong_worker.STANDS_IN": ".",
    },
)
@pytest.mark.parametrize("who", ["proxy script", "strong container"])
async def test_a_pupils_file_in_the_folder_one_stands_in_is_never_run(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    for name in ("json", "socket", "struct"):
        trap = f"open({str(ran)!r}, 'w').close()\nraise ImportError\n"
        (tmp_path / f"{name}.py").write_text(trap, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    if who == "proxy script":
        with suppress(pac.ScriptFailed):
            script = "function FindProxyForURL(url, host) { return 'DIRECT'; }"
            assert pac._run(script, "https://relais.example.org/") == "DIRECT"
    else:
        worker = StrongWorker()
        try:
            with suppress(LocalFailure):
                assert await worker.compress(bytes(100_000), 3)
        finally:
            await worker.close()
    assert not ran.exists()
