"""A program of commands at a terminal that keeps what was said there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.console_program import PROGRAM


class Terminal:
    """Runs the program and keeps what it said."""

    def __init__(self, data_dir: Path, capture: pytest.CaptureFixture[bytes]) -> None:
        self.data_dir = data_dir
        self._capture = capture
        self.out = ""
        self.err = ""

    def run(self, *argv: str) -> int:
        """With `--data DIR` added."""
        return self.run_bare(*argv, "--data", str(self.data_dir))

    def run_bare(self, *argv: str) -> int:
        self._capture.readouterr()
        status = PROGRAM.main(argv)
        captured = self._capture.readouterr()
        self.out, self.err = captured.out.decode(), captured.err.decode()
        return status

    def document(self) -> Any:
        assert self.out.count("\n") == 1
        return json.loads(self.out)

    def config(self, text: str) -> None:
        (self.data_dir / "config.toml").write_text(text, encoding="utf-8")
