"""What the demo says of a course that it cannot play."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "demo.py"


def test_a_course_without_a_file_is_named_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "Été" / "vide").mkdir(parents=True)
    ended = subprocess.run([sys.executable, DEMO, tmp_path / "Été"], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert "Été holds no file to publish" in ended.stderr.decode()
