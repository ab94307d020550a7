"""Foreign code is led into a process that Relais starts: a proxy's script, or a file in the folder one stands in."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import LocalFailure
from protocol.replica.content.deltas.strong_worker import StrongWorker
from sync_agent.network import pac
from sync_agent.network.pac_program import answer
from sync_agent.network.proxies import Settings, wish_of
from sync_agent.network.route import Route
from tests.harness.attack import attack

URL = "https://relais.example.org/"
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
    said = answer(script, URL, "relais.example.org")
    assert SECRET not in said
    assert said.count("nothing") >= 4, said


def whole(text: str) -> str:
    """As it is said."""
    return text


@attack("a proxy script that says much", off={"sync_agent.network.pac.fit": whole})
async def test_why_a_proxy_script_fails_is_told_in_one_short_line(tmp_path: Path) -> None:
    script = tmp_path / "proxy.pac"
    script.write_text("function FindProxyForURL(url, host) { throw 'A'.repeat(30e6) + '\\n'; }", encoding="utf-8")
    with pytest.raises(pac.ScriptFailed) as failed:
        await pac.choices(script.as_uri(), URL)
    assert len(str(failed.value)) < 200


@attack("a proxy script that says much", off={"sync_agent.network.proxies.MAX_TRIED": 10_000})
async def test_a_proxy_script_sends_no_call_from_one_proxy_to_the_next_for_an_hour(tmp_path: Path) -> None:
    script = tmp_path / "proxy.pac"
    names = "for (var n = 0; n < 200; n++) found.push('PROXY p' + n + ':80');"
    script.write_text(f"var found = []; {names} function FindProxyForURL(url, host) {{ return found.join(';'); }}")
    route = Route(URL, wish_of(f"pac+{script}"), Settings, time.monotonic)
    assert len(await route.choices()) <= 8


def by_name(module: str) -> list[str]:
    """As it is usually done: the current folder is looked into first."""
    return [sys.executable, "-m", module]


@attack(
    "a file of a pupil's that is named like a part of the library",
    off={
        "sync_agent.network.pac.starting": by_name,
        "sync_agent.network.pac.STANDS_IN": ".",
        "protocol.replica.content.deltas.strong_worker.starting": by_name,
        "protocol.replica.content.deltas.strong_worker.STANDS_IN": ".",
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
            assert pac._run(script, URL) == "DIRECT"
    else:
        worker = StrongWorker()
        try:
            with suppress(LocalFailure):
                assert await worker.compress(bytes(100_000), 3)
        finally:
            await worker.close()
    assert not ran.exists()
