"""How a process of ours is started: our modules are found, and nothing else comes with it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from protocol.replica.process.child import STANDS_IN, bare_environment, starting

PROBE = """
import json, os, sys
print(json.dumps({"isolated": sys.flags.isolated, "names": sorted(os.environ), "here": os.getcwd(), "name": __name__}))
"""


def test_a_process_of_ours_finds_our_modules_and_knows_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe_of_a_checkout.py").write_text(PROBE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    environment = bare_environment({"TZ": "Europe/Paris", "SYNC_AGENT_PROXY": "http://u:secret@proxy", "HOME": "/root"})
    command = starting("probe_of_a_checkout")
    done = subprocess.run(command, cwd=STANDS_IN, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["isolated"] == 1
    assert found["name"] == "__main__"
    assert found["here"] == STANDS_IN
    assert "TZ" in found["names"]
    assert not {"SYNC_AGENT_PROXY", "HOME"} & set(found["names"])


def test_a_folder_named_relative_to_where_one_stands_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", ["", "lib", "/opt/relais"])
    assert starting("protocol.errors")[-2:] == ["protocol.errors", "/opt/relais"]
