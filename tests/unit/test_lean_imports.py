"""What a daemon at rest must not have loaded: each is memory that it uses once a week, or never."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.replica.console.frame import SMALL
from tests.harness.certificates import Authority

ROOT = Path(__file__).parents[2]
SELDOM_NEEDED = {
    "cryptography.x509",  # makes or reads a certificate
    "cryptography.hazmat.primitives.serialization",  # writes a key down, in SSH's forms too
    "zipfile",  # a hand-in that a teacher saves as a whole
    "statistics",  # brings fractions and decimals
    "watchdog.observers",  # a teacher's folder
    "dukpy",  # a proxy's script
    "click",  # reads a command line; `run` begins anew once it is read
    "sync_agent.console.coursework",  # the commands that it was not begun with
    "sync_agent.console.machine",
    "importlib.metadata",  # brings parsers of mail, ZIP and CSV
    "configparser",  # one desktop's proxy settings
    "pyfastcdc",  # cuts what is published
    "frozenlist._frozenlist",  # brings the C++ library
    "sync_agent.watching.watcher",
    "sync_agent.coursework.publisher",
    "sync_agent.courier.commands",
    "sync_agent.lan.exchange.peer_session",
    "sync_agent.upkeep.care",
    "sync_agent.enrollment.by_code",
    "sync_agent.school.commands",
    "sync_agent.portal.teacher.teaching",
    "sync_agent.portal.teacher.sign_ins",
    "sync_agent.portal.head.school",
    "sync_agent.portal.head.losses",
    "sync_agent.portal.head.drills",
    "protocol.replica.office.commands",
    "protocol.bundles.form",
}
PAGES = {"jinja2"}
NEIGHBOURS = {"sync_agent.lan.exchange.peer_session"}
TRUSTED = (
    "print(sum(len(each.get_ca_certs()) for each in gc.get_objects() if isinstance(each, ssl.SSLContext)), "
    "mimetypes.guess_type('a.kit')[0])"
)
"""How many authorities this process has read, and what it takes a file for of which no table of Python's knows."""


@pytest.mark.parametrize(
    ("more", "absent"),
    [
        ("", SELDOM_NEEDED | PAGES),
        (", sync_agent.portal.site", SELDOM_NEEDED),
        (", sync_agent.portal.site, sync_agent.lan.school_lan", SELDOM_NEEDED - NEIGHBOURS),
    ],
    ids=["", "portal", "neighbours"],
)
def test_an_agent_at_rest_has_loaded_nothing_that_it_seldom_needs(more: str, absent: set[str]) -> None:
    listing = f"import sys, sync_agent.cli, sync_agent.daemon, sync_agent.operations{more}; print(*sys.modules)"
    begun_anew = {**os.environ, **SMALL, "SYNC_AGENT_PARSED": "{}"}
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, env=begun_anew, capture_output=True, text=True, check=True
    )
    assert absent & set(done.stdout.split()) == set()


def test_a_server_at_rest_has_loaded_no_command_and_no_format_of_keys() -> None:
    listing = "import sys, sync_server.cli, sync_server.service; print(*sys.modules)"
    begun_anew = {**os.environ, **SMALL, "SYNC_SERVER_PARSED": "{}"}
    done = subprocess.run(
        [sys.executable, "-c", listing], cwd=ROOT, env=begun_anew, capture_output=True, text=True, check=True
    )
    absent = {
        "click",
        "cryptography.x509",
        "cryptography.hazmat.primitives.serialization",
        "sync_server.operations.table",
        "sync_server.operations.lifecycle",
        "protocol.replica.office.losses",
    }
    assert absent & set(done.stdout.split()) == set()


@pytest.mark.parametrize("program", ["sync_agent", "sync_server"])
def test_a_command_line_is_read_before_anything_is_loaded_that_carries_it_out(program: str) -> None:
    listing = f"import sys, {program}.cli, protocol.replica.console.parser; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"asyncio", "ssl", "subprocess", "ctypes", "getpass", "termios"} & set(done.stdout.split()) == set()


def test_a_stick_on_which_nobody_asks_to_be_let_in_loads_nothing_that_calls_the_server() -> None:
    loaded = "sync_agent.operations, sync_agent.courier.commands, sync_agent.school.letting_in"
    listing = f"import sys, {loaded}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"aiohttp", "sync_agent.daemon", "sync_agent.transport.over_http"} & set(done.stdout.split()) == set()


def test_a_command_opens_its_store_and_begins_its_way_before_it_loads_what_speaks_http() -> None:
    listing = "import sys, sync_agent.cli, sync_agent.operations, sync_agent.network.early; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sync_agent.app" in loaded
    assert {"aiohttp", "sync_agent.daemon", "protocol.replica.console.control"} & loaded == set()


@pytest.mark.parametrize(
    "loaded",
    [
        "sync_agent.cli, sync_agent.daemon, sync_agent.operations, sync_agent.portal.site, sync_agent.lan.school_lan",
        "sync_agent.cli, sync_agent.enrollment.by_code",
        "sync_agent.transport.over_http",
        "sync_agent.lan.exchange.peer_sync, sync_agent.lan.exchange.peer_session",
        "sync_server.cli, sync_server.service",
    ],
)
def test_a_program_that_has_met_nobody_has_read_neither_the_systems_authorities_nor_its_media_types(
    loaded: str, tmp_path: Path
) -> None:
    bundle = Authority("Somebody", tmp_path).file
    types = tmp_path / "mime.types"
    types.write_text("application/x-kit kit\n")
    script = f"import gc, mimetypes, ssl; mimetypes.knownfiles[:] = [{str(types)!r}]; import {loaded}; {TRUSTED}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **SMALL, "SSL_CERT_FILE": str(bundle)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "None"]
