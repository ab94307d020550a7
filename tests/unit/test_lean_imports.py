"""What a daemon at rest must not have loaded: each is a megabyte or more that it uses once a week, or never."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SELDOM_NEEDED = {
    "cryptography.x509",  # makes or reads a certificate
    "statistics",  # brings fractions and decimals
    "jinja2",  # the portal's pages
    "watchdog.observers",  # a teacher's folder
    "dukpy",  # a proxy's script
    "click",  # reads a command line; `run` begins anew once it is read
}


@pytest.mark.parametrize("parts", ["sync_agent.cli, sync_agent.daemon, sync_agent.operations"])
def test_an_agent_at_rest_has_loaded_nothing_that_it_seldom_needs(parts: str) -> None:
    listing = f"import sys, {parts}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    assert SELDOM_NEEDED & set(done.stdout.split()) == set()
