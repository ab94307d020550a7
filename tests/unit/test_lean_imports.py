"""What a daemon at rest must not have loaded: each is memory that it uses once a week, or never."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.replica.console import SMALL

ROOT = Path(__file__).parents[2]
SELDOM_NEEDED = {
    "cryptography.x509",  # makes or reads a certificate
    "statistics",  # brings fractions and decimals
    "watchdog.observers",  # a teacher's folder
    "dukpy",  # a proxy's script
    "click",  # reads a command line; `run` begins anew once it is read
    "sync_agent.cli_coursework",  # the commands that it was not begun with
    "sync_agent.cli_machine",
    "importlib.metadata",  # brings parsers of mail, ZIP and CSV
    "configparser",  # one desktop's proxy settings
    "pyfastcdc",  # cuts what is published
    "frozenlist._frozenlist",  # brings the C++ library
    "sync_agent.watcher",
    "sync_agent.publisher",
    "sync_agent.courier_commands",
    "sync_agent.peer_session",
    "sync_agent.care",
    "sync_agent.enrollment",
    "sync_agent.school_commands",
    "protocol.bundle",
}
PAGES = {"jinja2"}


@pytest.mark.parametrize(
    ("more", "absent"), [("", SELDOM_NEEDED | PAGES), (", sync_agent.portal.site", SELDOM_NEEDED)], ids=["", "portal"]
)
def test_an_agent_at_rest_has_loaded_nothing_that_it_seldom_needs(more: str, absent: set[str]) -> None:
    listing = f"import sys, sync_agent.cli, sync_agent.daemon, sync_agent.operations{more}; print(*sys.modules)"
    begun_anew = {**os.environ, **SMALL, "SYNC_AGENT_PARSED": "{}"}
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, env=begun_anew, capture_output=True, text=True, check=True
    )
    assert absent & set(done.stdout.split()) == set()


def test_a_stick_on_which_nobody_asks_to_be_let_in_loads_nothing_that_calls_the_server() -> None:
    listing = (
        "import sys, sync_agent.operations, sync_agent.courier_commands, sync_agent.letting_in; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"aiohttp", "sync_agent.daemon", "sync_agent.http_transport"} & set(done.stdout.split()) == set()


def test_a_command_opens_its_store_and_begins_its_way_before_it_loads_what_speaks_http() -> None:
    listing = "import sys, sync_agent.cli, sync_agent.operations, sync_agent.network.early; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sync_agent.app" in loaded
    assert {"aiohttp", "sync_agent.daemon", "protocol.replica.control"} & loaded == set()
