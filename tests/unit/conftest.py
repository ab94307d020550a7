"""What several modules begin with: a terminal, where nothing is said by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for option in ("DATA", "JSON", "SPACE", "PEER", "USES", "BEHIND_PROXY", "SCHOOL", "DEBUG"):
        monkeypatch.delenv(f"SYNC_AGENT_{option}", raising=False)
    return Terminal(tmp_path, capfdbinary)
